"""The metric of velocity fields, L = (αA + 1)^c, and the prior that it defines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import Band, inner, multiplicity
from fourierreg.spectral.operators import default_reference_length, laplacian


@dataclass(frozen=True)
class _Sobolev:
    """What `Metric` and `MetricBatch` have in common: all but α."""

    band: Band
    power: float
    reference_length: float
    velocity_scale: float

    def _alpha(self, xp: Any) -> Any:
        """α, shaped to broadcast over fields."""
        raise NotImplementedError

    def symbol(self, xp: Any) -> Array:
        """Diagonal of L over the stored frequencies."""
        return _symbol(self, xp)

    def laplacian(self, xp: Any) -> Array:
        """Diagonal of A over the stored frequencies."""
        return laplacian(self.band, self.reference_length, xp)

    def alpha_laplacian(self, xp: Any) -> Array:
        """Diagonal of αA over the stored frequencies."""
        return self._alpha(xp) * self.laplacian(xp)

    def alpha_symbol(self, xp: Any) -> Array:
        """Diagonal of αA (αA + 1)^{c-1} = (1/c) dL / d ln α."""
        a = self.alpha_laplacian(xp)
        return a * (a + 1.0) ** (self.power - 1.0)

    def lower(self, v: Array) -> Array:
        """Momentum m = L v."""
        return (self.symbol(array_module(v)) * v).astype(v.dtype, copy=False)

    def raise_(self, m: Array) -> Array:
        """Velocity v = K m, K = L⁻¹."""
        return (m / self.symbol(array_module(m))).astype(m.dtype, copy=False)

    def inner(self, v: Array, w: Array) -> Array:
        """⟨L v, w⟩ (leading batch axes are kept)."""
        return inner(self.lower(v), w, self.band, array_module(v, w))

    def _trace(self, symbol: Array, xp: Any) -> np.ndarray:
        """d Σ_k of a real symbol over the whole band, on the host (leading axes are kept)."""
        axes = tuple(range(-self.band.ndim, 0))
        return self.band.ndim * to_numpy(xp.sum(multiplicity(self.band, xp) * symbol, axis=axes))

    def trace(self, symbol: Array, xp: Any) -> Any:
        """Trace of a real symbol: d Σ_k over the whole band."""
        raise NotImplementedError

    def log_determinant(self, xp: Any) -> Any:
        """ln|L| = d c Σ_k ln(α A_k + 1) over the whole band (erratum E3)."""
        return _log_determinant(self, xp)

    def effective_modes(self, xp: Any) -> Any:
        """d Σ_k αA_k / (αA_k + 1): d ln|L| / d ln α divided by c (erratum E4)."""
        a = self.alpha_laplacian(xp)
        return self.trace(a / (a + 1.0), xp)


@dataclass(frozen=True)
class Metric(_Sobolev):
    """Sobolev metric L = (αA + 1)^c on a band, and prior ṽ ~ N(0, s² L⁻¹) (Eq. 5, erratum E2).

    Build it with `Metric.create`, which fills in the defaults.

    Attributes
    ----------
    band : Band
    power : float
        Exponent c.
    reference_length : float
        ℓ in mm; √α ℓ is the smoothing length.
    velocity_scale : float
        s in mm, the scale of the prior.
    alpha : float
        Regularization strength α > 0, dimensionless.
    """

    alpha: float

    @classmethod
    def create(
        cls,
        shape: Iterable[int],
        *,
        spacing: float | Sequence[float] | None = None,
        modes: int | Sequence[int] = 16,
        alpha: float = 3.0,
        power: float = 3,
        reference_length: float | None = None,
        velocity_scale: float | None = None,
    ) -> "Metric":
        """Metric for images of `shape` voxels with the defaults ℓ = FOV/16, s = ℓ/8.

        Parameters
        ----------
        shape : sequence of int
            Voxels along each axis (2 or 3 axes).
        spacing : float or sequence of float, optional
            mm per voxel; 1 by default.
        modes : int or sequence of int
            Band per axis; 16 keeps 15 frequencies.
        alpha, power : float
            α and c, dimensionless.
        reference_length, velocity_scale : float, optional
            ℓ and s in mm.

        Returns
        -------
        Metric

        Raises
        ------
        InputError
            One line that names the argument.
        """
        shape = checks.shape(shape)
        spacing = checks.spacing(spacing, len(shape))
        if reference_length is None:
            reference_length = default_reference_length(shape, spacing)
        length = checks.positive("reference_length", reference_length)
        scale = length / 8 if velocity_scale is None else velocity_scale
        return cls(
            band=Band(shape, checks.modes(modes, shape), spacing),
            alpha=checks.positive("alpha", alpha),
            power=checks.positive("power", power),
            reference_length=length,
            velocity_scale=checks.positive("velocity_scale", scale),
        )

    def with_alpha(self, alpha: float) -> "Metric":
        """The same metric at another α."""
        return replace(self, alpha=float(alpha))

    def batch(self) -> "MetricBatch":
        """As a batch of one pair."""
        return MetricBatch.of([self])

    @property
    def smoothing_length(self) -> float:
        """√α ℓ in mm."""
        return math.sqrt(self.alpha) * self.reference_length

    def trace(self, symbol: Array, xp: Any) -> float:
        """Trace of a real symbol: d Σ_k over the whole band."""
        return float(self._trace(symbol, xp))

    def _alpha(self, xp: Any) -> float:
        return self.alpha


@dataclass(frozen=True)
class MetricBatch(_Sobolev):
    """Metrics of several pairs, which differ in α alone: each acts on the fields of its pair.

    Fields are (…, pairs, d, *band), symbols (pairs, 1, *band), traces NumPy arrays (pairs,).

    Attributes
    ----------
    band, power, reference_length, velocity_scale
        As in `Metric`.
    alphas : tuple of float
        α of every pair.
    """

    alphas: tuple[float, ...]

    @classmethod
    def of(cls, metrics: Sequence[Metric]) -> "MetricBatch":
        """The batch of several metrics that differ in α alone."""
        first = metrics[0]
        alphas = tuple(metric.alpha for metric in metrics)
        return cls(first.band, first.power, first.reference_length, first.velocity_scale, alphas)

    @staticmethod
    def concatenate(batches: Sequence["MetricBatch"]) -> "MetricBatch":
        """One batch of the pairs of several."""
        return batches[0].with_alphas(alpha for batch in batches for alpha in batch.alphas)

    def with_alphas(self, alphas: Iterable[float]) -> "MetricBatch":
        """The same metrics at other α."""
        return replace(self, alphas=tuple(map(float, alphas)))

    def with_modes(self, modes: tuple[int, ...]) -> "MetricBatch":
        """The same metrics on another band of the same grid."""
        return replace(self, band=replace(self.band, modes=tuple(modes)))

    def select(self, pairs: Iterable[int]) -> "MetricBatch":
        """The batch of some of the pairs."""
        return self.with_alphas(self.alphas[pair] for pair in pairs)

    def metric(self, pair: int) -> Metric:
        """The metric of one pair."""
        return Metric(
            self.band, self.power, self.reference_length, self.velocity_scale, self.alphas[pair]
        )

    def trace(self, symbol: Array, xp: Any) -> np.ndarray:
        """Trace of a real symbol (pairs, 1, *band) over the whole band: (pairs,), on the host."""
        return self._trace(symbol, xp)[:, 0]

    def _alpha(self, xp: Any) -> Array:
        return xp.asarray(self.alphas).reshape(-1, *[1] * (self.band.ndim + 1))


@cached_table(limit=32)
def _symbol(metric: _Sobolev, xp: Any) -> Array:
    """Every step of a geodesic needs it twice."""
    return (metric.alpha_laplacian(xp) + 1.0) ** metric.power


@cached_table(limit=256)  # a scalar for every pair of a batch
def _log_determinant(metric: _Sobolev, xp: Any) -> Any:
    """Every iteration of a search records it."""
    return metric.power * metric.trace(xp.log(metric.alpha_laplacian(xp) + 1.0), xp)

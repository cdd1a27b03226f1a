"""The metric of velocity fields, L = (αA + 1)^c, and the prior it stands for."""

import math
from dataclasses import dataclass, replace

from fourierreg import checks
from fourierreg.backend import array_module, to_numpy
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import Band, inner, multiplicity
from fourierreg.spectral.operators import default_reference_length, laplacian


@dataclass(frozen=True)
class Metric:
    """Sobolev metric L = (αA + 1)^c on a band, and prior ṽ ~ N(0, s² L⁻¹) (Eq. 5, erratum E2).

    Build it with `Metric.create`, which fills in the defaults. `Metric.together` makes one of many
    pairs that differ in α alone: it acts on fields (…, pairs, d, *band), on each at its own α, and
    its scalars become arrays (pairs,).

    Parameters
    ----------
    band : Band
    alpha : float, or tuple of float
        Regularization strength α > 0, dimensionless; one for each pair.
    power : float
        Exponent c.
    reference_length : float
        ℓ in mm; √α ℓ is the smoothing length.
    velocity_scale : float
        s in mm, the scale of the prior.
    """

    band: Band
    alpha: float
    power: float
    reference_length: float
    velocity_scale: float

    @classmethod
    def create(
        cls,
        shape,
        *,
        spacing=None,
        modes=16,
        alpha=3.0,
        power=3,
        reference_length=None,
        velocity_scale=None,
    ):
        """Metric for images of `shape` voxels with the defaults ℓ = FOV/16, s = ℓ/8.

        Parameters
        ----------
        shape : tuple of int
            Voxels along each axis (2 or 3 axes).
        spacing : float or sequence of float, optional
            mm per voxel; 1 where none is given.
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
        ValueError, TypeError
            One line that names the argument.
        """
        shape = checks.shape(shape)
        spacing = checks.spacing(spacing, len(shape))
        band = Band(shape, checks.modes(modes, shape), spacing)
        if reference_length is None:
            reference_length = default_reference_length(shape, spacing)
        length = checks.positive("reference_length", reference_length)
        scale = length / 8 if velocity_scale is None else velocity_scale
        return cls(
            band,
            checks.positive("alpha", alpha),
            checks.positive("power", power),
            length,
            checks.positive("velocity_scale", scale),
        )

    def with_alpha(self, alpha):
        """The same metric at another α."""
        return replace(self, alpha=float(alpha))

    @staticmethod
    def together(metrics):
        """One metric for several pairs, whose metrics differ in α alone."""
        return replace(metrics[0], alpha=tuple(metric.alpha for metric in metrics))

    def select(self, indices):
        """That of some of the pairs."""
        return replace(self, alpha=tuple(self.alpha[i] for i in indices))

    @property
    def smoothing_length(self):
        """√α ℓ in mm."""
        return math.sqrt(self.alpha) * self.reference_length

    def symbol(self, xp):
        """Diagonal of L over the stored frequencies; (pairs, 1, *band) for many pairs."""
        return _symbol(self, xp)

    def laplacian(self, xp):
        """Diagonal of A over the stored frequencies."""
        return laplacian(self.band, self.reference_length, xp)

    def alpha_laplacian(self, xp):
        """Diagonal of αA; (pairs, 1, *band) for many pairs."""
        if not isinstance(self.alpha, tuple):
            return self.alpha * self.laplacian(xp)
        alpha = xp.asarray(self.alpha).reshape(-1, *[1] * (self.band.ndim + 1))
        return alpha * self.laplacian(xp)

    def lower(self, v):
        """Momentum m = L v."""
        return (self.symbol(array_module(v)) * v).astype(v.dtype, copy=False)

    def raise_(self, m):
        """Velocity v = K m, K = L⁻¹."""
        return (m / self.symbol(array_module(m))).astype(m.dtype, copy=False)

    def inner(self, v, w):
        """⟨L v, w⟩ (leading batch axes are kept)."""
        return inner(self.lower(v), w, self.band, array_module(v, w))

    def log_determinant(self, xp):
        """ln|L| = d c Σ_k ln(α A_k + 1) over the whole band (erratum E3)."""
        return _log_determinant(self, xp)

    def effective_modes(self, xp):
        """d Σ_k αA_k / (αA_k + 1): d ln|L| / d ln α divided by c (erratum E4)."""
        a = self.alpha_laplacian(xp)
        return self.sum(a / (a + 1.0), xp)

    def alpha_symbol(self, xp):
        """Diagonal of αA (αA + 1)^{c-1} = (1/c) dL / d ln α."""
        a = self.alpha_laplacian(xp)
        return a * (a + 1.0) ** (self.power - 1.0)

    def sum(self, symbol, xp):
        """Trace of a real symbol: d Σ_k over the whole band; (pairs,) for many pairs."""
        axes = tuple(range(-self.band.ndim, 0))
        total = self.band.ndim * to_numpy(xp.sum(multiplicity(self.band, xp) * symbol, axis=axes))
        return total[:, 0] if isinstance(self.alpha, tuple) else float(total)


@cached_table(limit=8)
def _symbol(metric, xp):
    """Every step of a geodesic asks for it twice."""
    return (metric.alpha_laplacian(xp) + 1.0) ** metric.power


@cached_table(limit=8)
def _log_determinant(metric, xp):
    """Every iteration of a search records it."""
    return metric.power * metric.sum(xp.log(metric.alpha_laplacian(xp) + 1.0), xp)

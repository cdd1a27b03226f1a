"""The energy of initial velocities, prior plus dissimilarity, with its exact gradient."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from fourierreg.backend import Array, array_module, backend_of, to_numpy
from fourierreg.geodesic.jacobi import end_gradient, sweep
from fourierreg.geodesic.shooting import Geodesic, pull_back, shoot
from fourierreg.image.deformation import gradient
from fourierreg.image.determinant import add_barrier_force
from fourierreg.image.similarity import Similarity, SumOfSquares
from fourierreg.image.voxels import value_and_slope
from fourierreg.model.end_map import EndMap, accepted, barrier_weight, end_map_of
from fourierreg.model.evaluation import Evaluation
from fourierreg.model.hessian import DataCurvature, data_curvature
from fourierreg.spectral.band import inner, real_dtype
from fourierreg.spectral.metric import MetricBatch
from fourierreg.spectral.transform import analysis, synthesis


@dataclass(frozen=True)
class Problem:
    """Image pairs on one grid, and the weights of their dissimilarity.

    Attributes
    ----------
    source : array, (pairs, M_1, …, M_d)
        M a whole multiple of N along each axis: a source that is sampled more finely is not
        blurred by linear interpolation.
    target : array, (pairs, N_1, …, N_d)
    spacing : tuple of float
        mm per voxel of the target, whose grid may be coarser than the one the band belongs to.
    weight : float array, (pairs,), on the host
        The paper's γ: the energy is weight Dist/2, Dist a **sum** over voxels; ρ/σ² in 1/intensity²
        for the Gaussian likelihood. On a coarse grid it is multiplied by the number of fine voxels
        that one coarse voxel stands for.
    mask : bool array, (pairs, N_1, …, N_d), or None
        Voxels of the target that count.
    num_steps, integrator, dynamics
        As in `shoot`.
    similarity : Similarity
    gradient : {"exact", "jacobi"}
        The gradient of the discrete energy, or the paper's, by adjoint Jacobi fields (`sweep`).
    """

    source: Array
    target: Array
    spacing: tuple[float, ...]
    weight: np.ndarray
    mask: Array | None = None
    num_steps: int = 10
    integrator: str = "euler"
    dynamics: str = "epdiff"
    similarity: Similarity = field(default_factory=SumOfSquares)
    gradient: str = "exact"

    coefficient_dtype: ClassVar[type] = np.complex128  # of the unknown velocity
    bandlimited: ClassVar[bool] = True

    @classmethod
    def of_pair(
        cls,
        source: Array,
        target: Array,
        spacing: tuple[float, ...],
        weight: float = 1.0,
        mask: Array | None = None,
        **options: Any,
    ) -> "Problem":
        """The problem of one pair of images without an axis of pairs."""
        mask = None if mask is None else mask[None]
        return cls(source[None], target[None], spacing, np.array([float(weight)]), mask, **options)

    @staticmethod
    def concatenate(problems: Sequence["Problem"]) -> "Problem":
        """One problem of the pairs of several, of one `batch_key`."""
        first = problems[0]
        if len(problems) == 1:
            return first
        xp = array_module(first.source)
        return replace(
            first,
            source=xp.concatenate([problem.source for problem in problems]),
            target=xp.concatenate([problem.target for problem in problems]),
            mask=None if first.mask is None else xp.concatenate([p.mask for p in problems]),
            weight=np.concatenate([problem.weight for problem in problems]),
        )

    def select(self, pairs: Sequence[int]) -> "Problem":
        """The problem of some of the pairs."""
        chosen = array_module(self.source).asarray(pairs)
        return replace(
            self,
            source=self.source[chosen],
            target=self.target[chosen],
            mask=None if self.mask is None else self.mask[chosen],
            weight=self.weight[list(pairs)],
        )

    @property
    def batch_key(self) -> tuple | None:
        """Problems with the same key can be concatenated; None: never."""
        return (
            self.source.shape[1:],
            self.target.shape[1:],
            str(self.source.dtype),
            self.spacing,
            self.mask is None,
            self.num_steps,
            self.integrator,
            self.dynamics,
            self.similarity,
            self.gradient,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis of the target's grid, on which everything but the source is."""
        return tuple(self.target.shape[1:])

    @property
    def undeformed(self) -> Array:
        """The source sampled on the target's grid."""
        factors = (fine // n for fine, n in zip(self.source.shape[1:], self.shape, strict=True))
        return self.source[(slice(None), *(slice(None, None, factor) for factor in factors))]

    def weight_of(self, ndim: int) -> Array:
        """`weight` on the device, with `ndim` axes after that of pairs."""
        return self._device_weight.reshape(-1, *[1] * ndim)

    @functools.cached_property
    def _device_weight(self) -> Array:
        return array_module(self.source).asarray(self.weight)

    @functools.cached_property
    def statistics(self) -> Any:
        """What the similarity needs to know of the undeformed images."""
        return self.similarity.statistics(self.source, self.target, self.spacing, self.mask)

    def prepare(self) -> None:
        """Compute now what `measure` would compute and keep at its first call."""
        for name in ("_device_weight", "statistics"):
            getattr(self, name)

    def evaluate(self, v: Array, metric: MetricBatch) -> Evaluation:
        """Energies and gradients at initial velocities (pairs, d, *band)."""
        scalars, slope, geodesic = self.measure(v, metric)
        energies = self.energies(to_numpy(scalars))
        finite = np.isfinite(energies[0])
        if not finite.any():
            slope = None
        elif not finite.all():
            xp = array_module(v)
            kept = xp.asarray(finite).reshape(-1, *[1] * (v.ndim - 1))
            slope = xp.where(kept, slope, 0)
        total, prior, likelihood = energies
        return Evaluation(total, prior, likelihood, slope, geodesic)

    def measure(self, v: Array, metric: MetricBatch) -> tuple[Array, Array, Geodesic]:
        """The device's part of `evaluate`; with a capturable similarity nothing waits for it.

        Returns
        -------
        scalars : float array, (pairs, 6)
            From which `energies` computes energies.
        gradient : complex array like `v`
            Meaningless where the end map is not a diffeomorphism.
        geodesic : Geodesic
        """
        xp, band, geodesic = array_module(v), metric.band, self.shoot(v, metric)
        end = self.end_map(geodesic)
        if backend_of(v) == "numpy" and not accepted(end.measures).any():
            scalars = np.pad(end.measures, ((0, 0), (0, 2)), constant_values=math.nan)
            return scalars, xp.zeros_like(v), geodesic  # on the host the early exit costs no wait
        with np.errstate(over="ignore", invalid="ignore"):  # where the flow diverged
            distance, pulled = self._dissimilarity(geodesic, end)
            momentum = metric.lower(v) / metric.velocity_scale**2
            energies = (inner(momentum, v, band, xp), distance)
            scalars = xp.concatenate([end.measures, *(e[:, None] for e in energies)], axis=1)
            weight = self.weight_of(band.ndim + 1).astype(real_dtype(v), copy=False)
            return scalars, momentum + weight * metric.lower(pulled.astype(v.dtype)), geodesic

    def energies(self, scalars: np.ndarray) -> list[np.ndarray]:
        """Total, prior and likelihood from the scalars of `measure`, each (pairs,)."""
        good, (barrier, prior, distance) = accepted(scalars[:, :4]), scalars.T[3:]
        prior, misfit = 0.5 * prior, 0.5 * self.weight * distance
        total = prior + misfit + barrier
        return [np.where(good, energy, math.inf) for energy in (total, prior, misfit)]

    def _dissimilarity(self, geodesic: Geodesic, end: EndMap) -> tuple[Array, Array]:
        """Dist at the end point; the gradient with respect to v₀, in the metric, of ½ Dist plus the
        barrier over the weight (without the barrier for the paper's gradient)."""
        u = end.displacement
        if self.gradient == "jacobi":
            deformed, _ = value_and_slope(self.source, u, self.spacing)
            distance, half = self.similarity.value_and_half_derivative(
                deformed, self.target, self.statistics, self.mask
            )
            push = self._to_band(half[:, None] * gradient(deformed, self.spacing), geodesic)
            return distance, sweep(geodesic, end_gradient(push, geodesic.metric))
        distance, force = self.similarity.value_and_force(
            self.source, self.target, u, self.spacing, self.statistics, self.mask
        )
        on_host = backend_of(u) == "numpy"  # where it costs no wait to skip what is zero
        if not on_host or np.any(end.measures[:, 3] > 0):
            voxels = barrier_weight(geodesic.metric.band, self.shape)
            scale = voxels / self.weight_of(0)
            force = add_barrier_force(force, u, end.determinants, scale, self.spacing)
        return distance, self.pull_back(geodesic, force)

    def _to_band(self, force: Array, geodesic: Geodesic) -> Array:
        """L² gradient on the band of a sum over voxels with that force on u."""
        xp = array_module(force)
        return float(np.prod(self.shape)) * analysis(force, geodesic.metric.band, xp)

    def pull_back(self, geodesic: Geodesic, force: Array) -> Array:
        """Gradient with respect to v₀, in the metric, of a sum over voxels with that force on u."""
        return pull_back(geodesic, self._to_band(force, geodesic))

    def end_map(self, geodesic: Geodesic) -> EndMap:
        """The end maps on this grid."""
        return end_map_of(geodesic, self.shape, self.source.dtype.type)

    def curvature(self, geodesic: Geodesic, exact: bool = False) -> DataCurvature:
        """(ρ/σ²) J*J at the end point of a geodesic (`data_curvature`)."""
        return data_curvature(self, geodesic, exact)

    def with_steps(self, num_steps: int) -> "Problem":
        """The same problem with another number of time steps."""
        return replace(self, num_steps=num_steps)

    def shoot(self, v: Array, metric: MetricBatch, linearize: bool = True) -> Geodesic:
        """Geodesics of initial velocities, in the precision of the images."""
        working = v.astype(np.result_type(self.source.dtype, np.complex64), copy=False)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # after a large step the flow may diverge
            return shoot(
                working,
                metric,
                num_steps=self.num_steps,
                integrator=self.integrator,
                dynamics=self.dynamics,
                linearize=linearize,
            )

    def displacement(self, geodesic: Geodesic) -> Array:
        """End displacement of the inverse map on this grid, (pairs, d, N_1, …, N_d), in mm."""
        u, kind = geodesic.displacement_coefficients(), self.source.dtype.type
        return synthesis(u, geodesic.metric.band, self.shape, kind, array_module(u))

    def deformed(self, geodesic: Geodesic) -> Array:
        """S∘φ₁⁻¹ on this grid."""
        return value_and_slope(self.source, self.displacement(geodesic), self.spacing)[0]

    def source_gradient(self, geodesic: Geodesic) -> Array:
        """g = (∇S)∘φ₁⁻¹, the slope of the interpolant, zero outside the mask.

        It is the slope that the energy has: central differences of the voxels are smaller where an
        image is sharp, and an H made of them gives an α that is too low.

        g is multiplied by the square root of the similarity's curvature, where that is not one:
        weight g gᵀ is the Gauss-Newton curvature of the dissimilarity.
        """
        deformed, g = value_and_slope(self.source, self.displacement(geodesic), self.spacing)
        if not self.similarity.gaussian:
            xp = array_module(g)
            bend = self.similarity.curvature(deformed, self.target, self.statistics, self.mask)
            root = xp.sqrt(xp.asarray(bend) * xp.ones_like(deformed))
            g = g * root[:, None].astype(g.dtype)
        return g if self.mask is None else g * self.mask[:, None]

    def deformed_gradient(self, geodesic: Geodesic) -> Array:
        """g = ∇(S∘φ₁⁻¹) = (I + Du)ᵀ (∇S)∘φ₁⁻¹, masked and scaled as in `source_gradient`."""
        g, u = self.source_gradient(geodesic), self.displacement(geodesic)
        total = g.copy()
        for j in range(len(self.spacing)):
            total += gradient(u[:, j], self.spacing) * g[:, j, None]
        return total

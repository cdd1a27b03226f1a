"""The energy of an initial velocity, prior plus dissimilarity, with its exact gradient."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from fourierreg.backend import array_module, to_numpy
from fourierreg.geodesic.jacobi import end_gradient, sweep
from fourierreg.geodesic.shooting import Geodesic, pull_back, shoot
from fourierreg.image.deformation import gradient
from fourierreg.image.similarity import Similarity, SumOfSquares
from fourierreg.image.voxels import jacobian_determinant, value_and_slope
from fourierreg.registration.hessian import data_curvature
from fourierreg.spectral.band import inner
from fourierreg.spectral.transform import analysis, synthesis

MIN_DETERMINANT = 0.05
MAX_DISPLACEMENT = 0.25  # fraction of the field of view beyond which a velocity is refused


class Evaluation(NamedTuple):
    """Energy at a velocity, in nats, and what was computed on the way.

    `gradient` is the L² gradient with respect to v₀ (coefficients of the band). Where the end
    point is no diffeomorphism `total` is infinite and there is no gradient.
    """

    total: float
    prior: float
    likelihood: float
    gradient: object
    geodesic: Geodesic


def is_diffeomorphism(geodesic, shape):
    """Whether the end map is finite, has no fold and moves nothing beyond a quarter of the domain.

    The determinant is taken on a grid of twelve points per shortest wavelength of the band, or on
    `shape` where that is coarser, and must stay above `MIN_DETERMINANT` there, so that it is
    positive at the voxels in between too.
    """
    band, coefficients = geodesic.metric.band, geodesic.displacement_coefficients()
    xp = array_module(coefficients)
    if not bool(xp.all(xp.isfinite(coefficients))):
        return False
    grid = tuple(min(n, max(12 * k, 2)) for n, k in zip(shape, band.cutoff, strict=True))
    u = synthesis(coefficients, band, grid, np.float32, xp)
    spacing = tuple(length / n for length, n in zip(band.extent, grid, strict=True))
    largest = to_numpy(xp.max(xp.abs(u).reshape(band.ndim, -1), axis=1))
    if np.any(largest > MAX_DISPLACEMENT * np.asarray(band.extent)):
        return False
    return float(xp.min(jacobian_determinant(u, spacing))) > MIN_DETERMINANT


@dataclass(frozen=True)
class Problem:
    """Images on one grid and the weight of their mismatch.

    Attributes
    ----------
    target : array, shape (N_1, …, N_d)
    source : array
        Of the same shape, or a whole multiple of it along each axis: sampled more finely, so that
        linear interpolation does not blur it.
    spacing : tuple of float
        mm per voxel of the target, whose grid may be coarser than the one the band belongs to.
    weight : float
        The paper's γ: energy is weight Dist/2, Dist a **sum** over voxels; ρ/σ², in 1/intensity²,
        for the Gaussian likelihood. A coarse grid's weight is multiplied by the number of fine
        voxels that one coarse voxel stands for.
    mask : bool array or None
        Voxels of the target that count.
    num_steps, integrator, dynamics
        Of the geodesic (`shoot`).
    similarity : Similarity
    gradient : {"exact", "jacobi"}
        That of the discrete energy, or the paper's by adjoint Jacobi fields (`sweep`).
    """

    source: object
    target: object
    spacing: tuple
    weight: float
    mask: object = None
    num_steps: int = 10
    integrator: str = "euler"
    dynamics: str = "epdiff"
    similarity: Similarity = field(default_factory=SumOfSquares)
    gradient: str = "exact"

    coefficient_dtype: ClassVar[type] = np.complex128  # of the unknown

    @property
    def shape(self):
        """Voxels along each axis: the grid that everything but the source lives on."""
        return tuple(self.target.shape)

    @property
    def at_rest(self):
        """The source on that grid, not deformed."""
        pairs = zip(self.source.shape, self.shape, strict=True)
        return self.source[tuple(slice(None, None, fine // n) for fine, n in pairs)]

    def evaluate(self, v, metric):
        """⟨Lv, v⟩/2s² + γ/2 Dist(S∘φ₁⁻¹, T) and its gradient (Eq. 3, errata E1, E2, E5).

        With the sum of squares and γ = ρ/σ² that is Eq. 6 without its normalisers.

        The gradient is that of the discretised energy, to rounding: the force at the end point
        is truncated to the band (M times the mean, erratum E5) and pulled back through the very
        steps of the integrator.
        """
        xp, band = array_module(v), metric.band
        geodesic = self.shoot(v, metric)
        if not self.admissible(geodesic):
            return Evaluation(math.inf, math.inf, math.inf, None, geodesic)
        distance, pulled = self._dissimilarity(geodesic)
        momentum = metric.lower(v) / metric.velocity_scale**2
        prior = 0.5 * float(inner(momentum, v, band, xp))
        likelihood = 0.5 * self.weight * distance
        slope = momentum + self.weight * metric.lower(pulled.astype(v.dtype))
        return Evaluation(prior + likelihood, prior, likelihood, slope, geodesic)

    def _dissimilarity(self, geodesic):
        """Dist at the end point, and the gradient of ½ Dist with respect to v₀ in the metric."""
        u = self.displacement(geodesic)
        if self.gradient == "jacobi":
            deformed, _ = value_and_slope(self.source, u, self.spacing)
            distance, half = self.similarity.value_and_half_slope(
                deformed, self.target, self.source, self.mask
            )
            force = half * gradient(deformed, self.spacing)
            push = float(np.prod(self.shape)) * analysis(
                force, geodesic.metric.band, array_module(u)
            )
            return distance, sweep(geodesic, end_gradient(push, geodesic.metric))
        distance, force = self.similarity.push(self.source, self.target, u, self.spacing, self.mask)
        return distance, self.pull_back(geodesic, force)

    def pull_back(self, geodesic, force):
        """Gradient with respect to v₀, in the metric, of a sum over voxels with that force on u."""
        voxels = float(np.prod(self.shape))
        push = voxels * analysis(force, geodesic.metric.band, array_module(force))
        return pull_back(geodesic, push)

    def admissible(self, geodesic):
        """Whether the end point is a diffeomorphism of this grid (`is_diffeomorphism`)."""
        return is_diffeomorphism(geodesic, self.shape)

    def curvature(self, geodesic, exact=False):
        """(ρ/σ²) J*J at the end point of a geodesic (`data_curvature`)."""
        return data_curvature(self, geodesic, exact)

    def shoot(self, v, metric):
        """Geodesic of a velocity, in the precision of the images."""
        working = v.astype(np.result_type(self.source.dtype, np.complex64), copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # a wild step may blow up
            return shoot(
                working,
                metric,
                num_steps=self.num_steps,
                integrator=self.integrator,
                dynamics=self.dynamics,
                linearise=True,
            )

    def displacement(self, geodesic):
        """End displacement of the inverse map on this grid, in mm."""
        u, kind = geodesic.displacement_coefficients(), self.source.dtype.type
        return synthesis(u, geodesic.metric.band, self.shape, kind, array_module(u))

    def deformed(self, geodesic):
        """S∘φ₁⁻¹ on this grid."""
        return value_and_slope(self.source, self.displacement(geodesic), self.spacing)[0]

    def source_gradient(self, geodesic):
        """g = (∇S)∘φ₁⁻¹, the slope of the interpolant, zero outside the mask.

        It is the slope that the energy has: central differences of the voxels are smaller where
        an image is sharp, and an H made of them gives an α that is too low.

        Times the root of the similarity's curvature, where that is not one: weight g gᵀ is the
        Gauss-Newton curvature of the dissimilarity.
        """
        deformed, g = value_and_slope(self.source, self.displacement(geodesic), self.spacing)
        if not self.similarity.gaussian:
            xp = array_module(g)
            bend = self.similarity.curvature(deformed, self.target, self.source, self.mask)
            g = g * xp.sqrt(xp.asarray(bend, dtype=g.dtype))
        return g if self.mask is None else g * self.mask

    def deformed_gradient(self, geodesic):
        """g = ∇(S∘φ₁⁻¹) = (I + Du)ᵀ (∇S)∘φ₁⁻¹, as `source_gradient`."""
        g = self.source_gradient(geodesic)
        carried = g.copy()
        for component, slope in zip(self.displacement(geodesic), g, strict=True):
            carried += gradient(component, self.spacing) * slope
        return carried

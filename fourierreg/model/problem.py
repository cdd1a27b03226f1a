"""The energy of an initial velocity, prior plus dissimilarity, with its exact gradient."""

import functools
import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np

from fourierreg.backend import array_module, backend_of, to_numpy
from fourierreg.backend.tables import cached_table
from fourierreg.geodesic.jacobi import end_gradient, sweep
from fourierreg.geodesic.shooting import Geodesic, pull_back, shoot
from fourierreg.image.deformation import gradient
from fourierreg.image.similarity import Similarity, SumOfSquares
from fourierreg.image.voxels import extremes, value_and_slope
from fourierreg.model.hessian import data_curvature
from fourierreg.spectral.band import inner
from fourierreg.spectral.transform import analysis, synthesis

MIN_DETERMINANT = 0.05
MAX_DISPLACEMENT = 0.25  # fraction of the field of view beyond which a velocity is refused


class Evaluation(NamedTuple):
    """Energy at a velocity, in nats, and what was computed on the way.

    `gradient` is the L² gradient with respect to v₀ (coefficients of the band). Where the end
    point is no diffeomorphism `total` is infinite and there is no gradient (zero, beside pairs
    that have one). The energies of many pairs are NumPy arrays.
    """

    total: float
    prior: float
    likelihood: float
    gradient: object
    geodesic: Geodesic

    def one(self, pair, metric):
        """That of one of many pairs, whose own metric is given."""
        return Evaluation(
            *(float(energy[pair]) for energy in self[:3]),
            None if self.gradient is None else self.gradient[pair].copy(),
            self.geodesic.one(pair, metric),
        )


def is_diffeomorphism(geodesic, shape):
    """Whether the end map is finite, has no fold and moves nothing beyond a quarter of the domain.

    The determinant is taken on a grid of twelve points per shortest wavelength of the band, or on
    `shape` where that is coarser, and must stay above `MIN_DETERMINANT` there, so that it is
    positive at the voxels in between too. For many pairs a NumPy array (pairs,).
    """
    good = _accepted([to_numpy(number) for number in _judge(geodesic, shape)[0]])
    return good if good.ndim else bool(good)


def _judge(geodesic, shape):
    """What `_accepted` asks for, the displacement on the grid where that was judged, and its
    coefficients (zero where they are beyond all measure)."""
    band, coefficients = geodesic.metric.band, geodesic.displacement_coefficients()
    xp, d = array_module(coefficients), band.ndim
    # No coefficient is larger than the displacement; one that is, or is no number, goes no further.
    bounded = xp.abs(coefficients) <= _largest_coefficients(band, xp)
    finite = xp.all(bounded, axis=tuple(range(-d - 1, 0)))
    coefficients = xp.where(finite[(..., *[None] * (d + 1))], coefficients, 0)
    grid = tuple(min(n, max(12 * k, 2)) for n, k in zip(shape, band.cutoff, strict=True))
    u = synthesis(coefficients, band, grid, np.float32, xp)
    spacing = tuple(length / n for length, n in zip(band.extent, grid, strict=True))
    found = extremes(u, spacing, furthest(band))
    return [finite, found[..., 0], found[..., 1]], u, coefficients


def furthest(band):
    """The displacement that is too far along each axis."""
    return [MAX_DISPLACEMENT * length for length in band.extent]


@cached_table()
def _largest_coefficients(band, xp):
    """Of a displacement that is not too far, (d, 1, …)."""
    return xp.asarray(np.reshape(furthest(band), (-1, *[1] * band.ndim)))


def _accepted(judged):
    """Whether end maps are diffeomorphisms, from what `_judge` says of them, on the host."""
    finite, reach, fold = judged
    return (finite > 0) & (reach <= 1) & (-fold > MIN_DETERMINANT)


@dataclass(frozen=True)
class Problem:
    """Images on one grid and the weight of their mismatch: one pair, or many (`together`), which
    are along a first axis of every array then, and whose velocities are (pairs, d, *band).

    Attributes
    ----------
    target : array, shape (N_1, …, N_d)
    source : array
        Of the same shape, or a whole multiple of it along each axis: sampled more finely, so that
        linear interpolation does not blur it.
    spacing : tuple of float
        mm per voxel of the target, whose grid may be coarser than the one the band belongs to.
    weight : float, or float array (pairs,) on the host
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

    @staticmethod
    def together(problems):
        """One problem of several pairs, alike but for images, mask and weight."""
        first = problems[0]
        xp = array_module(first.source)
        masks = [problem.mask for problem in problems]
        return replace(
            first,
            source=xp.stack([problem.source for problem in problems]),
            target=xp.stack([problem.target for problem in problems]),
            mask=None if first.mask is None else xp.stack(masks),
            weight=np.array([problem.weight for problem in problems]),
        )

    def select(self, indices):
        """That of some of the pairs."""
        chosen = array_module(self.source).asarray(indices)
        return replace(
            self,
            source=self.source[chosen],
            target=self.target[chosen],
            mask=None if self.mask is None else self.mask[chosen],
            weight=self.weight[indices],
        )

    @property
    def kind(self):
        """What problems have in common that can be put together; None where none can."""
        if not self.similarity.gaussian or self.gradient != "exact":
            return None
        images = self.source.shape, self.target.shape, str(self.source.dtype), self.spacing
        return (
            *images,
            self.mask is None,
            self.num_steps,
            self.integrator,
            self.dynamics,
        )

    @property
    def shape(self):
        """Voxels along each axis: the grid that everything but the source lives on."""
        return tuple(self.target.shape[-len(self.spacing) :])

    @property
    def at_rest(self):
        """The source on that grid, not deformed."""
        pairs = zip(self.source.shape, self.shape, strict=True)
        return self.source[tuple(slice(None, None, fine // n) for fine, n in pairs)]

    def weight_of(self, ndim):
        """`weight`, with so many axes after that of pairs."""
        if np.ndim(self.weight) == 0:
            return self.weight
        return self._weights.reshape(-1, *[1] * ndim)

    @functools.cached_property
    def _weights(self):
        """Those of many pairs, where the images are."""
        return array_module(self.source).asarray(self.weight)

    def evaluate(self, v, metric):
        """⟨Lv, v⟩/2s² + γ/2 Dist(S∘φ₁⁻¹, T) and its gradient (Eq. 3, errata E1, E2, E5).

        With the sum of squares and γ = ρ/σ² that is Eq. 6 without its normalisers.

        The gradient is that of the discretised energy, to rounding: the force at the end point
        is truncated to the band (M times the mean, erratum E5) and pulled back through the very
        steps of the integrator.
        """
        geodesic = self.shoot(v, metric)
        judged, u = self.judge(geodesic)
        told = np.ndim(judged[0]) == 0 and backend_of(v) == "numpy"  # asking waits for nothing
        if told and not _accepted(judged):
            return Evaluation(math.inf, math.inf, math.inf, None, geodesic)
        numbers, slope = self._measure(v, metric, geodesic, judged, u)
        energies = self.energies(to_numpy(numbers))
        good = np.isfinite(energies[0])
        if not np.any(good):
            slope = None
        elif not np.all(good):
            xp = array_module(v)
            kept = xp.asarray(good).reshape(-1, *[1] * (v.ndim - 1))
            slope = xp.where(kept, slope, 0)
        return Evaluation(*energies, slope, geodesic)

    def measure(self, v, metric):
        """The part of `evaluate` that is the device's; of the sum of squares nothing in it waits
        for the device.

        Returns
        -------
        numbers : float array, (5,) or (5, pairs)
            What `energies` makes energies of.
        slope : complex array like `v`
            Of no meaning where the end point is no diffeomorphism.
        geodesic : Geodesic
        """
        geodesic = self.shoot(v, metric)
        return *self._measure(v, metric, geodesic, *self.judge(geodesic)), geodesic

    def _measure(self, v, metric, geodesic, judged, u):
        xp, band = array_module(v), metric.band
        with np.errstate(over="ignore", invalid="ignore"):  # where it blew up
            distance, pulled = self._dissimilarity(geodesic, u)
            momentum = metric.lower(v) / metric.velocity_scale**2
            prior = inner(momentum, v, band, xp)
            weight = self.weight_of(band.ndim + 1)
            slope = momentum + weight * metric.lower(pulled.astype(v.dtype))
        numbers = xp.empty((5, *prior.shape))
        for i, number in enumerate([*judged, prior, distance]):
            numbers[i] = number
        return numbers, slope

    def energies(self, numbers):
        """Total, prior and likelihood of what `measure` counted, on the host."""
        *judged, prior, distance = numbers
        good, prior, misfit = _accepted(judged), 0.5 * prior, 0.5 * self.weight * distance
        energies = [np.where(good, e, math.inf) for e in (prior + misfit, prior, misfit)]
        return energies if good.ndim else [float(energy) for energy in energies]

    def _dissimilarity(self, geodesic, u):
        """Dist at the end point, and the gradient of ½ Dist with respect to v₀ in the metric."""
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

    def judge(self, geodesic):
        """The numbers by which `_accepted` decides whether the end point is a diffeomorphism of
        this grid, and the displacement there."""
        judged, u, coefficients = _judge(geodesic, self.shape)
        kind = self.source.dtype.type
        if tuple(u.shape[-len(self.shape) :]) != self.shape or u.dtype != kind:
            xp, band = array_module(u), geodesic.metric.band
            u = synthesis(coefficients, band, self.shape, kind, xp)
        return judged, u

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
                linearize=True,
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
        return g if self.mask is None else g * _beside_components(self.mask, len(self.spacing))

    def deformed_gradient(self, geodesic):
        """g = ∇(S∘φ₁⁻¹) = (I + Du)ᵀ (∇S)∘φ₁⁻¹, as `source_gradient`."""
        g, u = self.source_gradient(geodesic), self.displacement(geodesic)
        carried, whole = g.copy(), (slice(None),) * len(self.spacing)
        for j in range(len(self.spacing)):
            here = (..., j, *whole)
            slope = _beside_components(g[here], len(self.spacing))
            carried += gradient(u[here], self.spacing) * slope
        return carried


def _beside_components(field, d):
    """A scalar field (…, N_1, …, N_d), to be multiplied with vector fields."""
    return field[(..., None, *(slice(None),) * d)]

"""The state of a running registration: velocity, α, noise and history on a pyramid of grids.

Methods that need expensive work are coroutines (`fourierreg.optim.batching`): they yield the
requests of `fourierreg.registration.tasks`.
"""

import math
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.image.voxels import residual_and_force
from fourierreg.model.laplace import joint_slope
from fourierreg.model.noise import foreground
from fourierreg.model.problem import Problem
from fourierreg.registration.pyramid import at_shape, level_shapes, mask_at_shape
from fourierreg.registration.result import Record
from fourierreg.registration.tasks import AlphaSlope, Fit, VelocityDerivative
from fourierreg.spectral.band import inner

TOLERANCE = 0.3  # of fits (`fourierreg.registration.fit`)
SEARCH_TOLERANCE = 0.02  # of fits at which a slope in α is taken
COARSE_STEPS = 0.6  # of the time steps, on grids coarser than the image
CONTINUATION_FACTOR = 10.0  # between the weights of successive fits
NOISE_TOLERANCE = 0.05  # of ln(ρ/σ²): a larger change of an estimate requires another fit
MAX_FITS = 5  # on one grid, while the noise is being estimated


class Level(NamedTuple):
    """A grid of the pyramid.

    Attributes
    ----------
    problem : Problem
        With weight 1.
    inside : bool array, (1, N_1, …, N_d)
        Voxels that count.
    voxel_ratio : float
        Image voxels per voxel of the grid.
    """

    problem: Problem
    inside: Array
    voxel_ratio: float

    def residual(self, evaluation):
        """S∘φ₁⁻¹ - T; S - T without an evaluation."""
        problem = self.problem
        if evaluation is None:
            return problem.undeformed - problem.target
        u = problem.displacement(evaluation.geodesic)
        return residual_and_force(problem.source, problem.target, u, problem.spacing)[0]


def _level(problem, inside, shape, xp):
    """`Level` of a shape; coarser grids take fewer time steps."""
    finest = shape == problem.shape
    num_steps = problem.num_steps if finest else math.ceil(COARSE_STEPS * problem.num_steps)
    return Level(
        at_shape(problem, shape, num_steps, xp),
        inside if finest else mask_at_shape(inside, shape, xp),
        math.prod(problem.shape) / math.prod(shape),
    )


class Multiresolution:
    """Alternates between the velocity, the noise and α of one pair, coarse to fine.

    Parameters
    ----------
    problem : Problem
        Of one pair, with weight 1.
    metric : Metric
    noise : Noise
    callback : callable, optional
        Called with a `Record` after every accepted iteration.
    """

    def __init__(self, problem, metric, noise, callback=None):
        xp = array_module(problem.source)
        self.xp, self.metric, self.callback = xp, metric.batch(), callback
        inside = foreground(problem.source, problem.target, problem.mask)
        shapes, self.search_level = level_shapes(problem.shape, metric.band.cutoff)
        self.levels = [_level(problem, inside, shape, xp) for shape in shapes]
        self.finest = len(shapes) - 1
        self.num_voxels = float(xp.sum(inside))  # M, of the mask or foreground
        self.velocity = xp.zeros(
            (1, metric.band.ndim, *metric.band.coefficient_shape), dtype=problem.coefficient_dtype
        )
        self.evaluation = self._derivative = self._memory = self._fitted_level = None
        self.noise = noise
        self._initial_weight = self._estimated_noise(self.finest).weight
        self.gaussian = problem.similarity.gaussian
        self.estimate_noise(0)
        self.history, self.began = [], time.perf_counter()
        self.converged = self.at_boundary = False

    @property
    def alpha(self):
        """The present α."""
        return self.metric.alphas[0]

    def problem(self, level):
        """The problem of a level at the present noise."""
        problem, _, voxel_ratio = self.levels[level]
        return replace(problem, weight=np.array([voxel_ratio * self.noise.weight]))

    # α

    def move_to(self, log_alpha, level):
        """Change α, and the velocity to first order (coroutine)."""
        change = log_alpha - math.log(self.alpha)
        if self.evaluation is not None and change != 0.0:
            if self._derivative is None:
                self._derivative = yield VelocityDerivative(*self._at(level))
            self.velocity, self._derivative = self.velocity + change * self._derivative, None
        self.metric = self.metric.with_alphas([math.exp(log_alpha)])

    def slope(self, level, posterior, exact, num_probes):
        """dF/d ln α (marginal) or ∂f/∂ ln α (joint) at the present velocity (coroutine)."""
        if posterior == "joint":
            return joint_slope(self.velocity, self.metric).unstack()[0]
        slope = yield AlphaSlope(*self._at(level), exact, num_probes)
        self._derivative = slope.velocity_derivative
        return slope

    def _at(self, level):
        return self.problem(level), self.metric, self.velocity

    # The velocity

    def fit(self, level, *, tolerance=SEARCH_TOLERANCE, max_iterations):
        """Minimize over the velocity at the present α and noise (coroutine)."""
        problem = self.problem(level)

        def record(prior, likelihood, norm):
            self._record(prior, likelihood, norm, problem)

        memory = self._memory if level == self._fitted_level else None
        result = yield Fit(
            problem, self.metric, self.velocity, memory, tolerance, max_iterations, record
        )
        self._memory, self._fitted_level = result.pairs, level
        self.velocity, self.evaluation, self._derivative = result.velocity, result.evaluation, None
        self.converged, self.at_boundary = result.converged, result.at_boundary

    def accept(self, velocity, metric, evaluation, problem=None):
        """Take over the state of another optimizer; recorded as an iteration with a `problem`."""
        self.velocity, self.metric, self.evaluation = velocity, metric, evaluation
        self._derivative = self._fitted_level = None
        if problem is not None:
            gradient = evaluation.gradient
            norm = math.sqrt(float(inner(gradient, gradient, metric.band, self.xp)[0]))
            energies = float(evaluation.prior[0]), float(evaluation.likelihood[0])
            self._record(*energies, norm, problem)

    def reset(self):
        """Back to a velocity of zero."""
        self.velocity = self.xp.zeros_like(self.velocity)
        self.evaluation = self._derivative = self._fitted_level = None

    def state(self):
        """α, velocity and evaluation, for `restore`."""
        return self.metric, self.velocity, self.evaluation, self._derivative

    def restore(self, state):
        """Go back to a `state`."""
        self.metric, self.velocity, self.evaluation, self._derivative = state

    @property
    def needs_continuation(self):
        """Whether `descend` passes through smaller weights than the given one."""
        given = self.gaussian and not self.noise.estimated
        return given and self._initial_weight * CONTINUATION_FACTOR < self.noise.weight

    def descend(self, last_level, *, tolerance=TOLERANCE, max_iterations):
        """Fit from the coarsest grid to `last_level`, and from a weak likelihood to the given one
        (coroutine).

        A small σ on images that are far apart makes the velocity rough before it makes it right:
        where σ is given, weights grow tenfold per fit (continuation) from what the residual of the
        unregistered images justifies. An estimated σ does so by itself. Similarities other than
        the sum of squares have no σ.
        """
        options = {"tolerance": tolerance, "max_iterations": max_iterations}
        if self.noise.estimated or not self.gaussian:
            for level in range(last_level + 1):
                self.estimate_noise(level)
                yield from self.fit(level, **options)
            return
        given, weight, level = self.noise, self._initial_weight, 0
        while True:
            final = weight * CONTINUATION_FACTOR >= given.weight
            sigma = given.sigma if final else math.sqrt(given.decimation / weight)
            self.noise = replace(given, sigma=sigma)
            yield from self.fit(level, **options)
            if final and level == last_level:
                return
            weight, level = weight * CONTINUATION_FACTOR, min(level + 1, last_level)

    # The noise

    def settle_noise(self, level, *, tolerance, max_iterations):
        """Alternate between estimating the noise and fitting, until the estimate is stable
        (coroutine)."""
        self.estimate_noise(level)
        for _ in range(MAX_FITS):
            yield from self.fit(level, tolerance=tolerance, max_iterations=max_iterations)
            used = self.noise
            if self.estimate_noise(level) <= NOISE_TOLERANCE:
                break
        self.noise = used

    def estimate_noise(self, level):
        """Estimate σ and ρ from the residual on a grid; returns |change of ln(ρ/σ²)|.

        Every grid has its own: smoothing takes from σ what it adds to the correlation of voxels.
        """
        if not self.noise.estimated:
            return 0.0
        before, self.noise = self.noise, self._estimated_noise(level)
        return abs(math.log(self.noise.weight / before.weight))

    def _estimated_noise(self, level):
        _, inside, voxel_ratio = self.levels[level]
        residual = self.levels[level].residual(self.evaluation)
        return self.noise.of_residual(residual, inside, voxel_ratio)

    # The objective

    def objective(self, prior, likelihood, metric=None):
        """Negative log posterior of (v₀, α), Eq. 6 (E1 to E3); Eq. 3 where there is no σ."""
        if not self.gaussian:
            return prior + likelihood
        metric = self.metric if metric is None else metric
        p, s = metric.band.degrees_of_freedom, metric.velocity_scale
        prior_normalizer = p * math.log(s) - 0.5 * float(metric.log_determinant(self.xp)[0])
        constant = 0.5 * p * math.log(2 * math.pi)
        return prior + likelihood + self.likelihood_normalizer() + prior_normalizer + constant

    def likelihood_normalizer(self):
        """ρM (ln σ + ½ ln 2π) on the grid of the present noise."""
        independent = self.noise.decimation / self.noise.voxel_ratio * self.num_voxels
        return independent * (math.log(self.noise.sigma) + 0.5 * math.log(2 * math.pi))

    def _record(self, prior, likelihood, norm, problem):
        record = Record(
            len(self.history),
            problem.shape,
            self.alpha,
            self.noise.sigma,
            self.noise.decimation,
            prior,
            likelihood,
            self.objective(prior, likelihood),
            norm,
            time.perf_counter() - self.began,
        )
        self.history.append(record)
        if self.callback is not None:
            self.callback(record)

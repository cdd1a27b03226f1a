"""The state of a running registration: velocity, α, noise and history on a pyramid of grids.

Methods that need expensive work are coroutines (`fourierreg.optim.batching`): they yield the
requests of `fourierreg.registration.tasks`.
"""

import math
import time
from dataclasses import replace

import numpy as np

from fourierreg.backend import array_module
from fourierreg.model.flow_error import MAX_STEPS, more_steps
from fourierreg.model.laplace import joint_slope
from fourierreg.registration.fit import remaining_decrease
from fourierreg.registration.level import level_of
from fourierreg.registration.pair_noise import PairNoise
from fourierreg.registration.pyramid import level_shapes
from fourierreg.registration.result import Record
from fourierreg.registration.tasks import AlphaSlope, Fit, FlowError, VelocityDerivative
from fourierreg.spectral.band import change_band, inner

TOLERANCE = 0.3  # of fits (`fourierreg.registration.fit`)
NOISE_SHARE = 0.1  # of the energy's standard deviation under the noise: no fit needs less
SEARCH_TOLERANCE = 0.02  # of fits at which a slope in α is taken
ROUGH_TOLERANCE = 3.0  # of fits on grids on which a given noise does not hold yet
COARSE_STEPS = 0.6  # of the time steps, on grids coarser than the image
NOISE_TOLERANCE = 0.05  # of ln(ρ/σ²): a larger change of an estimate requires another fit
MAX_FITS = 5  # on one grid, while the noise is being estimated
FLOW_TOLERANCE = 0.25  # voxels of a grid: error of an end map above which steps are added
FIRST_CHECK = 20  # iterations of a fit after which the error of its flow is estimated
EXTRA_ITERATIONS = 5  # of a fit whose flow turned out to need more steps at its end
FEW_ITERATIONS = 12  # that do not tell how far an energy will fall
FIRST_STEPS = 2  # of a flow whose steps are chosen by its error


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
    inside : bool array, (N_1, …, N_d), optional
        Voxels that count as data, for the noise; by default those where either image is not zero.
    chooses_steps : bool
        Whether time steps are added where the flow needs them.
    searches : bool
        Whether α will be searched: then the band is whole from the search grid on, else on the
        finest grid only.
    """

    def __init__(
        self,
        problem,
        metric,
        noise,
        callback=None,
        *,
        inside=None,
        chooses_steps=False,
        searches=False,
    ):
        xp = array_module(problem.source)
        self.xp, self.metric, self.callback = xp, metric.batch(), callback
        inside = (problem.source != 0) | (problem.target != 0) if inside is None else inside[None]
        shapes, self.search_level = level_shapes(problem.shape, metric.band.cutoff)
        self.finest = len(shapes) - 1
        whole, modes = self.search_level if searches else self.finest, metric.band.modes
        self.levels = [
            level_of(problem, inside, shape, problem.bandlimited and index < whole, modes)
            for index, shape in enumerate(shapes)
        ]
        self.chooses_steps = chooses_steps
        self.num_steps = FIRST_STEPS if chooses_steps else problem.num_steps
        self.flow_error = math.nan  # of the present velocity, in mm, where steps are chosen
        self.num_voxels = float(xp.sum(inside))  # M, of the mask or foreground
        self.velocity = xp.zeros(
            (1, metric.band.ndim, *metric.band.coefficient_shape), dtype=problem.coefficient_dtype
        )
        self.evaluation = self._derivative = self._memory = None
        self.fitted_level = None  # of the last fit, if the state is its result
        self.remaining = math.nan  # decrease of the energy to be expected of further iterations
        self.likelihood = problem.similarity.likelihood
        self.noises = PairNoise(noise, self.likelihood, self.levels)
        self.estimate_noise(0)
        self.history, self.began = [], time.perf_counter()
        self.converged = self.at_boundary = False

    @property
    def noise(self):
        """The present `Noise`."""
        return self.noises.present

    @property
    def alpha(self):
        """The present α."""
        return self.metric.alphas[0]

    def problem(self, level):
        """The problem of a level at the present noise."""
        problem, _, voxel_ratio, _ = self.levels[level]
        weight = np.array([voxel_ratio * self.noise.weight])
        return replace(problem, weight=weight, num_steps=self._steps(level))

    def _steps(self, level):
        """Time steps on a grid: chosen by the error, or given, and fewer on coarser grids."""
        if self.chooses_steps or level == self.finest:
            return self.num_steps
        return math.ceil(COARSE_STEPS * self.num_steps)

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
        """Minimize over the velocity at the present α and noise (coroutine).

        Where the end map turns out to be further from the flow than `FLOW_TOLERANCE` voxels, steps
        are added and the fit goes on: early, before iterations are spent on a wrong flow, and at
        the end, for at least `EXTRA_ITERATIONS`.
        """
        self._enter(level)
        began = len(self.history)
        left, checked = max_iterations, not self.chooses_steps
        while True:
            problem = self.problem(level)
            count = left if checked else min(left, FIRST_CHECK)
            result = yield from self._fit(problem, level, tolerance, count)
            left -= result.iterations
            energies = [record.prior + record.likelihood for record in self.history[began:]]
            if len(energies) > FEW_ITERATIONS:  # fewer leave what a coarser grid has told
                self.remaining = remaining_decrease(energies)
            ended = result.converged or left <= 0
            if not self.chooses_steps or (checked and not ended):
                return
            self.flow_error = yield FlowError(problem, self.metric, self.velocity)
            allowed = FLOW_TOLERANCE * min(problem.spacing)
            checked = self.flow_error <= 0.5 * allowed
            if self.flow_error > allowed and self.num_steps < MAX_STEPS:
                error, integrator = self.flow_error, problem.integrator
                self.num_steps = more_steps(self.num_steps, integrator, error, allowed)
                left = max(left, EXTRA_ITERATIONS)
            elif ended or result.iterations < count:
                return

    def _fit(self, problem, level, tolerance, max_iterations):
        def record(prior, likelihood, norm):
            self.record(prior, likelihood, norm, problem)

        memory = self._memory if level == self.fitted_level else None
        result = yield Fit(
            problem, self.metric, self.velocity, memory, tolerance, max_iterations, record
        )
        self._memory, self.fitted_level = result.pairs, level
        self.velocity, self.evaluation, self._derivative = result.velocity, result.evaluation, None
        self.converged, self.at_boundary = result.converged, result.at_boundary
        return result

    def _enter(self, level):
        """Bring the velocity into the band of a grid."""
        before, modes = self.metric.band, self.levels[level].modes
        if before.modes == modes:
            return
        self.metric = self.metric.with_modes(modes)
        self.velocity = change_band(self.velocity, before, self.metric.band, self.xp)
        self._derivative = self.fitted_level = None

    def accept(self, velocity, metric, evaluation, problem=None):
        """Take over the state of another optimizer; recorded as an iteration with a `problem`."""
        self.velocity, self.metric, self.evaluation = velocity, metric, evaluation
        self._derivative = self.fitted_level = None
        if problem is not None:
            gradient = evaluation.gradient
            norm = math.sqrt(float(inner(gradient, gradient, metric.band, self.xp)[0]))
            energies = float(evaluation.prior[0]), float(evaluation.likelihood[0])
            self.record(*energies, norm, problem)

    def reset(self):
        """Back to a velocity of zero."""
        self.velocity = self.xp.zeros_like(self.velocity)
        self.evaluation = self._derivative = self.fitted_level = None

    def state(self):
        """α, velocity, evaluation and noise, for `restore`."""
        return self.metric, self.velocity, self.evaluation, self._derivative, self.noise

    def restore(self, state):
        """Go back to a `state`."""
        self.metric, self.velocity, self.evaluation, self._derivative, self.noises.present = state

    @property
    def tolerance(self):
        """Tolerance of fits that end a registration: `TOLERANCE`, or more where the energy, half a
        χ² of ρM degrees of freedom, is known no better."""
        if not self.likelihood:
            return TOLERANCE
        independent = self.noise.decimation / self.noise.voxel_ratio * self.num_voxels
        deviation = math.sqrt(0.5 * independent / self.metric.band.degrees_of_freedom)
        return max(TOLERANCE, NOISE_SHARE * deviation)

    def descend(self, last_level, *, max_iterations):
        """Fit from the coarsest grid to `last_level` (coroutine).

        A small σ on images that are far apart makes the velocity rough before it makes it right:
        a given noise is approached over several fits (`PairNoise`).
        """
        limit = {"max_iterations": max_iterations}
        for level in range(last_level + 1):
            for noise in self.noises.continuation(level, self.evaluation):
                self.noises.present = noise
                yield from self.fit(level, tolerance=TOLERANCE, **limit)
            self.estimate_noise(level)
            rough = self.noises.given is not None and self.noises.is_estimated(level)
            tolerance = ROUGH_TOLERANCE if rough else self.tolerance
            yield from self.fit(level, tolerance=tolerance, **limit)

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
        self.noises.present = used

    def estimate_noise(self, level):
        """Take the noise of a grid; returns |change of ln(ρ/σ²)| (`PairNoise.estimate`)."""
        return self.noises.estimate(level, self.evaluation)

    # The objective

    def objective(self, prior, likelihood, metric=None):
        """Negative log posterior of (v₀, α), Eq. 6 (E1 to E3); Eq. 3 where there is no σ."""
        if not self.likelihood:
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

    def elapsed(self):
        """Seconds since the registration began."""
        return time.perf_counter() - self.began

    def record(self, prior, likelihood, norm, problem, metric=None, seconds=None):
        """Add an iteration to the history, at the present α and time or at others."""
        metric = self.metric if metric is None else metric
        record = Record(
            len(self.history),
            problem.shape,
            metric.alphas[0],
            self.noise.sigma,
            self.noise.decimation,
            prior,
            likelihood,
            self.objective(prior, likelihood, metric),
            norm,
            self.elapsed() if seconds is None else seconds,
        )
        self.history.append(record)
        if self.callback is not None:
            self.callback(record)

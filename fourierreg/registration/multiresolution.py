"""The state of one registration while it runs: velocity, α, noise, history."""

import math
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

from fourierreg.backend import array_module
from fourierreg.image.voxels import residual_and_force
from fourierreg.model import noise
from fourierreg.model.laplace import joint_slope
from fourierreg.model.problem import Problem
from fourierreg.optim.batching import ask
from fourierreg.registration.pyramid import at_shape, inside_at, level_shapes
from fourierreg.registration.tasks import AlphaSlope, Drift, Fit, gradient_norm

COARSE_STEPS = 0.6  # of the time steps, on grids coarser than the image
ANNEALING = 10.0  # factor between the weights of successive fits
NOISE_TOLERANCE = 0.05  # of ln(ρ/σ²): a larger change of an estimate asks for another fit
MAX_FITS = 5  # on one grid, while the noise is being estimated


class Record(NamedTuple):
    """One accepted iteration.

    `prior`, `likelihood` and `objective`, which is Eq. 6 (errata E1 to E3), in nats; `shape` in
    voxels; `sigma` in units of intensity; `gradient_norm` of the L² gradient with respect to v₀,
    in nats per mm; `seconds` since the start.
    """

    iteration: int
    shape: tuple
    alpha: float
    sigma: float
    decimation: float
    prior: float
    likelihood: float
    objective: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True)
class Noise:
    """σ and ρ of the voxels of one grid; whether they are estimated, ρ unless it is fixed.

    `volume`: voxels of the image that one voxel of that grid stands for. `fixed_decimation` is
    that of the image's own voxels.
    """

    sigma: float
    decimation: float
    estimated: bool
    fixed_decimation: float | None = None
    volume: float = 1.0

    @property
    def weight(self):
        """ρ/σ² per voxel of the image: comparable between grids."""
        return self.decimation / self.sigma**2 / self.volume

    def of_residual(self, residual, inside, volume):
        """The same model with σ and ρ estimated anew, on a grid."""
        sigma, decimation = noise.estimate(residual, inside)
        if self.fixed_decimation is not None:
            decimation = min(1.0, self.fixed_decimation * volume)
        return replace(self, sigma=sigma, decimation=decimation, volume=volume)


class Level(NamedTuple):
    """A grid of the pyramid: the problem at weight 1, the voxels that count, `Noise.volume`."""

    problem: Problem
    inside: object
    volume: float

    @property
    def shape(self):
        """Voxels along each axis."""
        return self.problem.shape

    def residual(self, evaluation):
        """S∘φ₁⁻¹ - T; S - T where there is no evaluation yet."""
        problem = self.problem
        if evaluation is None:
            return problem.at_rest - problem.target
        u = problem.displacement(evaluation.geodesic)
        return residual_and_force(problem.source, problem.target, u, problem.spacing)[0]


def _level(problem, inside, shape, xp):
    """`Level` of a shape; coarser grids take fewer time steps."""
    finest = shape == problem.shape
    num_steps = problem.num_steps if finest else math.ceil(COARSE_STEPS * problem.num_steps)
    return Level(
        at_shape(problem, shape, num_steps, xp),
        inside if finest else inside_at(inside, shape, xp),
        math.prod(problem.shape) / math.prod(shape),
    )


class Solver:
    """Alternates between the velocity, the noise and α on a pyramid of grids."""

    def __init__(self, problem, metric, noise_model, callback=None):
        xp = array_module(problem.source)
        self.xp, self.metric, self.callback = xp, metric, callback
        inside = noise.foreground(problem.source, problem.target, problem.mask)
        shapes, self.search_level = level_shapes(problem.shape, metric.band.cutoff)
        self.levels = [_level(problem, inside, shape, xp) for shape in shapes]
        self.finest = len(shapes) - 1
        self._voxels = float(xp.sum(inside))
        self.velocity = xp.zeros(
            (metric.band.ndim, *metric.band.coefficient_shape), dtype=problem.coefficient_dtype
        )
        self.evaluation = self._drift = self._fitted = None
        self._memory = None  # of the optimiser, on the grid `_fitted`
        self.noise = noise_model
        self._first_weight = self._estimate(self.finest).weight
        self._gaussian = problem.similarity.gaussian
        self.estimate_noise(0)
        self.history = []
        self.began = time.perf_counter()
        self.settled = self.at_boundary = False

    def problem(self, level):
        """The problem of a level at the present noise."""
        problem, _, volume = self.levels[level]
        return replace(problem, weight=volume * self.noise.weight)

    def move_to(self, log_alpha, level):
        """Change α and carry the velocity along, to first order."""
        change = log_alpha - math.log(self.metric.alpha)
        if self.evaluation is not None and change != 0.0:
            if self._drift is None:
                self._drift = ask(Drift(*self._minimum(level)))
            self.velocity, self._drift = self.velocity + change * self._drift, None
        self.metric = self.metric.with_alpha(math.exp(log_alpha))

    def fit(self, level, *, tolerance=0.02, max_iterations=50):
        """Minimise over the velocity at the present α and noise."""
        problem = self.problem(level)

        def record(prior, likelihood, norm):
            self._record(prior, likelihood, norm, problem)

        memory = self._memory if level == self._fitted else None
        result = ask(
            Fit(problem, self.metric, self.velocity, memory, tolerance, max_iterations, record)
        )
        self._memory, self._fitted = result.memory, level
        self.velocity, self.evaluation, self._drift = result.velocity, result.evaluation, None
        self.settled, self.at_boundary = result.settled, result.at_boundary

    def adopt(self, velocity, metric, evaluation, problem=None):
        """Take over a state another optimiser reached; an iteration where `problem` is given."""
        self.velocity, self.metric, self.evaluation = velocity, metric, evaluation
        self._drift = self._fitted = None
        if problem is not None:
            norm = gradient_norm(evaluation.gradient, metric.band)
            self._record(evaluation.prior, evaluation.likelihood, norm, problem)

    def restart(self):
        """Forget the velocity."""
        self.velocity = self.xp.zeros_like(self.velocity)
        self.evaluation = self._drift = self._fitted = None

    def state(self):
        """What `resume` needs: α, velocity and evaluation."""
        return self.metric.alpha, self.velocity, self.evaluation, self._drift

    def resume(self, state):
        """Go back to a `state`."""
        alpha, self.velocity, self.evaluation, self._drift = state
        self.metric = self.metric.with_alpha(alpha)

    @property
    def anneals(self):
        """Whether `descend` passes through smaller weights than the given one."""
        given = self._gaussian and not self.noise.estimated
        return given and self._first_weight * ANNEALING < self.noise.weight

    def descend(self, last_level, *, tolerance, max_iterations):
        """From the coarsest grid to `last_level`, and from a weak likelihood to the given one.

        A small σ on images that are far apart makes the velocity rough before it makes it right:
        where σ is given, weights grow tenfold per fit from what the unregistered residual
        justifies. An estimated σ does so by itself; `settle_noise` sees to it that it stands.
        Other similarities than the sum of squares have no σ.
        """
        if self.noise.estimated or not self._gaussian:
            for level in range(last_level + 1):
                self.estimate_noise(level)
                self.fit(level, tolerance=tolerance, max_iterations=max_iterations)
            return
        given, weight, level = self.noise, self._first_weight, 0
        while True:
            final = weight * ANNEALING >= given.weight
            sigma = given.sigma if final else math.sqrt(given.decimation / weight)
            self.noise = replace(given, sigma=sigma)
            self.fit(level, tolerance=tolerance, max_iterations=max_iterations)
            if final and level == last_level:
                return
            weight, level = weight * ANNEALING, min(level + 1, last_level)

    def settle_noise(self, level, *, tolerance, max_iterations):
        """Estimate the noise and fit, until the noise that was used stands."""
        self.estimate_noise(level)
        for _ in range(MAX_FITS):
            self.fit(level, tolerance=tolerance, max_iterations=max_iterations)
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
        before, self.noise = self.noise, self._estimate(level)
        return abs(math.log(self.noise.weight / before.weight))

    def _estimate(self, level):
        _, inside, volume = self.levels[level]
        return self.noise.of_residual(self.levels[level].residual(self.evaluation), inside, volume)

    def slope(self, level, posterior, exact, num_probes):
        """dF/d ln α (marginal) or ∂f/∂ ln α (joint) at the present velocity."""
        if posterior == "joint":
            return joint_slope(self.velocity, self.metric)
        result = ask(AlphaSlope(*self._minimum(level), exact, num_probes))
        self._drift = result.velocity
        return result

    def _minimum(self, level):
        """Where the solver is, on a level."""
        return self.problem(level), self.metric, self.velocity, self.evaluation.geodesic

    def voxels(self):
        """M: voxels of the mask or foreground, of the image."""
        return self._voxels

    def objective(self, prior, likelihood, metric=None):
        """Negative log posterior of (v₀, α), Eq. 6 (E1 to E3); Eq. 3 where there is no σ."""
        if not self._gaussian:
            return prior + likelihood
        metric = self.metric if metric is None else metric
        m = self.noise.decimation / self.noise.volume * self.voxels()
        p, s = metric.band.degrees_of_freedom, metric.velocity_scale
        return (
            prior
            + likelihood
            - 0.5 * metric.log_determinant(self.xp)
            + m * math.log(self.noise.sigma)
            + p * math.log(s)
            + 0.5 * (m + p) * math.log(2 * math.pi)
        )

    def _record(self, prior, likelihood, norm, problem):
        record = Record(
            len(self.history),
            problem.shape,
            self.metric.alpha,
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

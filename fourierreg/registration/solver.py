"""The state of one registration while it runs: velocity, α, noise, history."""

import math
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from fourierreg.backend import array_module
from fourierreg.image.voxels import residual_and_force
from fourierreg.registration import noise
from fourierreg.registration.hessian import PosteriorHessian, data_curvature
from fourierreg.registration.marginal import alpha_slope, joint_slope, velocity_drift
from fourierreg.registration.optimise import minimise
from fourierreg.registration.pyramid import at_shape, level_shapes
from fourierreg.spectral.band import inner

DRIFT_STEP = 0.05  # of ln α, on both sides, for the change of g with α
ANNEALING = 10.0  # factor between the weights of successive fits


class Record(NamedTuple):
    """One accepted iteration. Energies in nats; `objective` is Eq. 6 (errata E1 to E3)."""

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
    """σ and ρ; whether σ is estimated, and ρ with it unless it is fixed."""

    sigma: float
    decimation: float
    estimated: bool
    fixed_decimation: float | None = None

    @property
    def weight(self):
        """ρ/σ²."""
        return self.decimation / self.sigma**2


class Solver:
    """Alternates between the velocity, the noise and α on a pyramid of grids."""

    def __init__(self, problem, metric, noise_model, callback=None):
        xp = array_module(problem.source)
        self.xp, self.metric, self.callback = xp, metric, callback
        self.inside = noise.foreground(problem.source, problem.target, problem.mask)
        self.noise = noise_model
        coarse_steps = max(1, math.ceil(problem.num_steps / 2))
        unit = replace(problem, weight=1.0)
        self.levels = [
            at_shape(unit, shape, coarse_steps, xp)
            for shape in level_shapes(problem.source.shape, metric.band.cutoff)
        ]
        self.velocity = xp.zeros(
            (metric.band.ndim, *metric.band.coefficient_shape), dtype=np.complex128
        )
        self.evaluation = None
        self._first_weight = Noise(*noise.estimate(self._unregistered(), self.inside), True).weight
        self.update_noise()
        self.history = []
        self.began = time.perf_counter()
        self.settled = self.at_boundary = False

    def problem(self, level):
        """The problem of a level at the present noise."""
        unit = self.levels[level]
        return replace(unit, weight=unit.weight * self.noise.weight)

    def move_to(self, log_alpha, level):
        """Change α and carry the velocity along, to first order."""
        change = log_alpha - math.log(self.metric.alpha)
        if self.evaluation is not None and change != 0.0:
            curvature = data_curvature(self.problem(level), self.evaluation.geodesic)
            hessian = PosteriorHessian(self.metric, curvature)
            with threadpool_limits(1, user_api="blas"):
                self.velocity = self.velocity + change * velocity_drift(self.velocity, hessian)
        self.metric = self.metric.with_alpha(math.exp(log_alpha))

    def fit(self, level, *, tolerance=0.02, max_iterations=50):
        """Minimise over the velocity at the present α and noise."""
        problem = self.problem(level)

        def record(evaluation):
            self._record(evaluation, problem)

        result = minimise(
            problem,
            self.metric,
            self.velocity,
            tolerance=tolerance,
            max_iterations=max_iterations,
            on_iteration=record,
        )
        self.velocity, self.evaluation = result.velocity, result.evaluation
        self.settled, self.at_boundary = result.settled, result.at_boundary

    def restart(self):
        """Forget the velocity."""
        self.velocity, self.evaluation = self.xp.zeros_like(self.velocity), None

    def state(self):
        """What `resume` needs: α, velocity and evaluation."""
        return self.metric.alpha, self.velocity, self.evaluation

    def resume(self, state):
        """Go back to a `state`."""
        alpha, self.velocity, self.evaluation = state
        self.metric = self.metric.with_alpha(alpha)

    @property
    def anneals(self):
        """Whether `descend` passes through smaller weights than the given one."""
        return not self.noise.estimated and self._first_weight * ANNEALING < self.noise.weight

    def descend(self, last_level, *, tolerance, max_iterations):
        """From the coarsest grid to `last_level`, and from a weak likelihood to the given one.

        A small σ on images that are far apart makes the velocity rough before it makes it right:
        where σ is given, weights grow tenfold per fit from what the unregistered residual
        justifies. An estimated σ does so by itself.
        """
        given = self.noise
        weight, level = self._first_weight, 0
        while True:
            final = given.estimated or weight * ANNEALING >= given.weight
            if not given.estimated:
                sigma = given.sigma if final else math.sqrt(given.decimation / weight)
                self.noise = replace(given, sigma=sigma)
            self.fit(level, tolerance=tolerance, max_iterations=max_iterations)
            self.update_noise()
            if final and level == last_level:
                return
            weight, level = weight * ANNEALING, min(level + 1, last_level)

    def residual(self):
        """S∘φ₁⁻¹ - T of the present velocity on the finest grid."""
        finest = self.levels[-1]
        u = finest.displacement(self.evaluation.geodesic)
        return residual_and_force(finest.source, finest.target, u, finest.spacing)[0]

    def update_noise(self):
        """Estimate σ and ρ from the residual; returns the change of ln(ρ/σ²)."""
        if not self.noise.estimated:
            return 0.0
        before = self.noise.weight
        residual = self._unregistered() if self.evaluation is None else self.residual()
        sigma, decimation = noise.estimate(residual, self.inside)
        fixed = self.noise.fixed_decimation
        self.noise = Noise(sigma, decimation if fixed is None else fixed, True, fixed)
        return math.log(self.noise.weight / before)

    def _unregistered(self):
        finest = self.levels[-1]
        return finest.source - finest.target

    def slope(self, level, posterior, exact, num_probes):
        """dF/d ln α (marginal) or ∂f/∂ ln α (joint) at the present velocity."""
        if posterior == "joint":
            return joint_slope(self.velocity, self.metric)
        problem, v = self.problem(level), self.velocity
        with threadpool_limits(1, user_api="blas"):
            curvature = data_curvature(problem, self.evaluation.geodesic, exact)
            hessian = PosteriorHessian(self.metric, curvature)
            drift = DRIFT_STEP * velocity_drift(v, hessian)
            beside = [
                data_curvature(problem, problem.shoot(v + sign * drift, self.metric), exact)
                for sign in (-1.0, 1.0)
            ]
            return alpha_slope(v, hessian, beside, DRIFT_STEP, num_probes)

    def voxels(self):
        """M: voxels of the mask or foreground."""
        return float(self.xp.sum(self.inside))

    def objective(self, prior, likelihood):
        """Negative log posterior of (v₀, α), Eq. 6 with errata E1 to E3."""
        m = self.noise.decimation * self.voxels()
        p, s = self.metric.band.degrees_of_freedom, self.metric.velocity_scale
        return (
            prior
            + likelihood
            - 0.5 * self.metric.log_determinant(self.xp)
            + m * math.log(self.noise.sigma)
            + p * math.log(s)
            + 0.5 * (m + p) * math.log(2 * math.pi)
        )

    def _record(self, evaluation, problem):
        gradient = evaluation.gradient
        norm = math.sqrt(float(inner(gradient, gradient, self.metric.band, self.xp)))
        record = Record(
            len(self.history),
            tuple(problem.source.shape),
            self.metric.alpha,
            self.noise.sigma,
            self.noise.decimation,
            evaluation.prior,
            evaluation.likelihood,
            self.objective(evaluation.prior, evaluation.likelihood),
            norm,
            time.perf_counter() - self.began,
        )
        self.history.append(record)
        if self.callback is not None:
            self.callback(record)

"""Algorithm 1: gradient descent on the velocity and α together, with erratum E7 corrected.

As printed, α moves first, at v = 0 where it can only grow; the stop ratio is signed; either small
gradient ends everything; and nothing keeps α above zero. Here an initial registration at α₀ comes
first, the ratio is |ΔObj| / max(|Obj|, 1), both gradients must vanish, and the step is in ln α.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from fourierreg import checks
from fourierreg.model.laplace import joint_slope
from fourierreg.registration.fit_rows import admissible_start
from fourierreg.spectral.band import inner

GRADIENT_FLOOR = 1e-6  # squared norm below which a gradient has vanished, as printed
GROWTH, SHRINKAGE = 1.2, 0.5  # of the step sizes, after an accepted and a rejected step
MAX_CHANGE = 0.1  # of ln α in one step
SMALLEST_STEP = 1e-6  # of the first step: below it the line search has failed
GRADIENTS = ("jacobi", "exact")


@dataclass(frozen=True)
class GradientDescent:
    """Parameters of Algorithm 1.

    Parameters
    ----------
    epsilon : float
        Initial step size ε: v₀ -= ε (L/s² + `share` D)⁻¹ ∇f. Halved when the objective rises,
        multiplied by 1.2 when it falls.
    tau : float
        Step size τ: ln α -= τ (∂f/∂ln α) / ``|∂²f/∂(ln α)²|``, at most 0.1; halved and restored
        with ε.
    share : float
        Share of the data's mean curvature D in the metric of the step. 0 is the paper's step, along
        s² K ∇f, whose length is limited by the modes that the data determine best.
    max_iterations : int
        r, rejected steps included. (The initial registration is by quasi-Newton, with the
        `max_iterations` of `map_alpha`.)
    stop_rate : float
        u.
    min_stops : int
        q_min, the number of iterations with ``|ΔObj| / max(|Obj|, 1) < u`` that end it.
    gradient : {"jacobi", "exact"}
        Adjoint Jacobi fields (Eq. 9, the paper's), or the gradient of the discrete energy.
    """

    epsilon: float = 0.05
    tau: float = 0.5
    share: float = 0.1
    max_iterations: int = 5000
    stop_rate: float = 1e-6
    min_stops: int = 30
    gradient: str = "jacobi"

    def __post_init__(self):
        for name in ("epsilon", "tau", "stop_rate"):
            checks.positive(name, getattr(self, name))
        if self.share != 0:
            checks.positive("share", self.share)
        checks.count("max_iterations", self.max_iterations)
        checks.count("min_stops", self.min_stops)
        checks.choice("gradient", self.gradient, GRADIENTS)


@dataclass
class _Point:
    """A point of the descent; arrays are batches of one."""

    velocity: object
    metric: object
    evaluation: object
    objective: float

    @property
    def alpha(self):
        return self.metric.alphas[0]


class Descent:
    """Algorithm 1 on one grid of a `Multiresolution`, whose velocity, α and history it updates."""

    def __init__(self, state, level, options, prior=None):
        self.state, self.options, self.prior = state, options, prior
        self.problem = replace(state.problem(level), gradient=options.gradient)

    def register(self, recorded=True):
        """Descend on the velocity alone, at the present α; without history unless `recorded`."""
        return self._run(False, -math.inf, math.inf, recorded)

    def run(self, lower, upper):
        """Descend on both until the objective is stationary, or ln α leaves its limits."""
        return self._run(True, lower, upper, recorded=True)

    def slope(self):
        """∂f/∂ln α (Eq. 7, erratum E4) at the present state, the prior of α included."""
        return self._slope(self.state.velocity, self.state.metric)

    def _slope(self, velocity, metric):
        slope = joint_slope(velocity, metric).unstack()[0]
        return slope if self.prior is None else slope.plus(self.prior, metric.alphas[0])

    def _at(self, velocity, metric):
        evaluation = self.problem.evaluate(velocity, metric)
        energies = float(evaluation.prior[0]), float(evaluation.likelihood[0])
        objective = self.state.objective(*energies, metric)
        if self.prior is not None:
            objective += self.prior.value(metric.alphas[0])
        return _Point(velocity, metric, evaluation, objective)

    def _run(self, moves_alpha, lower, upper, recorded):
        """True unless ln α left its limits."""
        state, options = self.state, self.options
        start, _ = admissible_start(self.problem, state.metric, state.velocity)
        here = self._at(start, state.metric)
        problem = self.problem if recorded else None
        state.accept(here.velocity, here.metric, here.evaluation)
        step_size, alpha_step_size, stops = 1.0, 1.0, 0
        state.converged = state.at_boundary = False
        curvature = self.problem.curvature(here.evaluation.geodesic).diagonal
        self._data = options.share * curvature
        for _ in range(options.max_iterations):
            there = self._step(here, step_size, alpha_step_size if moves_alpha else 0.0)
            if there is None or (step_size < SMALLEST_STEP and not state.at_boundary):
                state.converged = True
                break
            if step_size < SMALLEST_STEP:
                break
            if not there.objective <= here.objective:  # also where it is not finite
                state.at_boundary = not math.isfinite(there.objective)
                step_size, alpha_step_size = step_size * SHRINKAGE, alpha_step_size * SHRINKAGE
                continue
            change = abs(there.objective - here.objective) / max(abs(there.objective), 1.0)
            step_size, alpha_step_size = step_size * GROWTH, min(alpha_step_size * GROWTH, 1.0)
            here = there
            state.accept(here.velocity, here.metric, here.evaluation, problem)
            state.at_boundary = False
            stops += change < options.stop_rate
            if stops >= options.min_stops:
                state.converged = True
                break
            if not lower <= math.log(here.alpha) <= upper:
                return False
        return True

    def _step(self, here, step_size, alpha_step_size):
        """The next point; None where both gradients have vanished."""
        options, metric = self.options, here.metric
        xp, gradient, change = self.state.xp, here.evaluation.gradient, 0.0
        squares = float(inner(gradient, metric.raise_(gradient), metric.band, xp)[0])
        if alpha_step_size > 0:
            slope = self._slope(here.velocity, metric)
            squares = max(squares, slope.value**2)
            change = -alpha_step_size * options.tau * slope.value / abs(slope.frozen_curvature)
            change = float(np.clip(change, -MAX_CHANGE, MAX_CHANGE))
        if squares < GRADIENT_FLOOR:
            return None
        scale = metric.symbol(xp) / metric.velocity_scale**2 + self._data
        moved = metric.with_alphas([here.alpha * math.exp(change)])
        step = (step_size * options.epsilon * gradient / scale).astype(gradient.dtype, copy=False)
        return self._at(here.velocity - step, moved)

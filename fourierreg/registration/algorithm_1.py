"""Algorithm 1: gradient descent on the velocity and α together, with erratum E7 repaired.

As printed, α moves first, at v = 0 where it can only grow; the stop ratio is signed; either small
gradient ends everything; and nothing keeps α above zero. Here an initial registration at α₀ comes
first, the ratio is |ΔObj| / max(|Obj|, 1), both gradients must vanish, and the step is one of ln α.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from fourierreg import checks
from fourierreg.model.laplace import joint_slope
from fourierreg.registration.optimise import admissible_start
from fourierreg.spectral.band import inner

GRADIENT_FLOOR = 1e-6  # of the squared norm of a gradient, as printed
GROWTH, SHRINKAGE = 1.2, 0.5  # of the step sizes, after an accepted and a refused step
MAX_CHANGE = 0.1  # of ln α in one step
SMALLEST_STEP = 1e-6  # of the first one: below it every direction has failed
GRADIENTS = ("jacobi", "exact")


@dataclass(frozen=True)
class GradientDescent:
    """Parameters of Algorithm 1.

    Parameters
    ----------
    epsilon : float
        First step size ε: v₀ -= ε (L/s² + `share` D)⁻¹ ∇f. Halved where the objective rises,
        times 1.2 where it falls.
    tau : float
        Step size τ: ln α -= τ (∂f/∂ln α) / |∂²f/∂(ln α)²|, at most 0.1; halved with ε, regained.
    share : float
        Of the data's mean curvature D in the metric of the step. 0 is the paper's step, along
        s² K ∇f, whose length the modes that the data determine best hold down for all others.
    max_iterations : int
        r, refused steps included. (The initial registration is one by quasi-Newton, with the
        `max_iterations` of `map_alpha`.)
    stop_rate : float
        u.
    min_stops : int
        q_min: iterations with |ΔObj| / max(|Obj|, 1) < u after which it ends.
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
    """Where the descent is."""

    velocity: object
    metric: object
    evaluation: object
    objective: float


class Descent:
    """Algorithm 1 on one grid of a `Solver`, whose velocity, α and history it moves."""

    def __init__(self, solver, level, options, prior=None):
        self.solver, self.options, self.prior = solver, options, prior
        self.problem = replace(solver.problem(level), gradient=options.gradient)

    def register(self, recorded=True):
        """Descend on the velocity alone, at the present α; no iterations where not `recorded`."""
        return self._run(False, -math.inf, math.inf, recorded)

    def run(self, lower, upper):
        """Descend on both until the objective stands, or ln α leaves its limits."""
        return self._run(True, lower, upper, recorded=True)

    def slope(self, velocity, metric):
        """∂f/∂ln α (Eq. 7, erratum E4), the prior of α included."""
        own, alpha = joint_slope(velocity, metric), metric.alpha
        return own if self.prior is None else own.plus(self.prior, alpha)

    def _at(self, velocity, metric):
        evaluation = self.problem.evaluate(velocity, metric)
        objective = self.solver.objective(evaluation.prior, evaluation.likelihood, metric)
        if self.prior is not None:
            objective += self.prior.value(metric.alpha)
        return _Point(velocity, metric, evaluation, objective)

    def _run(self, moves_alpha, lower, upper, recorded):
        """True unless ln α left its limits."""
        solver, options = self.solver, self.options
        start, _ = admissible_start(self.problem, solver.metric, solver.velocity)
        here = self._at(start, solver.metric)
        problem = self.problem if recorded else None
        solver.adopt(here.velocity, here.metric, here.evaluation)
        pace, alpha_pace, stops = 1.0, 1.0, 0
        solver.settled = solver.at_boundary = False
        curvature = self.problem.curvature(here.evaluation.geodesic).diagonal
        self._data = options.share * curvature
        for _ in range(options.max_iterations):
            there = self._step(here, pace, alpha_pace if moves_alpha else 0.0)
            if there is None or (pace < SMALLEST_STEP and not solver.at_boundary):
                solver.settled = True
                break
            if pace < SMALLEST_STEP:
                break
            if not there.objective <= here.objective:  # also where it is not finite
                solver.at_boundary = not math.isfinite(there.objective)
                pace, alpha_pace = pace * SHRINKAGE, alpha_pace * SHRINKAGE
                continue
            change = abs(there.objective - here.objective) / max(abs(there.objective), 1.0)
            pace, alpha_pace, here = pace * GROWTH, min(alpha_pace * GROWTH, 1.0), there
            solver.adopt(here.velocity, here.metric, here.evaluation, problem)
            solver.at_boundary = False
            stops += change < options.stop_rate
            if stops >= options.min_stops:
                solver.settled = True
                break
            if not lower <= math.log(here.metric.alpha) <= upper:
                return False
        return True

    def _step(self, here, pace, alpha_pace):
        """The next point; None where both gradients have vanished."""
        options, metric = self.options, here.metric
        xp = self.solver.xp
        gradient = here.evaluation.gradient
        squares, change = float(inner(gradient, metric.raise_(gradient), metric.band, xp)), 0.0
        if alpha_pace > 0:
            slope = self.slope(here.velocity, metric)
            squares = max(squares, slope.value**2)
            change = -alpha_pace * options.tau * slope.value / abs(slope.frozen_curvature)
            change = float(np.clip(change, -MAX_CHANGE, MAX_CHANGE))
        if squares < GRADIENT_FLOOR:
            return None
        scale = metric.symbol(xp) / metric.velocity_scale**2 + self._data
        moved = metric.with_alpha(metric.alpha * math.exp(change))
        step = (pace * options.epsilon * gradient / scale).astype(gradient.dtype, copy=False)
        return self._at(here.velocity - step, moved)

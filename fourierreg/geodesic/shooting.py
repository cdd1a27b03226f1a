"""Shooting: integrate a velocity from t = 0 to 1, with the exact discrete tangent and adjoint.

The rate is that of one of the `DYNAMICS`: EPDiff, whose solutions are geodesics, or a stationary
velocity. This is "discretize, then differentiate": the adjoint is that of the Euler or Runge-Kutta
steps taken, so the gradient of any function of the end point is exact to rounding, whatever the
step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module
from fourierreg.geodesic import epdiff, stationary
from fourierreg.geodesic.state import AnyMetric, Onto, join_state, split_state
from fourierreg.spectral.metric import MetricBatch
from fourierreg.spectral.transform import synthesis

INTEGRATORS = ("euler", "rk4")
DYNAMICS = {"epdiff": epdiff, "stationary": stationary}


@dataclass(frozen=True)
class Geodesic:
    """A trajectory (v_t, u_t), t = 0, 1/n, …, 1, as coefficients of the band.

    (A geodesic where the dynamics are "epdiff"; the flow of a constant velocity where they are
    "stationary".)

    Attributes
    ----------
    metric : Metric or MetricBatch
    states : tuple of arrays, each ``(…, 2, d, *band)``
    integrator : {"euler", "rk4"}
    dynamics : {"epdiff", "stationary"}
    stages : tuple or None
        For every step, the stages of the integrator evaluated on the product grid, at which
        `tangent` and `pull_back` linearize. If None, they are recomputed when needed.
    """

    metric: AnyMetric
    states: tuple[Array, ...]
    integrator: str = "euler"
    dynamics: str = "epdiff"
    stages: tuple[Sequence[Any], ...] | None = None

    @property
    def num_steps(self) -> int:
        """Number of steps from t = 0 to t = 1."""
        return len(self.states) - 1

    def select(self, pairs: Sequence[int]) -> "Geodesic":
        """The geodesics of some pairs of a batch (the first axis of the states), without stages."""
        if not isinstance(self.metric, MetricBatch):
            raise TypeError("select needs the geodesics of a batch of pairs; this is a single one")
        states = tuple(state[list(pairs)] for state in self.states)
        return Geodesic(self.metric.select(pairs), states, self.integrator, self.dynamics)

    def velocity(self, step: int = -1) -> Array:
        """Velocity after `step` steps, ``(…, d, *band)``."""
        return split_state(self.states[step], self.metric)[0]

    def displacement_coefficients(self, step: int = -1) -> Array:
        """Displacement of the inverse map after `step` steps, ``(…, d, *band)``."""
        return split_state(self.states[step], self.metric)[1]

    def displacement(self, step: int = -1, dtype: type = np.float32) -> Array:
        """Displacement u of the inverse map, φ⁻¹(x) = x + u(x), on the image grid, in mm."""
        u, band = self.displacement_coefficients(step), self.metric.band
        return synthesis(u, band, band.shape, dtype, array_module(u))


def shoot(
    velocity: Array,
    metric: AnyMetric,
    *,
    num_steps: int = 10,
    integrator: str = "rk4",
    dynamics: str = "epdiff",
    linearize: bool = False,
) -> Geodesic:
    """Shoot from an initial velocity (Eq. 1 and 2, erratum E6).

    Parameters
    ----------
    velocity : complex array, shape ``(…, d, *band)``
        Coefficients of v₀ in mm per unit time; leading axes are batch axes. Complex64 is
        integrated in single precision.
    metric : Metric or MetricBatch
    num_steps : int
    integrator : {"rk4", "euler"}
    dynamics : {"epdiff", "stationary"}
        A geodesic, or the flow of a velocity that is constant in time.
    linearize : bool
        Store the stages that `tangent` and `pull_back` need: a quarter less work for them, for the
        memory of 2d (d + 1) fields on the product grid per stage.

    Returns
    -------
    Geodesic

    Raises
    ------
    InputError
        `num_steps` is not a positive integer, or an unknown integrator or dynamics.
    """
    checks.count("num_steps", num_steps)
    checks.choice("integrator", integrator, INTEGRATORS)
    checks.choice("dynamics", dynamics, tuple(DYNAMICS))
    xp, dt = array_module(velocity), 1.0 / num_steps
    states = [join_state(velocity, xp.zeros_like(velocity), metric, xp)]
    stages: list[Sequence[Any]] = []
    for _ in range(num_steps):
        points, state = _step(states[-1], metric, dt, integrator, DYNAMICS[dynamics])
        states.append(state)
        if linearize:
            stages.append(points)
    return Geodesic(
        metric, tuple(states), integrator, dynamics, tuple(stages) if linearize else None
    )


def tangent(geodesic: Geodesic, direction: Array) -> Array:
    """Derivative of the end displacement with respect to v₀ along a direction.

    Parameters
    ----------
    geodesic : Geodesic
    direction : complex array, ``(…, d, *band)``

    Returns
    -------
    complex array, ``(…, d, *band)``
        Exact for the discrete flow, in the precision of the geodesic.
    """
    metric, dynamics = geodesic.metric, DYNAMICS[geodesic.dynamics]
    xp, dt = array_module(direction), 1.0 / geodesic.num_steps
    direction = direction.astype(geodesic.states[0].dtype, copy=False)
    delta = join_state(direction, xp.zeros_like(direction), metric, xp)
    for step in range(geodesic.num_steps):
        points = _stages(geodesic, step)
        if geodesic.integrator == "euler":
            delta = dynamics.rate_tangent(*points, delta, metric, Onto(delta, 1.0, dt))
            continue
        arguments = [delta]
        for point, weight in zip(points, _RK4_WEIGHTS, strict=False):
            onto = Onto(delta, 1.0, weight * dt)
            arguments.append(dynamics.rate_tangent(point, arguments[-1], metric, onto))
        onto = Onto(_combination(arguments), 1.0, dt / 6)
        delta = dynamics.rate_tangent(points[-1], arguments[-1], metric, onto)
    return split_state(delta, metric)[1]


def pull_back(geodesic: Geodesic, covector: Array) -> Array:
    """Gradient at t = 0, in the metric, of a function of the end displacement.

    It is the transpose of `tangent` applied to the function's L² gradient, raised by K.

    Parameters
    ----------
    geodesic : Geodesic
    covector : complex array, ``(…, d, *band)``
        L² gradient of the function with respect to the end displacement.

    Returns
    -------
    complex array, ``(…, d, *band)``
        Gradient with respect to v₀ in the metric, in the precision of the geodesic; its L² gradient
        is ``metric.lower`` of it.
    """
    metric, dynamics = geodesic.metric, DYNAMICS[geodesic.dynamics]
    xp, dt = array_module(covector), 1.0 / geodesic.num_steps
    covector = covector.astype(geodesic.states[0].dtype, copy=False)
    back = join_state(xp.zeros_like(covector), covector, metric, xp)
    for step in reversed(range(geodesic.num_steps)):
        points = _stages(geodesic, step)
        if geodesic.integrator == "euler":
            back = dynamics.rate_adjoint(*points, back, metric, Onto(back, 1.0, dt))
            continue
        seeds = [dt / 6 * back]  # what each stage pulls back, last stage first
        for point, keep, weight in zip(reversed(points), *_RK4_ADJOINT_WEIGHTS, strict=False):
            onto = Onto(back, keep * dt, weight * dt)
            seeds.append(dynamics.rate_adjoint(point, seeds[-1], metric, onto))
        onto = Onto(_adjoint_combination(back, seeds, dt), 1.0, 1.0)
        back = dynamics.rate_adjoint(points[0], seeds[-1], metric, onto)
    return split_state(back, metric)[0]


_RK4_WEIGHTS = (0.5, 0.5, 1.0)  # of the rates of the first three stages in the next argument
# Of the end point, and of what a later stage has pulled back, in the seeds of stages 3, 2, 1.
_RK4_ADJOINT_WEIGHTS = ((1 / 3, 1 / 3, 1 / 6), (1.0, 0.5, 0.5))


def _combination(arguments: Sequence[Array]) -> Array:
    """x + dt/6 (k_1 + 2 k_2 + 2 k_3) of a Runge-Kutta step, from the arguments x, x + dt/2 k_1,
    x + dt/2 k_2 and x + dt k_3 of its stages."""
    first, second, third, fourth = arguments
    return (second + 2 * third + fourth - first) / 3


def _adjoint_combination(back: Array, seeds: Sequence[Array], dt: float) -> Array:
    """The end point plus what stages 4, 3 and 2 have pulled back, from the seeds 4, 3, 2, 1."""
    _, third, second, first = seeds
    return (third + 2 * (second + first)) / dt - back / 3


def _stages(geodesic: Geodesic, step: int) -> Sequence[Any]:
    """Stages of a step on the product grid, stored or recomputed."""
    if geodesic.stages is not None:
        return geodesic.stages[step]
    state, dynamics = geodesic.states[step], DYNAMICS[geodesic.dynamics]
    if geodesic.integrator == "euler":
        return [dynamics.evaluate_on_grid(state, geodesic.metric)]
    return _step(state, geodesic.metric, 1.0 / geodesic.num_steps, "rk4", dynamics)[0]


def _step(
    state: Array, metric: AnyMetric, dt: float, integrator: str, dynamics: ModuleType
) -> tuple[Sequence[Any], Array]:
    """One step: its stages on the product grid, and the new state."""
    stages = [dynamics.evaluate_on_grid(state, metric)]
    if integrator == "euler":
        return stages, dynamics.rate(state, stages[0], metric, Onto(state, 1.0, dt))
    arguments = [state]
    for weight in _RK4_WEIGHTS:
        onto = Onto(state, 1.0, weight * dt)
        arguments.append(dynamics.rate(arguments[-1], stages[-1], metric, onto))
        stages.append(dynamics.evaluate_on_grid(arguments[-1], metric))
    onto = Onto(_combination(arguments), 1.0, dt / 6)
    return stages, dynamics.rate(arguments[-1], stages[-1], metric, onto)

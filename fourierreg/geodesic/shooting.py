"""Shooting: integrate a rate from t = 0 to 1, and its exact discrete tangent and adjoint.

The rate is that of a `DYNAMICS`: EPDiff, whose solutions are geodesics, or a stationary velocity.
Discretise, then differentiate: the adjoint is that of the very Euler or Runge-Kutta steps taken,
so the gradient of any function of the end point is exact to rounding, whatever the step.
"""

from dataclasses import dataclass

import numpy as np

from fourierreg import checks
from fourierreg.backend import array_module
from fourierreg.geodesic import epdiff, stationary
from fourierreg.geodesic.state import join, parts
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.transform import synthesis

INTEGRATORS = ("euler", "rk4")
DYNAMICS = {"epdiff": epdiff, "stationary": stationary}


@dataclass(frozen=True)
class Geodesic:
    """A trajectory (v_t, u_t), t = 0, 1/n, …, 1, as coefficients of the band.

    (A geodesic where the dynamics are "epdiff"; the flow of one velocity where "stationary".)

    Attributes
    ----------
    metric : Metric
    states : tuple of arrays, each (…, 2, d, *band)
    integrator : {"euler", "rk4"}
    dynamics : {"epdiff", "stationary"}
    points : tuple or None
        For every step, its stages on the product grid, where `tangent` and `pull_back` linearize;
        None: they are computed again when needed.
    """

    metric: Metric
    states: tuple
    integrator: str = "euler"
    dynamics: str = "epdiff"
    points: tuple | None = None

    @property
    def num_steps(self):
        """Steps taken from t = 0 to t = 1."""
        return len(self.states) - 1

    def one(self, pair, metric):
        """That of one of many pairs, whose own metric is given; linearised anew when needed."""
        states = tuple(state[pair].copy() for state in self.states)
        return Geodesic(metric, states, self.integrator, self.dynamics)

    def velocity(self, step=-1):
        """Velocity after `step` steps, (…, d, *band)."""
        return parts(self.states[step], self.metric)[0]

    def displacement_coefficients(self, step=-1):
        """Displacement of the inverse map after `step` steps, (…, d, *band)."""
        return parts(self.states[step], self.metric)[1]

    def displacement(self, step=-1, dtype=np.float32):
        """Displacement u of the inverse map, φ⁻¹(x) = x + u(x), on the image grid, in mm."""
        u, band = self.displacement_coefficients(step), self.metric.band
        return synthesis(u, band, band.shape, dtype, array_module(u))


def shoot(
    velocity, metric, *, num_steps=10, integrator="euler", dynamics="epdiff", linearize=False
):
    """Shoot from an initial velocity (Eq. 1 and 2, erratum E6).

    Parameters
    ----------
    velocity : complex array, shape (…, d, *band)
        Coefficients of v₀ in mm per unit time; leading axes are batch axes. Complex64 is
        integrated in single precision.
    metric : Metric
    num_steps : int
    integrator : {"euler", "rk4"}
    dynamics : {"epdiff", "stationary"}
        A geodesic, or the flow of a velocity that stays what it is.
    linearize : bool
        Keep what `tangent` and `pull_back` need: a quarter less work for them, for the memory of
        2d (d + 1) fields on the product grid per stage.

    Returns
    -------
    Geodesic

    Raises
    ------
    ValueError, TypeError
        `num_steps` is no count; an integrator or dynamics that there is not.
    """
    checks.count("num_steps", num_steps)
    checks.choice("integrator", integrator, INTEGRATORS)
    checks.choice("dynamics", dynamics, tuple(DYNAMICS))
    xp, dt = array_module(velocity), 1.0 / num_steps
    states, points = [join(velocity, xp.zeros_like(velocity), metric, xp)], []
    for _ in range(num_steps):
        stages, state = _step(states[-1], metric, dt, integrator, DYNAMICS[dynamics])
        states.append(state)
        points.append(stages if linearize else None)
    kept = tuple(points) if linearize else None
    return Geodesic(metric, tuple(states), integrator, dynamics, kept)


def tangent(geodesic, direction):
    """Derivative of the end displacement along `direction` of v₀, (…, d, *band), exact, in the
    precision of the geodesic."""
    metric, dynamics = geodesic.metric, DYNAMICS[geodesic.dynamics]
    xp, dt = array_module(direction), 1.0 / geodesic.num_steps
    direction = direction.astype(geodesic.states[0].dtype, copy=False)
    delta = join(direction, xp.zeros_like(direction), metric, xp)
    for step in range(geodesic.num_steps):
        if geodesic.integrator == "euler":
            delta = dynamics.rate_tangent(*_points(geodesic, step), delta, metric, step=dt)
            continue
        rates = []
        for point, weight in zip(_points(geodesic, step), (0.0, 0.5, 0.5, 1.0), strict=False):
            moved = delta + weight * dt * rates[-1] if rates else delta
            rates.append(dynamics.rate_tangent(point, moved, metric))
        delta = _advance(delta, rates, dt)
    return parts(delta, metric)[1]


def pull_back(geodesic, covector):
    """Transpose of `tangent`, raised by K: the V-gradient at t = 0 of a function of u at t = 1.

    Parameters
    ----------
    geodesic : Geodesic
    covector : complex array, (…, d, *band)
        L² gradient of the function with respect to the end displacement.

    Returns
    -------
    complex array, (…, d, *band)
        Gradient with respect to v₀ in the metric, in the precision of the geodesic; its L² gradient
        is ``metric.lower`` of it.
    """
    metric, dynamics = geodesic.metric, DYNAMICS[geodesic.dynamics]
    xp, dt = array_module(covector), 1.0 / geodesic.num_steps
    covector = covector.astype(geodesic.states[0].dtype, copy=False)
    back = join(xp.zeros_like(covector), covector, metric, xp)
    for step in reversed(range(geodesic.num_steps)):
        stages = _points(geodesic, step)
        if geodesic.integrator == "euler":
            back = dynamics.rate_adjoint(*stages, back, metric, step=dt)
            continue
        total, pulled = back, None
        for point, weight, carry in zip(reversed(stages), *_RK4_TRANSPOSED, strict=True):
            seed = weight * dt * back
            if pulled is not None:
                seed = seed + carry * dt * pulled
            pulled = dynamics.rate_adjoint(point, seed, metric)
            total = total + pulled
        back = total
    return parts(back, metric)[0]


# Last stage first: weight of a stage in the step, and in the argument of the stage after it.
_RK4_TRANSPOSED = ((1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 1.0, 0.5, 0.5))


def _points(geodesic, step):
    """Stages of a step on the product grid."""
    if geodesic.points is not None:
        return geodesic.points[step]
    state, dynamics = geodesic.states[step], DYNAMICS[geodesic.dynamics]
    if geodesic.integrator == "euler":
        return [dynamics.on_grid(state, geodesic.metric)]
    return _step(state, geodesic.metric, 1.0 / geodesic.num_steps, "rk4", dynamics)[0]


def _step(state, metric, dt, integrator, dynamics):
    """One step: the points at which it takes the rate, and where it ends."""
    points = [dynamics.on_grid(state, metric)]
    if integrator == "euler":
        return points, dynamics.rate(state, points[0], metric, step=dt)
    rates = [dynamics.rate(state, points[0], metric)]
    for weight in (0.5, 0.5, 1.0):
        moved = state + weight * dt * rates[-1]
        points.append(dynamics.on_grid(moved, metric))
        rates.append(dynamics.rate(moved, points[-1], metric))
    return points, _advance(state, rates, dt)


def _advance(state, rates, dt):
    """A classical Runge-Kutta step from its four rates."""
    k1, k2, k3, k4 = rates
    return state + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

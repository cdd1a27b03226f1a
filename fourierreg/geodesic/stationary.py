"""Stationary velocity fields: dv/dt = 0 and du/dt = -v - (Du) v, with tangent and adjoint.

The same interface as `fourierreg.geodesic.epdiff`. The end map is the exponential exp(-v) of one
velocity (Arsigny et al. 2006), the other model to which the paper says its method applies.
"""

from typing import NamedTuple

from fourierreg.backend import Array, array_module
from fourierreg.geodesic.lie import apply_matrix, apply_transpose, outer
from fourierreg.geodesic.state import AnyMetric, Onto, join_state, split_state
from fourierreg.spectral.operators import divergence, jacobian
from fourierreg.spectral.product_grid import stack_from_grid, stack_to_grid


class GridState(NamedTuple):
    """Fields of a state on the product grid, at which the rate is linearized."""

    v: Array
    du: Array


def evaluate_on_grid(state: Array, metric: AnyMetric) -> GridState:
    """Evaluate v and Du of a state (or of a direction) on the product grid."""
    xp, band = array_module(state), metric.band
    v, u = split_state(state, metric)
    return GridState(*stack_to_grid([v, jacobian(u, band, xp)], band, xp))


def rate(state: Array, point: GridState, metric: AnyMetric, onto: Onto | None = None) -> Array:
    """dv/dt = 0 and du/dt = -v - (Du) v (Eq. 1)."""
    xp = array_module(state)
    v, _ = split_state(state, metric)
    (advected,) = stack_from_grid([apply_matrix(point.du, point.v, xp)], metric.band, xp)
    return _apply(join_state(xp.zeros_like(v), -v - advected, metric, xp), onto)


def rate_tangent(
    point: GridState, direction: Array, metric: AnyMetric, onto: Onto | None = None
) -> Array:
    """Derivative of `rate` at `point` along `direction` (which may carry batch axes)."""
    xp = array_module(direction)
    w, _ = split_state(direction, metric)
    delta = evaluate_on_grid(direction, metric)
    change = apply_matrix(delta.du, point.v, xp) + apply_matrix(point.du, delta.v, xp)
    (advected,) = stack_from_grid([change], metric.band, xp)
    return _apply(join_state(xp.zeros_like(w), -w - advected, metric, xp), onto)


def rate_adjoint(
    point: GridState, covector: Array, metric: AnyMetric, onto: Onto | None = None
) -> Array:
    """Transpose of `rate_tangent` applied to a covector (y, μ) (which may carry batch axes).

    y: -K(μ + (Du)ᵀ μ);  μ: ∇·(μ ⊗ v). The velocity is constant, so y does not enter.
    """
    xp, band = array_module(covector), metric.band
    _, mu = split_state(covector, metric)
    (mu_,) = stack_to_grid([mu], band, xp)
    du_mu, flux = stack_from_grid(
        [apply_transpose(point.du, mu_, xp), outer(mu_, point.v)], band, xp
    )
    pulled = join_state(-metric.raise_(mu + du_mu), divergence(flux, band, xp), metric, xp)
    return _apply(pulled, onto)


def _apply(rate: Array, onto: Onto | None) -> Array:
    """The rate, or what is asked for instead."""
    return rate if onto is None else onto.keep * onto.base + onto.step * rate

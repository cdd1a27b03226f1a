"""Stationary velocity fields: dv/dt = 0 and du/dt = -v - (Du) v, with tangent and adjoint.

The same interface as `fourierreg.geodesic.epdiff`. The end map is the exponential exp(-v) of one
velocity (Arsigny et al. 2006), which the paper names as the other model its method serves.
"""

from typing import NamedTuple

from fourierreg.backend import array_module
from fourierreg.geodesic.lie import apply_matrix, apply_transpose, outer
from fourierreg.geodesic.state import join, parts
from fourierreg.spectral.operators import divergence, jacobian
from fourierreg.spectral.product_grid import stack_from_grid, stack_to_grid


class Point(NamedTuple):
    """A state on the product grid: v and Du, where the rate is linearised."""

    v: object
    du: object


def on_grid(state, metric):
    """The `Point` of a state (or of a direction, which is of the same kind)."""
    xp, band = array_module(state), metric.band
    v, u = parts(state, metric)
    return Point(*stack_to_grid([v, jacobian(u, band, xp)], band, xp))


def rate(state, point, metric, step=None):
    """dv/dt = 0 and du/dt = -v - (Du) v (Eq. 1)."""
    xp = array_module(state)
    v, _ = parts(state, metric)
    (advected,) = stack_from_grid([apply_matrix(point.du, point.v, xp)], metric.band, xp)
    return _moved(state, join(xp.zeros_like(v), -v - advected, metric, xp), step)


def rate_tangent(point, direction, metric, step=None):
    """Derivative of `rate` at `point` along `direction` (which may carry batch axes)."""
    xp = array_module(direction)
    w, _ = parts(direction, metric)
    delta = on_grid(direction, metric)
    change = apply_matrix(delta.du, point.v, xp) + apply_matrix(point.du, delta.v, xp)
    (advected,) = stack_from_grid([change], metric.band, xp)
    return _moved(direction, join(xp.zeros_like(w), -w - advected, metric, xp), step)


def rate_adjoint(point, covector, metric, step=None):
    """Transpose of `rate_tangent` applied to a covector (y, μ) (which may carry batch axes).

    y: -K(μ + (Du)ᵀ μ);  μ: ∇·(μ ⊗ v). The velocity stays, so y itself comes back unchanged.
    """
    xp, band = array_module(covector), metric.band
    _, mu = parts(covector, metric)
    (mu_,) = stack_to_grid([mu], band, xp)
    carried, flux = stack_from_grid(
        [apply_transpose(point.du, mu_, xp), outer(mu_, point.v)], band, xp
    )
    pulled = join(-metric.raise_(mu + carried), divergence(flux, band, xp), metric, xp)
    return _moved(covector, pulled, step)


def _moved(state, rate, step):
    return rate if step is None else state + step * rate

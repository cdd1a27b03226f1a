"""EPDiff, the right-hand side of geodesic shooting, with its tangent and its adjoint."""

from typing import NamedTuple

from fourierreg.backend import array_module
from fourierreg.geodesic.lie import apply_matrix, apply_transpose, outer
from fourierreg.geodesic.state import join, parts
from fourierreg.spectral.operators import divergence, jacobian
from fourierreg.spectral.products import stack_from_grid, stack_to_grid


class Point(NamedTuple):
    """A state on the product grid: v, m = L v, Dv and Du, where the rate is linearised."""

    v: object
    m: object
    dv: object
    du: object


def on_grid(state, metric):
    """The `Point` of a state (or of a direction, which is of the same kind)."""
    xp, band = array_module(state), metric.band
    v, u = parts(state, metric)
    fields = [v, metric.lower(v), jacobian(v, band, xp), jacobian(u, band, xp)]
    return Point(*stack_to_grid(fields, band, xp))


def rate(state, point, metric):
    """dv/dt = -ad†_v v (Eq. 2, erratum E6) and du/dt = -v - (Du) v (Eq. 1)."""
    xp, band = array_module(state), metric.band
    v, _ = parts(state, metric)
    carried, advected, flux = stack_from_grid(
        [
            apply_transpose(point.dv, point.m, xp),
            apply_matrix(point.du, point.v, xp),
            outer(point.m, point.v),
        ],
        band,
        xp,
    )
    return join(-metric.raise_(carried + divergence(flux, band, xp)), -v - advected, metric, xp)


def rate_tangent(point, direction, metric):
    """Derivative of `rate` at `point` along `direction` (which may carry batch axes)."""
    xp, band = array_module(direction), metric.band
    w, _ = parts(direction, metric)
    delta = on_grid(direction, metric)
    carried, advected, flux = stack_from_grid(
        [
            apply_transpose(delta.dv, point.m, xp) + apply_transpose(point.dv, delta.m, xp),
            apply_matrix(delta.du, point.v, xp) + apply_matrix(point.du, delta.v, xp),
            outer(delta.m, point.v) + outer(point.m, delta.v),
        ],
        band,
        xp,
    )
    return join(-metric.raise_(carried + divergence(flux, band, xp)), -w - advected, metric, xp)


def rate_adjoint(point, covector, metric):
    """Transpose of `rate_tangent` applied to a covector (y, μ) (which may carry batch axes).

    y: -ad_v y + ad†_y v - K(μ + (Du)ᵀ μ);  μ: ∇·(μ ⊗ v). The first two terms are the adjoint
    Jacobi equation (Eq. 9, erratum E6).
    """
    xp, band = array_module(covector), metric.band
    y, mu = parts(covector, metric)
    y_, mu_, dy = stack_to_grid([y, mu, jacobian(y, band, xp)], band, xp)
    bracket, carried, flux, flux_mu = stack_from_grid(
        [
            apply_matrix(point.dv, y_, xp) - apply_matrix(dy, point.v, xp),
            apply_transpose(dy, point.m, xp) - apply_transpose(point.du, mu_, xp),
            outer(point.m, y_),
            outer(mu_, point.v),
        ],
        band,
        xp,
    )
    back = metric.raise_(carried + divergence(flux, band, xp) - mu)
    return join(back - bracket, divergence(flux_mu, band, xp), metric, xp)

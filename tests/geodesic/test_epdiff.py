"""The rate of geodesic shooting, its tangent and its adjoint."""

import numpy as np

from fourierreg.geodesic import epdiff
from fourierreg.geodesic.lie import ad_dagger
from fourierreg.spectral.band import inner
from fourierreg.spectral.operators import derivative
from fourierreg.spectral.transform import synthesis
from tests import laws
from tests.fields import velocity


def state(metric, seed, xp, size=None):
    """A random (v, u)."""
    return epdiff.join(velocity(metric, seed, size), velocity(metric, seed + 100, size), metric, xp)


def rate(x, metric):
    return epdiff.rate(x, epdiff.on_grid(x, metric), metric)


def mixed(metric, xp):
    """Pairing of states with covectors: the metric for v, the mean over voxels for u."""

    def pairing(a, b):
        (v, u), (y, mu) = epdiff.parts(a, metric), epdiff.parts(b, metric)
        return metric.inner(v, y) + inner(u, mu, metric.band, xp)

    return pairing


def test_parts_undo_join(metric, xp):
    v, u = velocity(metric, 0, 2), velocity(metric, 1, 2)
    halves = epdiff.parts(epdiff.join(v, u, metric, xp), metric)
    laws.close(halves[0], v, rtol=0.0)
    laws.close(halves[1], u, rtol=0.0)


def test_velocity_obeys_epdiff(metric, xp):
    # dv/dt = -ad†_v v (Eq. 2, erratum E6)
    x = state(metric, 0, xp)
    v, _ = epdiff.parts(x, metric)
    laws.close(epdiff.parts(rate(x, metric), metric)[0], -ad_dagger(v, v, metric))


def test_displacement_is_carried(metric, xp):
    # du/dt = -v - (Du) v: the mean of (Du) v over voxels is that of -u ∇·v, exactly.
    x, band = state(metric, 0, xp), metric.band
    v, u = epdiff.parts(x, metric)
    advected = -epdiff.parts(rate(x, metric), metric)[1] - v
    zero = (0,) * band.ndim
    shape = band.product_shape
    spread = xp.sum(derivative(band, xp) * v, axis=0)
    u_, spread_ = (synthesis(f, band, shape, np.float64, xp) for f in (u, spread))
    for i in range(band.ndim):
        laws.close(advected[(i, *zero)].real, -xp.mean(u_[i] * spread_))


def test_tangent_is_the_derivative_of_the_rate(metric, xp):
    x, direction = state(metric, 0, xp), state(metric, 1, xp)
    point = epdiff.on_grid(x, metric)
    slope = epdiff.rate_tangent(point, direction, metric)
    laws.derivative(lambda y: rate(y, metric), x, direction, slope, h=0.1)


def test_adjoint_is_that_of_the_tangent(metric, xp):
    point = epdiff.on_grid(state(metric, 0, xp), metric)
    pairing = mixed(metric, xp)
    laws.adjoint(
        lambda x: epdiff.rate_tangent(point, x, metric),
        lambda y: epdiff.rate_adjoint(point, y, metric),
        state(metric, 1, xp),
        state(metric, 2, xp),
        pairing,
        pairing,
    )


def test_tangent_and_adjoint_are_linear(metric, xp):
    point = epdiff.on_grid(state(metric, 0, xp), metric)
    x, y = state(metric, 1, xp), state(metric, 2, xp)
    laws.linear(lambda w: epdiff.rate_tangent(point, w, metric), x, y)
    laws.linear(lambda w: epdiff.rate_adjoint(point, w, metric), x, y)


def test_directions_may_be_batched(metric, xp):
    point = epdiff.on_grid(state(metric, 0, xp), metric)
    directions = state(metric, 1, xp, size=2)
    for operator in (epdiff.rate_tangent, epdiff.rate_adjoint):
        together = operator(point, directions, metric)
        for i in range(2):
            laws.close(together[i], operator(point, directions[i], metric))

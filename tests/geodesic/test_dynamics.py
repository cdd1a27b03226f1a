"""Laws of every dynamics: the rate, its tangent and its adjoint."""

import numpy as np
import pytest

from fourierreg.geodesic.shooting import DYNAMICS
from fourierreg.geodesic.state import join, parts
from fourierreg.spectral.band import inner
from fourierreg.spectral.operators import derivative
from fourierreg.spectral.transform import synthesis
from tests import laws
from tests.fields import velocity


@pytest.fixture(params=DYNAMICS.values(), ids=DYNAMICS.keys())
def dynamics(request):
    return request.param


def state(metric, seed, xp, size=None):
    """A random (v, u)."""
    return join(velocity(metric, seed, size), velocity(metric, seed + 100, size), metric, xp)


def rate(x, metric, dynamics):
    return dynamics.rate(x, dynamics.on_grid(x, metric), metric)


def mixed(metric, xp):
    """Pairing of states with covectors: the metric for v, the mean over voxels for u."""

    def pairing(a, b):
        (v, u), (y, mu) = parts(a, metric), parts(b, metric)
        return metric.inner(v, y) + inner(u, mu, metric.band, xp)

    return pairing


def test_parts_undo_join(metric, xp):
    v, u = velocity(metric, 0, 2), velocity(metric, 1, 2)
    halves = parts(join(v, u, metric, xp), metric)
    laws.close(halves[0], v, rtol=0.0)
    laws.close(halves[1], u, rtol=0.0)


def test_displacement_is_carried(metric, xp, dynamics):
    # du/dt = -v - (Du) v: the mean of (Du) v over voxels is that of -u ∇·v, exactly.
    x, band = state(metric, 0, xp), metric.band
    v, u = parts(x, metric)
    advected = -parts(rate(x, metric, dynamics), metric)[1] - v
    zero = (0,) * band.ndim
    shape = band.product_shape
    spread = xp.sum(derivative(band, xp) * v, axis=0)
    u_, spread_ = (synthesis(f, band, shape, np.float64, xp) for f in (u, spread))
    for i in range(band.ndim):
        laws.close(advected[(i, *zero)].real, -xp.mean(u_[i] * spread_))


def test_a_step_is_the_state_and_a_share_of_the_rate(metric, xp, dynamics):
    x, y = state(metric, 0, xp), state(metric, 1, xp)
    point = dynamics.on_grid(x, metric)
    step = dynamics.rate(x, point, metric, step=0.2)
    laws.close(step, x + 0.2 * dynamics.rate(x, point, metric))
    for linearised in (dynamics.rate_tangent, dynamics.rate_adjoint):
        laws.close(linearised(point, y, metric, step=0.2), y + 0.2 * linearised(point, y, metric))


def test_tangent_is_the_derivative_of_the_rate(metric, xp, dynamics):
    x, direction = state(metric, 0, xp), state(metric, 1, xp)
    point = dynamics.on_grid(x, metric)
    slope = dynamics.rate_tangent(point, direction, metric)
    laws.derivative(lambda y: rate(y, metric, dynamics), x, direction, slope, h=0.1)


def test_adjoint_is_that_of_the_tangent(metric, xp, dynamics):
    point = dynamics.on_grid(state(metric, 0, xp), metric)
    pairing = mixed(metric, xp)
    laws.adjoint(
        lambda x: dynamics.rate_tangent(point, x, metric),
        lambda y: dynamics.rate_adjoint(point, y, metric),
        state(metric, 1, xp),
        state(metric, 2, xp),
        pairing,
        pairing,
    )


def test_tangent_and_adjoint_are_linear(metric, xp, dynamics):
    point = dynamics.on_grid(state(metric, 0, xp), metric)
    x, y = state(metric, 1, xp), state(metric, 2, xp)
    laws.linear(lambda w: dynamics.rate_tangent(point, w, metric), x, y)
    laws.linear(lambda w: dynamics.rate_adjoint(point, w, metric), x, y)


def test_directions_may_be_batched(metric, xp, dynamics):
    point = dynamics.on_grid(state(metric, 0, xp), metric)
    directions = state(metric, 1, xp, size=2)
    for operator in (dynamics.rate_tangent, dynamics.rate_adjoint):
        together = operator(point, directions, metric)
        for i in range(2):
            laws.close(together[i], operator(point, directions[i], metric))

"""Laws that the rate of every dynamics, its tangent and its adjoint obey."""

import numpy as np
import pytest

from fourierreg.geodesic.shooting import DYNAMICS
from fourierreg.geodesic.state import Onto, join_state, split_state
from fourierreg.spectral.band import inner
from fourierreg.spectral.operators import derivative
from fourierreg.spectral.transform import synthesis
from tests import laws
from tests.fields import velocity


@pytest.fixture(params=DYNAMICS.values(), ids=DYNAMICS.keys())
def dynamics(request):
    return request.param


def state(metric, seed, xp, size=None):
    """A random state (v, u)."""
    return join_state(velocity(metric, seed, size), velocity(metric, seed + 100, size), metric, xp)


def rate(x, metric, dynamics):
    return dynamics.rate(x, dynamics.evaluate_on_grid(x, metric), metric)


def state_inner(metric, xp):
    """Inner product of states and covectors: the metric for v, the mean over voxels for u."""

    def product(a, b):
        (v, u), (y, mu) = split_state(a, metric), split_state(b, metric)
        return metric.inner(v, y) + inner(u, mu, metric.band, xp)

    return product


def test_split_state_inverts_join_state(metric, xp):
    v, u = velocity(metric, 0, 2), velocity(metric, 1, 2)
    split = split_state(join_state(v, u, metric, xp), metric)
    laws.close(split[0], v, rtol=0.0)
    laws.close(split[1], u, rtol=0.0)


def test_mean_advection_of_the_displacement_is_that_of_minus_u_div_v(metric, xp, dynamics):
    # du/dt = -v - (Du) v, and the mean of (Du) v over voxels is that of -u ∇·v, exactly.
    x, band = state(metric, 0, xp), metric.band
    v, u = split_state(x, metric)
    advected = -split_state(rate(x, metric, dynamics), metric)[1] - v
    zero = (0,) * band.ndim
    shape = band.product_shape
    div_v = xp.sum(derivative(band, xp) * v, axis=0)
    u_, div_v_ = (synthesis(f, band, shape, np.float64, xp) for f in (u, div_v))
    for i in range(band.ndim):
        laws.close(advected[(i, *zero)].real, -xp.mean(u_[i] * div_v_))


def test_a_rate_is_added_onto_a_state(metric, xp, dynamics):
    x, y, base = (state(metric, seed, xp) for seed in range(3))
    point, onto = dynamics.evaluate_on_grid(x, metric), Onto(base, 0.7, 0.2)
    added = dynamics.rate(x, point, metric, onto)
    laws.close(added, 0.7 * base + 0.2 * dynamics.rate(x, point, metric))
    for linear in (dynamics.rate_tangent, dynamics.rate_adjoint):
        added = linear(point, y, metric, onto)
        laws.close(added, 0.7 * base + 0.2 * linear(point, y, metric))


def test_tangent_is_the_derivative_of_the_rate(metric, xp, dynamics):
    x, direction = state(metric, 0, xp), state(metric, 1, xp)
    point = dynamics.evaluate_on_grid(x, metric)
    slope = dynamics.rate_tangent(point, direction, metric)
    laws.derivative(lambda y: rate(y, metric, dynamics), x, direction, slope, h=0.1)


def test_rate_adjoint_is_the_adjoint_of_rate_tangent(metric, xp, dynamics):
    point = dynamics.evaluate_on_grid(state(metric, 0, xp), metric)
    product = state_inner(metric, xp)
    laws.adjoint(
        lambda x: dynamics.rate_tangent(point, x, metric),
        lambda y: dynamics.rate_adjoint(point, y, metric),
        state(metric, 1, xp),
        state(metric, 2, xp),
        product,
        product,
    )


def test_tangent_and_adjoint_are_linear(metric, xp, dynamics):
    point = dynamics.evaluate_on_grid(state(metric, 0, xp), metric)
    x, y = state(metric, 1, xp), state(metric, 2, xp)
    laws.linear(lambda w: dynamics.rate_tangent(point, w, metric), x, y)
    laws.linear(lambda w: dynamics.rate_adjoint(point, w, metric), x, y)


def test_batched_directions_equal_a_loop(metric, xp, dynamics):
    point = dynamics.evaluate_on_grid(state(metric, 0, xp), metric)
    directions = state(metric, 1, xp, size=2)
    for operator in (dynamics.rate_tangent, dynamics.rate_adjoint):
        batched = operator(point, directions, metric)
        for i in range(2):
            laws.close(batched[i], operator(point, directions[i], metric))

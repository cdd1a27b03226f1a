"""Shooting: exact discrete tangent and adjoint, invariants, precision, batches."""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.geodesic.shooting import DYNAMICS, pull_back, shoot, tangent
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.transform import synthesis
from tests import laws
from tests.fields import velocity, white

ORDERS = {"euler": 1, "rk4": 4}
STEPS = 4


@pytest.fixture(params=ORDERS)
def integrator(request):
    return request.param


@pytest.fixture(params=DYNAMICS)
def flow(request, integrator):
    """Keywords of `shoot`: every integrator with every dynamics."""
    return {"integrator": integrator, "dynamics": request.param}


def end(v, metric, num_steps=STEPS, **flow):
    return shoot(v, metric, num_steps=num_steps, **flow).displacement_coefficients()


def test_tangent_is_the_derivative_of_the_end_point(metric, xp, flow):
    v, w = velocity(metric, 0), velocity(metric, 1)
    slope = tangent(shoot(v, metric, num_steps=STEPS, **flow), w)
    laws.derivative(lambda x: end(x, metric, **flow), v, w, slope, h=0.1)


def test_pull_back_is_adjoint_to_tangent(metric, xp, flow):
    geodesic = shoot(velocity(metric, 0), metric, num_steps=STEPS, **flow)
    laws.adjoint(
        lambda w: tangent(geodesic, w),
        lambda c: pull_back(geodesic, c),
        velocity(metric, 1),
        white(metric.band, 2),
        lambda a, b: inner(a, b, metric.band, xp),
        metric.inner,
    )


def test_keeping_the_points_changes_nothing(metric, xp, flow):
    v, w = velocity(metric, 0), velocity(metric, 1)
    kept, again = (
        shoot(v, metric, num_steps=STEPS, **flow, linearize=flag) for flag in (True, False)
    )
    assert kept.points is not None
    assert again.points is None
    laws.close(pull_back(kept, w), pull_back(again, w))
    laws.close(tangent(kept, w), tangent(again, w))


def test_batch_axes_equal_a_loop(metric, xp, flow):
    v, w = velocity(metric, 0, 2), velocity(metric, 1, 2)
    together = shoot(v, metric, num_steps=STEPS, **flow)
    single = [shoot(v[i], metric, num_steps=STEPS, **flow) for i in range(2)]
    for i in range(2):
        laws.close(together.displacement_coefficients()[i], single[i].displacement_coefficients())
        laws.close(together.velocity()[i], single[i].velocity())
        laws.close(tangent(together, w)[i], tangent(single[i], w[i]))
        laws.close(pull_back(together, w)[i], pull_back(single[i], w[i]))


def test_many_directions_at_one_geodesic(metric, xp, flow):
    geodesic = shoot(velocity(metric, 0), metric, num_steps=STEPS, **flow)
    w = velocity(metric, 1, 3)
    for operator in (tangent, pull_back):
        together = operator(geodesic, w)
        for i in range(3):
            laws.close(together[i], operator(geodesic, w[i]))


def test_single_precision(metric, xp, flow):
    v, w = velocity(metric, 0), velocity(metric, 1)
    double = shoot(v, metric, num_steps=STEPS, **flow)
    single = shoot(v.astype(np.complex64), metric, num_steps=STEPS, **flow)
    assert single.displacement_coefficients().dtype == np.complex64
    assert single.velocity().dtype == np.complex64
    pulled = pull_back(single, w.astype(np.complex64))
    assert pulled.dtype == np.complex64
    # float32 carries 7 digits; the momentum's highest frequencies cost the rest.
    laws.close(single.displacement_coefficients(), double.displacement_coefficients(), rtol=1e-4)
    laws.close(single.velocity(), double.velocity(), rtol=1e-4)
    laws.close(pulled, pull_back(double, w), rtol=1e-4)


def errors(quantity, exact, steps):
    return np.array([np.linalg.norm(np.ravel(quantity(n) - exact)) for n in steps])


def drift(v, metric, integrator, num_steps):
    """Change of <L v_t, v_t>, which is constant along a geodesic because ad_v v = 0."""
    last = shoot(v, metric, num_steps=num_steps, integrator=integrator).velocity()
    return abs(float(metric.inner(last, last)) - float(metric.inner(v, v)))


def test_energy_is_conserved_to_the_order_of_the_integrator(xp, integrator):
    metric = Metric.create((20, 17), modes=6)
    v = velocity(metric, 0)
    coarse, fine = (drift(v, metric, integrator, n) for n in (8, 16))
    assert abs(np.log2(coarse / fine) - ORDERS[integrator]) < 0.3  # a ratio of 2, or of 16


def test_energy_is_conserved_at_least_to_that_order(metric, xp, integrator):
    # Runge-Kutta's leading term is small and may change sign, so that its drift falls faster.
    v = velocity(metric, 0)
    coarse, fine = (drift(v, metric, integrator, n) for n in (4, 8))
    assert np.log2(coarse / fine) > ORDERS[integrator] - 0.75


def test_end_point_converges_at_the_order_of_the_integrator(metric, xp, integrator, flow):
    v = velocity(metric, 0)
    exact = to_numpy(end(v, metric, 64, **{**flow, "integrator": "rk4"}))
    steps = (16, 32) if integrator == "euler" else (4, 8)
    coarse, fine = errors(lambda n: to_numpy(end(v, metric, n, **flow)), exact, steps)
    assert abs(np.log2(coarse / fine) - ORDERS[integrator]) < 0.6


def test_a_constant_velocity_translates(metric, xp, flow):
    v = xp.zeros_like(velocity(metric, 0))
    shift = np.arange(1.0, metric.band.ndim + 1)
    for i, step in enumerate(shift):
        v[(i, *(0,) * metric.band.ndim)] = float(step)
    u = to_numpy(shoot(v, metric, num_steps=3, **flow).displacement())
    for i, step in enumerate(shift):
        np.testing.assert_allclose(u[i], -step, rtol=laws.rtol_of(np.float32))


def test_displacement_is_that_of_the_inverse_map(xp):
    # Small velocity: φ = id + v to first order, so φ⁻¹ = id - v.
    metric = Metric.create((20, 17), modes=6)
    v = 1e-3 * velocity(metric, 0)
    u = shoot(v, metric).displacement(dtype=np.float64)
    expected = -synthesis(v, metric.band, metric.band.shape, np.float64, xp)
    laws.close(u, expected, rtol=1e-2)  # second-order terms are a thousandth of the first


def test_the_path_is_kept(metric, xp):
    v = velocity(metric, 0)
    geodesic = shoot(v, metric, num_steps=3)
    assert geodesic.num_steps == 3
    laws.close(geodesic.velocity(0), v, rtol=0.0)
    assert float(xp.max(xp.abs(geodesic.displacement_coefficients(0)))) == 0.0
    assert geodesic.displacement().shape == (metric.band.ndim, *metric.band.shape)
    assert geodesic.displacement().dtype == np.float32


@pytest.mark.parametrize(
    ("keywords", "argument"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"integrator": "heun"}, "integrator"),
        ({"dynamics": "demons"}, "dynamics"),
    ],
)
def test_errors_name_the_argument(keywords, argument):
    metric = Metric.create((20, 17), modes=6)
    with pytest.raises(ValueError, match=argument):
        shoot(white(metric.band, 0), metric, **keywords)

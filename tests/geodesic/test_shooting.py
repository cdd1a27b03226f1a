"""Shooting: exact discrete tangent and adjoint, invariants, convergence, precision, batches."""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.geodesic.shooting import DYNAMICS, pull_back, shoot, tangent
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric, MetricBatch
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
    """Keywords of `shoot` for every integrator and dynamics."""
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


def test_stored_stages_equal_recomputed_ones(metric, xp, flow):
    v, w = velocity(metric, 0), velocity(metric, 1)
    stored, recomputed = (
        shoot(v, metric, num_steps=STEPS, **flow, linearize=flag) for flag in (True, False)
    )
    assert stored.stages is not None
    assert recomputed.stages is None
    laws.close(pull_back(stored, w), pull_back(recomputed, w))
    laws.close(tangent(stored, w), tangent(recomputed, w))


def test_batch_axes_equal_a_loop(metric, xp, flow):
    v, w = velocity(metric, 0, 2), velocity(metric, 1, 2)
    batched = shoot(v, metric, num_steps=STEPS, **flow)
    single = [shoot(v[i], metric, num_steps=STEPS, **flow) for i in range(2)]
    for i in range(2):
        laws.close(batched.displacement_coefficients()[i], single[i].displacement_coefficients())
        laws.close(batched.velocity()[i], single[i].velocity())
        laws.close(tangent(batched, w)[i], tangent(single[i], w[i]))
        laws.close(pull_back(batched, w)[i], pull_back(single[i], w[i]))


def test_selected_pairs_are_those_geodesics(metric, xp, flow):
    metrics = [metric.with_alpha(alpha) for alpha in (2.0, 3.0, 5.0)]
    v, w = velocity(metric, 0, 3), velocity(metric, 1, 2)
    batch = MetricBatch.of(metrics)
    selected = shoot(v, batch, num_steps=STEPS, **flow, linearize=True).select([2, 0])
    for i, pair in enumerate((2, 0)):
        single = shoot(v[pair], metrics[pair], num_steps=STEPS, **flow)
        laws.close(selected.displacement_coefficients()[i], single.displacement_coefficients())
        laws.close(pull_back(selected, w)[i], pull_back(single, w[i]))


def test_a_single_geodesic_has_no_pairs_to_select():
    metric = Metric.create((20, 17), modes=6)
    with pytest.raises(TypeError, match="batch of pairs"):
        shoot(velocity(metric, 0), metric, num_steps=1).select([0])


def test_batched_directions_at_one_geodesic_equal_a_loop(metric, xp, flow):
    geodesic = shoot(velocity(metric, 0), metric, num_steps=STEPS, **flow)
    w = velocity(metric, 1, 3)
    for operator in (tangent, pull_back):
        batched = operator(geodesic, w)
        for i in range(3):
            laws.close(batched[i], operator(geodesic, w[i]))


def test_single_precision_agrees_with_double_precision(metric, xp, flow):
    v, w = velocity(metric, 0), velocity(metric, 1)
    double = shoot(v, metric, num_steps=STEPS, **flow)
    single = shoot(v.astype(np.complex64), metric, num_steps=STEPS, **flow)
    assert single.displacement_coefficients().dtype == np.complex64
    assert single.velocity().dtype == np.complex64
    pulled = pull_back(single, w.astype(np.complex64))
    assert pulled.dtype == np.complex64
    # float32 has 7 digits, of which L, large at the highest frequencies of the momentum, costs 3.
    laws.close(single.displacement_coefficients(), double.displacement_coefficients(), rtol=1e-4)
    laws.close(single.velocity(), double.velocity(), rtol=1e-4)
    laws.close(pulled, pull_back(double, w), rtol=1e-4)


def errors(quantity, exact, steps):
    """Norm of the error of a quantity at several numbers of steps."""
    return np.array([np.linalg.norm(np.ravel(quantity(n) - exact)) for n in steps])


def drift(v, metric, integrator, num_steps):
    """Change of ⟨L v_t, v_t⟩, which is constant along a geodesic because ad_v v = 0."""
    last = shoot(v, metric, num_steps=num_steps, integrator=integrator).velocity()
    return abs(float(metric.inner(last, last)) - float(metric.inner(v, v)))


def test_energy_is_conserved_to_the_order_of_the_integrator(xp, integrator):
    metric = Metric.create((20, 17), modes=6)
    v = velocity(metric, 0)
    coarse, fine = (drift(v, metric, integrator, n) for n in (8, 16))
    assert abs(np.log2(coarse / fine) - ORDERS[integrator]) < 0.3


def test_energy_is_conserved_at_least_to_that_order(metric, xp, integrator):
    # Runge-Kutta's leading error term is small and may change sign, so its drift may fall faster.
    v = velocity(metric, 0)
    coarse, fine = (drift(v, metric, integrator, n) for n in (8, 16))
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
    # For a small velocity φ = id + v to first order, so φ⁻¹ = id - v.
    metric = Metric.create((20, 17), modes=6)
    v = 1e-3 * velocity(metric, 0)
    u = shoot(v, metric).displacement(dtype=np.float64)
    expected = -synthesis(v, metric.band, metric.band.shape, np.float64, xp)
    laws.close(u, expected, rtol=1e-2)  # second-order terms are a thousandth of the first


def test_a_geodesic_has_the_whole_path(metric, xp):
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

"""The energy and its gradient, which is exact for the discrete energy."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fourierreg.backend import asarray, mock_device, to_numpy, use_backend
from fourierreg.geodesic.shooting import DYNAMICS, Geodesic, shoot
from fourierreg.image.deformation import gradient, warp
from fourierreg.image.similarity import LocalCorrelation, similarity_of
from fourierreg.model.end_map import is_diffeomorphism
from fourierreg.model.problem import Problem
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_image
from tests.model import problems

# At this step (in units of a velocity of half a voxel) no voxel crosses a kink of the linear
# interpolant, and rounding leaves the remainder three digits.
STEP = 2e-5


@pytest.fixture(params=problems.CASES, ids=problems.CASES.keys())
def case(request):
    return request.param


@pytest.fixture(params=["euler", "rk4"])
def integrator(request):
    return request.param


def metric_2d():
    return Metric.create((20, 17), modes=6).batch()


def slope_along(evaluation, w, metric, xp):
    """⟨gradient, w⟩."""
    return laws.scalar(inner(evaluation.gradient, w, metric.band, xp))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_gradient_is_the_derivative_of_the_energy(case, backend, xp, integrator, dynamics, masked):
    flow = {"integrator": integrator, "dynamics": dynamics}
    metric, problem, v, _ = problems.solved(case, masked=masked, **flow)
    w = problems.velocity(metric, 6)
    slope = slope_along(problem.evaluate(v, metric), w, metric, xp)

    def total(x):
        return laws.scalar(problem.evaluate(x, metric).total)

    laws.gradient(total, v, w, slope, STEP)
    difference = (total(v + STEP * w) - total(v - STEP * w)) / (2 * STEP)
    assert math.isclose(difference, slope, rel_tol=1e-4)


@pytest.mark.parametrize("similarity", ["ncc", "lncc", "mi"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_gradient_of_every_dynamics_and_similarity(case, backend, xp, dynamics, similarity):
    measure = LocalCorrelation(radius=2) if similarity == "lncc" else similarity_of(similarity)
    metric, problem, v, _ = problems.solved(case, dynamics=dynamics, similarity=measure)
    w = problems.velocity(metric, 6)
    slope = slope_along(problem.evaluate(v, metric), w, metric, xp)
    laws.gradient(lambda x: problem.evaluate(x, metric).total, v, w, slope, 2 * STEP)


def test_gradient_of_the_likelihood(case, backend, xp):
    metric, problem, v, _ = problems.solved(case)
    w = problems.velocity(metric, 6)
    prior = laws.scalar(metric.inner(v, w)) / metric.velocity_scale**2
    slope = slope_along(problem.evaluate(v, metric), w, metric, xp) - prior
    laws.gradient(lambda x: problem.evaluate(x, metric).likelihood, v, w, slope, STEP)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_terms_of_the_energy(case, backend, masked):
    # <Lv,v>/2s² + ρ|r|²/2σ², a sum over voxels (erratum E1)
    metric, problem, v, geodesic = problems.solved(case, masked=masked)
    evaluation = problem.evaluate(v, metric)
    total, prior, likelihood = (laws.scalar(energy) for energy in evaluation[:3])
    u = geodesic.displacement(dtype=np.float64)[0]
    r = to_numpy(warp(problem.source[0], u, problem.spacing)) - to_numpy(problem.target[0])
    if masked:
        r = r * to_numpy(problem.mask[0])
    assert math.isclose(likelihood, problem.weight[0] * np.sum(r**2) / 2, rel_tol=1e-9)
    expected = laws.scalar(metric.inner(v, v)) / (2 * metric.velocity_scale**2)
    assert math.isclose(prior, expected, rel_tol=1e-9)
    assert total == prior + likelihood


def test_energies_and_weights_are_arrays_on_the_host(case, backend):
    metric, problem, v, _ = problems.solved(case)
    for values in (*problem.evaluate(v, metric)[:3], problem.weight):
        assert isinstance(values, np.ndarray)
        assert values.shape == (1,) and values.dtype == np.float64


def test_single_precision_images(case, backend, xp):
    metric, problem, v, _ = problems.solved(case)
    exact = problem.evaluate(v, metric)
    images = {name: getattr(problem, name).astype(np.float32) for name in ("source", "target")}
    single = replace(problem, **images).evaluate(v, metric)
    assert single.gradient.dtype == np.complex128  # the optimizer's, whatever the images are
    rtol = laws.rtol_of(np.float32)
    assert math.isclose(laws.scalar(single.total), laws.scalar(exact.total), rel_tol=rtol)
    laws.close(single.gradient, exact.gradient, rtol)


def test_equal_images_have_no_energy_at_zero_velocity(backend, xp):
    metric = metric_2d()
    image = smooth_image(metric.band.shape, 0)
    problem = Problem.of_pair(image, image, metric.band.spacing)
    evaluation = problem.evaluate(xp.zeros_like(problems.velocity(metric, 0)), metric)
    assert laws.scalar(evaluation.total) == 0.0
    assert float(xp.max(xp.abs(evaluation.gradient))) == 0.0


@pytest.mark.parametrize("factor", [30.0, 1e3, 1e200])
def test_a_fold_has_infinite_energy(case, backend, factor):
    metric, problem, v, _ = problems.solved(case)
    evaluation = problem.evaluate(factor * v, metric)
    assert [energy.tolist() for energy in evaluation[:3]] == [[math.inf]] * 3
    assert evaluation.gradient is None
    assert is_diffeomorphism(evaluation.geodesic, metric.band.shape).tolist() == [False]


def test_a_displacement_beyond_a_quarter_of_the_domain_is_refused(backend, xp):
    metric = metric_2d()
    v = xp.zeros_like(problems.velocity(metric, 0))
    for shift, allowed in ((4.9, True), (5.1, False)):
        v[0, 0, 0, 0] = shift
        geodesic = shoot(v, metric, num_steps=2)
        assert is_diffeomorphism(geodesic, metric.band.shape).tolist() == [allowed]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_displacement_may_exceed_its_limit_where_no_coefficient_does(axis, backend, xp):
    metric = metric_2d()
    limit = (5.0, 4.25)[axis]
    for mean, allowed in ((limit - 0.6, True), (limit - 0.1, False)):  # plus a wave of half a mm
        state = xp.zeros((1, 2, 2, *metric.band.coefficient_shape), dtype=np.complex128)
        state[0, 1, axis, 0, 0], state[0, 1, axis, 0, 1] = mean, 0.25
        geodesic = Geodesic(metric, (state, state))
        assert is_diffeomorphism(geodesic, metric.band.shape).tolist() == [allowed]


def test_the_deformed_image(case, backend):
    metric, problem, _, geodesic = problems.solved(case)
    u = problem.displacement(geodesic)
    assert u.shape == (1, metric.band.ndim, *problem.shape)
    expected = warp(problem.source[0], u[0], problem.spacing)
    laws.close(problem.deformed(geodesic), expected[None])


@pytest.mark.parametrize("factor", [1, 2])
def test_undeformed_is_the_source_on_the_grid_of_the_target(backend, factor):
    metric = metric_2d()
    problem = problems.make(metric)
    fine = smooth_image(tuple(factor * n for n in metric.band.shape), 3)
    problem = replace(problem, source=fine[None])
    laws.close(problem.undeformed, fine[None, ::factor, ::factor])
    at_rest = problem.shoot(0 * problems.velocity(metric, 0), metric)
    laws.close(problem.undeformed, problem.deformed(at_rest))


def test_source_gradient_is_the_slope_of_the_likelihood(case, backend, xp):
    # d/de of |S(x + u + e w) - T|² / 2 is r · w inside the mask, voxel by voxel
    metric, problem, _, geodesic = problems.solved(case, masked=True)
    other = problem.shoot(problems.velocity(metric, 6), metric)
    u, w = (problem.displacement(g)[0] for g in (geodesic, other))
    image, mask = problem.source[0], problem.mask[0]
    ahead, behind = (warp(image, u + step * w, problem.spacing) for step in (STEP, -STEP))
    slope = xp.sum(problem.source_gradient(geodesic)[0] * w, axis=0)
    laws.close(slope, (ahead - behind) / (2 * STEP) * mask, rtol=1e-6)


def test_deformed_gradient_is_that_of_the_deformed_image(backend):
    # of an image that is smooth on its grid, compared with central differences of S∘φ⁻¹
    metric = Metric.create((200, 180), modes=6, velocity_scale=6.0).batch()
    x, y = np.meshgrid(np.arange(200), np.arange(180), indexing="ij")
    wave = np.sin(2 * np.pi * x / 200) + np.cos(2 * np.pi * y / 180)
    image = asarray(wave)
    problem = Problem.of_pair(image, image, metric.band.spacing)
    geodesic = problem.shoot(problems.velocity(metric, 5), metric)
    assert float(abs(to_numpy(problem.displacement(geodesic))).max()) > 2
    expected = to_numpy(gradient(problem.deformed(geodesic)[0], problem.spacing))
    found = to_numpy(problem.deformed_gradient(geodesic))[0]
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(found)
    plain = to_numpy(problem.source_gradient(geodesic))[0]
    assert np.linalg.norm(plain - expected) > 0.1 * np.linalg.norm(found)


def test_an_evaluation_takes_few_launches():
    """On a device each launch costs some microseconds of the host's time, whatever its size."""
    with use_backend("mock"):
        metric = Metric.create((20, 24, 22), modes=8).batch()
        image = asarray(smooth_image((20, 24, 22), 0), np.float32)
        other = image[::-1].copy()
        problem = Problem.of_pair(image, other, metric.band.spacing, num_steps=5)
        v = problems.velocity(metric, 0)
        problem.evaluate(v, metric)  # fills the tables
        with mock_device.count_launches() as counter:
            assert problem.evaluate(v, metric).gradient is not None
    # To the grid, products, back, into the band: four a step, forward and backward.
    assert sum(counter[name] for name in ("to_grid", "products", "from_grid", "rate")) == 30
    assert counter.total() <= 85

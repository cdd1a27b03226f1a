"""The energy and its gradient, which is that of the discretised energy, to rounding."""

import math

import numpy as np
import pytest

from fourierreg.backend import asarray, mock_device, to_numpy, use_backend
from fourierreg.geodesic.shooting import DYNAMICS, Geodesic, shoot
from fourierreg.image.deformation import gradient, warp
from fourierreg.image.similarity import LocalCorrelation, similarity_of
from fourierreg.model.problem import Problem, is_diffeomorphism
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_image, velocity
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


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_gradient(case, backend, xp, integrator, dynamics, masked):
    flow = {"integrator": integrator, "dynamics": dynamics}
    metric, problem, v, _ = problems.solved(case, masked=masked, **flow)
    w = velocity(metric, 6)
    evaluation = problem.evaluate(v, metric)
    slope = float(inner(evaluation.gradient, w, metric.band, xp))

    def total(x):
        return problem.evaluate(x, metric).total

    laws.gradient(total, v, w, slope, STEP)
    difference = (total(v + STEP * w) - total(v - STEP * w)) / (2 * STEP)
    assert math.isclose(difference, slope, rel_tol=1e-4)


@pytest.mark.parametrize("similarity", ["ncc", "lncc", "mi"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_gradient_of_every_dynamics_and_similarity(case, backend, xp, dynamics, similarity):
    measure = LocalCorrelation(radius=2) if similarity == "lncc" else similarity_of(similarity)
    metric, problem, v, _ = problems.solved(case, dynamics=dynamics, similarity=measure)
    w = velocity(metric, 6)
    slope = float(inner(problem.evaluate(v, metric).gradient, w, metric.band, xp))
    laws.gradient(lambda x: problem.evaluate(x, metric).total, v, w, slope, 2 * STEP)


def test_gradient_of_the_likelihood_alone(case, backend, xp):
    metric, problem, v, _ = problems.solved(case)
    w = velocity(metric, 6)
    prior = metric.inner(v, w) / metric.velocity_scale**2
    slope = float(inner(problem.evaluate(v, metric).gradient, w, metric.band, xp) - prior)
    laws.gradient(lambda x: problem.evaluate(x, metric).likelihood, v, w, slope, STEP)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_terms_of_the_energy(case, backend, masked):
    # <Lv,v>/2s² + ρ|r|²/2σ², a sum over voxels (erratum E1)
    metric, problem, v, geodesic = problems.solved(case, masked=masked)
    evaluation = problem.evaluate(v, metric)
    u = geodesic.displacement(dtype=np.float64)
    r = to_numpy(warp(problem.source, u, problem.spacing)) - to_numpy(problem.target)
    if masked:
        r = r * to_numpy(problem.mask)
    assert math.isclose(evaluation.likelihood, problem.weight * np.sum(r**2) / 2, rel_tol=1e-9)
    expected = float(metric.inner(v, v)) / (2 * metric.velocity_scale**2)
    assert math.isclose(evaluation.prior, expected, rel_tol=1e-9)
    assert evaluation.total == evaluation.prior + evaluation.likelihood


def test_single_precision_images(case, backend, xp):
    metric, problem, v, _ = problems.solved(case)
    exact = problem.evaluate(v, metric)
    single = problems.Problem(
        problem.source.astype(np.float32),
        problem.target.astype(np.float32),
        problem.spacing,
        problem.weight,
        None,
        problem.num_steps,
    ).evaluate(v, metric)
    assert single.gradient.dtype == np.complex128  # the optimiser's, whatever the images are
    rtol = laws.rtol_of(np.float32)
    assert math.isclose(single.total, exact.total, rel_tol=rtol)
    laws.close(single.gradient, exact.gradient, rtol)


def test_no_mismatch_at_rest_between_equal_images(backend, xp):
    metric = Metric.create((20, 17), modes=6)
    problem = problems.make(metric)
    same = problems.Problem(problem.source, problem.source, problem.spacing, 1.0)
    evaluation = same.evaluate(xp.zeros_like(velocity(metric, 0)), metric)
    assert evaluation.total == 0.0
    assert float(xp.max(xp.abs(evaluation.gradient))) == 0.0


@pytest.mark.parametrize("factor", [30.0, 1e3, 1e200])
def test_a_fold_costs_infinity(case, backend, factor):
    metric, problem, v, _ = problems.solved(case)
    evaluation = problem.evaluate(factor * v, metric)
    assert evaluation.total == math.inf
    assert evaluation.gradient is None
    assert not is_diffeomorphism(evaluation.geodesic, metric.band.shape)


def test_a_displacement_beyond_a_quarter_of_the_domain_is_refused(backend, xp):
    metric = Metric.create((20, 17), modes=6)
    v = xp.zeros_like(velocity(metric, 0))
    for shift, allowed in ((4.9, True), (5.1, False)):
        v[0, 0, 0] = shift
        assert is_diffeomorphism(shoot(v, metric, num_steps=2), metric.band.shape) is allowed


@pytest.mark.parametrize("axis", [0, 1])
def test_a_displacement_is_too_far_where_no_coefficient_is(axis, backend, xp):
    metric = Metric.create((20, 17), modes=6)
    limit = (5.0, 4.25)[axis]
    for mean, allowed in ((limit - 0.6, True), (limit - 0.1, False)):  # a wave of half a mm more
        state = xp.zeros((2, 2, *metric.band.coefficient_shape), dtype=np.complex128)
        state[1, axis, 0, 0], state[1, axis, 0, 1] = mean, 0.25
        geodesic = Geodesic(metric, (state, state))
        assert is_diffeomorphism(geodesic, metric.band.shape) is allowed


def test_the_deformed_image(case, backend):
    metric, problem, _, geodesic = problems.solved(case)
    u = problem.displacement(geodesic)
    assert u.shape == (metric.band.ndim, *problem.source.shape)
    laws.close(problem.deformed(geodesic), warp(problem.source, u, problem.spacing))


def test_source_gradient_is_the_slope_the_likelihood_has(case, backend, xp):
    # d/de of |S(x + u + e w) - T|² / 2 is r · w inside the mask, voxel by voxel
    metric, problem, _, geodesic = problems.solved(case, masked=True)
    u, w = (
        problem.displacement(geodesic),
        problem.displacement(problem.shoot(velocity(metric, 6), metric)),
    )
    ahead, behind = (warp(problem.source, u + step * w, problem.spacing) for step in (STEP, -STEP))
    slope = xp.sum(problem.source_gradient(geodesic) * w, axis=0)
    laws.close(slope, (ahead - behind) / (2 * STEP) * problem.mask, rtol=1e-6)


def test_deformed_gradient_is_that_of_the_deformed_image(backend):
    # on an image that is smooth on its grid, central differences of S∘φ⁻¹ say the same
    metric = Metric.create((200, 180), modes=6, velocity_scale=6.0)
    x, y = np.meshgrid(np.arange(200), np.arange(180), indexing="ij")
    wave = np.sin(2 * np.pi * x / 200) + np.cos(2 * np.pi * y / 180)
    image = asarray(wave)
    problem = problems.Problem(image, image, metric.band.spacing, 1.0)
    geodesic = problem.shoot(velocity(metric, 5), metric)
    assert float(abs(to_numpy(problem.displacement(geodesic))).max()) > 2
    expected = gradient(problem.deformed(geodesic), problem.spacing)
    found = to_numpy(problem.deformed_gradient(geodesic))
    assert np.linalg.norm(found - to_numpy(expected)) < 0.02 * np.linalg.norm(found)
    plain = to_numpy(problem.source_gradient(geodesic))
    assert np.linalg.norm(plain - to_numpy(expected)) > 0.1 * np.linalg.norm(found)


def test_an_evaluation_is_a_few_launches():
    """On a device each costs some microseconds of the host's time, however small the arrays."""
    with use_backend("mock"):
        metric = Metric.create((20, 24, 22), modes=8)
        image = asarray(smooth_image((20, 24, 22), 0), np.float32)
        problem = Problem(image, image[::-1].copy(), metric.band.spacing, 1.0, num_steps=5)
        v = velocity(metric, 0)
        problem.evaluate(v, metric)  # makes what is kept
        with mock_device.count_launches() as counter:
            assert problem.evaluate(v, metric).gradient is not None
    # To the grid, products, back, into the band: four a step, there and back.
    assert sum(counter[name] for name in ("to_grid", "products", "from_grid", "rate")) == 30
    assert counter.total() <= 80

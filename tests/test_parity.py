"""A device gives what NumPy gives: the mock device on every machine, CuPy where there is a GPU.

Work in the band is compared in double precision, estimates of α by the optimiser that both have.
That optimiser stops at one of many kinks of the interpolated image, which one is up to rounding:
where the arithmetic is NumPy's, α and its interval are the same to 1e-6; on a GPU they are compared
to 1 %, a sixth of α's standard deviation, on images that bend little.
"""

import importlib

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import asarray, held_memory, release_memory, to_numpy
from fourierreg.image.deformation import invert
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import alpha_slope
from fourierreg.model.problem import Problem
from fourierreg.registration import tasks as work
from fourierreg.spectral import transform
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_pair, velocity

batches = importlib.import_module("fourierreg.registration.map_alpha_batch")  # not the function

BAND_RTOL, ALPHA_RTOL = 1e-5, {"mock": 1e-6, "cupy": 0.01}
MISMATCH = 1e-3  # fraction of labels that may fall to the other of two equally near voxels
SHAPE, SPACING = (26, 22, 24), (1.0, 1.2, 0.9)
SETTING = {
    "modes": 7,
    "sigma": 0.05,
    "num_steps": 2,
    "velocity_scale": 0.4,
    "spacing": SPACING,
    "pad": False,
}


@pytest.fixture(params=["mock", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request):
    """A backend whose arrays do not live on the host."""
    try:
        fourierreg.set_backend(request.param)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    fourierreg.set_backend("numpy")
    return request.param


@pytest.fixture(scope="module")
def pair():
    """Images that bend little."""
    settings = {key: SETTING[key] for key in ("modes", "sigma", "velocity_scale", "spacing")}
    return smooth_pair(SHAPE, 1, **settings)


def on_both(device, function):
    """What a function of no arguments gives on NumPy and on a device, on the host."""
    expected = function()
    with fourierreg.use_backend(device):
        actual = function()
    return [to_numpy(a) for a in actual], [to_numpy(a) for a in expected]


def test_work_in_the_band(device, pair):
    def everything():
        metric = Metric.create(SHAPE, spacing=SPACING, modes=11, alpha=4.0)
        v = velocity(metric, 0, factor=0.3)
        problem = Problem(*map(asarray, pair), SPACING, 100.0, num_steps=3)
        evaluation = problem.evaluate(v, metric)
        hessian = PosteriorHessian(metric, problem.curvature(evaluation.geodesic))

        def curvature_at(w):
            return problem.curvature(problem.shoot(w, metric))

        slope = alpha_slope(v, hessian, curvature_at, 4)
        u = evaluation.geodesic.displacement(dtype=np.float64)
        numbers = [evaluation.total, slope.value, slope.undetermined, slope.drift]
        return [
            np.array(numbers),
            evaluation.gradient,
            hessian(v),
            hessian.solve(v[None], rtol=1e-6),  # where rounding no longer shows
            u,
            invert(u, SPACING),
            fourierreg.warp(asarray(pair[0]), u, spacing=SPACING),
        ]

    for actual, expected in zip(*on_both(device, everything), strict=True):
        laws.close(actual, expected, rtol=BAND_RTOL)


def test_labels(device):
    labels = np.random.default_rng(0).integers(0, 5, SHAPE)
    metric = Metric.create(SHAPE, spacing=SPACING, modes=11, alpha=4.0)

    def moved():
        u = fourierreg.shoot(velocity(metric, 0), metric).displacement(dtype=np.float64)
        image = asarray(labels.astype(np.float64))
        return [fourierreg.warp(image, u, spacing=SPACING, order=0)]

    (actual,), (expected,) = on_both(device, moved)
    assert np.mean(actual != expected) <= MISMATCH
    assert np.mean(expected != labels) > 0.1


@pytest.mark.parametrize("posterior", ["marginal", "joint"])
def test_alpha(device, pair, posterior, monkeypatch):
    monkeypatch.setattr(work.Fit, "alone", lambda request: request.together([request])[0])
    setting = {**SETTING, "posterior": posterior}
    if posterior == "joint":
        setting["alpha_prior"] = (20.0, 0.25)  # without one there is no optimum

    def estimate():
        result = fourierreg.map_alpha(*map(asarray, pair), **setting)
        assert result.converged, result.status
        return [np.array([result.alpha, *result.alpha_interval])]

    if device == "mock":
        monkeypatch.setattr(transform, "_has_blas", lambda xp: False)
    (actual,), (expected,) = on_both(device, estimate)
    np.testing.assert_allclose(actual, expected, rtol=ALPHA_RTOL[device])


@pytest.mark.gpu
def test_a_batch_that_does_not_fit_is_made_smaller(pair, monkeypatch):
    cupy = pytest.importorskip("cupy")
    try:
        fourierreg.set_backend("cupy")
    except RuntimeError as error:
        pytest.skip(str(error))
    run, sizes = batches.run_all, []

    def watched(programs):
        sizes.append(len(programs))
        return run(programs)

    monkeypatch.setattr(batches, "run_all", watched)
    release_memory()
    fourierreg.map_alpha_batch(*([image] for image in pair), **SETTING)
    room = held_memory()
    release_memory()
    cupy.get_default_memory_pool().set_limit(size=room)  # and of what is recorded
    try:
        images = [[image] * 8 for image in pair]
        found = fourierreg.map_alpha_batch(*images, batch_size=8, **SETTING)
    finally:
        cupy.get_default_memory_pool().set_limit(size=0)
    assert sizes[:2] == [1, 8] and len(sizes) > 3
    assert [r.alpha for r in found] == pytest.approx([found[0].alpha] * 8, rel=ALPHA_RTOL["cupy"])

"""A device gives the numbers of NumPy: the mock device on every machine, CuPy where there is a GPU.

Work in the band is compared in double precision. Fits end at one of many kinks of the interpolated
images, and rounding decides at which: with the same arithmetic α and its interval are the same to
1e-6; on a GPU they are compared to 1 %, a sixth of α's standard deviation, on smooth images.
"""

import importlib
from dataclasses import fields, replace

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import asarray, backend_of, held_memory, release_memory, to_numpy
from fourierreg.image.deformation import invert
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import alpha_slope
from fourierreg.model.problem import Problem
from fourierreg.spectral import transform
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_pair, velocity

batches = importlib.import_module("fourierreg.registration.map_alpha_batch")  # not the function

BAND_RTOL, ALPHA_RTOL = 1e-5, {"mock": 1e-6, "cupy": 0.01}
MISMATCH = 1e-3  # fraction of labels that may be those of the other of two equally near voxels
SHAPE, SPACING = (26, 22, 24), (1.0, 1.2, 0.9)
SETTINGS = {
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
    """Smooth images."""
    settings = {key: SETTINGS[key] for key in ("modes", "sigma", "velocity_scale", "spacing")}
    return smooth_pair(SHAPE, 1, **settings)


def on_both(device, function):
    """Results of a function without arguments on a device and on NumPy, on the host."""
    expected = function()
    with fourierreg.use_backend(device):
        actual = function()
    return [to_numpy(a) for a in actual], [to_numpy(a) for a in expected]


def test_energies_hessians_and_maps(device, pair):
    single = Metric.create(SHAPE, spacing=SPACING, modes=11, alpha=4.0)
    metric = single.batch()

    def quantities():
        v = velocity(single, 0, factor=0.3)[None]
        problem = Problem.of_pair(*map(asarray, pair), SPACING, 100.0, num_steps=3)
        evaluation = problem.evaluate(v, metric)
        hessian = PosteriorHessian(metric, problem.curvature(evaluation.geodesic))

        def curvature_at(w):
            return problem.curvature(problem.shoot(w, metric))

        slope = alpha_slope(v, hessian, curvature_at, 4)
        u = evaluation.geodesic.displacement(dtype=np.float64)[0]
        scalars = [evaluation.total, slope.value, slope.undetermined, slope.drift]
        return [
            np.concatenate(scalars),
            evaluation.gradient,
            hessian(v),
            hessian.solve(v[None], rtol=1e-6),  # where rounding no longer shows
            u,
            invert(u, SPACING),
            fourierreg.warp(asarray(pair[0]), u, spacing=SPACING),
        ]

    for actual, expected in zip(*on_both(device, quantities), strict=True):
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
    settings = {**SETTINGS, "posterior": posterior}
    if posterior == "joint":
        settings["alpha_prior"] = (20.0, 0.25)  # without one there is no optimum

    def estimate():
        result = fourierreg.map_alpha(*map(asarray, pair), **settings)
        assert result.converged, result.status
        return [np.array([result.alpha, *result.alpha_interval])]

    if device == "mock":
        monkeypatch.setattr(transform, "_has_blas", lambda xp: False)
    (actual,), (expected,) = on_both(device, estimate)
    np.testing.assert_allclose(actual, expected, rtol=ALPHA_RTOL[device])


def on_host(result):
    """The same registration with its arrays on the host (an exception is returned as it is)."""
    if isinstance(result, Exception):
        return result
    arrays = {
        field.name: to_numpy(getattr(result, field.name))
        for field in fields(result)
        if backend_of(getattr(result, field.name)) is not None
    }
    return replace(result, **arrays)


@pytest.mark.gpu
def test_a_batch_that_does_not_fit_is_halved(pair, monkeypatch):
    """The memory pools are limited to a fifth more than a single pair needs, its captured graphs
    included. Results of earlier batches would count against that, and each of their small arrays
    keep a large block of the pool from being used again: they are moved to the host."""
    cupy = pytest.importorskip("cupy")
    try:
        fourierreg.set_backend("cupy")
    except RuntimeError as error:
        pytest.skip(str(error))
    run_all, sizes = batches.run_all, []

    def watched(coroutines, *, batch_size, finished, **options):
        sizes.append(batch_size)
        options["finished"] = lambda place, result: finished(place, on_host(result))
        return run_all(coroutines, batch_size=batch_size, **options)

    monkeypatch.setattr(batches, "run_all", watched)
    release_memory()
    fourierreg.map_alpha_batch(*([image] for image in pair), **SETTINGS)
    limit = int(1.2 * held_memory())
    release_memory()
    cupy.get_default_memory_pool().set_limit(size=limit)
    try:
        images = [[image] * 32 for image in pair]
        found = fourierreg.map_alpha_batch(*images, batch_size=32, **SETTINGS)
    finally:
        cupy.get_default_memory_pool().set_limit(size=0)
    assert sizes[:3] == [1, 32, 16] and len(sizes) > 3
    assert [r.alpha for r in found] == pytest.approx([found[0].alpha] * 32, rel=ALPHA_RTOL["cupy"])

"""The launch of CUDA kernels, emulated: `launch` runs the CUDA C, compiled by the host compiler."""

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import array_module, asarray
from fourierreg.backend import kernels as launch
from fourierreg.geodesic.shooting import pull_back, shoot, tangent
from fourierreg.image import determinant
from fourierreg.image.deformation import invert, jacobian_determinant
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem
from fourierreg.spectral import transform
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.product_grid import from_grid, multiply, to_grid
from tests import host, laws
from tests.fields import smooth_image, smooth_pair, velocity


@pytest.fixture
def emulate_cuda(monkeypatch, tmp_path_factory):
    """Function that starts the emulation and returns the set of the kernels that run from then."""
    monkeypatch.setattr(transform, "_has_blas", lambda xp: False)
    return lambda: host.emulate_cuda(monkeypatch, tmp_path_factory.mktemp)


def energy_and_maps(shape, dtype):
    """Energy, gradient, curvature and maps of a pair."""
    spacing = (1.2, 0.9, 1.1)[-len(shape) :]
    single = Metric.create(shape, spacing=spacing, modes=6, alpha=3.0)
    metric, direction = single.batch(), velocity(single, 1)[None]
    source, target = (smooth_image(shape, seed).astype(dtype) for seed in (0, 1))
    problem = Problem.of_pair(source, target, single.band.spacing, 50.0, num_steps=2)
    evaluation = problem.evaluate(velocity(single, 0, factor=0.2)[None], metric)
    hessian = PosteriorHessian(metric, problem.curvature(evaluation.geodesic))
    exact = PosteriorHessian(metric, problem.curvature(evaluation.geodesic, exact=True))
    u = problem.displacement(evaluation.geodesic)[0]
    return [
        np.array(evaluation[:3]),
        evaluation.gradient,
        hessian(direction),
        exact(direction),
        problem.deformed(evaluation.geodesic),
        jacobian_determinant(u, spacing),
        invert(u, spacing),
        fourierreg.warp(target, u, spacing, order=0),
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"order": 0}, {"extend": True}, {"fill": -7.0}])
def test_resampling_in_cuda_c_equals_that_of_numba(emulate_cuda, dtype, options):
    rng = np.random.default_rng(0)
    image = rng.random((9, 8, 7)).astype(dtype)
    source = Geometry((9, 8, 7), tuple(map(tuple, np.diag([1.0, 1.2, 0.9, 1.0]))))
    target = source.resized((7, 11, 6))
    u = rng.normal(0, 1.5, (3, *target.shape)).astype(np.float32)
    expected = resample_onto(image, source, target, u, **options)
    launched = emulate_cuda()
    laws.close(resample_onto(image, source, target, u, **options), expected, rtol=1e-6)
    assert launched == {("image", "sample")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(16, 18), (13, 12, 14)], ids=["2d", "3d"])
def test_an_energy_in_cuda_c_equals_that_of_numba(emulate_cuda, shape, dtype):
    expected = energy_and_maps(shape, dtype)
    launched = emulate_cuda()
    actual = energy_and_maps(shape, dtype)
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b, rtol=2e-4 if dtype == np.float32 else 1e-8)
    names = {name for _, name in launched}
    assert {"to_grid", "from_grid", "contract", "contract_rows", "end_map"} <= names
    assert {"rate", "rate_adjoint", "products_tangent", "invert", "nearest"} <= names


def test_alpha_in_cuda_c_equals_that_of_numba(emulate_cuda):
    """An estimate of α adds what an energy does not use: optimization and traces."""
    setting = {"sigma": 0.05, "modes": 5, "velocity_scale": 0.15}
    pairs = [smooth_pair((14, 13, 12), seed, **setting) for seed in (1, 4)]
    images = list(zip(*pairs, strict=True))
    expected = fourierreg.map_alpha_batch(*images, num_steps=2, pad=False, **setting)
    launched = emulate_cuda()
    actual = fourierreg.map_alpha_batch(*images, num_steps=2, pad=False, **setting)
    assert all(r.converged for r in expected)
    alphas = pytest.approx([r.alpha for r in expected], rel=0.03)  # fits end a little apart
    assert [r.alpha for r in actual] == alphas
    assert {("optim", "advance"), ("optim", "products")} <= launched
    assert {("spectral", "multiply"), ("image", "residual_and_force")} <= launched


def test_scratch_beyond_shared_memory_is_in_an_array(emulate_cuda, monkeypatch):
    metric = Metric.create((20, 22, 24), modes=8)
    v, xp = velocity(metric, 0), np
    expected = to_grid(v, metric.band, xp)
    coefficients = from_grid(expected, metric.band, xp)
    monkeypatch.setattr(launch, "SHARED_BYTES", 1000)
    launched = emulate_cuda()
    laws.close(to_grid(v, metric.band, xp), expected)
    laws.close(from_grid(expected, metric.band, xp), coefficients)
    assert launched == {("spectral", "to_grid"), ("spectral", "from_grid")}


def test_the_emulation_detects_too_few_blocks_and_too_little_scratch(emulate_cuda, monkeypatch):
    u = np.zeros((3, 20, 22, 24))
    emulate_cuda()
    monkeypatch.setattr(determinant, "voxel_blocks", lambda count, pairs=1: (1, pairs))
    with pytest.raises(AssertionError, match="fewer blocks"):
        jacobian_determinant(u, (1.0, 1.0, 1.0))
    monkeypatch.setattr(determinant, "REDUCTION_WIDTH", 100)
    with pytest.raises(AssertionError, match="less scratch"):
        determinant.measure_map(u, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


def test_mock_device_refuses_dtypes_that_a_gpu_would_misread():
    with fourierreg.use_backend("mock"):
        matrix, vectors = asarray(np.ones((1, 3, 3, 8))), asarray(np.ones((2, 3, 8), np.float32))
        with pytest.raises(TypeError, match=r"matrices of multiply: expected float32, got float64"):
            multiply(matrix, vectors, array_module(vectors))


def test_derivatives_have_the_precision_of_the_geodesic():
    metric = Metric.create((12, 10, 14), modes=6)
    single = velocity(metric, 0).astype(np.complex64)
    for linearize in (False, True):
        geodesic = shoot(single, metric, num_steps=2, linearize=linearize)
        for derivative in (tangent, pull_back):
            actual = derivative(geodesic, velocity(metric, 1))
            assert actual.dtype == np.complex64
            laws.close(actual, derivative(geodesic, velocity(metric, 1).astype(np.complex64)))

"""What a GPU would run: `launch` with the CUDA C, compiled by the host compiler."""

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import array_module, asarray
from fourierreg.backend import kernels as launch
from fourierreg.geodesic.shooting import pull_back, shoot, tangent
from fourierreg.image import voxels
from fourierreg.image.deformation import invert, jacobian_determinant
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem
from fourierreg.spectral import transform
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.product_grid import from_grid, multiply, to_grid
from tests import host, laws
from tests.fields import smooth_image, smooth_pair, velocity


@pytest.fixture
def cuda(monkeypatch, tmp_path_factory):
    """Turns on the CUDA C, and gives the names of the kernels that ran since."""
    monkeypatch.setattr(transform, "_has_blas", lambda xp: False)
    return lambda: host.stand_in(monkeypatch, tmp_path_factory.mktemp)


def everything(shape, dtype):
    """Energy, gradient, curvature and maps of a pair."""
    spacing = (1.2, 0.9, 1.1)[-len(shape) :]
    metric = Metric.create(shape, spacing=spacing, modes=6, alpha=3.0)
    source, target = (smooth_image(shape, seed).astype(dtype) for seed in (0, 1))
    problem = Problem(source, target, metric.band.spacing, 50.0, num_steps=2)
    v = velocity(metric, 0, factor=0.2)
    evaluation = problem.evaluate(v, metric)
    hessian = PosteriorHessian(metric, problem.curvature(evaluation.geodesic))
    u = problem.displacement(evaluation.geodesic)
    exact = PosteriorHessian(metric, problem.curvature(evaluation.geodesic, exact=True))
    return [
        np.array(evaluation[:3]),
        evaluation.gradient,
        hessian(velocity(metric, 1)),
        exact(velocity(metric, 1)),
        problem.deformed(evaluation.geodesic),
        jacobian_determinant(u, spacing),
        invert(u, spacing),
        fourierreg.warp(target, u, spacing, order=0),
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(16, 18), (13, 12, 14)], ids=["2d", "3d"])
def test_a_registration_in_cuda_c(cuda, shape, dtype):
    expected = everything(shape, dtype)
    ran = cuda()
    actual = everything(shape, dtype)
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b, rtol=2e-4 if dtype == np.float32 else 1e-8)
    names = {name for _, name in ran}
    assert {"to_grid", "from_grid", "contract", "contract_rows", "extremes"} <= names
    assert {"rate", "rate_adjoint", "products_tangent", "invert", "nearest"} <= names


def test_alpha_in_cuda_c(cuda):
    """An estimate of α asks for what an energy does not: optimisation, traces."""
    setting = {"sigma": 0.05, "modes": 5, "velocity_scale": 0.15}
    pairs = [smooth_pair((14, 13, 12), seed, **setting) for seed in (1, 4)]
    images = list(zip(*pairs, strict=True))
    expected = fourierreg.map_alpha_batch(*images, num_steps=2, pad=False, **setting)
    ran = cuda()
    actual = fourierreg.map_alpha_batch(*images, num_steps=2, pad=False, **setting)
    assert all(r.converged for r in expected)
    wanted = pytest.approx([r.alpha for r in expected], rel=0.01)  # as in test_parity
    assert [r.alpha for r in actual] == wanted
    assert {("optim", "advance"), ("optim", "products")} <= ran
    assert {("spectral", "multiply"), ("image", "residual_and_force")} <= ran


def test_kernels_with_much_between_the_axes(cuda, monkeypatch):
    """Where a block's own memory does not hold it, what is between is in an array."""
    metric = Metric.create((20, 22, 24), modes=8)
    v, xp = velocity(metric, 0), np
    expected = to_grid(v, metric.band, xp)
    back = from_grid(expected, metric.band, xp)
    monkeypatch.setattr(launch, "SHARED_BYTES", 1000)
    ran = cuda()
    laws.close(to_grid(v, metric.band, xp), expected)
    laws.close(from_grid(expected, metric.band, xp), back)
    assert ran == {("spectral", "to_grid"), ("spectral", "from_grid")}


def test_the_stand_in_sees_blocks_and_scratch_that_do_not_suffice(cuda, monkeypatch):
    image = smooth_image((20, 22, 24), 0)
    u = np.zeros((3, *image.shape))
    cuda()
    monkeypatch.setattr(voxels, "voxel_blocks", lambda count, pairs=1: (1, pairs))
    with pytest.raises(AssertionError, match="fewer blocks"):
        jacobian_determinant(u, (1.0, 1.0, 1.0))
    monkeypatch.setattr(voxels, "LANES", 100)
    with pytest.raises(AssertionError, match="less scratch"):
        voxels.extremes(u, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


def test_the_guard_refuses_what_a_device_would_misread():
    with fourierreg.use_backend("mock"):
        matrix, vectors = asarray(np.ones((1, 3, 3, 8))), asarray(np.ones((2, 3, 8), np.float32))
        with pytest.raises(TypeError, match=r"matrices of multiply: expected float32, got float64"):
            multiply(matrix, vectors, array_module(vectors))


def test_directions_take_the_precision_of_the_geodesic():
    metric = Metric.create((12, 10, 14), modes=6)
    single = velocity(metric, 0).astype(np.complex64)
    for linearize in (False, True):
        geodesic = shoot(single, metric, num_steps=2, linearize=linearize)
        for derivative in (tangent, pull_back):
            found = derivative(geodesic, velocity(metric, 1))
            assert found.dtype == np.complex64
            laws.close(found, derivative(geodesic, velocity(metric, 1).astype(np.complex64)))

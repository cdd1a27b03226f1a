"""The Gauss-Newton Hessian, matrix-free, against sums over the voxels of the full grid."""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.geodesic.shooting import shoot, tangent
from fourierreg.model.hessian import PosteriorHessian, data_curvature
from fourierreg.model.laplace import dense_matrix
from fourierreg.spectral.band import inner, pack, unpack
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.transform import analysis, synthesis
from tests import laws
from tests.fields import white
from tests.model import problems

# On (24, 22) with K = 2 a grid of 4K + 1 points is smaller than the image; on (7, 6) with K = 2 it
# is larger, and products wrap on the voxels; on (20, 7) the two axes differ.
GRIDS = {
    "2d-wide": {"shape": (24, 22), "modes": (5, 6), "spacing": (1.6, 0.7)},
    "2d-tight": {"shape": (7, 6), "modes": 5},
    "2d-mixed": {"shape": (20, 7), "modes": 6},
    "3d-mixed": {"shape": (12, 10, 6), "modes": (5, 3, 5), "spacing": (1.0, 1.6, 0.7)},
}


@pytest.fixture(params=GRIDS, ids=GRIDS.keys())
def setting(request, backend):
    """(metric, problem, geodesic)."""
    metric = Metric.create(**GRIDS[request.param])
    problem = problems.make(metric, masked=request.param == "2d-wide", num_steps=2)
    v = problems.velocity(metric, 5)
    return metric, problem, shoot(v, metric, num_steps=2, linearize=True)


def multiply_on_voxels(g, w, problem, band, xp):
    """M (ρ/σ²) Π[g (g·w)], every voxel of the image in turn."""
    values = synthesis(w, band, band.shape, np.float64, xp)
    force = g * xp.sum(g * values, axis=0)
    return problem.weight * float(np.prod(band.shape)) * analysis(force, band, xp)


def identity(band, xp):
    """Every vector of the packed basis, as fields of the band."""
    size, d = band.degrees_of_freedom, band.ndim
    return unpack(xp.asarray(np.eye(size).reshape(size, d, -1)), band, xp)


def dense(op, band, xp):
    """Matrix of an operator in the packed basis, column by column."""
    columns = [to_numpy(pack(op(e), band, xp)).ravel() for e in identity(band, xp)]
    return np.array(columns).T


def test_approximate_curvature_is_a_product_on_the_voxels(setting, xp):
    metric, problem, geodesic = setting
    w = white(metric.band, 0)
    expected = multiply_on_voxels(problem.deformed_gradient(geodesic), w, problem, metric.band, xp)
    curvature = data_curvature(problem, geodesic)
    assert curvature.grid == tuple(
        min(n, 4 * k + 1) for n, k in zip(metric.band.shape, metric.band.cutoff, strict=True)
    )
    laws.close(curvature(w), expected)


def test_exact_curvature_is_that_of_the_linearised_shooting(setting, xp):
    # ⟨J*J w, x⟩ = (ρ/σ²) Σ_voxels (g·δu[w]) (g·δu[x]), g = (∇S)∘φ₁⁻¹
    metric, problem, geodesic = setting
    band = metric.band
    g = problem.source_gradient(geodesic)
    moved = synthesis(tangent(geodesic, identity(band, xp)), band, band.shape, np.float64, xp)
    change = to_numpy(xp.sum(g * moved, axis=1)).reshape(band.degrees_of_freedom, -1)
    expected = problem.weight * change @ change.T
    laws.close(dense(data_curvature(problem, geodesic, exact=True), band, xp), expected)


@pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
def test_hessian_is_symmetric_positive_definite(setting, xp, exact):
    metric, problem, geodesic = setting
    hessian = PosteriorHessian(metric, data_curvature(problem, geodesic, exact=exact))
    laws.symmetric(
        hessian,
        white(metric.band, 0),
        white(metric.band, 0) + white(metric.band, 1),
        lambda a, b: inner(a, b, metric.band, xp),
    )
    matrix = dense(hessian, metric.band, xp)
    laws.close(matrix, matrix.T)
    # H >= L/s² >= 1/s²
    lowest = np.linalg.eigvalsh(matrix)[0] * metric.velocity_scale**2
    assert lowest >= 1 - laws.rtol_of(np.float64)


@pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
def test_batches_and_the_dense_matrix(setting, xp, exact):
    metric, problem, geodesic = setting
    hessian = PosteriorHessian(metric, data_curvature(problem, geodesic, exact=exact))
    w = white(metric.band, 0, batch=(3,))
    together = hessian(w)
    for i in range(3):
        laws.close(together[i], hessian(w[i]))
    laws.close(dense_matrix(hessian, metric.band, xp), dense(hessian, metric.band, xp))


def test_diagonal_of_the_approximate_curvature(setting, xp):
    metric, problem, geodesic = setting
    curvature = data_curvature(problem, geodesic)
    # g gᵀ is a multiplication by a function: at frequency zero its mean, for each component.
    constant = np.array(
        [[float(i == j) for i in range(metric.band.ndim)] for j in range(metric.band.ndim)]
    )
    for i, row in enumerate(constant):
        w = xp.zeros_like(white(metric.band, 0))
        for j, value in enumerate(row):
            w[(j, *(0,) * metric.band.ndim)] = value
        laws.close(
            curvature.diagonal.ravel()[i],
            inner(w, curvature(w), metric.band, xp),
        )


@pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
def test_solve_equals_the_dense_inverse(setting, xp, exact):
    metric, problem, geodesic = setting
    hessian = PosteriorHessian(metric, data_curvature(problem, geodesic, exact=exact))
    b = metric.lower(white(metric.band, 0, batch=(2,)))
    x = hessian.solve(b, rtol=1e-12, max_iterations=2000)
    matrix = dense(hessian, metric.band, xp)
    right = to_numpy(pack(b, metric.band, xp)).reshape(2, -1)
    expected = np.linalg.solve(matrix, right.T).T
    # The condition number of H is that of L at most times that of its data term: 1e4 here, times
    # the tolerance of the residual.
    laws.close(to_numpy(pack(x, metric.band, xp)).reshape(2, -1), expected)


def test_solve_stops_at_its_tolerance(setting, xp):
    metric, problem, geodesic = setting
    hessian = PosteriorHessian(metric, data_curvature(problem, geodesic))
    b = white(metric.band, 0, batch=(2,))
    scale = hessian.prior(xp) + hessian.curvature.diagonal
    for rtol in (1e-1, 1e-3):
        x = hessian.solve(b, rtol=rtol)
        left = b - hessian(x)
        ratio = inner(left, left / scale, metric.band, xp) / inner(b, b / scale, metric.band, xp)
        assert np.all(to_numpy(ratio) <= (rtol * (1 + laws.rtol_of(np.float64))) ** 2)

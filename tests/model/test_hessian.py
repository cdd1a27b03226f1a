"""The matrix-free Gauss-Newton Hessian, compared with sums over the voxels of the full grid."""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.geodesic.shooting import tangent
from fourierreg.model.hessian import PosteriorHessian, data_curvature
from fourierreg.model.traces import dense_matrix
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

FORMS_OF_J = pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])


@pytest.fixture(params=GRIDS, ids=GRIDS.keys())
def setting(request, backend):
    """(metric, problem, geodesic) of one pair."""
    metric = Metric.create(**GRIDS[request.param]).batch()
    problem = problems.make(metric, masked=request.param == "2d-wide", num_steps=2)
    return metric, problem, problem.shoot(problems.velocity(metric, 5), metric)


def hessian_of(setting, exact=False):
    metric, problem, geodesic = setting
    return PosteriorHessian(metric, data_curvature(problem, geodesic, exact=exact))


def multiply_on_voxels(g, w, problem, band, xp):
    """M (ρ/σ²) Π[g (g·w)], summed over all voxels of the image; fields without an axis of pairs."""
    values = synthesis(w, band, band.shape, np.float64, xp)
    force = g * xp.sum(g * values, axis=0)
    return problem.weight[0] * float(np.prod(band.shape)) * analysis(force, band, xp)


def identity(band, xp):
    """Every vector of the packed basis, as fields (P, 1, d, *band)."""
    size, d = band.degrees_of_freedom, band.ndim
    return unpack(xp.asarray(np.eye(size).reshape(size, 1, d, -1)), band, xp)


def dense(op, band, xp):
    """Matrix of an operator in the packed basis, column by column."""
    columns = [to_numpy(pack(op(e), band, xp)).ravel() for e in identity(band, xp)]
    return np.array(columns).T


def test_approximate_curvature_is_a_product_on_the_voxels(setting, xp):
    metric, problem, geodesic = setting
    w = white(metric.band, 0)
    g = problem.deformed_gradient(geodesic)[0]
    expected = multiply_on_voxels(g, w, problem, metric.band, xp)
    curvature = data_curvature(problem, geodesic)
    assert curvature.grid == tuple(
        min(n, 4 * k + 1) for n, k in zip(metric.band.shape, metric.band.cutoff, strict=True)
    )
    laws.close(curvature(w[None]), expected[None])


def test_exact_curvature_is_that_of_the_linearized_shooting(setting, xp):
    # ⟨J*J w, x⟩ = (ρ/σ²) Σ_voxels (g·δu[w]) (g·δu[x]), g = (∇S)∘φ₁⁻¹
    metric, problem, geodesic = setting
    band = metric.band
    g = problem.source_gradient(geodesic)
    moved = synthesis(tangent(geodesic, identity(band, xp)), band, band.shape, np.float64, xp)
    change = to_numpy(xp.sum(g * moved, axis=2)).reshape(band.degrees_of_freedom, -1)
    expected = problem.weight[0] * change @ change.T
    laws.close(dense(data_curvature(problem, geodesic, exact=True), band, xp), expected)


@FORMS_OF_J
def test_hessian_is_symmetric_positive_definite(setting, xp, exact):
    hessian = hessian_of(setting, exact)
    metric = hessian.metric
    w = white(metric.band, 0, batch=(1,))
    laws.symmetric(
        hessian,
        w,
        w + white(metric.band, 1, batch=(1,)),
        lambda a, b: inner(a, b, metric.band, xp),
    )
    matrix = dense(hessian, metric.band, xp)
    laws.close(matrix, matrix.T)
    # H >= L/s² >= 1/s²
    lowest = np.linalg.eigvalsh(matrix)[0] * metric.velocity_scale**2
    assert lowest >= 1 - laws.rtol_of(np.float64)


@FORMS_OF_J
def test_leading_axes_and_the_dense_matrix(setting, xp, exact):
    hessian = hessian_of(setting, exact)
    band = hessian.metric.band
    w = white(band, 0, batch=(3, 1))
    image = hessian(w)
    for i in range(3):
        laws.close(image[i], hessian(w[i]))
    laws.close(dense_matrix(hessian, band, xp), dense(hessian, band, xp))


def test_diagonal_of_the_approximate_curvature(setting, xp):
    metric, problem, geodesic = setting
    curvature = data_curvature(problem, geodesic)
    d = metric.band.ndim
    assert curvature.diagonal.shape == (1, d, *(1,) * d)
    # g gᵀ is a multiplication by a function: at frequency zero its mean, for each component.
    for i in range(d):
        w = xp.zeros_like(white(metric.band, 0, batch=(1,)))
        w[(0, i, *(0,) * d)] = 1.0
        laws.close(curvature.diagonal.ravel()[i : i + 1], inner(w, curvature(w), metric.band, xp))


@FORMS_OF_J
def test_solve_equals_the_dense_inverse(setting, xp, exact):
    hessian = hessian_of(setting, exact)
    metric = hessian.metric
    b = metric.lower(white(metric.band, 0, batch=(2, 1)))
    x = hessian.solve(b, rtol=1e-12, max_iterations=2000)
    matrix = dense(hessian, metric.band, xp)
    right = to_numpy(pack(b, metric.band, xp)).reshape(2, -1)
    expected = np.linalg.solve(matrix, right.T).T
    # The condition number of H is that of L at most times that of its data term: 1e4 here, times
    # the tolerance of the residual.
    laws.close(to_numpy(pack(x, metric.band, xp)).reshape(2, -1), expected)


def test_solve_stops_at_its_tolerance(setting, xp):
    hessian = hessian_of(setting)
    band = hessian.metric.band
    b = white(band, 0, batch=(2, 1))
    scale = hessian.diagonal(xp)
    for rtol in (1e-1, 1e-3):
        x = hessian.solve(b, rtol=rtol)
        left = b - hessian(x)
        ratio = inner(left, left / scale, band, xp) / inner(b, b / scale, band, xp)
        assert np.all(to_numpy(ratio) <= (rtol * (1 + laws.rtol_of(np.float64))) ** 2)


def test_solve_of_zero_is_zero(setting, xp):
    hessian = hessian_of(setting)
    b = xp.zeros_like(white(hessian.metric.band, 0, batch=(2, 1)))
    assert float(xp.max(xp.abs(hessian.solve(b)))) == 0.0

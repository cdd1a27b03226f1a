"""The slope of the marginal in ln α, term by term."""

import math

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.model.hessian import DataCurvature, PosteriorHessian, data_curvature
from fourierreg.model.laplace import (
    alpha_slope,
    dense_log_determinant,
    dense_matrix,
    dense_traces,
    joint_slope,
    negative_log_marginal,
    stochastic_log_determinant,
    stochastic_traces,
    velocity_drift,
)
from fourierreg.model.problem import Problem
from fourierreg.registration.optimise import minimise
from fourierreg.spectral.band import pack, packed_diagonal
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_image, velocity
from tests.model import problems

REFIT_STEP = 0.15  # of ln α, between registrations, each of which stops at a small error
REFITS = 4
STEP = 1e-4  # of ln α; a central difference is wrong by STEP² times a third derivative


@pytest.fixture(params=["2d", "2d-anisotropic"])
def setting(request, backend):
    """(metric, v, curvature, its change towards another velocity): J ≈ -g·."""
    metric, problem, v, geodesic = problems.solved(request.param)
    low, high = (data_curvature(problem, problem.shoot(s * v, metric)) for s in (0.95, 1.05))
    return metric, v, data_curvature(problem, geodesic), lambda w: high(w) - low(w)


def at_alpha(curvature, metric):
    """H at another α with J*J frozen."""
    frozen = DataCurvature(metric, curvature.tensor, curvature.grid)
    return PosteriorHessian(metric, frozen)


def difference(f, metric):
    """df/d ln α by central differences."""
    above, below = (f(metric.with_alpha(metric.alpha * math.exp(s))) for s in (STEP, -STEP))
    return (above - below) / (2 * STEP)


def test_packed_diagonal(setting, xp):
    metric, *_ = setting
    symbol = metric.symbol(xp)
    expected = to_numpy(dense_matrix(lambda w: symbol * w, metric.band, xp))
    diagonal = np.ravel(to_numpy(packed_diagonal(symbol, metric.band, xp)))
    laws.close(np.diag(diagonal), expected)
    log_determinant = float(np.sum(np.log(diagonal)))
    assert math.isclose(log_determinant, metric.log_determinant(xp), rel_tol=1e-9)


def test_joint_slope(metric, xp):
    # ⟨Lv, v⟩/2s² - ½ ln|L| (errata E3, E4)
    v = velocity(metric, 0)

    def joint(m):
        return 0.5 * float(m.inner(v, v)) / m.velocity_scale**2 - 0.5 * m.log_determinant(xp)

    slope = joint_slope(v, metric)
    assert math.isclose(slope.value, difference(joint, metric), rel_tol=1e-5)
    growth = difference(lambda m: joint_slope(v, m).value, metric)
    assert math.isclose(slope.frozen_curvature, growth, rel_tol=1e-5)
    assert slope.undetermined == slope.drift == slope.noise == 0.0


def test_undetermined_is_the_slope_of_the_log_determinant_of_h(setting, xp):
    # (c/2) s⁻² tr(E H⁻¹) = d/d ln α ½ ln|H| at frozen J*J
    metric, v, curvature, _ = setting

    def half_log(m):
        matrix = to_numpy(dense_matrix(at_alpha(curvature, m), m.band, xp))
        return 0.5 * np.linalg.slogdet(matrix)[1]

    traces = dense_traces(v, at_alpha(curvature, metric), xp)
    expected = difference(half_log, metric)
    assert math.isclose(metric.power / 2 * traces.undetermined, expected, rel_tol=1e-5)
    assert traces.noise == 0.0


def test_frozen_curvature(setting, xp):
    metric, v, curvature, _ = setting

    def slope(m):
        full = alpha_slope(v, at_alpha(curvature, m), lambda _: curvature, 1)
        return full.value - full.drift

    actual = alpha_slope(v, at_alpha(curvature, metric), lambda _: curvature, 1).frozen_curvature
    assert math.isclose(actual, difference(slope, metric), rel_tol=1e-5)


def test_slope_is_the_sum_of_its_terms(setting, xp):
    metric, v, curvature, _ = setting

    def curvature_at(velocity):
        size = 1 + float(metric.inner(velocity - v, velocity - v))
        return DataCurvature(metric, size * curvature.tensor, curvature.grid)

    s = alpha_slope(v, at_alpha(curvature, metric), curvature_at, 1)
    terms = metric.power / 2 * (s.roughness - s.modes + s.undetermined) + s.drift
    assert math.isclose(s.value, terms, rel_tol=1e-12)
    # Between no data, where it cancels the modes, and all data: 0 < s⁻² tr(E H⁻¹) < modes.
    assert 0 < s.undetermined < s.modes


def test_without_data_the_trace_cancels_the_modes(setting, xp):
    # H = L/s²: s⁻² tr(E H⁻¹) = d Σ_k αA_k / (αA_k + 1)
    metric, v, curvature, _ = setting
    nothing = DataCurvature(metric, 0.0 * curvature.tensor, curvature.grid)
    s = alpha_slope(v, PosteriorHessian(metric, nothing), lambda _: nothing, 1)
    assert math.isclose(s.undetermined, s.modes, rel_tol=laws.rtol_of(np.float64))
    assert s.drift == 0.0


def test_change_is_that_of_the_log_determinant(setting, xp):
    # tr(H⁻¹ ΔH) against dense algebra
    metric, v, curvature, change = setting
    hessian = at_alpha(curvature, metric)
    actual = dense_traces(v, hessian, xp).change(change)[0]
    matrices = [to_numpy(dense_matrix(op, metric.band, xp)) for op in (hessian, change)]
    expected = np.trace(np.linalg.solve(*matrices))
    assert math.isclose(actual, expected, rel_tol=laws.rtol_of(np.float64))


def test_drift_is_the_slope_of_the_log_determinant_along_it(setting, xp):
    # ½ tr(H⁻¹ dH/dv·dv/d ln α) = ½ d ln|H| as J*J moves along dv/d ln α
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    along = velocity_drift(v, hessian)
    length = float(metric.inner(along, along))
    spread = 0.1 * (curvature.tensor + xp.roll(curvature.tensor, 1, axis=-1))

    def curvature_at(velocity):
        t = float(metric.inner(velocity - v, along)) / length  # of ln α
        return DataCurvature(metric, curvature.tensor + t * spread, curvature.grid)

    def log_determinant(t):
        moved = PosteriorHessian(metric, curvature_at(v + t * along))
        return np.linalg.slogdet(to_numpy(dense_matrix(moved, metric.band, xp)))[1]

    actual = alpha_slope(v, hessian, curvature_at, 1).drift
    expected = 0.5 * (log_determinant(STEP) - log_determinant(-STEP)) / (2 * STEP)
    # `along` here stops at a hundredth of the residual; the slope's is dense.
    assert math.isclose(actual, expected, rel_tol=2e-2)


PROBES = 400


def test_stochastic_traces_equal_the_dense_ones(setting, xp):
    metric, v, curvature, change = setting
    hessian = at_alpha(curvature, metric)
    exact = dense_traces(v, hessian, xp)
    stochastic = stochastic_traces(v, hessian, PROBES, 3, xp)
    assert stochastic.noise < 0.05 * exact.undetermined
    assert abs(stochastic.undetermined - exact.undetermined) < 4 * stochastic.noise
    # The other two come without an error; that of a single probe, over batches of a tenth:
    batches = [stochastic_traces(v, hessian, PROBES // 10, seed, xp) for seed in range(10, 20)]
    for value in (lambda traces: traces.growth, lambda traces: traces.change(change)[0]):
        scatter = np.std([value(batch) for batch in batches], ddof=1) / math.sqrt(10)
        assert abs(value(stochastic) - value(exact)) < 5 * scatter
    # Conjugate gradients stop at a residual of a hundredth.
    off = stochastic.velocity - exact.velocity
    size = float(metric.inner(exact.velocity, exact.velocity))
    assert float(metric.inner(off, off)) < 1e-2 * size


def test_stochastic_error_is_honest(setting, xp):
    # The standard error it reports is the scatter over seeds, which 20 seeds give to 16 percent.
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    runs = [stochastic_traces(v, hessian, 20, seed, xp) for seed in range(20)]
    scatter = np.std([run.undetermined for run in runs], ddof=1)
    assert abs(math.log(scatter / np.mean([run.noise for run in runs]))) < 4 * 0.16


def test_probes_are_fixed_by_their_seed(setting, xp):
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    first, again, other = (
        stochastic_traces(v, hessian, 4, seed, xp).undetermined for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_velocity_drift(setting, xp):
    # H dv/d ln α = -(c/s²) E v
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    matrix = to_numpy(dense_matrix(hessian, metric.band, xp))
    pull = metric.power / metric.velocity_scale**2 * metric.alpha_symbol(xp) * v
    right = to_numpy(pack(pull, metric.band, xp)).ravel()
    expected = -np.linalg.solve(matrix, right)
    dense = to_numpy(pack(dense_traces(v, hessian, xp).velocity, metric.band, xp)).ravel()
    laws.close(dense, expected)
    actual = to_numpy(pack(velocity_drift(v, hessian), metric.band, xp)).ravel()
    # Conjugate gradients stop at a residual of a hundredth; H bounds the error in its own norm.
    error, size = (math.sqrt(x @ matrix @ x) for x in (actual - expected, expected))
    assert error < 2e-2 * size


def test_log_determinants(setting, xp):
    metric, _, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    expected = np.linalg.slogdet(to_numpy(dense_matrix(hessian, metric.band, xp)))[1]
    assert math.isclose(dense_log_determinant(hessian, xp), expected, rel_tol=1e-9)
    value, noise = stochastic_log_determinant(hessian, 100, 0, xp)
    assert abs(value - expected) < 4 * noise + 1e-3
    assert noise < 0.02 * metric.band.degrees_of_freedom


def test_log_determinant_of_the_prior_needs_no_probe(setting, xp):
    # Without data D is H: the quadrature is of the identity, and exact.
    metric, _, curvature, _ = setting
    nothing = DataCurvature(metric, 0.0 * curvature.tensor, curvature.grid)
    hessian = PosteriorHessian(metric, nothing)
    value, noise = stochastic_log_determinant(hessian, 2, 0, xp)
    size = metric.band.degrees_of_freedom
    prior = metric.log_determinant(xp) - 2 * size * math.log(metric.velocity_scale)
    assert math.isclose(value, prior, rel_tol=1e-9, abs_tol=1e-6)
    assert noise < 1e-6
    assert math.isclose(negative_log_marginal(3.0, hessian)[0], 3.0, rel_tol=1e-6)


def marginal(problem, metric, start, exact):
    """(F, minimum) with v re-optimised: the definition.

    The energy has kinks, at which rounding decides where a fit ends: the best of several.
    """
    nudges = [0.01 * velocity(metric, seed) for seed in range(REFITS - 1)]
    starts = [start, *(start + nudge for nudge in nudges)]
    fits = [minimise(problem, metric, v, tolerance=1e-7, max_iterations=300) for v in starts]
    found = min(fits, key=lambda fit: fit.evaluation.total)
    curvature = data_curvature(problem, found.evaluation.geodesic, exact)
    hessian = PosteriorHessian(metric, curvature)
    return negative_log_marginal(found.evaluation.total, hessian)[0], found


@pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
def test_slope_is_the_derivative_of_the_marginal(exact):
    # F(α) = min_v {…} - ½ ln|L/s²| + ½ ln|H|, v re-optimised at every α. The drift of J is that of
    # Gauss-Newton, right where the residual is small: the target is the deformed source. What the
    # slope leaves out, how φ depends on L(α) at fixed v (erratum E8), is under a hundredth of its
    # terms.
    metric = Metric.create((24, 22), modes=6, alpha=2.0, velocity_scale=0.3)
    source = smooth_image((24, 22), 0)
    truth = velocity(metric, 5, factor=1.0)
    blank = Problem(source, source, (1.0, 1.0), 1.0, num_steps=3)
    target = blank.deformed(blank.shoot(truth, metric))
    target = target + 0.01 * np.random.default_rng(0).standard_normal(target.shape)
    problem = Problem(source, target, (1.0, 1.0), 1 / 0.01**2, num_steps=3)
    h = REFIT_STEP
    _, found = marginal(problem, metric, truth, exact)
    v = found.velocity
    ends = {
        s: marginal(problem, metric.with_alpha(2.0 * math.exp(s)), v, exact)[0]
        for s in (-2 * h, -h, h, 2 * h)
    }
    near, far = ((ends[s] - ends[-s]) / (2 * s) for s in (h, 2 * h))
    expected = (4 * near - far) / 3  # without the term in h²
    curvature = data_curvature(problem, found.evaluation.geodesic, exact)
    slope = alpha_slope(
        v,
        PosteriorHessian(metric, curvature),
        lambda velocity: data_curvature(problem, problem.shoot(velocity, metric), exact),
        1,
    )
    assert abs(slope.value - expected) < 0.01 * metric.power / 2 * slope.modes

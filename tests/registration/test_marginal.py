"""The slope of the marginal in ln α, term by term."""

import math

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.registration.energy import Problem
from fourierreg.registration.hessian import DataCurvature, PosteriorHessian, data_curvature
from fourierreg.registration.marginal import (
    _packed_diagonal,
    alpha_slope,
    dense_matrix,
    dense_traces,
    joint_slope,
    stochastic_traces,
    velocity_drift,
)
from fourierreg.registration.optimise import minimise
from fourierreg.spectral.band import pack
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_image, velocity
from tests.registration import problems

REFIT_STEP = 0.02  # of ln α, between registrations, each of which stops at a small error
STEP = 1e-4  # of ln α; a central difference is wrong by STEP² times a third derivative


@pytest.fixture(params=["2d", "2d-anisotropic"])
def setting(request, backend):
    """(metric, v, curvature, curvatures beside): J ≈ -g·."""
    metric, problem, v, geodesic = problems.solved(request.param)
    beside = [
        data_curvature(problem, problems.shoot(s * v, metric, num_steps=problem.num_steps))
        for s in (0.95, 1.05)
    ]
    return metric, v, data_curvature(problem, geodesic), beside


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
    laws.close(np.diag(to_numpy(_packed_diagonal(symbol, metric, xp))), expected)
    log_determinant = float(np.sum(np.log(to_numpy(_packed_diagonal(symbol, metric, xp)))))
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
    metric, _, curvature, beside = setting

    def half_log(m):
        matrix = to_numpy(dense_matrix(at_alpha(curvature, m), m.band, xp))
        return 0.5 * np.linalg.slogdet(matrix)[1]

    trace, _, noise, _ = dense_traces(at_alpha(curvature, metric), beside, 1, 0, xp)
    assert math.isclose(metric.power / 2 * trace, difference(half_log, metric), rel_tol=1e-5)
    assert noise == 0.0


def test_frozen_curvature(setting, xp):
    metric, v, curvature, beside = setting

    def slope(m):
        full = alpha_slope(v, at_alpha(curvature, m), beside, 1.0, 1)
        return full.value - full.drift

    actual = alpha_slope(v, at_alpha(curvature, metric), beside, 1.0, 1).frozen_curvature
    assert math.isclose(actual, difference(slope, metric), rel_tol=1e-5)


def test_slope_is_the_sum_of_its_terms(setting, xp):
    metric, v, curvature, beside = setting
    s = alpha_slope(v, at_alpha(curvature, metric), beside, 0.05, 1)
    terms = metric.power / 2 * (s.roughness - s.modes + s.undetermined) + s.drift
    assert math.isclose(s.value, terms, rel_tol=1e-12)
    # Between no data, where it cancels the modes, and all data: 0 < s⁻² tr(E H⁻¹) < modes.
    assert 0 < s.undetermined < s.modes


def test_without_data_the_trace_cancels_the_modes(setting, xp):
    # H = L/s²: s⁻² tr(E H⁻¹) = d Σ_k αA_k / (αA_k + 1)
    metric, v, curvature, _ = setting
    nothing = DataCurvature(metric, 0.0 * curvature.tensor, curvature.grid)
    s = alpha_slope(v, PosteriorHessian(metric, nothing), [nothing, nothing], 0.05, 1)
    assert math.isclose(s.undetermined, s.modes, rel_tol=laws.rtol_of(np.float64))
    assert s.drift == 0.0


def test_change_is_that_of_the_log_determinant(setting, xp):
    # tr(H⁻¹ ΔH), ΔH the difference of two data curvatures, against dense algebra
    metric, _, curvature, beside = setting
    hessian = at_alpha(curvature, metric)
    *_, change = dense_traces(hessian, beside, 1, 0, xp)
    matrices = [to_numpy(dense_matrix(op, metric.band, xp)) for op in (hessian, *beside)]
    expected = np.trace(np.linalg.solve(matrices[0], matrices[2] - matrices[1]))
    assert math.isclose(change, expected, rel_tol=laws.rtol_of(np.float64))


def test_drift_is_the_slope_of_the_log_determinant_along_it(setting, xp):
    # ½ tr(H⁻¹ dH/dv·dv/d ln α) = ½ d ln|H| as J*J moves from one side to the other
    metric, v, curvature, _ = setting
    spread = 0.1 * (curvature.tensor + xp.roll(curvature.tensor, 1, axis=-1))
    beside = [
        DataCurvature(metric, curvature.tensor + sign * STEP * spread, curvature.grid)
        for sign in (-1.0, 1.0)
    ]
    low, high = (
        np.linalg.slogdet(to_numpy(dense_matrix(PosteriorHessian(metric, c), metric.band, xp)))[1]
        for c in beside
    )
    actual = alpha_slope(v, at_alpha(curvature, metric), beside, STEP, 1).drift
    assert math.isclose(actual, 0.5 * (high - low) / (2 * STEP), rel_tol=1e-5)


def test_stochastic_traces_equal_the_dense_ones(setting, xp):
    metric, _, curvature, beside = setting
    hessian = at_alpha(curvature, metric)
    probes = 400
    exact = dense_traces(hessian, beside, 1, 0, xp)
    stochastic = stochastic_traces(hessian, beside, probes, 3, xp)
    trace, growth, noise, change = stochastic
    assert noise < 0.05 * exact[0]
    assert abs(trace - exact[0]) < 4 * noise
    # The other two come without an error; that of a single probe, over batches of a tenth:
    batches = [stochastic_traces(hessian, beside, probes // 10, seed, xp) for seed in range(10, 20)]
    for index, value in ((1, growth), (3, change)):
        scatter = np.std([batch[index] for batch in batches], ddof=1) / math.sqrt(10)
        assert abs(value - exact[index]) < 5 * scatter


def test_stochastic_error_is_honest(setting, xp):
    # The standard error it reports is the scatter over seeds, which 20 seeds give to 16 percent.
    metric, _, curvature, beside = setting
    hessian = at_alpha(curvature, metric)
    runs = [stochastic_traces(hessian, beside, 20, seed, xp) for seed in range(20)]
    ratio = np.std([run[0] for run in runs], ddof=1) / np.mean([run[2] for run in runs])
    assert abs(math.log(ratio)) < 4 * 0.16


def test_probes_are_fixed_by_their_seed(setting, xp):
    metric, _, curvature, beside = setting
    hessian = at_alpha(curvature, metric)
    first, again, other = (stochastic_traces(hessian, beside, 4, seed, xp) for seed in (0, 0, 1))
    assert first == again
    assert first[0] != other[0]


def test_velocity_drift(setting, xp):
    # H dv/d ln α = -(c/s²) E v
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    matrix = to_numpy(dense_matrix(hessian, metric.band, xp))
    pull = metric.power / metric.velocity_scale**2 * metric.alpha_symbol(xp) * v
    right = to_numpy(pack(pull, metric.band, xp)).ravel()
    expected = -np.linalg.solve(matrix, right)
    actual = to_numpy(pack(velocity_drift(v, hessian), metric.band, xp)).ravel()
    # Conjugate gradients stop at a residual of a hundredth; H bounds the error in its own norm.
    error, size = (math.sqrt(x @ matrix @ x) for x in (actual - expected, expected))
    assert error < 2e-2 * size


def marginal(problem, metric, start, exact):
    """(F, minimum) with v re-optimised: the definition, by dense algebra."""
    found = minimise(problem, metric, start, tolerance=1e-7, max_iterations=300)
    curvature = data_curvature(problem, found.evaluation.geodesic, exact)
    matrix = dense_matrix(PosteriorHessian(metric, curvature), metric.band, np)
    scaled = metric.log_determinant(np) - 2 * metric.band.degrees_of_freedom * math.log(
        metric.velocity_scale
    )
    value = found.evaluation.total - 0.5 * scaled + 0.5 * np.linalg.slogdet(matrix)[1]
    return value, found


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
    ends = [marginal(problem, metric.with_alpha(2.0 * math.exp(s)), v, exact)[0] for s in (-h, h)]
    expected = (ends[1] - ends[0]) / (2 * h)
    curvature = data_curvature(problem, found.evaluation.geodesic, exact)
    hessian = PosteriorHessian(metric, curvature)
    drift = h * velocity_drift(v, hessian)
    beside = [
        data_curvature(problem, problem.shoot(v + s * drift, metric), exact) for s in (-1.0, 1.0)
    ]
    slope = alpha_slope(v, hessian, beside, h, 1)
    assert abs(slope.value - expected) < 0.01 * metric.power / 2 * slope.modes

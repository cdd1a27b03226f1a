"""The slope of the marginal posterior in ln α, term by term."""

import math

import numpy as np
import pytest

from fourierreg.model.hessian import DataCurvature, PosteriorHessian, data_curvature
from fourierreg.model.laplace import (
    alpha_slope,
    joint_slope,
    negative_log_marginal,
    velocity_derivative,
)
from fourierreg.model.problem import Problem
from fourierreg.model.traces import dense_traces, stochastic_log_determinant
from fourierreg.registration.fit import fit
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_image
from tests.laws import scalar
from tests.model import problems
from tests.model.curvatures import (
    at_alpha,
    curvatures_of,
    dense,
    is_close,
    log_determinant,
    packed,
    without_data,
)

REFIT_STEP = 0.15  # of ln α, between registrations, each of which stops at a small error
REFITS = 4
STEP = 1e-4  # of ln α; a central difference is wrong by STEP² times a third derivative


@pytest.fixture(params=["2d", "2d-anisotropic"])
def setting(request, backend):
    return curvatures_of(request.param)


def difference(f, metric):
    """df/d ln α by central differences."""
    above, below = (
        scalar(f(metric.with_alphas([metric.alphas[0] * math.exp(s)]))) for s in (STEP, -STEP)
    )
    return (above - below) / (2 * STEP)


def test_joint_slope(metric, xp):
    # ⟨Lv, v⟩/2s² - ½ ln|L| (errata E3, E4)
    metric = metric.batch()
    v = problems.velocity(metric, 0)

    def joint(m):
        prior = 0.5 * scalar(m.inner(v, v)) / m.velocity_scale**2
        return prior - 0.5 * scalar(m.log_determinant(xp))

    slope = joint_slope(v, metric)
    assert is_close(slope.value, difference(joint, metric), rel_tol=1e-5)
    growth = difference(lambda m: joint_slope(v, m).value, metric)
    assert is_close(slope.frozen_curvature, growth, rel_tol=1e-5)
    for part in (slope.undetermined, slope.drift, slope.noise):
        assert scalar(part) == 0.0
    assert slope.velocity_derivative is None


def test_undetermined_is_the_slope_of_the_log_determinant_of_h(setting, xp):
    # (c/2) s⁻² tr(E H⁻¹) = d/d ln α ½ ln|H| at frozen J*J
    metric, v, curvature, _ = setting

    def half_log(m):
        return 0.5 * log_determinant(dense(at_alpha(curvature, m), m, xp))

    traces = dense_traces(v, at_alpha(curvature, metric), xp)
    expected = difference(half_log, metric)
    assert is_close(metric.power / 2 * traces.undetermined, expected, rel_tol=1e-5)
    assert scalar(traces.noise) == 0.0


def test_frozen_curvature(setting, xp):
    metric, v, curvature, _ = setting

    def slope(m):
        full = alpha_slope(v, at_alpha(curvature, m), lambda _: curvature, 1)
        return full.value - full.drift

    actual = alpha_slope(v, at_alpha(curvature, metric), lambda _: curvature, 1).frozen_curvature
    assert is_close(actual, difference(slope, metric), rel_tol=1e-5)


def test_slope_is_the_sum_of_its_terms(setting, xp):
    metric, v, curvature, _ = setting

    def curvature_at(velocity):
        size = 1 + scalar(metric.inner(velocity - v, velocity - v))
        return DataCurvature(metric, size * curvature.tensor, curvature.grid)

    s = alpha_slope(v, at_alpha(curvature, metric), curvature_at, 1)
    terms = metric.power / 2 * (s.roughness - s.modes + s.undetermined) + s.drift
    assert is_close(s.value, terms, rel_tol=1e-12)
    # Between no data, where it cancels the modes, and all data: 0 < s⁻² tr(E H⁻¹) < modes.
    assert 0 < scalar(s.undetermined) < scalar(s.modes)


def test_without_data_the_trace_cancels_the_modes(setting, xp):
    # H = L/s²: s⁻² tr(E H⁻¹) = d Σ_k αA_k / (αA_k + 1)
    metric, v, curvature, _ = setting
    nothing = without_data(curvature, metric)
    s = alpha_slope(v, PosteriorHessian(metric, nothing), lambda _: nothing, 1)
    assert is_close(s.undetermined, s.modes, rel_tol=laws.rtol_of(np.float64))
    assert scalar(s.drift) == 0.0


def test_drift_is_the_slope_of_the_log_determinant_along_the_velocity_derivative(setting, xp):
    # ½ tr(H⁻¹ dH/dv·dv/d ln α) = ½ d ln|H| as J*J moves along dv/d ln α
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    along = velocity_derivative(v, hessian)
    length = scalar(metric.inner(along, along))
    spread = 0.1 * (curvature.tensor + xp.roll(curvature.tensor, 1, axis=-1))

    def curvature_at(velocity):
        t = scalar(metric.inner(velocity - v, along)) / length  # of ln α
        return DataCurvature(metric, curvature.tensor + t * spread, curvature.grid)

    def moved(t):
        return log_determinant(
            dense(PosteriorHessian(metric, curvature_at(v + t * along)), metric, xp)
        )

    actual = alpha_slope(v, hessian, curvature_at, 1).drift
    expected = 0.5 * (moved(STEP) - moved(-STEP)) / (2 * STEP)
    # `along` here stops at a hundredth of the residual; the slope's is dense.
    assert is_close(actual, expected, rel_tol=2e-2)


def test_velocity_derivative(setting, xp):
    # H dv/d ln α = -(c/s²) E v
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    matrix = dense(hessian, metric, xp)
    force = metric.power / metric.velocity_scale**2 * metric.alpha_symbol(xp) * v
    expected = -np.linalg.solve(matrix, packed(force, metric, xp))
    laws.close(packed(dense_traces(v, hessian, xp).velocity_derivative, metric, xp), expected)
    actual = packed(velocity_derivative(v, hessian), metric, xp)
    # Conjugate gradients stop at a residual of a hundredth; H bounds the error in its own norm.
    error, size = (math.sqrt(x @ matrix @ x) for x in (actual - expected, expected))
    assert error < 2e-2 * size


def test_log_determinant_of_the_prior_needs_no_probe(setting, xp):
    # Without data D is H: the quadrature is of the identity, and exact.
    metric, _, curvature, _ = setting
    hessian = PosteriorHessian(metric, without_data(curvature, metric))
    value, noise = stochastic_log_determinant(hessian, 2, 0, xp)
    size = metric.band.degrees_of_freedom
    prior = scalar(metric.log_determinant(xp)) - 2 * size * math.log(metric.velocity_scale)
    assert math.isclose(value, prior, rel_tol=1e-9, abs_tol=1e-6)
    assert noise < 1e-6
    found, error = negative_log_marginal(np.array([3.0]), hessian)
    assert is_close(found, 3.0, rel_tol=1e-6)
    assert scalar(error) == 0.0


def marginal(problem, metric, start, exact):
    """(F, minimum) with v re-optimized: the definition.

    The energy has kinks, at which rounding decides where a fit ends: the best of several.
    """
    nudges = [0.01 * problems.velocity(metric, seed) for seed in range(REFITS - 1)]
    options = {"tolerance": 1e-7, "max_iterations": 300, "record": lambda *_: None}
    minima = [
        fit(problem, metric, v, [None], **options)[0]
        for v in (start, *(start + nudge for nudge in nudges))
    ]
    found = min(minima, key=lambda minimum: scalar(minimum.evaluation.total))
    curvature = data_curvature(problem, found.evaluation.geodesic, exact)
    hessian = PosteriorHessian(metric, curvature)
    return scalar(negative_log_marginal(found.evaluation.total, hessian)[0]), found


@pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
def test_slope_is_the_derivative_of_the_marginal(exact):
    # F(α) = min_v {…} - ½ ln|L/s²| + ½ ln|H|, v re-optimized at every α. The drift of J is that of
    # Gauss-Newton, right where the residual is small: the target is the deformed source. What the
    # slope leaves out, how φ depends on L(α) at fixed v (erratum E8), is under a hundredth of its
    # terms.
    metric = Metric.create((24, 22), modes=6, alpha=2.0, velocity_scale=0.3).batch()
    source = smooth_image((24, 22), 0)
    truth = problems.velocity(metric, 5, factor=1.0)
    blank = Problem.of_pair(source, source, (1.0, 1.0), num_steps=3)
    target = blank.deformed(blank.shoot(truth, metric))[0]
    target = target + 0.01 * np.random.default_rng(0).standard_normal(target.shape)
    problem = Problem.of_pair(source, target, (1.0, 1.0), 1 / 0.01**2, num_steps=3)
    h = REFIT_STEP
    _, found = marginal(problem, metric, truth, exact)
    v = found.velocity
    ends = {
        s: marginal(problem, metric.with_alphas([2.0 * math.exp(s)]), v, exact)[0]
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
    error = abs(scalar(slope.value) - expected)
    assert error < 0.01 * metric.power / 2 * scalar(slope.modes)

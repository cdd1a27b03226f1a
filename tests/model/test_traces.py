"""Traces and log-determinants of the posterior Hessian: stochastic ones, and dense algebra."""

import math

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.model.traces import (
    dense_log_determinant,
    dense_traces,
    stochastic_log_determinant,
    stochastic_traces,
)
from fourierreg.spectral.band import packed_diagonal
from tests import laws
from tests.laws import scalar
from tests.model.curvatures import at_alpha, curvatures_of, dense, is_close, log_determinant

PROBES = 400


@pytest.fixture(params=["2d", "2d-anisotropic"])
def setting(request, backend):
    return curvatures_of(request.param)


def test_packed_diagonal(setting, xp):
    metric, *_ = setting
    symbol = metric.symbol(xp)
    expected = dense(lambda w: symbol * w, metric, xp)
    diagonal = np.ravel(to_numpy(packed_diagonal(symbol, metric.band, xp)))
    laws.close(np.diag(diagonal), expected)
    assert is_close(np.sum(np.log(diagonal)), metric.log_determinant(xp), rel_tol=1e-9)


def test_change_is_that_of_the_log_determinant(setting, xp):
    # tr(H⁻¹ ΔH) against dense algebra
    metric, v, curvature, (low, high) = setting
    hessian = at_alpha(curvature, metric)
    actual = dense_traces(v, hessian, xp).change(low, high)[0]
    h, change = dense(hessian, metric, xp), dense(lambda w: high(w) - low(w), metric, xp)
    expected = np.trace(np.linalg.solve(h, change))
    assert is_close(actual, expected, rel_tol=laws.rtol_of(np.float64))


def test_stochastic_traces_equal_the_dense_ones(setting, xp):
    metric, v, curvature, (low, high) = setting
    hessian = at_alpha(curvature, metric)
    exact = dense_traces(v, hessian, xp)
    stochastic = stochastic_traces(v, hessian, PROBES, 3, xp)
    noise, undetermined = scalar(stochastic.noise), scalar(exact.undetermined)
    assert noise < 0.05 * undetermined
    assert abs(scalar(stochastic.undetermined) - undetermined) < 4 * noise
    # The other two have no error of their own; that of one probe, from batches of a tenth:
    batches = [stochastic_traces(v, hessian, PROBES // 10, seed, xp) for seed in range(10, 20)]
    for value in (
        lambda traces: scalar(traces.growth),
        lambda traces: scalar(traces.change(low, high)[0]),
    ):
        scatter = np.std([value(batch) for batch in batches], ddof=1) / math.sqrt(10)
        assert abs(value(stochastic) - value(exact)) < 5 * scatter
    # Conjugate gradients stop at a residual of a hundredth.
    off = stochastic.velocity_derivative - exact.velocity_derivative
    size = scalar(metric.inner(exact.velocity_derivative, exact.velocity_derivative))
    assert scalar(metric.inner(off, off)) < 1e-2 * size


def test_stochastic_error_is_honest(setting, xp):
    # The reported standard error is the scatter over seeds, which 20 seeds give to 16 percent.
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    runs = [stochastic_traces(v, hessian, 20, seed, xp) for seed in range(20)]
    scatter = np.std([scalar(run.undetermined) for run in runs], ddof=1)
    assert abs(math.log(scatter / np.mean([scalar(run.noise) for run in runs]))) < 4 * 0.16


def test_probes_are_fixed_by_their_seed(setting, xp):
    metric, v, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    first, again, other = (
        scalar(stochastic_traces(v, hessian, 4, seed, xp).undetermined) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_log_determinants(setting, xp):
    metric, _, curvature, _ = setting
    hessian = at_alpha(curvature, metric)
    expected = log_determinant(dense(hessian, metric, xp))
    assert math.isclose(dense_log_determinant(hessian, xp), expected, rel_tol=1e-9)
    value, noise = stochastic_log_determinant(hessian, 100, 0, xp)
    assert abs(value - expected) < 4 * noise + 1e-3
    assert noise < 0.02 * metric.band.degrees_of_freedom

"""Several pairs in one batch: every number equals that of the pair as a batch of one."""

import math

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.image.similarity import LocalCorrelation, similarity_of
from fourierreg.model import traces
from fourierreg.model.end_map import is_diffeomorphism
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import joint_slope, negative_log_marginal
from fourierreg.registration.alpha_search import Gamma
from fourierreg.registration.tasks import AlphaSlope, VelocityDerivative
from tests import laws
from tests.fields import white
from tests.laws import scalar
from tests.model.problems import (
    BATCH_CASES,
    concatenated,
    pairs_fixture,
    requests_of,
    run_single,
)

FORMS_OF_J = pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
METHODS = pytest.mark.parametrize("method", ["dense", "stochastic"])
MORE_CASES = {
    "jacobi": ("2d", {"gradient": "jacobi"}),
    "ncc": ("2d", {"similarity": similarity_of("ncc")}),
    "ncc masked": ("3d-anisotropic", {"similarity": similarity_of("ncc"), "masked": True}),
    "lncc": ("2d", {"similarity": LocalCorrelation(radius=2), "finer": True}),
    "lncc masked": ("2d-anisotropic", {"similarity": LocalCorrelation(radius=2), "masked": True}),
    "mi": ("3d-anisotropic", {"similarity": similarity_of("mi")}),
    "mi masked": ("2d", {"similarity": similarity_of("mi"), "masked": True}),
}

pairs = pairs_fixture(BATCH_CASES)
any_pairs = pairs_fixture(BATCH_CASES | MORE_CASES)


def hessian_at(problem, metric, v, exact=False):
    return PosteriorHessian(metric, problem.curvature(problem.shoot(v, metric), exact))


def choose(method, monkeypatch):
    """Make traces and log-determinants dense or stochastic, whatever the size of the band."""
    monkeypatch.setattr(traces, "DENSE_LIMIT", {"dense": 10**6, "stochastic": 0}[method])


def test_metric(pairs, xp):
    _, metric, v = concatenated(pairs, xp)
    probes = xp.stack([v, 2.0 * v])  # other axes come before that of pairs
    for index, (_, batch_of_one, w) in enumerate(pairs):
        single = batch_of_one.metric(0)
        assert metric.metric(index) == single
        laws.close(metric.lower(v)[index], single.lower(w[0]))
        laws.close(metric.raise_(probes)[1, index], single.raise_(2.0 * w[0]))
        laws.close(metric.inner(v, v)[index], single.inner(w[0], w[0]))
        for name in ("log_determinant", "effective_modes"):
            assert getattr(metric, name)(xp)[index] == pytest.approx(getattr(single, name)(xp))
    assert metric.select([2, 0]).alphas == (5.0, 2.0)


def test_select_undoes_concatenate(pairs, xp):
    problem, metric, _ = concatenated(pairs, xp)
    for index, (own, own_metric, _) in enumerate(pairs):
        found = problem.select([index])
        for name in ("source", "target", "mask"):
            part, whole = getattr(found, name), getattr(own, name)
            if whole is None:
                assert part is None
            else:
                np.testing.assert_array_equal(to_numpy(part), to_numpy(whole))
        assert found.weight.tolist() == own.weight.tolist()
        assert found.batch_key == own.batch_key == problem.batch_key
        assert metric.select([index]) == own_metric


def test_energy_and_gradient(any_pairs, xp):
    problem, metric, v = concatenated(any_pairs, xp)
    found = problem.evaluate(v, metric)
    for index, (own, own_metric, w) in enumerate(any_pairs):
        expected = own.evaluate(w, own_metric)
        selected = found.select([index])
        laws.close(found.gradient[index : index + 1], expected.gradient)
        laws.close(selected.gradient, expected.gradient)
        for energy, part, single in zip(found[:3], selected[:3], expected[:3], strict=True):
            assert energy[index] == pytest.approx(scalar(single))
            assert scalar(part) == energy[index]
        assert selected.geodesic.metric == own_metric
        laws.close(selected.geodesic.displacement(), expected.geodesic.displacement())


def test_a_pair_that_folds_is_refused_without_effect_on_the_others(any_pairs, xp):
    problem, metric, v = concatenated(any_pairs, xp)
    v[1] *= 200.0
    found = problem.evaluate(v, metric)
    good = is_diffeomorphism(found.geodesic, problem.shape)
    assert good.tolist() == np.isfinite(found.total).tolist() == [True, False, True]
    assert [energy[1] for energy in found[:3]] == [math.inf] * 3
    assert float(xp.max(xp.abs(found.gradient[1]))) == 0.0
    for index in (0, 2):
        own, own_metric, w = any_pairs[index]
        expected = own.evaluate(w, own_metric)
        assert found.total[index] == pytest.approx(scalar(expected.total))
        laws.close(found.gradient[index : index + 1], expected.gradient)
    nothing = problem.evaluate(200.0 * v, metric)
    assert np.all(np.isinf(nothing.total)) and nothing.gradient is None


def on_gpu(xp):
    """Tolerance of what contains sums over voxels, whose order on a GPU depends on the batch."""
    return 1e-4 if xp.__name__ == "cupy" else None


@FORMS_OF_J
def test_hessian(any_pairs, xp, exact):
    hessian = hessian_at(*concatenated(any_pairs, xp), exact)
    w = white(hessian.metric.band, 7, batch=(2, 3))
    image, solved = hessian(w), hessian.solve(w, rtol=1e-6)
    for index, pair in enumerate(any_pairs):
        single, part = hessian_at(*pair, exact), slice(index, index + 1)
        laws.close(image[:, part], single(w[:, part]), rtol=on_gpu(xp))
        laws.close(hessian.select([index])(w[:, part]), single(w[:, part]), rtol=on_gpu(xp))
        laws.close(solved[:, part], single.solve(w[:, part], rtol=1e-6), rtol=on_gpu(xp))
        laws.close(hessian.diagonal(xp)[part], single.diagonal(xp), rtol=on_gpu(xp))


PARTS_OF_A_SLOPE = ("value", "roughness", "modes", "undetermined", "drift", "noise")


@FORMS_OF_J
@METHODS
def test_slopes_of_the_marginal(pairs, xp, monkeypatch, method, exact):
    choose(method, monkeypatch)
    requests = requests_of(AlphaSlope, pairs, exact, 5)
    for found, request in zip(AlphaSlope.run(requests), requests, strict=True):
        expected = run_single(request)
        for name in PARTS_OF_A_SLOPE:
            assert isinstance(getattr(found, name), float)
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6), name
        assert (found.noise > 0) == (method == "stochastic")
        assert found.frozen_curvature == pytest.approx(expected.frozen_curvature)
        laws.close(found.velocity_derivative, expected.velocity_derivative)
        assert isinstance(found.plus(Gamma(2.0, 3.0), 2.0).value, float)


def test_slopes_of_the_joint_posterior(pairs, xp):
    _, metric, v = concatenated(pairs, xp)
    slopes = joint_slope(v, metric).unstack()
    for found, (_, own_metric, w) in zip(slopes, pairs, strict=True):
        (expected,) = joint_slope(w, own_metric).unstack()
        assert found[:7] == pytest.approx(expected[:7])
        assert found.velocity_derivative is None


@METHODS
def test_marginal(pairs, xp, monkeypatch, method):
    choose(method, monkeypatch)
    totals = np.array([3.0, 4.0, 5.0])
    values, errors = negative_log_marginal(totals, hessian_at(*concatenated(pairs, xp)))
    assert values.shape == errors.shape == (3,)
    for index, pair in enumerate(pairs):
        single, error = negative_log_marginal(totals[[index]], hessian_at(*pair))
        assert values[index] == pytest.approx(scalar(single))
        assert errors[index] == pytest.approx(scalar(error))


def test_derivatives_of_the_velocity(any_pairs, xp):
    requests = requests_of(VelocityDerivative, any_pairs)
    for found, request in zip(VelocityDerivative.run(requests), requests, strict=True):
        laws.close(found, run_single(request), rtol=on_gpu(xp))

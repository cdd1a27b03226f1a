"""Requests of several pairs run as one batch, and which requests can be."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fourierreg.backend import asarray
from fourierreg.image.similarity import similarity_of
from fourierreg.model.full_grid import FullGridProblem
from fourierreg.optim.batching import run, run_all
from fourierreg.registration import tasks
from fourierreg.registration.fit import fit
from fourierreg.registration.tasks import AlphaSlope, Fit, VelocityDerivative
from fourierreg.spectral.band import inner
from tests import laws
from tests.laws import scalar
from tests.model.problems import (
    BATCH_CASES,
    concatenated,
    pairs_fixture,
    requests_of,
    run_single,
    three_pairs,
)

pairs = pairs_fixture(BATCH_CASES)


def solvable(pairs):
    """The same pairs; each target is its source deformed, with a little noise."""
    changed = []
    for index, (problem, metric, v) in enumerate(pairs):
        deformed = problem.deformed(problem.shoot(0.7 * v, metric))
        noise = np.random.default_rng(index).standard_normal((1, *problem.shape))
        changed.append((replace(problem, target=deformed + asarray(0.05 * noise)), metric, v))
    return changed


def fits(pairs, records=None, memory=None, **changes):
    """Requests of fits from zero; records[pair] collects what is recorded."""
    options = {"tolerance": 1e-3, "max_iterations": 300} | changes
    return [
        Fit(
            problem,
            metric,
            0.0 * v,
            memory=None if memory is None else memory[index],
            record=lambda *energies, index=index: records and records[index].append(energies),
            **options,
        )
        for index, (problem, metric, v) in enumerate(pairs)
    ]


def check_same_minimum(found, expected, backend):
    """Two fits that ended at the same velocity, in the same number of iterations.

    On a GPU the order of a sum may depend on the number of pairs, and rounding decides where a fit
    ends, as the energy has kinks.
    """
    if backend == "cupy":
        laws.close(found.velocity, expected.velocity, rtol=0.05)
        return
    laws.close(found.velocity, expected.velocity)
    assert found[2:5] == expected[2:5]
    for vectors, single in zip(found.pairs, expected.pairs, strict=True):
        assert vectors.shape == single.shape
        if vectors.size:  # a fit that fails drops its memory
            laws.close(vectors, single)


def test_fits(pairs, xp, backend):
    records, pairs = [[], [], []], solvable(pairs)
    requests = fits(pairs, records)
    for found, request, recorded in zip(Fit.run(requests), fits(pairs), records, strict=True):
        expected = run_single(request)
        assert found.converged and not found.at_boundary
        check_same_minimum(found, expected, backend)
        enough = request.tolerance * math.sqrt(request.metric.band.degrees_of_freedom)
        total = scalar(found.evaluation.total)
        assert abs(total - scalar(expected.evaluation.total)) < 10 * enough
        totals = np.array(recorded)[:, :2].sum(axis=1)
        assert np.all(np.diff(totals) <= 0) and len(totals) == found.iterations
        assert totals[-1] == pytest.approx(total)
        gradient = found.evaluation.gradient
        norm = math.sqrt(scalar(inner(gradient, gradient, request.metric.band, xp)))
        assert recorded[-1][2] == pytest.approx(norm, rel=1e-3)


def test_fits_with_the_memory_of_earlier_fits(pairs, backend):
    pairs = solvable(pairs)
    memory = [minimum.pairs for minimum in Fit.run(fits(pairs, max_iterations=4))]
    memory[1] = None
    requests = fits(pairs, memory=memory, max_iterations=4)
    for index, (found, request) in enumerate(zip(Fit.run(requests), requests, strict=True)):
        assert found.pairs.steps.shape[0] == (4 if index == 1 else 8)
        check_same_minimum(found, run_single(request), backend)


def test_a_fit_at_the_boundary_has_no_effect_on_the_others(backend):
    pairs = three_pairs("2d")
    problem, metric, v = pairs[1]
    pairs[1] = replace(problem, weight=np.array([1e4])), metric, v
    requests = fits(pairs, max_iterations=20)
    minima = Fit.run(requests)
    assert minima[1].at_boundary
    for found, request in zip(minima, requests, strict=True):
        check_same_minimum(found, run_single(request), backend)


@pytest.mark.parametrize("name", ["ncc", "lncc", "mi"])
def test_fits_of_every_similarity(backend, name):
    pairs = solvable(three_pairs("2d", similarity=similarity_of(name)))
    requests = fits(pairs, max_iterations=5)
    for found, request in zip(Fit.run(requests), requests, strict=True):
        start = request.problem.evaluate(request.velocity, request.metric)
        assert scalar(found.evaluation.total) < scalar(start.total)
        check_same_minimum(found, run_single(request), backend)


def test_a_start_that_folds_is_shrunk_and_one_that_is_not_finite_fails(pairs, xp):
    problem, metric, v = concatenated(pairs, xp)
    v[0] *= float("nan")
    v[1] *= 200.0
    v[2] *= 0.0
    seen = []
    found = fit(
        problem,
        metric,
        v,
        [None] * 3,
        tolerance=0.1,
        max_iterations=5,
        record=lambda pair, *_: seen.append(pair),
    )
    assert isinstance(found[0], FloatingPointError)
    assert set(seen) == {1, 2}
    for minimum in found[1:]:
        assert np.isfinite(minimum.evaluation.total).tolist() == [True]


def coroutine(request):
    return (yield request)


def test_a_single_fit_that_is_not_finite_fails_on_every_backend(pairs, xp):
    request = fits(pairs)[0]
    wrong = replace(request, velocity=float("nan") * request.velocity)
    assert isinstance(run_single(wrong), FloatingPointError)
    with pytest.raises(FloatingPointError, match="not finite"):
        run(coroutine(wrong))
    assert np.isfinite(run_single(request).evaluation.total).tolist() == [True]


def test_batch_keys_tell_which_problems_can_be_concatenated(pairs):
    problem, metric, v = pairs[0]
    keys = {request.batch_key for request in fits(pairs)}
    assert len(keys) == 1
    (key,) = keys
    everywhere = asarray(np.ones(problem.target.shape, bool))
    changes = [
        {"spacing": tuple(2 * h for h in problem.spacing)},
        {"num_steps": problem.num_steps + 1},
        {"integrator": "euler" if problem.integrator == "rk4" else "rk4"},
        {"dynamics": "epdiff" if problem.dynamics == "stationary" else "stationary"},
        {"similarity": similarity_of("ncc")},
        {"gradient": "jacobi"},
        {"mask": everywhere if problem.mask is None else None},
        {"source": problem.source.astype(np.float32)},
        {"source": problem.source[:, 1:]},
        {"target": problem.target[:, 1:]},
    ]
    others = [fits([(replace(problem, **change), metric, v)])[0] for change in changes]
    rough = replace(metric, velocity_scale=2 * metric.velocity_scale)
    others += fits([(problem, rough, v)])
    assert len({key, *(request.batch_key for request in others)}) == len(others) + 1
    same = replace(problem, weight=2 * problem.weight, source=2 * problem.source)
    other = [(same, metric.with_alphas([7.0]), 2 * v)]
    assert fits(other, tolerance=0.5, max_iterations=7)[0].batch_key == key


def test_batch_keys_of_slopes(pairs, monkeypatch):
    """Exact and dense slopes run pair by pair, as they take memory for each."""

    def keys(exact, probes):
        return {request.batch_key for request in requests_of(AlphaSlope, pairs, exact, probes)}

    assert keys(False, 5) == {None}  # a small band: dense
    monkeypatch.setattr(tasks, "DENSE_LIMIT", 0)
    assert keys(True, 5) == {None}
    first, second = keys(False, 5), keys(False, 6)
    assert len(first) == len(second) == 1 and None not in first | second and first != second
    assert len({r.batch_key for r in requests_of(VelocityDerivative, pairs)}) == 1


def test_problems_of_the_full_grid_are_not_concatenated():
    (problem, metric, v), *_ = three_pairs("2d")
    options = {name: getattr(problem, name) for name in ("source", "target", "spacing", "weight")}
    (request,) = fits([(FullGridProblem(**options), metric, v)])
    assert request.batch_key is None


def test_coroutines_request_fits(pairs):
    requests = fits(solvable(pairs))
    minima = run_all([coroutine(request) for request in requests])
    assert all(minimum.converged for minimum in minima)

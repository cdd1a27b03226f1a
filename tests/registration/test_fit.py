"""Minimisation at a fixed α."""

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.model.problem import Problem, is_diffeomorphism
from fourierreg.registration.optimise import admissible_start, minimise
from fourierreg.simulation.bullseye import bullseye
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import velocity, white


@pytest.fixture
def pair(backend):
    """A bull-eye and a deformed one, with noise; float32, as in use."""
    shape = (40, 44)
    metric = Metric.create(shape, modes=7, alpha=3.0, velocity_scale=0.5)
    source = asarray(bullseye(shape, (14.0, 12.0), (7.0, 5.0)))
    truth = velocity(metric, 0, factor=1.0)
    blank = Problem(source, source, (1.0, 1.0), 1.0, num_steps=5)
    target = to_numpy(blank.deformed(blank.shoot(truth, metric)))
    target = target + 0.03 * np.random.default_rng(1).standard_normal(shape)
    problem = Problem(
        source, asarray(target.astype(np.float32)), (1.0, 1.0), 1 / 0.03**2, num_steps=5
    )
    return metric, problem, truth


def test_energy_falls_through_diffeomorphisms(pair, xp):
    metric, problem, truth = pair
    start = xp.zeros_like(truth)
    seen = []
    found = minimise(problem, metric, start, max_iterations=200, on_iteration=seen.append)
    totals = [problem.evaluate(start, metric).total, *(e.total for e in seen)]
    assert len(seen) > 3
    assert np.all(np.diff(totals) <= 0)
    assert all(is_diffeomorphism(e.geodesic, metric.band.shape) for e in seen)
    assert found.evaluation.total == totals[-1]
    assert found.settled
    assert found.evaluations >= len(seen)
    # The minimum lies below the truth, and its mismatch at the level of the noise.
    assert found.evaluation.total < problem.evaluate(truth, metric).total
    mean_square = 2 * found.evaluation.likelihood / problem.weight / problem.source.size
    assert abs(mean_square / 0.03**2 - 1) < 0.1
    laws.close(problem.evaluate(found.velocity, metric).total, found.evaluation.total)


def test_the_number_of_iterations_is_a_limit(pair, xp):
    metric, problem, truth = pair
    seen = []
    found = minimise(
        problem, metric, xp.zeros_like(truth), max_iterations=2, on_iteration=seen.append
    )
    assert len(seen) == 2
    assert not found.settled


def test_equal_images_need_no_step(pair, xp):
    metric, problem, truth = pair
    same = Problem(problem.source, problem.source, (1.0, 1.0), 100.0)
    found = minimise(same, metric, xp.zeros_like(truth))
    assert found.evaluation.total == 0.0
    assert found.settled


def test_a_start_that_folds_is_shrunk(pair, xp):
    metric, problem, _ = pair
    wild = 20.0 * white(metric.band, 3)
    v, evaluation = admissible_start(problem, metric, wild)
    assert np.isfinite(evaluation.total)
    ratio = float(metric.inner(v, wild)) / float(metric.inner(wild, wild))
    assert 0 < ratio < 1
    laws.close(v, ratio * wild)


def test_steps_that_fold_are_refused(pair, xp, monkeypatch):
    # With next to no prior and a far target many steps would tear the map.
    metric, problem, truth = pair
    loose = Metric.create(metric.band.shape, modes=7, alpha=0.05, velocity_scale=50.0)
    far = Problem(problem.source, xp.roll(problem.target, 8, axis=0), (1.0, 1.0), 1e4, num_steps=5)
    before = far.evaluate(xp.zeros_like(truth), loose)
    evaluate, refused, seen = Problem.evaluate, [], []

    def counting(self, v, m):
        evaluation = evaluate(self, v, m)
        refused.append(not np.isfinite(evaluation.total))
        return evaluation

    monkeypatch.setattr(Problem, "evaluate", counting)
    found = minimise(far, loose, xp.zeros_like(truth), max_iterations=30, on_iteration=seen.append)
    assert any(refused)
    assert not all(refused)
    assert all(is_diffeomorphism(e.geodesic, metric.band.shape) for e in seen)
    assert np.all(np.diff([before.total, *(e.total for e in seen)]) <= 0)
    assert found.evaluation.total < before.total

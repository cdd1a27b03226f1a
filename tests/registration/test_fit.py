"""Fits of velocities at a fixed α."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from fourierreg.backend import asarray, to_numpy
from fourierreg.model.end_map import is_diffeomorphism
from fourierreg.model.problem import Problem
from fourierreg.registration.fit import fit, remaining_decrease
from fourierreg.registration.fit_rows import admissible_start
from fourierreg.simulation.bullseye import bullseye
from fourierreg.spectral.band import pack, unpack
from fourierreg.spectral.metric import Metric, MetricBatch
from tests import laws
from tests.fields import velocity, white

SHAPE = (40, 44)
SPACING = (1.0, 1.0)
SIGMA = 0.03
TOLERANCE = 0.02


@pytest.fixture
def pair(backend):
    """(metric, problem, true velocity): a bull-eye and a deformed one with noise, in float32."""
    metric = Metric.create(SHAPE, modes=7, alpha=3.0, velocity_scale=0.5)
    source = asarray(bullseye(SHAPE, (14.0, 12.0), (7.0, 5.0)))
    truth, metric = velocity(metric, 0, factor=1.0)[None], metric.batch()
    blank = Problem.of_pair(source, source, SPACING, num_steps=5)
    target = to_numpy(blank.deformed(blank.shoot(truth, metric)))[0]
    target = target + SIGMA * np.random.default_rng(1).standard_normal(SHAPE)
    target = asarray(target.astype(np.float32))
    return metric, Problem.of_pair(source, target, SPACING, 1 / SIGMA**2, num_steps=5), truth


def minimum(problem, metric, start, memory=None, record=lambda *_: None, **options):
    """The `Minimum` of one pair."""
    options = {"tolerance": TOLERANCE, "max_iterations": 200} | options
    (found,) = fit(problem, metric, start, [memory], record=record, **options)
    return found


def energy_margin(metric, tolerance=TOLERANCE):
    """Decrease of the energy over the last iterations that ends a fit, in nats."""
    return tolerance * math.sqrt(metric.band.degrees_of_freedom)


def test_the_energy_falls_to_a_fit_of_the_images(pair, xp):
    metric, problem, truth = pair
    start, records = xp.zeros_like(truth), []
    found = minimum(problem, metric, start, record=lambda *r: records.append(r))
    energies = [prior + likelihood for _, prior, likelihood, _ in records]
    assert len(records) == found.iterations > 3
    assert np.all(np.diff([problem.evaluate(start, metric).total[0], *energies]) <= 0)
    assert found.evaluation.total[0] == pytest.approx(energies[-1])
    assert found.converged and not found.at_boundary
    # The minimum lies below the truth, and its mismatch at the level of the noise.
    assert found.evaluation.total < problem.evaluate(truth, metric).total
    mean_square = 2 * found.evaluation.likelihood[0] / problem.weight[0] / math.prod(SHAPE)
    assert abs(mean_square / SIGMA**2 - 1) < 0.1
    laws.close(problem.evaluate(found.velocity, metric).total, found.evaluation.total)
    gradient = found.evaluation.gradient
    norm = math.sqrt(float(xp.sum(pack(gradient, metric.band, xp) ** 2)))
    assert records[-1][3] == pytest.approx(norm, rel=1e-3)


def test_every_iterate_is_a_diffeomorphism(pair, xp):
    metric, problem, truth = pair
    energies = []
    for count in (1, 2, 3, 5, 8, 13):
        found = minimum(problem, metric, xp.zeros_like(truth), max_iterations=count)
        assert is_diffeomorphism(problem.shoot(found.velocity, metric), SHAPE).all()
        energies.append(float(found.evaluation.total[0]))
    assert np.all(np.diff(energies) < 0)


def test_it_ends_at_the_minimum_that_scipy_finds(pair, xp):
    metric, problem, truth = pair
    band = metric.band

    def energy(x):
        v = unpack(xp.asarray(x.reshape(1, band.ndim, -1)), band, xp)
        evaluation = problem.evaluate(v / scale, metric)
        if evaluation.gradient is None:  # it folds: a wall that SciPy's line search steps back from
            return 1e6, np.zeros_like(x)
        slope = pack(evaluation.gradient / scale, band, xp)
        return float(evaluation.total[0]), to_numpy(slope).ravel()

    scale = xp.sqrt(metric.symbol(xp)) / metric.velocity_scale  # standard deviation of the prior
    loose = minimum(problem, metric, xp.zeros_like(truth), tolerance=3.0)
    start = to_numpy(pack(loose.velocity * scale, band, xp)).ravel()
    expected = minimize(energy, start, jac=True, method="L-BFGS-B", options={"maxcor": 30})
    assert expected.fun < loose.evaluation.total[0] - energy_margin(metric)
    found = minimum(problem, metric, xp.zeros_like(truth))
    assert abs(found.evaluation.total[0] - expected.fun) < 10 * energy_margin(metric)


def test_the_number_of_iterations_is_limited(pair, xp):
    metric, problem, truth = pair
    records = []
    found = minimum(
        problem,
        metric,
        xp.zeros_like(truth),
        max_iterations=2,
        record=lambda *r: records.append(r),
    )
    assert len(records) == found.iterations == 2
    assert not found.converged


def test_a_smaller_tolerance_takes_more_iterations_to_a_lower_energy(pair, xp):
    metric, problem, truth = pair
    loose, tight = (
        minimum(problem, metric, xp.zeros_like(truth), tolerance=tolerance)
        for tolerance in (3.0, 0.003)
    )
    assert loose.converged and tight.converged
    assert loose.iterations < tight.iterations
    assert loose.evaluation.total[0] > tight.evaluation.total[0]


def test_equal_images_need_no_step(pair, xp):
    metric, problem, truth = pair
    same = Problem(problem.source, problem.source, SPACING, np.array([100.0]))
    found = minimum(same, metric, xp.zeros_like(truth))
    assert found.evaluation.total[0] == 0.0
    assert found.converged


def test_memory_of_an_earlier_fit_saves_iterations(pair, xp):
    metric, problem, truth = pair
    first = minimum(problem, metric, xp.zeros_like(truth), max_iterations=25)
    assert first.iterations == first.pairs.steps.shape[0] == 25

    def energies(memory):
        records = []
        resumed = {"max_iterations": 10, "record": lambda *r: records.append(r)}
        minimum(problem, metric, first.velocity, memory, **resumed)
        return np.array([prior + likelihood for _, prior, likelihood, _ in records])

    assert energies(first.pairs)[7] < energies(None)[9]  # in eight iterations instead of ten


def test_a_start_that_folds_is_shrunk(pair, xp):
    metric, problem, _ = pair
    wild = 20.0 * white(metric.band, 3)[None]
    v, evaluation = admissible_start(problem, metric, wild)
    assert np.isfinite(evaluation.total[0])
    ratio = float(metric.inner(v, wild)[0]) / float(metric.inner(wild, wild)[0])
    assert 0 < ratio < 1
    laws.close(v, ratio * wild)


def test_only_starts_that_fold_are_shrunk(pair, xp):
    metric, problem, truth = pair
    both = Problem.concatenate([problem, problem])
    start = xp.concatenate([truth, 20.0 * white(metric.band, 3)[None]])
    v, evaluation = admissible_start(both, MetricBatch.concatenate([metric, metric]), start)
    assert np.all(np.isfinite(evaluation.total))
    np.testing.assert_array_equal(to_numpy(v[0]), to_numpy(truth[0]))
    assert float(xp.max(xp.abs(v[1]))) < float(xp.max(xp.abs(start[1])))


def test_a_start_that_is_not_finite_fails_without_effect_on_the_others(pair, xp):
    metric, problem, truth = pair
    both = Problem.concatenate([problem, problem])
    start = xp.concatenate([float("nan") * truth, 0.0 * truth])
    records = []
    failed, found = fit(
        both,
        MetricBatch.concatenate([metric, metric]),
        start,
        [None, None],
        tolerance=TOLERANCE,
        max_iterations=5,
        record=lambda *r: records.append(r),
    )
    assert isinstance(failed, FloatingPointError)
    assert "not finite" in str(failed)
    assert {pair for pair, *_ in records} == {1}
    expected = minimum(problem, metric, xp.zeros_like(truth), max_iterations=5)
    assert found.evaluation.total[0] == pytest.approx(expected.evaluation.total[0], rel=1e-4)


def test_steps_that_fold_are_refused(pair, xp, monkeypatch):
    # With next to no prior and a far target many steps would tear the map.
    _, problem, truth = pair
    loose = Metric.create(SHAPE, modes=7, alpha=0.05, velocity_scale=50.0).batch()
    target = xp.roll(problem.target, 8, axis=1)
    far = Problem(problem.source, target, SPACING, np.array([1e4]), num_steps=5)
    before = far.evaluate(xp.zeros_like(truth), loose).total[0]
    energies, refused, records = Problem.energies, [], []

    def counting(self, scalars):
        found = energies(self, scalars)
        refused.extend(~np.isfinite(found[0]))
        return found

    monkeypatch.setattr(Problem, "energies", counting)
    found = minimum(
        far,
        loose,
        xp.zeros_like(truth),
        max_iterations=30,
        record=lambda *r: records.append(r),
    )
    assert any(refused)
    assert not all(refused)
    assert is_diffeomorphism(far.shoot(found.velocity, loose), SHAPE).all()
    totals = [before, *(prior + likelihood for _, prior, likelihood, _ in records)]
    assert np.all(np.isfinite(totals))
    assert np.all(np.diff(totals) <= 0)
    assert found.evaluation.total[0] < before


def test_what_is_left_of_a_geometric_decrease():
    values = [3.0 + 0.9**n for n in range(41)]
    left = 0.9**40
    assert remaining_decrease(values) == pytest.approx(2 * left, rel=1e-6)
    assert remaining_decrease([1.0] * 20) == 0.0
    assert math.isnan(remaining_decrease(values[:6]))
    assert remaining_decrease([100.0 - n for n in range(40)]) > 9.0  # no end in sight

"""The noise of a grid, and what carries over from one fit to the next."""

import math

import numpy as np
import pytest

from fourierreg.backend import asarray
from fourierreg.model.problem import Problem
from fourierreg.optim.lbfgs import Pairs
from fourierreg.registration import tasks as work
from fourierreg.registration.multiresolution import Noise, Solver
from fourierreg.simulation.bullseye import bullseye
from fourierreg.spectral.metric import Metric
from tests.fields import velocity

SHAPE = (72, 64)
SIGMA = 0.05


@pytest.fixture
def pair(backend):
    """(problem, metric): a deformed bull-eye with white noise, on a grid with one below it."""
    metric = Metric.create(SHAPE, modes=7, alpha=3.0, velocity_scale=1.0)
    source = asarray(bullseye(SHAPE, (22.0, 20.0), (11.0, 9.0)))
    blank = Problem(source, source, (1.0, 1.0), 1.0, num_steps=5)
    truth = velocity(metric, 0, factor=1.0)
    noise = SIGMA * np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    target = blank.deformed(blank.shoot(truth, metric)) + asarray(noise)
    return Problem(source, target, (1.0, 1.0), 1.0, num_steps=5), metric


def estimating():
    return Noise(1.0, 1.0, True)


def test_a_given_noise_stays(pair):
    problem, metric = pair
    solver = Solver(problem, metric, Noise(SIGMA, 0.5, False))
    assert solver.estimate_noise(0) == 0.0
    assert math.isclose(solver.noise.weight, 0.5 / SIGMA**2)
    # A voxel of a coarser grid weighs as many as it stands for.
    ratio = math.prod(SHAPE) / math.prod(solver.levels[0].shape)
    assert math.isclose(solver.problem(0).weight, ratio * 0.5 / SIGMA**2)


def test_every_grid_has_its_own_noise_but_one_weight(pair):
    """White noise low-passed onto a coarser grid loses σ and stays white: ρ/σ² stays."""
    problem, metric = pair
    solver = Solver(problem, metric, estimating())
    solver.descend(solver.finest, tolerance=0.02, max_iterations=200)
    solver.settle_noise(solver.finest, tolerance=0.02, max_iterations=200)
    fine = solver.noise
    assert math.isclose(fine.sigma, SIGMA, rel_tol=0.1)
    assert solver.estimate_noise(0) < math.log(1.5)
    coarse = solver.noise
    assert coarse.sigma < 0.6 * fine.sigma
    assert coarse.decimation > 0.8 * fine.decimation
    assert coarse.volume > 3


def test_a_fixed_decimation_is_that_of_the_image(pair):
    problem, metric = pair
    solver = Solver(problem, metric, Noise(1.0, 0.1, True, fixed_decimation=0.1))
    volume = solver.levels[0].volume
    assert math.isclose(solver.noise.decimation, 0.1 * volume)
    solver.estimate_noise(solver.finest)
    assert solver.noise.decimation == 0.1


def test_settled_noise_is_the_one_the_fit_used(pair):
    problem, metric = pair
    solver = Solver(problem, metric, estimating())
    solver.settle_noise(solver.finest, tolerance=0.05, max_iterations=50)
    last = solver.history[-1]
    assert (last.sigma, last.decimation) == (solver.noise.sigma, solver.noise.decimation)
    assert solver.estimate_noise(solver.finest) < 0.1


def test_memory_is_kept_on_a_grid_and_dropped_between_grids(pair, monkeypatch):
    problem, metric = pair
    solver = Solver(problem, metric, Noise(SIGMA, 1.0, False))
    real, given = work.Fit.alone, []

    def spy(request):
        memory = request.memory
        steps = memory.steps if isinstance(memory, Pairs) else memory or ()
        given.append(len(steps))
        return real(request)

    monkeypatch.setattr(work.Fit, "alone", spy)
    for level in (0, 0, solver.finest, solver.finest):
        solver.fit(level, tolerance=0.1, max_iterations=8)
    assert given[0] == given[2] == 0
    assert given[1] > 0
    assert given[3] > 0


def test_state_comes_back(pair):
    problem, metric = pair
    solver = Solver(problem, metric, Noise(SIGMA, 1.0, False))
    solver.fit(solver.finest, tolerance=0.1, max_iterations=8)
    state, total = solver.state(), solver.evaluation.total
    solver.move_to(math.log(6.0), solver.finest)
    solver.fit(solver.finest, tolerance=0.1, max_iterations=8)
    assert solver.evaluation.total != total
    solver.resume(state)
    assert solver.metric.alpha == 3.0
    assert solver.evaluation.total == total


def test_moving_alpha_predicts_the_velocity(pair):
    """dv/d ln α leaves less to fit than the old velocity does."""
    problem, metric = pair
    solver = Solver(problem, metric, Noise(SIGMA, 1.0, False))
    solver.fit(solver.finest, tolerance=1e-3, max_iterations=300)
    old = solver.velocity
    solver.move_to(math.log(3.0) + 0.2, solver.finest)
    here = solver.problem(solver.finest)
    stay, moved = (here.evaluate(v, solver.metric).total for v in (old, solver.velocity))
    assert moved < stay

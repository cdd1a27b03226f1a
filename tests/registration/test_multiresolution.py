"""The noise of a grid, and what is kept from one fit to the next."""

import math

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.model.noise import Noise
from fourierreg.model.problem import Problem
from fourierreg.optim.batching import run
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.simulation.bullseye import bullseye
from fourierreg.spectral.metric import Metric
from tests.fields import velocity

SHAPE = (72, 64)
SPACING = (1.0, 1.0)
SIGMA = 0.05
ESTIMATED = Noise(1.0, 1.0, True)
GIVEN = Noise(SIGMA, 1.0, False)


@pytest.fixture
def pair(backend):
    """(problem, metric): a deformed bull-eye with white noise, on a grid with one below it."""
    metric = Metric.create(SHAPE, modes=7, alpha=3.0, velocity_scale=1.0)
    source = asarray(bullseye(SHAPE, (22.0, 20.0), (11.0, 9.0)))
    blank = Problem.of_pair(source, source, SPACING, num_steps=5)
    truth = velocity(metric, 0, factor=1.0)[None]
    noise = SIGMA * np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    target = blank.deformed(blank.shoot(truth, metric.batch()))[0] + asarray(noise)
    return Problem.of_pair(source, target, SPACING, num_steps=5), metric


def test_given_noise_is_not_estimated(pair):
    state = Multiresolution(*pair, Noise(SIGMA, 0.5, False))
    state.estimate_noise(state.finest)
    assert state.estimate_noise(state.finest) == 0.0
    assert math.isclose(state.noise.weight, 0.5 / SIGMA**2)
    # A voxel of a coarser grid has the weight of all image voxels that it stands for.
    ratio = math.prod(SHAPE) / math.prod(state.levels[0].problem.shape)
    assert ratio > 3
    assert math.isclose(state.problem(0).weight[0], ratio * 0.5 / SIGMA**2)


def test_a_given_noise_is_exceeded_by_the_residual_on_coarser_grids(pair):
    """The unregistered images differ by more than their noise, and by less than it once fitted."""
    state = Multiresolution(*pair, Noise(SIGMA, 0.5, False))
    assert state.noise.weight < 0.1 * 0.5 / SIGMA**2
    assert state.noise.decimation == min(1.0, 0.5 * state.levels[0].voxel_ratio)
    run(state.descend(state.finest, max_iterations=200))
    assert math.isclose(state.noise.weight, 0.5 / SIGMA**2)
    state.noises.given_from = 0
    state.estimate_noise(0)
    assert math.isclose(state.noise.weight, 0.5 / SIGMA**2)


def test_every_grid_has_its_own_noise_of_the_same_weight(pair):
    """White noise low-passed onto a coarser grid loses σ and stays white: ρ/σ² stays."""
    state = Multiresolution(*pair, ESTIMATED)
    options = {"tolerance": 0.02, "max_iterations": 200}
    run(state.descend(state.finest, max_iterations=200))
    run(state.settle_noise(state.finest, **options))
    fine = state.noise
    assert math.isclose(fine.sigma, SIGMA, rel_tol=0.1)
    assert state.estimate_noise(0) < math.log(1.5)
    coarse = state.noise
    assert coarse.sigma < 0.6 * fine.sigma
    assert coarse.decimation > 0.8 * fine.decimation
    assert coarse.voxel_ratio > 3


def test_fixed_decimation_is_that_of_the_image(pair):
    state = Multiresolution(*pair, Noise(1.0, 0.1, True, fixed_decimation=0.1))
    assert math.isclose(state.noise.decimation, 0.1 * state.levels[0].voxel_ratio)
    state.estimate_noise(state.finest)
    assert state.noise.decimation == 0.1


def test_settled_noise_is_that_of_the_last_fit(pair):
    state = Multiresolution(*pair, ESTIMATED)
    run(state.settle_noise(state.finest, tolerance=0.05, max_iterations=50))
    last = state.history[-1]
    assert (last.sigma, last.decimation) == (state.noise.sigma, state.noise.decimation)
    assert state.estimate_noise(state.finest) < 0.1


def test_the_optimizer_remembers_curvature_on_one_grid_only(pair):
    state, counts = Multiresolution(*pair, GIVEN), []
    for level in (0, 0, state.finest, state.finest):
        memories = []
        run(watched(state.fit(level, tolerance=0.1, max_iterations=8), memories))
        counts += [0 if memory is None else memory.steps.shape[0] for memory in memories]
    assert counts[0] == counts[2] == 0
    assert counts[1] > 0
    assert counts[3] > 0


def watched(coroutine, memories):
    """The same coroutine; the memories of its requests are appended to a list."""
    request = next(coroutine)
    try:
        while True:
            memories.append(request.memory)
            request = coroutine.send((yield request))
    except StopIteration as end:
        return end.value


def test_a_state_is_restored(pair):
    state = Multiresolution(*pair, GIVEN)
    run(state.fit(state.finest, tolerance=0.1, max_iterations=8))
    saved, total = state.state(), state.evaluation.total[0]
    velocity_before = to_numpy(state.velocity).copy()
    run(state.move_to(math.log(6.0), state.finest))
    run(state.fit(state.finest, tolerance=0.1, max_iterations=8))
    assert state.evaluation.total[0] != total
    state.restore(saved)
    assert state.alpha == 3.0
    assert state.evaluation.total[0] == total
    np.testing.assert_array_equal(to_numpy(state.velocity), velocity_before)


def test_moving_alpha_predicts_the_velocity(pair):
    """dv/d ln α leaves less to fit than the old velocity does."""
    state = Multiresolution(*pair, GIVEN)
    run(state.fit(state.finest, tolerance=1e-3, max_iterations=300))
    old = state.velocity
    run(state.move_to(math.log(3.0) + 0.2, state.finest))
    problem = state.problem(state.finest)
    stay, moved = (problem.evaluate(v, state.metric).total[0] for v in (old, state.velocity))
    assert moved < stay

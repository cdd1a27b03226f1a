"""The error of a flow, and the number of steps that it asks for."""

import math

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.model.flow_error import MAX_STEPS, flow_error, more_steps
from fourierreg.model.problem import Problem
from fourierreg.spectral.metric import Metric
from tests.fields import smooth_image, velocity

SHAPE = (20, 18, 16)


@pytest.fixture
def metric(backend):
    return Metric.create(SHAPE, spacing=1.5, modes=6, alpha=1.0).batch()


def problem_of(metric, num_steps, integrator="rk4"):
    images = (smooth_image(SHAPE, seed) for seed in (0, 1))
    return Problem.of_pair(*images, metric.band.spacing, num_steps=num_steps, integrator=integrator)


@pytest.mark.parametrize("integrator", ["rk4", "euler"])
def test_it_is_the_error_of_the_end_map(metric, integrator):
    v = velocity(metric.metric(0), 0, factor=1.5)[None]
    problem = problem_of(metric, 3, integrator)
    estimate = flow_error(problem, v, metric)
    exact = problem_of(metric, 64)
    gap = to_numpy(
        problem.displacement(problem.shoot(v, metric)) - exact.displacement(exact.shoot(v, metric))
    )
    error = np.sqrt((gap**2).sum(axis=1)).max()
    # Halving the steps removes 15/16 of it, or half with Euler's.
    assert estimate == pytest.approx(error * (15 / 16 if integrator == "rk4" else 0.5), rel=0.25)


def test_a_diverging_flow_has_no_finite_error(metric):
    v = 1e30 * velocity(metric.metric(0), 0)[None]
    problem = problem_of(metric, 2)
    assert flow_error(problem, v, metric) == math.inf


def test_steps_are_added_by_the_order_of_the_integrator():
    assert more_steps(2, "rk4", 1.01, 1.0) == 3  # at least one
    assert more_steps(4, "rk4", 5.0, 1.0) == 7  # (5 / 0.8)^(1/4) = 1.58
    assert more_steps(4, "rk4", math.inf, 1.0) == 8
    assert more_steps(4, "euler", 1.5, 1.0) == 8
    assert more_steps(12, "rk4", math.inf, 1.0) == MAX_STEPS

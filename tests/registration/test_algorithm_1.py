"""Algorithm 1 against quasi-Newton, and the parts of it that erratum E7 repairs."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.model.laplace import joint_slope
from fourierreg.registration.algorithm_1 import Descent, GradientDescent
from fourierreg.registration.multiresolution import Noise, Solver
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from tests.model import problems

SETTING = {"modes": 7, "velocity_scale": 1.0}
JOINT = {**SETTING, "sigma": 0.05, "posterior": "joint"}


@pytest.fixture(scope="module")
def pair():
    source = bullseye((48, 44), outer=(16.0, 14.0), inner=(8.0, 7.0))
    return simulate_pair(source, alpha=3.0, sigma=0.05, seed=3, **SETTING)


@pytest.fixture(scope="module")
def quasi_newton(pair):
    return fourierreg.map_alpha(pair.source, pair.target, **JOINT)


@pytest.mark.parametrize(
    ("gradient", "alpha0", "nats"), [("jacobi", 1.0, 2.0), ("exact", 15.0, 15.0)]
)
def test_same_optimum_as_quasi_newton(pair, quasi_newton, gradient, alpha0, nats):
    # Turning an ellipse costs little, and where it stops moves α: quasi-Newton itself ends at 4.24,
    # 4.34 and 4.41 from 15, 1 and 3, within a nat. 12 % are one and a third standard deviations.
    options = GradientDescent(stop_rate=1e-7, gradient=gradient)
    result = fourierreg.map_alpha(
        pair.source, pair.target, alpha0=alpha0, optimizer=options, **JOINT
    )
    assert result.converged, result.status
    assert abs(math.log(result.alpha / quasi_newton.alpha)) < 0.12
    assert result.alpha_sd == pytest.approx(quasi_newton.alpha_sd, rel=0.5)
    assert abs(result.history[-1].objective - quasi_newton.history[-1].objective) < nats
    assert np.std(result.deformed - quasi_newton.deformed) < 0.01


def test_the_objective_falls(pair):
    result = fourierreg.map_alpha(
        pair.source, pair.target, optimizer="gradient-descent", alpha0=8.0, **JOINT
    )
    moving = [i for i, r in enumerate(result.history) if r.alpha != result.history[0].alpha]
    objectives = np.array([result.history[i].objective for i in moving])
    assert len(moving) > 10
    assert np.all(np.diff(objectives) <= 0)
    assert result.history[-1].alpha == result.alpha
    assert all(r.alpha > 0 for r in result.history)


def test_no_interior_optimum_is_said():
    source = bullseye((40, 40), outer=(13.0, 11.0), inner=(7.0, 6.0))
    noise = 0.2 * np.random.default_rng(0).standard_normal(source.shape).astype(np.float32)
    result = fourierreg.map_alpha(
        source, source + noise, modes=5, sigma=0.2, posterior="joint", optimizer="gradient-descent"
    )
    assert not result.converged
    assert result.status.startswith("No interior optimum")


def test_a_gamma_prior_holds_alpha(pair):
    result = fourierreg.map_alpha(
        pair.source,
        pair.target,
        alpha_prior=(5000.0, 0.0004),  # mode of ln α at α = 2
        optimizer=GradientDescent(stop_rate=1e-7),
        **JOINT,
    )
    assert result.alpha == pytest.approx(2.0, rel=0.1)


def solver_of(weight=1e3):
    metric, problem, _, _ = problems.solved("2d", weight=weight)
    noise = Noise(weight**-0.5, 1.0, False)
    return Solver(problem, metric, noise)


def test_alpha_can_only_grow_at_rest():
    # E7: at v = 0, where the printed algorithm moves α first, ∂f/∂α < 0 at every α.
    solver = solver_of()
    for alpha in (0.01, 1.0, 100.0):
        assert joint_slope(solver.velocity, solver.metric.with_alpha(alpha)).value < 0


def test_one_vanishing_gradient_ends_nothing():
    # E7: at the optimal velocity, where only α has a slope left, α still moves.
    solver = solver_of()
    solver.fit(0, tolerance=1e-6, max_iterations=500)
    before = solver.metric.alpha
    Descent(solver, 0, GradientDescent(max_iterations=5)).run(-math.inf, math.inf)
    assert solver.metric.alpha != before


def test_the_initial_registration_leaves_alpha():
    solver = solver_of(weight=40.0)
    descent = Descent(solver, 0, GradientDescent())
    first = solver.problem(0).evaluate(solver.velocity, solver.metric).total
    before = solver.metric.alpha
    assert descent.register()
    assert solver.metric.alpha == before
    assert solver.evaluation.total < first
    assert solver.settled


def test_it_starts_from_a_velocity_that_folds():
    solver = solver_of()
    solver.velocity = 60 * problems.velocity(solver.metric, 5)
    assert not np.isfinite(solver.problem(0).evaluate(solver.velocity, solver.metric).total)
    Descent(solver, 0, GradientDescent(max_iterations=20)).register()
    assert np.isfinite(solver.evaluation.total)


def test_iterations_may_go_unrecorded():
    solver = solver_of()
    Descent(solver, 0, GradientDescent(max_iterations=5)).register(recorded=False)
    assert solver.history == []


def test_the_papers_own_step_descends_too():
    solver = solver_of(weight=40.0)
    first = solver.problem(0).evaluate(solver.velocity, solver.metric).total
    Descent(solver, 0, GradientDescent(share=0.0, max_iterations=200)).register()
    energies = [record.prior + record.likelihood for record in solver.history]
    assert np.all(np.diff([first, *energies]) <= 0)
    assert energies[-1] < 0.9 * first


def test_running_out_of_iterations_is_said():
    solver = solver_of()
    Descent(solver, 0, GradientDescent(max_iterations=3)).register()
    assert not solver.settled


@pytest.mark.parametrize(
    ("keywords", "argument"),
    [
        ({"optimizer": "adam"}, "optimizer"),
        ({"optimizer": 3}, "optimizer"),
        ({"optimizer": "gradient-descent", "posterior": "marginal"}, "optimizer"),
        ({"optimizer": "gradient-descent", "dynamics": "stationary"}, "optimizer"),
        ({"optimizer": "gradient-descent", "space": "full"}, "optimizer"),
    ],
)
def test_bad_arguments_are_named(pair, keywords, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}"):
        fourierreg.map_alpha(pair.source, pair.target, **{**JOINT, **keywords})


@pytest.mark.parametrize(
    "keywords",
    [
        {"epsilon": 0.0},
        {"tau": -1.0},
        {"share": -0.1},
        {"stop_rate": 0.0},
        {"min_stops": 0},
        {"max_iterations": 0},
        {"gradient": "numeric"},
    ],
)
def test_bad_parameters_are_named(keywords):
    with pytest.raises(ValueError, match=next(iter(keywords))):
        GradientDescent(**keywords)

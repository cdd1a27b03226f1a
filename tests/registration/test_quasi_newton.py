"""Coordinates in which the memory of a minimisation is the identity, against dense BFGS."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from fourierreg.registration.quasi_newton import Factor
from tests import laws

SIZE = 12


@pytest.fixture
def hessian():
    """Symmetric positive definite, eigenvalues from 1 to 100."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
    return basis @ np.diag(np.geomspace(1.0, 100.0, SIZE)) @ basis.T


def pairs(hessian, count):
    """Steps of a minimisation and the changes of its gradient."""
    steps = np.random.default_rng(1).standard_normal((count, SIZE))
    return [(s, hessian @ s) for s in steps]


def bfgs(pairs):
    """The inverse Hessian by the textbook update, from γ I."""
    s, y = pairs[-1]
    inverse = (s @ y) / (y @ y) * np.eye(SIZE)
    for s, y in pairs:
        left = np.eye(SIZE) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    return inverse


def matrix(function):
    return np.array([function(e) for e in np.eye(SIZE)]).T


@pytest.mark.parametrize("count", [1, 5, SIZE])
def test_product_is_the_bfgs_inverse_hessian(hessian, count):
    memory = pairs(hessian, count)
    c = matrix(Factor(memory))
    laws.close(c @ c.T, bfgs(memory))
    s, y = memory[-1]
    laws.close(c @ (c.T @ y), s)  # the secant equation


def test_transpose_and_inverses(hessian):
    factor = Factor(pairs(hessian, 5))
    c = matrix(factor)
    laws.close(matrix(factor.transposed), c.T)
    laws.close(matrix(factor.solve), np.linalg.inv(c))
    laws.close(matrix(factor.solve_transposed), np.linalg.inv(c).T)


def test_without_memory_it_is_the_identity():
    x = np.arange(5.0)
    factor = Factor([])
    for function in (factor, factor.transposed, factor.solve, factor.solve_transposed):
        np.testing.assert_array_equal(function(x), x)


def test_pairs_of_negative_curvature_are_left_out(hessian):
    good = pairs(hessian, 3)
    laws.close(
        matrix(Factor([good[0], (good[1][0], -good[1][1]), good[2]])),
        matrix(Factor([good[0], good[2]])),
    )


def test_memory_of_scipy_comes_back_in_the_old_coordinates(hessian):
    """Pairs of a run in z are pairs of the Hessian in x, and the next run is shorter for them."""

    def run(factor):
        rest = np.ones(SIZE)

        def energy(z):
            x = factor(z) - rest
            return 0.5 * x @ hessian @ x, factor.transposed(hessian @ x)

        start = factor.solve(np.zeros(SIZE))
        options = {"maxcor": SIZE, "ftol": 0.0, "gtol": 1e-8}
        return minimize(energy, start, jac=True, method="L-BFGS-B", options=options)

    factor = Factor(pairs(hessian, 4))
    outcome = run(factor)
    learnt = factor.pairs_of(outcome.hess_inv)
    assert learnt
    for s, y in learnt:
        laws.close(y, hessian @ s, rtol=1e-6)
    assert run(Factor(learnt)).nit < run(Factor([])).nit
    assert math.isclose(
        Factor(learnt).root ** 2, learnt[-1][0] @ learnt[-1][1] / (learnt[-1][1] @ learnt[-1][1])
    )


def test_nothing_learnt():
    assert Factor([]).pairs_of(None) == []

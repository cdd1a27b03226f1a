"""Minimise the energy over the velocity at a fixed α: preconditioned L-BFGS (SciPy).

The unknown is the packed velocity in coordinates where the Hessian is nearly the identity. SciPy
works on the host: the vector that crosses is the band's P real numbers, 80 kB at 16 modes.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from fourierreg.backend import array_module, to_numpy
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Evaluation
from fourierreg.registration.quasi_newton import Factor
from fourierreg.spectral.band import inner, pack, unpack

PRECONDITIONER_SHARE = 0.01  # of the data's curvature, in the diagonal that scales the unknowns
MEMORY = 20  # pairs of L-BFGS
CARRIED = 40  # pairs handed from one minimisation to the next
WINDOW = 10  # iterations over which the fall of the energy is judged
NOT_FINITE = "the velocity is not finite; the registration cannot go on"


class Minimum(NamedTuple):
    """Where the optimiser stopped, and why.

    `settled`: the energy had stopped falling; `at_boundary`: the last step was refused because
    it would fold the map; `memory`: pairs of steps and changes of the gradient, packed.
    """

    velocity: object
    evaluation: Evaluation
    evaluations: int
    settled: bool
    at_boundary: bool
    memory: tuple


def admissible_start(problem, metric, velocity):
    """`velocity`, shrunk until it shoots to a diffeomorphism, with its `Evaluation`.

    Raises
    ------
    FloatingPointError
        It is not finite, so that no multiple of it is.
    """
    xp = array_module(velocity)
    if not bool(xp.all(xp.isfinite(velocity))):
        raise FloatingPointError(NOT_FINITE)
    evaluation = problem.evaluate(velocity, metric)
    while not np.isfinite(evaluation.total):
        velocity = 0.8 * velocity
        evaluation = problem.evaluate(velocity, metric)
    return velocity, evaluation


def minimise(
    problem, metric, start, *, tolerance=0.02, max_iterations=50, memory=(), on_iteration=None
):
    """Minimise ``problem.evaluate`` over v₀ from `start`; every iterate is a diffeomorphism.

    Parameters
    ----------
    problem : Problem
    metric : Metric
    start : complex array, (d, *band)
    tolerance : float
        Stop where `WINDOW` iterations lower the energy by less than this times √P nats, P the
        degrees of freedom: the prior energy of a random velocity fluctuates by √(P/2).
    max_iterations : int
    memory : tuple
        That of the `Minimum` of a similar problem in the same band.
    on_iteration : callable, optional
        Called with every accepted `Evaluation`.

    Returns
    -------
    Minimum
    """
    # The products are small: BLAS threads cost more in waking than they save in work.
    with threadpool_limits(1, user_api="blas"):
        start, first = admissible_start(problem, metric, start)
        enough = tolerance * math.sqrt(metric.band.degrees_of_freedom)
        run = _Run(problem, metric, start, first, enough, memory, on_iteration)
        outcome = minimize(
            run.objective,
            run.coordinates(start),
            jac=True,
            method="L-BFGS-B",
            callback=run.accept,
            options={"maxiter": max_iterations, "ftol": 0.0, "gtol": 0.0, "maxcor": MEMORY},
        )
    v, evaluation = run.best
    learnt = run.memory(outcome.hess_inv)
    kept = (*memory, *learnt)[-CARRIED:]
    return Minimum(v, evaluation, outcome.nfev + 1, outcome.status != 1, run.refused, kept)


class _Run:
    """The objective in scaled coordinates, and the iterates accepted so far."""

    def __init__(self, problem, metric, start, first, enough, memory, on_iteration):
        self.problem, self.metric, self.on_iteration = problem, metric, on_iteration
        self.enough, self.totals = enough, [first.total]
        self.xp = array_module(start)
        self.scale = _scale(problem, metric, first, self.xp, bool(memory))
        self.factor = Factor([(self.stretch(s), self.shrink(y)) for s, y in memory])
        self.unit = 1.0
        if memory:  # L-BFGS begins with a step of length one: let it be the quasi-Newton step
            self.unit = float(np.linalg.norm(self.slope(first.gradient))) or 1.0
        self.best = self.last = (start, first)
        self.anchor = self.coordinates(start)
        self.refused = False

    def packed(self, v):
        return to_numpy(pack(v, self.metric.band, self.xp)).ravel()

    def unpacked(self, x):
        packed = self.xp.asarray(x.reshape(self.metric.band.ndim, -1))
        return unpack(packed, self.metric.band, self.xp)

    def stretch(self, x):
        """Packed v to scaled coordinates."""
        return self.packed(self.scale * self.unpacked(x))

    def shrink(self, x):
        """Packed gradient to that in scaled coordinates; also back from scaled v."""
        return self.packed(self.unpacked(x) / self.scale)

    def coordinates(self, v):
        return self.factor.solve(self.packed(self.scale * v)) / self.unit

    def velocity(self, z):
        return self.unpacked(self.factor(self.unit * z)) / self.scale

    def slope(self, gradient):
        return self.unit * self.factor.transposed(self.packed(gradient / self.scale))

    def memory(self, inverse_hessian):
        """Pairs of this run, in packed v."""
        pairs = self.factor.pairs_of(inverse_hessian)
        return [(self.shrink(self.unit * s), self.stretch(y / self.unit)) for s, y in pairs]

    def objective(self, x):
        v = self.velocity(x)
        evaluation = self.problem.evaluate(v, self.metric)
        if not np.isfinite(evaluation.total):
            return self.reject(x)
        self.last, self.refused = (v, evaluation), False
        return evaluation.total, self.slope(evaluation.gradient)

    def reject(self, x):
        """A value and slope that send the line search back towards the last good iterate."""
        self.refused = True
        step = x - self.anchor
        value = self.best[1].total
        rise = max(abs(value), 1.0)
        return value + rise, 2.0 * rise * step / max(float(step @ step), 1e-300)

    def accept(self, intermediate_result):
        self.anchor = np.array(intermediate_result.x)
        if self.last[1].total <= self.best[1].total:
            self.best = self.last
        if self.on_iteration is not None:
            self.on_iteration(self.best[1])
        self.totals.append(self.best[1].total)
        if len(self.totals) > WINDOW and self.totals[-WINDOW - 1] - self.totals[-1] < self.enough:
            raise StopIteration


def _scale(problem, metric, first, xp, learnt):
    """Diagonal scaling that makes the Hessian nearly the identity.

    L-BFGS begins with a step of length one along the gradient: where nothing was `learnt` yet a
    last factor makes that the minimiser along it under H.
    """
    band = metric.band
    hessian = PosteriorHessian(metric, problem.curvature(first.geodesic))
    scale = xp.sqrt(hessian.prior(xp) + PRECONDITIONER_SHARE * hessian.curvature.diagonal)
    descent = first.gradient / scale
    slope = float(inner(descent, descent, band, xp))
    if learnt or slope == 0:
        return scale
    along = descent / scale
    bend = float(inner(along, hessian(along), band, xp))
    return scale / (slope**1.5 / bend)

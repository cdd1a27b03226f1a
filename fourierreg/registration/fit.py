"""Fit velocities at fixed α and noise: preconditioned L-BFGS whose rows are packed velocities."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.model.evaluation import Evaluation
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem
from fourierreg.optim.lbfgs import minimize
from fourierreg.optim.vectors import CurvaturePairs
from fourierreg.spectral.band import inner, pack, packed_diagonal, unpack
from fourierreg.spectral.metric import MetricBatch

PRECONDITIONER_SHARE = 0.01  # of the data's curvature in the diagonal that scales the unknowns
WINDOW = 10  # iterations over which the decrease of the energy is judged
NOT_FINITE = "the velocity is not finite: the registration diverged; use a larger alpha"
MIN_EXTRAPOLATION_WINDOW = 2  # iterations
SLOWEST_RATIO = 0.9  # of the decreases of successive windows
SHRINKAGE = 0.8  # of a velocity that does not shoot to a diffeomorphism, until it does


class Minimum(NamedTuple):
    """Where the fit of one pair stopped.

    Attributes
    ----------
    velocity : complex array, (1, d, *band)
    evaluation : Evaluation
    iterations : int
    converged : bool
        The energy had stopped falling.
    at_boundary : bool
        The last trial step was refused because it would fold the map.
    pairs : CurvaturePairs
        Memory of the optimizer, for a fit of a similar problem in the same band.
    """

    velocity: Array
    evaluation: Evaluation
    iterations: int
    converged: bool
    at_boundary: bool
    pairs: CurvaturePairs


def fit(
    problem: Problem,
    metric: MetricBatch,
    start: Array,
    memory: Sequence[CurvaturePairs | None],
    *,
    tolerance: float,
    max_iterations: int,
    record: Callable,
) -> list[Minimum | Exception]:
    """Minimize ``problem.evaluate`` over v₀; every iterate is a diffeomorphism.

    Parameters
    ----------
    problem : Problem
    metric : MetricBatch
    start : complex array, (pairs, d, *band)
    memory : sequence of CurvaturePairs or None
        For each pair the `pairs` of an earlier fit.
    tolerance : float
        A pair has converged when `WINDOW` iterations lower its energy by less than this times √P
        nats, P the degrees of freedom: the prior energy of a random velocity fluctuates by √(P/2).
    max_iterations : int
    record : callable
        Called as record(pair, prior, likelihood, gradient norm) after every accepted step.

    Returns
    -------
    list of Minimum; a FloatingPointError for a pair whose start is not finite
    """
    xp = array_module(start)
    finite = to_numpy(xp.all(xp.isfinite(start), axis=tuple(range(1, start.ndim))))
    results: list[Minimum | Exception] = [FloatingPointError(NOT_FINITE) for _ in finite]
    kept = [int(pair) for pair in np.flatnonzero(finite)]
    if 0 < len(kept) < finite.size:
        problem, metric, start = problem.select(kept), metric.select(kept), start[xp.asarray(kept)]
    if kept:
        minima = _Fit(problem, metric, start).run(
            [memory[pair] for pair in kept],
            tolerance,
            max_iterations,
            lambda pair, *energies: record(kept[pair], *energies),
        )
        for pair, minimum in zip(kept, minima, strict=True):
            results[pair] = minimum
    return results


def admissible_start(
    problem: Problem, metric: MetricBatch, velocity: Array
) -> tuple[Array, Evaluation]:
    """Velocities shrunk until each shoots to a diffeomorphism, and their `Evaluation`.

    Raises
    ------
    FloatingPointError
        A velocity is not finite, so that no multiple of it is.
    """
    xp, tail = array_module(velocity), (..., *[None] * (velocity.ndim - 1))
    if not bool(xp.all(xp.isfinite(velocity))):
        raise FloatingPointError(NOT_FINITE)
    evaluation = problem.evaluate(velocity, metric)
    while not np.all(np.isfinite(evaluation.total)):
        factor = np.where(np.isfinite(evaluation.total), 1.0, SHRINKAGE)
        velocity = xp.asarray(factor)[tail] * velocity
        evaluation = problem.evaluate(velocity, metric)
    return velocity, evaluation


def remaining_decrease(values: Sequence[float]) -> float:
    """By how much a value that falls over iterations may still fall; NaN where there are too few
    iterations to tell.

    It is twice what a geometric series through the decreases over the last two quarters of the
    iterations leaves: far from its end L-BFGS slows down (on fits of real brains the true decrease
    was half to three times the estimate).
    """
    n = len(values) - 1
    window = n // 4
    if window < MIN_EXTRAPOLATION_WINDOW:
        return math.nan
    earlier, last = (values[i] - values[i + window] for i in (n - 2 * window, n - window))
    if last <= 0:
        return 0.0
    ratio = min(last / earlier, SLOWEST_RATIO) if earlier > 0 else SLOWEST_RATIO
    return 2.0 * last * ratio / (1.0 - ratio)


class _Fit:
    """The energies of several pairs as functions of rows of one array."""

    def __init__(self, problem, metric, start):
        self.problem, self.metric, self.xp = problem, metric, array_module(start)
        start = start.astype(np.complex128, copy=False)  # the optimizer's precision
        self.start, self.first = admissible_start(problem, metric, start)
        self.energies = np.array(self.first[:3])  # at the last trial points

    def run(self, memory, tolerance, max_iterations, record):
        """A `Minimum` for every pair."""
        band = self.metric.band
        inverse_diagonal, gamma = self._scale()
        rows = minimize(
            self._objective,
            self._totals,
            self._pack(self.start),
            self.first.total,
            self._pack(self.first.gradient),
            inverse_diagonal,
            gamma,
            memory,
            min_decrease=tolerance * math.sqrt(band.degrees_of_freedom),
            window=WINDOW,
            max_iterations=max_iterations,
            callback=lambda row, norm: record(row, *map(float, self.energies[1:, row]), norm),
            capture=self.problem.similarity.capturable,
        )
        velocity = self._unpack(self.xp.stack([row.x for row in rows]))
        last = self.problem.evaluate(velocity, self.metric)
        return [
            Minimum(
                velocity[[pair]],
                last.select([pair]),
                row.iterations,
                row.converged,
                row.refused,
                row.pairs,
            )
            for pair, row in enumerate(rows)
        ]

    def _pack(self, v):
        """Fields as rows."""
        return pack(v, self.metric.band, self.xp).reshape(v.shape[0], -1)

    def _unpack(self, x):
        """Rows as fields."""
        band = self.metric.band
        return unpack(x.reshape(x.shape[0], band.ndim, -1), band, self.xp)

    def _scale(self):
        """Diagonal approximation of the inverse Hessian, packed, and the factor by which a first
        step along the preconditioned gradient ends at the minimizer along it under H."""
        xp, metric, gradient = self.xp, self.metric, self.first.gradient
        hessian = PosteriorHessian(metric, self.problem.curvature(self.first.geodesic))
        scale = hessian.prior(xp) + PRECONDITIONER_SHARE * hessian.curvature.diagonal
        along = gradient / scale
        slope = to_numpy(inner(gradient, along, metric.band, xp))
        curvature = to_numpy(inner(along, hessian(along), metric.band, xp))
        gamma = np.where(curvature > 0, slope / np.where(curvature > 0, curvature, 1.0), 1.0)
        inverse = 1.0 / packed_diagonal(scale, metric.band, xp)
        return inverse.reshape(scale.shape[0], -1), gamma

    def _objective(self, rows):
        """Function of packed velocities of some pairs: their scalars (`Problem.measure`) and packed
        gradients."""
        problem, metric = self.problem, self.metric
        if rows.size < len(metric.alphas):
            problem, metric = problem.select(rows), metric.select(rows)
        problem.prepare()  # not inside the graph
        metric.symbol(self.xp)
        self._active = problem

        def function(x):
            scalars, gradient, _ = problem.measure(self._unpack(x), metric)
            return scalars, self._pack(gradient)

        return function

    def _totals(self, scalars, rows):
        """Energies of some pairs, from their scalars on the host."""
        self.energies[:, rows] = self._active.energies(scalars)
        return self.energies[0, rows]

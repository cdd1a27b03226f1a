"""The energies of several pairs as functions of rows of one array, for the optimizer."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.model.evaluation import Evaluation
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem
from fourierreg.optim.vectors import CurvaturePairs, RowMinimum, Starts
from fourierreg.spectral.band import inner, pack, packed_diagonal, unpack
from fourierreg.spectral.metric import MetricBatch

PRECONDITIONER_SHARE = 0.01  # of the data's curvature in the diagonal that scales the unknowns
SHRINKAGE = 0.8  # of a velocity that does not shoot to a diffeomorphism, until it does
NOT_FINITE = "the velocity is not finite: the registration diverged; use a larger alpha"


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


class Start(NamedTuple):
    """Fits of several pairs.

    Attributes
    ----------
    problem : Problem
    metric : MetricBatch
    velocity : complex array, (pairs, d, *band)
    memory : sequence of CurvaturePairs or None
        For each pair the `pairs` of an earlier fit.
    tolerance, max_iterations : float and int, or arrays (pairs,)
        A pair has converged when `WINDOW` iterations lower its energy by less than the tolerance
        times √P nats, P the degrees of freedom: the prior energy of a random velocity fluctuates by
        √(P/2).
    """

    problem: Problem
    metric: MetricBatch
    velocity: Array
    memory: Sequence[CurvaturePairs | None]
    tolerance: Any
    max_iterations: Any

    def select(self, pairs: Sequence[int]) -> "Start":
        """The fits of some of the pairs."""
        count = self.velocity.shape[0]
        rules = [np.broadcast_to(rule, count)[pairs] for rule in self[4:]]
        if len(pairs) == count:
            return self._replace(tolerance=rules[0], max_iterations=rules[1])
        chosen = array_module(self.velocity).asarray(pairs)
        return Start(
            self.problem.select(pairs),
            self.metric.select(pairs),
            self.velocity[chosen],
            [self.memory[pair] for pair in pairs],
            *rules,
        )


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


class FitRows:
    """The energies of several pairs as functions of rows of one array.

    Rows are numbered by when they came; `numbers` are those of their pairs.
    """

    def __init__(self, problem: Any, metric: Any, start: Array, numbers: Sequence[int]):
        self.problem, self.metric, self.xp = problem, metric, array_module(start)
        self.numbers, self.rows = list(numbers), np.arange(len(numbers))  # of the problem
        self.start: Any = start.astype(np.complex128, copy=False)  # the optimizer's precision
        self.energies = np.zeros((3, len(self.numbers)))  # of all rows, at their last trial points

    def starts(self, start: Start) -> Starts:
        """Where the optimizer starts."""
        velocity, first = admissible_start(self.problem, self.metric, self.start)
        self.start = None  # its memory is not needed any more
        least = np.asarray(start.tolerance) * math.sqrt(self.metric.band.degrees_of_freedom)
        inverse_diagonal, gamma = self._scale(first)
        return Starts(
            self._pack(velocity),
            first.total,
            self._pack(first.gradient),
            inverse_diagonal,
            gamma,
            start.memory,
            least,
            start.max_iterations,
        )

    def join(self, other: "FitRows", kept: np.ndarray) -> None:
        """Add the pairs of another to those of some rows."""
        added = len(self.numbers) + np.arange(len(other.numbers))
        self._keep(kept)
        self.problem = self.problem.concatenate([self.problem, other.problem])
        self.metric = self.metric.concatenate([self.metric, other.metric])
        self.rows = np.concatenate([kept, added])
        self.numbers += other.numbers
        self.energies = np.concatenate([self.energies, other.energies], axis=1)

    def minima(self, ended: Sequence[tuple[int, RowMinimum]]) -> list[tuple[int, Minimum]]:
        """(pair, `Minimum`) of rows that ended."""
        velocity = self._unpack(self.xp.stack([row.x for _, row in ended]))
        problem, metric = self._part(np.array([row for row, _ in ended]))
        last = problem.evaluate(velocity, metric)
        return [
            (
                self.numbers[number],
                Minimum(
                    velocity[[i]],
                    last.select([i]),
                    row.iterations,
                    row.converged,
                    row.refused,
                    row.pairs,
                ),
            )
            for i, (number, row) in enumerate(ended)
        ]

    def objective(self, rows: np.ndarray) -> Callable:
        """Function of packed velocities of some rows: their scalars (`Problem.measure`) and packed
        gradients."""
        self._keep(rows)
        problem, metric = self.problem, self.metric
        problem.prepare()  # not inside the graph
        metric.symbol(self.xp)

        def function(x: Array) -> tuple[Array, Array]:
            scalars, gradient, _ = problem.measure(self._unpack(x), metric)
            return scalars, self._pack(gradient)

        return function

    def totals(self, scalars: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Energies of some rows, from their scalars on the host."""
        self.energies[:, rows] = self.problem.energies(scalars)
        return self.energies[0, rows]

    def _part(self, rows: np.ndarray) -> tuple[Any, Any]:
        """The problem and the metric of some rows."""
        if rows.size == self.rows.size:
            return self.problem, self.metric
        places = [int(place) for place in np.searchsorted(self.rows, rows)]
        return self.problem.select(places), self.metric.select(places)

    def _keep(self, rows: np.ndarray) -> None:
        """Keep some rows only."""
        self.problem, self.metric = self._part(rows)
        self.rows = rows

    def _pack(self, v: Array) -> Array:
        """Fields as rows."""
        return pack(v, self.metric.band, self.xp).reshape(v.shape[0], -1)

    def _unpack(self, x: Array) -> Array:
        """Rows as fields."""
        band = self.metric.band
        return unpack(x.reshape(x.shape[0], band.ndim, -1), band, self.xp)

    def _scale(self, first: Evaluation) -> tuple[Array, np.ndarray]:
        """Diagonal approximation of the inverse Hessian, packed, and the factor by which a first
        step along the preconditioned gradient ends at the minimizer along it under H."""
        xp, metric, gradient = self.xp, self.metric, first.gradient
        hessian = PosteriorHessian(metric, self.problem.curvature(first.geodesic))
        scale = hessian.prior(xp) + PRECONDITIONER_SHARE * hessian.curvature.diagonal
        along = gradient / scale
        slope = to_numpy(inner(gradient, along, metric.band, xp))
        curvature = to_numpy(inner(along, hessian(along), metric.band, xp))
        gamma = np.where(curvature > 0, slope / np.where(curvature > 0, curvature, 1.0), 1.0)
        inverse = 1.0 / packed_diagonal(scale, metric.band, xp)
        return inverse.reshape(scale.shape[0], -1), gamma

"""Fit velocities at fixed α and noise: preconditioned L-BFGS whose rows are packed velocities."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.model.problem import Problem
from fourierreg.optim.lbfgs import minimize
from fourierreg.optim.vectors import CurvaturePairs, Starts
from fourierreg.registration.fit_rows import NOT_FINITE, FitRows, Minimum, Start
from fourierreg.spectral.metric import MetricBatch

WINDOW = 10  # iterations over which the decrease of the energy is judged
MIN_EXTRAPOLATION_WINDOW = 2  # iterations
SLOWEST_RATIO = 0.9  # of the decreases of successive windows


def fit(
    problem: Problem,
    metric: MetricBatch,
    start: Array,
    memory: Sequence[CurvaturePairs | None],
    *,
    tolerance: Any,
    max_iterations: Any,
    record: Callable,
    finished: Callable | None = None,
    more: Callable | None = None,
) -> list[Minimum | Exception]:
    """Minimize ``problem.evaluate`` over v₀; every iterate is a diffeomorphism.

    Parameters
    ----------
    problem, metric, start, memory, tolerance, max_iterations
        As in `Start`.
    record : callable
        Called as record(pair, prior, likelihood, gradient norm) after every accepted step.
    finished : callable, optional
        Called with a list of (pair, result) of pairs that ended in the same step; nothing is
        returned then.
    more : callable, optional
        Returns the `Start` of other pairs, which take the places of those that ended and have the
        next numbers, or None.

    Returns
    -------
    list of Minimum; a FloatingPointError for a pair whose start is not finite
    """
    results: dict[int, Minimum | Exception] = {}
    run = _Run(record, results.update if finished is None else finished, more)
    first = run.admit(Start(problem, metric, start, memory, tolerance, max_iterations))
    if first is not None:
        run.minimize(first)
    return [results[pair] for pair in sorted(results)]


class _Run:
    """Fits of pairs that come and go."""

    def __init__(self, record: Callable, ended: Callable, more: Callable | None):
        self.record, self.ended, self.source = record, ended, more
        self.count = 0  # of pairs so far

    def admit(self, start: Start | None) -> "tuple[FitRows, Start] | None":
        """The fits of pairs whose start is finite; the others have ended."""
        while start is not None:
            velocity, first = start.velocity, self.count
            finite = _finite(velocity)
            self.count += finite.size
            kept = [int(pair) for pair in np.flatnonzero(finite)]
            failed = [first + int(pair) for pair in np.flatnonzero(~finite)]
            if failed:
                self.ended([(pair, FloatingPointError(NOT_FINITE)) for pair in failed])
            if kept:
                start = start.select(kept)
                numbers = [first + pair for pair in kept]
                return FitRows(start.problem, start.metric, start.velocity, numbers), start
            start = None if self.source is None else self.source()
        return None

    def more(self) -> "tuple[FitRows, Start] | None":
        """Fits of others, or None."""
        return None if self.source is None else self.admit(self.source())

    def minimize(self, first: "tuple[FitRows, Start]") -> None:
        """Minimize, and report every pair that ends."""
        state, start = first

        def more(rows: np.ndarray) -> Starts | None:
            found = self.more()
            if found is None:
                return None
            state.join(found[0], rows)
            return found[0].starts(found[1])

        minimize(
            state.objective,
            state.totals,
            state.starts(start),
            window=WINDOW,
            callback=lambda row, norm: self.record(
                state.numbers[row], *map(float, state.energies[1:, row]), norm
            ),
            finished=lambda ended: self.ended(state.minima(ended)),
            more=None if self.source is None else more,
            capture=start.problem.similarity.capturable,
        )


def _finite(velocity: Array) -> np.ndarray:
    """Which velocities are finite, (pairs,)."""
    xp = array_module(velocity)
    return to_numpy(xp.all(xp.isfinite(velocity), axis=tuple(range(1, velocity.ndim))))


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

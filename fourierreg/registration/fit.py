"""Fit velocities at fixed α and noise: preconditioned L-BFGS whose rows are packed velocities."""

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.model.problem import Problem
from fourierreg.optim.lbfgs import minimization
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
) -> list[Minimum | Exception]:
    """Minimize ``problem.evaluate`` over v₀; every iterate is a diffeomorphism.

    Parameters
    ----------
    problem, metric, start, memory, tolerance, max_iterations
        As in `Start`.
    record : callable
        Called as record(pair, prior, likelihood, gradient norm) after every accepted step.

    Returns
    -------
    list of Minimum; a FloatingPointError for a pair whose start is not finite
    """
    results: dict[int, Minimum | Exception] = {}
    first = Start(problem, metric, start, memory, tolerance, max_iterations)
    for _ in open_fit(first, record=record, finished=results.update):
        pass
    return [results[pair] for pair in sorted(results)]


def open_fit(
    start: Start, *, record: Callable, finished: Callable, more: Callable | None = None
) -> Generator[None, None, None]:
    """`fit` as a generator, in which pairs give their places to others (`minimization`).

    Parameters
    ----------
    start : Start
    record : callable
        As of `fit`.
    finished : callable
        Called with a list of (pair, result) of pairs that ended in the same step.
    more : callable, optional
        Returns the `Start` of other pairs, which take the places of those that ended and have the
        next numbers, or None.
    """
    run = _Run(finished)
    state, start = run.admit(start)
    if state is None:
        return

    def joining(rows: np.ndarray) -> Starts | None:
        found = None if more is None else more()
        added, found = (None, None) if found is None else run.admit(found)
        if added is None:
            return None
        state.join(added, rows)
        return added.starts(found)

    yield from minimization(
        state.objective,
        state.totals,
        state.starts(start),
        window=WINDOW,
        callback=lambda row, norm: record(
            state.numbers[row], *map(float, state.energies[1:, row]), norm
        ),
        finished=lambda ended: finished(state.minima(ended)),
        more=joining,
        capture=start.problem.similarity.capturable,
    )


class _Run:
    """Numbers the pairs of a run, and ends those whose start is not finite."""

    def __init__(self, ended: Callable):
        self.ended = ended
        self.count = 0  # of pairs so far

    def admit(self, start: Start) -> tuple[Any, Start]:
        """`FitRows` of the pairs whose start is finite, or None if there are none, and their
        `Start`."""
        finite, first = _finite(start.velocity), self.count
        self.count += finite.size
        kept = [int(pair) for pair in np.flatnonzero(finite)]
        failed = [first + int(pair) for pair in np.flatnonzero(~finite)]
        if failed:
            self.ended([(pair, FloatingPointError(NOT_FINITE)) for pair in failed])
        if not kept:
            return None, start
        start = start.select(kept)
        numbers = [first + pair for pair in kept]
        return FitRows(start.problem, start.metric, start.velocity, numbers), start


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

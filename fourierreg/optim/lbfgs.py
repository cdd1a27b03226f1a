"""L-BFGS on many functions at once: the unknowns of each function are a row of one array.

All rows take their steps together, wherever the arrays live, each with its own step length, memory
and end. An iteration launches the same kernels whatever it decides, so that a GPU replays it as a
captured graph: a few scalars per row are copied to the device, and a few come back. The two-loop
recursion runs on the host, on inner products of the vectors (`limited_memory`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module, backend_of, to_numpy
from fourierreg.backend.graphs import CapturedGraph
from fourierreg.optim.limited_memory import CAPACITY, LimitedMemory
from fourierreg.optim.vectors import CurvaturePairs, Vectors

ARMIJO = 1e-3  # fraction of the decrease along the slope that a step must achieve
MAX_TRIALS = 20  # of a line search
REFUSED_SHRINKAGE = 0.5  # of a step to a point where the function has no value
MAX_ACTIVE_SHARE = 0.75  # of the rows of a captured graph: below it finished rows are removed


class RowMinimum(NamedTuple):
    """Where a row stopped.

    Attributes
    ----------
    x : array, (P,)
    value : float
    iterations : int
    converged : bool
        The value had stopped falling.
    refused : bool
        The last trial point had no value.
    pairs : CurvaturePairs
        For the start of a similar minimization.
    """

    x: Array
    value: float
    iterations: int
    converged: bool
    refused: bool
    pairs: CurvaturePairs


def minimize(
    objective: Callable,
    values_of: Callable,
    x: Array,
    value: np.ndarray,
    gradient: Array,
    inverse_diagonal: Array,
    gamma: np.ndarray,
    pairs: Sequence[CurvaturePairs | None],
    *,
    min_decrease: float,
    window: int,
    max_iterations: int,
    callback: Callable[[int, float], Any] | None = None,
    capture: bool = True,
) -> list[RowMinimum]:
    """Minimize a function of every row of `x`.

    Parameters
    ----------
    objective : callable
        rows (n,), on the host -> function of points (n, P) that returns (scalars (n, k), gradients
        (n, P)) and can be captured as a graph (`CapturedGraph`).
    values_of : callable
        (scalars (n, k), rows), on the host -> values (n,); an infinite one refuses a point.
    x : float array, (rows, P)
    value, gradient : float arrays, (rows,) on the host and (rows, P)
        At `x`; all values finite.
    inverse_diagonal : float array, (rows, P)
        Diagonal approximation of the inverse Hessian.
    gamma : float array, (rows,), on the host
        Factor of the diagonal until a row has a curvature pair.
    pairs : sequence of CurvaturePairs or None
        Initial memory of each row.
    min_decrease, window, max_iterations
        A row has converged when `window` iterations lower its value by less than `min_decrease`.
    callback : callable, optional
        Called as callback(row, gradient norm) after every accepted step, in the order of rows.
    capture : bool
        Whether `objective` can be captured.

    Returns
    -------
    list of RowMinimum
    """
    run = _Rows(objective, values_of, x, value, gradient, inverse_diagonal, gamma, pairs, capture)
    minima: list[Any] = [None] * x.shape[0]
    while run.active.any():
        accepted = run.step()
        if callback is not None:
            norms = run.memory.gradient_norms()
            for i in np.flatnonzero(accepted):
                callback(int(run.rows[i]), float(norms[i]))
        converged = run.stalled | np.array([_flat(v, window, min_decrease) for v in run.values])
        done = run.active & (converged | (run.iterations >= max_iterations))
        if done.any():
            for row, minimum in run.finish(np.flatnonzero(done), converged):
                minima[row] = minimum
    return minima


def _flat(values, window, min_decrease):
    return len(values) > window and values[-window - 1] - values[-1] < min_decrease


class _Rows:
    """State of the line searches on the host. Finished rows may stay for a while (`active`)."""

    PER_ROW = (
        "rows",
        "active",
        "trials",
        "iterations",
        "refused",
        "stalled",
        "accepted",
        "slots",
        "needs_direction",
        "gamma",
        "coefficients",
        "slope",
        "length",
    )

    def __init__(
        self, objective, values_of, x, value, gradient, inverse_diagonal, gamma, pairs, capture
    ):
        self.xp, self.objective, self.values_of = array_module(x), objective, values_of
        self.capture = capture
        self.values = [[float(v)] for v in value]
        count = x.shape[0]
        self.rows = np.arange(count)
        self.vectors = vectors = Vectors(x, gradient, inverse_diagonal, pairs)
        counts = [0 if own is None else own.steps.shape[0] for own in pairs]
        self.memory = LimitedMemory(
            gamma, counts, *vectors.pair_products(), to_numpy(vectors.products())
        )
        self.active = np.ones(count, dtype=bool)
        self.trials, self.iterations = np.zeros((2, count), dtype=int)
        self.refused, self.stalled, self.accepted = np.zeros((3, count), dtype=bool)
        self.slots = np.full(count, -1)
        self._choose_direction(self.active)
        self._build_iteration()

    def _build_iteration(self):
        """The device's part of an iteration, for the present rows."""
        vectors, rows, xp = self.vectors, self.rows, self.xp
        self.iterate = None  # frees the memory of the previous graph first
        function = self.objective(rows)

        def iterate():
            vectors.advance()
            scalars, gradient = function(vectors.trial)
            vectors.trial_gradient[...] = gradient
            products = vectors.products()
            return xp.concatenate([scalars, products.reshape(rows.size, -1)], axis=1)

        self.iterate = CapturedGraph(iterate, xp, self.capture)

    def step(self):
        """Evaluate one trial point of every row; returns which rows accepted theirs."""
        length = np.where(self.active, self.length, 0.0)
        self.vectors.write_control(
            self.accepted, self.slots, self.needs_direction, self.gamma, length, self.coefficients
        )
        found = to_numpy(self.iterate())
        scalars, products = np.split(found, [found.shape[1] - 5 * (2 * CAPACITY + 3)], axis=1)
        products = products.reshape(self.rows.size, -1, 5)
        value = self.values_of(scalars, self.rows)
        before = np.array([v[-1] for v in self.values])
        self.refused = np.where(self.active, ~np.isfinite(value), self.refused)
        self.accepted = self.active & (value <= before + ARMIJO * length * self.slope)
        self._shorten(~self.accepted, value - before)
        for i in np.flatnonzero(self.accepted):
            self.values[i].append(float(value[i]))
        self.iterations = self.iterations + self.accepted
        self.slots = self.memory.update(products, self.accepted)
        self.needs_direction = np.zeros(self.rows.size, dtype=bool)
        self._choose_direction(self.accepted)
        self._recover()
        return self.accepted

    def _choose_direction(self, chosen):
        """New directions for some rows, and the slopes along them."""
        if not chosen.any():
            return
        coefficients, gamma, slope = self.memory.direction()
        if chosen.all():
            self.coefficients, self.gamma, self.slope = coefficients, gamma, slope
            self.length, self.trials = np.ones(chosen.size), np.zeros(chosen.size, dtype=int)
            self.needs_direction = chosen
            return
        self.coefficients = np.where(chosen[:, None], coefficients, self.coefficients)
        self.gamma = np.where(chosen, gamma, self.gamma)
        self.slope = np.where(chosen, slope, self.slope)
        self.length, self.trials = np.where(chosen, 1.0, self.length), self.trials * ~chosen
        self.needs_direction = self.needs_direction | chosen

    def _shorten(self, failed, rise):
        """Shorten the steps of some rows to the minimum of the parabola through value, slope and
        trial value."""
        if not failed.any():
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            minimizer = -0.5 * self.slope * self.length / (rise / self.length - self.slope)
        factor = np.clip(np.nan_to_num(minimizer / self.length, nan=0.1), 0.1, 0.5)
        factor = np.where(np.isfinite(rise), factor, REFUSED_SHRINKAGE)
        self.length = np.where(failed, factor * self.length, self.length)
        self.trials = self.trials + failed

    def _recover(self):
        """Reset the memory of rows whose line search failed. A second failure ends them, as does a
        zero gradient."""
        failed = self.active & (self.trials >= MAX_TRIALS)
        had_memory = self.memory.reset(failed) if failed.any() else failed
        self.stalled = (failed & ~had_memory) | (self.slope == 0)
        self._choose_direction(failed & had_memory)

    def finish(self, done, converged):
        """(row, `RowMinimum`) of finished rows; once there are many they are removed."""
        vectors, memory = self.vectors, self.memory
        vectors.write_control(self.accepted, self.slots, False, 0.0, 0.0, 0.0)
        vectors.advance()
        self.accepted, self.slots = np.zeros_like(self.accepted), np.full_like(self.slots, -1)
        found = []
        for i in map(int, done):
            minimum = RowMinimum(
                vectors.x[i].copy(),
                self.values[i][-1],
                int(self.iterations[i]),
                bool(converged[i]),
                bool(self.refused[i]),
                vectors.pairs(i, memory.slots(i)),
            )
            found.append((int(self.rows[i]), minimum))
        self.active[done] = False
        left = np.flatnonzero(self.active)
        at_once = backend_of(vectors.x) == "numpy"  # where there is no graph to capture again
        if left.size and (at_once or left.size <= MAX_ACTIVE_SHARE * self.active.size):
            self._select(left)
        return found

    def _select(self, keep):
        """Keep some rows only."""
        self.vectors.select(keep)
        self.memory.select(keep)
        for name in self.PER_ROW:
            setattr(self, name, getattr(self, name)[keep])
        self.values = [self.values[i] for i in keep]
        self._build_iteration()

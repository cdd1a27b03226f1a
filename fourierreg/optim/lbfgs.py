"""L-BFGS on many functions at once: the unknowns of each function are a row of one array.

All rows take their steps together, wherever the arrays live, each with its own step length, memory
and end. An iteration launches the same kernels whatever it decides, so that a GPU replays it as a
captured graph: a few scalars per row are copied to the device, and a few come back. The two-loop
recursion runs on the host, on inner products of the vectors (`limited_memory`).
"""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from fourierreg.backend import array_module, backend_of, to_numpy
from fourierreg.backend.graphs import CapturedGraph
from fourierreg.optim.limited_memory import CAPACITY, LimitedMemory
from fourierreg.optim.vectors import RowMinimum, Starts, Vectors

ARMIJO = 1e-3  # fraction of the decrease along the slope that a step must achieve
MAX_TRIALS = 20  # of a line search
REFUSED_SHRINKAGE = 0.5  # of a step to a point where the function has no value
MAX_ACTIVE_SHARE = 0.75  # of the rows of a captured graph: below it finished rows are removed


def minimize(
    objective: Callable,
    values_of: Callable,
    starts: Starts,
    *,
    window: int,
    callback: Callable[[int, float], Any] | None = None,
    capture: bool = True,
) -> list[RowMinimum]:
    """Minimize a function of every row of `starts.x`.

    Parameters
    ----------
    objective : callable
        rows (n,), on the host -> function of points (n, P) that returns (scalars (n, k), gradients
        (n, P)) and can be captured as a graph (`CapturedGraph`).
    values_of : callable
        (scalars (n, k), rows), on the host -> values (n,); an infinite one refuses a point.
    starts : Starts
    window : int
        Iterations over which the decrease of a value is judged.
    callback : callable, optional
        Called as callback(row, gradient norm) after every accepted step, in the order of rows.
    capture : bool
        Whether `objective` can be captured.
    """
    minima: dict[int, RowMinimum] = {}
    running = minimization(
        objective,
        values_of,
        starts,
        window=window,
        finished=minima.update,
        callback=callback,
        capture=capture,
    )
    for _ in running:
        pass
    return [minima[row] for row in sorted(minima)]


def minimization(
    objective: Callable,
    values_of: Callable,
    starts: Starts,
    *,
    window: int,
    finished: Callable,
    more: Callable | None = None,
    callback: Callable[[int, float], Any] | None = None,
    capture: bool = True,
) -> Generator[None, None, None]:
    """`minimize` as a generator, in which rows give their places to others.

    It yields where rows have ended and others may join: its caller may do other work first, on the
    device too, as no graph is held then. Rows are numbered from zero, those that join go on.

    Parameters
    ----------
    objective, values_of, starts, window, callback, capture
        As of `minimize`.
    finished : callable
        Called with a list of (row, `RowMinimum`) of rows that ended in the same step.
    more : callable, optional
        Called with the rows that go on, where some have ended: returns `Starts` of others that
        take their places, or None.
    """
    run = _Rows(objective, values_of, starts, capture)
    run.build_iteration()
    while run.active.any():
        accepted = run.step()
        if callback is not None:
            norms = run.memory.gradient_norms()
            for i in np.flatnonzero(accepted):
                callback(int(run.rows[i]), float(norms[i]))
        flat = [
            _flat(v, window, least) for v, least in zip(run.values, run.min_decrease, strict=True)
        ]
        converged = run.stalled | np.array(flat)
        done = run.active & (converged | (run.iterations >= run.max_iterations))
        if not done.any():
            continue
        finished(run.finish(np.flatnonzero(done), converged))
        if run.can_be_renewed():
            run.iterate = None  # frees the memory of the graph
            yield
            run.renew(more)


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
        "min_decrease",
        "max_iterations",
    )

    def __init__(self, objective, values_of, starts, capture, first=0):
        x, value, gradient, inverse_diagonal, gamma, pairs = starts[:6]
        self.xp, self.objective, self.values_of = array_module(x), objective, values_of
        self.capture = capture
        self.values = [[float(v)] for v in value]
        count = x.shape[0]
        self.rows, self.next_row = np.arange(first, first + count), first + count
        self.min_decrease, self.max_iterations = (
            np.broadcast_to(np.asarray(rule), count) for rule in starts[6:]
        )
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

    def build_iteration(self):
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
        """(row, `RowMinimum`) of finished rows."""
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
        return found

    def can_be_renewed(self):
        """Whether finished rows are removed now: at once where there is no graph to capture again,
        else once there are many."""
        active = int(self.active.sum())
        at_once = backend_of(self.vectors.x) == "numpy"
        return active > 0 and (at_once or active <= MAX_ACTIVE_SHARE * self.active.size)

    def renew(self, more):
        """Replace finished rows by others, or remove them."""
        left = np.flatnonzero(self.active)
        starts = None if more is None else more(self.rows[left])
        self._select(left)
        if starts is not None:
            self._join(starts)
        self.build_iteration()

    def _select(self, keep):
        """Keep some rows only."""
        self.vectors.select(keep)
        self.memory.select(keep)
        for name in self.PER_ROW:
            setattr(self, name, getattr(self, name)[keep])
        self.values = [self.values[i] for i in keep]

    def _join(self, starts):
        """Add rows."""
        other = _Rows(self.objective, self.values_of, starts, self.capture, self.next_row)
        self.next_row = other.next_row
        self.vectors.extend(other.vectors)
        self.memory.extend(other.memory)
        self.values += other.values
        for name in self.PER_ROW:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(other, name)]))

"""L-BFGS on many functions at once: the unknowns of each are a row of one array.

SciPy's minimises one function, on the host. Here all rows take their steps together, wherever the
arrays live, each with its own step length, memory and end. An iteration is the same work whatever
it decides, so that a GPU repeats it from a recording: a few numbers a row cross to it, and a few
come back. The host takes the two loops of Nocedal (1980) through products of the vectors
(`limited_memory`).
"""

from typing import NamedTuple

import numpy as np

from fourierreg.backend import array_module, backend_of, copy_from_host, to_numpy
from fourierreg.backend.graphs import CapturedGraph
from fourierreg.backend.kernels import PARALLEL_SIZE, launch, voxel_blocks
from fourierreg.optim.limited_memory import MEMORY, Memory

DECREASE = 1e-3  # of the slope, that a step must bring (Armijo), as SciPy's
MAX_TRIALS = 20  # of a line search, as SciPy's
REFUSED_SHRINKAGE = 0.5  # of a step whose end has no value
SHARE_LEFT = 0.75  # of the rows: while more go on, those that are done stay in a recording
PARTS = 512  # of a product of two rows, as in kernels.cu


class Pairs(NamedTuple):
    """What one row has learnt: steps s and changes of the gradient y, (pairs, P), oldest first."""

    steps: object
    changes: object


class End(NamedTuple):
    """Where a row stopped. `settled`: its value had stopped falling; `refused`: the last step
    that was tried ended where the function has no value."""

    x: object
    value: float
    iterations: int
    settled: bool
    refused: bool
    pairs: Pairs


def minimize(
    objective,
    values_of,
    x,
    first,
    inverse,
    gain,
    pairs,
    *,
    enough,
    window,
    max_iterations,
    accept=None,
):
    """Minimise a function of every row of `x`.

    Parameters
    ----------
    objective : callable
        rows (n,), on the host -> function of points (n, P) that gives (numbers (n, k), gradients
        (n, P)): work to be recorded (`CapturedGraph`).
    values_of : callable
        (numbers (n, k), rows), on the host -> values (n,); an infinite one refuses a point.
    x : float array, (rows, P)
    first : (float array (rows,) on the host, float array (rows, P))
        Values, all finite, and gradients at `x`.
    inverse : float array, (rows, P)
        Diagonal that stands for the inverse Hessian.
    gain : float array (rows,), on the host
        What it is multiplied by while a row has learnt nothing.
    pairs : sequence of Pairs or None
        What each row brings along.
    enough, window, max_iterations
        A row ends where `window` iterations lower its value by less than `enough`.
    accept : callable, optional
        Called as accept(row, gradient norm in the metric of the rows) after every iteration of
        one, in the order of rows.

    Returns
    -------
    list of End
    """
    run = _Rows(objective, values_of, x, first, inverse, gain, pairs)
    ends = [None] * x.shape[0]
    while run.going.any():
        accepted = run.step()
        if accept is not None:
            norms = run.memory.norms()
            for i in np.flatnonzero(accepted):
                accept(int(run.rows[i]), float(norms[i]))
        settled = run.stuck | np.array([_flat(v, window, enough) for v in run.values])
        done = run.going & (settled | (run.iterations >= max_iterations))
        if done.any():
            for row, end in run.ends(np.flatnonzero(done), settled):
                ends[row] = end
    return ends


def _flat(values, window, enough):
    return len(values) > window and values[-window - 1] - values[-1] < enough


class _Rows:
    """The rows that go on, and those that are done while they are kept."""

    def __init__(self, objective, values_of, x, first, inverse, gain, pairs):
        self.xp, self.objective, self.values_of = array_module(x), objective, values_of
        value, gradient = first
        self.values = [[float(v)] for v in value]
        count = x.shape[0]
        self.rows = np.arange(count)
        self.vectors = _Vectors(x, gradient, inverse, pairs)
        learnt = [0 if known is None else known.steps.shape[0] for known in pairs]
        self.memory = Memory(gain, learnt, *self.vectors.among_pairs(), self.vectors.look())
        self.going = np.ones(count, dtype=bool)
        self.trials, self.iterations = np.zeros((2, count), dtype=int)
        self.refused, self.stuck, self.moved = np.zeros((3, count), dtype=bool)
        self.slots = np.full(count, -1)
        self._aim(self.going)
        self._record()

    def _record(self):
        """The work of an iteration, of the rows there are now."""
        vectors, rows, xp = self.vectors, self.rows, self.xp
        self.iterate = None  # gives its memory back
        function = self.objective(rows)

        def iterate():
            vectors.advance()
            numbers, gradient = function(vectors.trial)
            vectors.fresh[...] = gradient
            products = vectors.products()
            return xp.concatenate([numbers, products.reshape(rows.size, -1)], axis=1)

        self.iterate = CapturedGraph(iterate, xp)

    def step(self):
        """Try one point for every row; which rows moved there."""
        length = np.where(self.going, self.length, 0.0)
        self.vectors.tell(self.moved, self.slots, self.aims, self.gain, length, self.shares)
        found = to_numpy(self.iterate())
        numbers, products = np.split(found, [found.shape[1] - 5 * (2 * MEMORY + 3)], axis=1)
        products = products.reshape(self.rows.size, -1, 5)
        value = self.values_of(numbers, self.rows)
        before = np.array([v[-1] for v in self.values])
        self.refused = np.where(self.going, ~np.isfinite(value), self.refused)
        self.moved = self.going & (value <= before + DECREASE * length * self.slope)
        self._shorten(~self.moved, value - before)
        for i in np.flatnonzero(self.moved):
            self.values[i].append(float(value[i]))
        self.iterations = self.iterations + self.moved
        self.slots = self.memory.learn(products, self.moved)
        self.aims = np.zeros(self.rows.size, dtype=bool)
        self._aim(self.moved)
        self._restart()
        return self.moved

    def _aim(self, fresh):
        """New directions for some rows, and the slopes along them."""
        if not fresh.any():
            return
        shares, gain, slope = self.memory.direction()
        if fresh.all():
            self.shares, self.gain, self.slope = shares, gain, slope
            self.length, self.trials = np.ones(fresh.size), np.zeros(fresh.size, dtype=int)
            self.aims = fresh
            return
        self.shares = np.where(fresh[:, None], shares, self.shares)
        self.gain, self.slope = np.where(fresh, gain, self.gain), np.where(fresh, slope, self.slope)
        self.length, self.trials = np.where(fresh, 1.0, self.length), self.trials * ~fresh
        self.aims = self.aims | fresh

    def _shorten(self, missed, rise):
        """Back to the minimum of the parabola through value, slope and the new value."""
        if not missed.any():
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            bent = -0.5 * self.slope * self.length / (rise / self.length - self.slope)
        share = np.clip(np.nan_to_num(bent / self.length, nan=0.1), 0.1, 0.5)
        share = np.where(np.isfinite(rise), share, REFUSED_SHRINKAGE)
        self.length = np.where(missed, share * self.length, self.length)
        self.trials = self.trials + missed

    def _restart(self):
        """Rows whose line search came to nothing forget what they learnt; a second time they end,
        as do rows whose gradient is zero."""
        lost = self.going & (self.trials >= MAX_TRIALS)
        knew = self.memory.forget(lost) if lost.any() else lost
        self.stuck = (lost & ~knew) | (self.slope == 0)
        self._aim(lost & knew)

    def ends(self, done, settled):
        """(row, `End`) of those that are done; once they are many the others go on alone."""
        vectors, memory = self.vectors, self.memory
        vectors.tell(self.moved, self.slots, False, 0.0, 0.0, 0.0)
        vectors.advance()
        self.moved, self.slots = np.zeros_like(self.moved), np.full_like(self.slots, -1)
        found = []
        for i in map(int, done):
            x, value, iterations = vectors.x[i].copy(), self.values[i][-1], int(self.iterations[i])
            flags, pairs = (bool(settled[i]), bool(self.refused[i])), memory.order(i)
            end = End(x, value, iterations, *flags, vectors.pairs(i, pairs))
            found.append((int(self.rows[i]), end))
        self.going[done] = False
        left = np.flatnonzero(self.going)
        at_once = backend_of(self.vectors.x) == "numpy"  # where there is nothing to record anew
        if left.size and (at_once or left.size <= SHARE_LEFT * self.going.size):
            self._select(left)
        return found

    def _select(self, keep):
        """Go on with some rows only."""
        self.vectors.select(keep)
        self.memory.select(keep)
        for name in (
            "rows",
            "going",
            "trials",
            "iterations",
            "refused",
            "stuck",
            "moved",
            "slots",
            "aims",
            "gain",
            "shares",
            "slope",
            "length",
        ):
            setattr(self, name, getattr(self, name)[keep])
        self.values = [self.values[i] for i in keep]
        self._record()


class _Vectors:
    """The vectors of all rows, wherever the arrays live (`fourierreg.optim.kernels`)."""

    def __init__(self, x, gradient, inverse, pairs):
        xp = self.xp = array_module(x)
        rows, size = x.shape
        self.inverse = xp.ascontiguousarray(inverse)
        self.x, self.gradient, self.fresh = x.copy(), gradient.copy(), gradient.copy()
        self.direction, self.step, self.trial = (xp.zeros((rows, size)) for _ in range(3))
        self.known = xp.zeros((rows, 2, MEMORY, size))
        for row, known in enumerate(pairs):
            if known is not None and known.steps.shape[0]:
                count = min(MEMORY, known.steps.shape[0])
                self.known[row, 0, :count] = known.steps[-count:]
                self.known[row, 1, :count] = known.changes[-count:]
        self.control = xp.zeros((rows, 5 + 2 * MEMORY))

    def tell(self, accepted, slots, aims, gain, length, shares):
        """What `advance` is to do with every row."""
        said = np.empty(self.control.shape)
        for column, values in enumerate((accepted, slots, aims, gain, length)):
            said[:, column] = values
        said[:, 5:] = shares
        copy_from_host(self.control, said)

    def advance(self):
        """To the next trial points."""
        rows, size = self.x.shape
        inputs = [self.inverse, self.fresh, self.control]
        outputs = [self.x, self.gradient, self.direction, self.step, self.trial, self.known]
        launch(
            "fourierreg.optim",
            "advance",
            inputs,
            [],
            outputs,
            sizes=(rows, MEMORY, size),
            blocks=voxel_blocks(size, rows),
            parallel=rows > 1,
        )

    def products(self):
        """Of all pairs and of the trial points, (rows, 2 MEMORY + 3, 5)."""
        rows, size = self.x.shape
        out = self.xp.empty((rows, 2 * MEMORY + 3, 5))
        launch(
            "fourierreg.optim",
            "products",
            [self.inverse, self.gradient, self.fresh, self.step, self.known],
            [],
            [out],
            sizes=(rows, MEMORY, size),
            blocks=(rows * (2 * MEMORY + 3),),
            scratch=5 * PARTS,
            parallel=self.known.size >= PARALLEL_SIZE,
        )
        return out

    def look(self):
        """`products` on the host."""
        return to_numpy(self.products())

    def among_pairs(self):
        """s·y and y·D y of all pairs of a row, each (rows, MEMORY, MEMORY), on the host."""
        xp, (s, y) = self.xp, (self.known[:, 0], self.known[:, 1])
        transposed = xp.swapaxes(y, 1, 2)
        across = xp.matmul(s, transposed)
        own = xp.matmul(y * self.inverse[:, None], transposed)
        return to_numpy(across).copy(), to_numpy(own).copy()

    def pairs(self, row, order):
        """`Pairs` of a row, given the order of its slots."""
        chosen = self.xp.asarray(np.asarray(order, dtype=int))
        return Pairs(self.known[row, 0][chosen], self.known[row, 1][chosen])

    def select(self, keep):
        """Go on with some rows only."""
        chosen = self.xp.asarray(keep)
        for name, value in vars(self).items():
            if name != "xp":
                setattr(self, name, value[chosen])

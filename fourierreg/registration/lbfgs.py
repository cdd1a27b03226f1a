"""L-BFGS on many functions at once: the unknowns of each are a row of one array.

SciPy's minimises one function, on the host. Here all rows take their steps together, wherever the
arrays live, each with its own step length, memory and end; a few numbers a row cross to the host.
The direction is that of the compact form of Byrd, Nocedal and Schnabel (1994): two passes over the
memory of all rows, and small triangular systems on the host.
"""

from typing import NamedTuple

import numpy as np

from fourierreg.backend import array_module, to_numpy

MEMORY = 30  # pairs
DECREASE = 1e-3  # of the slope, that a step must bring (Armijo), as SciPy's
MAX_TRIALS = 20  # of a line search, as SciPy's
REFUSED_SHRINKAGE = 0.5  # of a step whose end has no value
CURVED = 1e-12  # |s| |y| times this is what s·y must exceed


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


def minimise_rows(
    objective, x, inverse, gain, pairs, *, enough, window, max_iterations, accept=None
):
    """Minimise a function of every row of `x`.

    Parameters
    ----------
    objective : callable
        (points (n, P), rows (n,) on the host) -> (values (n,) on the host, gradients (n, P)); an
        infinite value refuses a point. Finite at `x`.
    x : float array, (rows, P)
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
    run = _Rows(objective, x, inverse, gain, pairs)
    ends = [None] * x.shape[0]
    while run.rows.size:
        accepted = run.step()
        if accept is not None:
            for row, norm in zip(run.rows[accepted], run.norms()[accepted], strict=True):
                accept(int(row), float(norm))
        settled = run.stuck | np.array([_flat(v, window, enough) for v in run.values])
        done = settled | (run.iterations >= max_iterations)
        for i in np.flatnonzero(done):
            ends[run.rows[i]] = run.end(i, bool(settled[i]))
        if done.any():
            run.select(np.flatnonzero(~done))
    return ends


def _flat(values, window, enough):
    return len(values) > window and values[-window - 1] - values[-1] < enough


class _Rows:
    """The rows that go on."""

    def __init__(self, objective, x, inverse, gain, pairs):
        self.xp, self.objective = array_module(x), objective
        self.x, self.rows = x, np.arange(x.shape[0])
        value, self.gradient = objective(x, self.rows)
        self.values = [[float(v)] for v in value]
        self.memory = _Memory(inverse, gain, pairs, self.xp)
        self.length = np.ones(self.rows.size)
        self.trials, self.iterations = np.zeros((2, self.rows.size), dtype=int)
        self.refused, self.stuck = np.zeros((2, self.rows.size), dtype=bool)
        self._aim(np.ones(self.rows.size, dtype=bool))

    def norms(self):
        """Lengths of the gradients."""
        return np.sqrt(to_numpy(_dot(self.gradient, self.gradient, self.xp)))

    def step(self):
        """Try one point for every row; which rows moved there."""
        xp, length = self.xp, self.length
        trial = self.x + xp.asarray(length)[:, None] * self.direction
        value, gradient = self.objective(trial, self.rows)
        before = np.array([v[-1] for v in self.values])
        self.refused = ~np.isfinite(value)
        moved = value <= before + DECREASE * length * self.slope  # not where it is infinite or NaN
        self._shorten(~moved, value - before)
        if not moved.any():
            self._restart()
            return moved
        chosen = xp.asarray(moved)[:, None]
        s = xp.where(chosen, trial - self.x, 0.0)
        y = xp.where(chosen, gradient - self.gradient, 0.0)
        self.x = xp.where(chosen, trial, self.x)
        self.gradient = xp.where(chosen, gradient, self.gradient)
        for i in np.flatnonzero(moved):
            self.values[i].append(float(value[i]))
        self.iterations = self.iterations + moved
        self.memory.learn(s, y)
        self._aim(moved)
        self._restart()
        return moved

    def _aim(self, fresh):
        """New directions for some rows, and the slopes along them."""
        xp = self.xp
        direction = -self.memory.times(self.gradient)
        slope = to_numpy(_dot(direction, self.gradient, xp))
        if fresh.all():
            self.direction, self.slope = direction, slope
        else:
            self.direction = xp.where(xp.asarray(fresh)[:, None], direction, self.direction)
            self.slope = np.where(fresh, slope, self.slope)
        self.length = np.where(fresh, 1.0, self.length)
        self.trials = np.where(fresh, 0, self.trials)

    def _shorten(self, missed, rise):
        """Back to the minimum of the parabola through value, slope and the new value."""
        with np.errstate(divide="ignore", invalid="ignore"):
            bent = -0.5 * self.slope * self.length / (rise / self.length - self.slope)
        share = np.clip(np.nan_to_num(bent / self.length, nan=0.1), 0.1, 0.5)
        share = np.where(np.isfinite(rise), share, REFUSED_SHRINKAGE)
        self.length = np.where(missed, share * self.length, self.length)
        self.trials = self.trials + missed

    def _restart(self):
        """Rows whose line search came to nothing forget what they learnt; a second time they end,
        as do rows whose gradient is zero."""
        lost = self.trials >= MAX_TRIALS
        knew = self.memory.forget(lost) if lost.any() else lost
        self.stuck = (lost & ~knew) | (self.slope == 0)
        if (lost & knew).any():
            self._aim(lost & knew)

    def end(self, i, settled):
        """`End` of one row."""
        return End(
            self.x[i].copy(),
            self.values[i][-1],
            int(self.iterations[i]),
            settled,
            bool(self.refused[i]),
            self.memory.pairs_of(i),
        )

    def select(self, keep):
        """Go on with some rows only."""
        chosen = self.xp.asarray(keep)
        for name in ("x", "gradient", "direction"):
            setattr(self, name, getattr(self, name)[chosen])
        for name in ("rows", "length", "slope", "trials", "iterations", "refused", "stuck"):
            setattr(self, name, getattr(self, name)[keep])
        self.values = [self.values[i] for i in keep]
        self.memory.select(keep, chosen)


class _Memory:
    """The pairs of all rows, in a ring, and their products: s·y and y·D y, D the diagonal."""

    def __init__(self, inverse, gain, pairs, xp):
        self.inverse, self.gain, self.xp = inverse, np.asarray(gain, dtype=float), xp
        rows, size = inverse.shape
        self.steps, self.changes = (xp.zeros((rows, MEMORY, size)) for _ in range(2))
        self.age = np.full((rows, MEMORY), -1)
        for row, known in enumerate(pairs):
            if known is not None:
                count = min(MEMORY, known.steps.shape[0])
                if count:
                    self.steps[row, :count] = known.steps[-count:]
                    self.changes[row, :count] = known.changes[-count:]
                self.age[row, :count] = np.arange(count)
        transposed = xp.swapaxes(self.changes, 1, 2)
        self.across = to_numpy(xp.matmul(self.steps, transposed)).copy()
        scaled = self.changes * self.inverse[:, None]
        self.own = to_numpy(xp.matmul(scaled, transposed)).copy()

    def learn(self, s, y):
        """Take up a pair of every row, in place of its oldest; none where s·y says nothing."""
        xp, dy = self.xp, self.inverse * y
        sy, ss, yy = to_numpy(xp.stack([_dot(s, y, xp), _dot(s, s, xp), _dot(y, y, xp)]))
        rows = np.flatnonzero(sy > CURVED * np.sqrt(ss * yy))
        if not rows.size:
            return
        slots = np.argmin(self.age[rows], axis=1)
        there = xp.asarray(rows), xp.asarray(slots)
        self.steps[there], self.changes[there] = s[there[0]], y[there[0]]
        self.age[rows, slots] = self.age.max(axis=1)[rows] + 1
        on_steps = xp.matmul(self.steps, y[:, :, None])
        on_changes = xp.matmul(self.changes, xp.stack([s, dy], axis=2))
        products = to_numpy(xp.concatenate([on_steps, on_changes], axis=2))[rows]
        self.across[rows, :, slots] = products[:, :, 0]
        self.across[rows, slots, :] = products[:, :, 1]
        self.own[rows, :, slots] = self.own[rows, slots, :] = products[:, :, 2]

    def times(self, g):
        """B g of every row, B its inverse Hessian:

        γ D g + S R⁻ᵀ [(E + γ YᵀDY) R⁻¹ Sᵀg - γ YᵀD g] - γ D Y R⁻¹ Sᵀg, R the upper triangle of
        SᵀY in order of age, E its diagonal, γ = s·y / y·D y of the newest pair.
        """
        xp, dg = self.xp, self.inverse * g
        known = self.age >= 0
        if not known.any():
            return xp.asarray(self.gain)[:, None] * dg
        both = [xp.matmul(self.steps, g[:, :, None]), xp.matmul(self.changes, dg[:, :, None])]
        on_steps, on_changes = to_numpy(xp.concatenate(both, axis=2)).transpose(2, 0, 1)
        order = np.argsort(self.age, axis=1, kind="stable")
        rows = np.arange(order.shape[0])[:, None]
        matrix = (rows[:, :, None], order[:, :, None], order[:, None, :])
        across, own = self.across[matrix], self.own[matrix]
        e = np.diagonal(across, axis1=1, axis2=2)
        newest = np.argmax(self.age, axis=1)[:, None]
        sy, yy = (a[rows, newest, newest][:, 0] for a in (self.across, self.own))
        gain = np.where(known.any(axis=1), sy / np.where(yy > 0, yy, 1.0), self.gain)[:, None]
        upper = np.triu(across) + np.eye(MEMORY) * ~known[rows, order][:, :, None]
        w = np.linalg.solve(upper, on_steps[rows, order][:, :, None])[:, :, 0]
        inner = (own @ w[:, :, None])[:, :, 0]
        right = e * w + gain * (inner - on_changes[rows, order])
        p = np.linalg.solve(upper.transpose(0, 2, 1), right[:, :, None])[:, :, 0]
        shares = np.zeros((2, *order.shape))
        shares[0, rows, order], shares[1, rows, order] = p, -gain * w
        shares = xp.asarray(shares)[:, :, None]
        along_changes = xp.matmul(shares[1], self.changes)[:, 0]
        gain = xp.asarray(gain)
        return gain * dg + xp.matmul(shares[0], self.steps)[:, 0] + self.inverse * along_changes

    def forget(self, rows):
        """Drop the pairs of some rows; which of them had any."""
        knew = rows & (self.age >= 0).any(axis=1)
        for i in np.flatnonzero(rows):
            self.steps[int(i)], self.changes[int(i)] = 0.0, 0.0
            self.across[i], self.own[i], self.age[i] = 0.0, 0.0, -1
        return knew

    def pairs_of(self, i):
        """`Pairs` of a row."""
        order = [int(k) for k in np.argsort(self.age[i]) if self.age[i, k] >= 0]
        chosen = self.xp.asarray(np.array(order, dtype=int))
        return Pairs(self.steps[i][chosen], self.changes[i][chosen])

    def select(self, keep, chosen):
        """Go on with some rows only."""
        self.inverse, self.steps = self.inverse[chosen], self.steps[chosen]
        self.changes = self.changes[chosen]
        for name in ("gain", "age", "across", "own"):
            setattr(self, name, getattr(self, name)[keep])


def _dot(a, b, xp):
    return xp.sum(a * b, axis=1)

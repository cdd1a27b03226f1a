"""What L-BFGS knows of the curvature of many functions: products of its pairs, on the host."""

import numpy as np

MEMORY = 30  # pairs
CURVED = 1e-12  # |s| |y| times this is what s·y must exceed
S, Y, DY, F, DF = range(5)  # columns of the products; s, y and f are their last three rows too


class Memory:
    """Of all rows, in a ring: s·y and y·D y of their pairs, D the diagonal, and the products of
    the pairs with the gradient at the point where the row is.

    Parameters
    ----------
    gain : float array, (rows,)
        What D is multiplied by while a row has learnt nothing.
    learnt : sequence of int
        Pairs that every row brings along, in its first slots, oldest first.
    across, own : float arrays, (rows, MEMORY, MEMORY)
        s·y and y·D y of those.
    products : float array, (rows, 2 MEMORY + 3, 5)
        What `fourierreg.optim.kernels.products` gives, the gradient at the start as f.
    """

    def __init__(self, gain, learnt, across, own, products):
        self.gain = np.asarray(gain, dtype=float)
        self.across, self.own = across, own
        self.age = np.full((self.gain.size, MEMORY), -1)
        for row, count in enumerate(learnt):
            self.age[row, : min(count, MEMORY)] = np.arange(min(count, MEMORY))
        self.with_gradient = np.ascontiguousarray(products[:, :, [F, DF]])

    def learn(self, products, moved):
        """Take up the pair of the rows that moved, in place of their oldest, and the products with
        their new gradient. (Overwrites `products`.)

        Returns
        -------
        int array, (rows,)
            The slot of each new pair; -1 where there is none, or s·y says nothing.
        """
        last = products[:, 2 * MEMORY :]
        sy, ss, yy = last[:, 0, Y], last[:, 0, S], last[:, 1, Y]
        with np.errstate(invalid="ignore"):  # where a point was refused
            rows = np.flatnonzero(moved & (sy > CURVED * np.sqrt(ss * yy)))
        slots = np.full(moved.size, -1)
        slot = slots[rows] = np.argmin(self.age[rows], axis=1)
        self.age[rows, slot] = self.age[rows].max(axis=1) + 1
        known = (self.age >= 0)[:, :, None]
        for first in (0, MEMORY):  # of pairs that were forgotten it says something too
            part = products[:, first : first + MEMORY]
            part[...] = np.where(known, part, 0.0)
        of_s, of_y = products[rows, :MEMORY], products[rows, MEMORY : 2 * MEMORY]
        self.across[rows, :, slot], self.across[rows, slot, :] = of_s[:, :, Y], of_y[:, :, S]
        self.own[rows, :, slot] = self.own[rows, slot, :] = of_y[:, :, DY]
        self.across[rows, slot, slot], self.own[rows, slot, slot] = sy[rows], last[rows, 1, DY]
        now = products[:, :, [F, DF]]
        now[rows, slot], now[rows, MEMORY + slot] = now[rows, -3], now[rows, -2]
        now = np.where(moved[:, None, None], now, self.with_gradient)
        self.with_gradient = np.ascontiguousarray(now)
        return slots

    def norms(self):
        """Lengths of the gradients."""
        return np.sqrt(self.with_gradient[:, -1, 0])

    def direction(self):
        """-B g of every row, B its inverse Hessian by the two loops of Nocedal (1980).

        Returns
        -------
        shares : float array, (rows, 2 MEMORY)
            B g = γ D g + Σ shares s + D Σ shares y.
        gain : float array, (rows,)
            γ.
        slope : float array, (rows,)
            -g·B g.
        """
        from fourierreg.optim.kernels import two_loops  # numba takes half a second to import

        rows = self.gain.size
        shares, gain, slope = np.zeros((rows, 2 * MEMORY)), self.gain.copy(), np.empty(rows)
        two_loops(self.age, self.across, self.own, self.with_gradient, shares, gain, slope)
        return shares, gain, slope

    def forget(self, rows):
        """Drop the pairs of some rows; which of them had any."""
        knew = rows & (self.age >= 0).any(axis=1)
        self.age[rows], self.across[rows], self.own[rows] = -1, 0.0, 0.0
        self.with_gradient[rows, : 2 * MEMORY] = 0.0
        return knew

    def order(self, row):
        """Slots of the pairs of a row, oldest first."""
        return [k for k in np.argsort(self.age[row], kind="stable") if self.age[row, k] >= 0]

    def select(self, keep):
        """Go on with some rows only."""
        for name, value in vars(self).items():
            setattr(self, name, value[keep])

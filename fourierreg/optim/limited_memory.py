"""The curvature that L-BFGS has learned of many functions, as inner products on the host."""

import numpy as np

CAPACITY = 30  # pairs (s, y) kept per function
MIN_CURVATURE = 1e-12  # s·y must exceed this times |s| |y|
# Columns of the products; the last three rows of the products are s, y and f of the trial point.
S, Y, DY, F, DF = range(5)


class LimitedMemory:
    """Ring buffers of pairs, one per row (function): s·y and y·D y of its pairs, D the diagonal,
    and the products of the pairs with the present gradient.

    Parameters
    ----------
    gamma : float array, (rows,)
        Factor of D until a row has a pair.
    counts : sequence of int
        Pairs that each row starts with, in its first slots, oldest first.
    sy, ydy : float arrays, (rows, CAPACITY, CAPACITY)
        s·y and y·D y of those.
    products : float array, (rows, 2 CAPACITY + 3, 5)
        Output of `fourierreg.optim.kernels.products`, with the gradient at the start as f.
    """

    def __init__(self, gamma, counts, sy, ydy, products):
        self.gamma = np.asarray(gamma, dtype=float)
        self.sy, self.ydy = sy, ydy
        self.insertion = np.full((self.gamma.size, CAPACITY), -1)  # order; -1 for an empty slot
        for row, count in enumerate(counts):
            self.insertion[row, : min(count, CAPACITY)] = np.arange(min(count, CAPACITY))
        self.gradient_products = np.ascontiguousarray(products[:, :, [F, DF]])

    def update(self, products, accepted):
        """Insert the pair of each row whose step was accepted, in place of its oldest, and take
        over the products with the new gradient. Overwrites `products`.

        Returns
        -------
        int array, (rows,)
            Slot of each new pair; -1 where there is none, or its curvature is not positive.
        """
        last = products[:, 2 * CAPACITY :]
        sy, ss, yy = last[:, 0, Y], last[:, 0, S], last[:, 1, Y]
        with np.errstate(invalid="ignore"):  # a refused point has NaN
            rows = np.flatnonzero(accepted & (sy > MIN_CURVATURE * np.sqrt(ss * yy)))
        slots = np.full(accepted.size, -1)
        slot = slots[rows] = np.argmin(self.insertion[rows], axis=1)
        self.insertion[rows, slot] = self.insertion[rows].max(axis=1) + 1
        filled = (self.insertion >= 0)[:, :, None]
        for first in (0, CAPACITY):  # the vectors of empty slots are stale
            part = products[:, first : first + CAPACITY]
            part[...] = np.where(filled, part, 0.0)
        of_s, of_y = products[rows, :CAPACITY], products[rows, CAPACITY : 2 * CAPACITY]
        self.sy[rows, :, slot], self.sy[rows, slot, :] = of_s[:, :, Y], of_y[:, :, S]
        self.ydy[rows, :, slot] = self.ydy[rows, slot, :] = of_y[:, :, DY]
        self.sy[rows, slot, slot], self.ydy[rows, slot, slot] = sy[rows], last[rows, 1, DY]
        new = products[:, :, [F, DF]]
        new[rows, slot], new[rows, CAPACITY + slot] = new[rows, -3], new[rows, -2]
        new = np.where(accepted[:, None, None], new, self.gradient_products)
        self.gradient_products = np.ascontiguousarray(new)
        return slots

    def gradient_norms(self):
        """Euclidean norm of the gradient of each row."""
        return np.sqrt(self.gradient_products[:, -1, 0])

    def direction(self):
        """-B g of every row, B the inverse Hessian by the two-loop recursion (Nocedal 1980).

        Returns
        -------
        coefficients : float array, (rows, 2 CAPACITY)
            B g = γ D g + Σ coefficients s + D Σ coefficients y.
        gamma : float array, (rows,)
        slope : float array, (rows,)
            -g·B g.
        """
        from fourierreg.optim.kernels import two_loops  # importing numba takes half a second

        rows = self.gamma.size
        coefficients, gamma = np.zeros((rows, 2 * CAPACITY)), self.gamma.copy()
        slope = np.empty(rows)
        two_loops(
            self.insertion, self.sy, self.ydy, self.gradient_products, coefficients, gamma, slope
        )
        return coefficients, gamma, slope

    def reset(self, rows):
        """Drop the pairs of some rows; returns which of them had any."""
        had = rows & (self.insertion >= 0).any(axis=1)
        self.insertion[rows], self.sy[rows], self.ydy[rows] = -1, 0.0, 0.0
        self.gradient_products[rows, : 2 * CAPACITY] = 0.0
        return had

    def slots(self, row):
        """Slots of the pairs of a row, oldest first."""
        order = np.argsort(self.insertion[row], kind="stable")
        return [slot for slot in order if self.insertion[row, slot] >= 0]

    def extend(self, other):
        """Add the rows of another."""
        for name, value in vars(self).items():
            setattr(self, name, np.concatenate([value, getattr(other, name)]))

    def select(self, rows):
        """Keep some rows only."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])

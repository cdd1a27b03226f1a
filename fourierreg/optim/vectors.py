"""The vectors of L-BFGS, one row per function, wherever the arrays live."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module, copy_from_host, to_numpy
from fourierreg.backend.kernels import PARALLEL_SIZE, launch, voxel_blocks
from fourierreg.optim.limited_memory import CAPACITY

PARTS = 512  # partial sums of an inner product, as in kernels.cu


class CurvaturePairs(NamedTuple):
    """Steps s and changes of the gradient y of one row, (count, P), oldest first."""

    steps: Array
    changes: Array


class Starts(NamedTuple):
    """Where minimizations of rows start.

    Attributes
    ----------
    x : float array, (rows, P)
    value, gradient : float arrays, (rows,) on the host and (rows, P)
        At `x`; all values finite.
    inverse_diagonal : float array, (rows, P)
        Diagonal approximation of the inverse Hessian.
    gamma : float array, (rows,), on the host
        Factor of the diagonal until a row has a curvature pair.
    pairs : sequence of CurvaturePairs or None
        Initial memory of each row.
    min_decrease, max_iterations : float and int, or arrays (rows,)
        A row has converged when a window of iterations lowers its value by less than that; and the
        limit of its iterations.
    """

    x: Array
    value: np.ndarray
    gradient: Array
    inverse_diagonal: Array
    gamma: np.ndarray
    pairs: Sequence[CurvaturePairs | None]
    min_decrease: Any
    max_iterations: Any


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


class Vectors:
    """Points, gradients, steps and memory of all rows (`fourierreg.optim.kernels`)."""

    def __init__(self, x, gradient, inverse_diagonal, pairs):
        xp = self.xp = array_module(x)
        rows, size = x.shape
        self.inverse_diagonal = xp.ascontiguousarray(inverse_diagonal)
        self.x, self.gradient, self.trial_gradient = x.copy(), gradient.copy(), gradient.copy()
        self.direction, self.step, self.trial = (xp.zeros((rows, size)) for _ in range(3))
        self.memory = xp.zeros((rows, 2, CAPACITY, size))
        for row, own in enumerate(pairs):
            if own is not None and own.steps.shape[0]:
                count = min(CAPACITY, own.steps.shape[0])
                self.memory[row, 0, :count] = own.steps[-count:]
                self.memory[row, 1, :count] = own.changes[-count:]
        self.control = xp.zeros((rows, 5 + 2 * CAPACITY))

    def write_control(self, accepted, slots, needs_direction, gamma, length, coefficients):
        """Tell `advance` what to do with every row."""
        control = np.empty(self.control.shape)
        for column, values in enumerate((accepted, slots, needs_direction, gamma, length)):
            control[:, column] = values
        control[:, 5:] = coefficients
        copy_from_host(self.control, control)

    def advance(self):
        """Move to the next trial points."""
        rows, size = self.x.shape
        inputs = [self.inverse_diagonal, self.trial_gradient, self.control]
        outputs = [self.x, self.gradient, self.direction, self.step, self.trial, self.memory]
        launch(
            "fourierreg.optim",
            "advance",
            inputs,
            [],
            outputs,
            sizes=(rows, CAPACITY, size),
            blocks=voxel_blocks(size, rows),
            parallel=rows > 1,
        )

    def products(self):
        """Inner products of the memory and of the trial points, (rows, 2 CAPACITY + 3, 5)."""
        rows, size = self.x.shape
        out = self.xp.empty((rows, 2 * CAPACITY + 3, 5))
        launch(
            "fourierreg.optim",
            "products",
            [self.inverse_diagonal, self.gradient, self.trial_gradient, self.step, self.memory],
            [],
            [out],
            sizes=(rows, CAPACITY, size),
            blocks=(rows * (2 * CAPACITY + 3),),
            scratch=5 * PARTS,
            parallel=self.memory.size >= PARALLEL_SIZE,
        )
        return out

    def pair_products(self):
        """s·y and y·D y of all pairs of a row, each (rows, CAPACITY, CAPACITY), on the host."""
        xp, (s, y) = self.xp, (self.memory[:, 0], self.memory[:, 1])
        transposed = xp.swapaxes(y, 1, 2)
        sy = xp.matmul(s, transposed)
        ydy = xp.matmul(y * self.inverse_diagonal[:, None], transposed)
        return to_numpy(sy).copy(), to_numpy(ydy).copy()

    def pairs(self, row, slots):
        """`CurvaturePairs` of a row in the order of its slots."""
        chosen = self.xp.asarray(np.asarray(slots, dtype=int))
        return CurvaturePairs(self.memory[row, 0][chosen], self.memory[row, 1][chosen])

    def extend(self, other):
        """Add the rows of others."""
        for name, value in vars(self).items():
            if name != "xp":
                setattr(self, name, self.xp.concatenate([value, getattr(other, name)]))

    def select(self, rows):
        """Keep some rows only."""
        chosen = self.xp.asarray(rows)
        for name, value in vars(self).items():
            if name != "xp":
                setattr(self, name, value[chosen])

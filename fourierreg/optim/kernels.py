"""Compiled kernels of L-BFGS for NumPy arrays (numba).

Every row has a point x, its gradient g, a direction d, the step s to a trial point, the gradient f
there (`trial_gradient`), and pairs (s, y) in `memory`, (rows, 2, CAPACITY, P), y a change of the
gradient. `control` holds what the host decided for each row: whether the trial point is accepted,
the slot of its pair or -1, whether a new direction is needed, γ, the step length; then the
coefficients of the pairs in the direction, those of s first. `fourierreg/optim/kernels.cu` has the
same arithmetic for the GPU; a test compiles that file with the host compiler and compares the two.
"""

import numba
import numpy as np

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_compiled = numba.njit(cache=True, error_model="numpy")
_sums = numba.njit(
    cache=True, fastmath={"contract", "nsz", "reassoc"}, error_model="numpy", inline="never"
)


@_parallel
def advance(inverse_diagonal, trial_gradient, control, x, gradient, direction, step, trial, memory):
    """Move rows to accepted trial points and store their pairs; compute new directions where
    needed; step along the direction to the next trial point."""
    rows, size = x.shape
    capacity = memory.shape[2]
    for row in numba.prange(rows):
        flags, coefficients = control[row, :5], control[row, 5:]
        slot = int(flags[1])
        if flags[0] != 0.0:
            for i in range(size):
                if slot >= 0:
                    memory[row, 0, slot, i] = step[row, i]
                    memory[row, 1, slot, i] = trial_gradient[row, i] - gradient[row, i]
                x[row, i] += step[row, i]
                gradient[row, i] = trial_gradient[row, i]
        if flags[2] != 0.0:
            for i in range(size):
                direction[row, i] = flags[3] * gradient[row, i]
            for k in range(capacity):
                coefficient = coefficients[capacity + k]
                if coefficient != 0.0:
                    for i in range(size):
                        direction[row, i] += coefficient * memory[row, 1, k, i]
            for i in range(size):
                direction[row, i] *= -inverse_diagonal[row, i]
            for k in range(capacity):
                coefficient = coefficients[k]
                if coefficient != 0.0:
                    for i in range(size):
                        direction[row, i] -= coefficient * memory[row, 0, k, i]
        for i in range(size):
            step[row, i] = flags[4] * direction[row, i]
            trial[row, i] = x[row, i] + step[row, i]


@_parallel
def products(inverse_diagonal, gradient, trial_gradient, step, memory, out):
    """Inner products of the trial point's s, y, D y, f and D f (columns) with s and y of all pairs
    and with its own s, y and f (rows), D the `inverse_diagonal`; (rows, 2 CAPACITY + 3, 5)."""
    rows, count = out.shape[:2]
    capacity = memory.shape[2]
    for job in numba.prange(rows * count):
        row, j = job // count, job % count
        if j < 2 * capacity:
            a = memory[row, j // capacity, j % capacity]
        elif j == 2 * capacity:
            a = step[row]
        elif j == 2 * capacity + 1:
            a = trial_gradient[row] - gradient[row]
        else:
            a = trial_gradient[row]
        _five(a, inverse_diagonal[row], gradient[row], trial_gradient[row], step[row], out[row, j])


@_sums
def _five(a, inverse, gradient, fresh, step, out):
    with_s = with_y = with_dy = with_f = with_df = 0.0
    for i in range(a.size):
        y, f = fresh[i] - gradient[i], fresh[i]
        scaled = inverse[i] * a[i]
        with_s += a[i] * step[i]
        with_y += a[i] * y
        with_dy += scaled * y
        with_f += a[i] * f
        with_df += scaled * f
    out[0], out[1], out[2], out[3], out[4] = with_s, with_y, with_dy, with_f, with_df


@_compiled
def two_loops(insertion, sy, ydy, gradient_products, coefficients, gamma, slope):
    """Direction -B g of every row by the two-loop recursion, from inner products alone (host).

    By slots: `insertion`, the order of insertion, -1 for an empty slot; `sy`, s·y; `ydy`, y·D y.
    `gradient_products` are those of the gradient g with s, with y and D y, last with itself and
    D g (`limited_memory`). Outputs: the coefficients of s, then of D y, in B g; the factor γ of
    D g, s·y / y·D y of the newest pair; and the slope -g·B g.
    """
    rows, capacity = insertion.shape
    for row in range(rows):
        order = np.argsort(insertion[row])
        first = 0
        while first < capacity and insertion[row, order[first]] < 0:
            first += 1
        order = order[first:]
        g = gradient_products[row]
        if order.size:
            newest = order[-1]
            if ydy[row, newest, newest] > 0:
                gamma[row] = sy[row, newest, newest] / ydy[row, newest, newest]
        left = np.empty(order.size)
        for i in range(order.size - 1, -1, -1):
            rest = g[order[i], 0]
            for j in range(i + 1, order.size):
                rest -= left[j] * sy[row, order[i], order[j]]
            left[i] = rest / sy[row, order[i], order[i]]
        rise = gamma[row] * g[-1, 1]
        for i in range(order.size):
            here = g[capacity + order[i], 1]
            for j in range(order.size):
                here -= left[j] * ydy[row, order[i], order[j]]
            here *= gamma[row]
            for j in range(i):
                here += coefficients[row, order[j]] * sy[row, order[j], order[i]]
            coefficients[row, order[i]] = left[i] - here / sy[row, order[i], order[i]]
            coefficients[row, capacity + order[i]] = -gamma[row] * left[i]
            rise += coefficients[row, order[i]] * g[order[i], 0]
            rise += coefficients[row, capacity + order[i]] * g[capacity + order[i], 1]
        slope[row] = -rise

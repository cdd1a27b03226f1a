"""Compiled passes of L-BFGS over the vectors of many rows, for NumPy arrays (numba), and what its
host does with their products.

Of every row: a point x, its gradient g, the direction d, the step s to a trial point, the gradient
`fresh` there, and pairs (s, y) that were learnt, y a change of the gradient, in `known`, (rows, 2,
MEMORY, P). What the host decides is in `control`, a row of numbers each: whether the trial point
was accepted, the slot of its pair or -1, whether to aim anew, the gain of the diagonal, the length
to go; then the shares of the pairs in the direction, those of s first. The same arithmetic stands
in `fourierreg/registration/kernels.cu` for the GPU; a test compiles that file with the host
compiler and compares the two.
"""

import numba
import numpy as np

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_compiled = numba.njit(cache=True, error_model="numpy")
_sums = numba.njit(
    cache=True, fastmath={"contract", "nsz", "reassoc"}, error_model="numpy", inline="never"
)


@_parallel
def advance(inverse, fresh, control, x, gradient, direction, step, trial, known):
    """Take up the last trial point where it was accepted, and its pair where there is a slot for
    it; aim anew where that is asked for; go a length along the direction, to the next trial."""
    rows, size = x.shape
    memory = known.shape[2]
    for row in numba.prange(rows):
        said, shares = control[row, :5], control[row, 5:]
        slot = int(said[1])
        if said[0] != 0.0:
            for i in range(size):
                if slot >= 0:  # the pair is kept
                    known[row, 0, slot, i] = step[row, i]
                    known[row, 1, slot, i] = fresh[row, i] - gradient[row, i]
                x[row, i] += step[row, i]
                gradient[row, i] = fresh[row, i]
        if said[2] != 0.0:
            for i in range(size):
                direction[row, i] = said[3] * gradient[row, i]
            for k in range(memory):
                share = shares[memory + k]
                if share != 0.0:
                    for i in range(size):
                        direction[row, i] += share * known[row, 1, k, i]
            for i in range(size):
                direction[row, i] *= -inverse[row, i]
            for k in range(memory):
                share = shares[k]
                if share != 0.0:
                    for i in range(size):
                        direction[row, i] -= share * known[row, 0, k, i]
        for i in range(size):
            step[row, i] = said[4] * direction[row, i]
            trial[row, i] = x[row, i] + step[row, i]


@_parallel
def products(inverse, gradient, fresh, step, known, out):
    """Of s and y of all pairs, of s and y of the trial point and of its gradient f: the products
    with s, y, D y, f and D f of the trial point, D the diagonal `inverse`; (rows, 2 MEMORY + 3,
    5)."""
    rows, count = out.shape[:2]
    memory = known.shape[2]
    for job in numba.prange(rows * count):
        row, j = job // count, job % count
        if j < 2 * memory:
            a = known[row, j // memory, j % memory]
        elif j == 2 * memory:
            a = step[row]
        elif j == 2 * memory + 1:
            a = fresh[row] - gradient[row]
        else:
            a = fresh[row]
        _five(a, inverse[row], gradient[row], fresh[row], step[row], out[row, j])


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
def two_loops(age, across, own, with_gradient, shares, gain, slope):
    """Direction -B g of every row, on the host: only products of its vectors are needed.

    Of pairs by their slots: `age`, -1 where there is none; `across`, s·y; `own`, y·D y. Of the
    gradient g: products with s, with y and D, last with itself and D (`limited_memory`). Written
    are the shares of s, then of D y, in B g, the gain γ of D g, γ = s·y / y·D y of the newest
    pair, and the slope -g·B g.
    """
    rows, memory = age.shape
    for row in range(rows):
        order = np.argsort(age[row])
        first = 0
        while first < memory and age[row, order[first]] < 0:
            first += 1
        order = order[first:]
        g = with_gradient[row]
        if order.size:
            newest = order[-1]
            if own[row, newest, newest] > 0:
                gain[row] = across[row, newest, newest] / own[row, newest, newest]
        left = np.empty(order.size)
        for i in range(order.size - 1, -1, -1):
            rest = g[order[i], 0]
            for j in range(i + 1, order.size):
                rest -= left[j] * across[row, order[i], order[j]]
            left[i] = rest / across[row, order[i], order[i]]
        rise = gain[row] * g[-1, 1]
        for i in range(order.size):
            here = g[memory + order[i], 1]
            for j in range(order.size):
                here -= left[j] * own[row, order[i], order[j]]
            here *= gain[row]
            for j in range(i):
                here += shares[row, order[j]] * across[row, order[j], order[i]]
            shares[row, order[i]] = left[i] - here / across[row, order[i], order[i]]
            shares[row, memory + order[i]] = -gain[row] * left[i]
            rise += shares[row, order[i]] * g[order[i], 0]
            rise += shares[row, memory + order[i]] * g[memory + order[i], 1]
        slope[row] = -rise

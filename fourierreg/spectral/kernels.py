"""Compiled transforms between the band and small grids for NumPy arrays (numba): a thread a field.

A field is complex coefficients (n_1, n_2, n_3, 2) of a 3D band, or real values on a grid of
(N_1, N_2, N_3) points, stored in the order (N_3, N_2, N_1); a 2D band comes with a first axis of
length one. One axis after another is transformed by sums over the even and the odd part of the
field along it, which takes a quarter of the products of a matrix of exponentials. The same
arithmetic stands in `fourierreg/spectral/kernels.cu` for the GPU; a test compiles that file with
the host compiler and compares the two.
"""

import numba
import numpy as np

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_compiled = numba.njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")


@_compiled
def _weigh(weights, rows, out):
    """out = Σ_r weights_r rows_r, four rows in a pass."""
    count, size = rows.shape
    r = (count - 1) % 4 + 1  # in the first pass, which need not read `out`
    a = weights[0]
    if r == 1:
        for m in range(size):
            out[m] = a * rows[0, m]
    elif r == 2:
        b = weights[1]
        for m in range(size):
            out[m] = a * rows[0, m] + b * rows[1, m]
    elif r == 3:
        b, c = weights[1], weights[2]
        for m in range(size):
            out[m] = a * rows[0, m] + b * rows[1, m] + c * rows[2, m]
    else:
        b, c, d = weights[1], weights[2], weights[3]
        for m in range(size):
            out[m] = (a * rows[0, m] + b * rows[1, m]) + (c * rows[2, m] + d * rows[3, m])
    while r < count:
        a, b, c, d = weights[r], weights[r + 1], weights[r + 2], weights[r + 3]
        w, x, y, z = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        for m in range(size):
            out[m] += (a * w[m] + b * x[m]) + (c * y[m] + d * z[m])
        r += 4


@_compiled
def _fold(x, even, odd):
    """Even part (n // 2 + 1, …) and odd part ((n - 1) // 2, …) along the third axis of x.

    x is (parts, P, n, Q); the other axes come out flat, as rows.
    """
    parts, outer, n, inner = x.shape
    for r in range(n // 2 + 1):
        mirror = (n - r) % n
        for part in range(parts):
            if inner == 1:
                here, there = x[part, :, r, 0], x[part, :, mirror, 0]
                _halves(
                    here, there, r != mirror, even[r, part * outer :], odd[r - 1, part * outer :]
                )
                continue
            for p in range(outer):
                i = (part * outer + p) * inner
                here, there = x[part, p, r], x[part, p, mirror]
                _halves(here, there, r != mirror, even[r, i:], odd[r - 1, i:])


@_compiled
def _halves(here, there, paired, even, odd):
    if paired:
        for q in range(here.size):
            even[q], odd[q] = here[q] + there[q], here[q] - there[q]
    else:
        for q in range(here.size):
            even[q] = here[q]


@_compiled
def _transform(x, cosines, sines, sign, out):
    """out_q = Σ_r exp(±2πi q r / N) x_r along the third axis of planar complex fields.

    x is (2, P, n, Q), out (2, P', N, Q') with the same points in the same order along its other
    axes; `cosines` is (N // 2 + 1, n // 2 + 1), `sines` ((N - 1) // 2, (n - 1) // 2).
    """
    n, size = x.shape[2], x.shape[1] * x.shape[3]
    _, outer, points, inner = out.shape
    even = np.empty((n // 2 + 1, 2 * size), out.dtype)
    odd = np.empty(((n - 1) // 2, 2 * size), out.dtype)
    _fold(x, even, odd)
    c, s = np.empty(2 * size, out.dtype), np.zeros(2 * size, out.dtype)
    for q in range(points // 2 + 1):
        mirror = (points - q) % points
        _weigh(cosines[q], even, c)
        if mirror == q:
            s[:] = 0
        elif odd.shape[0]:
            _weigh(sign * sines[q - 1], odd, s)
        if inner == 1:
            _pair(c[:size], s[size:], out[0, :, q, 0], out[0, :, mirror, 0])
            _pair(c[size:], s[:size], out[1, :, mirror, 0], out[1, :, q, 0])
            continue
        for p in range(outer):
            i, j = p * inner, size + p * inner
            _pair(c[i : i + inner], s[j : j + inner], out[0, p, q], out[0, p, mirror])
            _pair(c[j : j + inner], s[i : i + inner], out[1, p, mirror], out[1, p, q])


@_compiled
def _pair(c, s, less, more):
    """c - s and c + s."""
    for m in range(c.size):
        less[m], more[m] = c[m] - s[m], c[m] + s[m]


@_compiled
def _load(x, kind, lower, slopes, out):
    """Coefficients, times L or i slope where `kind` says so, as planar (2, n_1, n_2, n_3)."""
    n1, n2, n3, _ = x.shape
    for i in range(n1):
        for j in range(n2):
            for k in range(n3):
                re, im = x[i, j, k, 0], x[i, j, k, 1]
                if kind == 1:
                    re, im = lower[i, j, k] * re, lower[i, j, k] * im
                elif kind > 1:
                    slope = slopes[kind - 2, i if kind == 2 else j if kind == 3 else k]
                    re, im = -slope * im, slope * re
                out[0, i, j, k], out[1, i, j, k] = re, im


@_parallel
def to_grid(x, fields, lower, slopes, c1, s1, c2, s2, c3, s3, out):
    """Values of fields made of coefficients.

    x is (batch, components, n_1, n_2, n_3, 2), `out` (batch, fields, N_3, N_2, N_1). A row of
    `fields` is a component and what it is multiplied by: 0 nothing, 1 `lower` (pairs, n_1, n_2,
    n_3), 2 + j i times row j of `slopes`. c and s are cosines and sines of an axis, those of the
    last weighted by how often a frequency counts.
    """
    batch, count, size3, size2, size1 = out.shape
    n1, n2, n3 = x.shape[2:5]
    kind = out.dtype
    plus = kind.type(1)
    for job in numba.prange(batch * count):
        item, f = job // count, job % count
        loaded = np.empty((2, n1, n2, n3), kind)
        first = np.empty((2, n2, n3, size1), kind)
        second = np.empty((2, n3, size2, size1), kind)
        _load(x[item, fields[f, 0]], fields[f, 1], lower[item % lower.shape[0]], slopes, loaded)
        _transform(
            loaded.reshape(2, 1, n1, n2 * n3), c1, s1, plus, first.reshape(2, n2 * n3, size1, 1)
        )
        _transform(first.reshape(2, 1, n2, n3 * size1), c2, s2, plus, second)
        planes = size2 * size1
        halves, values = second.reshape(2, n3, planes), out[item, f].reshape(size3, planes)
        c, s = np.empty(planes, kind), np.zeros(planes, kind)
        for q in range(size3 // 2 + 1):
            mirror = (size3 - q) % size3
            _weigh(c3[q], halves[0], c)
            if mirror == q:
                s[:] = 0
            elif n3 > 1:
                _weigh(s3[q - 1], halves[1, 1:], s)
            _pair(c, s, values[q], values[mirror])


@_parallel
def from_grid(values, c1, s1, c2, s2, c3, s3, out):
    """Coefficients of values in the band: `values` is (batch, N_3, N_2, N_1), `out` (batch, n_1,
    n_2, n_3, 2). c and s are those of `to_grid` transposed, divided by the points of their axis."""
    batch, size3, size2, size1 = values.shape
    n1, n2, n3 = out.shape[1:4]
    kind = values.dtype
    minus = kind.type(-1)
    for item in numba.prange(batch):
        planes = size2 * size1
        even = np.empty((size3 // 2 + 1, planes), kind)
        odd = np.empty(((size3 - 1) // 2, planes), kind)
        _fold(values[item].reshape(1, 1, size3, planes), even, odd)
        first = np.zeros((2, n3, planes), kind)
        for k in range(n3):
            _weigh(c3[k], even, first[0, k])
            if k > 0 and odd.shape[0]:
                _weigh(-s3[k - 1], odd, first[1, k])
        second = np.empty((2, n2, n3, size1), kind)
        third = np.empty((2, n1, n2, n3), kind)
        _transform(
            first.reshape(2, n3, size2, size1),
            c2,
            s2,
            minus,
            second.reshape(2, 1, n2, n3 * size1),
        )
        _transform(
            second.reshape(2, n2 * n3, size1, 1), c1, s1, minus, third.reshape(2, 1, n1, n2 * n3)
        )
        for i in range(n1):
            for j in range(n2):
                for k in range(n3):
                    out[item, i, j, k, 0] = third[0, i, j, k]
                    out[item, i, j, k, 1] = third[1, i, j, k]


@_parallel
def multiply(matrices, vectors, out):
    """A matrix times a vector at every point: matrices (shared, d, d, points), of the batch modulo
    their number; vectors and out (batch, d, points)."""
    batch, d, _ = vectors.shape
    for job in numba.prange(batch * d):
        item, i = job // d, job % d
        matrix = matrices[item % matrices.shape[0], i]
        _weigh_pointwise(matrix, vectors[item], out[item, i])


@_compiled
def _weigh_pointwise(weights, rows, out):
    """out = Σ_r weights_r rows_r, point by point."""
    for m in range(out.size):
        out[m] = weights[0, m] * rows[0, m]
    for r in range(1, rows.shape[0]):
        weight, row = weights[r], rows[r]
        for m in range(out.size):
            out[m] += weight[m] * row[m]


@_parallel
def contract(values, matrix, out):
    """A complex matrix along one axis: values (lead, n, after, 2), matrix (N, n, 2), out (lead, N,
    after, 2), of real and imaginary parts."""
    lead, n, after, _ = values.shape
    for job in numba.prange(lead * out.shape[1]):
        i, q = job // out.shape[1], job % out.shape[1]
        here = out[i, q]
        here[:] = 0
        for k in range(n):
            c, s = matrix[q, k]
            for j in range(after):
                re, im = values[i, k, j]
                here[j, 0] += c * re - s * im
                here[j, 1] += c * im + s * re


@_parallel
def contract_rows(values, matrix, out):
    """A real matrix along the last axis: values (rows, n), matrix (N, n), out (rows, N)."""
    rows, n = values.shape
    for i in numba.prange(rows):
        out[i] = 0
        for k in range(n):
            for q in range(out.shape[1]):
                out[i, q] += values[i, k] * matrix[q, k]

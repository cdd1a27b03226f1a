"""Numba kernels: transforms between the band and small grids, one field per thread.

A field is given by complex coefficients (n_1, n_2, n_3, 2) of a 3D band, or by real values on a
grid of (N_1, N_2, N_3) points, stored in the order (N_3, N_2, N_1); a 2D band has a first axis of
length one. The axes are transformed one after the other by sums over the even and the odd part of
the field along the axis, which takes a quarter of the multiplications of a complex DFT matrix.
`fourierreg/spectral/kernels.cu` has the same kernels for the GPU; a test compiles that file with
the host compiler and compares the two.
"""

import numba
import numpy as np

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_compiled = numba.njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")


@_compiled
def _weighted_sum(weights, rows, out):
    """out = Σ_r weights_r rows_r, four rows per pass."""
    count, size = rows.shape
    r = (count - 1) % 4 + 1  # rows of the first pass, which does not read `out`
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

    x is (parts, P, n, Q); its other axes are flattened in the results.
    """
    parts, outer, n, inner = x.shape
    for r in range(n // 2 + 1):
        mirror = (n - r) % n
        for part in range(parts):
            if inner == 1:
                here, mirrored = x[part, :, r, 0], x[part, :, mirror, 0]
                i = part * outer
                _even_and_odd(here, mirrored, r != mirror, even[r, i:], odd[r - 1, i:])
                continue
            for p in range(outer):
                i = (part * outer + p) * inner
                here, mirrored = x[part, p, r], x[part, p, mirror]
                _even_and_odd(here, mirrored, r != mirror, even[r, i:], odd[r - 1, i:])


@_compiled
def _even_and_odd(here, mirrored, paired, even, odd):
    """Sum and difference of two rows; a row that is its own mirror image has no odd part."""
    if paired:
        for q in range(here.size):
            even[q], odd[q] = here[q] + mirrored[q], here[q] - mirrored[q]
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
        _weighted_sum(cosines[q], even, c)
        if mirror == q:
            s[:] = 0
        elif odd.shape[0]:
            _weighted_sum(sign * sines[q - 1], odd, s)
        if inner == 1:
            _difference_and_sum(c[:size], s[size:], out[0, :, q, 0], out[0, :, mirror, 0])
            _difference_and_sum(c[size:], s[:size], out[1, :, mirror, 0], out[1, :, q, 0])
            continue
        for p in range(outer):
            i, j = p * inner, size + p * inner
            _difference_and_sum(c[i : i + inner], s[j : j + inner], out[0, p, q], out[0, p, mirror])
            _difference_and_sum(c[j : j + inner], s[i : i + inner], out[1, p, mirror], out[1, p, q])


@_compiled
def _difference_and_sum(c, s, difference, total):
    """c - s and c + s."""
    for m in range(c.size):
        difference[m], total[m] = c[m] - s[m], c[m] + s[m]


@_compiled
def _load(x, component, operator, symbol, derivatives, out):
    """Apply an operator to coefficients (components, n_1, n_2, n_3, 2) and store the result as
    planar (2, n_1, n_2, n_3)."""
    plus, minus = out.dtype.type(1), out.dtype.type(-1)
    out[:] = 0
    if operator < 5:
        _add_component(x[component], plus, operator - 2, derivatives, out)
    elif operator == 5:
        first = 1 if out.shape[1] == 1 else 0  # of the axes: a 2D band has the last two
        for axis in range(first, 3):
            _add_component(x[component + axis - first], plus, axis, derivatives, out)
    else:
        i, j = (operator - 6) // 3, (operator - 6) % 3
        _add_component(x[component], plus, j, derivatives, out)
        _add_component(x[component + j - i], minus, i, derivatives, out)
    if operator == 1 or operator > 5:
        out *= symbol.astype(out.dtype)


@_compiled
def _add_component(x, sign, axis, derivatives, out):
    """out += ± D_axis x; no derivative is taken for a negative axis."""
    n1, n2, n3, _ = x.shape
    for i in range(n1):
        for j in range(n2):
            for k in range(n3):
                re, im = x[i, j, k, 0], x[i, j, k, 1]
                if axis >= 0:
                    index = i if axis == 0 else j if axis == 1 else k
                    factor = sign * derivatives[axis, index]
                    re, im = -factor * im, factor * re
                out[0, i, j, k] += re
                out[1, i, j, k] += im


@_parallel
def to_grid(x, fields, symbols, derivatives, c1, s1, c2, s2, c3, s3, out):
    """Evaluate fields derived from coefficients on a grid.

    x is (batch, components, n_1, n_2, n_3, 2), `out` (batch, fields, N_3, N_2, N_1). A row of
    `fields` is a component and the operator applied to it: 0 none; 1 multiplication by `symbols`
    (pairs, n_1, n_2, n_3), of index b modulo `pairs` for item b of the batch; 2 + j the derivative
    D_j, multiplication by i times row j of `derivatives`; 5 and 6 + 3 i + j a divergence and an
    element of a rotation (`product_grid.fields_to_grid`). c and s are cosines and sines of an axis,
    those of the last axis times the multiplicity of the frequency.
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
        symbol = symbols[item % symbols.shape[0]]
        _load(x[item], fields[f, 0], fields[f, 1], symbol, derivatives, loaded)
        _transform(
            loaded.reshape(2, 1, n1, n2 * n3), c1, s1, plus, first.reshape(2, n2 * n3, size1, 1)
        )
        _transform(first.reshape(2, 1, n2, n3 * size1), c2, s2, plus, second)
        planes = size2 * size1
        halves, values = second.reshape(2, n3, planes), out[item, f].reshape(size3, planes)
        c, s = np.empty(planes, kind), np.zeros(planes, kind)
        for q in range(size3 // 2 + 1):
            mirror = (size3 - q) % size3
            _weighted_sum(c3[q], halves[0], c)
            if mirror == q:
                s[:] = 0
            elif n3 > 1:
                _weighted_sum(s3[q - 1], halves[1, 1:], s)
            _difference_and_sum(c, s, values[q], values[mirror])


@_parallel
def from_grid(values, c1, s1, c2, s2, c3, s3, out):
    """Compute the coefficients in the band of values on a grid.

    `values` is (batch, N_3, N_2, N_1), `out` (batch, n_1, n_2, n_3, 2). c and s are cosines and
    sines of an axis, transposed and divided by the points of the axis.
    """
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
            _weighted_sum(c3[k], even, first[0, k])
            if k > 0 and odd.shape[0]:
                _weighted_sum(-s3[k - 1], odd, first[1, k])
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
    """Multiply a matrix and a vector at every point.

    matrices is (shared, d, d, points), of index b modulo `shared` for item b of the batch; vectors
    and out are (batch, d, points).
    """
    batch, d, _ = vectors.shape
    for job in numba.prange(batch * d):
        item, i = job // d, job % d
        matrix = matrices[item % matrices.shape[0], i]
        _pointwise_weighted_sum(matrix, vectors[item], out[item, i])


@_compiled
def _pointwise_weighted_sum(weights, rows, out):
    """out = Σ_r weights_r rows_r, point by point."""
    for m in range(out.size):
        out[m] = weights[0, m] * rows[0, m]
    for r in range(1, rows.shape[0]):
        weight, row = weights[r], rows[r]
        for m in range(out.size):
            out[m] += weight[m] * row[m]


@_parallel
def contract(values, matrix, out):
    """Multiply a complex matrix along the second axis.

    values is (lead, n, trail, 2), matrix (N, n, 2), out (lead, N, trail, 2); the last axis is that
    of real and imaginary parts.
    """
    lead, n, trail, _ = values.shape
    for job in numba.prange(lead * out.shape[1]):
        i, q = job // out.shape[1], job % out.shape[1]
        here = out[i, q]
        here[:] = 0
        for k in range(n):
            c, s = matrix[q, k]
            for j in range(trail):
                re, im = values[i, k, j]
                here[j, 0] += c * re - s * im
                here[j, 1] += c * im + s * re


@_parallel
def contract_rows(values, matrix, out):
    """Multiply a real matrix along the last axis: values (rows, n), matrix (N, n), out (rows,
    N)."""
    rows, n = values.shape
    for i in numba.prange(rows):
        out[i] = 0
        for k in range(n):
            for q in range(out.shape[1]):
                out[i, q] += values[i, k] * matrix[q, k]

"""Numba kernels of EPDiff: products at the points of a grid, and assembly of the rate in the band.

Fields on the grid are (batch, fields, points), a matrix being d² fields in row-major order and an
antisymmetric one its d (d - 1) / 2 elements above the diagonal; in the band they are coefficients
(batch, fields, n_1, n_2, n_3, 2), a 2D band with a first axis of length one. Points of
linearization and metrics may be fewer than the batch: item b uses index b modulo their number.
`fourierreg/geodesic/kernels.cu` has the same kernels for the GPU; a test compiles that file with
the host compiler and compares the two.
"""

import numba

BLOCK = 1024  # points per job; their fields fit in the cache

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_compiled = numba.njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")


@_compiled
def _block(job, points):
    """Item of the batch and range of points of one of the `_num_jobs` jobs."""
    per_item = (points + BLOCK - 1) // BLOCK
    start = job % per_item * BLOCK
    return job // per_item, start, min(start + BLOCK, points)


@_compiled
def _num_jobs(batch, points):
    """Number of jobs: blocks of points times items of the batch."""
    return batch * ((points + BLOCK - 1) // BLOCK)


@_compiled
def _add(out, to, x, i, y, j, start, stop):
    """Add row i of x times row j of y to row `to` of out."""
    sums, first, second = out[to, start:stop], x[i, start:stop], y[j, start:stop]
    for q in range(sums.size):
        sums[q] += first[q] * second[q]


@_compiled
def _subtract(out, to, x, i, y, j, start, stop):
    """Subtract row i of x times row j of y from row `to` of out."""
    sums, first, second = out[to, start:stop], x[i, start:stop], y[j, start:stop]
    for q in range(sums.size):
        sums[q] -= first[q] * second[q]


@_parallel
def products(point, out):
    """Compute Ω v + (div v) m, v·m and (Du) v.

    point is (batch, fields, points) with the fields v, m, the elements i < j of the antisymmetric
    Ω = Dm - (Dm)ᵀ row by row, div v and Du; out is (batch, 2 d + 1, points).
    """
    batch, count, points = out.shape
    d = count // 2
    div, du = 2 * d + d * (d - 1) // 2, 2 * d + d * (d - 1) // 2 + 1
    for job in numba.prange(_num_jobs(batch, points)):
        item, start, stop = _block(job, points)
        x, to = point[item], out[item]
        to[:, start:stop] = 0
        omega = 2 * d
        for i in range(d):
            _add(to, i, x, div, x, d + i, start, stop)
            _add(to, d, x, i, x, d + i, start, stop)
            for j in range(d):
                _add(to, d + 1 + i, x, du + i * d + j, x, j, start, stop)
            for j in range(i + 1, d):
                _add(to, i, x, omega, x, j, start, stop)
                _subtract(to, j, x, omega, x, i, start, stop)
                omega += 1


@_parallel
def products_tangent(point, change, out):
    """Compute the derivative of `products` at `point` along a change of its fields.

    point is (shared, fields, points), change (batch, fields, points).
    """
    batch, count, points = out.shape
    d = count // 2
    div, du = 2 * d + d * (d - 1) // 2, 2 * d + d * (d - 1) // 2 + 1
    for job in numba.prange(_num_jobs(batch, points)):
        item, start, stop = _block(job, points)
        x, to = point[item % point.shape[0]], out[item]
        dx = change[item]
        to[:, start:stop] = 0
        omega = 2 * d
        for i in range(d):
            _add(to, i, dx, div, x, d + i, start, stop)
            _add(to, i, x, div, dx, d + i, start, stop)
            _add(to, d, dx, i, x, d + i, start, stop)
            _add(to, d, x, i, dx, d + i, start, stop)
            for j in range(d):
                _add(to, d + 1 + i, dx, du + i * d + j, x, j, start, stop)
                _add(to, d + 1 + i, x, du + i * d + j, dx, j, start, stop)
            for j in range(i + 1, d):
                _add(to, i, dx, omega, x, j, start, stop)
                _add(to, i, x, omega, dx, j, start, stop)
                _subtract(to, j, dx, omega, x, i, start, stop)
                _subtract(to, j, x, omega, dx, i, start, stop)
                omega += 1


@_parallel
def products_adjoint(point, covector, out):
    """Compute (div y) m + Ω y - (Du)ᵀ μ, y·m, (div y) v - (div v) y, the elements i < j of
    B = y ⊗ v - v ⊗ y, and μ ⊗ v.

    covector is (batch, 2 d + 1, points): y, div y, μ; out (batch, fields, points) has as many
    fields as a point.
    """
    batch, _, points = out.shape
    d = covector.shape[1] // 2
    div, du = 2 * d + d * (d - 1) // 2, 2 * d + d * (d - 1) // 2 + 1
    for job in numba.prange(_num_jobs(batch, points)):
        item, start, stop = _block(job, points)
        x, to = point[item % point.shape[0]], out[item]
        y = covector[item]
        to[:, start:stop] = 0
        omega, b = 2 * d, 2 * d + 1
        for i in range(d):
            _add(to, i, y, d, x, d + i, start, stop)
            _add(to, d, y, i, x, d + i, start, stop)
            _add(to, d + 1 + i, y, d, x, i, start, stop)
            _subtract(to, d + 1 + i, x, div, y, i, start, stop)
            for j in range(d):
                _subtract(to, i, x, du + j * d + i, y, d + 1 + j, start, stop)
                _add(to, du + i * d + j, y, d + 1 + i, x, j, start, stop)
            for j in range(i + 1, d):
                _add(to, i, x, omega, y, j, start, stop)
                _subtract(to, j, x, omega, y, i, start, stop)
                _add(to, b, y, i, x, j, start, stop)
                _subtract(to, b, y, j, x, i, start, stop)
                omega += 1
                b += 1


@_compiled
def _derivative(field, factor):
    """i factor times a coefficient."""
    return -factor * field[1], factor * field[0]


@_parallel
def rate(state, base, products, symbols, derivatives, keep, step, out):
    """keep base + step (-K[Ω v + (div v) m + ∇(v·m)], -v - (Du) v).

    state, base and out are (batch, 2, d, n_1, n_2, n_3, 2); products (batch, 2 d + 1, …, 2) holds
    the coefficients of what the kernel `products` computes; symbols is (metrics, n_1, n_2, n_3),
    derivatives (3, longest axis).
    """
    batch, _, d, n1, n2, n3, _ = state.shape
    for job in numba.prange(batch * d):
        item, i = job // d, job % d
        symbol = symbols[item % symbols.shape[0]]
        axis = 3 - d + i
        for a in range(n1):
            for b in range(n2):
                for c in range(n3):
                    factor = derivatives[axis, a if axis == 0 else b if axis == 1 else c]
                    slope = _derivative(products[item, d, a, b, c], factor)
                    weight = step / symbol[a, b, c]
                    for part in range(2):
                        force = products[item, i, a, b, c, part] + slope[part]
                        advected = products[item, d + 1 + i, a, b, c, part]
                        v = state[item, 0, i, a, b, c, part]
                        kept = keep * base[item, 0, i, a, b, c, part]
                        out[item, 0, i, a, b, c, part] = kept - weight * force
                        kept = keep * base[item, 1, i, a, b, c, part]
                        out[item, 1, i, a, b, c, part] = kept - step * (v + advected)


@_parallel
def rate_adjoint(covector, base, products, symbols, derivatives, keep, step, out):
    """keep base + step (K[(div y) m + Ω y - (Du)ᵀ μ + ∇(y·m) - μ] + (div y) v - (div v) y + ∇·B,
    ∇·(μ ⊗ v)).

    covector, base and out are (batch, 2, d, n_1, n_2, n_3, 2); products (batch, fields, …, 2) holds
    the coefficients of what `products_adjoint` computes; symbols and derivatives as in `rate`.
    """
    batch, _, d, n1, n2, n3, _ = covector.shape
    flux = 2 * d + d * (d - 1) // 2 + 1
    for job in numba.prange(batch * d):
        item, i = job // d, job % d
        symbol = symbols[item % symbols.shape[0]]
        for a in range(n1):
            for b in range(n2):
                for c in range(n3):
                    p = products[item, :, a, b, c]
                    weight = step / symbol[a, b, c]
                    re, im = p[d + 1 + i, 0], p[d + 1 + i, 1]
                    slope, slope_ = p[d, 0], p[d, 1]
                    div_re = div_im = out.dtype.type(0)
                    for j in range(d):
                        axis = 3 - d + j
                        factor = derivatives[axis, a if axis == 0 else b if axis == 1 else c]
                        x = _derivative(p[flux + i * d + j], factor)
                        div_re, div_im = div_re + x[0], div_im + x[1]
                        if j == i:
                            slope, slope_ = _derivative(p[d], factor)
                        elif j > i:
                            x = _derivative(p[2 * d + 1 + _pair(i, j, d)], factor)
                            re, im = re + x[0], im + x[1]
                        else:
                            x = _derivative(p[2 * d + 1 + _pair(j, i, d)], factor)
                            re, im = re - x[0], im - x[1]
                    pulled = p[i, 0] + slope - covector[item, 1, i, a, b, c, 0]
                    pulled_ = p[i, 1] + slope_ - covector[item, 1, i, a, b, c, 1]
                    kept = keep * base[item, 0, i, a, b, c, 0]
                    kept_ = keep * base[item, 0, i, a, b, c, 1]
                    out[item, 0, i, a, b, c, 0] = kept + (weight * pulled + step * re)
                    out[item, 0, i, a, b, c, 1] = kept_ + (weight * pulled_ + step * im)
                    kept = keep * base[item, 1, i, a, b, c, 0]
                    kept_ = keep * base[item, 1, i, a, b, c, 1]
                    out[item, 1, i, a, b, c, 0] = kept + step * div_re
                    out[item, 1, i, a, b, c, 1] = kept_ + step * div_im


@_compiled
def _pair(i, j, d):
    """Index of the element i < j of an antisymmetric matrix, row by row."""
    return i * d - i * (i + 1) // 2 + j - i - 1

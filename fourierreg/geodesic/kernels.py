"""Numba kernels of EPDiff: products at the points of a grid, and assembly of the rate in the band.

Fields on the grid are (batch, fields, points), a matrix being d² fields in row-major order; in the
band they are coefficients (batch, fields, n_1, n_2, n_3, 2), a 2D band with a first axis of length
one. Points of linearization and metrics may be fewer than the batch: item b uses index b modulo
their number. `fourierreg/geodesic/kernels.cu` has the same kernels for the GPU; a test compiles
that file with the host compiler and compares the two.
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
def _add(out, x, y):
    """out += x y."""
    for q in range(out.size):
        out[q] += x[q] * y[q]


@_compiled
def _subtract(out, x, y):
    """out -= x y."""
    for q in range(out.size):
        out[q] -= x[q] * y[q]


@_parallel
def products(point, out):
    """Compute (Dv)ᵀ m, (Du) v and m ⊗ v from v, m, Dv, Du.

    point is (batch, 2 d (d + 1), points), out (batch, d (d + 2), points).
    """
    batch, count, points = out.shape
    d = 3 if count == 15 else 2
    for job in numba.prange(_num_jobs(batch, points)):
        item, start, stop = _block(job, points)
        for f in range(count):
            out[item, f, start:stop] = 0
        for i in range(d):
            for j in range(d):
                v, m = point[item, j, start:stop], point[item, d + j, start:stop]
                dv = point[item, 2 * d + j * d + i, start:stop]
                du = point[item, 2 * d + d * d + i * d + j, start:stop]
                _add(out[item, i, start:stop], dv, m)
                _add(out[item, d + i, start:stop], du, v)
                _add(out[item, 2 * d + i * d + j, start:stop], point[item, d + i, start:stop], v)


@_parallel
def products_tangent(point, change, out):
    """Compute the derivative of `products` at `point` along a change of v, m, Dv, Du.

    point is (shared, 2 d (d + 1), points), change (batch, 2 d (d + 1), points).
    """
    batch, count, points = out.shape
    d = 3 if count == 15 else 2
    for job in numba.prange(_num_jobs(batch, points)):
        item, start, stop = _block(job, points)
        at = item % point.shape[0]
        for f in range(count):
            out[item, f, start:stop] = 0
        for i in range(d):
            for j in range(d):
                v, v_ = point[at, j, start:stop], change[item, j, start:stop]
                m, m_ = point[at, d + j, start:stop], change[item, d + j, start:stop]
                n, n_ = point[at, d + i, start:stop], change[item, d + i, start:stop]
                dv, du = 2 * d + j * d + i, 2 * d + d * d + i * d + j
                dv_m, advected = out[item, i, start:stop], out[item, d + i, start:stop]
                flux = out[item, 2 * d + i * d + j, start:stop]
                _add(dv_m, change[item, dv, start:stop], m)
                _add(dv_m, point[at, dv, start:stop], m_)
                _add(advected, change[item, du, start:stop], v)
                _add(advected, point[at, du, start:stop], v_)
                _add(flux, n_, v)
                _add(flux, n, v_)


@_parallel
def products_adjoint(point, covector, out):
    """Compute (Dv) y - (Dy) v, (Dy)ᵀ m - (Du)ᵀ μ, m ⊗ y and μ ⊗ v.

    covector is (batch, d (d + 2), points): y, μ, Dy; out is (batch, 2 d (d + 1), points).
    """
    batch, count, points = out.shape
    d = 3 if count == 24 else 2
    for job in numba.prange(_num_jobs(batch, points)):
        item, start, stop = _block(job, points)
        at = item % point.shape[0]
        for f in range(count):
            out[item, f, start:stop] = 0
        for i in range(d):
            bracket, dy_m = out[item, i, start:stop], out[item, d + i, start:stop]
            for j in range(d):
                v, m = point[at, j, start:stop], point[at, d + j, start:stop]
                y, mu = covector[item, j, start:stop], covector[item, d + j, start:stop]
                _add(bracket, point[at, 2 * d + i * d + j, start:stop], y)
                _subtract(bracket, covector[item, 2 * d + i * d + j, start:stop], v)
                _add(dy_m, covector[item, 2 * d + j * d + i, start:stop], m)
                _subtract(dy_m, point[at, 2 * d + d * d + j * d + i, start:stop], mu)
                flux = 2 * d + i * d + j
                _add(out[item, flux, start:stop], point[at, d + i, start:stop], y)
                _add(out[item, flux + d * d, start:stop], covector[item, d + i, start:stop], v)


@_parallel
def rate(state, products, symbols, derivatives, keep, step, out):
    """keep (v, u) + step (-K[(Dv)ᵀ m + ∇·(m ⊗ v)], -v - (Du) v).

    state and out are (batch, 2, d, n_1, n_2, n_3, 2); products (batch, d (d + 2), …, 2) holds the
    coefficients of what the kernel `products` computes; symbols is (metrics, n_1, n_2, n_3),
    derivatives (3, longest axis).
    """
    batch, _, d, n1, n2, n3, _ = state.shape
    for job in numba.prange(batch * d):
        item, i = job // d, job % d
        symbol = symbols[item % symbols.shape[0]]
        for a in range(n1):
            for b in range(n2):
                for c in range(n3):
                    re, im = products[item, i, a, b, c, 0], products[item, i, a, b, c, 1]
                    for j in range(d):
                        axis = 3 - d + j
                        factor = derivatives[axis, a if axis == 0 else b if axis == 1 else c]
                        re -= factor * products[item, 2 * d + i * d + j, a, b, c, 1]
                        im += factor * products[item, 2 * d + i * d + j, a, b, c, 0]
                    weight = step / symbol[a, b, c]
                    v, v_ = state[item, 0, i, a, b, c, 0], state[item, 0, i, a, b, c, 1]
                    u, u_ = state[item, 1, i, a, b, c, 0], state[item, 1, i, a, b, c, 1]
                    out[item, 0, i, a, b, c, 0] = keep * v - weight * re
                    out[item, 0, i, a, b, c, 1] = keep * v_ - weight * im
                    re, im = products[item, d + i, a, b, c, 0], products[item, d + i, a, b, c, 1]
                    out[item, 1, i, a, b, c, 0] = keep * u - step * (v + re)
                    out[item, 1, i, a, b, c, 1] = keep * u_ - step * (v_ + im)


@_parallel
def rate_adjoint(covector, products, symbols, derivatives, keep, step, out):
    """keep (y, μ) + step (K[(Dy)ᵀ m - (Du)ᵀ μ + ∇·(m ⊗ y) - μ] - [(Dv) y - (Dy) v], ∇·(μ ⊗ v)).

    covector and out are (batch, 2, d, n_1, n_2, n_3, 2); products (batch, 2 d (d + 1), …, 2) holds
    the coefficients of what `products_adjoint` computes; symbols and derivatives as in `rate`.
    """
    batch, _, d, n1, n2, n3, _ = covector.shape
    zero = out.dtype.type(0)
    for job in numba.prange(batch * d):
        item, i = job // d, job % d
        symbol = symbols[item % symbols.shape[0]]
        for a in range(n1):
            for b in range(n2):
                for c in range(n3):
                    mu, mu_ = covector[item, 1, i, a, b, c, 0], covector[item, 1, i, a, b, c, 1]
                    re = products[item, d + i, a, b, c, 0] - mu
                    im = products[item, d + i, a, b, c, 1] - mu_
                    re_ = im_ = zero
                    for j in range(d):
                        axis = 3 - d + j
                        factor = derivatives[axis, a if axis == 0 else b if axis == 1 else c]
                        flux = 2 * d + i * d + j
                        re -= factor * products[item, flux, a, b, c, 1]
                        im += factor * products[item, flux, a, b, c, 0]
                        re_ -= factor * products[item, flux + d * d, a, b, c, 1]
                        im_ += factor * products[item, flux + d * d, a, b, c, 0]
                    y, y_ = covector[item, 0, i, a, b, c, 0], covector[item, 0, i, a, b, c, 1]
                    bracket, bracket_ = products[item, i, a, b, c, 0], products[item, i, a, b, c, 1]
                    weight = step / symbol[a, b, c]
                    out[item, 0, i, a, b, c, 0] = keep * y + (weight * re - step * bracket)
                    out[item, 0, i, a, b, c, 1] = keep * y_ + (weight * im - step * bracket_)
                    out[item, 1, i, a, b, c, 0] = keep * mu + step * re_
                    out[item, 1, i, a, b, c, 1] = keep * mu_ + step * im_

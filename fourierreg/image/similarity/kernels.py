"""Numba kernels of the local correlation: sums over the window around every voxel.

Grids are 3D and periodic; a 2D image has a first axis of length one. A window is a box of 2r + 1
voxels along each axis. Its sum is put together from sums over 1, 2, 4, … voxels, which takes some
log₂(2r + 1) additions per voxel and, other than a running sum, does not accumulate rounding errors.
`fourierreg/image/similarity/kernels.cu` has the same kernels for the GPU; a test compiles that file
with the host compiler and compares the two.
"""

import numba
import numpy as np

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_compiled = numba.njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")


@_compiled
def _sum_along(values, stride, width, total):
    """total[i] = Σ_k values[i + stride k], k = 0 … width - 1; overwrites `values` and all but the
    last stride (width - 1) elements of `total`."""
    done, length = 0, 1  # values[i] is the sum of `length` elements
    while True:
        if width & length:
            start, count = stride * done, values.size - stride * (width - 1)
            if done == 0:
                for i in range(count):
                    total[i] = values[start + i]
            else:
                for i in range(count):
                    total[i] += values[start + i]
            done += length
        if 2 * length > width:
            return
        shift = stride * length
        for i in range(values.size - shift):
            values[i] += values[i + shift]
        length *= 2


@_compiled
def _wrap_rows(plane, radius, rows):
    """Fill the first and last `radius` rows of a plane periodically."""
    for r in range(radius):
        plane[r] = plane[r + rows]
        plane[radius + rows + r] = plane[radius + r]


@_compiled
def _wrap_columns(row, radius, size):
    """Fill the first and last `radius` elements of a row periodically."""
    for r in range(radius):
        row[r] = row[r + size]
        row[radius + size + r] = row[radius + r]


@_compiled
def _sum_in_plane(plane, other, ry, rx, out):
    """Sum a plane with margins (ny + 2 ry, nx + 2 rx) over windows; overwrites it."""
    ny, nx = out.shape
    for y in range(ry, ry + ny):
        _wrap_columns(plane[y], rx, nx)
    _wrap_rows(plane, ry, ny)
    flat, total = plane.reshape(-1), other.reshape(-1)
    _sum_along(flat, 1, 2 * rx + 1, total)
    total[flat.size - 2 * rx :] = 0
    _sum_along(total, plane.shape[1], 2 * ry + 1, flat)
    for y in range(ny):
        out[y] = plane[y, :nx]


@_compiled
def _sums_across_planes(fields, y, rz):
    """Sums of row y of each plane of three fields over the planes of a window, (3, N_1 + 2 rz,
    N_3), of which the first N_1 rows count."""
    _, nz, _, nx = fields.shape
    rows = np.empty((nz + 2 * rz, nx), fields.dtype)
    sums = np.empty((3, nz + 2 * rz, nx), fields.dtype)
    for f in range(3):
        for z in range(nz):
            rows[rz + z] = fields[f, z, y]
        _wrap_rows(rows, rz, nz)
        _sum_along(rows.reshape(-1), nx, 2 * rz + 1, sums[f].reshape(-1))
    return sums


@_parallel
def window_moments(image, target, inside, shift, ry, rx, out):
    """Sums over windows in the planes of I, I² and I T, I being (image - shift) inside.

    image, target and inside are (pairs, N_1, N_2, N_3), target being zero outside; shift is
    (pairs,), out (pairs, 3, N_1, N_2, N_3).
    """
    pairs, nz, ny, nx = image.shape
    ry, rx = int(ry), int(rx)
    for job in numba.prange(pairs * nz):
        p, z = job // nz, job % nz
        planes = np.empty((3, ny + 2 * ry, nx + 2 * rx), out.dtype)
        other = np.empty((ny + 2 * ry, nx + 2 * rx), out.dtype)
        for y in range(ny):
            i, t, m = image[p, z, y], target[p, z, y], inside[p, z, y]
            a, b, c = planes[0, ry + y, rx:], planes[1, ry + y, rx:], planes[2, ry + y, rx:]
            for x in range(nx):
                value = (i[x] - shift[p]) * m[x]
                a[x], b[x], c[x] = value, value * value, value * t[x]
        for f in range(3):
            _sum_in_plane(planes[f], other, ry, rx, out[p, f, z])


@_parallel
def window_terms(moments, size, mean, spread, floor, rz, out):
    """Per window: a A/B, a, a (mean I A/B - mean T) and r².

    A, B and C are the centered sums of I T, I² and T², a = A/BC. moments is the output of
    `window_moments`; size, mean and spread, (pairs, N_1, N_2, N_3), are the number of voxels of a
    window that are inside (zero for a window around a voxel outside), the mean of T and C; floor,
    (pairs,), a lower bound of B per voxel. out is (pairs, 4, N_1, N_2, N_3).
    """
    pairs, nz, ny, nx = size.shape
    rz = int(rz)
    for job in numba.prange(pairs * ny):
        p, y = job // ny, job % ny
        sums = _sums_across_planes(moments[p], y, rz)
        for z in range(nz):
            n, mean_t, c = size[p, z, y], mean[p, z, y], spread[p, z, y]
            for x in range(nx):
                _terms(
                    sums[0, z, x], sums[1, z, x], sums[2, z, x], n[x], mean_t[x], c[x], floor[p],
                    out[p, :, z, y, x],
                )  # fmt: skip


@numba.njit(inline="always", cache=True, error_model="numpy")
def _terms(i, ii, it, n, mean_t, c, floor, out):
    """The four terms of a window."""
    zero = out.dtype.type(0)
    one = out.dtype.type(1)
    mean_i = i / max(n, one)
    across = it - i * mean_t
    b = max(ii - i * mean_i, zero) + n * floor
    inside = n > zero
    ratio = across / b if inside else zero
    a = ratio / c if inside else zero
    out[0], out[1] = a * ratio, a
    out[2], out[3] = a * (mean_i * ratio - mean_t), a * across


@_parallel
def window_spread(terms, ry, rx, out):
    """Sums over windows in the planes of the first three terms: (pairs, 4, N_1, N_2, N_3) to
    (pairs, 3, N_1, N_2, N_3)."""
    pairs, _, nz, ny, nx = out.shape
    ry, rx = int(ry), int(rx)
    for job in numba.prange(3 * pairs * nz):
        p, f, z = job // (3 * nz), job // nz % 3, job % nz
        plane = np.empty((ny + 2 * ry, nx + 2 * rx), out.dtype)
        other = np.empty((ny + 2 * ry, nx + 2 * rx), out.dtype)
        for y in range(ny):
            plane[ry + y, rx : rx + nx] = terms[p, f, z, y]
        _sum_in_plane(plane, other, ry, rx, out[p, f, z])


@_parallel
def window_derivative(image, target, inside, shift, sums, rz, out):
    """Half the derivative of Σ (1 - r²) with respect to the image, (pairs, N_1, N_2, N_3).

    sums is the output of `window_spread`.
    """
    pairs, nz, ny, nx = out.shape
    rz = int(rz)
    for job in numba.prange(pairs * ny):
        p, y = job // ny, job % ny
        total = _sums_across_planes(sums[p], y, rz)
        for z in range(nz):
            i, t, m, half = image[p, z, y], target[p, z, y], inside[p, z, y], out[p, z, y]
            ratio, a, rest = total[0, z], total[1, z], total[2, z]
            for x in range(nx):
                half[x] = ((i[x] - shift[p]) * ratio[x] - t[x] * a[x] - rest[x]) * m[x]

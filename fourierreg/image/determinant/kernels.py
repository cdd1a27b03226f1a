"""Numba kernels: the Jacobian determinant of x + u(x), its extremes, and a barrier against folds.

Grids are 3D and periodic; a 2D image has a first axis of length one. Derivatives are central
differences. `fourierreg/image/determinant/kernels.cu` has the same kernels for the GPU; a test
compiles that file with the host compiler and compares the two.
"""

import numba
import numpy as np

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_inline = numba.njit(inline="always", cache=True, error_model="numpy")


@_inline
def _determinant(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp):
    """det(I + Dv) at a voxel by central differences; q = 1 / (2 spacing)."""
    a00 = 1 + qz * (v[0, zp, y, x] - v[0, zm, y, x])
    a10 = qz * (v[1, zp, y, x] - v[1, zm, y, x])
    a20 = qz * (v[2, zp, y, x] - v[2, zm, y, x])
    a01 = qy * (v[0, z, yp, x] - v[0, z, ym, x])
    a11 = 1 + qy * (v[1, z, yp, x] - v[1, z, ym, x])
    a21 = qy * (v[2, z, yp, x] - v[2, z, ym, x])
    a02 = qx * (v[0, z, y, xp] - v[0, z, y, xm])
    a12 = qx * (v[1, z, y, xp] - v[1, z, y, xm])
    a22 = 1 + qx * (v[2, z, y, xp] - v[2, z, y, xm])
    return (
        a00 * (a11 * a22 - a12 * a21)
        - a01 * (a10 * a22 - a12 * a20)
        + a02 * (a10 * a21 - a11 * a20)
    )


@_parallel
def jacobian_determinant(u, hz, hy, hx, out):
    """det(I + Du) of every pair by periodic central differences."""
    pairs, nz, ny, nx = out.shape
    one = u.dtype.type(1)
    qz, qy, qx = one / (hz + hz), one / (hy + hy), one / (hx + hx)
    for row in numba.prange(pairs * nz * ny):
        p, z, y = row // (nz * ny), row // ny % nz, row % ny
        v = u[p]
        zm, zp = (z + nz - 1) % nz, (z + 1) % nz
        ym, yp = (y + ny - 1) % ny, (y + 1) % ny
        for x in range(nx):
            xm = x - 1 if x > 0 else nx - 1
            xp = x + 1 if x < nx - 1 else 0
            out[p, z, y, x] = _determinant(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp)


@_inline
def _nan_max(a, b):
    """Maximum that propagates NaN."""
    return b if b > a or b != b else a


@_parallel
def end_map(u, hz, hy, hx, rz, ry, rx, start, end, determinants, out):
    """det(I + Du) of every pair, and over each part of its rows the maxima of r_j |u_j| and of
    -det(I + Du) and the sum of the barrier ln²((det - end) / (start - end)), det < start.

    `determinants` is (pairs, N_1, N_2, N_3), `out` (pairs, parts, 3). NaN propagates to the maxima.
    """
    pairs, parts = out.shape[:2]
    nz, ny, nx = u.shape[2:]
    rows = (nz * ny + parts - 1) // parts
    one, zero = u.dtype.type(1), u.dtype.type(0)
    qz, qy, qx = one / (hz + hz), one / (hy + hy), one / (hx + hx)
    for job in numba.prange(pairs * parts):
        p, part = job // parts, job % parts
        v = u[p]
        max_displacement, max_fold, barrier = zero, u.dtype.type(-np.inf), zero
        for row in range(part * rows, min(part * rows + rows, nz * ny)):
            z, y = row // ny, row % ny
            zm, zp = (z + nz - 1) % nz, (z + 1) % nz
            ym, yp = (y + ny - 1) % ny, (y + 1) % ny
            for x in range(nx):
                xm = x - 1 if x > 0 else nx - 1
                xp = x + 1 if x < nx - 1 else 0
                max_displacement = _nan_max(max_displacement, rz * abs(v[0, z, y, x]))
                max_displacement = _nan_max(max_displacement, ry * abs(v[1, z, y, x]))
                max_displacement = _nan_max(max_displacement, rx * abs(v[2, z, y, x]))
                determinant = _determinant(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp)
                determinants[p, z, y, x] = determinant
                max_fold = _nan_max(max_fold, -determinant)
                if determinant < start:
                    depth = np.log(max(determinant - end, zero) / (start - end))
                    barrier += depth * depth
        out[p, part, 0], out[p, part, 1], out[p, part, 2] = max_displacement, max_fold, barrier


@_inline
def _push(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp, axis, component):
    """Derivative of det(I + Dv) at a voxel with respect to D_axis v_component."""
    i, k = (component + 1) % 3, (component + 2) % 3
    a, b = (axis + 1) % 3, (axis + 2) % 3
    ia = _element(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp, a, i)
    kb = _element(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp, b, k)
    ib = _element(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp, b, i)
    ka = _element(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp, a, k)
    return ia * kb - ib * ka


@_inline
def _element(v, qz, qy, qx, zm, z, zp, ym, y, yp, xm, x, xp, axis, component):
    """Element (component, axis) of I + Dv at a voxel."""
    if axis == 0:
        slope = qz * (v[component, zp, y, x] - v[component, zm, y, x])
    elif axis == 1:
        slope = qy * (v[component, z, yp, x] - v[component, z, ym, x])
    else:
        slope = qx * (v[component, z, y, xp] - v[component, z, y, xm])
    return slope + 1 if axis == component else slope


@_parallel
def barrier_force(u, determinants, scale, hz, hy, hx, start, end, force):
    """Add to `force` the derivative of the barrier of `end_map` with respect to u, times the
    `scale` (pairs,) of each pair."""
    pairs, _, nz, ny, nx = u.shape
    one = u.dtype.type(1)
    qz, qy, qx = one / (hz + hz), one / (hy + hy), one / (hx + hx)
    for row in numba.prange(pairs * nz * ny):
        p, z, y = row // (nz * ny), row // ny % nz, row % ny
        v, det = u[p], determinants[p]
        zs, ys = ((z + nz - 1) % nz, (z + 1) % nz), ((y + ny - 1) % ny, (y + 1) % ny)
        for x in range(nx):
            xs = (x - 1 if x > 0 else nx - 1, x + 1 if x < nx - 1 else 0)
            low = min(
                min(min(det[zs[0], y, x], det[zs[1], y, x]), det[z, ys[0], x]),
                min(min(det[z, ys[1], x], det[z, y, xs[0]]), det[z, y, xs[1]]),
            )
            if not low < start:
                continue
            for axis in range(3):
                for side in range(2):
                    k = zs[side] if axis == 0 else z
                    j = ys[side] if axis == 1 else y
                    i = xs[side] if axis == 2 else x
                    if not det[k, j, i] < start:
                        continue
                    q = qz if axis == 0 else qy if axis == 1 else qx
                    if side == 1:  # a voxel enters the difference of the next one with a minus
                        q = -q
                    gap = det[k, j, i] - end
                    weight = scale[p] * q * 2 * np.log(gap / (start - end)) / gap
                    km, kp = (k + nz - 1) % nz, (k + 1) % nz
                    jm, jp = (j + ny - 1) % ny, (j + 1) % ny
                    im, ip = (i + nx - 1) % nx, (i + 1) % nx
                    for component in range(3):
                        push = _push(
                            v, qz, qy, qx, km, k, kp, jm, j, jp, im, i, ip, axis, component
                        )  # fmt: skip
                        force[p, component, z, y, x] += weight * push

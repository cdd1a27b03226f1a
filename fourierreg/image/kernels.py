"""Numba kernels: loops over voxels, rows being distributed over threads.

Grids are 3D; a 2D image has a first axis of length one. `residual_and_force` and `value_and_slope`
take a batch of pairs along the first axis of every array. Interpolation is periodic but in
`sample`, and linear but in `nearest`. `fourierreg/image/kernels.cu` has the same kernels for the
GPU; a test compiles that file with the host compiler and compares the two.
"""

import numba
import numpy as np

MAX_INVERSE_ITERATIONS = 200  # of `invert`: convergence is slow where u compresses to a twentieth

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_inline = numba.njit(inline="always", cache=True, error_model="numpy")


@_inline
def _cell(point, shift, n):
    """Periodic neighbors i, i + 1 of point + shift, and the fraction between them."""
    position = shift + np.float32(point)  # float32 holds every voxel index exactly
    low = np.floor(position)
    i = int(low)
    if i < 0 or i >= n:  # rare, and a division costs more than the rest of this function
        i %= n
    j = i + 1
    if j == n:
        j = 0
    return i, j, position - low


@_inline
def _trilinear(s, k0, k1, c, j0, j1, b, i0, i1, a):
    """Linear interpolation between the eight voxels (k0 | k1) x (j0 | j1) x (i0 | i1)."""
    d, e = 1 - a, 1 - b
    low = (s[k0, j0, i0] * d + s[k0, j0, i1] * a) * e + (s[k0, j1, i0] * d + s[k0, j1, i1] * a) * b
    high = (s[k1, j0, i0] * d + s[k1, j0, i1] * a) * e + (s[k1, j1, i0] * d + s[k1, j1, i1] * a) * b
    return low * (1 - c) + high * c


@_inline
def _value_and_slope(s, k0, k1, c, j0, j1, b, i0, i1, a):
    """The linear interpolant and its slopes per voxel along the three axes.

    At a voxel center the interpolant has a kink; the slope is the mean of the one-sided slopes.
    """
    nz, ny, nx = s.shape
    one = s.dtype.type(1)
    half = one / 2
    s000, s001, s010, s011 = s[k0, j0, i0], s[k0, j0, i1], s[k0, j1, i0], s[k0, j1, i1]
    s100, s101, s110, s111 = s[k1, j0, i0], s[k1, j0, i1], s[k1, j1, i0], s[k1, j1, i1]
    e00, e01 = s000 + a * (s001 - s000), s010 + a * (s011 - s010)
    e10, e11 = s100 + a * (s101 - s100), s110 + a * (s111 - s110)
    f0, f1 = e00 + b * (e01 - e00), e10 + b * (e11 - e10)
    value = f0 + c * (f1 - f0)
    gx = (one - c) * ((one - b) * (s001 - s000) + b * (s011 - s010)) + c * (
        (one - b) * (s101 - s100) + b * (s111 - s110)
    )
    gy = (one - c) * (e01 - e00) + c * (e11 - e10)
    gz = f1 - f0
    if a == 0:
        i_ = nx - 1 if i0 == 0 else i0 - 1
        t0 = s[k0, j0, i_] + b * (s[k0, j1, i_] - s[k0, j0, i_])
        t1 = s[k1, j0, i_] + b * (s[k1, j1, i_] - s[k1, j0, i_])
        gx = half * (gx + value - (t0 + c * (t1 - t0)))
    if b == 0:
        j_ = ny - 1 if j0 == 0 else j0 - 1
        t0 = s[k0, j_, i0] + a * (s[k0, j_, i1] - s[k0, j_, i0])
        t1 = s[k1, j_, i0] + a * (s[k1, j_, i1] - s[k1, j_, i0])
        gy = half * (gy + value - (t0 + c * (t1 - t0)))
    if c == 0:
        k_ = nz - 1 if k0 == 0 else k0 - 1
        t0 = s[k_, j0, i0] + a * (s[k_, j0, i1] - s[k_, j0, i0])
        t1 = s[k_, j1, i0] + a * (s[k_, j1, i1] - s[k_, j1, i0])
        gz = half * (gz + f0 - (t0 + b * (t1 - t0)))
    return value, gz, gy, gx


@_inline
def _is_empty(s, k0, k1, j0, j1, i0, i1):
    """Whether all eight voxels are zero."""
    return (
        s[k0, j0, i0] == 0
        and s[k0, j0, i1] == 0
        and s[k0, j1, i0] == 0
        and s[k0, j1, i1] == 0
        and s[k1, j0, i0] == 0
        and s[k1, j0, i1] == 0
        and s[k1, j1, i0] == 0
        and s[k1, j1, i1] == 0
    )


@_parallel
def interpolate(channels, u, hz, hy, hx, out):
    """out(x) = channels(x + u(x)) by linear interpolation; the first axis is that of channels."""
    count, nz, ny, nx = channels.shape
    _, mz, my, mx = out.shape
    one = u.dtype.type(1)
    qz, qy, qx = one / hz, one / hy, one / hx
    for row in numba.prange(mz * my):
        z, y = row // my, row % my
        for x in range(mx):
            k0, k1, c = _cell(z, u[0, z, y, x] * qz, nz)
            j0, j1, b = _cell(y, u[1, z, y, x] * qy, ny)
            i0, i1, a = _cell(x, u[2, z, y, x] * qx, nx)
            for f in range(count):
                out[f, z, y, x] = _trilinear(channels[f], k0, k1, c, j0, j1, b, i0, i1, a)


@_inline
def _place(position, n, kind):
    """Neighbors of a position along an axis without a period, and the fraction between them: beyond
    the outermost centers these are continued; and whether it is on the image, whose voxels reach
    half a voxel beyond their centers."""
    clipped = position if position > 0 else 0.0  # also where it is NaN
    clipped = min(clipped, n - 1.0)
    low = int(clipped)
    high = low + 1 if low + 1 < n else low
    return low, high, kind(clipped - low), -0.5 <= position < n - 0.5


@_parallel
def sample(image, u, mapping, nearest, extend, fill, out):
    """out(x) = image(M x + t + B u(x)), with `mapping` = (M | t | B) in voxels: `fill` where that
    is not on the image, unless `extend` is set; of the nearest voxel if `nearest` is set."""
    nz, ny, nx = image.shape
    mz, my, mx = out.shape
    kind = image.dtype.type
    for row in numba.prange(mz * my):
        z, y = row // my, row % my
        for x in range(mx):
            wz, wy, wx = u[0, z, y, x], u[1, z, y, x], u[2, z, y, x]
            pz = mapping[0, 0] * z + mapping[0, 1] * y + mapping[0, 2] * x + mapping[0, 3]
            py = mapping[1, 0] * z + mapping[1, 1] * y + mapping[1, 2] * x + mapping[1, 3]
            px = mapping[2, 0] * z + mapping[2, 1] * y + mapping[2, 2] * x + mapping[2, 3]
            pz += mapping[0, 4] * wz + mapping[0, 5] * wy + mapping[0, 6] * wx
            py += mapping[1, 4] * wz + mapping[1, 5] * wy + mapping[1, 6] * wx
            px += mapping[2, 4] * wz + mapping[2, 5] * wy + mapping[2, 6] * wx
            k0, k1, c, in_z = _place(pz, nz, kind)
            j0, j1, b, in_y = _place(py, ny, kind)
            i0, i1, a, in_x = _place(px, nx, kind)
            if not (in_z and in_y and in_x) and extend == 0:
                out[z, y, x] = fill
            elif nearest != 0:
                k, j, i = k0 if c < 0.5 else k1, j0 if b < 0.5 else j1, i0 if a < 0.5 else i1
                out[z, y, x] = image[k, j, i]
            else:
                out[z, y, x] = _trilinear(image, k0, k1, c, j0, j1, b, i0, i1, a)


@_parallel
def invert(u, hz, hy, hx, tolerance, out):
    """Solve w(x) = -u(x + w(x)) at every voxel by fixed-point iteration, to `tolerance` voxels."""
    nz, ny, nx = u.shape[1:]
    one = u.dtype.type(1)
    qz, qy, qx = one / hz, one / hy, one / hx
    for row in numba.prange(nz * ny):
        z, y = row // ny, row % ny
        for x in range(nx):
            wz, wy, wx = -u[0, z, y, x], -u[1, z, y, x], -u[2, z, y, x]
            for _ in range(MAX_INVERSE_ITERATIONS):
                k0, k1, c = _cell(z, wz * qz, nz)
                j0, j1, b = _cell(y, wy * qy, ny)
                i0, i1, a = _cell(x, wx * qx, nx)
                mz = _trilinear(u[0], k0, k1, c, j0, j1, b, i0, i1, a)
                my = _trilinear(u[1], k0, k1, c, j0, j1, b, i0, i1, a)
                mx = _trilinear(u[2], k0, k1, c, j0, j1, b, i0, i1, a)
                change = max(abs(mz + wz) * qz, abs(my + wy) * qy, abs(mx + wx) * qx)
                wz, wy, wx = -mz, -my, -mx
                if change < tolerance:
                    break
            out[0, z, y, x] = wz
            out[1, z, y, x] = wy
            out[2, z, y, x] = wx


@_parallel
def nearest(channels, u, hz, hy, hx, out):
    """out(x) = channels at the voxel nearest to x + u(x); the first axis is that of channels."""
    count, nz, ny, nx = channels.shape
    _, mz, my, mx = out.shape
    for row in numba.prange(mz * my):
        z, y = row // my, row % my
        for x in range(mx):
            k = int(np.floor(z + u[0, z, y, x] / hz + 0.5)) % nz
            j = int(np.floor(y + u[1, z, y, x] / hy + 0.5)) % ny
            i = int(np.floor(x + u[2, z, y, x] / hx + 0.5)) % nx
            for f in range(count):
                out[f, z, y, x] = channels[f, k, j, i]


@_parallel
def residual_and_force(source, target, u, qz, qy, qx, residual, force):
    """r = source(x + u) - target and force = r ∇source(x + u) of every pair, in one pass.

    `qz, qy, qx` are source voxels per mm; there is a whole number of source voxels per target voxel
    along each axis.
    """
    sz, sy, sx = source.shape[1:]
    pairs, nz, ny, nx = target.shape
    fz, fy, fx = sz // nz, sy // ny, sx // nx
    for row in numba.prange(pairs * nz * ny):
        p, z, y = row // (nz * ny), row // ny % nz, row % ny
        s = source[p]
        for x in range(nx):
            k0, k1, c = _cell(fz * z, u[p, 0, z, y, x] * qz, sz)
            j0, j1, b = _cell(fy * y, u[p, 1, z, y, x] * qy, sy)
            i0, i1, a = _cell(fx * x, u[p, 2, z, y, x] * qx, sx)
            # Skip voxels where both images are background: most of a brain image.
            if target[p, z, y, x] == 0 and _is_empty(s, k0, k1, j0, j1, i0, i1):
                residual[p, z, y, x] = 0
                force[p, 0, z, y, x] = 0
                force[p, 1, z, y, x] = 0
                force[p, 2, z, y, x] = 0
                continue
            value, gz, gy, gx = _value_and_slope(s, k0, k1, c, j0, j1, b, i0, i1, a)
            r = value - target[p, z, y, x]
            residual[p, z, y, x] = r
            force[p, 0, z, y, x] = r * gz * qz
            force[p, 1, z, y, x] = r * gy * qy
            force[p, 2, z, y, x] = r * gx * qx


@_parallel
def value_and_slope(source, u, qz, qy, qx, value, slope):
    """source(x + u) and ∇source(x + u) of every pair, in one pass; see `residual_and_force`."""
    sz, sy, sx = source.shape[1:]
    pairs, nz, ny, nx = value.shape
    fz, fy, fx = sz // nz, sy // ny, sx // nx
    for row in numba.prange(pairs * nz * ny):
        p, z, y = row // (nz * ny), row // ny % nz, row % ny
        s = source[p]
        for x in range(nx):
            k0, k1, c = _cell(fz * z, u[p, 0, z, y, x] * qz, sz)
            j0, j1, b = _cell(fy * y, u[p, 1, z, y, x] * qy, sy)
            i0, i1, a = _cell(fx * x, u[p, 2, z, y, x] * qx, sx)
            f, gz, gy, gx = _value_and_slope(s, k0, k1, c, j0, j1, b, i0, i1, a)
            value[p, z, y, x] = f
            slope[p, 0, z, y, x] = gz * qz
            slope[p, 1, z, y, x] = gy * qy
            slope[p, 2, z, y, x] = gx * qx

"""Loops over voxels as compiled kernels, wherever the arrays live.

2D fields get a first axis of length one on the way in and lose it on the way out. The passes of a
registration (`residual_and_force`, `value_and_slope`, `jacobian_determinant`, `extremes`) take one
pair, or many along a first axis of every field.
"""

import math

import numpy as np

from fourierreg.backend import array_module
from fourierreg.backend.kernels import launch, voxel_blocks

PART = 4096  # voxels that one block of threads goes through, about, where a block does a job
LANES = 512  # as in kernels.cu


def _launch(name, inputs, sizes, numbers, outputs, pairs=1):
    """Run kernel `name` on 3D arrays, a thread to a voxel of the first output."""
    count = int(np.prod(outputs[0].shape[-3:]))
    launch(
        "fourierreg.image",
        name,
        inputs,
        numbers,
        outputs,
        sizes=sizes,
        blocks=voxel_blocks(count, pairs),
    )


def _volume(image, d, kind, xp):
    """Scalar fields on d axes as a contiguous (pairs, …) array over a 3D grid."""
    image = xp.ascontiguousarray(image.astype(kind, copy=False))
    return image.reshape(-1, *(1,) * (3 - d), *image.shape[image.ndim - d :])


def _vector(u, d, kind, xp):
    """Vector fields on d axes as a contiguous (pairs, 3, …) array over a 3D grid."""
    u = xp.ascontiguousarray(u.astype(kind, copy=False)).reshape(-1, *u.shape[u.ndim - d - 1 :])
    if d == 3:
        return u
    volume = xp.zeros((u.shape[0], 3, 1, *u.shape[2:]), dtype=kind)
    volume[:, 1:, 0] = u
    return volume


def _like_vector(field, d, shape, xp):
    """What `_vector` made of a field, back in its `shape`."""
    return (field if d == 3 else xp.ascontiguousarray(field[:, 1:, 0])).reshape(shape)


def _lengths(spacing):
    return spacing if len(spacing) == 3 else (1.0, *spacing)


def _finer(fine, grid, spacing, kind):
    """Source voxels per voxel of a grid along each axis, and per mm."""
    finer = [n // m for n, m in zip(fine, grid, strict=True)]
    return finer, [kind(f) / kind(h) for f, h in zip(finer, _lengths(spacing), strict=True)]


def resample(image, u, spacing, kernel):
    """image(x + u(x)) by the kernel "interpolate" or "nearest".

    `image` may have leading axes (channels), all sampled in one pass; u is in mm, `spacing` is
    the image's.
    """
    xp = array_module(image, u)
    kind = np.float64 if image.dtype == np.float64 else np.float32
    grid = image.shape[-len(spacing) :]
    volume = (1,) * (3 - len(grid)) + grid
    channels = xp.ascontiguousarray(image.astype(kind, copy=False)).reshape(-1, *volume)
    vector = _vector(u, len(grid), kind, xp)[0]
    out = xp.empty((channels.shape[0], *vector.shape[1:]), dtype=kind)
    sizes = (*channels.shape, *out.shape[1:])
    _launch(kernel, [channels, vector], sizes, _lengths(spacing), [out])
    return out.reshape(*image.shape[: -len(grid)], *u.shape[1:])


def residual_and_force(source, target, u, spacing):
    """r = source(x + u) - target and r ∇source(x + u) (mm⁻¹), in one pass over the voxels.

    The gradient is that of the linear interpolant; at its kinks the mean of both slopes. The
    source may be sampled more finely, a whole number of times along each axis, from the same
    origin; `spacing` is the target's.
    """
    xp, d = array_module(source, target, u), len(spacing)
    kind = source.dtype.type
    s, t = _volume(source, d, kind, xp), _volume(target, d, kind, xp)
    v = _vector(u, d, kind, xp)
    residual, force = xp.empty(t.shape, dtype=kind), xp.empty(v.shape, dtype=kind)
    finer, density = _finer(s.shape[1:], t.shape[1:], spacing, kind)
    sizes = (t.shape[0], *finer, *t.shape[1:])
    _launch("residual_and_force", [s, t, v], sizes, density, [residual, force], t.shape[0])
    return residual.reshape(target.shape), _like_vector(force, d, u.shape, xp)


def value_and_slope(source, u, spacing):
    """source(x + u) and ∇source(x + u) (mm⁻¹), that of the linear interpolant, in one pass.

    On the grid of u, of which `spacing` is; the source may be finer, as in `residual_and_force`.
    """
    xp, d = array_module(source, u), len(spacing)
    kind = source.dtype.type
    s, v = _volume(source, d, kind, xp), _vector(u, d, kind, xp)
    grid, pairs = v.shape[2:], v.shape[0]
    value, slope = xp.empty((pairs, *grid), dtype=kind), xp.empty(v.shape, dtype=kind)
    finer, density = _finer(s.shape[1:], grid, spacing, kind)
    sizes = (pairs, *finer, *grid)
    _launch("value_and_slope", [s, v], sizes, density, [value, slope], pairs)
    shape = (*u.shape[: -d - 1], *u.shape[-d:])
    return value.reshape(shape), _like_vector(slope, d, u.shape, xp)


def jacobian_determinant(u, spacing):
    """det(I + Du) on the image grid by periodic central differences (positive: no fold)."""
    xp, d = array_module(u), len(spacing)
    vector = _vector(u, d, u.dtype.type, xp)
    pairs, _, *grid = vector.shape
    out = xp.empty((pairs, *grid), dtype=vector.dtype)
    _launch("jacobian_determinant", [vector], out.shape, _lengths(spacing), [out], pairs)
    return out.reshape(*u.shape[: -d - 1], *u.shape[-d:])


def extremes(u, spacing, limits):
    """How far a displacement comes to its limits, without an array of either of the two.

    Returns
    -------
    array, shape (…, 2)
        The largest |u_j| / limit_j, and the largest -det(I + Du): positive where there is a fold;
        no number where u has one that is none.
    """
    xp, d = array_module(u), len(spacing)
    kind = u.dtype.type
    vector = _vector(u, d, kind, xp)
    pairs, _, *grid = vector.shape
    rows = max(1, PART // grid[-1])
    parts = math.ceil(grid[0] * grid[1] / rows)
    rows = math.ceil(grid[0] * grid[1] / parts)
    out = xp.empty((pairs, parts, 2), dtype=kind)
    launch(
        "fourierreg.image",
        "extremes",
        [vector],
        [*_lengths(spacing), *(1.0 / limit for limit in _lengths(limits))],
        [out],
        sizes=(pairs, parts, rows, *grid),
        blocks=(pairs * parts,),
        scratch=2 * LANES,
    )
    return xp.max(out, axis=1).reshape(*u.shape[: -d - 1], 2)


def invert(u, spacing, tolerance):
    """w(x) = -u(x + w(x)), to `tolerance` voxels of change at every voxel."""
    xp, d = array_module(u), len(spacing)
    vector = _vector(u, d, u.dtype.type, xp)[0]
    out = xp.empty_like(vector)
    _launch("invert", [vector], vector.shape[1:], (*_lengths(spacing), tolerance), [out])
    return _like_vector(out[None], d, u.shape, xp)

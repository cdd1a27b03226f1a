"""Loops over voxels as compiled kernels, on the backend of the arrays.

2D fields get a first axis of length one for the kernels. `residual_and_force`, `value_and_slope`,
`jacobian_determinant` and `displacement_extremes` take a single pair, or a batch of pairs along the
first axis of every field.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.backend.kernels import launch, voxel_blocks

VOXELS_PER_BLOCK = 4096  # reduced by one GPU block in `displacement_extremes`, approximately
REDUCTION_WIDTH = 512  # partial maxima of that block, as in kernels.cu


def _launch(
    name: str,
    inputs: Sequence[Array],
    sizes: Sequence[int],
    scalars: Sequence[float],
    outputs: Sequence[Array],
    pairs: int = 1,
) -> None:
    """Run a kernel on 3D arrays with one thread per voxel of the first output."""
    count = int(np.prod(outputs[0].shape[-3:]))
    launch(
        "fourierreg.image",
        name,
        inputs,
        scalars,
        outputs,
        sizes=sizes,
        blocks=voxel_blocks(count, pairs),
    )


def _scalar_to_3d(image: Array, d: int, kind: type, xp: ModuleType) -> Array:
    """Scalar fields on d axes as a contiguous (pairs, …) array over a 3D grid."""
    image = xp.ascontiguousarray(image.astype(kind, copy=False))
    return image.reshape(-1, *(1,) * (3 - d), *image.shape[image.ndim - d :])


def _vector_to_3d(u: Array, d: int, kind: type, xp: ModuleType) -> Array:
    """Vector fields on d axes as a contiguous (pairs, 3, …) array over a 3D grid."""
    u = xp.ascontiguousarray(u.astype(kind, copy=False)).reshape(-1, *u.shape[u.ndim - d - 1 :])
    if d == 3:
        return u
    field = xp.zeros((u.shape[0], 3, 1, *u.shape[2:]), dtype=kind)
    field[:, 1:, 0] = u
    return field


def _vector_from_3d(field: Array, d: int, shape: Sequence[int], xp: ModuleType) -> Array:
    """Undo `_vector_to_3d` on a field, given the original shape."""
    return (field if d == 3 else xp.ascontiguousarray(field[:, 1:, 0])).reshape(shape)


def _spacing_3d(spacing: Sequence[float]) -> Sequence[float]:
    """Spacing of the 3D grid that stands for a 2D one."""
    return spacing if len(spacing) == 3 else (1.0, *spacing)


def _sampling_factors(
    source_grid: Sequence[int], grid: Sequence[int], spacing: Sequence[float], kind: type
) -> tuple[list[int], list[Any]]:
    """Source voxels along each axis per voxel of a grid, and per mm."""
    factors = [n // m for n, m in zip(source_grid, grid, strict=True)]
    per_mm = [kind(f) / kind(h) for f, h in zip(factors, _spacing_3d(spacing), strict=True)]
    return factors, per_mm


def resample(image: Array, u: Array, spacing: Sequence[float], kernel: str) -> Array:
    """image(x + u(x)) by the kernel "interpolate" or "nearest".

    `image` may have leading axes (channels), which are sampled in one pass; u is in mm, `spacing`
    is the image's.
    """
    xp = array_module(image, u)
    kind = np.float64 if image.dtype == np.float64 else np.float32
    grid = image.shape[-len(spacing) :]
    grid_3d = (1,) * (3 - len(grid)) + grid
    channels = xp.ascontiguousarray(image.astype(kind, copy=False)).reshape(-1, *grid_3d)
    vector = _vector_to_3d(u, len(grid), kind, xp)[0]
    out = xp.empty((channels.shape[0], *vector.shape[1:]), dtype=kind)
    sizes = (*channels.shape, *out.shape[1:])
    _launch(kernel, [channels, vector], sizes, _spacing_3d(spacing), [out])
    return out.reshape(*image.shape[: -len(grid)], *u.shape[1:])


def residual_and_force(
    source: Array, target: Array, u: Array, spacing: Sequence[float]
) -> tuple[Array, Array]:
    """r = source(x + u) - target and r ∇source(x + u) (mm⁻¹), in one pass over the voxels.

    The gradient is that of the linear interpolant; at its kinks the mean of the one-sided slopes.
    The source may be sampled more finely than the target, by a whole number along each axis, from
    the same origin; `spacing` is the target's.
    """
    xp, d = array_module(source, target, u), len(spacing)
    kind = source.dtype.type
    s, t = _scalar_to_3d(source, d, kind, xp), _scalar_to_3d(target, d, kind, xp)
    v = _vector_to_3d(u, d, kind, xp)
    residual, force = xp.empty(t.shape, dtype=kind), xp.empty(v.shape, dtype=kind)
    factors, per_mm = _sampling_factors(s.shape[1:], t.shape[1:], spacing, kind)
    sizes = (t.shape[0], *factors, *t.shape[1:])
    _launch("residual_and_force", [s, t, v], sizes, per_mm, [residual, force], t.shape[0])
    return residual.reshape(target.shape), _vector_from_3d(force, d, u.shape, xp)


def value_and_slope(source: Array, u: Array, spacing: Sequence[float]) -> tuple[Array, Array]:
    """source(x + u) and ∇source(x + u) (mm⁻¹) of the linear interpolant, in one pass.

    Both are on the grid of u, whose voxel size is `spacing`; the source may be sampled more finely,
    as in `residual_and_force`.
    """
    xp, d = array_module(source, u), len(spacing)
    kind = source.dtype.type
    s, v = _scalar_to_3d(source, d, kind, xp), _vector_to_3d(u, d, kind, xp)
    grid, pairs = v.shape[2:], v.shape[0]
    value, slope = xp.empty((pairs, *grid), dtype=kind), xp.empty(v.shape, dtype=kind)
    factors, per_mm = _sampling_factors(s.shape[1:], grid, spacing, kind)
    sizes = (pairs, *factors, *grid)
    _launch("value_and_slope", [s, v], sizes, per_mm, [value, slope], pairs)
    shape = (*u.shape[: -d - 1], *u.shape[-d:])
    return value.reshape(shape), _vector_from_3d(slope, d, u.shape, xp)


def voxel_sums(field: Array) -> Array:
    """Sum over the voxels of every pair in double precision: (pairs, N_1, …, N_d) to (pairs,).

    First over all axes but one: a GPU has one block of threads take each sum of a reduction. NumPy
    sums pair by pair, as its buffers would otherwise make the rounding depend on the other pairs.
    """
    xp, inner = array_module(field), tuple(range(2 - field.ndim, 0))
    if xp is np:
        planes = [np.sum(pair, axis=inner, dtype=np.float64) for pair in field]
        return np.array([plane.sum() for plane in planes])
    return xp.sum(xp.sum(field, axis=inner, dtype=np.float64), axis=1)


def jacobian_determinant(u: Array, spacing: Sequence[float]) -> Array:
    """det(I + Du) on the image grid by periodic central differences (positive: no fold)."""
    xp, d = array_module(u), len(spacing)
    vector = _vector_to_3d(u, d, u.dtype.type, xp)
    pairs, _, *grid = vector.shape
    out = xp.empty((pairs, *grid), dtype=vector.dtype)
    _launch("jacobian_determinant", [vector], out.shape, _spacing_3d(spacing), [out], pairs)
    return out.reshape(*u.shape[: -d - 1], *u.shape[-d:])


def displacement_extremes(u: Array, spacing: Sequence[float], limits: Sequence[float]) -> Array:
    """Largest displacement relative to its limits, and largest negative Jacobian determinant.

    Neither the relative displacements nor the determinants are stored.

    Returns
    -------
    array, shape (…, 2)
        The largest |u_j| / limit_j, and the largest -det(I + Du): positive where there is a fold;
        NaN where u contains NaN.
    """
    xp, d = array_module(u), len(spacing)
    kind = u.dtype.type
    vector = _vector_to_3d(u, d, kind, xp)
    pairs, _, *grid = vector.shape
    rows_per_part = max(1, VOXELS_PER_BLOCK // grid[-1])
    parts = math.ceil(grid[0] * grid[1] / rows_per_part)
    rows_per_part = math.ceil(grid[0] * grid[1] / parts)
    out = xp.empty((pairs, parts, 2), dtype=kind)
    launch(
        "fourierreg.image",
        "displacement_extremes",
        [vector],
        [*_spacing_3d(spacing), *(1.0 / limit for limit in _spacing_3d(limits))],
        [out],
        sizes=(pairs, parts, rows_per_part, *grid),
        blocks=(pairs * parts,),
        scratch=2 * REDUCTION_WIDTH,
    )
    return xp.max(out, axis=1).reshape(*u.shape[: -d - 1], 2)


def invert(u: Array, spacing: Sequence[float], tolerance: float) -> Array:
    """Solve w(x) = -u(x + w(x)) by fixed-point iteration, until no voxel's w changes by `tolerance`
    voxels."""
    xp, d = array_module(u), len(spacing)
    vector = _vector_to_3d(u, d, u.dtype.type, xp)[0]
    out = xp.empty_like(vector)
    _launch("invert", [vector], vector.shape[1:], (*_spacing_3d(spacing), tolerance), [out])
    return _vector_from_3d(out[None], d, u.shape, xp)

"""Loops over voxels as compiled kernels, on the backend of the arrays.

`residual_and_force` and `value_and_slope` take a single pair, or a batch of pairs along the first
axis of every field.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.backend.kernels import launch, voxel_blocks
from fourierreg.image.volumes import scalar_to_3d, spacing_3d, vector_from_3d, vector_to_3d


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


def _sampling_factors(
    source_grid: Sequence[int], grid: Sequence[int], spacing: Sequence[float], kind: type
) -> tuple[list[int], list[Any]]:
    """Source voxels along each axis per voxel of a grid, and per mm."""
    factors = [n // m for n, m in zip(source_grid, grid, strict=True)]
    per_mm = [kind(f) / kind(h) for f, h in zip(factors, spacing_3d(spacing), strict=True)]
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
    vector = vector_to_3d(u, len(grid), kind, xp)[0]
    out = xp.empty((channels.shape[0], *vector.shape[1:]), dtype=kind)
    sizes = (*channels.shape, *out.shape[1:])
    _launch(kernel, [channels, vector], sizes, spacing_3d(spacing), [out])
    return out.reshape(*image.shape[: -len(grid)], *u.shape[1:])


def sample(
    image: Array, u: Array, mapping: Array, *, nearest: bool, extend: bool, fill: float
) -> Array:
    """image(M x + t + B u(x)) at the voxels x of a 3D grid, where an image does not repeat itself.

    Parameters
    ----------
    image : float array, 3D
    u : float array like `image`, (3, N_1, N_2, N_3)
    mapping : float64 array, (3, 7)
        (M | t | B), to voxels of the image.
    nearest : bool
        The value of the nearest voxel, not linear interpolation.
    extend : bool
        Continue the outermost voxels.
    fill : float
        The value, otherwise, beyond the image, whose voxels reach half a voxel beyond their
        centers.
    """
    out = array_module(image, u, mapping).empty(u.shape[1:], dtype=image.dtype)
    scalars = (float(nearest), float(extend), fill)
    _launch("sample", [image, u, mapping], (*image.shape, *out.shape), scalars, [out])
    return out


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
    s, t = scalar_to_3d(source, d, kind, xp), scalar_to_3d(target, d, kind, xp)
    v = vector_to_3d(u, d, kind, xp)
    residual, force = xp.empty(t.shape, dtype=kind), xp.empty(v.shape, dtype=kind)
    factors, per_mm = _sampling_factors(s.shape[1:], t.shape[1:], spacing, kind)
    sizes = (t.shape[0], *factors, *t.shape[1:])
    _launch("residual_and_force", [s, t, v], sizes, per_mm, [residual, force], t.shape[0])
    return residual.reshape(target.shape), vector_from_3d(force, d, u.shape, xp)


def value_and_slope(source: Array, u: Array, spacing: Sequence[float]) -> tuple[Array, Array]:
    """source(x + u) and ∇source(x + u) (mm⁻¹) of the linear interpolant, in one pass.

    Both are on the grid of u, whose voxel size is `spacing`; the source may be sampled more finely,
    as in `residual_and_force`.
    """
    xp, d = array_module(source, u), len(spacing)
    kind = source.dtype.type
    s, v = scalar_to_3d(source, d, kind, xp), vector_to_3d(u, d, kind, xp)
    grid, pairs = v.shape[2:], v.shape[0]
    value, slope = xp.empty((pairs, *grid), dtype=kind), xp.empty(v.shape, dtype=kind)
    factors, per_mm = _sampling_factors(s.shape[1:], grid, spacing, kind)
    sizes = (pairs, *factors, *grid)
    _launch("value_and_slope", [s, v], sizes, per_mm, [value, slope], pairs)
    shape = (*u.shape[: -d - 1], *u.shape[-d:])
    return value.reshape(shape), vector_from_3d(slope, d, u.shape, xp)


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


def invert(u: Array, spacing: Sequence[float], tolerance: float) -> Array:
    """Solve w(x) = -u(x + w(x)) by fixed-point iteration, until no voxel's w changes by `tolerance`
    voxels."""
    xp, d = array_module(u), len(spacing)
    vector = vector_to_3d(u, d, u.dtype.type, xp)[0]
    out = xp.empty_like(vector)
    _launch("invert", [vector], vector.shape[1:], (*spacing_3d(spacing), tolerance), [out])
    return vector_from_3d(out[None], d, u.shape, xp)

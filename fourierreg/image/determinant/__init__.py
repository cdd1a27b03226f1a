"""The Jacobian determinant of a map x + u(x), and a smooth barrier against folds.

The barrier Σ_x ln²((det - END) / (START - END)), over the voxels with det < START, is zero for maps
that are far from folding, rises smoothly, and is infinite where the determinant falls to END: an
optimizer slides along it, where a refused step would end it.

Functions take a single displacement (d, N_1, …, N_d) in mm, or a batch of them.
"""

import math
from collections.abc import Sequence

from fourierreg.backend import Array, array_module
from fourierreg.backend.kernels import launch, voxel_blocks
from fourierreg.image.volumes import spacing_3d, vector_from_3d, vector_to_3d

START, END = 0.2, 0.02  # determinants at which the barrier begins and is infinite
PACKAGE = "fourierreg.image.determinant"
VOXELS_PER_BLOCK = 4096  # reduced by one GPU block in `measure_map`, approximately
REDUCTION_WIDTH = 512  # partial results of that block, as in kernels.cu


def jacobian_determinant(u: Array, spacing: Sequence[float]) -> Array:
    """det(I + Du) on the image grid by periodic central differences (positive: no fold)."""
    xp, d = array_module(u), len(spacing)
    vector = vector_to_3d(u, d, u.dtype.type, xp)
    pairs, _, *grid = vector.shape
    out = xp.empty((pairs, *grid), dtype=vector.dtype)
    launch(
        PACKAGE,
        "jacobian_determinant",
        [vector],
        spacing_3d(spacing),
        [out],
        sizes=out.shape,
        blocks=voxel_blocks(math.prod(grid), pairs),
    )
    return out.reshape(*u.shape[: -d - 1], *u.shape[-d:])


def measure_map(u: Array, spacing: Sequence[float], limits: Sequence[float]) -> tuple[Array, Array]:
    """What decides whether a map is acceptable, and its Jacobian determinants.

    Returns
    -------
    measures : array, (…, 3)
        The largest |u_j| / limit_j; the largest -det(I + Du), positive where there is a fold; the
        barrier. The first two are NaN where u contains NaN.
    determinants : array, (pairs, N_1, N_2, N_3)
        For `add_barrier_force`.
    """
    xp, d = array_module(u), len(spacing)
    kind = u.dtype.type
    vector = vector_to_3d(u, d, kind, xp)
    pairs, _, *grid = vector.shape
    rows_per_part = max(1, VOXELS_PER_BLOCK // grid[-1])
    parts = math.ceil(grid[0] * grid[1] / rows_per_part)
    rows_per_part = math.ceil(grid[0] * grid[1] / parts)
    determinants = xp.empty((pairs, *grid), dtype=kind)
    out = xp.empty((pairs, parts, 3), dtype=kind)
    launch(
        PACKAGE,
        "end_map",
        [vector],
        [*spacing_3d(spacing), *(1.0 / limit for limit in spacing_3d(limits)), START, END],
        [determinants, out],
        sizes=(pairs, parts, rows_per_part, *grid),
        blocks=(pairs * parts,),
        scratch=3 * REDUCTION_WIDTH,
    )
    largest = xp.max(out[..., :2], axis=1)
    measures = xp.concatenate([largest, xp.sum(out[..., 2:], axis=1)], axis=1)
    return measures.reshape(*u.shape[: -d - 1], 3), determinants


def add_barrier_force(
    force: Array, u: Array, determinants: Array, scale: Array, spacing: Sequence[float]
) -> Array:
    """Force on u plus the derivative of the barrier, times the `scale` (pairs,) of each pair.

    `determinants` are those of `measure_map`. `force` may be overwritten.
    """
    xp, d = array_module(u, force), len(spacing)
    kind = u.dtype.type
    vector, total = vector_to_3d(u, d, kind, xp), vector_to_3d(force, d, kind, xp)
    pairs, _, *grid = vector.shape
    launch(
        PACKAGE,
        "barrier_force",
        [vector, determinants, scale.astype(kind, copy=False)],
        [*spacing_3d(spacing), START, END],
        [total],
        sizes=(pairs, *grid),
        blocks=voxel_blocks(math.prod(grid), pairs),
    )
    return vector_from_3d(total, d, force.shape, xp)

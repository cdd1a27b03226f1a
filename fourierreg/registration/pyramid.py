"""Coarse-to-fine: the same band on images smoothed and sampled more thinly."""

import functools
import math
from dataclasses import replace

import numpy as np

MIN_POINTS = 30  # a grid with a shorter axis is not made
SEARCH_VOXELS = 300_000  # of the finest grid on which α is searched, 64³ for a brain


@functools.lru_cache(maxsize=64)
def _smoothing_matrix(points, coarse_points, dtype, xp):
    """Real matrix (points, coarse_points): periodic Gaussian of half a coarse voxel, sampled."""
    k = np.arange(-(points // 2), (points + 1) // 2)
    damping = np.exp(-0.5 * (2 * np.pi * k * 0.5 / coarse_points) ** 2)
    here = np.exp(-2j * np.pi / points * np.outer(np.arange(points), k)) * damping / points
    there = np.exp(2j * np.pi / coarse_points * np.outer(k, np.arange(coarse_points)))
    return xp.asarray((here @ there).real.astype(dtype))


def coarsen(image, shape, xp):
    """Smooth an image by half a coarse voxel and sample it on a periodic grid of `shape`."""
    for axis, points in enumerate(shape):
        matrix = _smoothing_matrix(image.shape[axis], points, image.dtype, xp)
        image = xp.moveaxis(xp.matmul(xp.moveaxis(image, axis, -1), matrix), -1, axis)
    return xp.ascontiguousarray(image)


def level_shapes(shape, cutoff):
    """Grids from coarse to fine, and the index of the one on which α is searched.

    That one, the search grid, is `shape` itself scaled to at most `SEARCH_VOXELS` voxels, so that
    α does not depend on how finely the images were sampled. Grids halve below it; above it they
    double until the finest, which is `shape`.
    """
    shape = tuple(shape)

    def wide_enough(grid):
        return all(n >= 2 * k + 2 for n, k in zip(grid, cutoff, strict=True))

    factor = (SEARCH_VOXELS / math.prod(shape)) ** (1 / len(shape))
    search = tuple(math.floor(n * factor) for n in shape) if factor < 1 else shape
    if not wide_enough(search):
        search = shape
    below, above = [search], []
    while True:
        coarse = tuple(math.ceil(n / 2) for n in below[0])
        if min(coarse) < MIN_POINTS or not wide_enough(coarse):
            break
        below.insert(0, coarse)
    if search != shape:
        above.append(shape)
        while math.prod(above[0]) > 2 * 2 ** len(shape) * SEARCH_VOXELS:
            above.insert(0, tuple(math.ceil(n / 2) for n in above[0]))
    return below + above, len(below) - 1


def inside_at(inside, shape, xp):
    """A bool array on a coarser grid: voxels more than half inside."""
    return coarsen(inside.astype(np.float32), shape, xp) > 0.5


def at_shape(problem, shape, num_steps, xp):
    """`problem` on a coarser grid."""
    full = problem.source.shape
    if tuple(shape) == full:
        return problem
    mask = problem.mask
    if mask is not None:
        mask = inside_at(mask, shape, xp)
    return replace(
        problem,
        source=coarsen(problem.source, shape, xp),
        target=coarsen(problem.target, shape, xp),
        spacing=tuple(h * n / m for h, n, m in zip(problem.spacing, full, shape, strict=True)),
        mask=mask,
        num_steps=num_steps,
    )

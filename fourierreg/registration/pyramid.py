"""Coarse-to-fine: the same band on images smoothed and sampled more thinly."""

import functools
import math
from dataclasses import replace

import numpy as np

MIN_POINTS = 32  # a grid with a shorter axis is not made


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
    """Grids from coarse to fine, each twice the one before, the finest being `shape`."""
    shapes = [tuple(shape)]
    while True:
        coarse = tuple(math.ceil(n / 2) for n in shapes[0])
        if min(coarse) < MIN_POINTS or any(
            n < 2 * k + 2 for n, k in zip(coarse, cutoff, strict=True)
        ):
            return shapes
        shapes.insert(0, coarse)


def at_shape(problem, shape, num_steps, xp):
    """`problem` on a coarser grid: a voxel weighs as many fine ones as it stands for."""
    full = problem.source.shape
    if tuple(shape) == full:
        return problem
    ratio = math.prod(full) / math.prod(shape)
    mask = problem.mask
    if mask is not None:
        mask = coarsen(mask.astype(problem.source.dtype), shape, xp) > 0.5
    return replace(
        problem,
        source=coarsen(problem.source, shape, xp),
        target=coarsen(problem.target, shape, xp),
        spacing=tuple(h * n / m for h, n, m in zip(problem.spacing, full, shape, strict=True)),
        weight=problem.weight * ratio,
        mask=mask,
        num_steps=num_steps,
    )

"""Coarse-to-fine: the same band on images low-passed and sampled more thinly."""

import math
from dataclasses import replace

import numpy as np

from fourierreg.backend.tables import cached_table

MIN_POINTS = 30  # a grid with a shorter axis is not made
PASSED = 0.9  # of a coarse grid's frequencies: there its low-pass starts to fade
OVERSAMPLING = 2  # of the source on coarser grids than the image
SEARCH_VOXELS = 300_000  # of the finest grid on which α is searched, 64³ for a brain


@cached_table()
def _low_pass_matrix(points, coarse_points, samples, dtype, xp):
    """Real matrix (points, samples): the frequencies a coarse grid can hold, sampled."""
    k = np.arange(-(points // 2), (points + 1) // 2)
    share = np.abs(k) / (0.5 * coarse_points)  # of the coarse grid's Nyquist frequency
    fade = 0.5 * (1 + np.cos(np.pi * (share - PASSED) / (1 - PASSED)))
    response = np.where(share <= PASSED, 1.0, np.where(share < 1, fade, 0.0))
    here = np.exp(-2j * np.pi / points * np.outer(np.arange(points), k)) * response / points
    there = np.exp(2j * np.pi / samples * np.outer(k, np.arange(samples)))
    return xp.asarray((here @ there).real.astype(dtype))


def coarsen(image, shape, xp, oversampling=1):
    """Low-pass an image for a periodic grid of `shape`, and sample it there, or at `oversampling`
    times as many points along each axis.

    The filter is flat: white noise stays white, so its strength per voxel of the image, ρ/σ², is
    the same on every grid. A Gaussian filter would leave noise that is weaker at high frequencies
    than a white model says, and α too high.
    """
    for axis, points in enumerate(shape):
        samples = oversampling * points
        matrix = _low_pass_matrix(image.shape[axis], points, samples, image.dtype, xp)
        image = xp.moveaxis(xp.matmul(xp.moveaxis(image, axis, -1), matrix), -1, axis)
    return xp.ascontiguousarray(image)


def level_shapes(shape, cutoff):
    """Grids from coarse to fine, and the index of the one on which α is searched.

    That one, the search grid, is `shape` itself scaled to at most `SEARCH_VOXELS` voxels, enough
    for the band. Grids halve below it; above it they double until the finest, which is `shape`.
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
    """`problem` on a coarser grid.

    Its source is sampled `OVERSAMPLING` times as finely: linear interpolation between the voxels
    of a coarse grid blurs an image that fills its band, and a residual of that kind is taken for
    noise.
    """
    full = problem.shape
    if tuple(shape) == full:
        return problem
    mask = problem.mask
    if mask is not None:
        mask = inside_at(mask, shape, xp)
    return replace(
        problem,
        source=coarsen(problem.source, shape, xp, OVERSAMPLING),
        target=coarsen(problem.target, shape, xp),
        spacing=tuple(h * n / m for h, n, m in zip(problem.spacing, full, shape, strict=True)),
        mask=mask,
        num_steps=num_steps,
    )

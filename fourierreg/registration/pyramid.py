"""Coarse to fine: images that are low-passed and sampled on coarser grids, and bands for them."""

import math
from dataclasses import replace

import numpy as np

from fourierreg.backend import Array
from fourierreg.backend.tables import cached_table
from fourierreg.model.problem import Problem

MIN_POINTS = 30  # along the shortest axis of any grid
PASSBAND = 0.9  # of a coarse grid's Nyquist frequency, where its low-pass starts to fade
OVERSAMPLING = 2  # of the source on coarse grids
SEARCH_VOXELS = 300_000  # of the finest grid on which α is searched, 64³ for a brain


@cached_table()
def _low_pass_matrix(points, coarse_points, samples, dtype, xp):
    """Real matrix (points, samples): the frequencies that a coarse grid can hold, sampled."""
    k = np.arange(-(points // 2), (points + 1) // 2)
    fraction = np.abs(k) / (0.5 * coarse_points)  # of the coarse grid's Nyquist frequency
    fade = 0.5 * (1 + np.cos(np.pi * (fraction - PASSBAND) / (1 - PASSBAND)))
    response = np.where(fraction <= PASSBAND, 1.0, np.where(fraction < 1, fade, 0.0))
    here = np.exp(-2j * np.pi / points * np.outer(np.arange(points), k)) * response / points
    there = np.exp(2j * np.pi / samples * np.outer(k, np.arange(samples)))
    return xp.asarray((here @ there).real.astype(dtype))


def coarsen(images: Array, shape: tuple[int, ...], xp, oversampling: int = 1) -> Array:
    """Low-pass images (pairs, N_1, …, N_d) for a periodic grid of `shape`, and sample them there,
    or at `oversampling` times as many points along each axis.

    The filter is flat: white noise stays white, so that its strength per voxel of the image, ρ/σ²,
    is the same on every grid. A Gaussian filter would leave noise that is weaker at high
    frequencies than a white model says, and α too high.
    """
    for axis, points in enumerate(shape, start=1):
        samples = oversampling * points
        matrix = _low_pass_matrix(images.shape[axis], points, samples, images.dtype, xp)
        images = xp.moveaxis(xp.matmul(xp.moveaxis(images, axis, -1), matrix), -1, axis)
    return xp.ascontiguousarray(images)


def coarse_modes(shape, modes):
    """The band on a coarse grid: half of its frequencies are room enough for what it shows of the
    images, and a narrower band takes a fraction of the time."""
    return tuple(min(n, max(points // 2, 3)) for n, points in zip(modes, shape, strict=True))


def level_shapes(shape, cutoff):
    """Grids from coarse to fine, and the index of the one on which α is searched.

    That one, the search grid, is `shape` itself scaled to at most `SEARCH_VOXELS` voxels, enough
    for the band. Grids halve below it; above it they double up to the finest, which is `shape`.
    """
    shape = tuple(shape)

    def resolves_band(grid):
        return all(n >= 2 * k + 2 for n, k in zip(grid, cutoff, strict=True))

    factor = (SEARCH_VOXELS / math.prod(shape)) ** (1 / len(shape))
    search = tuple(math.floor(n * factor) for n in shape) if factor < 1 else shape
    if not resolves_band(search):
        search = shape
    below, above = [search], []
    while True:
        coarse = tuple(math.ceil(n / 2) for n in below[0])
        if min(coarse) < MIN_POINTS:
            break
        below.insert(0, coarse)
    if search != shape:
        above.append(shape)
        while math.prod(above[0]) > 2 * 2 ** len(shape) * SEARCH_VOXELS:
            above.insert(0, tuple(math.ceil(n / 2) for n in above[0]))
    return below + above, len(below) - 1


def mask_at_shape(mask: Array, shape: tuple[int, ...], xp) -> Array:
    """A mask (pairs, N_1, …, N_d) on a coarser grid: voxels more than half inside."""
    return coarsen(mask.astype(np.float32), shape, xp) > 0.5


def at_shape(problem: Problem, shape: tuple[int, ...], xp) -> Problem:
    """A problem on a coarser grid.

    Its source is sampled `OVERSAMPLING` times as finely: linear interpolation between the voxels
    of a coarse grid blurs an image that fills its band, and the residual of that is taken for
    noise.
    """
    full = problem.shape
    if tuple(shape) == full:
        return problem
    return replace(
        problem,
        source=coarsen(problem.source, shape, xp, OVERSAMPLING),
        target=coarsen(problem.target, shape, xp),
        spacing=tuple(h * n / m for h, n, m in zip(problem.spacing, full, shape, strict=True)),
        mask=None if problem.mask is None else mask_at_shape(problem.mask, shape, xp),
    )

"""Coarse grids: their shapes, and the low-pass filter that brings images onto them."""

import itertools
import math

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.registration.pyramid import (
    MIN_POINTS,
    SEARCH_VOXELS,
    at_shape,
    coarsen,
    level_shapes,
    mask_at_shape,
)
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.model.problems import CASES, make


def wave(shape, frequencies):
    """cos(2π Σ k_j m_j / N_j)."""
    grids = np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")
    return np.cos(2 * np.pi * sum(k * x for k, x in zip(frequencies, grids, strict=True)))


@pytest.mark.parametrize(("fine", "coarse"), [((20, 18), (10, 9)), ((21, 18, 20), (11, 9, 13))])
def test_waves_are_kept_below_the_nyquist_frequency_and_removed_above(fine, coarse, backend, xp):
    frequencies = (2, 1, 3)[: len(fine)]
    image = asarray(wave(fine, frequencies))
    images = xp.stack([image, 2.0 * image])
    for factor in (1, 2):
        expected = wave(tuple(factor * n for n in coarse), frequencies)
        laws.close(coarsen(images, coarse, xp, factor), np.stack([expected, 2.0 * expected]))
    high = (1, *[0] * (len(fine) - 2), coarse[-1] // 2 + 1)
    image = asarray(wave(fine, high))[None]
    laws.close(coarsen(image, coarse, xp) + 1.0, np.ones((1, *coarse)))


def test_white_noise_stays_white():
    noise = np.random.default_rng(0).standard_normal((96, 96, 96)).astype(np.float32)
    coarse = coarsen(noise[None], (48, 48, 48), np)[0]
    power = np.abs(np.fft.rfftn(coarse)) ** 2 / coarse.size
    low, middle = power[1:8, 1:8, 1:8].mean(), power[12:20, 12:20, 12:20].mean()
    assert abs(low / middle - 1) < 0.2 and abs(8 * middle - 1) < 0.1


def test_a_constant_stays(backend, xp):
    laws.close(coarsen(xp.ones((1, 20, 18)), (10, 9), xp), np.ones((1, 10, 9)))


def test_a_coarse_mask_has_the_voxels_more_than_half_inside(backend, xp):
    inside = np.zeros((32, 32), bool)
    inside[8:24, 4:28] = True
    coarse = to_numpy(mask_at_shape(asarray(inside)[None], (16, 16), xp))[0]
    assert coarse.dtype == bool
    np.testing.assert_array_equal(coarse[5:11, 3:13], True)
    assert abs(coarse.mean() / inside.mean() - 1) < 0.15


def test_a_problem_on_a_coarser_grid(backend, xp):
    metric = Metric.create(**CASES["2d-anisotropic"])
    fine = make(metric, masked=True)
    coarse = at_shape(fine, (12, 11), xp)
    assert coarse.shape == (12, 11)
    assert coarse.target.shape == coarse.mask.shape == (1, 12, 11)
    assert coarse.source.shape == (1, 24, 22)
    laws.close(coarse.undeformed, coarsen(fine.source, (12, 11), xp))
    for h, n, fine_h, fine_n in zip(coarse.spacing, (12, 11), fine.spacing, (24, 22), strict=True):
        assert math.isclose(h * n, fine_h * fine_n)
    assert at_shape(fine, (24, 22), xp) is fine


@pytest.mark.parametrize(
    ("shape", "cutoff"),
    [
        ((128, 140, 128), (7, 7, 7)),
        ((64, 64, 64), (7, 7, 7)),
        ((96, 96, 96), (7, 7, 7)),
        ((256, 256, 256), (15, 15, 15)),
        ((100, 100), (7, 7)),
        ((1000, 800), (7, 7)),
        ((128, 128, 20), (7, 7, 7)),
        ((17, 18, 16), (7, 7, 7)),
        ((128, 128, 128), (60, 60, 60)),
    ],
)
def test_shapes_of_the_grids(shape, cutoff):
    shapes, search = level_shapes(shape, cutoff)
    assert shapes[-1] == shape
    assert 0 <= search < len(shapes)
    sizes = [math.prod(s) for s in shapes]
    assert sizes == sorted(set(sizes))
    for grid in shapes[search:-1]:  # from the search grid on, but for the image's own
        assert all(n >= 2 * k + 2 for n, k in zip(grid, cutoff, strict=True))
    for grid in shapes[:search]:
        assert min(grid) >= MIN_POINTS
    assert shapes[search] == shape or sizes[search] <= SEARCH_VOXELS
    assert len(shapes) - 1 == search or sizes[search] > SEARCH_VOXELS / 2
    # No grid has more than twice the points per axis of the one below, but for rounding.
    ratios = [b / a for a, b in itertools.pairwise(sizes)]
    assert all(r < 2.1 ** len(shape) * 2 for r in ratios)


def test_the_search_grid_does_not_depend_on_the_sampling():
    for n in (96, 128, 192, 256):
        shapes, search = level_shapes((n,) * 3, (7, 7, 7))
        assert shapes[search] in ((66,) * 3, (67,) * 3), n

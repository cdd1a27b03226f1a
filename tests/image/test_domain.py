"""Zero padding of the periodic domain."""

import math

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.image.domain import MARGIN, SIZE_STEPS, Domain, padded_domain
from tests import laws


def box(shape, low, high):
    """An image that is one between `low` and `high` along every axis, else zero."""
    image = np.zeros(shape, np.float32)
    image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1.0
    return asarray(image)


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_crop_undoes_pad(backend, dtype):
    domain = Domain((4, 5, 6), (1, 0, 2), (3, 0, 1))
    image = asarray((np.random.default_rng(0).random((4, 5, 6)) > 0.5).astype(dtype))
    padded = domain.pad(image)
    assert padded.shape == domain.padded_shape == (8, 5, 9)
    assert padded.dtype == dtype
    assert int(to_numpy(padded).sum()) == int(to_numpy(image).sum())
    np.testing.assert_array_equal(to_numpy(domain.crop(padded)), to_numpy(image))


def test_crop_acts_on_the_last_axes_of_a_field(backend):
    domain = Domain((4, 5), (1, 2), (3, 0))
    field = asarray(np.random.default_rng(0).random((2, *domain.padded_shape)))
    laws.close(domain.crop(field), to_numpy(field)[:, 1:5, 2:7], rtol=0.0)


def test_images_with_margins_are_not_padded(backend):
    image = box((20, 30), (5, 6), (15, 24))
    domain = padded_domain(image, image)
    assert not domain.is_padded
    assert domain.pad(image) is image
    assert domain.crop(image) is image


def test_padding_can_be_disabled(backend):
    image = box((20, 30), (0, 0), (20, 30))
    assert not padded_domain(image, image, pad=False).is_padded


@pytest.mark.parametrize(
    ("low", "high"),
    [((0, 6), (15, 24)), ((5, 6), (20, 24)), ((0, 0), (20, 30)), ((1, 5), (19, 30))],
)
def test_padding_separates_opposite_borders(backend, low, high):
    shape = (20, 30)
    source, target = box(shape, low, high), box(shape, (8, 10), (12, 20))
    domain = padded_domain(source, target)
    assert domain == padded_domain(target, source)
    occupied = to_numpy(domain.pad(source)) > 0
    for axis, n in enumerate(shape):
        near = low[axis] < math.ceil(MARGIN * n) or n - high[axis] < math.ceil(MARGIN * n)
        planes = np.flatnonzero(occupied.any(axis=1 - axis))
        empty = occupied.shape[axis] - (planes[-1] - planes[0] + 1)
        assert empty >= 2 * math.ceil(MARGIN * n)
        if not near:
            assert occupied.shape[axis] == n


def test_padding_depends_on_both_images(backend):
    shape = (20, 30)
    first, second = box(shape, (0, 8), (12, 20)), box(shape, (8, 8), (20, 20))
    domain = padded_domain(first, second)
    assert domain.padded_shape == (24, 30)
    assert domain.before == (2, 0)
    assert domain.after == (2, 0)


def test_similar_images_get_the_same_grid(backend):
    shape = (64, 80)
    images = [box(shape, (8, low), (52, 76)) for low in (2, 3, 4, 5)]
    grids = {padded_domain(a, b).padded_shape for a in images for b in images}
    assert len(grids) == 1
    (grid,) = grids
    assert grid[0] == 64  # nothing is missing there
    assert grid[1] > 80
    assert grid[1] % (80 // SIZE_STEPS) == 0


def test_domain_pickles_and_compares_by_value():
    laws.picklable(Domain((4, 5), (1, 2), (3, 0)))

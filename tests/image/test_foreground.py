"""The background of images, and what counts beside it."""

import numpy as np
import pytest
from scipy import ndimage

from fourierreg.backend import asarray, to_numpy
from fourierreg.image.foreground import background_of, compared, foreground_scale, is_cut
from tests.brains import head

SHAPE = (30, 36, 24)
HEAD = head(SHAPE, (1.5, 1.2, 2.0)) / 800
LEVEL = 0.02 * foreground_scale(HEAD)
CLEAN = HEAD > LEVEL


def found(image):
    """The foreground of an image, as a NumPy array."""
    image = asarray(image.astype(np.float32))
    return to_numpy(background_of(image).foreground(image))


def differing(a, b):
    """Fraction of the voxels of either that only one has."""
    return (a ^ b).sum() / (a | b).sum()


def test_a_background_of_zero(backend):
    background = background_of(asarray(HEAD))
    assert background.value == background.noise == 0.0 and background.is_clean
    np.testing.assert_array_equal(found(HEAD), CLEAN)
    assert background.scale == pytest.approx(np.percentile(HEAD[CLEAN], 99.5), rel=1e-5)


def test_an_offset_does_not_count(backend):
    background = background_of(asarray(HEAD + np.float32(3.0)))
    assert background.value == pytest.approx(3.0) and background.is_clean
    assert background.scale == pytest.approx(foreground_scale(HEAD), rel=1e-5)
    np.testing.assert_array_equal(found(HEAD + np.float32(3.0)), CLEAN)


def test_faint_noise_does_not_count(backend):
    noise = np.abs(np.random.default_rng(0).normal(0, 0.02, SHAPE))
    background = background_of(asarray((HEAD + noise).astype(np.float32)))
    assert not background.is_clean and 0.005 < background.noise < 0.03
    # Voxels at the rim that are weaker than the noise are lost.
    assert differing(found(HEAD + noise), CLEAN) < 0.1


def test_ringing_of_a_spline_does_not_count(backend):
    ringing = ndimage.shift(HEAD, (0.5, 0, 0), order=3)
    assert (ringing != 0).sum() > 1.5 * CLEAN.sum()
    assert differing(found(ringing), ndimage.shift(HEAD, (0.5, 0, 0), order=1) > 0.02) < 0.1


def test_all_of_a_crop_counts(backend):
    crop = HEAD[9:21, 11:25, 8:17]
    background = background_of(asarray(crop))
    assert background.value == 0.0 and background.threshold < 0 and not background.is_clean
    assert found(crop).all()
    assert background.scale == pytest.approx(np.percentile(crop, 99.5), rel=1e-4)


def test_the_scale_of_unsigned_voxels():
    voxels = np.rint(HEAD / HEAD.max() * 200 + 30).astype(np.uint8)
    assert foreground_scale(voxels) == foreground_scale(voxels.astype(float))


def test_an_image_that_its_border_cuts():
    assert not is_cut(HEAD, background_of(HEAD))
    assert is_cut(HEAD[:, :, :14], background_of(HEAD[:, :, :14]))


def test_compared_are_the_foreground_and_its_surroundings(backend):
    near = to_numpy(compared(asarray(CLEAN)))
    reach = round(0.08 * min(SHAPE))
    expected = ndimage.maximum_filter(CLEAN, 2 * reach + 1, mode="constant")
    np.testing.assert_array_equal(near, expected)

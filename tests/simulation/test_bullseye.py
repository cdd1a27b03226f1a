"""Bull's-eye images."""

import numpy as np
import pytest

from fourierreg.simulation.bullseye import bullseye, random_ellipses


def test_values_inside_between_and_outside_the_ellipses():
    image = bullseye()
    assert image.shape == (100, 100)
    assert image.dtype == np.float32
    assert image[50, 50] == pytest.approx(0.5)  # inside the inner ellipse
    assert image[50, 72] == pytest.approx(1.0)  # between the two
    assert image[76, 50] == pytest.approx(1.0)
    assert image[0, 0] == pytest.approx(0.0)
    assert image.min() >= 0
    assert image.max() <= 1


def test_a_binary_image_is_a_disc_with_a_hole():
    image = bullseye(binary=True)
    assert set(np.unique(image)) == {0.0, 1.0}
    x, y = np.indices(image.shape) - 50.0
    disc = (x / 35) ** 2 + (y / 30) ** 2 < 1
    hole = (x / 18) ** 2 + (y / 14) ** 2 < 1
    np.testing.assert_array_equal(image > 0, disc & ~hole)


def test_smooth_edges_preserve_the_area():
    # The area of an ellipse is πab; smoothing preserves it up to the curvature of the edge.
    image = bullseye(outer=(35.0, 30.0), inner=(18.0, 14.0))
    expected = np.pi * (35 * 30 - 0.5 * 18 * 14)
    assert image.sum() == pytest.approx(expected, rel=0.01)


def test_the_intensity_at_an_edge_is_the_mean_of_both_sides():
    image = bullseye(outer=(35.0, 30.0))
    assert image[50 + 35, 50] == pytest.approx(0.5, abs=1e-6)
    assert image[50, 50 - 30] == pytest.approx(0.5, abs=1e-6)


def test_the_image_is_symmetric_on_any_shape():
    image = bullseye((40, 60), (12.0, 20.0), (5.0, 8.0))
    assert image.shape == (40, 60)
    assert image[20, 30] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_array_equal(image[1:], image[:0:-1])  # symmetric about the voxel (20, 30)
    np.testing.assert_array_equal(image[:, 1:], image[:, :0:-1])


def test_random_ellipses_are_nested_and_fit_the_grid():
    for seed in range(50):
        axes = random_ellipses((100, 60), seed)
        for a, b, n in zip(axes["outer"], axes["inner"], (100, 60), strict=True):
            assert 0 < b < a < 0.4 * n
    assert random_ellipses((100, 60), 0) == random_ellipses((100, 60), 0)
    assert random_ellipses((100, 60), 0) != random_ellipses((100, 60), 1)

"""Pictures: what is drawn where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fourierreg.plotting import orthogonal_views


@pytest.fixture
def axes():
    figure, axes = plt.subplots(1, 3)
    yield axes
    plt.close(figure)


def test_orthogonal_views(axes):
    """Each view shows its own plane through the position, its first axis to the right."""
    image = np.random.default_rng(0).random((6, 7, 8))
    inside = np.zeros(image.shape, dtype=bool)
    inside[1:4, 2:5, 3:6] = True
    nowhere = np.zeros_like(inside)
    handles = orthogonal_views(axes, image, {"a": inside, "b": nowhere}, position=(2, 3, 4))
    axial, coronal, sagittal = (ax.images[0].get_array() for ax in axes)
    np.testing.assert_array_equal(axial, image[:, :, 4].T)
    np.testing.assert_array_equal(coronal, image[:, 3, :].T)
    np.testing.assert_array_equal(sagittal, image[2, :, :].T)
    assert [ax.get_title() for ax in axes] == ["axial", "coronal", "sagittal"]
    assert [handle.get_label() for handle in handles] == ["a", "b"]
    for ax, low, high in zip(axes, ((1, 2), (1, 3), (2, 3)), ((3, 4), (3, 5), (4, 5)), strict=True):
        (outline,) = ax.collections  # of "a" alone
        corners = outline.get_paths()[0].vertices
        np.testing.assert_allclose(corners.min(axis=0), np.subtract(low, 0.5))
        np.testing.assert_allclose(corners.max(axis=0), np.add(high, 0.5))


def test_no_structure_is_left_out(axes):
    inside = np.zeros((5, 5, 5), dtype=bool)
    inside[1:4, 1:4, 1:4] = True
    many = {str(i): inside for i in range(11)}
    assert len(orthogonal_views(axes, np.ones((5, 5, 5)), many)) == 11
    assert all(len(ax.collections) == 11 for ax in axes)


def test_an_image_alone(axes):
    assert orthogonal_views(axes, np.zeros((4, 4, 4))) == []
    assert all(len(ax.images) == 1 for ax in axes)

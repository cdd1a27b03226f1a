"""Plots of 3D images and registrations."""

import io
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pytest

from fourierreg.plotting import (
    interactive_view,
    map_views,
    orthogonal_views,
    overview,
    posterior,
)


@pytest.fixture
def axes():
    figure, axes = plt.subplots(1, 3)
    yield axes
    plt.close(figure)


def test_each_view_shows_its_plane_through_the_position_with_outlines(axes):
    """The first axis of a plane is horizontal."""
    image = np.random.default_rng(0).random((6, 7, 8))
    inside = np.zeros(image.shape, dtype=bool)
    inside[1:4, 2:5, 3:6] = True
    empty = np.zeros_like(inside)
    handles = orthogonal_views(axes, image, {"a": inside, "b": empty}, position=(2, 3, 4))
    axial, coronal, sagittal = (ax.images[0].get_array() for ax in axes)
    np.testing.assert_array_equal(axial, image[:, :, 4].T)
    np.testing.assert_array_equal(coronal, image[:, 3, :].T)
    np.testing.assert_array_equal(sagittal, image[2, :, :].T)
    assert [ax.get_title() for ax in axes] == ["axial", "coronal", "sagittal"]
    assert [handle.get_label() for handle in handles] == ["a", "b"]
    for ax, low, high in zip(axes, ((1, 2), (1, 3), (2, 3)), ((3, 4), (3, 5), (4, 5)), strict=True):
        (outline,) = ax.collections  # of "a" only
        corners = outline.get_paths()[0].vertices
        np.testing.assert_allclose(corners.min(axis=0), np.subtract(low, 0.5))
        np.testing.assert_allclose(corners.max(axis=0), np.add(high, 0.5))


def test_every_structure_is_outlined_when_colors_repeat(axes):
    inside = np.zeros((5, 5, 5), dtype=bool)
    inside[1:4, 1:4, 1:4] = True
    many = {str(i): inside for i in range(11)}
    assert len(orthogonal_views(axes, np.ones((5, 5, 5)), many)) == 11
    assert all(len(ax.collections) == 11 for ax in axes)


def test_an_image_without_structures_has_no_legend(axes):
    assert orthogonal_views(axes, np.zeros((4, 4, 4))) == []
    assert all(len(ax.images) == 1 for ax in axes)


@pytest.fixture
def result():
    """The attributes of a registration that views use."""
    rng = np.random.default_rng(0)
    return SimpleNamespace(
        spacing=(1.0, 2.0, 1.5),
        held_out=None,
        geometry=None,
        deformed=rng.random((6, 7, 8)),
        jacobian_determinant=rng.uniform(0.5, 2, (6, 7, 8)),
    )


def test_the_interactive_view_has_the_images_on_the_grid_of_the_registration(result):
    target = nib.Nifti1Image(np.ones((6, 7, 8), dtype=np.float32), np.eye(4))
    volumes = interactive_view(result, target).volumes
    assert [v.name for v in volumes] == ["target.nii", "deformed source.nii", "ln det.nii"]
    read = nib.Nifti1Image.from_bytes(volumes[1].data)
    np.testing.assert_allclose(read.get_fdata(), result.deformed, rtol=1e-6)
    assert read.header.get_zooms() == (1.0, 2.0, 1.5)


def test_without_ipyniivue_the_view_is_a_static_figure(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    figure = interactive_view(result, np.ones((6, 7, 8)))
    assert len(figure.axes) == 10  # three rows and a color bar
    figure.savefig(io.BytesIO())
    assert figure.axes[0].images[0].axes.get_aspect() == 2.0  # mm up by mm across
    with pytest.raises(ValueError, match="expected a registration in 3D"):
        interactive_view(SimpleNamespace(spacing=(1.0, 1.0)))


def test_all_planes_of_a_map_have_the_same_color_scale(axes):
    values = np.random.default_rng(0).standard_normal((5, 6, 7))
    map_views(axes, values)
    limits = {ax.images[0].get_clim() for ax in axes}
    maximum = np.abs(values).max()
    assert limits == {(-maximum, maximum)}
    assert map_views(axes, np.zeros((5, 6, 7)), low=0.0).get_clim() == (0.0, 1.0)


def test_the_overview_has_the_aspect_ratio_of_the_voxels(result):
    record = SimpleNamespace(iteration=0, shape=(6, 7, 8), prior=1.0, likelihood=2.0, alpha=3.0)
    extra = {"history": (record,), "alpha_interval": None, "status": "A sentence."}
    complete = SimpleNamespace(**vars(result), **extra, displacement=np.zeros((3, 6, 7, 8)))
    figure = overview(complete, result.deformed, result.deformed)
    assert [ax.get_aspect() for ax in figure.axes[:6]] == [2.0] * 6


def test_held_out_voxels_are_drawn_with_the_interval():
    axes = plt.figure().add_subplot()
    losses = ((2.0, 0.9), (4.0, 0.8), (8.0, 0.85))
    posterior(
        axes, SimpleNamespace(held_out=losses, alpha=4.5, alpha_interval=(3.0, 7.0), status="")
    )
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_allclose(drawn, [12.5, 0.0, 6.25])
    assert "4.5 (3 to 7)" in axes.get_title() and axes.get_xscale() == "log"
    plt.close(axes.figure)

"""Grids in scanner space: resizing, alignment by affines, displacements on other grids."""

import nibabel as nib
import numpy as np
import pytest

from fourierreg.image.geometry import Geometry, resample_onto, smoothed_for
from tests.brains import oblique_affine

SHAPE, SPACING = (20, 24, 18), (1.5, 1.2, 2.0)


def geometry(affine=None, shape=SHAPE):
    affine = oblique_affine(SPACING) if affine is None else affine
    return Geometry(shape, tuple(map(tuple, affine)))


@pytest.mark.parametrize("size", [8, 24, 48])
def test_resizing_keeps_the_field_of_view(size):
    grid, fine = geometry().resized(size), geometry()
    assert max(grid.shape) == size
    extent = np.array(fine.shape) * fine.spacing
    np.testing.assert_allclose(np.array(grid.shape) * grid.spacing, extent)
    for corner in ((-0.5, -0.5, -0.5), (-0.5, 1.0, 1.0)):
        index = [c if c < 0 else n - 0.5 for c, n in zip(corner, fine.shape, strict=True)]
        resized = [c if c < 0 else n - 0.5 for c, n in zip(corner, grid.shape, strict=True)]
        np.testing.assert_allclose(
            nib.affines.apply_affine(fine.matrix, index),
            nib.affines.apply_affine(grid.matrix, resized),
            atol=1e-9,
        )


def test_smoothing_for_a_coarser_grid_keeps_the_mean_and_removes_detail():
    data = np.zeros(SHAPE, np.float32)
    data[6:14, 8:16, 5:13] = 1
    checker = (np.indices(SHAPE).sum(axis=0) % 2).astype(np.float32) * data
    smooth = smoothed_for(checker, geometry(), tuple(3 * h for h in SPACING))
    assert abs(smooth.sum() / checker.sum() - 1) < 0.02
    assert smooth[9:11, 11:13, 8:10].std() < 0.05 < checker[9:11, 11:13, 8:10].std()
    np.testing.assert_array_equal(smoothed_for(checker, geometry(), SPACING), checker)


def test_alignment_by_a_transform_moves_the_resampled_image():
    """Point x of the fixed space is at transform(x) in the image: a shift of one voxel here."""
    data = np.random.default_rng(0).random(SHAPE)
    shift = np.eye(4)
    shift[:3, 3] = geometry().matrix[:3, 0]  # one voxel along the first axis
    moved = resample_onto(data, geometry().aligned_by(shift), geometry())
    inner = (
        slice(1, -2),
        slice(1, -1),
        slice(1, -1),
    )  # away from the border, beyond which all is zero
    np.testing.assert_allclose(moved[inner], data[2:-1, 1:-1, 1:-1], atol=1e-9)


def test_a_displacement_may_have_another_grid():
    """A smooth field sampled on a coarser grid deforms as one sampled on the target's grid."""
    rng = np.random.default_rng(0)
    data = smoothed_for(rng.random(SHAPE), geometry(), (6.0, 6.0, 6.0))
    coarse, fine = geometry().resized(14), geometry().resized(30)

    def field(grid):
        return 2 * np.sin(positions(grid) / 9)  # along the axes, which both grids share

    expected = resample_onto(data, geometry(), fine, field(fine))
    actual = resample_onto(data, geometry(), fine, field(coarse), grid=coarse)
    inside = (slice(6, -6),) * 3
    error = np.abs(expected - actual)[inside].std()
    change = np.abs(expected - resample_onto(data, geometry(), fine))[inside].std()
    assert error < 0.1 * change


def positions(grid):
    """RAS coordinates of the voxels of a grid, (3, …)."""
    index = np.indices(grid.shape).reshape(3, -1)
    points = grid.matrix[:3, :3] @ index + grid.matrix[:3, 3:]
    return points.reshape(3, *grid.shape)

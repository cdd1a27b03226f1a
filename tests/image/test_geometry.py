"""Grids in scanner space: resizing, alignment by affines, displacements on other grids."""

import nibabel as nib
import numpy as np
import pytest

from fourierreg.backend import array_module, to_numpy
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
    np.testing.assert_allclose(moved[:-1], data[1:], atol=1e-9)
    assert not moved[-1].any()  # beyond the last voxel


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


def itk_image(data, grid):
    """As a SimpleITK image: axes from last to first, LPS."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    flip = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(grid.spacing)
    image.SetDirection((flip @ grid.directions).ravel().tolist())
    image.SetOrigin((flip @ grid.matrix[:3, 3]).tolist())
    return image


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [SHAPE, (20, 24, 1), (33, 11, 40)])
def test_simpleitk_resamples_alike_faces_included(order, shape):
    """Voxels reach half a voxel beyond their centers, so that no face and no thin slab is lost."""
    sitk = pytest.importorskip("SimpleITK")
    data = 1 + np.random.default_rng(0).random(SHAPE)
    source, shift = geometry(), np.eye(4)
    shift[:3, 3] = 1e-3  # so that no point is half-way between voxels
    grid = geometry().resized(shape).aligned_by(shift)
    found = resample_onto(data, source, grid, order=order)
    interpolator = sitk.sitkLinear if order else sitk.sitkNearestNeighbor
    images = itk_image(data, source), itk_image(np.zeros(shape), grid)
    expected = sitk.Resample(*images, sitk.Transform(), interpolator, 0.0)
    np.testing.assert_allclose(found, sitk.GetArrayFromImage(expected).T, atol=1e-6)
    assert found.min() >= 1.0


@pytest.mark.parametrize("fill", [0.0, -1000.0])
def test_beyond_the_field_of_view_is_the_fill_value_or_the_outermost_voxel(fill):
    data = 1 + np.random.default_rng(0).random(SHAPE)
    u = np.zeros((3, *SHAPE))
    u[0, :5] = -12 * SPACING[0]
    u[0, 5, 0, 0] = np.nan
    filled = resample_onto(data, geometry(), geometry(), u, fill=fill)
    assert np.all(filled[:5] == fill) and filled[5, 0, 0] == fill
    np.testing.assert_allclose(filled[6:], data[6:])
    extended = resample_onto(data, geometry(), geometry(), u, extend=True)
    np.testing.assert_allclose(extended[:5], np.broadcast_to(data[0], (5, *SHAPE[1:])))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, np.float64])
def test_labels_keep_dtype_and_values(dtype):
    largest = {np.uint8: 255, np.int16: -32768, np.float64: 2.0**40}.get(dtype, 2**62 + 1)
    data = np.zeros(SHAPE, dtype)
    data[4:9, 3:8], data[10:] = largest, 7
    grid = geometry().resized(48)
    found = resample_onto(data, geometry(), grid, order=0)
    assert found.dtype == dtype and set(np.unique(found)) == {dtype(0), dtype(7), dtype(largest)}
    np.testing.assert_array_equal(resample_onto(data, geometry(), geometry(), order=0), data)


def test_on_a_device(xp):
    data = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    moved = resample_onto(xp.asarray(data), geometry(), geometry().resized(20))
    assert array_module(moved) is xp
    np.testing.assert_allclose(
        to_numpy(moved), resample_onto(data, geometry(), geometry().resized(20)), rtol=1e-5
    )

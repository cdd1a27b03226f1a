"""Where voxels are: NIfTI affines, resampling onto another grid, intensities at the door."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SCALE_PERCENTILE = 99.5


@dataclass(frozen=True)
class Geometry:
    """Grid of an image in scanner space: shape and voxel-to-RAS affine (4 x 4)."""

    shape: tuple
    affine: tuple

    @classmethod
    def of(cls, image):
        """Geometry of a nibabel image."""
        return cls(tuple(image.shape[:3]), tuple(map(tuple, np.asarray(image.affine, float))))

    @property
    def matrix(self):
        """The affine as an array."""
        return np.asarray(self.affine)

    @property
    def spacing(self):
        """mm per voxel along each array axis."""
        return tuple(float(h) for h in np.linalg.norm(self.matrix[:3, :3], axis=0))

    @property
    def directions(self):
        """Unit vectors (RAS) of the array axes, as columns."""
        return self.matrix[:3, :3] / np.asarray(self.spacing)

    def spacing_along(self, other):
        """mm per voxel along the axes of another grid: of the axis nearest to each of them."""
        nearest = np.argmax(np.abs(other.directions.T @ self.directions), axis=1)
        return tuple(self.spacing[axis] for axis in nearest)

    def seen_through(self, transform):
        """Where the voxels are in a space whose points `transform` (4 x 4, RAS) takes to this one.

        An image that an affine aligns with a template is thus read as one in template space,
        without being resampled.
        """
        matrix = np.linalg.inv(transform) @ self.matrix
        return Geometry(self.shape, tuple(map(tuple, matrix)))

    def resized(self, points):
        """The same field of view, its longest axis on `points` voxels, spacing as isotropic as
        whole voxels allow; or on a shape, where `points` is a tuple."""
        extent = np.asarray(self.spacing) * self.shape
        shape = points
        if not isinstance(points, tuple):
            shape = tuple(max(1, round(float(e))) for e in points * extent / extent.max())
        spacing = extent / shape
        scale = np.diag([*(spacing / self.spacing), 1.0])
        scale[:3, 3] = 0.5 * (np.diag(scale)[:3] - 1)  # corners stay where they are
        return Geometry(shape, tuple(map(tuple, self.matrix @ scale)))

    def matches(self, other):
        """Whether two images share one grid (to a thousandth of a voxel)."""
        return self.shape == other.shape and np.allclose(
            self.matrix, other.matrix, atol=1e-3 * min(self.spacing)
        )


def is_nibabel(image):
    """Whether an argument is a nibabel image, without importing nibabel."""
    return hasattr(image, "dataobj") and hasattr(image, "affine")


def foreground_scale(data):
    """99.5th percentile of the non-zero voxels: what an image is divided by."""
    inside = data[data != 0]
    return float(np.percentile(inside, SCALE_PERCENTILE)) if inside.size else 1.0


def smoothed_for(data, geometry, spacing):
    """Data blurred for sampling at a coarser `spacing`, so that fine detail does not alias.

    A Gaussian whose full width at half maximum, added in squares to a voxel of `geometry`, makes
    one of `spacing` (mm); nothing along an axis that is not coarser.
    """
    width = [
        math.sqrt(max(h**2 - g**2, 0.0)) / (math.sqrt(8 * math.log(2)) * g)
        for h, g in zip(spacing, geometry.spacing, strict=True)
    ]
    return ndimage.gaussian_filter(data, width, mode="constant")


def resample_onto(data, geometry, target, displacement=None, order=1, grid=None):
    """Sample `data` (NumPy, on `geometry`) at the voxels of `target`, moved by a displacement.

    Parameters
    ----------
    data : ndarray, shape geometry.shape
    geometry, target : Geometry
    displacement : ndarray, shape (3, *grid.shape), optional
        In mm along the array axes of `grid`; the data are interpolated once, through affines
        and displacement together.
    order : {0, 1}
    grid : Geometry, optional
        Where the displacement lives, if not on `target`; zero beyond it, as in ITK.

    Returns
    -------
    ndarray, shape target.shape
        Zero outside the field of view of `data`, as in ITK.
    """
    points = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij")).astype(np.float64)
    if grid is not None and not grid.matches(target):
        points = _transform(target.matrix, points)
        at = _transform(np.linalg.inv(grid.matrix), points)
        moved = [ndimage.map_coordinates(u, at, order=1, mode="constant") for u in displacement]
        points += np.tensordot(grid.directions, np.stack(moved), axes=1)
        where = _transform(np.linalg.inv(geometry.matrix), points)
    else:
        if displacement is not None:
            points += displacement / np.reshape(target.spacing, (3, 1, 1, 1))
        where = _transform(np.linalg.inv(geometry.matrix) @ target.matrix, points)
    return ndimage.map_coordinates(data, where, order=order, mode="constant", cval=0.0)


def _transform(matrix, points):
    """A 4 x 4 matrix applied to points (3, …)."""
    return np.tensordot(matrix[:3, :3], points, axes=1) + matrix[:3, 3].reshape(3, 1, 1, 1)

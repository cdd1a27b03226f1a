"""Where voxels are: NIfTI affines, resampling onto another grid, intensities at the door."""

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


def resample_onto(data, geometry, target, displacement=None, order=1):
    """Sample `data` (NumPy, on `geometry`) at the voxels of `target`, moved by a displacement.

    Parameters
    ----------
    data : ndarray, shape geometry.shape
    geometry, target : Geometry
    displacement : ndarray, shape (3, *target.shape), optional
        In mm along the array axes of `target`; the data are interpolated once, through affines
        and displacement together.
    order : {0, 1}

    Returns
    -------
    ndarray, shape target.shape
        Zero outside the field of view of `data`, as in ITK.
    """
    points = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij")).astype(np.float64)
    if displacement is not None:
        points += displacement / np.reshape(target.spacing, (3, 1, 1, 1))
    to_source = np.linalg.inv(geometry.matrix) @ target.matrix
    where = np.tensordot(to_source[:3, :3], points, axes=1) + to_source[:3, 3, None, None, None]
    return ndimage.map_coordinates(data, where, order=order, mode="constant", cval=0.0)

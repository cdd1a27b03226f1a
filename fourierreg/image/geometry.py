"""Positions of voxels: NIfTI affines, resampling onto another grid, scaling of intensities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage


@dataclass(frozen=True)
class Geometry:
    """Grid of a 3D image in scanner space.

    Attributes
    ----------
    shape : tuple of int
    affine : tuple of tuple of float
        4 x 4 matrix from voxel indices to RAS coordinates in mm.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, image: Any) -> "Geometry":
        """Geometry of a nibabel image."""
        return cls(tuple(image.shape[:3]), _as_tuples(image.affine))

    @property
    def matrix(self) -> np.ndarray:
        """The affine as an array."""
        return np.asarray(self.affine)

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per voxel along each array axis."""
        return tuple(float(h) for h in np.linalg.norm(self.matrix[:3, :3], axis=0))

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors (RAS) of the array axes, as columns."""
        return self.matrix[:3, :3] / np.asarray(self.spacing)

    def spacing_along(self, other: "Geometry") -> tuple[float, ...]:
        """Spacing of this grid in the axis order of another: for each axis of the other grid, that
        of the axis nearest to it in direction."""
        nearest = np.argmax(np.abs(other.directions.T @ self.directions), axis=1)
        return tuple(self.spacing[axis] for axis in nearest)

    def aligned_by(self, transform: np.ndarray) -> "Geometry":
        """Geometry after alignment by an affine, without resampling.

        Parameters
        ----------
        transform : array, shape (4, 4)
            Maps points (RAS) of the fixed space, for instance that of a template, to the space of
            this image.

        Returns
        -------
        Geometry
            The same voxels with their positions in the fixed space.
        """
        return Geometry(self.shape, _as_tuples(np.linalg.inv(transform) @ self.matrix))

    def resized(self, size: int | tuple[int, ...]) -> "Geometry":
        """Grid of another size over the same field of view.

        Parameters
        ----------
        size : int or tuple of int
            Voxels along the longest axis, the spacing being as isotropic as whole voxels allow; or
            a shape.
        """
        extent = np.asarray(self.spacing) * self.shape
        if isinstance(size, tuple):
            shape = size
        else:
            shape = tuple(max(1, round(float(e))) for e in size * extent / extent.max())
        spacing = extent / shape
        scale = np.diag([*(spacing / self.spacing), 1.0])
        scale[:3, 3] = 0.5 * (np.diag(scale)[:3] - 1)  # keeps the corners of the field of view
        return Geometry(shape, _as_tuples(self.matrix @ scale))

    def matches(self, other: "Geometry") -> bool:
        """Whether two grids are the same, to a thousandth of a voxel."""
        return self.shape == other.shape and np.allclose(
            self.matrix, other.matrix, atol=1e-3 * min(self.spacing)
        )


def _as_tuples(matrix: ArrayLike) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.asarray(matrix, float)))


def is_nibabel(image: object) -> bool:
    """Whether an argument is a nibabel image, without importing nibabel."""
    return hasattr(image, "dataobj") and hasattr(image, "affine")


def smoothed_for(data: np.ndarray, geometry: Geometry, spacing: Sequence[float]) -> np.ndarray:
    """Smooth an image before it is sampled at a coarser spacing, to prevent aliasing.

    The full width at half maximum of the Gaussian kernel is √(h² - g²) along each axis, where h is
    the coarser `spacing` (mm) and g that of `geometry`; axes that are not coarser are not smoothed.
    """
    width = [
        math.sqrt(max(h**2 - g**2, 0.0)) / (math.sqrt(8 * math.log(2)) * g)
        for h, g in zip(spacing, geometry.spacing, strict=True)
    ]
    return ndimage.gaussian_filter(data, width, mode="constant")


def resample_onto(
    data: np.ndarray,
    geometry: Geometry,
    target: Geometry,
    displacement: np.ndarray | None = None,
    order: int = 1,
    grid: Geometry | None = None,
    extend: bool = False,
) -> np.ndarray:
    """Resample an image onto the grid of a target, through the affines and a displacement.

    Parameters
    ----------
    data : ndarray, shape geometry.shape
    geometry, target : Geometry
        Of `data`, and of the result.
    displacement : ndarray, shape (3, *grid.shape), optional
        In mm along the array axes of `grid`. The data are interpolated once, through affines and
        displacement together.
    order : {0, 1}
        Nearest voxel, or linear interpolation.
    grid : Geometry, optional
        Grid of the displacement, `target` by default; the displacement is zero beyond it, as in
        ITK.
    extend : bool
        Continue the outermost voxels of `data` beyond its field of view.

    Returns
    -------
    ndarray, shape target.shape
        Zero outside the field of view of `data`, as in ITK, unless it is extended.
    """
    points = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij")).astype(np.float64)
    if grid is not None and displacement is not None and not grid.matches(target):
        points = _transform(target.matrix, points)
        at = _transform(np.linalg.inv(grid.matrix), points)
        moved = [ndimage.map_coordinates(u, at, order=1, mode="constant") for u in displacement]
        points += np.tensordot(grid.directions, np.stack(moved), axes=1)
        where = _transform(np.linalg.inv(geometry.matrix), points)
    else:
        if displacement is not None:
            points += displacement / np.reshape(target.spacing, (3, 1, 1, 1))
        where = _transform(np.linalg.inv(geometry.matrix) @ target.matrix, points)
    mode = "nearest" if extend else "constant"
    return ndimage.map_coordinates(data, where, order=order, mode=mode, cval=0.0)


def _transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 4 x 4 matrix to points (3, …)."""
    return np.tensordot(matrix[:3, :3], points, axes=1) + matrix[:3, 3].reshape(3, 1, 1, 1)

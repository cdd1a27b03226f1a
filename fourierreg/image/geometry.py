"""Positions of voxels: NIfTI affines, resampling onto another grid, scaling of intensities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from fourierreg.backend import Array, array_module
from fourierreg.image.headers import DEFAULT_CODES, MM, unit_and_codes
from fourierreg.image.voxels import sample


@dataclass(frozen=True)
class Geometry:
    """Grid of a 3D image in scanner space.

    Attributes
    ----------
    shape : tuple of int
    affine : tuple of tuple of float
        4 x 4 matrix from voxel indices to RAS coordinates in mm.
    unit : {"mm", "unknown", "micron", "meter"}
        Of the coordinates in the header that it was read from.
    codes : tuple of two int
        Of the qform and the sform there.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    unit: str = "mm"
    codes: tuple[int, int] = DEFAULT_CODES

    @classmethod
    def of(cls, image: Any, name: str = "image") -> "Geometry":
        """Geometry of a nibabel image.

        Raises
        ------
        InputError
            Its header is read differently by different programs (`unit_and_codes`); the line
            starts with `name`.
        """
        unit, codes = unit_and_codes(image, name)
        affine = np.array(image.affine, dtype=float)
        affine[:3] *= MM[unit]
        return cls(tuple(image.shape[:3]), _as_tuples(affine), unit, codes)

    def image(self, data: np.ndarray) -> Any:
        """NIfTI image of an array on this grid, with the unit and the codes of its header."""
        import nibabel as nib

        affine = self.matrix.copy()
        affine[:3] /= MM[self.unit]
        image = nib.Nifti1Image(data, affine, dtype=data.dtype)
        image.header.set_xyzt_units("mm" if self.unit == "unknown" else self.unit)
        for set_form, code in zip((image.set_qform, image.set_sform), self.codes, strict=True):
            set_form(affine if code else None, code)
        return image

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
        return replace(self, shape=shape, affine=_as_tuples(self.matrix @ scale))

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
    data: Array,
    geometry: Geometry,
    target: Geometry,
    displacement: Array | None = None,
    order: int = 1,
    grid: Geometry | None = None,
    extend: bool = False,
    fill: float = 0.0,
) -> Array:
    """Resample an image onto the grid of a target, through the affines and a displacement.

    An image reaches half a voxel beyond the centers of its outermost voxels, where these are
    continued, as in ITK.

    Parameters
    ----------
    data : array, shape geometry.shape
        The result is of its dtype, but that of integers interpolated linearly is float32.
    geometry, target : Geometry
        Of `data`, and of the result.
    displacement : array, shape (3, *grid.shape), optional
        In mm along the array axes of `grid`, where `data` lives. The data are interpolated once,
        through affines and displacement together.
    order : {0, 1}
        Nearest voxel, or linear interpolation.
    grid : Geometry, optional
        Grid of the displacement, `target` by default; the displacement is zero beyond it, as in
        ITK.
    extend : bool
        Continue the outermost voxels of `data` beyond its field of view.
    fill : float
        The value there otherwise.

    Returns
    -------
    array, shape target.shape
    """
    xp = array_module(data)
    if order == 0 and data.dtype.kind in "iub" and not exact_in_float64(data):
        codes = xp.unique(data)
        found = resample_onto(
            xp.searchsorted(codes, data).astype(np.float64) + 1,
            *(geometry, target, displacement, 0, grid, extend, 0.0),
        ).astype(np.int64)
        return xp.where(found > 0, codes[xp.maximum(found - 1, 0)], data.dtype.type(fill))
    wide = data.dtype == np.float64 or (order == 0 and data.dtype != np.float32)
    kind = np.float64 if wide else np.float32
    to_data = np.linalg.inv(geometry.matrix)
    if displacement is None:
        directions = np.zeros((3, 3))
        u = xp.zeros((3, *target.shape), dtype=kind)
    else:
        grid = target if grid is None else grid
        directions = grid.directions
        u = xp.ascontiguousarray(displacement.astype(kind, copy=False))
        if not grid.matches(target):
            resampled = [resample_onto(component, grid, target) for component in u]
            u = xp.stack(resampled)
    to_voxel = to_data @ target.matrix
    mapping = np.hstack([to_voxel[:3], to_data[:3, :3] @ directions])
    image = xp.ascontiguousarray(data.astype(kind, copy=False))
    found = sample(
        image, u, xp.asarray(mapping), nearest=order == 0, extend=extend, fill=float(fill)
    )
    keep = data.dtype.kind == "f" or order == 0
    return found.astype(data.dtype, copy=False) if keep else found


def exact_in_float64(data: Array) -> bool:
    """Whether every integer of an array is a float64 too."""
    if data.dtype.itemsize < 8 or not data.size:
        return True
    return max(abs(int(data.max())), abs(int(data.min()))) <= 2**53

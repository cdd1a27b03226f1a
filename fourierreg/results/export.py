"""The map of a registration in the files of other programs.

All say the same: where, in the space of the source, the value of each voxel of the output grid is
taken from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from fourierreg import checks
from fourierreg.atomic import temporary_path
from fourierreg.data.affines import RAS_TO_LPS, from_fsl
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry
from fourierreg.image.points import move_points
from fourierreg.preparation.affine import to_itk
from fourierreg.registration.result import Registration
from fourierreg.results.folder import itk_field


@dataclass(frozen=True)
class PointMap:
    """Where the voxels of one grid are in another space.

    Attributes
    ----------
    points : array, (N_1, N_2, N_3, 3)
        Of every voxel of `grid`, RAS mm in the space of `moving`.
    grid, moving : Geometry
        Of the output, and of the image that is sampled.
    """

    points: np.ndarray
    grid: Geometry
    moving: Geometry

    @property
    def displacements(self) -> np.ndarray:
        """`points` minus the positions of the voxels, RAS mm."""
        return self.points - _positions(self.grid)


def point_map(
    result: Registration,
    *,
    inverse: bool = False,
    moving: Geometry | None = None,
    moving_affine: np.ndarray | None = None,
    grid: Geometry | None = None,
    grid_affine: np.ndarray | None = None,
) -> PointMap:
    """Map of a registration, and of affines before and after it, at the voxels of a grid.

    Parameters
    ----------
    result : Registration
        With geometry.
    inverse : bool
        The map that deforms images of the target onto the source.
    moving : Geometry, optional
        Grid of the image that is sampled, by default that of the source (of the target for the
        inverse).
    moving_affine : array, (4, 4), optional
        Where that is an unprepared scan: from the space of the registration to that of the scan,
        RAS mm.
    grid : Geometry, optional
        Of the output, by default that of the target (of the source for the inverse).
    grid_affine : array, (4, 4), optional
        Where that is of an unprepared scan: from the space of the registration to that of the scan.
    """
    target: Any = result.geometry
    ends = (result.source_geometry or target, target)
    sampled, written = reversed(ends) if inverse else ends
    sampled, written = moving or sampled, grid or written
    x = _positions(written).reshape(-1, 3)
    if grid_affine is not None:
        x = apply_affine(np.linalg.inv(grid_affine), x)
    u = result.inverse_displacement if inverse else result.displacement
    y = move_points(x, u, target)
    if moving_affine is not None:
        y = apply_affine(moving_affine, y)
    return PointMap(y.reshape(*written.shape, 3), written, sampled)


def export(mapped: PointMap, program: str, path: Path | str) -> None:
    """Write a map for another program; the file is written whole or not at all.

    Parameters
    ----------
    mapped : PointMap
    program : str
        One of `FORMATS`.
    path : path
        With the suffix of that format.

    Raises
    ------
    InputError
        The format is unknown, or the path has another suffix.
    MissingDependencyError
        The library that writes the format is not installed.
    """
    checks.choice("program", program, tuple(FORMATS))
    suffix, write = FORMATS[program]
    if not str(path).endswith(suffix):
        raise InputError(f"path: expected a name ending in {suffix} for {program}; got {path}")
    with temporary_path(path) as name:
        write(mapped, name)


def _positions(grid: Geometry) -> np.ndarray:
    """RAS mm of all voxels, (N_1, N_2, N_3, 3)."""
    return apply_affine(grid.matrix, np.moveaxis(np.indices(grid.shape), 0, -1))


def _nifti(vectors: np.ndarray, grid: Geometry, intent: str | int) -> nib.Nifti1Image:
    """Vectors at the voxels of a grid, in a header in mm."""
    image = replace(grid, unit="mm").image(vectors.astype(np.float32))
    image.header.set_intent(intent)
    return image


def _write_ants(mapped: PointMap, path: str) -> None:
    ras = np.moveaxis(mapped.displacements, -1, 0)
    nib.save(itk_field(ras, replace(mapped.grid, unit="mm")), path)


def _write_itk(mapped: PointMap, path: str) -> None:
    sitk = checks.required("SimpleITK", "export")
    lps = np.moveaxis(mapped.displacements * np.diag(RAS_TO_LPS)[:3], -1, 0)
    field = sitk.Compose(*[to_itk(component, mapped.grid) for component in lps])
    sitk.WriteTransform(sitk.DisplacementFieldTransform(field), path)


def _write_fsl(mapped: PointMap, path: str) -> None:
    """Relative warp of applywarp: both ends in FSL's mm of their own image."""
    sampled = apply_affine(np.linalg.inv(from_fsl(mapped.moving)), mapped.points)
    written = apply_affine(np.linalg.inv(from_fsl(mapped.grid)), _positions(mapped.grid))
    nib.save(_nifti(sampled - written, mapped.grid, "fnirt disp field"), path)


def _write_mrtrix(mapped: PointMap, path: str) -> None:
    """Deformation field of mrtransform: positions in scanner space."""
    nib.save(_nifti(mapped.points, mapped.grid, "none"), path)


def _write_spm(mapped: PointMap, path: str) -> None:
    """Deformation of SPM (``y_….nii``): positions in mm."""
    nib.save(_nifti(mapped.points[:, :, :, None], mapped.grid, "vector"), path)


def _write_freesurfer(mapped: PointMap, path: str) -> None:
    """Warp of FreeSurfer 7.4 and later, as displacements in voxels."""
    surfa = checks.required("surfa", "export")
    sampled = apply_affine(np.linalg.inv(mapped.moving.matrix), mapped.points)
    voxels = np.moveaxis(np.indices(mapped.grid.shape), 0, -1)
    ends = [
        surfa.ImageGeometry(shape=end.shape, vox2world=end.matrix)
        for end in (mapped.moving, mapped.grid)
    ]
    offsets = (sampled - voxels).astype(np.float32)
    surfa.Warp(offsets, *ends, format=surfa.Warp.Format.disp_crs).save(path)


def _write_x5(mapped: PointMap, path: str) -> None:
    checks.required("nitransforms", "export")
    from nitransforms.io import x5
    from nitransforms.nonlinear import DenseFieldTransform

    field = replace(mapped.grid, unit="mm").image(mapped.displacements.astype(np.float32))
    x5.to_filename(path, [DenseFieldTransform(field).to_x5()])


# Suffix of the file, and what writes it.
FORMATS: Mapping[str, tuple[str, Callable[[PointMap, str], None]]] = {
    "itk-h5": (".h5", _write_itk),
    "ants": (".nii.gz", _write_ants),
    "fsl": (".nii.gz", _write_fsl),
    "mrtrix": (".nii.gz", _write_mrtrix),
    "spm": (".nii", _write_spm),
    "freesurfer": (".mgz", _write_freesurfer),
    "bids-x5": (".x5", _write_x5),
}

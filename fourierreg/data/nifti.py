"""NIfTI files: reading with validation, checksums, and resampling to a given size."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto, smoothed_for


def sha256(path: Path | str) -> str:
    """SHA-256 digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_image(
    path: Path | str, name: str, labels_option: str = "--source-labels"
) -> nib.Nifti1Image:
    """Read a 3D image with finite intensities that vary.

    Parameters
    ----------
    path : path
    name : str
        Argument named in an error ("source", "target").
    labels_option : str
        Option that takes label maps, named in an error.

    Returns
    -------
    nibabel.Nifti1Image
        With its voxels in memory as float32.

    Raises
    ------
    InputError
        The file is missing or unreadable, its header is invalid, or it is not an intensity image.
    """
    geometry, data = _read(path, name)
    data = data.astype(np.float32)
    if not np.all(np.isfinite(data)):
        bad = int(np.sum(~np.isfinite(data)))
        raise InputError(
            f"{name}: {path} has {bad} NaN or infinite voxels; replace them (numpy.nan_to_num)"
        )
    if data.min() == data.max():
        raise InputError(f"{name}: every voxel of {path} equals {data.flat[0]:g}; give an image")
    if _looks_like_labels(data):
        raise InputError(
            f"{name}: {path} looks like a label map ({len(np.unique(data))} integer values in "
            f"large constant regions); give the intensity image, and labels by {labels_option}"
        )
    return geometry.image(data)


def read_geometry(path: Path | str, name: str) -> Geometry:
    """Read the grid of a 3D image of any content.

    Raises
    ------
    InputError
        The file is missing or unreadable, or its header is invalid.
    """
    return _read(path, name)[0]


def read_labels(path: Path | str, name: str) -> nib.Nifti1Image:
    """Read a 3D label map; integer dtypes are kept, floating-point labels become int32.

    Raises
    ------
    InputError
        The file is missing or unreadable, its header is invalid, or a value is not an integer.
    """
    geometry, data = _read(path, name)
    rounded = np.rint(data)
    if not np.array_equal(rounded, data):
        raise InputError(f"{name}: {path} has non-integer values; give a label map")
    if data.dtype.kind == "f":
        data = data.astype(np.int32)
    return geometry.image(data)


def resized(image: Any, size: int | tuple[int, ...] | None) -> Any:
    """Resample an image to a size with the same field of view.

    Parameters
    ----------
    image : nibabel image
    size : int, tuple of int or None
        Number of voxels of the longest axis, or the new shape. None returns the image unchanged.
    """
    if size is None or size in (max(image.shape), tuple(image.shape)):
        return image
    geometry = Geometry.of(image)
    grid = geometry.resized(size)
    data = smoothed_for(np.asarray(image.dataobj, dtype=np.float32), geometry, grid.spacing)
    resampled = resample_onto(data, geometry, grid).astype(np.float32)
    return grid.image(resampled)


def _read(path: Path | str, name: str) -> tuple[Geometry, np.ndarray]:
    """Read the grid of an image and its voxels, validating dimensions and header."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{name}: no file {path}; check the path")
    image, data = _load(path, name)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(
            f"{name}: {path} has shape {data.shape}, expected three axes; extract one volume "
            "(fslroi, nibabel slicer)"
        )
    affine = np.asarray(image.affine, dtype=float)
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(
            f"{name}: the affine of {path} is singular or has a zero voxel size; repair the "
            "header (sform/qform)"
        )
    zooms = image.header.get_zooms()[:3]
    if not all(np.isfinite(z) and z > 0 for z in zooms):
        raise InputError(f"{name}: {path} has voxel sizes {zooms}; repair the header (pixdim)")
    return Geometry.of(image, name), data


def _load(path: Path, name: str) -> tuple[Any, np.ndarray]:
    """Load a single-channel image with nibabel, reading all its voxels."""
    try:
        image: Any = nib.load(path)
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise InputError(
                f"{name}: {path} is not a volume image ({type(image).__name__}); give a NIfTI image"
            )
        voxels: Any = image.dataobj
        if voxels.dtype.fields is not None:
            raise InputError(f"{name}: {path} is an RGB image; convert it to a single channel")
        return image, np.asanyarray(voxels)
    except InputError:
        raise
    except (nib.filebasedimages.ImageFileError, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: {path} is not a NIfTI image ({error})") from error
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise InputError(
            f"{name}: {path} cannot be read to its end ({error}); it may be truncated: copy it "
            "again"
        ) from error


def _looks_like_labels(data: np.ndarray) -> bool:
    """Whether all values are integers and most foreground voxels equal their next neighbor."""
    if not np.array_equal(np.rint(data), data):
        return False
    inside = data[1:-1, 1:-1, 1:-1] != 0
    if inside.sum() < 50:
        return False
    same = (data[1:-1, 1:-1, 1:-1] == data[2:, 1:-1, 1:-1]) & inside
    return bool(same.sum() > 0.5 * inside.sum()) and len(np.unique(data)) < 5000

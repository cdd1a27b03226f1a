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

MAX_LABELS = 5000
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def sha256(path: Path | str) -> str:
    """SHA-256 digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_image(path: Path | str, name: str) -> nib.Nifti1Image:
    """Read a 3D image with finite intensities that vary.

    Parameters
    ----------
    path : path
    name : str
        Argument named in an error ("source", "target").

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
    if looks_like_labels(data):
        raise InputError(
            f"{name}: {path} looks like a label map ({len(np.unique(data))} integer values in "
            f"large constant regions); give the intensity image, and labels by --source-labels"
        )
    return geometry.image(data)


def read_geometry(path: Path | str, name: str) -> Geometry:
    """Read the grid of a 3D image of any content, or of the volumes of a 4D one.

    Raises
    ------
    InputError
        The file is missing or unreadable, or its header is invalid.
    """
    return _read(path, name, volumes=True)[0]


def read_labels(path: Path | str, name: str) -> nib.Nifti1Image:
    """Read a 3D label map; integer dtypes are kept, floating-point labels become integers.

    Raises
    ------
    InputError
        The file is missing or unreadable, its header is invalid, or a value is not an integer.
    """
    geometry, data = _read(path, name)
    return geometry.image(_as_labels(data, path, name))


def read_any(path: Path | str, name: str, labels: bool) -> nib.Nifti1Image:
    """Read a 3D image of any content, or a 4D one of several volumes.

    Parameters
    ----------
    path : path
    name : str
        Argument named in an error.
    labels : bool
        Whether it is a label map, as in `read_labels`; else its voxels become float32.

    Raises
    ------
    InputError
        As by `read_labels`; or an image is a label map and should not be.
    """
    geometry, data = _read(path, name, volumes=True)
    if labels:
        return _series(geometry.image(_as_labels(data, path, name)), path)
    data = data.astype(np.float32)
    if np.any(np.isinf(data)):
        raise InputError(f"{name}: {path} has infinite voxels; replace them (numpy.nan_to_num)")
    if looks_like_labels(data if data.ndim == 3 else data[..., 0]):
        raise InputError(
            f"{name}: {path} looks like a label map (a few integers, in large constant regions): "
            "add --labels, which keeps them; or give it as floating-point numbers with fractions"
        )
    return _series(geometry.image(data), path)


def _series(image: nib.Nifti1Image, path: Path | str) -> nib.Nifti1Image:
    """A 4D image with the time between volumes that a file has, and its unit."""
    header = nib.load(path).header
    if image.ndim == 4 and isinstance(header, nib.Nifti1Header):
        copy_time(header, image.header)
    return image


def copy_time(header: nib.Nifti1Header, other: nib.Nifti1Header) -> None:
    """Give another header the time between volumes, and its unit."""
    other["pixdim"][4] = header["pixdim"][4]
    other["xyzt_units"] = (int(other["xyzt_units"]) & 7) | (int(header["xyzt_units"]) & 56)


def _as_labels(data: np.ndarray, path: Path | str, name: str) -> np.ndarray:
    """Integers, of a dtype that holds them."""
    if data.dtype.kind in "iub":
        return data
    if not np.array_equal(np.rint(data), data):
        raise InputError(
            f"{name}: {path} has values that are not integers; give a label map or a mask "
            "(threshold a probability map first)"
        )
    largest = float(np.abs(data).max(initial=0))
    if largest > 2**53:
        raise InputError(
            f"{name}: {path} has labels beyond 2^53, which floating-point numbers do not hold; "
            "save it as integers"
        )
    return data.astype(np.int32 if largest < 2**31 else np.int64)


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


def _read(path: Path | str, name: str, volumes: bool = False) -> tuple[Geometry, np.ndarray]:
    """Read the grid of an image and its voxels, validating dimensions and header.

    With `volumes` it may have a fourth axis.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{name}: no file {path}; check the path")
    image, data = _load(path, name)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3 and not (volumes and data.ndim == 4):
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
        if path.suffix.lower() in PICTURES:
            raise InputError(
                f"{name}: {path} is a picture; pictures and single slices are registered from "
                "Python, as arrays of gray values: fourierreg.map_alpha(source, target, spacing=…)"
            ) from error
        raise InputError(f"{name}: {path} is not a NIfTI image ({error})") from error
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise InputError(
            f"{name}: {path} cannot be read to its end ({error}); it may be truncated: copy it "
            "again"
        ) from error


def looks_like_labels(data: np.ndarray) -> bool:
    """Whether all values are integers, few of them and in regions: most foreground voxels equal
    their next neighbor.

    The background is the most frequent value: in computed tomography it is not zero.
    """
    if not np.array_equal(np.rint(data), data):
        return False
    values, counts = np.unique(data, return_counts=True)
    if values.size > MAX_LABELS:
        return False
    background = values[np.argmax(counts)]
    inner = tuple(slice(1, -1) if n > 2 else slice(None) for n in data.shape)
    core, inside = data[inner], data[inner] != background
    if inside.sum() < 50:
        return False
    nearest = np.roll(data, -1, axis=0)[inner]
    return bool(((core == nearest) & inside).sum() > 0.5 * inside.sum())

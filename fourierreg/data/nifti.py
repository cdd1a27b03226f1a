"""NIfTI files: read, refusing with one line what is not a 3D image, and brought to a size."""

import gzip
import hashlib
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto, smoothed_for


def sha256(path):
    """Digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_image(path, name, labels="--source-labels"):
    """A 3D image with finite, varied intensities.

    Parameters
    ----------
    path : path
    name : str
        What to call it in an error ("source", "target").
    labels : str
        Option that takes label maps, for an error.

    Returns
    -------
    nibabel.Nifti1Image
        Voxels read into memory, float32.
    """
    image, data = _read(path, name)
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
            f"large constant regions); give the intensity image, and labels by {labels}"
        )
    return nib.Nifti1Image(data, image.affine)


def read_grid(path, name):
    """`Geometry` of a 3D image, whatever it shows."""
    image, data = _read(path, name)
    return Geometry(data.shape, tuple(map(tuple, np.asarray(image.affine, float))))


def read_labels(path, name):
    """A 3D label map, dtype as stored.

    Returns
    -------
    nibabel.Nifti1Image
    """
    image, data = _read(path, name)
    rounded = np.rint(data)
    if not np.array_equal(rounded, data):
        raise InputError(f"{name}: {path} has values that are no integers; give a label map")
    if data.dtype.kind == "f":
        data = data.astype(np.int32)
    return nib.Nifti1Image(data, image.affine, dtype=data.dtype)


def resized(image, size):
    """An image resampled so that its longest axis has `size` voxels, or to a shape given as a
    tuple; its field of view is kept."""
    if size is None or size in (max(image.shape), tuple(image.shape)):
        return image
    geometry = Geometry.of(image)
    grid = geometry.resized(size)
    data = smoothed_for(np.asarray(image.dataobj, dtype=np.float32), geometry, grid.spacing)
    moved = resample_onto(data, geometry, grid).astype(np.float32)
    return type(image)(moved, grid.matrix)


def _read(path, name):
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{name}: no file {path}; check the path")
    try:
        image = nib.load(path)
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise InputError(f"{name}: {path} holds no volume ({type(image).__name__})")
        if image.dataobj.dtype.fields is not None:
            raise InputError(f"{name}: {path} is an RGB image; convert it to a single channel")
        data = np.asanyarray(image.dataobj)
    except InputError:
        raise
    except (nib.filebasedimages.ImageFileError, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: {path} is not a NIfTI image ({error})") from error
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise InputError(
            f"{name}: {path} cannot be read to its end ({error}); it may be truncated: copy it "
            "again"
        ) from error
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
    return image, data


def _looks_like_labels(data):
    """Few integer values in constant regions: most voxels equal their neighbours off background."""
    if not np.array_equal(np.rint(data), data):
        return False
    inside = data[1:-1, 1:-1, 1:-1] != 0
    if inside.sum() < 50:
        return False
    same = (data[1:-1, 1:-1, 1:-1] == data[2:, 1:-1, 1:-1]) & inside
    return same.sum() > 0.5 * inside.sum() and len(np.unique(data)) < 5000

"""Output folder of one registration: images, ITK warps, a figure, and ``result.json``."""

import contextlib
import errno
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import nibabel as nib
import numpy as np

from fourierreg.atomic import temporary_path, write_json
from fourierreg.backend import Array, to_numpy
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.registration.result import Registration
from fourierreg.results.figures import save_overview
from fourierreg.results.record import RECORD

VELOCITY = "velocity.npz"


def make_output_folder(path: Path | str) -> Path:
    """Create an output folder and check that it is writable, before any computation.

    Raises
    ------
    InputError
        The folder cannot be created or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise InputError(
            f"--output: cannot write to {folder} ({error.strerror}); choose another folder"
        ) from error
    return folder


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep an output folder from other runs, within a ``with`` block.

    Raises
    ------
    InputError
        Another run has it.
    """
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(
            f"--output: another run is writing to {folder}; wait for it, or choose another folder"
        ) from error
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)
        lock.release()


def disk_error(folder: Path, error: OSError) -> InputError:
    """`InputError` for a failed write of results, such as to a full disk."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
    return InputError(f"--output: cannot write to {folder} ({reason}); free space and run again")


def warp_field(displacement: Array, geometry: Geometry) -> nib.Nifti1Image:
    """Displacement field in the format of ITK: 5D NIfTI, vector intent (1007), mm, LPS.

    Parameters
    ----------
    displacement : array, (3, N_1, N_2, N_3), mm along the array axes
    geometry : Geometry
        Grid of the displacement.
    """
    return itk_field(np.tensordot(geometry.directions, to_numpy(displacement), axes=1), geometry)


def itk_field(ras: np.ndarray, geometry: Geometry) -> nib.Nifti1Image:
    """The same of displacements, (3, N_1, N_2, N_3), in RAS mm."""
    lps = ras * np.array([-1.0, -1.0, 1.0]).reshape(3, 1, 1, 1)
    data = np.moveaxis(lps, 0, -1)[:, :, :, None, :].astype(np.float32)
    image = geometry.image(data)
    image.header.set_intent("vector")
    return image


def scalar_image(data: Array, geometry: Geometry, dtype: Any = None) -> nib.Nifti1Image:
    """NIfTI image of an array on a grid, converted to `dtype` if given."""
    data = to_numpy(data)
    return geometry.image(data if dtype is None else data.astype(dtype))


def save_nifti(image: nib.Nifti1Image, path: Path | str) -> None:
    """Write a NIfTI file atomically."""
    with temporary_path(path) as name:
        nib.save(image, name)


def apply_registration(
    result: Registration,
    data: np.ndarray,
    geometry: Geometry,
    *,
    inverse: bool = False,
    order: int = 1,
    reference: Geometry | None = None,
    fill: float = 0.0,
) -> np.ndarray:
    """Deform an image by a saved registration, with a single interpolation.

    Parameters
    ----------
    result : Registration
        With geometry.
    data : ndarray, ``geometry.shape`` or ``(*geometry.shape, volumes)``
    geometry : Geometry
        Grid of `data`.
    inverse : bool
        Deform an image in target space to source space.
    order : {0, 1}
        Nearest neighbor or linear interpolation.
    reference : Geometry, optional
        Grid of the output; by default that of the target, or of the source for the inverse.
    fill : float
        Value outside the field of view of `data`.

    Returns
    -------
    ndarray
        With the dtype of `data` for order 0, float32 for order 1.
    """
    u = to_numpy(result.inverse_displacement if inverse else result.displacement)
    grid: Any = result.geometry
    if reference is None:
        reference = (result.source_geometry if inverse else None) or grid
    volumes = data[..., None] if data.ndim == 3 else data
    moved = np.stack(
        [
            resample_onto(volume, geometry, reference, u, order=order, grid=grid, fill=fill)
            for volume in np.moveaxis(volumes, -1, 0)
        ],
        axis=-1,
    )
    deformed = moved[..., 0] if data.ndim == 3 else moved
    return deformed.astype(data.dtype) if order == 0 else deformed.astype(np.float32)


def write_results(
    folder: Path,
    result: Registration,
    source: np.ndarray,
    target: np.ndarray,
    record: Mapping[str, Any],
) -> None:
    """Write all files of a registration, ``result.json`` last.

    Files of an earlier run that this one may not write are deleted first, and so is its
    ``result.json``.

    Parameters
    ----------
    folder : Path
    result : Registration
    source, target : ndarray
        Images on the target's grid, for the figure.
    record : dict
        Contents of ``result.json``.

    Raises
    ------
    InputError
        The disk is full, or the folder cannot be written to.
    """
    geometry: Any = result.geometry
    try:
        for name in (RECORD, "uncertainty.nii.gz"):
            (folder / name).unlink(missing_ok=True)
        save_nifti(scalar_image(result.deformed, geometry, np.float32), folder / "deformed.nii.gz")
        save_nifti(warp_field(result.displacement, geometry), folder / "1Warp.nii.gz")
        inverse = warp_field(result.inverse_displacement, geometry)
        save_nifti(inverse, folder / "1InverseWarp.nii.gz")
        determinant = scalar_image(result.jacobian_determinant, geometry, np.float32)
        save_nifti(determinant, folder / "jacobian.nii.gz")
        if result.displacement_sd is not None:
            deviation = np.moveaxis(to_numpy(result.displacement_sd), 0, -1)
            save_nifti(scalar_image(deviation, geometry, np.float32), folder / "uncertainty.nii.gz")
        result.save(folder / VELOCITY)
        save_overview(folder / "figure.png", result, source, target)
        write_json(folder / RECORD, record)
    except OSError as error:
        raise disk_error(folder, error) from error


def load_registration(folder: Path | str) -> Registration:
    """Load the `Registration` in an output folder.

    Parameters
    ----------
    folder : path

    Raises
    ------
    InputError
        The folder has no registration, or it cannot be read.
    """
    path = Path(folder) / VELOCITY
    if not path.is_file():
        raise InputError(f"folder: no {VELOCITY} in {folder}; give the output folder of a run")
    try:
        return Registration.load(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"folder: {path} cannot be read ({error}); run the registration again"
        ) from error

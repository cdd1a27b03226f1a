"""The folder a run leaves: pictures, warps for ITK, and a `result.json` to repeat it from."""

import errno
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg import __version__
from fourierreg.atomic import replacing, temporary_path
from fourierreg.backend import get_backend, to_numpy
from fourierreg.errors import InputError
from fourierreg.image import metrics
from fourierreg.image.geometry import resample_onto
from fourierreg.registration.result import Registration

PACKAGES = ("numpy", "scipy", "numba", "nibabel")
VELOCITY = "velocity.npz"


def prepare_folder(path):
    """Make an output folder and prove that it can be written to, before any work is done."""
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


def disk_error(folder, error):
    """The line for a disk that filled up or vanished while results were written."""
    why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
    return InputError(f"--output: cannot write to {folder} ({why}); free space and run again")


def warp_field(displacement, geometry):
    """A displacement as ITK expects it: 5-D NIfTI, intent 1007, mm, LPS.

    Parameters
    ----------
    displacement : array, (3, N_1, N_2, N_3), mm along the array axes
    geometry : Geometry
        Of the grid it lives on.
    """
    ras = np.tensordot(geometry.directions, to_numpy(displacement), axes=1)
    lps = ras * np.array([-1.0, -1.0, 1.0]).reshape(3, 1, 1, 1)
    data = np.moveaxis(lps, 0, -1)[:, :, :, None, :].astype(np.float32)
    image = nib.Nifti1Image(data, geometry.matrix)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    return image


def volume(data, geometry, dtype=None):
    """A scalar volume on a grid."""
    data = to_numpy(data)
    image = nib.Nifti1Image(data if dtype is None else data.astype(dtype), geometry.matrix)
    image.header.set_xyzt_units("mm")
    return image


def save_nifti(image, path):
    """Write a NIfTI file, all or nothing."""
    with temporary_path(path) as name:
        nib.save(image, name)


def warp_onto(result, data, geometry, *, inverse=False, order=1, reference=None):
    """Resample a volume through a saved registration, interpolating it once.

    Parameters
    ----------
    result : Registration
        With geometry.
    data : ndarray on `geometry`
    inverse : bool
        Take an image of the target's space to the source's instead.
    order : {0, 1}
    reference : Geometry, optional
        Grid to write on, if not the registration's.
    """
    u = to_numpy(result.inverse_displacement if inverse else result.displacement)
    grid = result.geometry
    moved = resample_onto(data, geometry, reference or grid, u, order=order, grid=grid)
    return moved.astype(data.dtype) if order == 0 else moved.astype(np.float32)


def write(folder, result, source, target, report):
    """Write everything a run leaves; `report` goes into ``result.json`` last.

    What an earlier run left there for other options goes first, and its report with it.

    Parameters
    ----------
    folder : Path
    result : Registration
    source, target : ndarrays on the target's grid
        For the figure.
    report : dict
    """
    geometry = result.geometry
    try:
        for name in ("result.json", "uncertainty.nii.gz"):
            (folder / name).unlink(missing_ok=True)
        save_nifti(volume(result.deformed, geometry, np.float32), folder / "deformed.nii.gz")
        save_nifti(warp_field(result.displacement, geometry), folder / "1Warp.nii.gz")
        inverse = warp_field(result.inverse_displacement, geometry)
        save_nifti(inverse, folder / "1InverseWarp.nii.gz")
        determinant = volume(result.jacobian_determinant, geometry, np.float32)
        save_nifti(determinant, folder / "jacobian.nii.gz")
        if result.displacement_sd is not None:
            deviation = np.moveaxis(to_numpy(result.displacement_sd), 0, -1)
            save_nifti(volume(deviation, geometry, np.float32), folder / "uncertainty.nii.gz")
        result.save(folder / VELOCITY)
        _figure(folder / "figure.png", result, source, target)
        with replacing(folder / "result.json") as file:
            json.dump(report, file, indent=2, allow_nan=False)
            file.write("\n")
    except OSError as error:
        raise disk_error(folder, error) from error


def _figure(path, result, source, target):
    """The overview picture, where matplotlib is installed."""
    try:
        from fourierreg.plotting import overview

        figure = overview(result, source, target)
    except ModuleNotFoundError:
        return
    with temporary_path(path) as name:
        figure.savefig(name, dpi=110)


def training_figure(log, path):
    """The curve of a training, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    from fourierreg.plotting import training_curve

    figure = Figure(figsize=(6, 4), layout="constrained")
    training_curve(figure.subplots(), log)
    with temporary_path(path) as name:
        figure.savefig(name, dpi=110)


def load(folder):
    """The `Registration` a run left in a folder."""
    path = Path(folder) / VELOCITY
    if not path.is_file():
        raise InputError(f"folder: no {VELOCITY} in {folder}; give the output folder of a run")
    try:
        return Registration.load(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"folder: {path} cannot be read ({error}); run the registration again"
        ) from error


def describe(result, inputs, parameters, arguments):
    """What ``result.json`` holds: everything needed to repeat the run, and what it found.

    ``fourierreg`` with `arguments` repeats it from the command line, `parameters` are the keywords
    that repeat it from Python (a mask, which is a file, stands with the inputs).
    """
    interval = result.alpha_interval
    finite = interval is not None and all(np.isfinite(interval))
    return {
        "fourierreg": __version__,
        "arguments": arguments,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": inputs,
        "parameters": parameters,
        "alpha": result.alpha,
        "alpha_interval_95": list(interval) if finite else None,
        "smoothing_length_mm": result.smoothing_length,
        "similarity": result.similarity,
        "weight": result.weight,
        "sigma": result.sigma,
        "decimation": result.decimation,
        "velocity_scale_mm": result.metric.velocity_scale,
        "reference_length_mm": result.metric.reference_length,
        "dynamics": result.dynamics,
        "space": result.space,
        "modes": list(result.metric.band.modes),
        "computation_shape": list(result.metric.band.shape),
        "converged": result.converged,
        "status": result.status,
        "iterations": len(result.history),
        "seconds": round(result.seconds, 3),
        "jacobian": metrics.jacobian_statistics(result.jacobian_determinant),
        "backend": get_backend(),
        "versions": {"python": platform.python_version(), **_versions()},
        "threads": os.cpu_count(),
    }


def _versions():
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

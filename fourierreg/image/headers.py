"""What a header says of an image's grid, where programs would not read it alike."""

from typing import Any

import numpy as np

from fourierreg.errors import InputError

MM = {"mm": 1.0, "unknown": 1.0, "micron": 1e-3, "meter": 1e3}  # mm per unit of a NIfTI header
UNITS = {1: "meter", 2: "mm", 3: "micron"}  # by their codes
DEFAULT_CODES = (0, 2)  # of qform and sform, which nibabel gives an image made from an affine
POSITION_TOLERANCE = 0.05  # voxels by which qform and sform may differ
ANGLE_TOLERANCE = 1e-3  # cosine of the angle between two axes


def unit_and_codes(image: Any, name: str) -> tuple[str, tuple[int, int]]:
    """Unit of the coordinates of a nibabel image, and its codes of qform and sform.

    Raises
    ------
    InputError
        Programs that read the header put the image in different places: qform and sform differ,
        or there is neither; or its axes are not at right angles, which ITK does not know.
    """
    if len(image.shape) < 3:
        raise InputError(
            f"{name}: expected an image with three axes; got shape {tuple(image.shape)}: register "
            "slices as 2D arrays, with their spacing"
        )
    where = f"{name}: the header of {image.get_filename() or 'the image'}"
    if not hasattr(image, "get_qform"):
        _check_angles(image.affine, where)
        return "mm", DEFAULT_CODES
    try:
        (qform, q), (sform, s) = image.get_qform(coded=True), image.get_sform(coded=True)
    except ValueError as error:  # HeaderDataError is one
        raise InputError(f"{where} has a qform that cannot be read ({error}); repair it") from error
    if not q and not s:
        raise InputError(
            f"{where} does not say where the image is (the codes of qform and sform are 0), and "
            "programs guess differently: set the affine (image.set_sform(image.affine, 1) in "
            "nibabel, fslorient -setsformcode 1)"
        )
    if q and s and _distance(qform, sform, image.shape[:3]) > POSITION_TOLERANCE:
        raise InputError(
            f"{where} has a qform and an sform that differ, and programs take the one or the "
            "other: copy the right one over the other (fslorient -copysform2qform or "
            "-copyqform2sform; set_qform, set_sform in nibabel)"
        )
    _check_angles(image.affine, where)
    unit = UNITS.get(int(image.header["xyzt_units"]) & 7, "unknown")
    return unit, (int(q), int(s))


def _check_angles(affine: np.ndarray, where: str) -> None:
    """Refuse axes that are not at right angles."""
    axes = np.asarray(affine, dtype=float)[:3, :3]
    directions = axes / np.linalg.norm(axes, axis=0)
    if np.abs(directions.T @ directions - np.eye(3)).max() > ANGLE_TOLERANCE:
        raise InputError(
            f"{where} has axes that are not at right angles, which ANTs and ITK cannot read: "
            "resample the image onto a grid without shear first (flirt, mri_convert)"
        )


def _distance(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between a grid's corners under two affines, in voxels."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    difference = (other - one)[:3, :3] @ corners + (other - one)[:3, 3:]
    return float(np.linalg.norm(np.linalg.inv(one[:3, :3]) @ difference, axis=0).max())

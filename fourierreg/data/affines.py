"""Files of affine transforms: ITK and ANTs, FSL, FreeSurfer.

Matrices are 4 x 4 and map points of the fixed space (a template, the reference image) to points of
the scan that moves, in RAS mm as in nibabel: an image is resampled by where its voxels come from.
ITK uses LPS mm.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_matrix(transform: Any) -> np.ndarray:
    """Convert an ITK affine transform (LPS, with a center) to a 4 x 4 matrix (RAS)."""
    matrix, center = np.eye(4), np.asarray(transform.GetCenter())
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + center - matrix[:3, :3] @ center
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def write_affine(matrix: np.ndarray, path: Path | str) -> None:
    """Write a 4 x 4 matrix (RAS) as an ITK transform (``.mat``, ``.tfm`` or ``.txt``)."""
    sitk = checks.required("SimpleITK", "prepare")
    lps = RAS_TO_LPS @ matrix @ RAS_TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    sitk.WriteTransform(transform, str(path))


def read_affine(
    path: Path | str, moving: Geometry | None = None, fixed: Geometry | None = None
) -> np.ndarray:
    """Read an affine transform as a 4 x 4 matrix (RAS).

    Parameters
    ----------
    path : path
        Of ITK or ANTs (``.mat``, ``.tfm``, ``.txt``), of FSL (four lines of four numbers, from
        ``flirt -omat``) or of FreeSurfer (``.lta``).
    moving, fixed : Geometry, optional
        Grids of the scan and of the reference (``-in`` and ``-ref`` of flirt), on which a matrix of
        FSL depends.

    Raises
    ------
    InputError
        The file is not an affine transform.
    MissingDependencyError
        The library that reads it is not installed.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".lta":
            return _read_lta(path)
        matrix = _fsl_numbers(path)
        if matrix is None:
            return _read_itk(path)
        if moving is not None and fixed is not None:
            return _from_fsl(matrix, moving, fixed)
    except (RuntimeError, ValueError, AssertionError, IndexError, np.linalg.LinAlgError) as error:
        raise _not_an_affine(path) from error
    raise _not_an_affine(path)


def _not_an_affine(path: Path) -> InputError:
    return InputError(
        f"affine: {path} is not an affine transform of ITK, ANTs, FSL or FreeSurfer; give the .mat "
        "file written by fourierreg prepare, antsRegistration or flirt, or an .lta"
    )


def _fsl_numbers(path: Path) -> np.ndarray | None:
    """The matrix of a text file of four lines of four numbers; None for any other file."""
    try:
        lines = path.read_text().split("\n")
        matrix = np.array([[float(x) for x in line.split()] for line in lines if line.strip()])
    except ValueError:  # binary, words, or rows of different lengths
        return None
    return matrix if matrix.shape == (4, 4) else None


def _read_itk(path: Path) -> np.ndarray:
    sitk = checks.required("SimpleITK", "prepare")
    found = sitk.ReadTransform(str(path))
    if isinstance(found, sitk.CompositeTransform) and found.GetNumberOfTransforms() == 1:
        found = found.GetNthTransform(0)
    return affine_matrix(sitk.AffineTransform(found.Downcast()))


def _read_lta(path: Path) -> np.ndarray:
    checks.required("nitransforms", "export")
    from nitransforms.io.lta import FSLinearTransform

    return np.asarray(FSLinearTransform.from_filename(str(path)).to_ras(), dtype=float)


def _from_fsl(matrix: np.ndarray, moving: Geometry, fixed: Geometry) -> np.ndarray:
    """A matrix of flirt, which maps FSL's coordinates of the moving image to those of the fixed
    one."""
    return from_fsl(moving) @ np.linalg.inv(matrix) @ np.linalg.inv(from_fsl(fixed))


def from_fsl(grid: Geometry) -> np.ndarray:
    """FSL's coordinates of a grid to RAS mm, 4 x 4.

    FSL counts in mm from the first voxel along the array axes, and along the first axis from the
    last voxel where the affine of the grid has a positive determinant.
    """
    flip = np.eye(4)
    if np.linalg.det(grid.matrix) > 0:
        flip[0, 0], flip[0, 3] = -1.0, grid.shape[0] - 1.0
    return grid.matrix @ flip @ np.diag([*(1 / np.asarray(grid.spacing)), 1.0])

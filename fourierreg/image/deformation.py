"""Deformations as displacement fields: warp, compose, invert, differentiate."""

import numpy as np

from fourierreg import checks
from fourierreg.backend import array_module, asarray
from fourierreg.errors import InputError
from fourierreg.image import voxels


def warp(image, displacement, spacing=None, order=1):
    """Resample an image: ``out(x) = image(x + displacement(x))``, on a periodic domain.

    What leaves the image on one side comes in on the other; images that are zero around their
    border, as brains are, do not notice.

    Parameters
    ----------
    image : array, shape (N_1, …, N_d)
    displacement : array, shape (d, M_1, …, M_d)
        In mm along the array axes. Its grid has the voxel size and the origin of the image's.
    spacing : float or sequence of float, optional
        mm per voxel; 1 where none is given.
    order : {0, 1}
        0 takes the nearest voxel and keeps the dtype (labels), 1 interpolates linearly.

    Returns
    -------
    array, shape (M_1, …, M_d)
        Of the image's dtype with order 0, else float64 for float64 images and float32 for others.

    Raises
    ------
    ValueError
        One line: shapes that do not fit, an order or a spacing that is none.
    """
    image, u = asarray(image), asarray(displacement)
    if u.ndim != image.ndim + 1 or u.shape[0] != image.ndim:
        raise InputError(
            f"displacement: expected shape ({image.ndim}, …) with {image.ndim} grid axes; "
            f"got {tuple(u.shape)}: the component axis comes first"
        )
    checks.choice("order", order, (0, 1))
    lengths = checks.spacing(spacing, image.ndim)
    if order == 1:
        return voxels.resample(image, u, lengths, "interpolate")
    exact = image.astype(np.float64)  # every label up to 2^53 survives
    return voxels.resample(exact, u, lengths, "nearest").astype(image.dtype)


def compose(outer, inner, spacing):
    """Displacement of (id + outer) ∘ (id + inner): inner(x) + outer(x + inner(x))."""
    return inner + voxels.resample(outer, inner, spacing, "interpolate")


def invert(displacement, spacing, *, tolerance=1e-2):
    """Displacement w of the inverse map: w(x) = -u(x + w(x)), by fixed-point iteration.

    Parameters
    ----------
    displacement : array, shape (d, N_1, …, N_d), in mm
    spacing : sequence of float
    tolerance : float
        Change, in voxels, at which a voxel's iteration stops (it does after 200 in any case).

    Returns
    -------
    array, shape (d, N_1, …, N_d), in mm
    """
    return voxels.invert(displacement, spacing, tolerance)


def jacobian_determinant(displacement, spacing=None):
    """det(I + Du) at every voxel; positive everywhere means no fold."""
    u = asarray(displacement)
    return voxels.jacobian_determinant(u, checks.spacing(spacing, u.shape[0]))


def gradient(image, spacing):
    """Periodic central differences ∂_j per mm, (…, N_1, …, N_d) to (…, d, N_1, …, N_d)."""
    xp, d = array_module(image), len(spacing)
    lead, grid = image.shape[: image.ndim - d], image.shape[image.ndim - d :]
    out = xp.empty((*lead, d, *grid), dtype=image.dtype)
    whole = (slice(None),) * d
    for j, h in enumerate(spacing):
        ahead, behind = (xp.roll(image, shift, axis=j - d) for shift in (-1, 1))
        out[(..., j, *whole)] = (ahead - behind) / image.dtype.type(2 * h)
    return out

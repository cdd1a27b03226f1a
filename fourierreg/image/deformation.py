"""Deformations as displacement fields: warp, compose, invert, differentiate."""

from collections.abc import Sequence

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module, asarray
from fourierreg.errors import InputError
from fourierreg.image import determinant, voxels


def warp(
    image: Array,
    displacement: Array,
    spacing: float | Sequence[float] | None = None,
    order: int = 1,
) -> Array:
    """Resample an image: ``out(x) = image(x + displacement(x))``, on a periodic domain.

    What leaves the image on one side enters on the opposite side, which makes no difference to
    images that are zero near their border, such as skull-stripped brains.

    Parameters
    ----------
    image : array, shape (N_1, …, N_d)
    displacement : array, shape (d, M_1, …, M_d)
        In mm along the array axes. Its grid has the voxel size and the origin of the image's.
    spacing : float or sequence of float, optional
        mm per voxel; 1 by default.
    order : {0, 1}
        0 takes the nearest voxel and keeps the dtype (labels), 1 interpolates linearly.

    Returns
    -------
    array, shape (M_1, …, M_d)
        With order 0 of the image's dtype, else float64 for float64 images and float32 for others.

    Raises
    ------
    InputError
        The shapes are inconsistent, or `order` or `spacing` is invalid.
    """
    image, u = asarray(image), asarray(displacement)
    if u.ndim != image.ndim + 1 or u.shape[0] != image.ndim:
        raise InputError(
            f"displacement: expected shape ({image.ndim}, …) with {image.ndim} grid axes; "
            f"got {tuple(u.shape)}: put the component axis first"
        )
    checks.choice("order", order, (0, 1))
    lengths = checks.spacing(spacing, image.ndim)
    if order == 1:
        return voxels.resample(image, u, lengths, "interpolate")
    exact = image.astype(np.float64)  # represents every label up to 2^53
    return voxels.resample(exact, u, lengths, "nearest").astype(image.dtype)


def compose(outer: Array, inner: Array, spacing: Sequence[float]) -> Array:
    """Displacement of (id + outer) ∘ (id + inner): inner(x) + outer(x + inner(x))."""
    return inner + voxels.resample(outer, inner, spacing, "interpolate")


def invert(displacement: Array, spacing: Sequence[float], *, tolerance: float = 1e-2) -> Array:
    """Displacement w of the inverse map: w(x) = -u(x + w(x)), by fixed-point iteration.

    Parameters
    ----------
    displacement : array, shape (d, N_1, …, N_d), in mm
    spacing : sequence of float
    tolerance : float
        Change, in voxels, below which the iteration of a voxel stops (it stops after 200 iterations
        in any case).

    Returns
    -------
    array, shape (d, N_1, …, N_d), in mm
    """
    return voxels.invert(displacement, spacing, tolerance)


def jacobian_determinant(
    displacement: Array, spacing: float | Sequence[float] | None = None
) -> Array:
    """det(I + Du) at every voxel, (N_1, …, N_d); positive everywhere means no fold."""
    u = asarray(displacement)
    return determinant.jacobian_determinant(u, checks.spacing(spacing, u.shape[0]))


def gradient(image: Array, spacing: Sequence[float]) -> Array:
    """Periodic central differences ∂_j per mm, (…, N_1, …, N_d) to (…, d, N_1, …, N_d)."""
    xp, d = array_module(image), len(spacing)
    lead, grid = image.shape[: image.ndim - d], image.shape[image.ndim - d :]
    out = xp.empty((*lead, d, *grid), dtype=image.dtype)
    all_points = (slice(None),) * d
    for j, h in enumerate(spacing):
        ahead, behind = (xp.roll(image, shift, axis=j - d) for shift in (-1, 1))
        out[(..., j, *all_points)] = (ahead - behind) / image.dtype.type(2 * h)
    return out

"""Checks of what a network is applied to: dimension, field of view, noise; and its input arrays."""

import math
from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg import checks
from fourierreg.backend import to_numpy
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.geometry import Geometry, is_nibabel
from fourierreg.learning.examples import pair_on_grid
from fourierreg.learning.pretrained import TrainedNetwork

FIELD_TOLERANCE = 0.01  # relative, of the field of view
SIGMA_TOLERANCE = 0.1  # relative, of σ


def check_sigma(network: TrainedNetwork, sigma: float | str | None) -> None:
    """Refuse a noise level that the network was not trained for.

    Raises
    ------
    InputError
    """
    known = network.card["sigma"]
    if sigma is None or any(_same_sigma(sigma, value) for value in known):
        return
    values = " or ".join(str(value) for value in known)
    raise InputError(
        f"sigma: the network was trained for {values}; got {sigma}: use map_alpha, or train a "
        "network on such pairs"
    )


def _same_sigma(sigma: float | str, other: float | str) -> bool:
    if isinstance(sigma, str) or isinstance(other, str):
        return sigma == other
    return math.isclose(sigma, other, rel_tol=SIGMA_TOLERANCE)


def prepare_pair(
    network: TrainedNetwork,
    source: Any,
    target: Any,
    spacing: float | Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring two images onto the grid of a network.

    Parameters
    ----------
    network : TrainedNetwork
    source, target : arrays (N_1, …, N_d), or nibabel images
        3D images are resampled and normalized (`pair_on_grid`); 2D images are returned unchanged.
    spacing : float or sequence of float, optional
        mm per voxel of arrays.

    Returns
    -------
    source, target : arrays
        Shape of the network's grid.

    Raises
    ------
    InputError
        The images have another dimension, field of view or (in 2D) shape than the network.
    """
    shape, field = network.shape, network.field_of_view
    if is_nibabel(source) != is_nibabel(target):
        raise InputTypeError(
            "source, target: expected two arrays or two nibabel images; got one of each"
        )
    if is_nibabel(source):
        if spacing is not None:
            raise InputError("spacing: nibabel images have their own; leave it out")
        _check_field("target", Geometry.of(target).shape, Geometry.of(target).spacing, field)
        return pair_on_grid(source, target, shape)
    moving = to_numpy(checks.image("source", source))
    fixed = to_numpy(checks.image("target", target))
    checks.same_shape("source", moving, "target", fixed)
    if fixed.ndim != len(shape):
        raise _dimension_error("target", fixed.shape, len(shape))
    spacing = checks.spacing(spacing, len(shape))
    _check_field("target", fixed.shape, spacing, field)
    if len(shape) == 2:
        if fixed.shape != shape:
            raise InputError(
                f"target: expected the network's shape {shape}; got {fixed.shape}: resample both "
                "images"
            )
        return moving, fixed
    affine = np.diag([*spacing, 1.0])
    return pair_on_grid(nib.Nifti1Image(moving, affine), nib.Nifti1Image(fixed, affine), shape)


def _check_field(
    name: str, shape: Sequence[int], spacing: Sequence[float], expected: Sequence[float]
) -> None:
    """Check dimension and field of view, mm."""
    if len(shape) != len(expected):
        raise _dimension_error(name, shape, len(expected))
    found = [n * h for n, h in zip(shape, spacing, strict=True)]
    if not np.allclose(found, expected, rtol=FIELD_TOLERANCE):
        got, wanted = (" × ".join(f"{x:.4g}" for x in lengths) for lengths in (found, expected))
        raise InputError(
            f"{name}: the network was trained on a field of view of {wanted} mm; got {got} mm: "
            "bring the images onto such a cube (fourierreg prepare), or use map_alpha"
        )


def _dimension_error(name: str, shape: Sequence[int], ndim: int) -> InputError:
    return InputError(
        f"{name}: the network was trained on {ndim}D images; got shape {tuple(shape)}: use another "
        "network, or map_alpha"
    )

"""Validation of arguments at public boundaries.

Each check returns the validated value or raises an `InputError`: one line that names the argument,
what was expected, what came and, where it is not obvious, what to do.
"""

import importlib
import math
import numbers
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from fourierreg import backend
from fourierreg.backend import Array
from fourierreg.errors import InputError, InputTypeError, MissingDependencyError

MAX_INTENSITY_RANGE = 10.0
# What to do with images of other packages, by the package.
CONVERSIONS = {
    "SimpleITK": "nibabel.load its file, or SimpleITK.GetArrayFromImage(image) with "
    "spacing=image.GetSpacing()[::-1]",
    "itk": "nibabel.load its file, or itk.array_from_image(image) with its spacing reversed",
    "ants": "ants.to_nibabel_nifti(image)",
}

T = TypeVar("T")


def required(name: str, extra: str) -> Any:
    """Import an optional dependency.

    Parameters
    ----------
    name : str
        Name of the module.
    extra : str
        Extra of this package that installs it.

    Raises
    ------
    MissingDependencyError
        The module cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is required but not installed: pip install 'fourierreg[{extra}]'"
        ) from error


def positive(name: str, value: Any) -> float:
    """Check that a value is a finite real number above zero; return it as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputTypeError(f"{name}: expected a number above 0; got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name}: expected a finite number above 0; got {value!r}")
    return number


def count(name: str, value: Any, minimum: int = 1) -> int:
    """Check that a value is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < minimum:
        raise InputError(f"{name}: expected an integer of at least {minimum}; got {value!r}")
    return int(value)


def choice(name: str, value: T, allowed: Sequence[T]) -> T:
    """Check that a value is one of those allowed."""
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise InputError(f"{name}: expected one of {words}; got {value!r}")
    return value


def shape(value: Any) -> tuple[int, ...]:
    """Check the shape of a 2D or 3D grid; return it as a tuple of int."""
    try:
        result = tuple(int(n) for n in value)
    except TypeError:
        result = ()
    if len(result) not in (2, 3) or min(result) < 1:
        raise InputError(f"shape: expected 2 or 3 positive integers; got {value!r}")
    return result


def spacing(value: Any, ndim: int) -> tuple[float, ...]:
    """Voxel size in mm along each axis; a single number holds for every axis, None is 1 mm."""
    if value is None:
        return (1.0,) * ndim
    values = [value] * ndim if isinstance(value, numbers.Real) else list(value)
    if len(values) != ndim:
        raise InputError(f"spacing: expected one number per axis ({ndim}); got {value!r}")
    return tuple(positive("spacing", float(h)) for h in values)


def modes(value: Any, grid: Sequence[int]) -> tuple[int, ...]:
    """Number of modes along each axis, checked to fit the grid."""
    values = [value] * len(grid) if isinstance(value, numbers.Integral) else list(value)
    if len(values) != len(grid):
        raise InputError(
            f"modes: expected an integer, or one per axis ({len(grid)}); got {value!r}"
        )
    checked = tuple(count("modes", n, minimum=3) for n in values)
    for n, points in zip(checked, grid, strict=True):
        if 2 * ((n - 1) // 2) + 1 > points:
            raise InputError(
                f"modes: a band of {n} modes does not fit an axis of {points} voxels "
                f"(image shape {tuple(grid)}): use at most {points} modes, or a larger image"
            )
    return checked


def image(name: str, value: Any, scaled: bool = True) -> Array:
    """Check a 2D or 3D image; return it on the active backend as float32.

    Parameters
    ----------
    name : str
        Argument named in an error.
    value : array_like
        Real-valued, finite and not constant.
    scaled : bool
        Whether intensities must have a range of at most `MAX_INTENSITY_RANGE`.
    """
    if isinstance(value, str | os.PathLike):
        raise InputTypeError(
            f"{name}: expected an array or a nibabel image; got a path: nibabel.load it"
        )
    if backend.backend_of(value) is None:
        refuse_foreign(name, value)
        value = np.asarray(value)
    if value.ndim == 3 and value.shape[-1] in (3, 4) and value.dtype == np.uint8:
        raise InputError(
            f"{name}: expected one channel; got an array of shape {tuple(value.shape)}, which "
            "looks like RGB: convert it to gray values (image.mean(axis=-1))"
        )
    if value.dtype.kind not in "biuf":
        raise InputTypeError(f"{name}: expected a real-valued image; got dtype {value.dtype}")
    if value.ndim not in (2, 3):
        raise InputError(f"{name}: expected a 2D or 3D image; got an array of shape {value.shape}")
    value = backend.asarray(value, dtype=np.float32)
    xp = backend.array_module(value)
    if not bool(xp.all(xp.isfinite(value))):
        raise InputError(f"{name}: has NaN or infinite voxels: replace them (numpy.nan_to_num)")
    low, high = float(xp.min(value)), float(xp.max(value))
    if low == high:
        raise InputError(
            f"{name}: every voxel equals {low:g}; expected an image with varying intensities"
        )
    if scaled and high - low > MAX_INTENSITY_RANGE:
        raise InputError(
            f"{name}: intensities from {low:g} to {high:g}; expected a range of about 1, because "
            "sigma is in these units: divide the image by its 99.5th percentile"
        )
    return value


def refuse_foreign(name: str, value: Any) -> None:
    """Refuse an image of another package, naming the conversion that keeps its geometry."""
    conversion = CONVERSIONS.get(type(value).__module__.partition(".")[0])
    if conversion is not None:
        package = type(value).__module__.partition(".")[0]
        raise InputTypeError(
            f"{name}: expected an array or a nibabel image; got one of {package}: use {conversion}"
        )


def same_shape(name: str, value: Array, other_name: str, other: Array) -> None:
    """Check that two arrays have the same shape."""
    if value.shape != other.shape:
        raise InputError(
            f"{name}: expected the shape of {other_name}, {tuple(other.shape)}; "
            f"got {tuple(value.shape)}: resample one onto the grid of the other"
        )


def mask(value: Any, like: Array) -> Array | None:
    """Check a mask for the image `like`; return it as a boolean array on the active backend.

    None is returned unchanged.
    """
    if value is None:
        return None
    if backend.backend_of(value) is None:
        refuse_foreign("mask", value)
    value = backend.asarray(value)
    xp = backend.array_module(value)
    if value.dtype.kind == "f" and not bool(xp.all(xp.rint(value) == value)):  # also where NaN
        raise InputError(
            "mask: expected True and False, or integers; got NaN or fractions: a probability map "
            "is to be compared with a threshold first (mask > 0.5)"
        )
    value = value.astype(bool)
    same_shape("mask", value, "target", like)
    if not bool(backend.array_module(value).any(value)):
        raise InputError("mask: expected at least one voxel inside; got an empty mask")
    return value

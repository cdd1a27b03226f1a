"""Validation, once, at public boundaries: which argument, what was expected, what came, what to do.

Everything raised here is a `ValueError` or `TypeError` whose text is one line for a person.
"""

import importlib
import math
import numbers
import os

import numpy as np

from fourierreg import backend
from fourierreg.errors import InputError, InputTypeError, MissingDependencyError

MAX_RANGE = 10.0


def required(name, extra):
    """A module of an extra of this package, or an ImportError that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs {name}, which is not installed: pip install 'fourierreg[{extra}]'"
        ) from error


def positive(name, value):
    """A finite float above zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputTypeError(f"{name}: expected a number above 0; got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name}: expected a finite number above 0; got {value!r}")
    return float(value)


def count(name, value, minimum=1):
    """An integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise InputError(f"{name}: expected an integer of at least {minimum}; got {value!r}")
    return int(value)


def choice(name, value, allowed):
    """One of a few words."""
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise InputError(f"{name}: expected one of {words}; got {value!r}")
    return value


def shape(value):
    """Shape of a 2D or 3D grid."""
    try:
        result = tuple(int(n) for n in value)
    except TypeError:
        result = ()
    if len(result) not in (2, 3) or min(result) < 1:
        raise InputError(f"shape: expected 2 or 3 positive integers; got {value!r}")
    return result


def spacing(value, ndim):
    """Voxel size in mm along each axis; 1 where none is given."""
    if value is None:
        return (1.0,) * ndim
    values = [value] * ndim if isinstance(value, numbers.Real) else list(value)
    if len(values) != ndim:
        raise InputError(f"spacing: expected one number per axis ({ndim}); got {value!r}")
    return tuple(positive("spacing", float(h)) for h in values)


def modes(value, grid):
    """Band per axis, small enough for the grid."""
    values = [value] * len(grid) if isinstance(value, numbers.Integral) else list(value)
    if len(values) != len(grid):
        raise InputError(
            f"modes: expected an integer, or one per axis ({len(grid)}); got {value!r}"
        )
    values = tuple(count("modes", n, minimum=3) for n in values)
    for n, points in zip(values, grid, strict=True):
        if 2 * ((n - 1) // 2) + 1 > points:
            raise InputError(
                f"modes: a band of {n} modes does not fit an axis of {points} voxels "
                f"(image shape {tuple(grid)}): use at most {points} modes, or a larger image"
            )
    return values


def image(name, value, scaled=True):
    """A real 2D or 3D image with finite, not all equal values, on the active backend, float32."""
    if isinstance(value, str | os.PathLike):
        raise InputTypeError(
            f"{name}: expected an array or a nibabel image; got a path: nibabel.load it"
        )
    if backend.backend_of(value) is None:
        value = np.asarray(value)
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
        raise InputError(f"{name}: every voxel equals {low:g}: there is nothing to register")
    if scaled and high - low > MAX_RANGE:
        raise InputError(
            f"{name}: intensities from {low:g} to {high:g}; expected a range of about 1, because "
            "sigma is in these units: divide the image by its 99.5th percentile"
        )
    return value


def same_shape(name, value, other_name, other):
    """Two arrays on one grid."""
    if value.shape != other.shape:
        raise InputError(
            f"{name}: expected the shape of {other_name}, {tuple(other.shape)}; "
            f"got {tuple(value.shape)}: resample one onto the grid of the other"
        )


def mask(value, like):
    """Boolean mask on the grid of `like`, on the active backend; None stays None."""
    if value is None:
        return None
    value = backend.asarray(value).astype(bool)
    same_shape("mask", value, "target", like)
    if not bool(backend.array_module(value).any(value)):
        raise InputError("mask: expected at least one voxel inside; got an empty mask")
    return value

"""What counts in an image: its foreground, relative to the background that surrounds it.

The background of an image is what most voxels of its border have: a constant, or noise around one.
It need not be zero: scanners and programs add offsets, faint noise and ringing. An image whose
border varies, as that of a crop, has none: all of it counts.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from fourierreg.backend import Array, array_module, asarray, to_numpy

SCALE_PERCENTILE = 99.5
NEAR_BACKGROUND = 0.02  # of the scale: smaller differences from the background do not count
NOISE_FACTOR = 6.0  # standard deviations of the background's noise that it stays within
MAX_NOISE = 0.04  # of the scale: the border of an image varies more where it is a crop
CLEAN = 1e-6  # of the scale: noise that is no more than an error of rounding
REACH = 0.08  # of the field of view: how far beyond a noisy image's foreground voxels are compared
MIN_FOREGROUND = 0.01  # fraction of a border plane's voxels; a plane with less is background
DEVIATION = 1.4826  # standard deviation over the median absolute deviation of a normal variable


class Background(NamedTuple):
    """Background of an image.

    Attributes
    ----------
    value : float
        Intensity of the background; 0 where there is none.
    threshold : float
        Largest distance of its voxels from `value`; negative where there is none.
    noise : float
        Standard deviation of its voxels.
    scale : float
        Typical largest intensity, the 99.5th percentile of the foreground, above `value`.
    """

    value: float
    threshold: float
    noise: float
    scale: float

    @property
    def is_clean(self) -> bool:
        """Whether there is a background without noise."""
        return self.threshold >= 0 and self.noise <= CLEAN * self.scale

    def foreground(self, image: Array) -> Array:
        """Voxels that are not background."""
        return abs(image - image.dtype.type(self.value)) > self.threshold


def background_of(image: Array) -> Background:
    """The `Background` of a 2D or 3D image."""
    xp = array_module(image)
    border = to_numpy(_border(image, xp)).astype(np.float64)
    value = float(np.median(border))
    noise = DEVIATION * float(np.median(np.abs(border - value)))
    contrast = xp.abs(image - image.dtype.type(value))
    if noise > MAX_NOISE * float(xp.percentile(contrast, SCALE_PERCENTILE)):
        return Background(0.0, -1.0, noise, _percentile(xp.abs(image), 0.0, xp))
    scale = _percentile(contrast, NOISE_FACTOR * noise, xp)
    threshold = max(NOISE_FACTOR * noise, NEAR_BACKGROUND * scale)
    return Background(value, threshold, noise, _percentile(contrast, threshold, xp))


def foreground_scale(data: np.ndarray) -> float:
    """Intensity by which an image is divided: the 99.5th percentile of its foreground."""
    return background_of(np.asarray(data, dtype=np.result_type(data, np.float32))).scale


def is_cut(image: Array, background: Background) -> bool:
    """Whether the foreground of an image reaches its border: the object goes on beyond it."""
    inside = background.foreground(image)
    faces = [face for axis in range(image.ndim) for face in _faces(inside, axis)]
    return any(float(face.mean()) > MIN_FOREGROUND for face in faces)


def compared(inside: Array) -> Array:
    """The foreground and what is within `REACH` of it, where a noisy image is compared: its
    surroundings tell where it ends, and the noise further away tells nothing."""
    grown = to_numpy(inside)
    reach = max(1, round(REACH * min(grown.shape)))
    for axis in range(grown.ndim):
        grown = ndimage.maximum_filter1d(grown, 2 * reach + 1, axis=axis, mode="constant")
    return asarray(grown)


def _percentile(contrast: Array, above: float, xp: Any) -> float:
    """The 99.5th percentile of the values above a limit; 1 where there are none."""
    values = contrast[contrast > above]
    return float(xp.percentile(values, SCALE_PERCENTILE)) if values.size else 1.0


def _border(image: Array, xp: Any) -> Array:
    """Voxels of all border planes, in one row."""
    faces = [face for axis in range(image.ndim) for face in _faces(image, axis)]
    return xp.concatenate([face.ravel() for face in faces])


def _faces(image: Array, axis: int) -> tuple[Array, Array]:
    """The first and the last plane along an axis."""
    whole = (slice(None),) * axis
    return image[(*whole, 0)], image[(*whole, -1)]

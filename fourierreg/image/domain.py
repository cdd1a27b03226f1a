"""The periodic box of a computation: the image grid, with zero padding where it is needed.

The Fourier domain is periodic and ITK's is not: structures near a border would interact with those
near the opposite one. An image closer than a tenth of the field of view to a border is padded with
zeros for the computation, and results are cropped afterwards. Padded sizes are quantized, so that
pairs of similar images have the same grid and can be processed in one batch.
"""

import math
from dataclasses import dataclass

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy

MARGIN = 0.1  # required empty margin on every side, as a fraction of the field of view
SIZE_STEPS = 16  # a padded axis is a multiple of this fraction of the original axis
FOREGROUND_THRESHOLD = 0.1  # of the 99.5th percentile of the intensities
MIN_FOREGROUND = 0.01  # fraction of a plane's voxels; a plane with less is empty


@dataclass(frozen=True)
class Domain:
    """Zero padding of an image grid.

    Attributes
    ----------
    shape : tuple of int
        The image grid.
    before, after : tuple of int
        Voxels added at the start and at the end of every axis.
    """

    shape: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """Shape of the padded grid."""
        return tuple(b + n + a for b, n, a in zip(self.before, self.shape, self.after, strict=True))

    @property
    def is_padded(self) -> bool:
        """Whether the padded grid is larger than the image grid."""
        return any(self.before) or any(self.after)

    def pad(self, image: Array) -> Array:
        """Pad an image (or mask) with zeros."""
        if not self.is_padded:
            return image
        xp = array_module(image)
        out = xp.zeros(self.padded_shape, dtype=image.dtype)
        out[self._window] = image
        return out

    def crop(self, field: Array) -> Array:
        """Undo `pad` on the last axes of a field."""
        if not self.is_padded:
            return field
        return array_module(field).ascontiguousarray(field[(..., *self._window)])

    @property
    def _window(self) -> tuple[slice, ...]:
        return tuple(slice(b, b + n) for b, n in zip(self.before, self.shape, strict=True))


def padded_domain(source: Array, target: Array, pad: bool = True) -> Domain:
    """The `Domain` that two images need, or one without padding where `pad` is False."""
    shape = tuple(source.shape)
    zeros = (0,) * len(shape)
    if not pad:
        return Domain(shape, zeros, zeros)
    margins = [_empty_margins(image) for image in (source, target)]
    before, after = [], []
    for axis, n in enumerate(shape):
        required = math.ceil(MARGIN * n)
        low = min(m[axis][0] for m in margins)
        high = min(m[axis][1] for m in margins)
        missing = max(0, required - low), max(0, required - high)
        # The box is periodic: what matters is the sum of the margins at both ends.
        total = max(0, 2 * required - low - high) if max(missing) else 0
        step = math.ceil(n / SIZE_STEPS)
        total += -(n + total) % step if total else 0
        before.append(min(total, missing[0]))
        after.append(total - before[-1])
    return Domain(shape, tuple(before), tuple(after))


def _empty_margins(image: Array) -> list[tuple[int, int]]:
    """Number of empty planes before and after the foreground, along every axis."""
    xp = array_module(image)
    magnitude = xp.abs(image)
    scale = float(xp.percentile(magnitude[magnitude > 0], 99.5))
    foreground = magnitude > FOREGROUND_THRESHOLD * scale
    margins = []
    for axis in range(image.ndim):
        others = tuple(j for j in range(image.ndim) if j != axis)
        profile = to_numpy(xp.mean(foreground, axis=others))
        planes = np.flatnonzero(profile > MIN_FOREGROUND)
        margins.append(
            (int(planes[0]), int(len(profile) - 1 - planes[-1])) if planes.size else (0, 0)
        )
    return margins

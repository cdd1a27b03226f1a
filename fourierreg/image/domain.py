"""The periodic box a computation runs in: the image, and zeros around it where it needs them.

The Fourier domain is periodic and ITK's is not: what comes close to a border would feel the
opposite one. An image closer than a tenth of the field of view to a border is padded with zeros
for the computation, and results are cropped afterwards. Grids come in a few sizes, so that pairs of
like images have one grid and can be worked on together.
"""

import math
from dataclasses import dataclass

import numpy as np

from fourierreg.backend import array_module, to_numpy

MARGIN = 0.1  # of the field of view, on every side
STEPS_PER_FIELD = 16  # a padded axis is a whole number of steps long
OCCUPIED = 0.01  # a plane with fewer voxels above the threshold counts as empty
THRESHOLD = 0.1  # of the 99.5th percentile


@dataclass(frozen=True)
class Domain:
    """Padding of every axis: `before` and `after` voxels around an image of `shape`."""

    shape: tuple
    before: tuple
    after: tuple

    @property
    def padded_shape(self):
        """Shape of the computation."""
        return tuple(b + n + a for b, n, a in zip(self.before, self.shape, self.after, strict=True))

    @property
    def is_padded(self):
        """Whether anything is added at all."""
        return any(self.before) or any(self.after)

    def pad(self, image):
        """Zeros around an image (or mask)."""
        if not self.is_padded:
            return image
        xp = array_module(image)
        out = xp.zeros(self.padded_shape, dtype=image.dtype)
        out[self._window] = image
        return out

    def crop(self, field):
        """Undo `pad` on the last axes of a field."""
        if not self.is_padded:
            return field
        return array_module(field).ascontiguousarray(field[(..., *self._window)])

    @property
    def _window(self):
        return tuple(slice(b, b + n) for b, n in zip(self.before, self.shape, strict=True))


def padded_domain(source, target, pad=True):
    """The `Domain` two images need, or the images' own grid where `pad` is False."""
    shape = tuple(source.shape)
    none = (0,) * len(shape)
    if not pad:
        return Domain(shape, none, none)
    margins = [_margins(image) for image in (source, target)]
    before, after = [], []
    for axis, n in enumerate(shape):
        wanted = math.ceil(MARGIN * n)
        low = min(m[axis][0] for m in margins)
        high = min(m[axis][1] for m in margins)
        missing = max(0, wanted - low), max(0, wanted - high)
        # The box is periodic: what counts is the empty space between one end and the other.
        total = max(0, 2 * wanted - low - high) if max(missing) else 0
        step = math.ceil(n / STEPS_PER_FIELD)
        total += -(n + total) % step if total else 0
        before.append(min(total, missing[0]))
        after.append(total - before[-1])
    return Domain(shape, tuple(before), tuple(after))


def _margins(image):
    """Empty planes before and after the image proper, along every axis."""
    xp = array_module(image)
    magnitude = xp.abs(image)
    occupied = magnitude > THRESHOLD * float(xp.percentile(magnitude[magnitude > 0], 99.5))
    margins = []
    for axis in range(image.ndim):
        others = tuple(j for j in range(image.ndim) if j != axis)
        profile = to_numpy(xp.mean(occupied, axis=others))
        planes = np.flatnonzero(profile > OCCUPIED)
        margins.append(
            (int(planes[0]), int(len(profile) - 1 - planes[-1])) if planes.size else (0, 0)
        )
    return margins

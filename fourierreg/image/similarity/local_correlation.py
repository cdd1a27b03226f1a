"""Normalized cross-correlation in windows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module
from fourierreg.backend.tables import cached_table
from fourierreg.image.similarity.base import (
    FLOOR,
    Similarity,
    centered,
    masked,
    per_pair,
    total,
    variance,
    voxel_count,
)


@dataclass(frozen=True)
class LocalCorrelation(Similarity):
    """Normalized cross-correlation in windows: Dist = Σ_x (1 - r²(x)) (Avants et al. 2008).

    Parameters
    ----------
    radius : int
        The window is a cube of 2 `radius` + 1 voxels of the present grid, periodic; voxels outside
        the mask are left out of it.
    """

    radius: int = 4

    def __post_init__(self) -> None:
        checks.count("radius", self.radius)

    def value_and_half_derivative(
        self, deformed: Array, target: Array, source: Array, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Σ (1 - r²), and its exact derivative: a voxel counts in all windows that contain it."""
        i, t, (mean_i, mean_t, a, ratio, r2) = self._window_terms(deformed, target, source, mask)
        # Σ a (t - mean_t) - a ratio (i - mean_i), over the windows that contain the voxel
        half = (
            i * self._window_sum(a * ratio)
            - self._window_sum(a * ratio * mean_i)
            - t * self._window_sum(a)
            + self._window_sum(a * mean_t)
        )
        value = voxel_count(deformed, mask) - total(r2)
        return per_pair(value), masked(half, mask)

    def curvature(
        self, deformed: Array, target: Array, source: Array, mask: Array | None = None
    ) -> Any:
        """Σ of r² / (sum of squares of I) over the windows that contain a voxel."""
        _, _, (_, _, a, ratio, _) = self._window_terms(deformed, target, source, mask)
        return self._window_sum(a * ratio)

    def _window_terms(
        self, deformed: Array, target: Array, source: Array, mask: Array | None
    ) -> tuple[Array, Array, tuple[Array, ...]]:
        """Centered images, and per window: means, a = A/BC, A/B, r² (a and r² zero outside)."""
        xp = array_module(deformed, target)
        kind, count = deformed.dtype.type, voxel_count(deformed, mask)
        if mask is None:
            size = kind(np.prod([min(2 * self.radius + 1, n) for n in deformed.shape[1:]]))
        else:
            size = xp.maximum(self._window_sum(mask.astype(kind)), 1)
        i, t = (centered(image, mask, count) for image in (deformed, target))
        mean_i, mean_t = self._window_sum(i) / size, self._window_sum(t) / size
        across = self._window_sum(i * t) - size * mean_i * mean_t
        own = self._window_sum(i * i) - size * mean_i * mean_i
        other = self._window_sum(t * t) - size * mean_t * mean_t
        floors = [(FLOOR * v).astype(kind) for v in (variance(source), variance(target, mask))]
        own, other = (
            xp.maximum(x, 0) + size * floor for x, floor in zip((own, other), floors, strict=True)
        )
        a = masked(across / (own * other), mask)
        return i, t, (mean_i, mean_t, a, across / own, a * across)

    def _window_sum(self, field: Array) -> Array:
        """Sum over the window around every voxel (its own adjoint)."""
        xp = array_module(field)
        for axis in range(1, field.ndim):
            matrix = _window_matrix(field.shape[axis], self.radius, field.dtype, xp)
            field = xp.moveaxis(xp.matmul(xp.moveaxis(field, axis, -1), matrix), -1, axis)
        return xp.ascontiguousarray(field)


@cached_table()
def _window_matrix(points: int, radius: int, dtype: Any, xp: Any) -> Array:
    """Circulant 0/1 matrix of one axis: which voxels are in the window around which."""
    offset = np.arange(points)
    distance = np.minimum(offset, points - offset)
    near = (distance <= radius).astype(dtype)
    return xp.asarray(near[(offset[:, None] - offset) % points])

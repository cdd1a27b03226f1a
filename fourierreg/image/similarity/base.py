"""The base class of the similarities, and the sums over voxels that they share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.image.voxels import value_and_slope, voxel_sums

FLOOR = 1e-3  # of an image's variance: lower bound of the variance of a window


class Similarity(ABC):
    """Base class of the similarities: one method per quantity that a registration needs."""

    gaussian: ClassVar[bool] = False  # whether γ is ρ/σ², σ the noise of the images
    likelihood: ClassVar[bool] = False  # whether γ/2 Dist is a negative log likelihood
    capturable: ClassVar[bool] = False  # whether a CUDA graph can hold it (`CapturedGraph`)

    def statistics(
        self, source: Array, target: Array, spacing: Sequence[float], mask: Array | None = None
    ) -> Any:
        """What the other methods know of the undeformed images: the source, unless overridden.

        It is computed once for the images on a grid. The source may be sampled more finely than the
        target, whose voxel size `spacing` is.
        """
        return source

    def value_and_force(
        self,
        source: Array,
        target: Array,
        u: Array,
        spacing: Sequence[float],
        statistics: Any,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """Dist (pairs,) at a displacement, and its force (pairs, d, N_1, …, N_d) per mm."""
        deformed, slope = value_and_slope(source, u, spacing)
        value, half = self.value_and_half_derivative(deformed, target, statistics, mask)
        slope *= half[:, None]
        return value, slope

    @abstractmethod
    def value_and_half_derivative(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Dist, and ½ dDist/dI at every voxel of the deformed image I."""

    @abstractmethod
    def curvature(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Any:
        """½ d²Dist/dI² near a good match, broadcastable over the voxels. It only scales the
        unknowns of the optimizer."""

    def residual(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Array:
        """What a likelihood takes for noise, (pairs, N_1, …, N_d), from which ρ is estimated, and σ
        where it has one."""
        return masked(deformed - target, mask)


def _voxel_axes(field: Array) -> tuple[int, ...]:
    return tuple(range(1, field.ndim))


def total(field: Array) -> Array:
    """Sum over the voxels of every pair in double precision, (pairs, 1, …, 1)."""
    return as_column(voxel_sums(field), field)


def per_pair(total: Array) -> Array:
    """(pairs, 1, …, 1) to (pairs,)."""
    return total.reshape(-1)


def as_column(values: Array, image: Array) -> Array:
    """(pairs,) to (pairs, 1, …, 1), for the voxels of `image`."""
    return values.reshape(-1, *[1] * (image.ndim - 1))


def masked(field: Array, mask: Array | None) -> Array:
    return field if mask is None else field * mask


def voxel_count(image: Array, mask: Array | None) -> Array:
    """M, the number of voxels that count, (pairs, 1, …, 1)."""
    if mask is None:
        xp = array_module(image)
        return xp.full((image.shape[0], *[1] * (image.ndim - 1)), float(np.prod(image.shape[1:])))
    return total(mask)


def centered(image: Array, mask: Array | None, count: Array) -> Array:
    """Image minus its mean over the mask; zero outside."""
    mean = total(masked(image, mask)) / count
    return masked(image - mean.astype(image.dtype), mask)


def intensity_range(image: Array, xp: Any, mask: Array | None = None) -> tuple[Array, Array]:
    """Smallest and largest value of every pair, over the mask, in double precision."""
    low = image if mask is None else xp.where(mask, image, np.inf)
    high = image if mask is None else xp.where(mask, image, -np.inf)
    axes = _voxel_axes(image)
    return (
        xp.min(low, axis=axes, keepdims=True).astype(np.float64),
        xp.max(high, axis=axes, keepdims=True).astype(np.float64),
    )


def variance(image: Array, mask: Array | None = None) -> Array:
    """Variance of the voxels of an undeformed image over the mask; 1 for a constant image."""
    xp, count = array_module(image), voxel_count(image, mask)
    mean = total(masked(image, mask)) / count
    deviation = masked(image.astype(np.float64) - mean, mask)
    result = total(deviation * deviation) / count
    return xp.where(result > 0, result, 1.0)

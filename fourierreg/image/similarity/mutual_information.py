"""Mutual information of the intensities of two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module
from fourierreg.image.similarity.base import (
    FLOOR,
    Similarity,
    as_column,
    intensity_range,
    masked,
    per_pair,
    variance,
    voxel_count,
)


class Statistics(NamedTuple):
    """Ranges (low, high) of the intensities of the images, and the variance of the source."""

    source: tuple[Array, Array]
    target: tuple[Array, Array]
    variance: Array


@dataclass(frozen=True)
class MutualInformation(Similarity):
    """Mutual information of intensities: Dist = -2 M MI, in nats (Mattes et al. 2003).

    For images that are linear functions of each other plus Gaussian noise γ/2 Dist is, with γ = 1,
    the negative log likelihood of their intensities. The histogram of the deformed image is
    smoothed by cubic B-splines, so that Dist has a derivative; that of the target has plain bins.

    Parameters
    ----------
    bins : int
        Number of bins of each image's intensity range.
    """

    bins: int = 32

    def __post_init__(self) -> None:
        checks.count("bins", self.bins, minimum=8)

    def statistics(
        self, source: Array, target: Array, spacing: Sequence[float], mask: Array | None = None
    ) -> Statistics:
        """Ranges of intensities, and the variance of the source."""
        xp = array_module(source, target)
        ranges = intensity_range(source, xp), intensity_range(target, xp, mask)
        return Statistics(*ranges, variance(source))

    def value_and_half_derivative(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """-2 M MI and -Σ_i B'(i - p) ln(p_ij / p_i) / width."""
        joint, index, beyond, width = self._histogram(deformed, target, statistics, mask)
        xp = array_module(joint)
        rows, columns = xp.sum(joint, axis=2, keepdims=True), xp.sum(joint, axis=1, keepdims=True)
        filled = joint > 0
        conditional = xp.log(xp.where(filled, joint / xp.where(rows > 0, rows, 1.0), 1.0))
        ratio = conditional - xp.log(xp.where(columns > 0, columns, 1.0))
        information = xp.sum(xp.where(filled, joint * ratio, 0.0), axis=(1, 2))
        table = conditional.astype(deformed.dtype).reshape(-1)
        half = xp.zeros_like(beyond)
        for offset in range(4):
            slope = _spline_slope(beyond - offset, xp)
            half = half - slope * table[index + offset * self.bins]
        half = half / width.astype(deformed.dtype)
        value = -2.0 * per_pair(voxel_count(deformed, mask) * as_column(information, deformed))
        return value, masked(half, mask)

    def curvature(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Any:
        """1 / variance of I given T."""
        joint, _, _, width = self._histogram(deformed, target, statistics, mask)
        xp = array_module(joint)
        bins = xp.arange(self.bins, dtype=joint.dtype)[:, None]
        columns = xp.sum(joint, axis=1, keepdims=True)
        mean = xp.sum(bins * joint, axis=1, keepdims=True) / xp.where(columns > 0, columns, 1.0)
        within = xp.sum(joint * (bins - mean) ** 2, axis=(1, 2))
        return 1.0 / (as_column(within, deformed) * width**2 + FLOOR * statistics.variance)

    def _histogram(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None
    ) -> tuple[Array, Array, Array, Array]:
        """Joint histogram p_ij (pairs, bins, bins); per voxel, the flat index of its first cell and
        the distance of its intensity beyond that row; the width of a row."""
        xp, kind, bins = array_module(deformed, target), deformed.dtype.type, self.bins
        low, high = statistics.source
        width = xp.maximum(high - low, 1e-12) / (bins - 5)  # two rows to spare on either side
        position = (deformed - low.astype(kind)) * (1 / width).astype(kind) + 2
        position = xp.minimum(xp.maximum(position, 2), bins - 3)
        first = xp.floor(position) - 1
        beyond = position - first
        low, high = statistics.target
        scale = (bins / xp.maximum(high - low, 1e-12)).astype(kind)
        column = xp.floor((target - low.astype(kind)) * scale)
        column = xp.minimum(xp.maximum(column, 0), bins - 1).astype(np.int64)
        pairs = deformed.shape[0]
        start = bins**2 * as_column(xp.arange(pairs), deformed)
        index = start + bins * first.astype(np.int64) + column
        joint = xp.zeros(pairs * bins**2, dtype=np.float64)
        for offset in range(4):
            weight = masked(_spline(beyond - offset, xp), mask)
            cell = (index + offset * bins).reshape(-1)
            joint = joint + xp.bincount(cell, weights=weight.reshape(-1), minlength=joint.size)
        joint = joint.reshape(pairs, -1) / xp.reshape(voxel_count(deformed, mask), (-1, 1))
        return joint.reshape(pairs, bins, bins), index, beyond, width


def _spline(x: Array, xp: Any) -> Array:
    """Cubic B-spline at |x| <= 2."""
    x = xp.abs(x)
    return xp.where(x < 1, (4 - 6 * x**2 + 3 * x**3) / 6, xp.maximum(2 - x, 0) ** 3 / 6)


def _spline_slope(x: Array, xp: Any) -> Array:
    """Derivative of `_spline`."""
    size = xp.abs(x)
    inner = (1.5 * size - 2) * x
    outer = -0.5 * xp.maximum(2 - size, 0) ** 2 * xp.sign(x)
    return xp.where(size < 1, inner, outer)

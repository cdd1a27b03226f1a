"""Global normalized cross-correlation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fourierreg.backend import Array
from fourierreg.image.similarity.base import (
    FLOOR,
    Similarity,
    centered,
    per_pair,
    total,
    variance,
    voxel_count,
)


@dataclass(frozen=True)
class Correlation(Similarity):
    """Global normalized cross-correlation: Dist = M (1 - r²), r Pearson's correlation of I and T.

    r² is the fraction of the variance of one image that the other explains by any linear change of
    intensity.
    """

    capturable: ClassVar[bool] = True

    def statistics(
        self, source: Array, target: Array, spacing: Sequence[float], mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Variances of the images."""
        return variance(source), variance(target, mask)

    def value_and_half_derivative(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """M (1 - r²) and -M a [(T - mean) - (A/B) (I - mean)]; A, B, C are the centered sums of
        I T, I² and T², a = A/BC."""
        kind, count = deformed.dtype.type, voxel_count(deformed, mask)
        i, t = centered(deformed, mask, count), centered(target, mask, count)
        across = total(i * t)
        own = total(i * i) + count * FLOOR**2 * statistics[0]  # matters for a constant image
        other = total(t * t) + count * FLOOR**2 * statistics[1]
        a = across / (own * other)
        half = (-count * a).astype(kind) * (t - (across / own).astype(kind) * i)
        return per_pair(count * (1.0 - across * a)), half

    def curvature(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Any:
        """1 / variance of I."""
        count = voxel_count(deformed, mask)
        i = centered(deformed, mask, count)
        return count / (total(i * i) + count * FLOOR**2 * statistics[0])

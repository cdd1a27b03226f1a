"""The likelihood of images whose windows have a gain, an offset and a variance of their own."""

from dataclasses import dataclass
from typing import Any, ClassVar

from fourierreg.backend import Array, array_module
from fourierreg.image.similarity.base import masked
from fourierreg.image.similarity.local_correlation import (
    LocalCorrelation,
    WindowStatistics,
    derivative_of_terms,
    volume,
    window_sum,
    window_terms,
)
from fourierreg.image.voxels import voxel_sums

SHARE = 0.999  # of r² that counts: equal windows have a finite likelihood


@dataclass(frozen=True)
class LocalLikelihood(LocalCorrelation):
    """Dist = Σ_x ln(1 - r²(x)), r the correlation of I and T in the window around x.

    In every window T is a linear function of I plus white noise. With its three parameters at
    their maxima the negative log likelihood of a window of W voxels is W/2 ln(1 - r²), and a voxel
    is in W windows: γ/2 Dist with γ = ρ, the fraction of independent voxels, has no σ
    (docs/mathematics.md).

    Parameters
    ----------
    radius : float
        As of `LocalCorrelation`.
    """

    likelihood: ClassVar[bool] = True

    def value_and_half_derivative(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Σ ln(1 - r²), and its exact derivative."""
        xp, image = array_module(deformed, target), volume(deformed)
        terms = self._terms(image, statistics)
        half = derivative_of_terms(terms, image, statistics)
        value = voxel_sums(xp.log(1 - SHARE * terms[:, 3]))
        return value, half.reshape(deformed.shape)

    def curvature(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Any:
        """Σ of r² / (1 - r²) / (sum of squares of I) over the windows that contain a voxel."""
        terms = self._terms(volume(deformed), statistics)
        return window_sum(terms[:, 0], statistics.radii).reshape(deformed.shape)

    def residual(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Array:
        """What the linear function of its window leaves of a voxel, over the rms of that in the
        window."""
        xp, known, image = array_module(deformed, target), statistics, volume(deformed)
        terms = window_terms(image, known)
        a = xp.where(terms[:, 1] == 0, 1, terms[:, 1])
        gain, offset = terms[:, 0] / a, terms[:, 2] / a
        shift = known.shift.reshape(-1, 1, 1, 1)
        left = known.target - gain * (image - shift) + offset
        variance = known.spread * (1 - SHARE * terms[:, 3]) / xp.maximum(known.size, 1)
        return masked((left / xp.sqrt(variance)).reshape(deformed.shape), mask)

    def _terms(self, image: Array, known: WindowStatistics) -> Array:
        """As `window_terms`, the first three multiplied by the derivative of ln(1 - r²)."""
        terms = window_terms(image, known)
        terms[:, :3] *= (SHARE / (1 - SHARE * terms[:, 3]))[:, None]
        return terms

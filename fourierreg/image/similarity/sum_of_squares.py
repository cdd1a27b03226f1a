"""Sum of squared differences, the Gaussian likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fourierreg.backend import Array
from fourierreg.image.similarity.base import Similarity, masked
from fourierreg.image.voxels import residual_and_force, voxel_sums


@dataclass(frozen=True)
class SumOfSquares(Similarity):
    """Dist = Σ (I - T)²: with γ = ρ/σ² the Gaussian likelihood of Eq. 4, erratum E1."""

    gaussian: ClassVar[bool] = True
    likelihood: ClassVar[bool] = True
    capturable: ClassVar[bool] = True

    def value_and_force(
        self,
        source: Array,
        target: Array,
        u: Array,
        spacing: Sequence[float],
        statistics: Any,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """As in the base class, in one pass over the voxels."""
        residual, force = residual_and_force(source, target, u, spacing)
        if mask is not None:
            residual, force = residual * mask, force * mask[:, None]
        return voxel_sums(residual * residual), force

    def value_and_half_derivative(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Σ r² and r."""
        residual = masked(deformed - target, mask)
        return voxel_sums(residual * residual), residual

    def curvature(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Any:
        """The constant 1."""
        return 1.0

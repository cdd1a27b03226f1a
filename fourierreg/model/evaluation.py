"""The energies of some pairs at their velocities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fourierreg.backend import Array
from fourierreg.geodesic.shooting import Geodesic


class Evaluation(NamedTuple):
    """Energies at the velocities of some pairs, in nats, and the geodesics they were computed from.

    `total` is prior and likelihood plus the barrier against folds (`fourierreg.model.end_map`).
    `gradient` is the L² gradient with respect to v₀, (pairs, d, *band). Where the end map is not a
    diffeomorphism the energies are infinite and the gradient zero; it is None where no pair has
    one.
    """

    total: np.ndarray
    prior: np.ndarray
    likelihood: np.ndarray
    gradient: Array | None
    geodesic: Geodesic

    def select(self, pairs: Sequence[int]) -> "Evaluation":
        """The evaluation of some of the pairs."""
        pairs = list(pairs)
        return Evaluation(
            self.total[pairs],
            self.prior[pairs],
            self.likelihood[pairs],
            None if self.gradient is None else self.gradient[pairs],
            self.geodesic.select(pairs),
        )

"""The noise of a running registration: given or estimated, on every grid of a pyramid."""

import math
from dataclasses import replace

from fourierreg.model.evaluation import Evaluation
from fourierreg.model.noise import Noise
from fourierreg.registration.level import Level

CONTINUATION_FACTOR = 10.0  # between the weights of successive fits


class PairNoise:
    """σ and ρ of one pair, which change as it is registered.

    Parameters
    ----------
    noise : Noise
        Given, or to be estimated.
    likelihood : bool
        Whether the similarity is one; otherwise the weight is given and stays.
    levels : list of Level
        Coarse to fine.

    Attributes
    ----------
    present : Noise
    given : Noise or None
    given_from : int
        The coarsest grid on which a given noise holds. On coarser ones the noise is that of the
        residual where that is larger: resampled images do not deform exactly as the images do.
    """

    def __init__(self, noise: Noise, likelihood: bool, levels: list[Level]):
        self.present, self.given = noise, None if noise.estimated else noise
        self.likelihood, self.levels, self.given_from = likelihood, levels, len(levels) - 1
        self.initial_weight = self._start(self.given_from, None)

    def is_estimated(self, level: int) -> bool:
        """Whether the noise of a grid is estimated from the residual there."""
        return self.likelihood and (self.given is None or level < self.given_from)

    def estimate(self, level: int, evaluation: Evaluation | None) -> float:
        """Estimate σ and ρ from the residual on a grid; returns |change of ln(ρ/σ²)|.

        Every grid has its own: smoothing takes from σ what it adds to the correlation of voxels.
        """
        before = self.present
        self.present = self._of_grid(level, evaluation)
        return abs(math.log(self.present.weight / before.weight))

    def _of_grid(self, level: int, evaluation: Evaluation | None) -> Noise:
        if self.given is None:
            return self._of_residual(self.present, level, evaluation)
        if not self.is_estimated(level):
            return self.given
        white = replace(self.given, fixed_decimation=self.given.decimation)
        estimated = self._of_residual(white, level, evaluation)
        return estimated if estimated.weight < self.given.weight else self.given

    def _of_residual(self, noise: Noise, level: int, evaluation: Evaluation | None) -> Noise:
        """A noise with what the residual on a grid suggests."""
        grid = self.levels[level]
        return noise.of_residual(grid.residual(evaluation), grid.inside, grid.voxel_ratio)

    def _start(self, level: int, evaluation: Evaluation | None) -> float:
        """Weight that the residual suggests where nothing is known of its ρ."""
        unknown = self.present if self.given is None else replace(self.given, fixed_decimation=None)
        return self._of_residual(unknown, level, evaluation).weight

    @property
    def needs_continuation(self) -> bool:
        """Whether the given weight is far from what the unregistered images suggest."""
        if self.given is None or not self.likelihood:
            return False
        return self.initial_weight * CONTINUATION_FACTOR < self.given.weight

    def continuation(self, level: int, evaluation: Evaluation | None) -> list[Noise]:
        """Noises of the fits that precede the one at the given noise on a grid: their weights grow
        tenfold from what the residual suggests."""
        if self.given is None or not self.likelihood or self.is_estimated(level):
            return []
        weight, noises = self._start(level, evaluation), []
        while weight * CONTINUATION_FACTOR < self.given.weight:
            noises.append(replace(self.given, sigma=math.sqrt(self.given.decimation / weight)))
            weight *= CONTINUATION_FACTOR
        return noises

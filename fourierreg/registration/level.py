"""A grid of the pyramid on which a pair is registered."""

import math
from typing import NamedTuple

from fourierreg.backend import Array, array_module
from fourierreg.model.evaluation import Evaluation
from fourierreg.model.problem import Problem
from fourierreg.registration.pyramid import at_shape, coarse_modes, mask_at_shape


class Level(NamedTuple):
    """A grid of the pyramid.

    Attributes
    ----------
    problem : Problem
        With weight 1.
    inside : bool array, (1, N_1, …, N_d)
        Voxels that count.
    voxel_ratio : float
        Image voxels per voxel of the grid.
    modes : tuple of int
        Band of the velocities that are fitted on it.
    """

    problem: Problem
    inside: Array
    voxel_ratio: float
    modes: tuple[int, ...]

    def residual(self, evaluation: Evaluation | None) -> Array:
        """What the likelihood takes for noise; of the undeformed source without an evaluation."""
        problem = self.problem
        moved = problem.undeformed if evaluation is None else problem.deformed(evaluation.geodesic)
        return problem.similarity.residual(moved, problem.target, problem.statistics, problem.mask)


def level_of(
    problem: Problem,
    inside: Array,
    shape: tuple[int, ...],
    narrow: bool,
    modes: tuple[int, ...],
) -> Level:
    """The `Level` of a shape, with a band that is `narrow` or the whole one of so many `modes`."""
    xp = array_module(problem.source)
    return Level(
        at_shape(problem, shape, xp),
        inside if shape == problem.shape else mask_at_shape(inside, shape, xp),
        math.prod(problem.shape) / math.prod(shape),
        coarse_modes(shape, modes) if narrow else modes,
    )

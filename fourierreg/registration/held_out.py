"""How well the registration of half of the voxels predicts the other half.

The voxels of a grid are split into the two colors of a checkerboard of blocks. The velocity is
fitted to the voxels of one color, and the dissimilarity it leaves is measured on those of the
other. Too smooth a map leaves anatomy unmatched in both; too rough a one matches the noise of the
half it has seen, and the half that it has not seen gets worse. So the α at which the dissimilarity
of held-out voxels is smallest needs no model of the noise.
"""

import functools
from dataclasses import replace

import numpy as np

from fourierreg.backend import Array, asarray, to_numpy
from fourierreg.model.problem import Problem
from fourierreg.spectral.metric import MetricBatch

BLOCK = 2  # voxels along each side of a block


def seen(problem: Problem, inside: Array) -> Problem:
    """The problem of the voxels of one color, of those (pairs, N_1, …, N_d) that count."""
    return replace(problem, mask=_compared(problem, inside) & _color(problem))


def held_out_losses(
    problem: Problem, metric: MetricBatch, velocity: Array, inside: Array
) -> np.ndarray:
    """Dissimilarity of the voxels of the other color.

    Parameters
    ----------
    problem : Problem
        Of all voxels.
    metric : MetricBatch
    velocity : complex array, (pairs, d, *band)
        Fitted to the problem of `seen`.
    inside : bool array, (pairs, N_1, …, N_d)
        Voxels that count.

    Returns
    -------
    float array, (pairs, parts)
        In each of the 2^d parts into which planes through the centre of the foreground divide the
        image.
    """
    compared, color = _compared(problem, inside), _color(problem)
    moved = problem.deformed(problem.shoot(velocity, metric, linearize=False))
    parts = [_parts(to_numpy(one)) for one in compared]
    columns = []
    for part in range(len(parts[0])):
        chosen = compared & ~color & asarray(np.stack([own[part] for own in parts]))
        columns.append(_dissimilarity(problem, moved, chosen))
    return np.stack(columns, axis=1)


def _compared(problem: Problem, inside: Array) -> Array:
    return inside if problem.mask is None else inside & problem.mask


def _color(problem: Problem) -> Array:
    return asarray(checkerboard(problem.shape))[None]


def checkerboard(shape: tuple[int, ...]) -> np.ndarray:
    """One color of a checkerboard of blocks, a bool array."""
    blocks = np.ogrid[tuple(slice(0, n) for n in shape)]
    total = functools.reduce(np.add, [index // BLOCK for index in blocks])
    return total % 2 == 0


def _parts(inside: np.ndarray) -> list[np.ndarray]:
    """Indicators of the 2^d parts of a grid on the two sides of the foreground's centre."""
    centers = [
        np.average(np.arange(n), weights=_profile(inside, axis))
        for axis, n in enumerate(inside.shape)
    ]
    sides = [
        axis <= center
        for axis, center in zip(
            np.ogrid[tuple(slice(0, n) for n in inside.shape)], centers, strict=True
        )
    ]
    parts = [np.ones(inside.shape, bool)]
    for side in sides:
        parts = [part & half for part in parts for half in (side, ~side)]
    return parts


def _profile(inside: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(j for j in range(inside.ndim) if j != axis)
    return inside.sum(axis=others) + 1e-9


def _dissimilarity(problem: Problem, moved: Array, mask: Array) -> np.ndarray:
    """Dist over the voxels of a mask, (pairs,), on the host."""
    similarity, spacing = problem.similarity, problem.spacing
    known = similarity.statistics(problem.source, problem.target, spacing, mask)
    value, _ = similarity.value_and_half_derivative(moved, problem.target, known, mask)
    return to_numpy(value).astype(float)

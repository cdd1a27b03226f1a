"""Measures of the quality of a registration: overlap, residual, Jacobian, inverse consistency."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fourierreg.backend import Array, to_numpy
from fourierreg.image.deformation import compose
from fourierreg.image.geometry import Geometry, resample_onto

Structures = Mapping[str, Sequence[int]]  # name to the label values of a structure


def dice(first: Array, second: Array) -> dict[int, float]:
    """Dice overlap of every label (Dice 1945).

    Parameters
    ----------
    first, second : integer arrays of one shape

    Returns
    -------
    dict
        Label to overlap in [0, 1], for every non-zero label of either image.
    """
    a, b = to_numpy(first).ravel(), to_numpy(second).ravel()
    labels, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    codes_a, codes_b = codes[: a.size], codes[a.size :]
    n = labels.size
    both = np.bincount(codes_a[codes_a == codes_b], minlength=n)
    total = np.bincount(codes_a, minlength=n) + np.bincount(codes_b, minlength=n)
    return {
        int(label): 2.0 * float(both[i]) / float(total[i])
        for i, label in enumerate(labels)
        if label != 0
    }


def mean_dice(first: Array, second: Array) -> float:
    """Mean of `dice` over all labels."""
    return float(np.mean(list(dice(first, second).values())))


def root_mean_square(deformed: Array, target: Array) -> float:
    """Root mean square intensity difference over the voxels where either image is non-zero."""
    a, b = to_numpy(deformed), to_numpy(target)
    inside = (a != 0) | (b != 0)
    return float(np.sqrt(np.mean((a - b)[inside] ** 2)))


def jacobian_statistics(determinant: Array) -> dict[str, float]:
    """Statistics of a Jacobian determinant.

    Parameters
    ----------
    determinant : array

    Returns
    -------
    dict
        ``min`` and ``max``; ``folds``, the number of voxels where it is not positive; ``sd_log``,
        the standard deviation of its logarithm over the other voxels.
    """
    j = to_numpy(determinant)
    return {
        "min": float(j.min()),
        "max": float(j.max()),
        "folds": int(np.sum(j <= 0)),
        "sd_log": float(np.std(np.log(j[j > 0]))),
    }


def merge_labels(labels: Array, structures: Structures) -> dict[str, np.ndarray]:
    """Masks of structures that consist of several labels.

    Structures may overlap (a gyrus is part of the cortex), so each has its own mask.

    Parameters
    ----------
    labels : integer array
    structures : dict
        Structure name to the label values that belong to it.

    Returns
    -------
    dict
        Structure name to a bool array.
    """
    labels = to_numpy(labels)
    return {name: np.isin(labels, list(values)) for name, values in structures.items()}


def structure_dice(first: Array, second: Array, structures: Structures) -> dict[str, float]:
    """Dice overlap of structures; NaN for a structure that is in neither image.

    Parameters
    ----------
    first, second : integer arrays of one shape
    structures : dict
        As in `merge_labels`.

    Returns
    -------
    dict
        Structure name to overlap in [0, 1].
    """
    a, b = (merge_labels(labels, structures) for labels in (first, second))
    overlaps = {}
    for name in structures:
        total = int(a[name].sum()) + int(b[name].sum())
        both = int(np.sum(a[name] & b[name]))
        overlaps[name] = 2.0 * both / total if total else float("nan")
    return overlaps


def inverse_consistency(
    displacement: Array, inverse: Array, spacing: Sequence[float]
) -> dict[str, float]:
    """Distance of φ∘φ⁻¹ from the identity, in the units of `spacing`.

    It is evaluated where φ⁻¹ stays on the grid; beyond the grid φ is unknown.

    Parameters
    ----------
    displacement, inverse : arrays, shape (d, N_1, …, N_d)
        Of φ⁻¹ and φ, in mm.
    spacing : sequence of float

    Returns
    -------
    dict
        ``rms`` and ``max`` over the voxels.
    """
    composed = to_numpy(compose(inverse, displacement, spacing))
    inside = np.ones(composed.shape[1:], dtype=bool)
    for axis, (u, h) in enumerate(zip(to_numpy(displacement), spacing, strict=True)):
        n = u.shape[axis]
        position = np.arange(n).reshape([-1 if a == axis else 1 for a in range(u.ndim)]) + u / h
        inside &= (position >= 0) & (position <= n - 1)
    distance = np.sqrt((composed**2).sum(axis=0))[inside]
    return {"rms": float(np.sqrt(np.mean(distance**2))), "max": float(distance.max())}


def resampled_dice(
    source: Any,
    target: Any,
    structures: Structures | None = None,
    displacement: np.ndarray | None = None,
    grid: Geometry | None = None,
) -> dict[Any, float]:
    """Dice overlap of the source labels, resampled onto the grid of the target labels, with these.

    Parameters
    ----------
    source, target : nibabel label images
    structures : dict, optional
        As in `merge_labels`; every label by itself by default.
    displacement : ndarray (3, N_1, N_2, N_3), optional
        In mm along the axes of `grid`; without it only the headers' affines are used.
    grid : Geometry, optional
        Grid of the displacement.

    Returns
    -------
    dict
        Label or structure name to overlap in [0, 1].
    """
    data, truth = (np.asanyarray(image.dataobj) for image in (source, target))
    target_grid = Geometry.of(target)
    moved = resample_onto(
        data.astype(np.float64), Geometry.of(source), target_grid, displacement, order=0, grid=grid
    ).astype(np.int64)
    return dice(moved, truth) if structures is None else structure_dice(moved, truth, structures)


def dice_before_and_after(
    result: Any, source: Any, target: Any, structures: Structures | None = None
) -> dict[str, list[float]]:
    """Dice overlap before (by the headers' affines) and after a registration.

    Parameters
    ----------
    result : Registration
        With a `geometry`.
    source, target : nibabel label images
        The overlap is evaluated on the grid of `target`.
    structures : dict, optional
        As in `merge_labels`; every label by itself by default.

    Returns
    -------
    dict
        Label or structure name to [before, after], NaN where a structure is in neither image; and
        ``mean``, over the structures that have both values.
    """
    displacement = to_numpy(result.displacement)
    before = resampled_dice(source, target, structures)
    after = resampled_dice(source, target, structures, displacement, result.geometry)
    names = list(dict.fromkeys([*before, *after]))
    overlaps = {str(name): [d.get(name, math.nan) for d in (before, after)] for name in names}
    valid = [values for values in overlaps.values() if not any(map(math.isnan, values))]
    mean = np.mean(valid, axis=0) if valid else (math.nan, math.nan)
    return {"mean": [float(x) for x in mean], **overlaps}

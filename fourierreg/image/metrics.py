"""Numbers that say how good a registration is."""

import math

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.image.deformation import compose
from fourierreg.image.geometry import Geometry, resample_onto


def dice(first, second):
    """Dice overlap of every label (Dice 1945).

    Parameters
    ----------
    first, second : integer arrays of one shape

    Returns
    -------
    dict
        Label to overlap in [0, 1], for every non-zero label of either.
    """
    a, b = to_numpy(first).ravel(), to_numpy(second).ravel()
    labels, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    ca, cb = codes[: a.size], codes[a.size :]
    n = labels.size
    both = np.bincount(ca[ca == cb], minlength=n)
    total = np.bincount(ca, minlength=n) + np.bincount(cb, minlength=n)
    return {
        int(label): 2.0 * float(both[i]) / float(total[i])
        for i, label in enumerate(labels)
        if label != 0
    }


def mean_dice(first, second):
    """Mean of `dice` over all labels."""
    return float(np.mean(list(dice(first, second).values())))


def root_mean_square(deformed, target):
    """Rms intensity difference over the voxels where either image is not zero."""
    a, b = to_numpy(deformed), to_numpy(target)
    inside = (a != 0) | (b != 0)
    return float(np.sqrt(np.mean((a - b)[inside] ** 2)))


def jacobian_statistics(determinant):
    """Smallest and largest determinant, voxels that fold, sd of its logarithm elsewhere."""
    j = to_numpy(determinant)
    return {
        "min": float(j.min()),
        "max": float(j.max()),
        "folds": int(np.sum(j <= 0)),
        "sd_log": float(np.std(np.log(j[j > 0]))),
    }


def merge_labels(labels, structures):
    """Which voxels belong to which merged structure.

    Structures may overlap (a gyrus is part of the cortex), so each has a map of its own.

    Parameters
    ----------
    labels : integer array
    structures : dict
        Name to the label values that belong to it.

    Returns
    -------
    dict
        Name to a bool array.
    """
    labels = to_numpy(labels)
    return {name: np.isin(labels, list(values)) for name, values in structures.items()}


def structure_dice(first, second, structures):
    """Dice overlap of merged structures; NaN for one that neither image has.

    Parameters
    ----------
    first, second : integer arrays of one shape
    structures : dict
        As in `merge_labels`.

    Returns
    -------
    dict
        Name to overlap in [0, 1].
    """
    a, b = (merge_labels(labels, structures) for labels in (first, second))
    found = {}
    for name in structures:
        total = int(a[name].sum()) + int(b[name].sum())
        both = int(np.sum(a[name] & b[name]))
        found[name] = 2.0 * both / total if total else float("nan")
    return found


def inverse_consistency(displacement, inverse, spacing):
    """How far φ∘φ⁻¹ is from the identity: rms and largest distance, in the units of `spacing`.

    Taken where φ⁻¹ stays on the grid: what lies beyond it is not known there.

    Parameters
    ----------
    displacement, inverse : arrays, shape (d, N_1, …, N_d)
        Of φ⁻¹ and φ, in mm.
    spacing : sequence of float

    Returns
    -------
    dict
        ``rms`` and ``max``.
    """
    around = to_numpy(compose(inverse, displacement, spacing))
    inside = np.ones(around.shape[1:], dtype=bool)
    for axis, (u, h) in enumerate(zip(to_numpy(displacement), spacing, strict=True)):
        n = u.shape[axis]
        at = np.arange(n).reshape([-1 if a == axis else 1 for a in range(u.ndim)]) + u / h
        inside &= (at >= 0) & (at <= n - 1)
    distance = np.sqrt((around**2).sum(axis=0))[inside]
    return {"rms": float(np.sqrt(np.mean(distance**2))), "max": float(distance.max())}


def carried_dice(source, target, structures=None, displacement=None, grid=None):
    """Dice of labels carried from source to target, on the grid of the target's labels.

    Parameters
    ----------
    source, target : nibabel label maps
    structures : dict, optional
        Merged structures; every label by default.
    displacement : ndarray (3, N_1, N_2, N_3), optional
        In mm along the axes of `grid`; by the headers only without it.
    grid : Geometry, optional
        Where the displacement lives.

    Returns
    -------
    dict
    """
    data, truth = (np.asanyarray(image.dataobj) for image in (source, target))
    there = Geometry.of(target)
    moved = resample_onto(
        data.astype(np.float64), Geometry.of(source), there, displacement, order=0, grid=grid
    ).astype(np.int64)
    return dice(moved, truth) if structures is None else structure_dice(moved, truth, structures)


def overlaps_of(result, source, target, structures=None):
    """Dice before (headers only) and after a registration, on the grid of the target's labels.

    Parameters
    ----------
    result : Registration
        With geometry.
    source, target : nibabel label maps
    structures : dict, optional
        Merged structures; every label by default.

    Returns
    -------
    dict
        Structure, and ``mean``, to [before, after].
    """
    u = to_numpy(result.displacement)
    each = [
        carried_dice(source, target, structures, *carried) for carried in ((), (u, result.geometry))
    ]
    names = list(dict.fromkeys([*each[0], *each[1]]))
    found = {str(name): [e.get(name, math.nan) for e in each] for name in names}
    known = [values for values in found.values() if not any(map(math.isnan, values))]
    mean = np.mean(known, axis=0) if known else (math.nan, math.nan)
    return {"mean": [float(x) for x in mean], **found}

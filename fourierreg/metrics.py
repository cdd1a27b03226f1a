"""Numbers that say how good a registration is."""

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.image.deformation import compose


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
    distance = np.sqrt((around**2).sum(axis=0))
    return {"rms": float(np.sqrt(np.mean(distance**2))), "max": float(distance.max())}

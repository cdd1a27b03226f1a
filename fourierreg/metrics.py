"""Numbers that say how good a registration is."""

import numpy as np

from fourierreg.backend import to_numpy


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

"""What a folder's registrations are worth, in numbers."""

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from fourierreg.image.metrics import inverse_consistency, jacobian_statistics, overlaps_of
from fourierreg.labelling.folder import DONE, TABLE, read_table
from fourierreg.results import folder as output


def is_table(folder):
    """Whether a folder holds the labels of many pairs."""
    return (Path(folder) / TABLE).is_file()


def evaluate_run(folder, labels=None, structures=None):
    """α, Jacobian, inverse consistency and Dice of the registration in a folder.

    Parameters
    ----------
    folder : path
    labels : (source, target) nibabel label maps, optional
    structures : dict, optional
        Merged structures; every label by default.

    Returns
    -------
    dict
        ``dice`` maps structure to [before, after].

    Raises
    ------
    InputError
        No registration there.
    """
    result = output.load(folder)
    around = inverse_consistency(result.displacement, result.inverse_displacement, result.spacing)
    jacobian = jacobian_statistics(result.jacobian_determinant)
    report = {
        "pairs": 1,
        "alpha": result.alpha,
        "alpha_interval_95": result.alpha_interval,
        "status": result.status,
        **{f"jacobian_{name}": value for name, value in jacobian.items()},
        "inverse_consistency_rms_mm": around["rms"],
        "inverse_consistency_max_mm": around["max"],
    }
    if labels is not None:
        report["dice"] = overlaps_of(result, *labels, structures)
    return report


def evaluate_table(folder):
    """The same over the finished rows of a label run.

    Raises
    ------
    InputError
        No table there.
    """
    rows = read_table(folder)
    done = [row for row in rows if row["state"] == DONE]
    report = {"pairs": len(rows), "failed": len(rows) - len(done)}
    if not done:
        return report
    alpha = numbers(done, "alpha")
    report |= {
        "converged": sum(row["converged"] == "True" for row in done),
        "alpha_median": float(np.median(alpha)),
        "alpha_range": [float(alpha.min()), float(alpha.max())],
        "alpha_sd_median": float(np.nanmedian(numbers(done, "alpha_sd"))),
        "folds": int(numbers(done, "folds").sum()),
        "jacobian_min": float(numbers(done, "min_jacobian").min()),
        "jacobian_sd_log_median": float(np.median(numbers(done, "sd_log_jacobian"))),
        "inverse_consistency_rms_mm_median": float(
            np.median(numbers(done, "inverse_consistency_mm"))
        ),
        "seconds_median": float(np.median(numbers(done, "seconds"))),
    }
    if len(done) > 2:
        moved = numbers(done, "rms_displacement_mm")
        report["spearman_alpha_displacement"] = float(spearmanr(alpha, moved).statistic)
    if "dice" in done[0]:
        pairs = {"mean": ("dice_before", "dice")}
        for name in done[0]:
            if name.startswith("dice_") and "before" not in name:
                structure = name.removeprefix("dice_")
                pairs[structure] = (f"dice_before_{structure}", name)
        report["dice"] = {
            structure: [float(np.nanmean(numbers(done, column))) for column in columns]
            for structure, columns in pairs.items()
        }
    return report


def numbers(rows, name):
    """A column as numbers; NaN where a row has none."""
    return np.array([float(row[name] or "nan") for row in rows])

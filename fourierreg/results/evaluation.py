"""Evaluation of a registration or a label run: α, Jacobian, inverse consistency, Dice overlap."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from fourierreg.data.structures import Structures
from fourierreg.image.metrics import dice_before_and_after, inverse_consistency, jacobian_statistics
from fourierreg.labelling.folder import DONE, TABLE, read_table
from fourierreg.results.folder import load_registration


def is_label_run(folder: Path | str) -> bool:
    """Whether a folder is that of a label run, not of a single registration."""
    return (Path(folder) / TABLE).is_file()


def evaluate_registration(
    folder: Path | str,
    labels: tuple[Any, Any] | None = None,
    structures: Structures | None = None,
) -> dict[str, Any]:
    """Evaluate the registration in a folder.

    Parameters
    ----------
    folder : path
    labels : (source, target) nibabel label maps, optional
        For Dice overlap.
    structures : dict, optional
        Merged structures; by default every label.

    Returns
    -------
    dict
        ``dice`` maps each structure to [before, after].

    Raises
    ------
    InputError
        The folder has no registration.
    """
    result = load_registration(folder)
    consistency = inverse_consistency(
        result.displacement, result.inverse_displacement, result.spacing
    )
    jacobian = jacobian_statistics(result.jacobian_determinant)
    report: dict[str, Any] = {
        "pairs": 1,
        "alpha": result.alpha,
        "alpha_interval_95": result.alpha_interval,
        "status": result.status,
        **{f"jacobian_{name}": value for name, value in jacobian.items()},
        "inverse_consistency_rms_mm": consistency["rms"],
        "inverse_consistency_max_mm": consistency["max"],
    }
    if labels is not None:
        report["dice"] = dice_before_and_after(result, *labels, structures)
    return report


def evaluate_label_run(folder: Path | str) -> dict[str, Any]:
    """Evaluate the finished pairs of a label run: medians, ranges and means over pairs.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        ``dice`` maps each structure to [before, after].

    Raises
    ------
    InputError
        The folder has no label table.
    """
    rows = read_table(folder)
    done = [row for row in rows if row["state"] == DONE]
    report: dict[str, Any] = {"pairs": len(rows), "failed": len(rows) - len(done)}
    if not done:
        return report
    alpha = numeric_column(done, "alpha")
    report |= {
        "converged": sum(row["converged"] == "True" for row in done),
        "alpha_median": float(np.median(alpha)),
        "alpha_range": [float(alpha.min()), float(alpha.max())],
        "alpha_sd_median": float(np.nanmedian(numeric_column(done, "alpha_sd"))),
        "folds": int(numeric_column(done, "folds").sum()),
        "jacobian_min": float(numeric_column(done, "min_jacobian").min()),
        "jacobian_sd_log_median": float(np.median(numeric_column(done, "sd_log_jacobian"))),
        "inverse_consistency_rms_mm_median": float(
            np.median(numeric_column(done, "inverse_consistency_mm"))
        ),
        "seconds_median": float(np.median(numeric_column(done, "seconds"))),
    }
    if len(done) > 2:
        displacement = numeric_column(done, "rms_displacement_mm")
        report["spearman_alpha_displacement"] = float(spearmanr(alpha, displacement).statistic)
    if "dice" in done[0]:
        report["dice"] = _mean_dice(done)
    return report


def _mean_dice(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    """Mean over pairs of the Dice overlap of each structure, [before, after]."""
    columns = {"mean": ("dice_before", "dice")}
    for name in rows[0]:
        if name.startswith("dice_") and "before" not in name:
            structure = name.removeprefix("dice_")
            columns[structure] = (f"dice_before_{structure}", name)
    return {
        structure: [float(np.nanmean(numeric_column(rows, name))) for name in names]
        for structure, names in columns.items()
    }


def numeric_column(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    """Column of a table as floats; NaN for an empty cell."""
    return np.array([float(row[name] or "nan") for row in rows])

"""Summary of a data set: a table by the standard, and a page with the doubtful ones first."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourierreg.atomic import atomic_write, write_json
from fourierreg.backend import to_numpy
from fourierreg.bids.names import run_folder
from fourierreg.bids.scans import T1w
from fourierreg.data.nifti import read_image
from fourierreg.errors import InputError
from fourierreg.image.metrics import inverse_consistency
from fourierreg.results.folder import load_registration
from fourierreg.results.record import RECORD
from fourierreg.results.report import render_group

COLUMNS = {
    "name": "entities of the scan",
    "alpha": "inferred regularization strength",
    "alpha_low": "lower end of its 95 % interval",
    "alpha_high": "upper end of its 95 % interval",
    "match": "correlation of the deformed scan with the template over the brain",
    "rms_displacement_mm": "root mean square of the displacement over the brain, mm",
    "min_jacobian": "smallest Jacobian determinant of the inverse map",
    "folds": "voxels whose determinant is not positive",
    "inverse_consistency_mm": "rms distance of a point moved there and back, mm",
    "warnings": "number of reasons not to trust it",
    "converged": "whether the registration ended as it should",
    "status": "a sentence, or the warnings",
}


def write_group(output: Path, scans: Sequence[T1w]) -> list[str]:
    """Write ``group_T1w.tsv``, its description and ``group_T1w.html``.

    Returns
    -------
    list of str
        Entities of the scans that are not registered.

    Raises
    ------
    InputError
        No scan is registered.
    MissingDependencyError
        jinja2 or matplotlib is not installed.
    """
    rows, created, missing = [], [], []
    for scan in scans:
        folder = run_folder(output, scan)
        try:
            record = json.loads((folder / RECORD).read_text())
            rows.append(_row(scan, record, folder))
            created.append(record["created"])
        except (OSError, ValueError):  # not there, or not readable
            missing.append(scan.prefix)
    if not rows:
        raise InputError(f"OUTPUT: no registration in {output}; run the participant level first")
    page = render_group("T1w scans to a template", max(created), rows)
    lines = ["\t".join(COLUMNS)] + ["\t".join(_cell(row[name]) for name in COLUMNS) for row in rows]
    with atomic_write(output / "group_T1w.tsv") as file:
        file.write("\n".join(lines) + "\n")
    write_json(
        output / "group_T1w.json", {name: {"Description": text} for name, text in COLUMNS.items()}
    )
    with atomic_write(output / "group_T1w.html", "wb") as file:
        file.write(page.encode())
    return missing


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.5g}" if isinstance(value, float) else " ".join(str(value).split())


def _row(scan: T1w, record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Row of the table of a registered scan."""
    result = load_registration(folder)
    target = np.asarray(read_image(folder / "target.nii.gz", "target").dataobj)
    deformed = to_numpy(result.deformed)
    inside = (deformed != 0) & (target != 0)
    distance = np.sqrt((to_numpy(result.displacement) ** 2).sum(axis=0))
    consistency = inverse_consistency(
        result.displacement, result.inverse_displacement, result.spacing
    )
    match = _correlation(deformed[inside], target[inside])
    low, high = record["alpha_interval_95"] or (None, None)
    return {
        "name": scan.prefix,
        "alpha": record["alpha"],
        "alpha_low": low,
        "alpha_high": high,
        "match": match,
        "rms_displacement_mm": float(np.sqrt(np.mean(distance[inside] ** 2))) if match else None,
        "min_jacobian": record["jacobian"]["min"],
        "folds": record["jacobian"]["folds"],
        "inverse_consistency_mm": consistency["rms"],
        "warnings": len(record["warnings"]) + (match is None),
        "converged": record["converged"],
        "status": " ".join(record["warnings"]) or record["status"]
        if match is not None
        else "The deformed scan and the template do not overlap.",
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Correlation of two sets of voxels; None where there is none."""
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])

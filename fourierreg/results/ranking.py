"""Registrations of a group in order of doubt: warnings first, then what is unusual in the group."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

MIN_GROUP = 5  # registrations, below which none is unusual
UNUSUAL = 3.5  # robust standard deviations from the median
# Measure: the sign of what is doubtful (0: either), whether in the logarithm, the least spread that
# counts, and what to say.
MEASURES = {
    "min_jacobian": (-1, False, 0.02, "smallest Jacobian determinant"),
    "interval_width": (1, False, 0.1, "wide interval of α"),
    "alpha": (0, True, 0.05, "α unlike the others"),
    "rms_displacement_mm": (1, True, 0.05, "large displacements"),
    "inverse_consistency_mm": (1, False, 0.01, "inverse inconsistent"),
    "match": (-1, False, 0.005, "images match little"),
    "dice": (-1, False, 0.005, "labels overlap little"),
}
WARNED = 10.0  # score of a registration that converged with a warning
LOW_JACOBIAN = 0.1  # worth a look whatever the others have


class Doubt(NamedTuple):
    """Place of a registration in the order of doubt.

    Attributes
    ----------
    row : int
        In the given rows.
    score : float
        Largest distance from the median of the group in robust standard deviations, in the
        doubtful direction; infinite where it did not converge or folds, at least `WARNED` where
        there are warnings.
    reasons : tuple of str
    """

    row: int
    score: float
    reasons: tuple[str, ...]


def rank_by_doubt(rows: Sequence[Mapping[str, Any]]) -> list[Doubt]:
    """Order registrations so that those to inspect come first.

    Parameters
    ----------
    rows : sequence of mappings
        With any of the keys of `MEASURES`, and "converged", "warnings" (their number), "folds" and
        "status". Values may be numbers or their text; empty ones do not count.

    Returns
    -------
    list of Doubt
    """
    scores = {name: _scores(rows, name) for name in MEASURES}
    found = []
    for index, row in enumerate(rows):
        reasons, score = [], 0.0
        failed = str(row.get("converged", True)) == "False"
        if failed or _number(row, "warnings") > 0:
            reasons.append(str(row.get("status") or "did not converge"))
            score = np.inf if failed else WARNED
        if _number(row, "folds") > 0:
            reasons.append(f"{_number(row, 'folds'):.0f} voxels fold")
            score = np.inf
        elif _number(row, "min_jacobian") < LOW_JACOBIAN:
            reasons.append(f"smallest Jacobian determinant {_number(row, 'min_jacobian'):.2f}")
        for name, (*_, text) in MEASURES.items():
            distance = scores[name][index]
            if distance > UNUSUAL and not (name == "min_jacobian" and reasons):
                reasons.append(f"{text} ({distance:.1f} sd)")
            score = max(score, min(float(np.nan_to_num(distance)), 0.99 * WARNED))
        found.append(Doubt(index, score, tuple(reasons)))
    return sorted(found, key=lambda doubt: (-doubt.score, -len(doubt.reasons), doubt.row))


def _scores(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Distances from the median of a measure in robust standard deviations; 0 in small groups."""
    sign, logarithmic, least, _ = MEASURES[name]
    values = np.array([_number(row, name) for row in rows], dtype=float)
    if logarithmic:
        values = np.log(np.where(values > 0, values, np.nan))
    known = values[np.isfinite(values)]
    if known.size < MIN_GROUP:
        return np.zeros(len(rows))
    center = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - center))
    distances = (values - center) / max(spread, least)
    return np.abs(distances) if sign == 0 else sign * distances


def _number(row: Mapping[str, Any], name: str) -> float:
    if name == "interval_width":
        low, high = _number(row, "alpha_low"), _number(row, "alpha_high")
        return float(np.log(high / low)) if 0 < low < high else np.nan
    value = row.get(name)
    return np.nan if value in (None, "") else float(value)

"""Page on many registrations: those to inspect first, α of all, Dice."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierreg.labelling.folder import DONE, HEADER, read_table
from fourierreg.results.evaluation import evaluate_label_run
from fourierreg.results.ranking import WARNED, rank_by_doubt
from fourierreg.results.report_figures import alpha_figure, dice_figure, encoded, text_of

SHOWN = 50  # registrations in the table of doubts


def ranking_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the table of doubts, the most doubtful first.

    Parameters
    ----------
    rows : sequence of mappings
        As for `rank_by_doubt`.
    names : sequence of str
        What each is called.
    """
    return [
        {
            "name": names[doubt.row],
            "alpha": f"{float(rows[doubt.row]['alpha']):.3g}",
            "interval": _interval(rows[doubt.row]),
            "min_jacobian": f"{float(rows[doubt.row]['min_jacobian']):.2f}",
            "reasons": "; ".join(doubt.reasons) or "none",
        }
        for doubt in rank_by_doubt(rows)[:SHOWN]
    ]


def done_rows(folder: Path | str) -> list[dict[str, str]]:
    """Rows of the finished pairs of a label run.

    Raises
    ------
    InputError
        The folder has no label table.
    """
    return [row for row in read_table(folder) if row["state"] == DONE]


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row.get("alpha_low"), row.get("alpha_high")
    return "" if low in (None, "") else f"{float(low):.3g} to {float(high or 'nan'):.3g}"


def _pair_name(row: Mapping[str, Any]) -> str:
    ends = (row.get(f"{end}_subject") or Path(str(row[end])).name for end in ("source", "target"))
    return " to ".join(ends)


def group_content(title: str, created: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Content of the page of registrations that are not of one label run.

    Parameters
    ----------
    title, created : str
    rows : sequence of mappings
        With "name", "alpha", "alpha_low", "alpha_high", "rms_displacement_mm" and "min_jacobian".
    """
    texts = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    doubtful = sum(doubt.score >= WARNED for doubt in rank_by_doubt(rows))
    return {
        "title": title,
        "created": created,
        "status": f"{len(rows)} registrations, {doubtful} with warnings.",
        "success": not doubtful,
        "summary": [],
        "pictures": encoded([("α", *alpha_figure(texts))]) if rows else [],
        "ranking": ranking_of(rows, [str(row["name"]) for row in rows]),
        "tables": [],
        "command": "",
        "dice": None,
    }


def label_run_content(folder: Path) -> dict[str, Any]:
    """Content of the page of a label run."""
    evaluation = evaluate_label_run(folder)
    dice = evaluation.pop("dice", None)
    header = json.loads((folder / HEADER).read_text())
    settings = {**header.pop("settings"), **header}
    rows = done_rows(folder)
    pictures = [("α of all pairs", *alpha_figure(rows))] if rows else []
    if dice:
        pictures.append(("Overlap of labels, mean over pairs", *dice_figure(dice)))
    count = f"{evaluation['pairs']} pair{'s' if evaluation['pairs'] != 1 else ''}"
    return {
        "title": f"{count} in {folder.name}",
        "created": max((row["finished"] for row in rows), default=""),
        "status": f"{len(rows)} of {count} are done, {evaluation['failed']} failed or are missing.",
        "success": not evaluation["failed"],
        "summary": [(name.replace("_", " "), text_of(value)) for name, value in evaluation.items()],
        "pictures": encoded(pictures),
        "ranking": ranking_of(rows, [_pair_name(row) for row in rows]),
        "tables": [("Settings", [(name, text_of(value)) for name, value in settings.items()])],
        "command": "",
        "dice": dice,
    }

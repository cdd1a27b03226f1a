"""Figures in an output folder, where matplotlib is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourierreg.atomic import temporary_path
from fourierreg.registration.result import Registration


def save_overview(path: Path, result: Registration, source: np.ndarray, target: np.ndarray) -> None:
    """Save the overview figure, if matplotlib is installed."""
    try:
        from fourierreg.plotting import overview

        figure = overview(result, source, target)
    except ModuleNotFoundError:
        return
    with temporary_path(path) as name:
        figure.savefig(name, dpi=110)


def save_training_figure(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Save the training curve of a network, if matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    from fourierreg.plotting import training_curve

    figure = Figure(figsize=(6, 4), layout="constrained")
    training_curve(figure.subplots(), log)
    with temporary_path(path) as name:
        figure.savefig(name, dpi=110)

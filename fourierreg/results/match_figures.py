"""Figures that show at a glance whether two images match: checkerboard, edges, flicker."""

from typing import Any

import numpy as np

from fourierreg.image.foreground import foreground_scale
from fourierreg.results.report_figures import Figure, RegistrationFigures, row_axes

FIELDS = 8  # of the checkerboard along the longest axis
EDGE_LEVELS = (0.3, 0.65)  # of the brightest tissue; their contours are drawn as edges
EDGE_COLORS = ("#56B4E9", "#E69F00")


def checkerboard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two images of one shape in alternating blocks of a checkerboard."""
    block = max(2, max(first.shape) // FIELDS)
    parity = sum(np.indices(first.shape) // block) % 2
    return np.where(parity == 0, first, second)


def match_figure(figures: RegistrationFigures, target: np.ndarray) -> Figure:
    """Checkerboard of the target and the deformed source, and edges of the target over the latter.

    Parameters
    ----------
    figures : RegistrationFigures
    target : ndarray
        On the grid of the registration, normalized.
    """
    from fourierreg.plotting import orthogonal_views
    from fourierreg.plotting.views import VIEWS

    deformed, target = figures.reorient(figures.result.deformed), figures.reorient(target)
    figure, axes = row_axes(2, figures.canonical)
    spacing = figures.canonical.spacing
    scales = foreground_scale(target), foreground_scale(deformed)
    orthogonal_views(
        axes[0], checkerboard(target / scales[0], deformed / scales[1]), spacing=spacing
    )
    axes[0][0].set_ylabel("checkerboard")
    orthogonal_views(axes[1], deformed, spacing=spacing)
    axes[1][0].set_ylabel("edges of the target")
    levels = [level * scales[0] for level in EDGE_LEVELS]
    for ax, (_, axis) in zip(axes[1], VIEWS, strict=True):
        plane = np.take(target, target.shape[axis] // 2, axis=axis).T
        if plane.min() < levels[0] < plane.max():
            ax.contour(plane, levels=levels, colors=EDGE_COLORS, linewidths=0.7)
    note = (
        "Above: blocks of the target and of the deformed source in turn; folds of the brain should "
        "go on from block to block. Below: contours of the target over the deformed source."
    )
    return figure, note


def flicker_figures(figures: RegistrationFigures, target: np.ndarray) -> tuple[Any, Any]:
    """Target and deformed source in the same places of two figures, to be shown in turn."""
    from fourierreg.plotting import orthogonal_views

    frames = []
    for image in (target, figures.result.deformed):
        figure, axes = row_axes(1, figures.canonical)
        shown = figures.reorient(image)
        orthogonal_views(axes[0], shown, spacing=figures.canonical.spacing)
        frames.append(figure)
    return frames[0], frames[1]

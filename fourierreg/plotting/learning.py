"""Plots of networks and of their training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle


def training_curve(axes: Axes, log: Sequence[Mapping[str, Any]]) -> Axes:
    """Plot the root mean square error of ln α (or α) in training and validation over epochs.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    log : sequence of dict
        Log of `train`.
    """
    epochs = [float(row["epoch"]) for row in log]
    for name, label, color in (
        ("mse", "training", "#0072B2"),
        ("val_mse", "validation", "#D55E00"),
    ):
        errors = np.sqrt([float(row[name]) for row in log])
        axes.plot(epochs, errors, color=color, label=label)
    best = min(log, key=lambda row: float(row["val_mse"]))
    axes.axvline(float(best["epoch"]), color="0.6", linewidth=0.8, label="weights kept")
    axes.set(xlabel="epoch", ylabel="root mean square error of the output", yscale="log")
    axes.legend()
    return axes


LAYER_STYLES = {  # prefix of the class name: legend entry and color
    "InputLayer": ("image", "#999999"),
    "Conv": ("convolution", "#0072B2"),
    "MaxPooling": ("max-pooling", "#E69F00"),
    "Subtract": ("difference", "#CC79A7"),
    "Concatenate": ("fusion", "#CC79A7"),
    "Dense": ("fully connected", "#009E73"),
    "GlobalAveragePooling": ("average", "#E69F00"),
    "Add": ("sum", "#CC79A7"),
    "Rescaling": ("output", "#999999"),
    "Activation": ("output", "#999999"),
}


def network(axes: Axes, model: Any) -> Axes:
    """Draw the layers of a network: height for voxels per axis, width for channels.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    model : keras.Model
        A network of `build_network`.
    """
    from fourierreg.learning.diagram import layer_calls  # imports Keras

    calls = layer_calls(model)
    largest = max(call.voxels[0] for call in calls if call.voxels)
    row_height = 1.3 if any(call.row for call in calls) else 0.0
    centers = _centers(calls, row_height)
    for call, (x, y) in zip(calls, centers, strict=True):
        for index in call.inputs:
            input_x, input_y = centers[index]
            axes.plot([input_x, x], [input_y, y], color="0.6", linewidth=0.8, zorder=0)
    legend: dict[str, Any] = {}
    for call, center in zip(calls, centers, strict=True):
        label, color = next(
            style for prefix, style in LAYER_STYLES.items() if call.kind.startswith(prefix)
        )
        legend.setdefault(label, _draw_layer(axes, call, center, largest, color))
    axes.legend(
        list(legend.values()), list(legend), ncols=4, fontsize=7, loc="upper right", frameon=False
    )
    axes.set(
        xlim=(-1, max(x for x, _ in centers) + 1),
        ylim=(min(y for _, y in centers) - 0.9, row_height + 1.0),
        title=f"{model.name}: {model.count_params():,} parameters",
    )
    axes.axis("off")
    return axes


def _centers(calls: Sequence[Any], row_height: float) -> list[tuple[float, float]]:
    """Position of each layer; a residual shortcut is below the layers that it skips."""
    centers: list[tuple[float, float]] = []
    for call in calls:
        center = 2.2 * call.column, row_height * call.row
        while center in centers:
            center = center[0], center[1] - 1.2
        centers.append(center)
    return centers


def _draw_layer(
    axes: Axes, call: Any, center: tuple[float, float], largest: int, color: str
) -> Rectangle:
    """Draw a layer as a box with its kernel size, output shape and channels."""
    x, y = center
    height = 0.15 + 0.75 * np.sqrt(call.voxels[0] / largest) if call.voxels else 0.15
    width = 0.15 + 0.22 * np.log2(call.channels + 1)
    box = Rectangle(
        (x - width / 2, y - height / 2),
        width,
        height,
        facecolor=color,
        edgecolor="black",
        linewidth=0.5,
    )
    axes.add_patch(box)
    kernel = _power(call.kernel[0], len(call.kernel)) if call.kernel else ""
    if len(set(call.voxels)) > 1:
        voxels = "×".join(map(str, call.voxels))
    else:
        voxels = _power(call.voxels[0], len(call.voxels)) if call.voxels else "1"
    note = f"{voxels}\n{call.channels} ch."
    axes.text(x, y, kernel, ha="center", va="center", fontsize=6, color="white")
    axes.text(x, y - height / 2 - 0.05, note, ha="center", va="top", fontsize=6)
    return box


def _power(base: int, exponent: int) -> str:
    """Text of a square or a cube: 16², 16³."""
    return f"{base}{'²³'[exponent - 2]}"

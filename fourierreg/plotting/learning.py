"""Pictures of networks and their training."""

import numpy as np


def training_curve(axes, log):
    """Root mean square error of ln α (or α) in training and validation, against the epoch.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    log : list of dict
        Of `train`.
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


KINDS = {  # word and colour of a layer
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


def network(axes, model):
    """Draw a network from its layers: height for voxels per axis, width for channels.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    model : keras.Model
        Of `build_network`.
    """
    from fourierreg.learning.diagram import steps_of

    steps = steps_of(model)
    largest = max(step.voxels[0] for step in steps if step.voxels)
    apart = 1.3 if any(step.row for step in steps) else 0.0
    middles = []
    for step in steps:
        place = 2.2 * step.column, apart * step.row
        while place in middles:  # a shortcut beside the layers it cuts short
            place = place[0], place[1] - 1.2
        middles.append(place)
    for step, (x, y) in zip(steps, middles, strict=True):
        for index in step.inputs:
            before_x, before_y = middles[index]
            axes.plot([before_x, x], [before_y, y], color="0.6", linewidth=0.8, zorder=0)
    known = {}
    for step, (x, y) in zip(steps, middles, strict=True):
        word, color = next(v for k, v in KINDS.items() if step.kind.startswith(k))
        height = 0.15 + 0.75 * np.sqrt(step.voxels[0] / largest) if step.voxels else 0.15
        width = 0.15 + 0.22 * np.log2(step.channels + 1)
        box = axes.add_patch(_rectangle(x - width / 2, y - height / 2, width, height, color))
        known.setdefault(word, box)
        size = (
            "×".join(map(str, step.voxels))
            if len(set(step.voxels)) > 1
            else (f"{step.voxels[0]}{'²³'[len(step.voxels) - 2]}" if step.voxels else "1")
        )
        kernel = f"{step.kernel[0]}{'²³'[len(step.kernel) - 2]}" if step.kernel else ""
        axes.text(x, y, kernel, ha="center", va="center", fontsize=6, color="white")
        note = f"{size}\n{step.channels} ch."
        axes.text(x, y - height / 2 - 0.05, note, ha="center", va="top", fontsize=6)
    axes.legend(known.values(), known, ncols=4, fontsize=7, loc="upper right", frameon=False)
    axes.set(
        xlim=(-1, max(x for x, _ in middles) + 1),
        ylim=(min(y for _, y in middles) - 0.9, apart + 1.0),
        title=f"{model.name}: {model.count_params():,} parameters",
    )
    axes.axis("off")
    return axes


def _rectangle(x, y, width, height, color):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=color, edgecolor="black", linewidth=0.5)

"""Pictures of results. Functions take results and draw on matplotlib figures."""

from itertools import cycle

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.image.geometry import foreground_scale

GRID_STEP = 6  # voxels between lines of a transformation grid


def _slice(volume, axis=2):
    """Middle plane of a 3D array (a 2D one as it is), turned so that the last axis points up."""
    volume = to_numpy(volume)
    if volume.ndim == 3:
        volume = np.take(volume, volume.shape[axis] // 2, axis=axis)
    return volume.T


def show_grid(axes, displacement, spacing, axis=2, color="#0072B2"):
    """Draw the deformed grid x + u(x) of the middle plane over an image."""
    u = to_numpy(displacement) / np.reshape(spacing, (-1, *[1] * len(spacing)))
    planes = [j for j in range(u.shape[0]) if j != axis or u.shape[0] == 2]
    if u.shape[0] == 3:
        u = np.take(u, u.shape[axis + 1] // 2, axis=axis + 1)
    first, second = np.meshgrid(*map(np.arange, u.shape[1:]), indexing="ij")
    x, y = first + u[planes[0]], second + u[planes[1]]
    for k in range(0, x.shape[0], GRID_STEP):
        axes.plot(x[k], y[k], color=color, linewidth=0.5)
    for k in range(0, x.shape[1], GRID_STEP):
        axes.plot(x[:, k], y[:, k], color=color, linewidth=0.5)
    axes.set(xlim=(-0.5, x.shape[0] - 0.5), ylim=(-0.5, x.shape[1] - 0.5))


VIEWS = (("axial", 2), ("coronal", 1), ("sagittal", 0))
OUTLINES = (
    *("#E69F00", "#56B4E9", "#F0E442", "#D55E00", "#CC79A7", "#009E73"),
    *("#FFFFFF", "#0072B2", "#B2DF8A"),
)


def orthogonal_views(axes, image, structures=None, *, position=None):
    """Draw an axial, a coronal and a sagittal plane, with outlines of structures over them.

    There are nine colours; further structures begin again with the first.

    Parameters
    ----------
    axes : sequence of three matplotlib.axes.Axes
    image : array (N_1, N_2, N_3)
        Axes along right, anterior and superior.
    structures : dict, optional
        Name to bool array, as of `merge_labels`.
    position : sequence of three int, optional
        The voxel that the planes pass through; the middle one by default.

    Returns
    -------
    list of matplotlib.lines.Line2D
        A handle per structure, for a legend.
    """
    from matplotlib.lines import Line2D

    image = to_numpy(image)
    position = [n // 2 for n in image.shape] if position is None else list(position)
    top = foreground_scale(image)
    structures = structures or {}
    for ax, (name, axis) in zip(axes, VIEWS, strict=True):
        plane = np.take(image, position[axis], axis=axis).T
        ax.imshow(plane, cmap="gray", origin="lower", vmin=0, vmax=top)
        for inside, color in zip(structures.values(), cycle(OUTLINES), strict=False):
            cut = np.take(to_numpy(inside), position[axis], axis=axis).T
            if cut.any() and not cut.all():
                ax.contour(cut.astype(float), levels=[0.5], colors=[color], linewidths=0.8)
        ax.set(xticks=[], yticks=[], title=name)
    return [
        Line2D([], [], color=color, label=name)
        for name, color in zip(structures, cycle(OUTLINES), strict=False)
    ]


def overview(result, source, target):
    """Figure of a run: images, grid, residual before and after, Jacobian, α and energy history.

    Parameters
    ----------
    result : Registration
    source, target : arrays on the target's grid

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(3, 3)
    source, target = to_numpy(source), to_numpy(target)
    deformed = to_numpy(result.deformed)
    top = foreground_scale(target)
    for ax, image, title in zip(
        axes[0],
        (source, target, deformed),
        ("source", "target", "deformed source, grid of φ⁻¹"),
        strict=True,
    ):
        ax.imshow(_slice(image), cmap="gray", origin="lower", vmin=0, vmax=top)
        ax.set_title(title)
    show_grid(axes[0, 2], result.displacement, result.spacing)
    limit = float(np.percentile(np.abs(source - target), 99.5))
    for ax, image, title in zip(
        axes[1, :2], (source - target, deformed - target), ("before", "after"), strict=True
    ):
        rms = float(np.sqrt(np.mean(image[(target != 0) | (source != 0)] ** 2)))
        shown = ax.imshow(_slice(image), cmap="RdBu_r", origin="lower", vmin=-limit, vmax=limit)
        ax.set_title(f"residual {title}, rms {rms:.3f}")
    figure.colorbar(shown, ax=axes[1, :2], label="intensity difference", shrink=0.8)
    log_j = np.log(np.maximum(_slice(result.jacobian_determinant), 1e-3))
    reach = max(float(np.abs(log_j).max()), 0.1)
    shown = axes[1, 2].imshow(log_j, cmap="PuOr_r", origin="lower", vmin=-reach, vmax=reach)
    axes[1, 2].set_title("ln det Dφ⁻¹")
    figure.colorbar(shown, ax=axes[1, 2], shrink=0.8)
    for ax in axes[:2].ravel():
        ax.set_xticks([])
        ax.set_yticks([])
    convergence(axes[2, 0], axes[2, 1], result)
    _posterior(axes[2, 2], result)
    return figure


def convergence(energy_axes, alpha_axes, result):
    """Energy above its least value on each grid, and α, against the iteration."""
    history = result.history
    iterations = [r.iteration for r in history]
    for shape in dict.fromkeys(r.shape for r in history):
        mine = [r for r in history if r.shape == shape]
        energies = np.array([r.prior + r.likelihood for r in mine])
        energy_axes.plot(
            [r.iteration for r in mine],
            1 + energies - energies.min(),
            ".",
            markersize=3,
            label=" × ".join(map(str, shape)),
        )
    energy_axes.set(
        xlabel="iteration", ylabel="1 + energy - least (nats)", yscale="log", title="energy"
    )
    energy_axes.legend(fontsize="small")
    alpha_axes.plot(iterations, [r.alpha for r in history], color="#D55E00")
    if result.alpha_interval is not None and np.all(np.isfinite(result.alpha_interval)):
        alpha_axes.axhspan(*result.alpha_interval, color="#D55E00", alpha=0.2)
    alpha_axes.set(xlabel="iteration", ylabel="α", title="regularization strength")


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


def _posterior(axes, result):
    """Gaussian posterior of ln α, or the status where there is none."""
    interval = result.alpha_interval
    if interval is None or not np.all(np.isfinite(interval)):
        axes.axis("off")
        axes.text(0.5, 0.5, result.status, ha="center", va="center", wrap=True)
        return
    z = np.linspace(-3.5, 3.5, 200)
    axes.plot(result.alpha * np.exp(z * result.alpha_sd), np.exp(-(z**2) / 2), color="#D55E00")
    axes.axvspan(*interval, color="#D55E00", alpha=0.2, label="95 %")
    axes.set(
        xlabel="α",
        yticks=[],
        title=f"α = {result.alpha:.3g} ({interval[0]:.3g} to "
        f"{interval[1]:.3g}), σ = {result.sigma:.3g}, ρ = {result.decimation:.2g}",
    )
    axes.title.set_fontsize("small")
    axes.legend(fontsize="small")

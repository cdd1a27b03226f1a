"""Pictures of a registration and of how α was found."""

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.image.geometry import foreground_scale
from fourierreg.plotting.views import middle_plane, show_grid


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
    wide, high = result.spacing[:2]
    look = {"origin": "lower", "aspect": high / wide}
    for ax, image, title in zip(
        axes[0],
        (source, target, deformed),
        ("source", "target", "deformed source, grid of φ⁻¹"),
        strict=True,
    ):
        ax.imshow(middle_plane(image), cmap="gray", vmin=0, vmax=top, **look)
        ax.set_title(title)
    show_grid(axes[0, 2], result.displacement, result.spacing)
    limit = float(np.percentile(np.abs(source - target), 99.5))
    for ax, image, title in zip(
        axes[1, :2], (source - target, deformed - target), ("before", "after"), strict=True
    ):
        rms = float(np.sqrt(np.mean(image[(target != 0) | (source != 0)] ** 2)))
        shown = ax.imshow(middle_plane(image), cmap="RdBu_r", vmin=-limit, vmax=limit, **look)
        ax.set_title(f"residual {title}, rms {rms:.3f}")
    figure.colorbar(shown, ax=axes[1, :2], label="intensity difference", shrink=0.8)
    log_j = np.log(np.maximum(middle_plane(result.jacobian_determinant), 1e-3))
    reach = max(float(np.abs(log_j).max()), 0.1)
    shown = axes[1, 2].imshow(log_j, cmap="PuOr_r", vmin=-reach, vmax=reach, **look)
    axes[1, 2].set_title("ln det Dφ⁻¹")
    figure.colorbar(shown, ax=axes[1, 2], shrink=0.8)
    for ax in axes[:2].ravel():
        ax.set_xticks([])
        ax.set_yticks([])
    convergence(axes[2, 0], axes[2, 1], result)
    posterior(axes[2, 2], result)
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


def posterior(axes, result):
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

"""Plots of a registration and of its convergence."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fourierreg.backend import Array, to_numpy
from fourierreg.image.foreground import foreground_scale
from fourierreg.plotting.views import middle_plane, show_grid
from fourierreg.registration.result import Registration

RESIDUAL_PERCENTILE = 99.5  # of |source - target|: limit of the color scale of residuals
MIN_DETERMINANT = 1e-3  # lower bound before the logarithm
MIN_LOG_LIMIT = 0.1  # smallest limit of the color scale of ln det Dφ⁻¹


def overview(result: Registration, source: Array, target: Array) -> Figure:
    """Figure of a registration: images, grid, residuals, Jacobian, energy and α.

    Parameters
    ----------
    result : Registration
    source, target : arrays
        On the grid of the target.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.subplots(3, 3)
    source, target = to_numpy(source), to_numpy(target)
    style = {"origin": "lower", "aspect": result.spacing[1] / result.spacing[0]}
    _draw_images(axes[0], result, source, target, style)
    _draw_residuals(figure, axes[1, :2], result, source, target, style)
    _draw_log_jacobian(figure, axes[1, 2], result, style)
    for ax in axes[:2].ravel():
        ax.set_xticks([])
        ax.set_yticks([])
    convergence(axes[2, 0], axes[2, 1], result)
    posterior(axes[2, 2], result)
    return figure


def _draw_images(
    axes: Any, result: Registration, source: Array, target: Array, style: dict[str, Any]
) -> None:
    """Source, target, and deformed source with the grid of φ⁻¹."""
    brightest = foreground_scale(target)
    for ax, image, title in zip(
        axes,
        (source, target, to_numpy(result.deformed)),
        ("source", "target", "deformed source, grid of φ⁻¹"),
        strict=True,
    ):
        ax.imshow(middle_plane(image), cmap="gray", vmin=0, vmax=brightest, **style)
        ax.set_title(title)
    show_grid(axes[2], result.displacement, result.spacing)


def _draw_residuals(
    figure: Figure,
    axes: Any,
    result: Registration,
    source: Array,
    target: Array,
    style: dict[str, Any],
) -> None:
    """Difference to the target before and after registration, with its rms where an image is."""
    deformed = to_numpy(result.deformed)
    limit = float(np.percentile(np.abs(source - target), RESIDUAL_PERCENTILE))
    for ax, residual, title in zip(
        axes, (source - target, deformed - target), ("before", "after"), strict=True
    ):
        rms = float(np.sqrt(np.mean(residual[(target != 0) | (source != 0)] ** 2)))
        plane = middle_plane(residual)
        shown = ax.imshow(plane, cmap="RdBu_r", vmin=-limit, vmax=limit, **style)
        ax.set_title(f"residual {title}, rms {rms:.3f}")
    figure.colorbar(shown, ax=axes, label="intensity difference", shrink=0.8)


def _draw_log_jacobian(
    figure: Figure, ax: Axes, result: Registration, style: dict[str, Any]
) -> None:
    values = np.log(np.maximum(middle_plane(result.jacobian_determinant), MIN_DETERMINANT))
    limit = max(float(np.abs(values).max()), MIN_LOG_LIMIT)
    shown = ax.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, **style)
    ax.set_title("ln det Dφ⁻¹")
    figure.colorbar(shown, ax=ax, shrink=0.8)


def convergence(energy_axes: Axes, alpha_axes: Axes, result: Registration) -> None:
    """Plot the energy above its minimum on each grid, and α, over iterations.

    Parameters
    ----------
    energy_axes, alpha_axes : matplotlib.axes.Axes
    result : Registration
    """
    history = result.history
    iterations = [r.iteration for r in history]
    for shape in dict.fromkeys(r.shape for r in history):
        records = [r for r in history if r.shape == shape]
        energies = np.array([r.prior + r.likelihood for r in records])
        energy_axes.plot(
            [r.iteration for r in records],
            1 + energies - energies.min(),
            ".",
            markersize=3,
            label=" × ".join(map(str, shape)),
        )
    energy_axes.set(
        xlabel="iteration", ylabel="1 + energy - minimum (nats)", yscale="log", title="energy"
    )
    energy_axes.legend(fontsize="small")
    alpha_axes.plot(iterations, [r.alpha for r in history], color="#D55E00")
    if result.alpha_interval is not None and np.all(np.isfinite(result.alpha_interval)):
        alpha_axes.axhspan(*result.alpha_interval, color="#D55E00", alpha=0.2)
    alpha_axes.set(xlabel="iteration", ylabel="α", title="regularization strength")


def posterior(axes: Axes, result: Registration) -> None:
    """Plot what α was inferred from: the dissimilarity of held-out voxels, or the Gaussian
    posterior of ln α; or write the status where there is neither.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    result : Registration
    """
    if result.held_out:
        _draw_held_out(axes, result)
        return
    interval = result.alpha_interval
    if interval is None or not np.all(np.isfinite(interval)):
        axes.axis("off")
        axes.text(0.5, 0.5, result.status, ha="center", va="center", wrap=True)
        return
    z = np.linspace(-3.5, 3.5, 200)
    axes.plot(result.alpha * np.exp(z * result.alpha_sd), np.exp(-(z**2) / 2), color="#D55E00")
    axes.axvspan(*interval, color="#D55E00", alpha=0.2, label="95 %")
    title = f"α = {result.alpha:.3g} ({interval[0]:.3g} to {interval[1]:.3g})"
    if result.sigma is not None:  # of the sum of squares
        title += f", σ = {result.sigma:.3g}, ρ = {result.decimation:.2g}"
    axes.set(xlabel="α", yticks=[], title=title)
    axes.title.set_fontsize("small")
    axes.legend(fontsize="small")


def _draw_held_out(axes: Axes, result: Registration) -> None:
    """Dissimilarity of held-out voxels against α, above its smallest value, with the interval."""
    alphas, losses = np.array(result.held_out).T
    low = float(np.abs(losses).min()) or 1.0
    axes.plot(alphas, 100 * (losses - losses.min()) / low, "o-", color="0.4")
    axes.axvline(result.alpha, color="#D55E00")
    interval, title = result.alpha_interval, f"α = {result.alpha:.3g}"
    if interval is not None and np.all(np.isfinite(interval)):
        axes.axvspan(*interval, color="#D55E00", alpha=0.2, label="95 %")
        axes.legend(fontsize="small")
        title += f" ({interval[0]:.3g} to {interval[1]:.3g})"
    axes.set(xlabel="α", xscale="log", ylabel="% above the smallest")
    axes.set_title(f"held-out voxels: {title}", fontsize="small")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")

"""Planes of 3D images: orthogonal views, outlines of structures, deformed grids, maps."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from fourierreg.backend import Array, to_numpy
from fourierreg.image.foreground import foreground_scale

GRID_STEP = 6  # voxels between lines of a deformed grid
VIEWS = (("axial", 2), ("coronal", 1), ("sagittal", 0))
OUTLINE_COLORS = (
    *("#E69F00", "#56B4E9", "#F0E442", "#D55E00", "#CC79A7", "#009E73"),
    *("#FFFFFF", "#0072B2", "#B2DF8A"),
)


def middle_plane(image: Array, axis: int = 2) -> np.ndarray:
    """Middle plane of a 3D image, or a 2D image, transposed so that the last axis points up."""
    values = to_numpy(image)
    if values.ndim == 3:
        values = np.take(values, values.shape[axis] // 2, axis=axis)
    return values.T


def show_grid(
    axes: Axes,
    displacement: Array,
    spacing: Sequence[float],
    axis: int = 2,
    color: str = "#0072B2",
) -> None:
    """Draw the grid deformed by x + u(x) in the middle plane.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    displacement : array, (d, N_1, …, N_d)
        u, mm.
    spacing : sequence of float
        mm per voxel.
    axis : int
        Axis normal to the plane (3D).
    color : str
    """
    u = to_numpy(displacement) / np.reshape(spacing, (-1, *[1] * len(spacing)))
    in_plane = [j for j in range(u.shape[0]) if j != axis or u.shape[0] == 2]
    if u.shape[0] == 3:
        u = np.take(u, u.shape[axis + 1] // 2, axis=axis + 1)
    first, second = np.meshgrid(*map(np.arange, u.shape[1:]), indexing="ij")
    x, y = first + u[in_plane[0]], second + u[in_plane[1]]
    for k in range(0, x.shape[0], GRID_STEP):
        axes.plot(x[k], y[k], color=color, linewidth=0.5)
    for k in range(0, x.shape[1], GRID_STEP):
        axes.plot(x[:, k], y[:, k], color=color, linewidth=0.5)
    axes.set(xlim=(-0.5, x.shape[0] - 0.5), ylim=(-0.5, x.shape[1] - 0.5))


def orthogonal_views(
    axes: Sequence[Axes],
    image: Array,
    structures: Mapping[str, Array] | None = None,
    *,
    position: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> list[Line2D]:
    """Draw an axial, a coronal and a sagittal plane, with outlines of structures.

    There are nine colors; the tenth structure has the first again.

    Parameters
    ----------
    axes : sequence of three matplotlib.axes.Axes
    image : array (N_1, N_2, N_3)
        Axes toward right, anterior and superior.
    structures : mapping, optional
        Name to bool array, as returned by `merge_labels`.
    position : sequence of three int, optional
        Voxel in all three planes; the middle one by default.
    spacing : sequence of three float, optional
        mm per voxel; isotropic by default.

    Returns
    -------
    list of matplotlib.lines.Line2D
        A legend handle for each structure.
    """
    image = to_numpy(image)
    _draw_planes(axes, image, position, spacing, cmap="gray", vmin=0, vmax=foreground_scale(image))
    structures = structures or {}
    for mask, color in zip(structures.values(), cycle(OUTLINE_COLORS), strict=False):
        for ax, plane in zip(axes, _planes(to_numpy(mask), position), strict=True):
            if plane.any() and not plane.all():
                ax.contour(plane.astype(float), levels=[0.5], colors=[color], linewidths=0.8)
    return [
        Line2D([], [], color=color, label=name)
        for name, color in zip(structures, cycle(OUTLINE_COLORS), strict=False)
    ]


def map_views(
    axes: Sequence[Axes],
    values: Array,
    *,
    low: float | None = None,
    high: float | None = None,
    cmap: str = "PuOr_r",
    position: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> AxesImage:
    """Draw three orthogonal planes of a scalar map on one color scale.

    Parameters
    ----------
    axes : sequence of three matplotlib.axes.Axes
    values : array (N_1, N_2, N_3)
    low, high : float, optional
        Limits of the color scale; by default minus and plus the largest absolute value.
    cmap : str
    position, spacing
        As in `orthogonal_views`.

    Returns
    -------
    matplotlib.image.AxesImage
        For a color bar.
    """
    values = to_numpy(values)
    limit = float(np.abs(values).max()) or 1.0
    low, high = -limit if low is None else low, limit if high is None else high
    return _draw_planes(axes, values, position, spacing, cmap=cmap, vmin=low, vmax=high)


def _draw_planes(
    axes: Sequence[Axes],
    values: np.ndarray,
    position: Sequence[int] | None,
    spacing: Sequence[float] | None,
    **style: Any,
) -> AxesImage:
    """Draw three planes side by side and return the last image."""
    spacing = (1.0, 1.0, 1.0) if spacing is None else spacing
    for ax, plane, (name, axis) in zip(axes, _planes(values, position), VIEWS, strict=True):
        across, up = (j for j in range(3) if j != axis)
        shown = ax.imshow(plane, origin="lower", aspect=spacing[up] / spacing[across], **style)
        ax.set(xticks=[], yticks=[], title=name)
    return shown


def _planes(values: np.ndarray, position: Sequence[int] | None) -> list[np.ndarray]:
    """Plane of each view through a voxel, with its second axis upward."""
    position = [n // 2 for n in values.shape] if position is None else position
    return [np.take(values, position[axis], axis=axis).T for _, axis in VIEWS]

"""Planes of volumes: three orthogonal views, outlines, transformation grids, maps with a scale."""

from itertools import cycle

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.image.geometry import foreground_scale

GRID_STEP = 6  # voxels between lines of a transformation grid
VIEWS = (("axial", 2), ("coronal", 1), ("sagittal", 0))
OUTLINES = (
    *("#E69F00", "#56B4E9", "#F0E442", "#D55E00", "#CC79A7", "#009E73"),
    *("#FFFFFF", "#0072B2", "#B2DF8A"),
)


def middle_plane(volume, axis=2):
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


def orthogonal_views(axes, image, structures=None, *, position=None, spacing=None):
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
    spacing : sequence of three float, optional
        mm per voxel; isotropic by default.

    Returns
    -------
    list of matplotlib.lines.Line2D
        A handle per structure, for a legend.
    """
    from matplotlib.lines import Line2D

    image = to_numpy(image)
    _draw(axes, image, position, spacing, cmap="gray", vmin=0, vmax=foreground_scale(image))
    structures = structures or {}
    for inside, color in zip(structures.values(), cycle(OUTLINES), strict=False):
        for ax, cut in zip(axes, _planes(to_numpy(inside), position), strict=True):
            if cut.any() and not cut.all():
                ax.contour(cut.astype(float), levels=[0.5], colors=[color], linewidths=0.8)
    return [
        Line2D([], [], color=color, label=name)
        for name, color in zip(structures, cycle(OUTLINES), strict=False)
    ]


def map_views(axes, values, *, low=None, high=None, cmap="PuOr_r", position=None, spacing=None):
    """Draw three planes of a map of numbers, all three on one colour scale.

    Parameters
    ----------
    axes : sequence of three matplotlib.axes.Axes
    values : array (N_1, N_2, N_3)
    low, high : float, optional
        Ends of the scale; symmetric around zero by default, to the largest absolute value.
    cmap : str
    position, spacing
        As in `orthogonal_views`.

    Returns
    -------
    matplotlib.image.AxesImage
        For a colour bar.
    """
    values = to_numpy(values)
    reach = float(np.abs(values).max()) or 1.0
    low, high = -reach if low is None else low, reach if high is None else high
    return _draw(axes, values, position, spacing, cmap=cmap, vmin=low, vmax=high)


def _draw(axes, volume, position, spacing, **style):
    """Three planes side by side; returns the last one's image."""
    spacing = (1.0, 1.0, 1.0) if spacing is None else spacing
    for ax, plane, (name, axis) in zip(axes, _planes(volume, position), VIEWS, strict=True):
        across, up = (j for j in range(3) if j != axis)
        shown = ax.imshow(plane, origin="lower", aspect=spacing[up] / spacing[across], **style)
        ax.set(xticks=[], yticks=[], title=name)
    return shown


def _planes(volume, position):
    """The plane of every view through a voxel, its second axis up."""
    position = [n // 2 for n in volume.shape] if position is None else position
    return [np.take(volume, position[axis], axis=axis).T for _, axis in VIEWS]

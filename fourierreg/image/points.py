"""Points in scanner space, moved by a displacement field."""

import numpy as np
from nibabel.affines import apply_affine

from fourierreg.backend import Array, to_numpy
from fourierreg.image.geometry import Geometry, resample_onto


def move_points(points: np.ndarray, displacement: Array, grid: Geometry) -> np.ndarray:
    """x + u(x) of points.

    A displacement with which a source is deformed takes points of the target to the source: the
    deformed image at x is the source at x + u(x).

    Parameters
    ----------
    points : array, (n, 3)
        RAS, in mm.
    displacement : array, ``(3, *grid.shape)``
        In mm along the array axes of `grid`; zero beyond the grid.
    grid : Geometry

    Returns
    -------
    array, (n, 3)
    """
    points = np.asarray(points, dtype=float)
    if not len(points):
        return points
    voxels = apply_affine(np.linalg.inv(grid.matrix), points)
    # A row of voxels, each moved to where its point is: one interpolation as of an image.
    row = Geometry((len(points), 1, 1), tuple(map(tuple, np.eye(4))))
    here = np.zeros((3, len(points), 1, 1))
    here[:, :, 0, 0] = voxels.T
    here[0, :, 0, 0] -= np.arange(len(points))
    in_voxels = Geometry(grid.shape, row.affine)
    u = np.stack(
        [
            resample_onto(component.astype(np.float64), in_voxels, row, here)[:, 0, 0]
            for component in to_numpy(displacement)
        ]
    )
    return points + (grid.directions @ u).T

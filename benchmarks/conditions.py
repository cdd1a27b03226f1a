"""Conditions under which scans are taken, added to images: noise, smoothing, thick slices, coarse
voxels, gain fields. Seeded."""

import numpy as np
from scipy.ndimage import gaussian_filter

from fourierreg.data.nifti import resized
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry, resample_onto

# Kind: lowest and highest level, and what the level is. Levels are drawn log-uniformly.
KINDS = {
    "none": (1.0, 1.0),
    "noise": (0.02, 0.15),  # standard deviation of either channel, relative to the brightest tissue
    "smooth": (0.5, 3.5),  # standard deviation in mm
    "thick": (3.0, 8.0),  # slice thickness in mm, along a random axis
    "coarse": (2.0, 4.5),  # voxel size in mm
    "gain": (0.02, 0.12),  # standard deviation of the logarithm
}
GAIN_LENGTH = 40.0  # mm, standard deviation of the kernel of a gain field


def draw(rng):
    """Kind and level of a random condition other than none."""
    kind = str(rng.choice([name for name in KINDS if name != "none"]))
    low, high = KINDS[kind]
    return kind, float(np.exp(rng.uniform(np.log(low), np.log(high))))


def degraded(image, kind, level, seed):
    """A copy of an image under a condition.

    Parameters
    ----------
    image : nibabel image
        With a background of zeros.
    kind : str
        One of `KINDS`.
    level : float
    seed : int or sequence of int
        Of the noise, the gain field or the axis of the slices.

    Returns
    -------
    nibabel image
        On the same grid, float32.
    """
    rng, grid = np.random.default_rng(seed), Geometry.of(image)
    data = image.get_fdata(dtype=np.float32)
    if kind == "noise":
        channels = rng.standard_normal((2, *data.shape)) * level * foreground_scale(data)
        data = np.where(data > 0, np.hypot(data + channels[0], channels[1]), 0)
    elif kind == "smooth":
        data = gaussian_filter(data, [level / h for h in grid.spacing])
    elif kind in ("thick", "coarse"):
        axes = [int(rng.integers(3))] if kind == "thick" else [0, 1, 2]
        shape = list(grid.shape)
        for axis in axes:
            shape[axis] = round(grid.shape[axis] * min(1.0, grid.spacing[axis] / level))
        scanned = resized(image, tuple(shape))
        data = resample_onto(scanned.get_fdata(dtype=np.float32), Geometry.of(scanned), grid)
    elif kind == "gain":
        field = gaussian_filter(
            rng.standard_normal(data.shape), [GAIN_LENGTH / h for h in grid.spacing], mode="wrap"
        )
        data = data * np.exp(level * (field - field.mean()) / field.std())
    return grid.image(np.ascontiguousarray(data, dtype=np.float32))

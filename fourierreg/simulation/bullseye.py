"""Bull-eye images: two concentric ellipses, as in Fig. 3."""

import numpy as np
from scipy.special import ndtr


def bullseye(shape=(100, 100), outer=(35.0, 30.0), inner=(18.0, 14.0), edge=1.5, binary=False):
    """Image of 1 between two ellipses and 0.5 inside the inner one.

    (x - N_1/2)²/a² + (y - N_2/2)²/b² = 1: the paper's x - 50 on its 100 × 100 voxels.

    Parameters
    ----------
    shape : tuple of int
    outer, inner : (a, b)
        Half axes in voxels.
    edge : float
        Standard deviation, in voxels, of the point spread that softens the edges.
    binary : bool
        Hard edges instead, values 0 and 1 (the inner ellipse is a hole). The posterior of a
        deformation of such an image is far from Gaussian: a shift along an edge costs nothing
        until the edge bends, and then everything.

    Returns
    -------
    float32 ndarray
    """
    axes = [np.arange(n) - n / 2 for n in shape]
    x, y = np.meshgrid(*axes, indexing="ij")

    def inside(a, b):
        radius = np.sqrt((x / a) ** 2 + (y / b) ** 2)
        slope = np.sqrt(x**2 / a**4 + y**2 / b**4) / np.maximum(radius, 1e-9)
        distance = (1 - radius) / np.maximum(slope, 1e-9)  # to first order, in voxels
        return distance > 0 if binary else ndtr(distance / edge)

    disc, hole = inside(*outer), inside(*inner)
    image = disc & ~hole if binary else disc - 0.5 * hole
    return image.astype(np.float32)


def random_ellipses(shape, rng):
    """Half axes of `bullseye` drawn for a grid: keywords `outer` and `inner`.

    The outer ones are 0.25 to 0.38 of the axis, the inner ones 0.4 to 0.65 of the outer.
    """
    rng = np.random.default_rng(rng)
    outer = [float(n * rng.uniform(0.25, 0.38)) for n in shape]
    inner = [float(a * rng.uniform(0.4, 0.65)) for a in outer]
    return {"outer": tuple(outer), "inner": tuple(inner)}

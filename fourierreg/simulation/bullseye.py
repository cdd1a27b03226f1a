"""Bull's-eye images: two concentric ellipses, as in Fig. 3 of the paper."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr


def bullseye(
    shape: Sequence[int] = (100, 100),
    outer: tuple[float, float] = (35.0, 30.0),
    inner: tuple[float, float] = (18.0, 14.0),
    edge: float = 1.5,
    binary: bool = False,
) -> np.ndarray:
    """Image of 1 between two ellipses and 0.5 inside the inner one.

    The ellipses are (x - N_1/2)²/a² + (y - N_2/2)²/b² = 1; the paper has x - 50 on 100 × 100
    voxels.

    Parameters
    ----------
    shape : tuple of int
    outer, inner : (a, b)
        Semi-axes in voxels.
    edge : float
        Standard deviation in voxels of the Gaussian point spread function at the edges.
    binary : bool
        Use sharp edges and values 0 and 1; the inner ellipse is a hole. The posterior of a
        deformation of a binary image is far from Gaussian, because tangential shifts of a straight
        edge do not change the likelihood.

    Returns
    -------
    float32 ndarray
    """
    axes = [np.arange(n) - n / 2 for n in shape]
    x, y = np.meshgrid(*axes, indexing="ij")

    def inside(a: float, b: float) -> np.ndarray:
        radius = np.sqrt((x / a) ** 2 + (y / b) ** 2)
        slope = np.sqrt(x**2 / a**4 + y**2 / b**4) / np.maximum(radius, 1e-9)
        distance = (1 - radius) / np.maximum(slope, 1e-9)  # in voxels, to first order
        return distance > 0 if binary else ndtr(distance / edge)

    disc, hole = inside(*outer), inside(*inner)
    image = disc & ~hole if binary else disc - 0.5 * hole
    return image.astype(np.float32)


def random_ellipses(
    shape: Sequence[int], rng: int | np.random.Generator | None
) -> dict[str, tuple[float, ...]]:
    """Random semi-axes for `bullseye`, as its keywords `outer` and `inner`.

    Outer semi-axes are 0.25 to 0.38 of the image axis, inner ones 0.4 to 0.65 of the outer ones.
    """
    rng = np.random.default_rng(rng)
    outer = [float(n * rng.uniform(0.25, 0.38)) for n in shape]
    inner = [float(a * rng.uniform(0.4, 0.65)) for a in outer]
    return {"outer": tuple(outer), "inner": tuple(inner)}

"""Normalized cross-correlation in windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module
from fourierreg.backend.kernels import launch, voxel_blocks
from fourierreg.image.similarity.base import (
    FLOOR,
    Similarity,
    masked,
    per_pair,
    total,
    variance,
    voxel_count,
)
from fourierreg.image.voxels import voxel_sums

MIN_VOXELS = 1  # radius of a window on coarse grids
STRIP = 16  # voxels that a GPU thread handles, as in kernels.cu


class WindowStatistics(NamedTuple):
    """What does not change as the source is deformed; fields are (pairs, N_1, N_2, N_3).

    Attributes
    ----------
    radii : tuple of int
        Of the window along the three axes, in voxels.
    shift, floor : arrays (pairs,)
        Constant that is subtracted from the deformed image, so that its squares lose no digits;
        lower bound of its variance in a window.
    count : float array, (pairs,)
        Voxels that count.
    inside, target : float arrays
        1 in the mask; the target minus a constant, zero outside the mask.
    size, mean, spread : float arrays
        Voxels of the window that are in the mask, zero for a window around a voxel that is not;
        mean of the target in the window, and its centered sum of squares.
    """

    radii: tuple[int, ...]
    shift: Array
    floor: Array
    count: Array
    inside: Array
    target: Array
    size: Array
    mean: Array
    spread: Array


@dataclass(frozen=True)
class LocalCorrelation(Similarity):
    """Normalized cross-correlation in windows: Dist = Σ_x (1 - r²(x)) (Avants et al. 2008).

    Parameters
    ----------
    radius : float
        In mm. The window is a box of 2r + 1 voxels along each axis, r being `radius` in voxels,
        rounded, and at least `MIN_VOXELS`; periodic. Voxels outside the mask are left out of it.
    """

    radius: float = 3.2

    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", checks.positive("radius", self.radius))

    def statistics(
        self, source: Array, target: Array, spacing: Sequence[float], mask: Array | None = None
    ) -> WindowStatistics:
        """Window sums of the target and the mask."""
        xp, kind, shape = array_module(source, target), target.dtype.type, _shape_3d(target)
        radii = self._radii(target.shape[1:], spacing)
        count = voxel_count(target, mask)
        inside = xp.ones(shape, dtype=kind)
        if mask is not None:
            inside = xp.ascontiguousarray(mask.astype(kind)).reshape(shape)
        centered = masked(target - (total(masked(target, mask)) / count).astype(kind), mask)
        centered = xp.ascontiguousarray(centered).reshape(shape)
        size, sums, squares = (
            window_sum(field, radii) for field in (inside, centered, centered * centered)
        )
        voxels = xp.maximum(size, 1)
        mean = sums / voxels
        floors = [
            (FLOOR * per_pair(v)).astype(kind) for v in (variance(source), variance(target, mask))
        ]
        spread = xp.maximum(squares - sums * mean, 0) + voxels * floors[1].reshape(-1, 1, 1, 1)
        shift = total(source) / voxel_count(source, None)
        return WindowStatistics(
            radii, per_pair(shift).astype(kind), floors[0], per_pair(count), inside, centered,
            size * inside, mean, spread,
        )  # fmt: skip

    def value_and_half_derivative(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Σ (1 - r²), and its exact derivative: a voxel counts in all windows that contain it."""
        image = volume(deformed)
        terms = window_terms(image, statistics)
        half = derivative_of_terms(terms, image, statistics)
        return statistics.count - voxel_sums(terms[:, 3]), half.reshape(deformed.shape)

    def curvature(
        self, deformed: Array, target: Array, statistics: Any, mask: Array | None = None
    ) -> Any:
        """Σ of r² / (sum of squares of I) over the windows that contain a voxel."""
        terms = window_terms(volume(deformed), statistics)
        return window_sum(terms[:, 0], statistics.radii).reshape(deformed.shape)

    def _radii(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """Radius along the three axes in voxels."""
        radii = [max(MIN_VOXELS, round(self.radius / h)) for h in spacing]
        radii = [min(r, (n - 1) // 2) for r, n in zip(radii, shape, strict=True)]
        return (0,) * (3 - len(radii)) + tuple(radii)


def window_terms(image: Array, known: WindowStatistics) -> Array:
    """The terms of every window (the kernel of that name), (pairs, 4, N_1, N_2, N_3)."""
    xp, (pairs, *grid) = array_module(image), image.shape
    moments = xp.empty((pairs, 3, *grid), dtype=image.dtype)
    fields = [image, known.target, known.inside, known.shift]
    _launch("window_moments", fields, known.radii[1:], moments, axis=1)
    terms = xp.empty((pairs, 4, *grid), dtype=image.dtype)
    fields = [moments, known.size, known.mean, known.spread, known.floor]
    _launch("window_terms", fields, known.radii[:1], terms, axis=0)
    return terms


def derivative_of_terms(terms: Array, image: Array, known: WindowStatistics) -> Array:
    """Half the derivative of a sum over windows with respect to the image (the kernel
    `window_derivative`), (pairs, N_1, N_2, N_3)."""
    xp, (pairs, _, *grid) = array_module(terms), terms.shape
    sums = xp.empty((pairs, 3, *grid), dtype=terms.dtype)
    _launch("window_spread", [terms], known.radii[1:], sums, axis=1, fields=3)
    half = xp.empty_like(image)
    fields = [image, known.target, known.inside, known.shift, sums]
    _launch("window_derivative", fields, known.radii[:1], half, axis=0)
    return half


def _launch(
    name: str, inputs: list[Array], radii: Sequence[int], out: Array, axis: int, fields: int = 1
) -> None:
    """Run a kernel whose threads move along an axis."""
    pairs, grid = out.shape[0], list(out.shape[-3:])
    threads = int(np.prod(grid)) // grid[axis] * -(-grid[axis] // STRIP)
    launch(
        "fourierreg.image.similarity",
        name,
        inputs,
        [float(r) for r in radii],
        [out],
        sizes=(pairs, *grid),
        blocks=voxel_blocks(threads, fields * pairs),
    )


def window_sum(field: Array, radii: Sequence[int]) -> Array:
    """Sum over the window around every voxel, (pairs, N_1, N_2, N_3); not in every iteration."""
    xp = array_module(field)
    for axis, radius in enumerate(radii, start=1):
        field = sum(xp.roll(field, k, axis=axis) for k in range(-radius, radius + 1))
    return xp.ascontiguousarray(field)


def _shape_3d(image: Array) -> tuple[int, ...]:
    """Shape of images (pairs, N_1, …, N_d) as volumes."""
    return (image.shape[0], *[1] * (4 - image.ndim), *image.shape[1:])


def volume(image: Array) -> Array:
    """Images as contiguous volumes, (pairs, N_1, N_2, N_3)."""
    return array_module(image).ascontiguousarray(image).reshape(_shape_3d(image))

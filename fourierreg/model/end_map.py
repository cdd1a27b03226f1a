"""Whether the end map of a geodesic is a diffeomorphism, as its grid sees it.

The map must be finite, move nothing beyond a quarter of the field of view, and not fold: its
Jacobian determinant, by central differences on the images' grid, must stay above `END`. From
`START` on a smooth barrier (`fourierreg.image.determinant`) is part of the energy.
"""

from typing import Any, NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.backend.tables import cached_table
from fourierreg.geodesic.shooting import Geodesic
from fourierreg.image.determinant import END, measure_map
from fourierreg.spectral.band import Band
from fourierreg.spectral.transform import synthesis

MAX_DISPLACEMENT = 0.25  # fraction of the field of view
BARRIER = 1.0  # nats per voxel of the image, times the barrier of `measure_map`


class EndMap(NamedTuple):
    """End maps of some pairs, on the device.

    Attributes
    ----------
    measures : array, (pairs, 4)
        Whether every coefficient is within the limits of the displacement; the largest component
        of the displacement over its limit; the largest negative Jacobian determinant; the barrier,
        in nats.
    displacement : array, (pairs, d, N_1, …, N_d), in mm
        Zero where coefficients are not finite or beyond the limits.
    determinants : array
        As `measure_map` returns them.
    """

    measures: Array
    displacement: Array
    determinants: Array


def is_diffeomorphism(geodesic: Geodesic, shape: tuple[int, ...]) -> np.ndarray:
    """Whether the end map of every pair is a diffeomorphism on a grid of `shape`, (pairs,)."""
    return accepted(to_numpy(end_map_of(geodesic, shape, np.float32).measures))


def end_map_of(geodesic: Geodesic, shape: tuple[int, ...], kind: type) -> EndMap:
    """The `EndMap` of a geodesic on a grid, in a floating-point type."""
    band, coefficients = geodesic.metric.band, geodesic.displacement_coefficients()
    xp, d = array_module(coefficients), band.ndim
    # No coefficient is larger than the displacement; NaN compares as false.
    bounded = xp.abs(coefficients) <= _coefficient_limits(band, xp)
    finite = xp.all(bounded, axis=tuple(range(-d - 1, 0)))
    coefficients = xp.where(finite[(..., *[None] * (d + 1))], coefficients, 0)
    u = synthesis(coefficients, band, shape, kind, xp)
    return measured(finite, u, band)


def measured(finite: Array, u: Array, band: Band) -> EndMap:
    """The `EndMap` of displacements (pairs, d, N_1, …, N_d) on a grid of the band's domain."""
    xp, shape = array_module(u), u.shape[2:]
    spacing = tuple(length / n for length, n in zip(band.extent, shape, strict=True))
    found, determinants = measure_map(u, spacing, displacement_limits(band))
    measures = xp.empty((u.shape[0], 4))
    measures[:, 0], measures[:, 1:3] = finite, found[:, :2]
    measures[:, 3] = barrier_weight(band, shape) * found[:, 2]
    return EndMap(measures, u, determinants)


def barrier_weight(band: Band, shape: tuple[int, ...]) -> float:
    """`BARRIER` per voxel of a grid, which may be coarser than the image's."""
    return BARRIER * float(np.prod(band.shape)) / float(np.prod(shape))


def accepted(measures: np.ndarray) -> np.ndarray:
    """Whether end maps are diffeomorphisms, from the `measures` on the host."""
    finite, displacement, negative_determinant = measures.T[:3]
    return (finite > 0) & (displacement <= 1) & (-negative_determinant > END)


def displacement_limits(band: Band) -> list[float]:
    """Largest displacement allowed along each axis, in mm."""
    return [MAX_DISPLACEMENT * length for length in band.extent]


@cached_table()
def _coefficient_limits(band: Band, xp: Any) -> Array:
    return xp.asarray(np.reshape(displacement_limits(band), (-1, *[1] * band.ndim)))

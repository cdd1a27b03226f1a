"""Whether the end map of a geodesic is a diffeomorphism, as far as its grid can tell.

The map must be finite, move nothing beyond a quarter of the field of view, and not fold: its
Jacobian determinant, on a grid of twelve points per shortest wavelength of the band (or on the
image grid where that is coarser), must stay above `MIN_DETERMINANT`, so that it is positive between
those points too.
"""

from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.backend.tables import cached_table
from fourierreg.geodesic.shooting import Geodesic
from fourierreg.image.voxels import displacement_extremes
from fourierreg.spectral.band import Band
from fourierreg.spectral.transform import synthesis

MIN_DETERMINANT = 0.05
MAX_DISPLACEMENT = 0.25  # fraction of the field of view
POINTS_PER_WAVELENGTH = 12


def is_diffeomorphism(geodesic: Geodesic, shape: tuple[int, ...]) -> np.ndarray:
    """Whether the end map of every pair is a diffeomorphism on a grid of `shape`, (pairs,)."""
    return accepted(*(to_numpy(quantity) for quantity in measure(geodesic, shape)[0]))


def measure(geodesic: Geodesic, shape: tuple[int, ...]) -> tuple[list[Array], Array, Array]:
    """What decides whether end maps are diffeomorphisms, on the device.

    Returns
    -------
    quantities : three arrays (pairs,)
        Whether every coefficient is within the limits of the displacement; the largest component
        of the displacement over its limit; the largest negative Jacobian determinant.
    displacement : array, (pairs, d, …), on the grid of the test
    coefficients : complex array, (pairs, d, *band)
        Of the displacement; zero where they are not finite or beyond the limits.
    """
    band, coefficients = geodesic.metric.band, geodesic.displacement_coefficients()
    xp, d = array_module(coefficients), band.ndim
    # No coefficient is larger than the displacement; NaN compares as false.
    bounded = xp.abs(coefficients) <= _coefficient_limits(band, xp)
    finite = xp.all(bounded, axis=tuple(range(-d - 1, 0)))
    coefficients = xp.where(finite[(..., *[None] * (d + 1))], coefficients, 0)
    points = zip(shape, band.cutoff, strict=True)
    grid = tuple(min(n, max(POINTS_PER_WAVELENGTH * k, 2)) for n, k in points)
    u = synthesis(coefficients, band, grid, np.float32, xp)
    spacing = tuple(length / n for length, n in zip(band.extent, grid, strict=True))
    extremes = displacement_extremes(u, spacing, displacement_limits(band))
    return [finite, extremes[..., 0], extremes[..., 1]], u, coefficients


def accepted(
    finite: np.ndarray, displacement: np.ndarray, negative_determinant: np.ndarray
) -> np.ndarray:
    """Whether end maps are diffeomorphisms, from the quantities of `measure` on the host."""
    return (finite > 0) & (displacement <= 1) & (-negative_determinant > MIN_DETERMINANT)


def displacement_limits(band: Band) -> list[float]:
    """Largest displacement allowed along each axis, in mm."""
    return [MAX_DISPLACEMENT * length for length in band.extent]


@cached_table()
def _coefficient_limits(band: Band, xp: Any) -> Array:
    return xp.asarray(np.reshape(displacement_limits(band), (-1, *[1] * band.ndim)))

"""Residual, force, value and slope: derivatives of the linear interpolant, also at its kinks."""

import numpy as np
import pytest
from scipy import ndimage

from fourierreg.backend import asarray, to_numpy
from fourierreg.image import voxels
from tests import laws

GRIDS = {
    "2d": ((12, 9), (1.0, 1.0)),
    "3d-anisotropic": ((7, 6, 9), (1.0, 1.6, 0.7)),
}


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def pair(request):
    """Two noise images, a displacement away from the kinks, and the spacing."""
    shape, spacing = request.param
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((2, *shape))
    # In voxels: an integer of -12 … 11 plus a fraction of 0.2 … 0.8, away from the kinks.
    whole, fraction = (
        rng.integers(-12, 12, (len(shape), *shape)),
        rng.uniform(0.2, 0.8, (len(shape), *shape)),
    )
    return source, target, (whole + fraction) * column(spacing), spacing


def column(spacing):
    return np.reshape(spacing, (-1, *[1] * len(spacing)))


def residual(source, target, u, spacing):
    where = np.indices(source.shape) + u / column(spacing)
    return ndimage.map_coordinates(source, where, order=1, mode="grid-wrap") - target


def along(j, ndim, size):
    step = np.zeros((ndim, *[1] * ndim))
    step[j] = size
    return step


def on_backend(source, target, u, spacing, dtype=np.float64):
    arrays = (asarray(a.astype(dtype)) for a in (source, target, u))
    return voxels.residual_and_force(*arrays, spacing)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_residual_agrees_with_scipy(pair, backend, dtype):
    r, force = on_backend(*pair, dtype)
    assert r.dtype == force.dtype == dtype
    laws.close(r, residual(*pair), rtol=laws.rtol_of(dtype))


def test_force_is_the_derivative_of_half_the_squared_residual(pair, backend):
    source, target, u, spacing = pair
    _, force = on_backend(*pair)
    for j in range(source.ndim):
        step = along(j, source.ndim, 0.1 * spacing[j])  # within the cell, where r is linear
        above, below = (residual(source, target, u + s, spacing) for s in (step, -step))
        laws.close(force[j], (above**2 - below**2) / (4 * 0.1 * spacing[j]))


def test_force_at_a_kink_has_the_mean_of_the_one_sided_slopes(pair, backend):
    source, target, u, _ = pair
    spacing = (0.5, 2.0, 1.0)[: source.ndim]  # powers of two: kinks are hit exactly
    voxels_moved = u / column(pair[3])
    for axes in ([0], [1], [source.ndim - 1], list(range(source.ndim))):
        moved = voxels_moved.copy()
        moved[axes] = np.floor(moved[axes])
        at = moved * column(spacing)
        r, force = on_backend(source, target, at, spacing)
        for j in range(source.ndim):
            h = spacing[j]
            # r is linear on each side of the kink, so finite differences are exact.
            sides = [
                (residual(source, target, at + along(j, source.ndim, s * 0.2 * h), spacing), s)
                for s in (1, -1)
            ]
            slope = sum((side - to_numpy(r)) / (s * 0.2 * h) for side, s in sides) / 2
            laws.close(force[j], to_numpy(r) * slope)


def test_force_at_zero_displacement_has_the_central_difference(pair, backend):
    source, target, u, spacing = pair
    r, force = on_backend(source, target, np.zeros_like(u), spacing)
    laws.close(r, source - target)
    for j, h in enumerate(spacing):
        slope = (np.roll(source, -1, j) - np.roll(source, 1, j)) / (2 * h)
        laws.close(force[j], (source - target) * slope)


def test_value_and_slope_are_consistent_with_residual_and_force(pair, backend):
    source, target, u, spacing = pair
    for moved in (u, np.zeros_like(u)):
        r, force = on_backend(source, target, moved, spacing)
        value, slope = voxels.value_and_slope(asarray(source), asarray(moved), spacing)
        laws.close(value - asarray(target), r)
        laws.close(slope * r, force)


def test_displacements_by_many_periods_are_periodic(pair, backend):
    source, target, u, spacing = pair
    period = column(np.multiply(source.shape, spacing))
    r, force = on_backend(source, target, u, spacing)
    for periods in (-7, 3, 1000):
        far = on_backend(source, target, u + periods * period, spacing)
        assert np.all(np.isfinite(to_numpy(far[1])))
        laws.close(far[0], r)
        laws.close(far[1], force)


def test_force_is_zero_where_both_images_are_background(backend):
    source, target = np.zeros((2, 8, 9))
    source[2:4, 3:5] = 1.0
    target[5, 6] = 0.5
    u = np.random.default_rng(0).uniform(-2, 2, (2, 8, 9))
    r, force = on_backend(source, target, u, (1.0, 1.0))
    laws.close(r, residual(source, target, u, (1.0, 1.0)))
    assert np.all(to_numpy(force)[:, to_numpy(r) == 0] == 0)


def test_non_contiguous_images_are_accepted(backend):
    rng = np.random.default_rng(0)
    image, u = rng.standard_normal((9, 12)), rng.standard_normal((2, 12, 9))
    expected = voxels.resample(asarray(image.T.copy()), asarray(u), (1.0, 1.0), "interpolate")
    actual = voxels.resample(asarray(image).T, asarray(u), (1.0, 1.0), "interpolate")
    laws.close(actual, expected, rtol=0.0)

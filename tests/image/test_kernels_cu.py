"""The CUDA kernels are plain C: compiled by the host compiler, they equal the numba kernels.

The loops over pairs and voxels, which the GPU spreads over threads, are given on the command line.
"""

import math

import numpy as np
import pytest

from fourierreg.image import kernels
from fourierreg.image.voxels import LANES
from tests import host, laws

SHAPE = (5, 6, 7)
PAIRS = 2
SPACING = (0.5, 2.0, 1.0)  # powers of two: u / h and u (1 / h) round alike, and meet kinks exactly


compiled = host.compiled_fixture("fourierreg.image")


def call(library, name, inputs, sizes, outputs, numbers=SPACING, scratch=0):
    """A kernel of images, whose numbers are the spacing where nothing else is said."""
    host.call(library, name, inputs, sizes, outputs, numbers, scratch)


def displacement(kind, dtype, shape=SHAPE):
    """Displacements in mm: general, on the kinks, or more than two periods out."""
    rng = np.random.default_rng(1)
    whole = rng.integers(-3, 4, (3, *shape))
    fraction = rng.uniform(0.05, 0.45, (3, *shape))  # off the kinks of both kernels
    moved = {
        "rest": np.zeros((3, *shape)),
        "general": whole + fraction,
        "kinks": whole.astype(float),
        "one kink": whole + fraction * np.reshape([1, 0, 1], (3, 1, 1, 1)),
        "far": whole
        + fraction
        + 2 * np.reshape(SHAPE, (3, 1, 1, 1)) * rng.choice([-1, 1], (3, *shape)),
        "ties": whole + 0.5,
    }[kind]
    return (moved * np.reshape(SPACING, (3, 1, 1, 1))).astype(dtype)


def displacements(kind, dtype, shape=SHAPE):
    """A displacement for each pair: of that kind, and the same the other way."""
    u = displacement(kind, dtype, shape)
    return np.stack([u, -u])


KINDS = ("rest", "general", "kinks", "one kink", "far", "ties")


def spacing(dtype):
    return [dtype(h) for h in SPACING]


def density(dtype, finer=(1, 1, 1)):
    """Source voxels per mm."""
    return [dtype(f / h) for f, h in zip(finer, SPACING, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["interpolate", "nearest"])
def test_resampling(compiled, name, kind):
    library, dtype = compiled
    channels = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(dtype)
    grid = (4, 7, 6)  # not that of the image
    u = displacement(kind, dtype, grid)
    expected, actual = host.unwritten((2, 2, *grid), dtype)
    getattr(kernels, name)(channels, u, *spacing(dtype), expected)
    call(library, name, [channels, u], (*channels.shape, *grid), [actual])
    laws.close(actual, expected, rtol=0.0 if name == "nearest" else laws.rtol_of(dtype))


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_residual_and_force(compiled, kind, background):
    library, dtype = compiled
    source, target = np.random.default_rng(0).standard_normal((2, PAIRS, *SHAPE)).astype(dtype)
    if background:  # numba skips it, C does not
        source[:, :3], target[:, 1:, 2:] = 0, 0
    u = displacements(kind, dtype)
    expected = [np.empty((PAIRS, *SHAPE), dtype), np.empty((PAIRS, 3, *SHAPE), dtype)]
    actual = [np.empty_like(a) for a in expected]
    kernels.residual_and_force(source, target, u, *density(dtype), *expected)
    sizes = (PAIRS, 1, 1, 1, *SHAPE)
    call(library, "residual_and_force", [source, target, u], sizes, actual, density(dtype))
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b)


@pytest.mark.parametrize("finer", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_slope(compiled, kind, finer):
    library, dtype = compiled
    fine, numbers = (SHAPE[0], finer * SHAPE[1], SHAPE[2]), density(dtype, (1, finer, 1))
    source = np.random.default_rng(0).standard_normal((PAIRS, *fine)).astype(dtype)
    u = displacements(kind, dtype)
    expected = [np.empty((PAIRS, *SHAPE), dtype), np.empty((PAIRS, 3, *SHAPE), dtype)]
    actual = [np.empty_like(a) for a in expected]
    kernels.value_and_slope(source, u, *numbers, *expected)
    call(library, "value_and_slope", [source, u], (PAIRS, 1, finer, 1, *SHAPE), actual, numbers)
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b)


def test_jacobian_determinant(compiled):
    library, dtype = compiled
    u = np.random.default_rng(0).standard_normal((PAIRS, 3, *SHAPE)).astype(dtype)
    expected, actual = host.unwritten((2, PAIRS, *SHAPE), dtype)
    kernels.jacobian_determinant(u, *spacing(dtype), expected)
    call(library, "jacobian_determinant", [u], (PAIRS, *SHAPE), [actual])
    laws.close(actual, expected)


@pytest.mark.parametrize("parts", [1, 3, 4])  # of rows that do not share evenly among four
def test_extremes(compiled, parts):
    library, dtype = compiled
    u = dtype(0.2) * host.random((PAIRS, 3, *SHAPE), dtype)
    rows = math.ceil(SHAPE[0] * SHAPE[1] / parts)
    expected, actual = host.unwritten((2, PAIRS, parts, 2), dtype)
    numbers = (*spacing(dtype), *(dtype(x) for x in (0.3, 0.5, 0.2)))
    kernels.extremes(u, *numbers, expected)
    sizes, scratch = (PAIRS, parts, rows, *SHAPE), PAIRS * parts * 2 * LANES
    call(library, "extremes", [u], sizes, [actual], numbers, scratch)
    laws.close(actual, expected)
    factors = np.reshape(numbers[3:], (3, 1, 1, 1))
    laws.close(expected[..., 0].max(axis=1), (abs(u) * factors).max(axis=(1, 2, 3, 4)))
    determinants = np.empty((PAIRS, *SHAPE), dtype)
    kernels.jacobian_determinant(u, *spacing(dtype), determinants)
    laws.close(expected[..., 1].max(axis=1), -determinants.min(axis=(1, 2, 3)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_extremes_hide_no_missing_number(compiled, axis):
    library, dtype = compiled
    u = np.zeros((1, 3, *SHAPE), dtype)
    u[0, axis, 2, 3, 4] = np.nan
    expected, actual = host.unwritten((2, 1, 1, 2), dtype)
    numbers = (*spacing(dtype), *(dtype(1) for _ in range(3)))
    kernels.extremes(u, *numbers, expected)
    sizes = (1, 1, SHAPE[0] * SHAPE[1], *SHAPE)
    call(library, "extremes", [u], sizes, [actual], numbers, 2 * LANES)
    assert np.isnan(expected).all()
    assert np.isnan(actual).all()


def test_invert(compiled):
    library, dtype = compiled
    u = 0.1 * np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(dtype)
    expected, actual = host.unwritten((2, 3, *SHAPE), dtype)
    tolerance = dtype(1e-6)
    kernels.invert(u, *spacing(dtype), tolerance, expected)
    call(library, "invert", [u], SHAPE, [actual], (*SPACING, tolerance))
    laws.close(actual, expected, rtol=1e-5)


def test_a_flat_volume_stands_for_a_2d_image(compiled):
    library, dtype = compiled
    shape = (1, 6, 7)
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((2, 1, *shape)).astype(dtype)
    u = np.zeros((1, 3, *shape), dtype)
    u[0, 1:] = rng.uniform(0.05, 0.45, (2, *shape))
    expected = [np.empty((1, *shape), dtype), np.empty((1, 3, *shape), dtype)]
    actual = [np.empty_like(a) for a in expected]
    kernels.residual_and_force(source, target, u, *density(dtype), *expected)
    sizes = (1, 1, 1, 1, *shape)
    call(library, "residual_and_force", [source, target, u], sizes, actual, density(dtype))
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b)

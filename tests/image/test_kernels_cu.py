"""The CUDA kernels of the image package, compiled by the host compiler, equal the numba kernels."""

import numpy as np
import pytest

from fourierreg.image import kernels
from tests import host, laws

SHAPE = (5, 6, 7)
PAIRS = 2
SPACING = (0.5, 2.0, 1.0)  # powers of two, so that u / h and u (1 / h) are exact


compiled = host.compiled_fixture("fourierreg.image")


def call(library, name, inputs, sizes, outputs, scalars=SPACING, scratch=0):
    """`host.call` with the spacing as default scalars."""
    host.call(library, name, inputs, sizes, outputs, scalars, scratch)


def displacement(kind, dtype, shape=SHAPE):
    """Displacement in mm: general, onto the kinks at voxel centers, or by over two periods."""
    rng = np.random.default_rng(1)
    whole = rng.integers(-3, 4, (3, *shape))
    fraction = rng.uniform(0.05, 0.45, (3, *shape))  # off the kinks of both kernels
    moved = {
        "zero": np.zeros((3, *shape)),
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
    """A batch of two displacements: of one kind, and its negative."""
    u = displacement(kind, dtype, shape)
    return np.stack([u, -u])


KINDS = ("zero", "general", "kinks", "one kink", "far", "ties")


def spacing(dtype):
    return [dtype(h) for h in SPACING]


def voxels_per_mm(dtype, factors=(1, 1, 1)):
    """Source voxels per mm, for a source sampled by these factors more finely."""
    return [dtype(f / h) for f, h in zip(factors, SPACING, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["interpolate", "nearest"])
def test_resampling(compiled, name, kind):
    library, dtype = compiled
    channels = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(dtype)
    grid = (4, 7, 6)  # not that of the image
    u = displacement(kind, dtype, grid)
    expected, actual = host.nan_filled((2, 2, *grid), dtype)
    getattr(kernels, name)(channels, u, *spacing(dtype), expected)
    call(library, name, [channels, u], (*channels.shape, *grid), [actual])
    laws.close(actual, expected, rtol=0.0 if name == "nearest" else laws.rtol_of(dtype))


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_residual_and_force(compiled, kind, background):
    library, dtype = compiled
    source, target = np.random.default_rng(0).standard_normal((2, PAIRS, *SHAPE)).astype(dtype)
    if background:  # which the numba kernel skips
        source[:, :3], target[:, 1:, 2:] = 0, 0
    u = displacements(kind, dtype)
    expected = [np.empty((PAIRS, *SHAPE), dtype), np.empty((PAIRS, 3, *SHAPE), dtype)]
    actual = [np.empty_like(a) for a in expected]
    kernels.residual_and_force(source, target, u, *voxels_per_mm(dtype), *expected)
    sizes = (PAIRS, 1, 1, 1, *SHAPE)
    call(library, "residual_and_force", [source, target, u], sizes, actual, voxels_per_mm(dtype))
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_slope(compiled, kind, factor):
    library, dtype = compiled
    fine, scalars = (SHAPE[0], factor * SHAPE[1], SHAPE[2]), voxels_per_mm(dtype, (1, factor, 1))
    source = np.random.default_rng(0).standard_normal((PAIRS, *fine)).astype(dtype)
    u = displacements(kind, dtype)
    expected = [np.empty((PAIRS, *SHAPE), dtype), np.empty((PAIRS, 3, *SHAPE), dtype)]
    actual = [np.empty_like(a) for a in expected]
    kernels.value_and_slope(source, u, *scalars, *expected)
    call(library, "value_and_slope", [source, u], (PAIRS, 1, factor, 1, *SHAPE), actual, scalars)
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b)


def test_invert(compiled):
    library, dtype = compiled
    u = 0.1 * np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(dtype)
    expected, actual = host.nan_filled((2, 3, *SHAPE), dtype)
    tolerance = dtype(1e-6)
    kernels.invert(u, *spacing(dtype), tolerance, expected)
    call(library, "invert", [u], SHAPE, [actual], (*SPACING, tolerance))
    laws.close(actual, expected, rtol=1e-5)


def test_a_2d_image_is_a_volume_with_one_plane(compiled):
    library, dtype = compiled
    shape = (1, 6, 7)
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((2, 1, *shape)).astype(dtype)
    u = np.zeros((1, 3, *shape), dtype)
    u[0, 1:] = rng.uniform(0.05, 0.45, (2, *shape))
    expected = [np.empty((1, *shape), dtype), np.empty((1, 3, *shape), dtype)]
    actual = [np.empty_like(a) for a in expected]
    kernels.residual_and_force(source, target, u, *voxels_per_mm(dtype), *expected)
    sizes = (1, 1, 1, 1, *shape)
    call(library, "residual_and_force", [source, target, u], sizes, actual, voxels_per_mm(dtype))
    for a, b in zip(actual, expected, strict=True):
        laws.close(a, b)

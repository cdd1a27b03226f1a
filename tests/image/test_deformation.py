"""Warping, composing, inverting and differentiating displacement fields."""

import numpy as np
import pytest
from scipy import ndimage

from fourierreg import warp
from fourierreg.backend import asarray, to_numpy
from fourierreg.image import voxels
from fourierreg.image.deformation import compose, gradient, invert, jacobian_determinant
from tests import laws
from tests.fields import smooth_image

GRIDS = {
    "2d": ((12, 9), (1.0, 1.0)),
    "2d-anisotropic": ((9, 12), (1.6, 0.7)),
    "3d-anisotropic": ((7, 6, 9), (1.0, 1.6, 0.7)),
}
DTYPES = (np.float32, np.float64)


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def grid(request):
    return request.param


def noise(shape, seed, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def column(spacing):
    """Spacing, shaped to multiply a vector field."""
    return np.reshape(spacing, (-1, *[1] * len(spacing)))


def smooth_displacement(shape, spacing, size, seed=0):
    """A random field with |u_j| of about `size` voxels, of the lowest frequencies."""
    u = np.stack([to_numpy(smooth_image(shape, seed + j, cutoff=1)) for j in range(len(shape))])
    return asarray(4 * size * u * column(spacing))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [0, 1])
def test_zero_displacement_is_the_identity(grid, backend, dtype, order):
    shape, spacing = grid
    image = asarray(noise(shape, 0, dtype))
    u = asarray(np.zeros((len(shape), *shape), dtype))
    moved = warp(image, u, spacing, order=order)
    assert moved.dtype == dtype
    laws.close(moved, image, rtol=0.0)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shift", [(3, -2, 1), (-25, 17, 40)])
def test_shifts_by_whole_voxels_are_periodic_and_exact(grid, backend, order, shift):
    shape, _ = grid
    shift, spacing = shift[: len(shape)], (1.0, 0.5, 2.0)[: len(shape)]
    image = noise(shape, 0)
    u = np.broadcast_to(
        np.multiply(shift, spacing).reshape(column(spacing).shape), (len(shape), *shape)
    )
    moved = warp(asarray(image), asarray(u.copy()), spacing, order=order)
    # out(x) = image(x + s)
    expected = np.roll(image, [-s for s in shift], tuple(range(len(shape))))
    laws.close(moved, expected, rtol=0.0)


def scipy_warp(image, u, spacing, order):
    where = np.indices(u.shape[1:]) + u / column(spacing)
    return ndimage.map_coordinates(image, where, order=order, mode="grid-wrap")


@pytest.mark.parametrize("periods", [0.3, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_interpolation_agrees_with_scipy(grid, backend, dtype, periods):
    shape, spacing = grid
    image = noise(shape, 0, dtype)
    u = periods * column(np.multiply(shape, spacing)) * noise((len(shape), *shape), 1) / 2
    moved = warp(asarray(image), asarray(u.astype(dtype)), spacing)
    laws.close(moved, scipy_warp(image.astype(float), u, spacing, 1), rtol=laws.rtol_of(dtype))


def test_displacement_may_have_another_grid(grid, backend):
    shape, spacing = grid
    image, larger = noise(shape, 0), tuple(n + 3 for n in shape)
    u = column(spacing) * noise((len(shape), *larger), 1)
    moved = warp(asarray(image), asarray(u), spacing)
    laws.close(moved, scipy_warp(image, u, spacing, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
def test_labels_keep_their_type_and_values(grid, backend, dtype):
    shape, spacing = grid
    largest = 2**31 - 1 if dtype is np.int32 else 127 if dtype is np.int16 else 255
    largest = 65535 if dtype is np.uint16 else largest
    labels = np.random.default_rng(0).integers(0, largest + 1, shape).astype(dtype)
    labels[(0,) * len(shape)] = largest
    # No sample is near the midpoint of two voxels, where rounding decides.
    voxels_moved = np.random.default_rng(1).uniform(-0.45, 0.45, (len(shape), *shape)) + 2
    u = column(spacing) * voxels_moved
    moved = warp(asarray(labels), asarray(u), spacing, order=0)
    assert moved.dtype == dtype
    expected = np.roll(labels, (-2,) * len(shape), tuple(range(len(shape))))
    np.testing.assert_array_equal(to_numpy(moved), expected)
    assert largest in to_numpy(moved)


def test_nearest_neighbor_sampling_agrees_with_scipy(grid, backend):
    shape, spacing = grid
    image = noise(shape, 0)
    u = 3 * column(spacing) * noise((len(shape), *shape), 1)
    moved = warp(asarray(image), asarray(u), spacing, order=0)
    laws.close(moved, scipy_warp(image, u, spacing, 0), rtol=0.0)


@pytest.mark.parametrize("kernel", ["interpolate", "nearest"])
def test_channels_equal_a_loop(grid, backend, kernel):
    shape, spacing = grid
    image = asarray(noise((2, 3, *shape), 0))
    u = asarray(column(spacing) * noise((len(shape), *shape), 1))
    resampled = voxels.resample(image, u, spacing, kernel)
    for i in range(2):
        for j in range(3):
            laws.close(resampled[i, j], voxels.resample(image[i, j], u, spacing, kernel), rtol=0.0)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_inverse_composes_to_the_identity(grid, backend, tolerance):
    shape, spacing = grid
    u = smooth_displacement(shape, spacing, 0.4)
    w = invert(u, spacing, tolerance=tolerance)
    # The iteration is a contraction, so w(x) + u(x + w(x)) is smaller than the last change.
    error = np.abs(to_numpy(compose(u, w, spacing))) / column(spacing)
    assert error.max() < tolerance
    assert np.abs(to_numpy(u) / column(spacing)).max() > 0.3


def test_inverse_of_a_translation_is_its_negative(grid, backend):
    shape, spacing = grid
    u = np.broadcast_to(0.7 * column(spacing), (len(shape), *shape)).copy()
    laws.close(invert(asarray(u), spacing), -u, rtol=laws.rtol_of(np.float32))


def test_composition_of_translations_adds(grid, backend):
    shape, spacing = grid
    a, b = (np.broadcast_to(s * column(spacing), (len(shape), *shape)).copy() for s in (0.7, 2.2))
    laws.close(compose(asarray(a), asarray(b), spacing), a + b)


def test_composition_is_warping_twice(grid, backend):
    # S(x + b + a(x + b)) = (S∘(id + a))∘(id + b), exactly if b is a shift by whole voxels.
    shape, spacing = grid
    axes = tuple(range(len(shape)))
    image, a = noise(shape, 0), column(spacing) * noise((len(shape), *shape), 1)
    spacing_ = (1.0,) * len(shape)
    a = a / column(spacing)
    b = np.broadcast_to(2.0 * column(spacing_), a.shape).copy()
    both = warp(asarray(image), compose(asarray(a), asarray(b), spacing_))
    expected = np.roll(to_numpy(warp(asarray(image), asarray(a))), [-2] * len(shape), axes)
    laws.close(both, expected)


def numpy_jacobian(u, spacing):
    d = len(spacing)
    matrix = np.empty((*u.shape[1:], d, d))
    for i in range(d):
        for j in range(d):
            slope = (np.roll(u[i], -1, j) - np.roll(u[i], 1, j)) / (2 * spacing[j])
            matrix[..., i, j] = slope + (i == j)
    return np.linalg.det(matrix)


@pytest.mark.parametrize("dtype", DTYPES)
def test_jacobian_determinant_is_that_of_central_differences(grid, backend, dtype):
    shape, spacing = grid
    u = column(spacing) * noise((len(shape), *shape), 0)
    determinant = jacobian_determinant(asarray(u.astype(dtype)), spacing)
    assert determinant.dtype == dtype
    laws.close(determinant, numpy_jacobian(u, spacing), rtol=laws.rtol_of(dtype))


def test_jacobian_determinant_of_a_shear_and_of_a_stretch(backend):
    n, h = 32, 0.5
    x = np.arange(n) * h
    wave, wavelength = 0.6, n * h
    u = np.zeros((2, n, n))
    u[1] = (
        wave * np.sin(2 * np.pi * x / wavelength)[:, None]
    )  # component 1 varies along axis 0: a shear
    laws.close(jacobian_determinant(asarray(u), h), np.ones((n, n)))
    u[0] = u[1]
    slope = wave * np.sin(2 * np.pi / n) / h * np.cos(2 * np.pi * x / wavelength)
    laws.close(jacobian_determinant(asarray(u), h), np.broadcast_to(1 + slope[:, None], (n, n)))


def test_gradient_is_the_central_difference(grid, backend):
    shape, spacing = grid
    image = noise(shape, 0)
    g = gradient(asarray(image), spacing)
    for j, h in enumerate(spacing):
        laws.close(g[j], (np.roll(image, -1, j) - np.roll(image, 1, j)) / (2 * h))


@pytest.mark.parametrize("shape", [(2, 5), (3, 5, 5), (5, 5)])
def test_errors_name_the_displacement(shape):
    with pytest.raises(ValueError, match="displacement"):
        warp(np.zeros((5, 5)), np.zeros(shape))


def test_errors_name_the_order():
    with pytest.raises(ValueError, match="order"):
        warp(np.zeros((5, 5)), np.zeros((2, 5, 5)), order=3)

"""Products truncated to the band without aliasing."""

import numpy as np
import pytest
from scipy.signal import convolve

from fourierreg.backend import to_numpy
from fourierreg.spectral.product_grid import from_grid, stack_from_grid, stack_to_grid, to_grid
from fourierreg.spectral.transform import analysis, synthesis
from tests import laws
from tests.fields import white


def centered(f, band):
    """Coefficients of the whole band, with frequencies -K … K along every axis."""
    order = [np.arange(-k, k + 1) for k in band.cutoff]
    k = np.stack(np.meshgrid(*order, indexing="ij"))
    flip = k[-1] < 0
    values = f[tuple(np.where(flip, -k, k))]
    return np.where(flip, values.conj(), values)


def convolution(f, g, band):
    """(fg)_k = Σ_l f_l g_{k-l} for |k_j| <= K_j."""
    return convolve(centered(f, band), centered(g, band), mode="same", method="direct")


def product(f, g, band, shape, xp):
    """The product computed on a grid of `shape` points."""
    a, b = (synthesis(h, band, shape, np.float64, xp) for h in (f, g))
    return centered(to_numpy(analysis(a * b, band, xp)), band)


def test_products_on_the_product_grid_are_exact(band, xp):
    f, g = white(band, 0)[0], white(band, 1)[0]
    assert band.product_shape == tuple(3 * k + 1 for k in band.cutoff)
    expected = convolution(to_numpy(f), to_numpy(g), band)
    values = from_grid(to_grid(f, band, xp) * to_grid(g, band, xp), band, xp)
    laws.close(centered(to_numpy(values), band), expected)


@pytest.mark.parametrize("points", ["3K+1", "3K"])
def test_three_k_plus_one_points_are_needed(band, xp, points):
    f, g = white(band, 0)[0], white(band, 1)[0]
    expected = convolution(to_numpy(f), to_numpy(g), band)
    extra = 1 if points == "3K+1" else 0
    actual = product(f, g, band, tuple(3 * k + extra for k in band.cutoff), xp)
    wrong = np.abs(actual - expected) > laws.rtol_of(np.float64) * np.max(np.abs(expected))
    edge = np.ones(expected.shape, bool)
    edge[(slice(1, -1),) * band.ndim] = False  # |k_j| = K_j along some axis
    assert not np.any(wrong & ~edge)
    # On 3K points frequency 2K is aliased to -K.
    assert np.any(wrong & edge) == (points == "3K")


def test_stacked_transforms_equal_single_transforms(band, xp):
    d = band.ndim
    v = white(band, 0, batch=(2,))
    tensor = white(band, 1, batch=(2, d))
    v_, tensor_ = stack_to_grid([v, tensor], band, xp)
    laws.close(v_, to_grid(v, band, xp))
    laws.close(tensor_, to_grid(tensor, band, xp))
    back, tensor_back = stack_from_grid([v_, tensor_], band, xp)
    laws.close(back, v)
    laws.close(tensor_back, tensor)

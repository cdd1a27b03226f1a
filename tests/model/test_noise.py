"""Variance and effective number of independent voxels of a residual."""

import math

import numpy as np
import pytest
from scipy import ndimage

from fourierreg.backend import asarray, to_numpy
from fourierreg.model.noise import (
    MIN_SIGMA,
    decimation,
    estimate,
    foreground,
    lag_one_autocorrelation,
)

SHAPE = (256, 256)


def white(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape)


def everywhere(shape=SHAPE):
    return asarray(np.ones(shape, bool))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_white_noise_is_not_decimated(backend, dtype):
    # The formula reaches one where r <= e^-π = 0.043; 1/√M = 0.004 is the scatter of r.
    assert decimation(asarray(white(0).astype(dtype)), everywhere()) == 1.0


@pytest.mark.parametrize("widths", [(1.5, 1.5), (2.5, 1.0), (0.0, 1.5)])
def test_smoothed_noise_is_decimated_by_its_width(backend, widths):
    # Noise smoothed by a Gaussian of s voxels has r = exp(-1/4s²), and ρ = Π 1/(s √4π).
    shape = (512, 512)
    residual = ndimage.gaussian_filter(white(0, shape), widths, mode="wrap", truncate=8)
    expected = math.prod(min(1.0, 1 / (s * math.sqrt(4 * math.pi))) if s else 1.0 for s in widths)
    # M ρ is some 1e4 independent values: ln r, of about -0.1, is known to 2 percent and s to 1.
    assert math.isclose(decimation(asarray(residual), everywhere(shape)), expected, rel_tol=0.06)


def test_autocorrelation_of_smoothed_noise(backend):
    s = 1.5
    residual = ndimage.gaussian_filter(white(0), (s, 0), mode="wrap", truncate=8)
    along, across = (lag_one_autocorrelation(asarray(residual), everywhere(), j) for j in (0, 1))
    assert abs(along - math.exp(-1 / (4 * s**2))) < 0.02  # five times (1 - r²)/√(M ρ)
    assert abs(across) < 0.05  # five times 1/√(M ρ), ρ = 0.19


def test_negative_correlation_counts_as_one(backend):
    alternating = white(0) * 0.1 + np.indices(SHAPE).sum(axis=0) % 2
    assert lag_one_autocorrelation(asarray(alternating), everywhere(), 0) < 0
    assert decimation(asarray(alternating), everywhere()) == 1.0


def test_only_pairs_inside_count(backend):
    rng = np.random.default_rng(0)
    inside = rng.random((40, 50)) > 0.4
    r = rng.standard_normal((40, 50)) + 3.0
    m = r[inside].mean()
    both = inside[1:] & inside[:-1]
    covariance = np.mean(((r[1:] - m) * (r[:-1] - m))[both])
    expected = covariance / np.mean((r[inside] - m) ** 2)
    actual = lag_one_autocorrelation(asarray(r), asarray(inside), 0)
    assert math.isclose(actual, expected, rel_tol=1e-9)


def test_a_constant_residual_has_no_correlation(backend):
    assert lag_one_autocorrelation(asarray(np.ones((5, 6))), everywhere((5, 6)), 0) == 0.0


def test_sigma_is_the_rms_inside(backend):
    r, inside = white(0), white(1) > 0
    sigma, rho = estimate(asarray(r), asarray(inside))
    assert math.isclose(sigma, np.sqrt(np.mean(r[inside] ** 2)), rel_tol=1e-9)
    assert rho == decimation(asarray(r), asarray(inside))


def test_sigma_has_a_floor(backend):
    assert estimate(asarray(np.zeros((5, 6))), everywhere((5, 6)))[0] == MIN_SIGMA


def test_foreground(backend):
    source, target = np.zeros((2, 4, 5))
    source[1, 2], target[3, 3] = 0.5, -0.5
    union = to_numpy(foreground(asarray(source), asarray(target)))
    np.testing.assert_array_equal(union, (source != 0) | (target != 0))
    mask = everywhere((4, 5))
    assert foreground(asarray(source), asarray(target), mask) is mask

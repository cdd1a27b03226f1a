"""Standard deviation of the noise and fraction of independent voxels, from a residual."""

import math

import numpy as np
import pytest
from scipy import ndimage

from fourierreg.backend import asarray
from fourierreg.model.noise import (
    MIN_SIGMA,
    Noise,
    estimate,
    lag_one_autocorrelation,
    virtual_decimation,
)
from tests.laws import scalar

SHAPE = (256, 256)


def white(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape)


def batch(*images):
    """Images as a batch on the active backend."""
    return asarray(np.stack(images))


def everywhere(shape=SHAPE):
    return batch(np.ones(shape, bool))


def decimation(residual, inside=None):
    """ρ of one residual on the host."""
    inside = everywhere(residual.shape) if inside is None else batch(inside)
    return scalar(virtual_decimation(batch(residual), inside))


def correlation(residual, axis, inside=None):
    """Lag-one autocorrelation of one residual along one of its axes."""
    inside = everywhere(residual.shape) if inside is None else batch(inside)
    return scalar(lag_one_autocorrelation(batch(residual), inside, axis + 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_white_noise_is_not_decimated(backend, dtype):
    # The formula reaches one where r <= e^-π = 0.043; 1/√M = 0.004 is the scatter of r.
    assert decimation(white(0).astype(dtype)) == 1.0


@pytest.mark.parametrize("widths", [(1.5, 1.5), (2.5, 1.0), (0.0, 1.5)])
def test_smoothed_noise_is_decimated_by_its_width(backend, widths):
    # Noise smoothed by a Gaussian of s voxels has r = exp(-1/4s²), and ρ = Π 1/(s √4π).
    residual = ndimage.gaussian_filter(white(0, (512, 512)), widths, mode="wrap", truncate=8)
    expected = math.prod(min(1.0, 1 / (s * math.sqrt(4 * math.pi))) if s else 1.0 for s in widths)
    # M ρ is some 1e4 independent values: ln r, of about -0.1, is known to 2 percent and s to 1.
    assert math.isclose(decimation(residual), expected, rel_tol=0.06)


def test_autocorrelation_of_smoothed_noise(backend):
    s = 1.5
    residual = ndimage.gaussian_filter(white(0), (s, 0), mode="wrap", truncate=8)
    assert abs(correlation(residual, 0) - math.exp(-1 / (4 * s**2))) < 0.02  # 5 (1 - r²)/√(M ρ)
    assert abs(correlation(residual, 1)) < 0.05  # five times 1/√(M ρ), ρ = 0.19


def test_negative_correlation_counts_as_one(backend):
    alternating = white(0) * 0.1 + np.indices(SHAPE).sum(axis=0) % 2
    assert correlation(alternating, 0) < 0
    assert decimation(alternating) == 1.0


def test_only_neighbors_inside_the_mask_count(backend):
    rng = np.random.default_rng(0)
    inside = rng.random((40, 50)) > 0.4
    r = rng.standard_normal((40, 50)) + 3.0
    m = r[inside].mean()
    both = inside[1:] & inside[:-1]
    covariance = np.mean(((r[1:] - m) * (r[:-1] - m))[both])
    expected = covariance / np.mean((r[inside] - m) ** 2)
    assert math.isclose(correlation(r, 0, inside), expected, rel_tol=1e-9)


def test_a_constant_residual_has_no_correlation(backend):
    assert correlation(np.ones((5, 6)), 0) == 0.0


def test_sigma_is_the_rms_inside(backend):
    r, inside = white(0), white(1) > 0
    sigma, rho = estimate(batch(r), batch(inside))
    assert math.isclose(scalar(sigma), np.sqrt(np.mean(r[inside] ** 2)), rel_tol=1e-9)
    assert scalar(rho) == decimation(r, inside)


def test_sigma_has_a_floor(backend):
    assert estimate(batch(np.zeros((5, 6))), everywhere((5, 6)))[0].tolist() == [MIN_SIGMA]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_pair_of_a_batch_has_its_own_estimate(backend, dtype):
    shape = (30, 40)
    smooth = ndimage.gaussian_filter(white(0, shape), 1.2, mode="wrap")
    residuals = [smooth, 0.3 * white(1, shape), np.zeros(shape), white(2, shape) + 2.0]
    residuals = [r.astype(dtype) for r in residuals]
    masks = [white(10 + i, shape) > threshold for i, threshold in enumerate((0, -1, 0.5, -9))]
    found = estimate(batch(*residuals), batch(*masks))
    along = lag_one_autocorrelation(batch(*residuals), batch(*masks), 1)
    assert all(isinstance(values, np.ndarray) and values.shape == (4,) for values in found)
    for pair, (r, inside) in enumerate(zip(residuals, masks, strict=True)):
        for values, single in zip(found, estimate(batch(r), batch(inside)), strict=True):
            assert values[pair] == pytest.approx(scalar(single), rel=1e-12)
        assert along[pair] == pytest.approx(correlation(r, 0, inside), rel=1e-12)


def test_weight_per_voxel_of_the_image():
    assert Noise(0.5, 0.3, estimated=False).weight == pytest.approx(1.2)
    assert Noise(0.5, 0.3, estimated=False, voxel_ratio=8.0).weight == pytest.approx(0.15)


@pytest.mark.parametrize(("fixed", "expected"), [(None, None), (0.1, 0.8), (0.25, 1.0)])
def test_noise_of_a_residual(backend, fixed, expected):
    # A given decimation is that of the image's voxels, of which each of the grid's stands for 8.
    r = 0.3 * white(3, (20, 30))
    inside = everywhere(r.shape)
    noise = Noise(1.0, 1.0, estimated=True, fixed_decimation=fixed)
    found = noise.of_residual(batch(r), inside, 8.0)
    sigma, rho = map(scalar, estimate(batch(r), inside))
    assert found.sigma == sigma and found.voxel_ratio == 8.0 and found.estimated
    assert found.decimation == pytest.approx(rho if expected is None else expected)
    assert isinstance(found.weight, float)

"""Velocities drawn from the prior."""

import numpy as np
import pytest

from fourierreg import use_backend
from fourierreg.backend import backend_of, to_numpy
from fourierreg.data.prior import sample_velocity
from fourierreg.spectral.band import multiplicity, pack
from fourierreg.spectral.transform import synthesis

DRAWS = 2000


def test_variance_of_every_mode(metric, xp):
    # ṽ ~ N(0, s² L⁻¹): the packed coordinates, over s L^{-1/2}, are standard normal.
    v = sample_velocity(metric, 0, DRAWS)
    whitened = v * xp.sqrt(metric.symbol(xp)) / metric.velocity_scale
    x = to_numpy(pack(whitened, metric.band, xp)).reshape(DRAWS, -1)
    # Of hundreds of coordinates none is five standard errors off.
    assert np.max(np.abs(x.mean(axis=0))) < 5 / np.sqrt(DRAWS)
    assert np.max(np.abs((x**2).mean(axis=0) - 1)) < 5 * np.sqrt(2 / DRAWS)
    covariance = x[:, :-1].T @ x[:, 1:] / DRAWS
    assert np.max(np.abs(np.diag(covariance))) < 5 / np.sqrt(DRAWS)


def test_energy_has_half_a_nat_per_degree_of_freedom(metric, xp):
    v = sample_velocity(metric, 1, DRAWS)
    energy = to_numpy(metric.inner(v, v)) / metric.velocity_scale**2
    p = metric.band.degrees_of_freedom
    assert abs(energy.mean() - p) < 5 * np.sqrt(2 * p / DRAWS)  # χ² of P degrees of freedom


def test_variance_of_every_voxel(metric, xp):
    # E v(x)² = s² Σ_k 1 / L_k, for every component and voxel
    v = synthesis(sample_velocity(metric, 2, 300), metric.band, metric.band.shape, np.float64, xp)
    symbol = to_numpy(metric.symbol(xp))
    expected = metric.velocity_scale**2 * np.sum(to_numpy(multiplicity(metric.band, xp)) / symbol)
    variance = (to_numpy(v) ** 2).mean(axis=0)
    assert np.all(np.abs(variance / expected - 1) < 6 * np.sqrt(2 / 300))


def test_a_seed_gives_the_same_velocity_on_every_backend(metric, backend):
    v = sample_velocity(metric, 7, 2)
    assert backend_of(v) == backend
    with use_backend("numpy"):
        expected = sample_velocity(metric, 7, 2)
    np.testing.assert_array_equal(to_numpy(v), expected)


def test_shapes_and_generators(metric):
    band = metric.band
    assert sample_velocity(metric, 0).shape == (band.ndim, *band.coefficient_shape)
    assert sample_velocity(metric, 0, 4).shape == (4, band.ndim, *band.coefficient_shape)
    assert sample_velocity(metric, 0).dtype == np.complex128
    rng = np.random.default_rng(0)
    first, second = sample_velocity(metric, rng), sample_velocity(metric, rng)
    np.testing.assert_array_equal(first, sample_velocity(metric, 0))
    assert np.all(first != second)


@pytest.mark.parametrize("alphas", [(1.0, 4.0)])
def test_a_larger_alpha_is_smoother(metric, alphas):
    weak, strong = (np.sum(np.abs(sample_velocity(metric.with_alpha(a), 0)) ** 2) for a in alphas)
    assert strong < weak

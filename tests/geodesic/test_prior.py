"""Velocities drawn from the prior."""

import numpy as np
import pytest

from fourierreg import use_backend
from fourierreg.backend import backend_of, to_numpy
from fourierreg.geodesic.prior import prior_size, sample_velocity
from fourierreg.image.deformation import gradient
from fourierreg.spectral.band import multiplicity, pack
from fourierreg.spectral.metric import Metric
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


# Std of a component in voxels and rms of its gradient, at α = 0.1, 1, 3, 6, 10.
MEASURED = {
    ((128, 128, 128), None): ((27, 6.3, 2.8, 1.7, 1.3), (8.0, 1.03, 0.30, 0.13, 0.07)),
    ((100, 100), 1.0): ((8.9, 3.2, 1.85, 1.36, 1.15), (2.6, 0.47, 0.16, 0.08, 0.05)),
}


@pytest.mark.parametrize(("setting", "expected"), MEASURED.items(), ids=["128³", "100²"])
def test_size_of_the_prior_is_that_of_the_design(setting, expected):
    shape, scale = setting
    sizes = [
        prior_size(Metric.create(shape, alpha=alpha, velocity_scale=scale))
        for alpha in (0.1, 1.0, 3.0, 6.0, 10.0)
    ]
    # To the two digits printed there.
    np.testing.assert_allclose([s.velocity for s in sizes], expected[0], rtol=0.03)
    np.testing.assert_allclose([s.gradient for s in sizes], expected[1], rtol=0.1)


def test_size_of_samples_is_that_of_the_formula(metric, backend, xp):
    draws, band = 400, metric.band
    sizes = prior_size(metric)
    v = synthesis(sample_velocity(metric, 3, draws), band, band.shape, np.float64, xp)
    one = v[:, 0]
    steep = xp.stack([gradient(field, band.spacing) for field in one])
    found = (
        float(xp.sqrt(xp.mean(one**2))),
        float(xp.sqrt(xp.mean(xp.sum(steep**2, axis=1)))),
    )
    np.testing.assert_allclose(found, sizes, rtol=0.1)  # 400 draws of a few dominant modes

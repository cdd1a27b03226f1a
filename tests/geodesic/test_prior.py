"""Velocities drawn from the prior."""

import numpy as np
import pytest

from fourierreg import use_backend
from fourierreg.backend import active_module, backend_of, to_numpy
from fourierreg.geodesic.prior import sample_velocity
from fourierreg.image.deformation import gradient
from fourierreg.spectral.band import inner, multiplicity, pack
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.operators import derivative
from fourierreg.spectral.transform import synthesis

DRAWS = 2000


def standard_deviations(metric):
    """Standard deviation of one component of a prior sample, s (Σ_k 1/L_k)^{1/2}, in mm, and rms
    length of its gradient, s (Σ_k |D_k|² / L_k)^{1/2}."""
    xp, band = active_module(), metric.band
    root = (1.0 / xp.sqrt(metric.symbol(xp)))[None].astype(np.complex128)
    variances = [float(inner(f, f, band, xp)) for f in (root, derivative(band, xp) * root)]
    return [metric.velocity_scale * np.sqrt(variance) for variance in variances]


def test_whitened_samples_are_standard_normal(metric, xp):
    # ṽ ~ N(0, s² L⁻¹): the packed coordinates, divided by s L^{-1/2}, are standard normal.
    v = sample_velocity(metric, 0, DRAWS)
    whitened = v * xp.sqrt(metric.symbol(xp)) / metric.velocity_scale
    x = to_numpy(pack(whitened, metric.band, xp)).reshape(DRAWS, -1)
    # None of the hundreds of coordinates deviates by five standard errors.
    assert np.max(np.abs(x.mean(axis=0))) < 5 / np.sqrt(DRAWS)
    assert np.max(np.abs((x**2).mean(axis=0) - 1)) < 5 * np.sqrt(2 / DRAWS)
    covariance = x[:, :-1].T @ x[:, 1:] / DRAWS
    assert np.max(np.abs(np.diag(covariance))) < 5 / np.sqrt(DRAWS)


def test_mean_energy_is_half_a_nat_per_degree_of_freedom(metric, xp):
    v = sample_velocity(metric, 1, DRAWS)
    energy = to_numpy(metric.inner(v, v)) / metric.velocity_scale**2
    p = metric.band.degrees_of_freedom
    assert abs(energy.mean() - p) < 5 * np.sqrt(2 * p / DRAWS)  # χ² of P degrees of freedom


def test_variance_is_the_same_at_every_voxel(metric, xp):
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
    np.testing.assert_allclose(to_numpy(v), expected, rtol=0, atol=1e-15 * np.abs(expected).max())


def test_samples_have_the_requested_size_and_advance_the_generator(metric):
    band = metric.band
    assert sample_velocity(metric, 0).shape == (band.ndim, *band.coefficient_shape)
    assert sample_velocity(metric, 0, 4).shape == (4, band.ndim, *band.coefficient_shape)
    assert sample_velocity(metric, 0).dtype == np.complex128
    rng = np.random.default_rng(0)
    first, second = sample_velocity(metric, rng), sample_velocity(metric, rng)
    np.testing.assert_array_equal(first, sample_velocity(metric, 0))
    assert np.all(first != second)


@pytest.mark.parametrize("alphas", [(1.0, 4.0)])
def test_samples_are_smaller_at_larger_alpha(metric, alphas):
    weak, strong = (np.sum(np.abs(sample_velocity(metric.with_alpha(a), 0)) ** 2) for a in alphas)
    assert strong < weak


# Std of a component in voxels and rms of its gradient, at α = 0.1, 1, 3, 6, 10, to two digits.
REFERENCE = {
    ((128, 128, 128), None): ((27, 6.3, 2.8, 1.7, 1.3), (8.0, 1.03, 0.30, 0.13, 0.07)),
    ((100, 100), 1.0): ((8.9, 3.2, 1.85, 1.36, 1.15), (2.6, 0.47, 0.16, 0.08, 0.05)),
}


@pytest.mark.parametrize(("setting", "expected"), REFERENCE.items(), ids=["128³", "100²"])
def test_default_scales_give_the_reference_standard_deviations(setting, expected):
    shape, scale = setting
    metrics = [
        Metric.create(shape, alpha=alpha, velocity_scale=scale)
        for alpha in (0.1, 1.0, 3.0, 6.0, 10.0)
    ]
    velocities, gradients = zip(*map(standard_deviations, metrics), strict=True)
    np.testing.assert_allclose(velocities, expected[0], rtol=0.03)
    np.testing.assert_allclose(gradients, expected[1], rtol=0.1)


def test_standard_deviations_of_samples_are_those_of_the_formula(metric, backend, xp):
    draws, band = 400, metric.band
    fine = [4 * n for n in band.shape]  # on which central differences are derivatives
    v = sample_velocity(metric, 3, draws)[:, :1]
    component = synthesis(v, band, fine, np.float64, xp)[:, 0]
    gradients = xp.stack([gradient(f, [h / 4 for h in band.spacing]) for f in component])
    observed = (
        float(xp.sqrt(xp.mean(component**2))),
        float(xp.sqrt(xp.mean(xp.sum(gradients**2, axis=1)))),
    )
    # 400 draws of a few dominant modes
    np.testing.assert_allclose(observed, standard_deviations(metric), rtol=0.1)

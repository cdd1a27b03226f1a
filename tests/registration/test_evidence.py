"""ln p(images | α, noise, model) by Laplace's method."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.geodesic.shooting import shoot, tangent
from fourierreg.image.voxels import value_and_slope
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.band import packed_diagonal, unpack
from fourierreg.spectral.transform import synthesis

SIGMA = 0.05
SETTINGS = {"modes": 7, "velocity_scale": 1.0, "pad": False}


@pytest.fixture(scope="module")
def pair():
    source = bullseye((48, 44), outer=(16.0, 14.0), inner=(8.0, 7.0))
    made = simulate_pair(source, alpha=3.0, sigma=SIGMA, seed=5, modes=7, velocity_scale=1.0)
    return made.source, made.target


def log_evidence(result, source, target, inside):
    """Of a registration without padding, from the matrix of J on the voxels."""
    band, metric, weight = result.metric.band, result.metric, result.weight
    size, s2 = band.degrees_of_freedom, metric.velocity_scale**2
    flow = {"num_steps": result.model.num_steps, "integrator": result.model.integrator}
    geodesic = shoot(result.velocity.astype(np.complex64), metric, **flow)
    _, slope = value_and_slope(source, result.displacement, band.spacing)
    units = unpack(np.eye(size).reshape(size, band.ndim, -1), band, np)
    columns = []
    for unit in units:
        u = synthesis(tangent(geodesic, unit), band, band.shape, np.float64, np)
        columns.append((slope * u).sum(axis=0).ravel())
    jacobian = np.array(columns).T
    prior = packed_diagonal(metric.symbol(np), band, np).ravel() / s2
    hessian = np.diag(prior) + weight * jacobian.T @ jacobian
    residual = result.deformed - target
    energy = 0.5 * float(metric.inner(result.velocity, result.velocity)) / s2
    energy += 0.5 * weight * float(np.sum(residual.astype(float) ** 2))
    laplace = energy - 0.5 * np.sum(np.log(prior)) + 0.5 * np.linalg.slogdet(hessian)[1]
    independent = result.decimation * np.sum(inside)  # voxels
    normalizer = independent * (math.log(result.sigma) + 0.5 * math.log(2 * math.pi))
    return -(laplace + normalizer)


@pytest.mark.parametrize("sigma", [SIGMA, "estimate"])
def test_it_is_the_integral_over_the_velocity(pair, sigma):
    """The sum of F and of the normalizer of the likelihood. H is computed in single precision."""
    source, target = pair
    result = fourierreg.register(*pair, alpha=3.0, sigma=sigma, evidence=True, **SETTINGS)
    expected = log_evidence(result, source, target, (source != 0) | (target != 0))
    assert result.log_evidence == pytest.approx(expected, abs=1e-3)


def test_it_counts_the_voxels_of_the_mask(pair):
    source, target = pair
    mask = np.zeros(source.shape, bool)
    mask[6:-6, 6:-6] = True
    full, masked = (
        fourierreg.register(
            source, target, alpha=3.0, sigma=SIGMA, evidence=True, mask=given, **SETTINGS
        )
        for given in (np.ones(source.shape, bool), mask)
    )
    per_voxel = full.log_evidence / mask.size
    assert masked.log_evidence / np.sum(mask) == pytest.approx(per_voxel, rel=0.1)


def test_the_inferred_alpha_has_more_evidence_than_a_tenth_and_ten_times_of_it(pair):
    settings = {**SETTINGS, "sigma": SIGMA, "evidence": True}
    result = fourierreg.map_alpha(*pair, **settings)
    assert result.converged, result.status
    for factor in (0.1, 10.0):
        other = fourierreg.register(*pair, alpha=factor * result.alpha, **settings)
        assert other.sigma == result.sigma
        assert other.log_evidence < result.log_evidence - 10.0


def test_register_and_map_alpha_agree_at_one_alpha(pair):
    settings = {**SETTINGS, "sigma": SIGMA, "evidence": True}
    result = fourierreg.map_alpha(*pair, **settings)
    given = fourierreg.register(*pair, alpha=result.alpha, max_iterations=500, **settings)
    assert given.log_evidence == pytest.approx(result.log_evidence, abs=3.0)  # where fits end


def test_it_is_computed_on_request_only(pair):
    result = fourierreg.register(*pair, alpha=3.0, sigma=SIGMA, **SETTINGS)
    assert result.log_evidence is None


def test_it_runs_on_the_device(pair, backend):
    settings = {"alpha": 3.0, "sigma": SIGMA, "evidence": True, **SETTINGS}
    result = fourierreg.register(*pair, **settings)
    with fourierreg.use_backend("numpy"):
        expected = fourierreg.register(*pair, **settings)
    assert isinstance(result.log_evidence, float)
    assert result.log_evidence == pytest.approx(expected.log_evidence, abs=3.0)

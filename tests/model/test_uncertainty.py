"""Uncertainty maps compared with a dense computation and with the scatter of estimates."""

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import to_numpy
from fourierreg.geodesic.shooting import tangent
from fourierreg.model import uncertainty
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.traces import dense_matrix
from fourierreg.model.uncertainty import displacement_sd
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.band import unpack
from fourierreg.spectral.transform import synthesis
from tests.model import problems

SAMPLES = 600


def dense_sd(problem, metric, v, exact, xp):
    """Root of the diagonal of Φ T H⁻¹ Tᵀ Φᵀ, T the linearized flow, Φ synthesis on the voxels."""
    band = metric.band
    geodesic = problem.shoot(v, metric)
    hessian = PosteriorHessian(metric, problem.curvature(geodesic, exact))
    covariance = np.linalg.inv(to_numpy(dense_matrix(hessian, band, xp)))
    p = band.degrees_of_freedom
    basis = unpack(xp.asarray(np.eye(p).reshape(p, 1, band.ndim, -1)), band, xp)
    moved = tangent(geodesic, basis)[:, 0]
    columns = to_numpy(synthesis(moved, band, problem.shape, np.float64, xp))
    flat = columns.reshape(p, -1)
    variance = np.einsum("px,pq,qx->x", flat, covariance, flat, optimize=True)
    return np.sqrt(variance).reshape(columns.shape[1:])


@pytest.mark.parametrize("dynamics", ["epdiff", "stationary"])
@pytest.mark.parametrize("exact", [False, True], ids=["approximate", "exact"])
@pytest.mark.parametrize("sampler", ["dense", "iterative"])
def test_the_map_equals_a_dense_computation(backend, xp, sampler, exact, dynamics, monkeypatch):
    if sampler == "iterative":
        monkeypatch.setattr(uncertainty, "DENSE_LIMIT", 0)
    # The relative error of a deviation is 1/√(2 · 600) = 2.9 %; the largest of 680 is 4 of them.
    metric, problem, v, _ = problems.solved("2d", masked=True, weight=200.0, dynamics=dynamics)
    found = to_numpy(displacement_sd(problem, metric, v, exact=exact, num_samples=SAMPLES, seed=1))
    expected = dense_sd(problem, metric, v, exact, xp)
    assert found.shape == expected.shape == (2, *problem.shape)
    error = found / expected - 1
    assert abs(error.mean()) < 0.03
    assert np.abs(error).max() < 4.5 / np.sqrt(2 * SAMPLES)
    assert expected.max() > 1.2 * expected.min()  # the map is not constant


SETTING = {"modes": 7, "velocity_scale": 1.0, "sigma": 0.05, "alpha": 6.0}


@pytest.fixture(scope="module")
def pair():
    source = bullseye((40, 36), outer=(13.0, 11.0), inner=(7.0, 6.0))
    return simulate_pair(source, seed=1, sigma=0.0, alpha=6.0, modes=7, velocity_scale=1.0)


def test_the_map_is_the_scatter_of_estimates_about_the_truth(pair):
    """With truths drawn from the prior, errors over deviations have unit mean square."""
    ratios = []
    for seed in range(6):
        made = simulate_pair(
            pair.source, alpha=6.0, sigma=0.05, seed=seed, modes=7, velocity_scale=1.0
        )
        result = fourierreg.register(made.source, made.target, uncertainty=200, **SETTING)
        error = result.displacement - made.displacement
        ratios.append(np.mean((error / result.displacement_sd) ** 2))
    assert 0.5 < np.mean(ratios) < 2.0


def test_more_noise_means_more_uncertainty(pair):
    # Where the likelihood is weak the prior limits the uncertainty.
    low, high = (
        fourierreg.register(
            pair.source, pair.target, uncertainty=30, **{**SETTING, "sigma": sigma}
        ).displacement_sd.mean()
        for sigma in (0.05, 0.2)
    )
    assert high > 1.2 * low


def test_the_map_is_saved_and_loaded(pair, tmp_path, backend):
    result = fourierreg.register(pair.source, pair.target, uncertainty=True, **SETTING)
    result.save(tmp_path / "pair.npz")
    again = fourierreg.Registration.load(tmp_path / "pair.npz")
    np.testing.assert_array_equal(to_numpy(again.displacement_sd), to_numpy(result.displacement_sd))
    without = fourierreg.register(pair.source, pair.target, **SETTING)
    assert without.displacement_sd is None
    without.save(tmp_path / "pair.npz")
    assert fourierreg.Registration.load(tmp_path / "pair.npz").displacement_sd is None


@pytest.mark.parametrize(
    "keywords",
    [
        {"uncertainty": -1},
        {"uncertainty": 1.5},
        {"uncertainty": 10, "similarity": "ncc", "sigma": None},
        {"uncertainty": 10, "model": fourierreg.Model(space="full")},
    ],
)
def test_errors_name_the_argument(pair, keywords):
    with pytest.raises(ValueError, match=r"^uncertainty"):
        fourierreg.register(pair.source, pair.target, **{**SETTING, **keywords})

"""Simulated pairs: composition, absence of folding, reproducibility."""

import numpy as np
import pytest

import fourierreg
from fourierreg.errors import InputError
from fourierreg.image.deformation import jacobian_determinant
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair

SOURCE = bullseye((48, 44), outer=(16.0, 14.0), inner=(8.0, 7.0))
SETTING = {"alpha": 3.0, "modes": 9, "velocity_scale": 0.5}


@pytest.mark.parametrize("dynamics", ["epdiff", "stationary"])
def test_the_target_is_the_source_deformed_plus_noise(dynamics):
    model = fourierreg.Model(dynamics=dynamics)
    pair = simulate_pair(SOURCE, seed=0, sigma=0.03, model=model, **SETTING)
    geodesic = fourierreg.shoot(pair.velocity, pair.metric, num_steps=10, dynamics=dynamics)
    np.testing.assert_array_equal(pair.displacement, geodesic.displacement())
    noise = pair.target - fourierreg.warp(SOURCE, pair.displacement)
    assert noise.std() == pytest.approx(0.03, rel=0.05)
    assert pair.metric.alpha == pair.alpha == 3.0
    np.testing.assert_array_equal(pair.source, SOURCE)


def test_noise_can_be_restricted_to_the_foreground():
    pair = simulate_pair(SOURCE, seed=0, sigma=0.03, foreground=True, **SETTING)
    deformed = fourierreg.warp(SOURCE, pair.displacement)
    assert np.all(pair.target[deformed == 0] == 0)
    assert np.all(pair.target[deformed > 0.2] != deformed[deformed > 0.2])


def test_a_seed_reproduces_the_pair_on_every_backend(backend):
    with fourierreg.use_backend("numpy"):
        first = simulate_pair(SOURCE, seed=5, **SETTING)
    again = simulate_pair(SOURCE, seed=5, **SETTING)
    np.testing.assert_allclose(again.target, first.target, atol=1e-5)
    other = simulate_pair(SOURCE, seed=6, **SETTING)
    assert np.abs(other.target - first.target).max() > 0.1


def test_samples_that_fold_are_rejected():
    # At α = 1 and s = 1 voxel about half of all samples fold.
    pairs = [
        simulate_pair(bullseye(), alpha=1.0, velocity_scale=1.0, seed=seed) for seed in range(6)
    ]
    assert sum(pair.draws for pair in pairs) > len(pairs)
    assert all(jacobian_determinant(pair.displacement).min() > 0.1 for pair in pairs)


def test_a_prior_whose_samples_all_fold_raises():
    with pytest.raises(InputError, match="velocity_scale"):
        simulate_pair(SOURCE, alpha=0.05, modes=9, velocity_scale=20.0, seed=0, num_steps=2)


@pytest.mark.parametrize(
    ("change", "argument"), [({"sigma": -1.0}, "sigma"), ({"alpha": 0.0}, "alpha")]
)
def test_errors_name_the_argument(change, argument):
    with pytest.raises(ValueError, match=argument):
        simulate_pair(SOURCE, **{**SETTING, **change})

"""Registration at a given α under every similarity and dynamics."""

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import to_numpy
from fourierreg.image.similarity import LocalCorrelation
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair

SOURCE = bullseye((64, 60), outer=(22.0, 19.0), inner=(11.0, 9.0))
SETTING = {"modes": 9, "velocity_scale": 1.0}


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(SOURCE, alpha=6.0, seed=3, sigma=0.02, **SETTING)


def error(result, pair):
    """rms distance to the true displacement where the edges are, in voxels."""
    edges = np.hypot(*np.gradient(pair.source)) > 0.05
    return np.sqrt(np.mean((to_numpy(result.displacement) - pair.displacement)[:, edges] ** 2))


@pytest.mark.parametrize("dynamics", ["epdiff", "stationary"])
@pytest.mark.parametrize("similarity", ["ssd", "ncc", "lncc", "mi"])
def test_a_known_deformation_is_found(pair, similarity, dynamics):
    weight = 500.0 if similarity == "ssd" else 1.0
    result = fourierreg.register(
        pair.source,
        pair.target,
        alpha=6.0,
        similarity=similarity,
        weight=weight,
        dynamics=dynamics,
        **SETTING,
    )
    assert result.converged, result.status
    assert (result.similarity, result.dynamics) == (similarity, dynamics)
    assert result.weight == pytest.approx(weight)
    assert result.jacobian_determinant.min() > 0
    rest = np.sqrt(np.mean(pair.displacement**2))
    assert error(result, pair) < 0.4 * rest


@pytest.mark.parametrize("similarity", ["ncc", "lncc", "mi"])
def test_contrast_may_be_reversed(pair, similarity):
    reversed_ = 1.0 - 0.7 * pair.target
    found = fourierreg.register(
        pair.source, reversed_, alpha=6.0, similarity=similarity, pad=False, **SETTING
    )
    rest = np.sqrt(np.mean(pair.displacement**2))
    assert error(found, pair) < 0.6 * rest


def test_a_similarity_with_its_own_parameters(pair, tmp_path, backend):
    result = fourierreg.register(
        pair.source, pair.target, alpha=6.0, similarity=LocalCorrelation(radius=2), **SETTING
    )
    assert result.similarity == "LocalCorrelation(radius=2)"
    assert result.sigma is None
    assert result.decimation is None
    result.save(tmp_path / "pair.npz")
    again = fourierreg.Registration.load(tmp_path / "pair.npz")
    assert (again.similarity, again.weight) == (result.similarity, result.weight)
    assert again.sigma is None


def test_alpha_is_recovered_under_stationary_dynamics():
    made = simulate_pair(SOURCE, alpha=6.0, seed=4, sigma=0.05, dynamics="stationary", **SETTING)
    result = fourierreg.map_alpha(
        made.source, made.target, sigma=0.05, dynamics="stationary", **SETTING
    )
    assert result.converged, result.status
    assert result.dynamics == "stationary"
    assert abs(np.log(result.alpha / 6.0)) < 3 * result.alpha_sd


def test_alpha_needs_a_likelihood(pair):
    with pytest.raises(ValueError, match=r"similarity: expected 'ssd'.*Gaussian likelihood"):
        fourierreg.map_alpha(pair.source, pair.target, similarity="ncc", **SETTING)


def test_dust_around_an_image_is_background(pair):
    """Also where the whole image is small: what counts is its own range."""
    scale = np.float32(1e-9)
    dusty = np.where(pair.source == 0, 1e-39, pair.source).astype(np.float32)
    setting = {"alpha": 6.0, "weight": 500.0, **SETTING}
    clean = fourierreg.register(pair.source, pair.target, **setting)
    found = fourierreg.register(dusty, pair.target, **setting)
    np.testing.assert_array_equal(found.displacement, clean.displacement)
    small = fourierreg.register(scale * pair.source, scale * pair.target, **setting)
    assert small.deformed.max() > 0.5 * scale


@pytest.mark.parametrize(
    ("keywords", "argument"),
    [
        ({"similarity": "mattes"}, "similarity"),
        ({"similarity": "ncc", "sigma": 0.1}, "sigma"),
        ({"similarity": "mi", "decimation": 0.1}, "decimation"),
        ({"weight": 3.0, "sigma": 0.1}, "sigma"),
        ({"weight": -3.0}, "weight"),
        ({"dynamics": "demons"}, "dynamics"),
    ],
)
def test_bad_arguments_are_named(pair, keywords, argument):
    with pytest.raises(ValueError, match=f"^{argument}") as caught:
        fourierreg.register(pair.source, pair.target, **keywords)
    assert "\n" not in str(caught.value)

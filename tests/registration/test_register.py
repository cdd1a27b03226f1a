"""Registration at a given α under every similarity and dynamics."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import asarray, to_numpy
from fourierreg.errors import InputError
from fourierreg.image.similarity import LocalCorrelation, similarity_of
from fourierreg.model.problem import Problem
from fourierreg.registration.multiresolution import TOLERANCE
from fourierreg.registration.tasks import Fit
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from tests import laws

SOURCE = bullseye((64, 60), outer=(22.0, 19.0), inner=(11.0, 9.0))
SETTINGS = {"modes": 9, "velocity_scale": 1.0}


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(SOURCE, alpha=6.0, seed=3, sigma=0.02, **SETTINGS)


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
        model=fourierreg.Model(dynamics=dynamics),
        **SETTINGS,
    )
    assert result.converged, result.status
    assert (result.similarity, result.model.dynamics) == (similarity, dynamics)
    assert result.weight == pytest.approx(weight)
    assert result.jacobian_determinant.min() > 0
    rest = np.sqrt(np.mean(pair.displacement**2))
    assert error(result, pair) < 0.4 * rest


@pytest.mark.parametrize("similarity", ["ncc", "lncc", "mi"])
def test_reversed_contrast(pair, similarity):
    reversed_ = 1.0 - 0.7 * pair.target
    found = fourierreg.register(
        pair.source, reversed_, alpha=6.0, similarity=similarity, pad=False, **SETTINGS
    )
    rest = np.sqrt(np.mean(pair.displacement**2))
    assert error(found, pair) < 0.6 * rest


def test_a_similarity_with_its_own_parameters(pair, tmp_path, backend):
    result = fourierreg.register(
        pair.source, pair.target, alpha=6.0, similarity=LocalCorrelation(radius=2), **SETTINGS
    )
    assert result.similarity == "LocalCorrelation(radius=2.0)"
    assert result.sigma is None
    assert result.decimation is None
    result.save(tmp_path / "pair.npz")
    again = fourierreg.Registration.load(tmp_path / "pair.npz")
    assert (again.similarity, again.weight) == (result.similarity, result.weight)
    assert again.sigma is None


def test_alpha_is_recovered_under_stationary_dynamics():
    model = fourierreg.Model(dynamics="stationary")
    made = simulate_pair(SOURCE, alpha=6.0, seed=4, sigma=0.05, model=model, **SETTINGS)
    result = fourierreg.map_alpha(made.source, made.target, sigma=0.05, model=model, **SETTINGS)
    assert result.converged, result.status
    assert result.model.dynamics == "stationary"
    assert abs(np.log(result.alpha / 6.0)) < 3 * result.alpha_sd


def test_alpha_needs_a_likelihood(pair):
    model = fourierreg.Model(similarity="ncc")
    with pytest.raises(InputError, match=r"similarity: expected 'ssd'.*needs a likelihood"):
        fourierreg.map_alpha(pair.source, pair.target, model=model, **SETTINGS)


def test_nearly_zero_voxels_are_background(pair):
    """They are relative to the range of the image, whatever that is."""
    scale = np.float32(1e-9)
    dusty = np.where(pair.source == 0, 1e-39, pair.source).astype(np.float32)
    setting = {"alpha": 6.0, "weight": 500.0, **SETTINGS}
    clean = fourierreg.register(pair.source, pair.target, **setting)
    found = fourierreg.register(dusty, pair.target, **setting)
    np.testing.assert_array_equal(found.displacement, clean.displacement)
    small = fourierreg.register(scale * pair.source, scale * pair.target, **setting)
    assert small.deformed.max() > 0.5 * scale


def fit_request(seed, similarity):
    """A fit of a pair whose α and weight depend on the seed."""
    made = simulate_pair(SOURCE, alpha=6.0, seed=seed, sigma=0.02, **SETTINGS)
    metric = made.metric.with_alpha(seed).batch()
    images = (asarray(image) for image in (made.source, made.target))
    problem = Problem.of_pair(
        *images,
        metric.band.spacing,
        weight=0.5 * seed,
        num_steps=5,
        similarity=similarity_of(similarity),
    )
    start = 0.0 * asarray(made.velocity)[None]
    return Fit(problem, metric, start, None, TOLERANCE, 200, lambda *_: None)


@pytest.mark.parametrize("similarity", ["lncc", "ncc", "mi"])
def test_a_fit_does_not_depend_on_the_other_pair_of_its_batch(backend, similarity):
    """The sum of squares is tested in tests/model/test_batch.py."""
    requests = [fit_request(seed, similarity) for seed in (2, 3)]
    assert requests[0].batch_key == requests[1].batch_key is not None
    for request, found in zip(requests, Fit.run(requests), strict=True):
        (expected,) = Fit.run([request])
        assert expected.converged and expected.iterations > 10
        margin = 10 * TOLERANCE * math.sqrt(request.metric.band.degrees_of_freedom)
        assert abs(found.evaluation.total[0] - expected.evaluation.total[0]) < margin
        laws.close(found.velocity, expected.velocity, rtol=0.05)
        if backend != "cupy":  # where sums over the voxels are split by the batch size
            assert found.iterations == expected.iterations
            laws.close(found.velocity, expected.velocity, rtol=1e-6)


@pytest.mark.parametrize(
    ("keywords", "argument"),
    [
        ({"similarity": "mattes"}, "similarity"),
        ({"similarity": "ncc", "sigma": 0.1}, "sigma"),
        ({"similarity": "mi", "decimation": 0.1}, "decimation"),
        ({"weight": 3.0, "sigma": 0.1}, "sigma"),
        ({"weight": -3.0}, "weight"),
        ({"uncertainty": True, "similarity": "ncc"}, "uncertainty"),
        ({"evidence": True, "similarity": "ncc"}, "evidence"),
        ({"evidence": True, "model": fourierreg.Model(space="full")}, "evidence"),
        ({"model": "epdiff"}, "model"),
    ],
)
def test_errors_name_the_argument(pair, keywords, argument):
    with pytest.raises(InputError, match=f"^{argument}") as caught:
        fourierreg.register(pair.source, pair.target, **keywords)
    assert "\n" not in str(caught.value)

"""Inference of α: recovery of a known α, equality of backends, results and their status."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.deformation import compose
from fourierreg.model import traces
from fourierreg.optim.root import NOT_CONVERGED, Root
from fourierreg.registration import alpha_search
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral import transform


def pair(alpha=6.0, seed=5, shape=(64, 60), sigma=0.05):
    """Bull-eye pair with a velocity drawn at α (s = 1 voxel) and white noise."""
    source = bullseye(shape, outer=(22.0, 19.0), inner=(11.0, 9.0))
    metric = fourierreg.Metric.create(shape, modes=9, alpha=alpha, velocity_scale=1.0)
    rng = np.random.default_rng(seed)
    u = fourierreg.shoot(fourierreg.sample_velocity(metric, rng), metric).displacement()
    target = fourierreg.warp(source, u) + sigma * rng.standard_normal(shape).astype(np.float32)
    return source, target


SETTINGS = {"modes": 9, "sigma": 0.05, "velocity_scale": 1.0}


@pytest.fixture(scope="module")
def result():
    return fourierreg.map_alpha(*pair(), **SETTINGS)


def test_known_alpha_is_recovered(result):
    """Within three standard deviations, and the error bar is of the size the band allows."""
    assert result.converged, result.status
    low, high = result.alpha_interval
    assert low < result.alpha < high
    assert abs(math.log(result.alpha / 6.0)) < 3 * result.alpha_sd
    assert 0.03 < result.alpha_sd < 0.4


def test_maps_and_images_agree(result):
    """`deformed` is the source warped by `displacement`; the inverse inverts; nothing folds."""
    source, target = pair()
    np.testing.assert_allclose(
        result.deformed, fourierreg.warp(source, result.displacement), atol=1e-5
    )
    identity = compose(result.displacement, result.inverse_displacement, result.spacing)
    interior = np.abs(identity)[:, 8:-8, 8:-8]  # the rim wraps on the padded grid, not on this one
    assert interior.max() < 0.05
    assert result.jacobian_determinant.min() > 0
    assert np.std(result.deformed - target) < 0.06
    assert result.history[-1].alpha == pytest.approx(result.alpha)


def test_a_path_is_refused_with_the_remedy():
    with pytest.raises(InputTypeError, match=r"source: expected an array .* nibabel\.load it"):
        fourierreg.map_alpha("source.nii.gz", "target.nii.gz")


def test_the_mock_device_gives_the_alpha_of_numpy(result, monkeypatch):
    """The whole estimate runs on arrays that refuse to leave their device. With its arithmetic
    NumPy gives the same numbers; by BLAS α differs by a fraction of the error bar, since rounding
    decides where fits end."""
    images = pair()
    with fourierreg.use_backend("mock"):
        mock = fourierreg.map_alpha(*images, **SETTINGS)
        assert type(mock.displacement).__name__ == "MockArray"
    assert abs(math.log(mock.alpha / result.alpha)) < 0.25 * result.alpha_sd
    monkeypatch.setattr(transform, "_has_blas", lambda xp: False)
    expected = fourierreg.map_alpha(*images, **SETTINGS)
    np.testing.assert_allclose(fourierreg.to_numpy(mock.deformed), expected.deformed)
    assert mock.alpha == pytest.approx(expected.alpha, rel=1e-6)


def test_joint_posterior_is_biased_upward_or_has_no_optimum(result):
    """The joint minimum lies far above the marginal one, or there is none."""
    joint = fourierreg.map_alpha(*pair(), posterior="joint", **SETTINGS)
    assert joint.alpha > 1.3 * result.alpha or joint.status.startswith("No interior optimum")


def test_missing_interior_optimum_is_reported():
    """Images that agree up to noise leave α free to grow under the joint posterior."""
    source = bullseye((48, 48), outer=(16.0, 14.0), inner=(8.0, 7.0))
    noise = 0.2 * np.random.default_rng(0).standard_normal(source.shape).astype(np.float32)
    result = fourierreg.map_alpha(source, source + noise, modes=7, sigma=0.2, posterior="joint")
    assert not result.converged
    assert result.status.startswith("No interior optimum") and "alpha_prior" in result.status


def test_gamma_prior_moves_alpha(result):
    """A sharp Gamma prior wins: shape 2000, scale 0.001 has its mode of ln α at α = 2."""
    pulled = fourierreg.map_alpha(*pair(), alpha_prior=(2000.0, 0.001), **SETTINGS)
    assert abs(pulled.alpha - 2.0) < abs(result.alpha - 2.0) / 2


def test_register_at_a_given_alpha_with_callback_and_mask():
    source, target = pair()
    records = []
    mask = np.zeros(source.shape, bool)
    mask[8:-8, 8:-8] = True
    result = fourierreg.register(
        source, target, alpha=6.0, mask=mask, callback=records.append, **SETTINGS
    )
    assert result.alpha == 6.0 and result.alpha_interval is None
    assert tuple(records) == result.history and records[0].alpha == 6.0
    before, after = np.std((source - target)[mask]), np.std((result.deformed - target)[mask])
    assert after < 0.7 * before


@pytest.mark.parametrize("sigma", [0.05, "estimate"])
def test_alpha_is_searched_on_a_coarser_grid_where_images_are_large(sigma, monkeypatch, result):
    """A given σ corrects α on the images' own grid; an estimated noise does not."""
    monkeypatch.setattr("fourierreg.registration.pyramid.SEARCH_VOXELS", 2500)
    coarse = fourierreg.map_alpha(*pair(), **{**SETTINGS, "sigma": sigma})
    sizes = [math.prod(record.shape) for record in coarse.history]
    alphas = {
        size: {r.alpha for r in coarse.history if math.prod(r.shape) == size} for size in sizes
    }
    assert any(size <= 2500 for size in sizes)
    assert sizes[-1] == max(sizes) > 2500
    assert (len(alphas[max(sizes)]) > 1) == (sigma != "estimate")
    assert abs(math.log(coarse.alpha / 6.0)) < 4 * result.alpha_sd
    low, high = coarse.alpha_interval
    assert low < coarse.alpha < high


def test_estimated_noise_is_near_the_truth():
    source, target = pair()
    result = fourierreg.map_alpha(source, target, modes=9, velocity_scale=1.0)
    assert 0.04 < result.sigma < 0.07
    assert 0.3 < result.decimation <= 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": "guess"}, "sigma"),
        ({"alpha0": -1.0}, "alpha0"),
        ({"modes": 99}, "modes"),
        ({"spacing": (1.0, 0.0)}, "spacing"),
        ({"spacing": -1.0}, "spacing"),
        ({"posterior": "map"}, "posterior"),
        ({"num_steps": 0}, "num_steps"),
        ({"decimation": 2.0}, "decimation"),
        ({"velocity_scale": -1.0}, "velocity_scale"),
        ({"mask": np.ones((3, 3), bool)}, "mask"),
        ({"mask": np.zeros((64, 60), bool)}, "mask"),
        ({"jacobian": "full"}, "jacobian"),
        ({"jacobian": "exact", "model": fourierreg.Model(space="full")}, "jacobian"),
        ({"num_probes": 1}, "num_probes"),
        ({"alpha_prior": (1.0, -1.0)}, "alpha_prior"),
        ({"model": "ssd"}, "model"),
        ({"evidence": True, "model": fourierreg.Model(space="full")}, "evidence"),
    ],
)
def test_errors_name_the_argument(change, words):
    with pytest.raises(InputError, match=f"^{words}") as caught:
        fourierreg.map_alpha(*pair(), **{**SETTINGS, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: np.where(a > 0.5, np.nan, a), "NaN"),
        (lambda a: np.full_like(a, 2.0), "every voxel"),
        (lambda a: a[:-1], "shape"),
        (lambda a: a * 1000, "range"),
        (lambda a: a.astype(complex), "real-valued"),
        (lambda a: a[None, None], "2D or 3D"),
    ],
)
def test_errors_name_what_is_wrong_with_an_image(spoil, words):
    source, target = pair()
    with pytest.raises(InputError, match=words):
        fourierreg.map_alpha(spoil(source), target, **SETTINGS)


@pytest.mark.parametrize("limit", [None, 0], ids=["dense traces", "stochastic traces"])
def test_equal_images_have_no_optimum(limit, monkeypatch):
    """Nothing bounds α from above where nothing has moved: the search ends and reports it."""
    if limit is not None:
        monkeypatch.setattr(traces, "DENSE_LIMIT", limit)
    source, _ = pair()
    result = fourierreg.map_alpha(source, source, modes=8, sigma=0.05)
    assert not result.converged and "No interior optimum" in result.status
    assert float(np.abs(result.displacement).max()) < 1e-3


def test_a_search_that_does_not_converge_is_reported(monkeypatch):
    def find_root(slope_at, start, **limits):
        yield from slope_at(start)
        return Root(start, math.nan, NOT_CONVERGED)

    monkeypatch.setattr(alpha_search, "find_root", find_root)
    result = fourierreg.map_alpha(*pair(), **SETTINGS)
    assert not result.converged and "had not settled" in result.status


def test_a_known_alpha_in_3d_by_stochastic_traces(monkeypatch):
    """The method for brains at 16 modes, on a small cube."""
    monkeypatch.setattr(traces, "DENSE_LIMIT", 0)
    size, modes, truth = 32, 8, 5.0
    axes = np.meshgrid(*[np.arange(size) - size / 2] * 3, indexing="ij")
    radius = np.sqrt(sum((x / s) ** 2 for x, s in zip(axes, (10.0, 11.0, 9.0), strict=True)))
    waves = sum(np.cos(0.9 * x + 0.4 * y) for x, y in zip(axes, np.roll(axes, 1, 0), strict=True))
    source = np.clip(3 * (1.1 - radius), 0, 1) * (0.6 + 0.12 * waves)
    made = simulate_pair(source.astype(np.float32), alpha=truth, sigma=0.03, seed=0, modes=modes)
    result = fourierreg.map_alpha(made.source, made.target, sigma=0.03, modes=modes)
    assert result.converged
    assert abs(math.log(result.alpha / truth)) < 3 * result.alpha_sd < 0.6


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"alpha_prior": 3.0}, r"^alpha_prior: expected \(shape, scale\)"),
        ({"alpha_prior": ("a", 1)}, "^alpha_prior: expected a number"),
        ({"max_iterations": 0}, "^max_iterations: expected an integer"),
        ({"max_iterations": "x"}, "^max_iterations: expected an integer"),
    ],
)
def test_options_of_the_wrong_kind_are_input_errors(keywords, message):
    image = np.random.default_rng(0).random((24, 22)).astype(np.float32)
    with pytest.raises(InputError, match=message):
        fourierreg.map_alpha(image, image[::-1], modes=5, **keywords)

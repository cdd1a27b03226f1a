"""α by the likelihood whose windows have a gain, an offset and a variance of their own."""

import numpy as np
import pytest

import fourierreg
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.errors import InputError
from fourierreg.simulation.pair import simulate_pair

SIZE, ALPHA = 40, 4.0
MODEL = fourierreg.Model(modes=9, similarity="lncc-likelihood")
SETTING = {"spacing": FIELD_OF_VIEW / SIZE}


@pytest.fixture(scope="module")
def brain():
    """A brain, and the same deformed by a velocity drawn at `ALPHA`, through a gain field and a
    change of contrast, with noise."""
    source = template_brain(SIZE)[0]
    options = {"alpha": ALPHA, "seed": 4, "modes": 9, "num_steps": 30, "sigma": 0.0}
    target = simulate_pair(source, **options, **SETTING).target
    gain = np.linspace(0.6, 1.4, SIZE)[:, None, None]
    noise = 0.03 * np.random.default_rng(0).standard_normal(source.shape)
    changed = gain * np.maximum(target, 0) ** 0.6 + noise * (target > 0)
    return source, changed.astype(np.float32)


def test_alpha_is_found_through_a_gain_field_and_a_change_of_contrast(brain):
    result = fourierreg.map_alpha(*brain, model=MODEL, posterior="marginal", **SETTING)
    assert result.converged and result.sigma is None and 0 < result.decimation <= 1
    assert abs(np.log(result.alpha / ALPHA)) < 0.35
    low, high = result.alpha_interval
    assert low < ALPHA < high


def test_gain_and_offset_of_an_image_do_not_matter(brain):
    source, target = brain
    found = [
        fourierreg.register(source, image, model=MODEL, alpha=4.0, max_iterations=5, **SETTING)
        for image in (target, (0.5 * target).astype(np.float32))
    ]
    np.testing.assert_allclose(found[0].displacement, found[1].displacement, atol=0.05)


def test_a_given_sigma_is_refused(brain):
    with pytest.raises(InputError, match=r"sigma: expected 'estimate'.*variances of their own"):
        fourierreg.map_alpha(*brain, model=MODEL, sigma=0.1, **SETTING)


def test_noise_can_be_estimated_at_every_alpha(brain):
    """On a simulated pair, where the residual is noise at any α near the true one, that is where it
    would be at another."""
    source = brain[0]
    options = {"alpha": ALPHA, "seed": 4, "modes": 9, "num_steps": 30, "sigma": 0.05}
    pair = simulate_pair(source, foreground=True, **options, **SETTING)
    images = (pair.source, pair.target)
    found = fourierreg.map_alpha(*images, sigma="profile", modes=9, **SETTING)
    assert found.alpha == pytest.approx(ALPHA, rel=0.35)
    assert found.sigma == pytest.approx(0.05, rel=0.15)
    sigmas = {(record.alpha, record.sigma) for record in found.history}
    assert len({sigma for _, sigma in sigmas}) > len({alpha for alpha, _ in sigmas})
    with pytest.raises(InputError, match=r"sigma: expected a number or 'estimate'"):
        fourierreg.map_alpha(*images, sigma="profile", posterior="joint", **SETTING)

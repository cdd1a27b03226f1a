"""The named settings of `register`, steps chosen by the flow, and the band from coarse to fine."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import asarray
from fourierreg.errors import InputError
from fourierreg.model.model import Model
from fourierreg.registration.level import level_of
from fourierreg.registration.quality import QUALITIES, Quality, quality_of
from fourierreg.simulation.bullseye import bullseye
from fourierreg.spectral.metric import Metric
from tests.fields import smooth_image
from tests.model.problems import CASES, make

SHAPE = (40, 36, 38)


@pytest.fixture(scope="module")
def images():
    """Two images of one range that differ by a deformation and a gain."""
    source = np.clip(0.5 + smooth_image(SHAPE, 0, dtype=np.float32), 0, 1)
    moved = fourierreg.warp(source, 1.5 * np.stack([smooth_image(SHAPE, i) for i in (1, 2, 3)]))
    return source, 0.8 * moved + 0.1


SMALL = {
    name: Quality(
        quality.model.with_fields(modes=min(quality.model.modes, 10)),
        quality.alpha,
        quality.weight,
        (10, 10, 5),
    )
    for name, quality in QUALITIES.items()
}


@pytest.mark.parametrize("name", QUALITIES)
def test_every_quality_registers(images, name):
    result = fourierreg.register(*images, quality=SMALL[name], pad=False)
    assert result.model.with_fields(num_steps=1) == SMALL[name].model.with_fields(num_steps=1)
    assert result.alpha == SMALL[name].alpha
    before, after = (
        np.corrcoef(image.ravel(), images[1].ravel())[0, 1]
        for image in (images[0], result.deformed)
    )
    assert 1 - after < 0.7 * (1 - before)
    assert result.jacobian_determinant.min() > 0
    chosen = SMALL[name].model.chooses_steps
    assert (result.flow_error is not None) == chosen
    if chosen:
        assert result.flow_error <= 0.25


def test_the_default_is_a_quality_unless_alpha_or_a_model_is_given(images):
    few = {"max_iterations": 2, "modes": 6, "pad": False}
    default = QUALITIES["default"]
    assert fourierreg.register(*images, **few).model.power == default.model.power
    assert fourierreg.register(*images, **few).alpha == default.alpha
    assert fourierreg.register(*images, alpha=4.0, **few).model.power == Model().power
    assert fourierreg.register(*images, similarity="mi", **few).alpha == 3.0
    fast = fourierreg.register(*images, quality="fast", alpha=9.0, **few)
    assert (fast.alpha, fast.model.power) == (9.0, 1.5)
    voxels = math.prod(images[0].shape)  # the sum over which the weight multiplies
    assert fast.weight * voxels == pytest.approx(0.1 * 128**3)


def test_steps_are_added_where_the_flow_needs_them(images, monkeypatch):
    few = {"alpha": 1.0, "modes": 10, "pad": False, "sigma": 0.05, "max_iterations": 30}
    loose = fourierreg.register(*images, **few)
    monkeypatch.setattr("fourierreg.registration.multiresolution.FLOW_TOLERANCE", 1e-4)
    strict = fourierreg.register(*images, **few)
    assert strict.model.num_steps > loose.model.num_steps
    assert strict.flow_error < 1e-4 or strict.model.num_steps == 16
    given = fourierreg.register(*images, num_steps=3, **few)
    assert (given.model.num_steps, given.flow_error) == (3, None)


def test_coarse_grids_have_a_narrower_band(backend):
    problem, modes = make(Metric.create(**CASES["2d-anisotropic"]).batch()), (14, 9)
    inside, coarse = asarray(np.ones((1, *problem.shape), bool)), (12, 11)
    finest = level_of(problem, inside, problem.shape, False, modes)
    assert finest.problem is problem
    assert finest.modes == modes
    narrow = level_of(problem, inside, coarse, True, modes)
    assert narrow.problem.shape == coarse
    assert narrow.modes == (6, 5)
    assert level_of(problem, inside, coarse, False, modes).modes == modes


def test_bad_qualities_are_refused(images):
    with pytest.raises(InputError, match=r"^quality: expected .*'accurate'"):
        quality_of("best")
    with pytest.raises(InputError, match=r"^quality: expected a word"):
        quality_of(3)
    with pytest.raises(InputError, match=r"^quality: expected none"):
        fourierreg.register(*images, quality="fast", model=Model())
    with pytest.raises(InputError, match=r"^sigma: .*similarity='ssd'"):
        fourierreg.register(*images, sigma=0.1)


def test_an_end_at_the_limit_of_iterations_says_what_is_left(images):
    result = fourierreg.register(*images, quality=SMALL["default"], pad=False)
    assert result.converged
    assert "limits of iterations" in result.status
    short = fourierreg.register(*images, quality=SMALL["default"], max_iterations=2, pad=False)
    assert not short.converged
    assert "max_iterations" in short.status


def test_a_small_image_gets_no_more_modes_than_it_has_voxels():
    source = bullseye((26, 24), outer=(8.0, 7.0), inner=(4.0, 3.0))
    result = fourierreg.register(source, np.roll(source, 1, axis=0), spacing=2.0)
    assert result.model.modes == 24
    assert result.jacobian_determinant.min() > 0

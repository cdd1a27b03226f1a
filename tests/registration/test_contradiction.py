"""An α that a posterior infers is held against what held-out voxels say."""

import math

import pytest

import fourierreg
from fourierreg.optim.batching import run
from fourierreg.registration.inputs import read_inputs
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import noise_of
from fourierreg.registration.predictive_search import contradiction
from tests.registration.test_held_out import MODEL, images

SIGMA = 0.05


@pytest.fixture(scope="module")
def pair():
    return images(alpha=6.0, seed=0, sigma=SIGMA, shape=(64, 60))[:2]


@pytest.fixture
def state(pair):
    inputs = read_inputs(*pair, MODEL, alpha=6.0, spacing=None, mask=None, pad=True)
    manner = {"inside": inputs.inside, "searches": True}
    return Multiresolution(inputs.problem, inputs.metric, noise_of(SIGMA, None), **manner)


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, False), (20.0, True)])
def test_only_a_wrong_alpha_is_contradicted(state, factor, wrong):
    run(state.descend(state.search_level, max_iterations=20))
    before, records = state.state(), len(state.history)
    sentence = run(contradiction(state, math.log(6.0 * factor)))
    assert state.state() == before and len(state.history) == records
    assert (sentence is not None) == wrong
    assert not wrong or "posterior='predictive'" in sentence


def test_it_is_a_warning_of_a_search_that_converged(pair, monkeypatch):
    def contradicts(state, log_alpha):
        yield from ()
        return "Held-out voxels contradict this alpha."

    assert not fourierreg.map_alpha(*pair, model=MODEL, posterior="marginal").warnings
    monkeypatch.setattr("fourierreg.registration.alpha_search.contradiction", contradicts)
    result = fourierreg.map_alpha(*pair, model=MODEL, posterior="marginal")
    assert result.converged and result.alpha_interval[0] > 0
    assert result.warnings == ("Held-out voxels contradict this alpha.",)
    assert result.status == result.warnings[0]

"""Pairs that are unlike those of the training are told from those that are not; intervals cover."""

import json

import numpy as np
import pytest

import fourierreg
from fourierreg.learning.card import save_with_card
from fourierreg.learning.examples import pair_on_grid
from fourierreg.learning.novelty import describe, feature_network, novelty
from fourierreg.learning.scores import conformal_half_width
from fourierreg.learning.sequence import stack_pairs
from tests.learning.data import GRID, card, heads


def features(count, rng, shift=0.0):
    """Of six directions of different widths in a space of twenty, and a little noise."""
    widths = np.array([4.0, 3.0, 2.0, 1.0, 0.5, 0.3])
    mixing = np.linalg.qr(np.random.default_rng(5).standard_normal((20, 6)))[0]
    noise = 0.02 * rng.standard_normal((count, 20))
    return (widths * rng.standard_normal((count, 6)) + shift) @ mixing.T + noise


@pytest.fixture(scope="module")
def record():
    rng = np.random.default_rng(0)
    return describe(features(300, rng), features(400, rng))


def scores(record, values):
    return np.array([novelty(record, row) for row in values])


def test_one_unseen_pair_in_a_hundred_is_beyond_the_threshold(record):
    others = scores(record, features(2000, np.random.default_rng(1)))
    assert 0.003 < np.mean(others > 1) < 0.03


def test_pairs_far_along_or_across_the_directions_are_beyond_it(record):
    rng = np.random.default_rng(2)
    along = features(
        50, rng, shift=np.array([0, 0, 0, 0, 0, 3.0])
    )  # ten deviations, of a narrow one
    assert np.all(scores(record, along) > 1)
    across = features(50, rng) + 0.5 * rng.standard_normal((50, 20))
    assert np.mean(scores(record, across) > 1) == 1


def test_the_record_is_plain_json_and_small(record):
    text = json.dumps(record)
    assert len(text) < 20_000
    again = json.loads(text)
    row = features(1, np.random.default_rng(3))[0]
    assert novelty(again, row) == pytest.approx(novelty(record, row))


def test_without_held_out_pairs_there_is_no_score():
    rng = np.random.default_rng(0)
    assert describe(features(20, rng), np.zeros((0, 20))) is None
    assert describe(features(2, rng), features(9, rng)) is None


@pytest.mark.parametrize("pairs", [30, 100])
def test_the_interval_covers_unseen_pairs_at_its_rate(pairs):
    """Averaged over calibrations, whatever the distribution of the errors."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        calibration, unseen = rng.standard_t(3, pairs), rng.standard_t(3, 200)
        width = conformal_half_width(calibration)["half_width"]
        covered.append(np.mean(np.abs(unseen) <= width))
    assert 0.945 < np.mean(covered) < 0.98


def test_few_pairs_cover_at_a_lower_rate_and_say_so():
    record = conformal_half_width(np.array([0.1, -0.4, 0.2]))
    assert record == {"half_width": 0.4, "level": 0.75, "pairs": 3}


def test_a_prediction_says_how_unlike_the_training_pairs_it_is(brain_model, tmp_path):
    network = fourierreg.load_model(brain_model).network
    source, target = heads()
    inputs = stack_pairs([pair_on_grid(source, target, GRID)])
    own = np.asarray(feature_network(network)(inputs)[0])[0]
    near = {
        "mean": own.tolist(),
        "directions": [np.eye(own.size)[0].tolist()],
        "deviations": [1.0],
        "across": 1e9,
        "threshold": 1.0,
    }
    far = near | {"across": 1e-9, "mean": (own + 1).tolist()}
    for name, novel, unlike in (("near", near, False), ("far", far, True)):
        path = tmp_path / f"{name}.keras"
        save_with_card(network, path, card(novelty=novel))
        found = fourierreg.predict_alpha(path, source, target)
        assert (found.novelty > 1) is unlike
        assert ("unlike those of the training" in found.status) is unlike
    assert fourierreg.predict_alpha(brain_model, source, target).novelty is None

"""A pair that looks unlike those of the training is told, and what is unusual about it."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fourierreg
from fourierreg.data.nifti import read_image
from fourierreg.learning.appearance import (
    MAX_DISTANCE,
    NAMES,
    appearance_of,
    statistics_of,
    training_ranges,
    unlikeness,
)
from fourierreg.learning.card import save_with_card
from fourierreg.learning.examples import pair_on_grid, read_dataset
from tests.brains import head
from tests.learning.data import GRID, card, heads, simulated

SHAPE, SPACING = (32, 32, 32), (6.0, 6.0, 6.0)


def brain(seed=0, noise=0.02):
    """A head of one person, with noise where it is not zero."""
    data = head(SHAPE, SPACING, seed=seed, shift=2.0 * (seed % 3))
    rng = np.random.default_rng(seed)
    return np.where(data != 0, data + noise * rng.standard_normal(SHAPE), 0).astype(np.float32)


@pytest.fixture(scope="module")
def record():
    """Range over pairs of eight people, the noise of which varies."""
    levels = np.linspace(0.01, 0.05, 8)
    people = [brain(seed, level) for seed, level in enumerate(levels)]
    pairs = [(a, b) for a in people for b in people if a is not b]
    return training_ranges(np.array([statistics_of(*pair) for pair in pairs]))


def shaded(image):
    rng = np.random.default_rng(3)
    field = gaussian_filter(rng.standard_normal(SHAPE), 6, mode="wrap")
    return image * np.exp(0.8 * field / field.std()).astype(np.float32)


def half(image):
    return np.where(np.arange(SHAPE[0])[:, None, None] < 16, 0, image)


def inverted(image):
    return np.where(image != 0, 1.2 - image, 0)


CHANGES = {  # what of the source is said to be unusual after it, and on which side
    ("size", "below"): half,
    ("detail", "above"): lambda image: image + 0.5 * brain(5, 1.0) * (image != 0),
    ("edges", "below"): lambda image: gaussian_filter(image, 4),
    ("shading", "above"): shaded,
    ("skewness", "above"): inverted,
}


def test_a_pair_of_an_unseen_person_is_not_unusual(record):
    score, _ = unlikeness(record, statistics_of(brain(11, 0.03), brain(12, 0.03)))
    assert score < 1


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_unusual(record, change):
    """The statistic that the change is of moves by more than the limit."""
    name, side = change
    values = statistics_of(CHANGES[change](brain(11)), brain(12))
    assert unlikeness(record, values)[0] > 1
    usual, own = statistics_of(brain(11), brain(12)), NAMES.index(f"{name} of the source")
    moved = values[own] - usual[own]
    assert (moved < 0) == (side == "below") and abs(moved) > MAX_DISTANCE * record[side][own]
    usual[own] = values[own]  # only this one is unusual now
    assert unlikeness(record, usual)[1].startswith(f"{name} of the source: ")
    assert unlikeness(record, usual)[1].endswith(f"times as far {side} the median")


def test_one_image_twice_is_unusual_by_the_difference(record):
    same = brain(11)
    score, what = unlikeness(record, statistics_of(same, same))
    assert score > 1 and what.startswith("difference of the images") and "below" in what


@pytest.mark.parametrize("images", [(0, 0), (0, 1), (1, 1)])
def test_constant_images_have_statistics(images):
    pair = (np.full((16, 16), value, dtype=np.float32) for value in images)
    assert np.all(np.isfinite(statistics_of(*pair)))


def test_images_without_a_background_are_not_unusual_by_their_foregrounds():
    """Textures that fill the image, as crops do; their dark voxels are no background."""
    rng = np.random.default_rng(0)

    def texture():
        return gaussian_filter(rng.standard_normal((48, 48)), 2).astype(np.float32) * 2 + 1

    known = training_ranges(np.array([statistics_of(texture(), texture()) for _ in range(200)]))
    others = [unlikeness(known, statistics_of(texture(), texture()))[0] for _ in range(100)]
    assert np.mean(np.array(others) > 1) <= 0.03


def test_the_farthest_pair_of_the_training_is_within_the_limit(record):
    values = np.array(record["middle"])
    values[3] += record["above"][3]
    score, what = unlikeness(json.loads(json.dumps(record)), values)
    assert score == pytest.approx(1 / MAX_DISTANCE)
    assert what == f"{NAMES[3]}: 1.0 times as far above the median"


def test_statistics_that_are_no_numbers_are_unusual_and_do_not_count_in_ranges(record):
    values = np.array(record["middle"])
    values[2] = np.nan
    assert unlikeness(record, values)[0] == np.inf
    rows = np.random.default_rng(0).normal(size=(40, len(NAMES)))
    assert training_ranges(np.vstack([rows, values])) == training_ranges(rows)


def test_the_range_is_of_the_pairs_as_a_network_reads_them(tmp_path, monkeypatch):
    examples = read_dataset(simulated(tmp_path, 4)).examples
    assert appearance_of(examples, GRID) is None  # too few
    monkeypatch.setattr("fourierreg.learning.appearance.MIN_PAIRS", 4)
    found, exchanged = (appearance_of(examples, GRID, exchange) for exchange in (False, True))
    assert len(found["middle"]) == len(NAMES)
    for example in examples:
        images = [read_image(x, "source") for x in (example.source, example.target)]
        for known, pair in ((found, images), (exchanged, images), (exchanged, images[::-1])):
            assert (
                unlikeness(known, statistics_of(*pair_on_grid(*pair, GRID)))[0]
                <= 1 / MAX_DISTANCE + 1e-3
            )


def test_a_prediction_says_what_is_unusual(brain_model, tmp_path):
    network = fourierreg.load_model(brain_model).network
    own = statistics_of(*pair_on_grid(*heads(), GRID))
    usual = {"middle": own.tolist(), "below": [0.1] * own.size, "above": [0.1] * own.size}
    other = usual | {"middle": [own[0] + 0.5, *own[1:]]}
    for name, looks, unlike in (("usual", usual, False), ("other", other, True)):
        path = tmp_path / f"{name}.keras"
        save_with_card(network, path, card(appearance=looks))
        found = fourierreg.predict_alpha(path, *heads())
        assert (found.novelty > 1) is unlike
        assert (
            "brightness of the source: 5.0 times as far below the median" in found.status
        ) is unlike

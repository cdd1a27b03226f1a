"""Training that continues from another network."""

import numpy as np
import pytest

import fourierreg
from fourierreg.data.scans import find_scans
from fourierreg.errors import InputError
from fourierreg.learning.card import save_with_card
from fourierreg.learning.training import train
from tests.learning import data
from tests.learning.data import FAST


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 32)


@pytest.fixture(scope="module")
def trained(bullseyes, tmp_path_factory):
    return train(bullseyes, tmp_path_factory.mktemp("trained") / "model.keras", **FAST)


def test_weights_and_architecture_of_the_initial_network_are_used(trained, bullseyes, tmp_path):
    initial = fourierreg.load_model(trained.path)
    options = {"initial": trained.path, "learning_rate": 1e-9, "epochs": 1}
    continued = train(bullseyes, tmp_path / "more.keras", **options)
    assert continued.card["network"]["filters"] == 2
    assert continued.card["network"] == initial.card["network"]
    assert continued.card["training"]["initial"]["name"] == "model"
    for before, after in zip(
        initial.network.trainable_weights,
        fourierreg.load_model(continued.path).network.trainable_weights,
        strict=True,
    ):
        np.testing.assert_allclose(before, after, atol=1e-5)
    other = data.bullseyes(tmp_path / "other", 32, shape=(28, 28))
    with pytest.raises(InputError, match=r"initial: its grid is \(24, 24\), that of datasets"):
        train(other, tmp_path / "other.keras", **options)
    with pytest.raises(InputError, match=r"other values of .*initial"):
        train(bullseyes, tmp_path / "more.keras", learning_rate=1e-9, epochs=1)


def test_an_initial_network_with_unknown_training_subjects_is_refused(trained, bullseyes, tmp_path):
    old = fourierreg.load_model(trained.path)
    card = {key: value for key, value in old.card.items() if key != "data"}
    save_with_card(old.network, tmp_path / "old.keras", card)
    with pytest.raises(InputError, match=r"initial: the card of .*old\.keras has no data, so"):
        train(bullseyes, tmp_path / "more.keras", initial=tmp_path / "old.keras", epochs=1)


def test_training_subjects_of_all_predecessors_are_refused_in_validation_and_test(tmp_path):
    first = data.simulated(tmp_path / "first", 6, size=24)
    splits = data.splits()
    swapped = {s: {"train": "test", "test": "train"}.get(name, name) for s, name in splits.items()}
    second = data.simulated(tmp_path / "second", 6, size=24, splits=swapped)
    seen = train(first, tmp_path / "first.keras", **FAST).path
    with pytest.raises(InputError, match="initial: it was trained on subjects 0, 1, which are in"):
        train(second, tmp_path / "second.keras", initial=seen, **FAST)
    unseen = {s: "train" if name == "test" else "validation" for s, name in splits.items()}
    scans = [scan for scan in find_scans(tmp_path / "second" / "scans") if scan.subject > "1"]
    fourierreg.simulate_pairs(
        scans, tmp_path / "third", 4, size=24, modes=6, splits=unseen, workers=1
    )
    third = train(tmp_path / "third", tmp_path / "third.keras", initial=seen, **FAST).path
    with pytest.raises(InputError, match="initial: it was trained on subjects 0, 1, which are in"):
        train(second, tmp_path / "fourth.keras", initial=third, **FAST)

"""Training: what is written, early stopping, splits, arguments, loss weights, command line."""

import csv
import json
import zipfile

import keras
import numpy as np
import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.errors import InputError
from fourierreg.learning import checkpoint
from fourierreg.learning.examples import read_dataset
from fourierreg.learning.network import build_network
from fourierreg.learning.sequence import PairSequence
from fourierreg.learning.training import train
from tests.learning import data
from tests.learning.data import FAST, FAST_OPTIONS


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 32)


@pytest.fixture(scope="module")
def trained(bullseyes, tmp_path_factory):
    return train(bullseyes, tmp_path_factory.mktemp("trained") / "model.keras", **FAST)


def test_a_network_can_overfit_a_tiny_data_set(bullseyes):
    examples = [e._replace(split="train") for e in read_dataset(bullseyes).examples[:6]]
    logs = np.log([e.alpha for e in examples])
    model = build_network((24, 24), filters=8, mean=logs.mean(), scale=logs.std(), weight_decay=0)
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="mse")
    batches = PairSequence(examples, (24, 24), batch_size=6)
    inputs, values = batches[0]
    losses = [float(model.train_on_batch(inputs, values)) for _ in range(120)]
    assert losses[0] > 0.3 and min(losses[-10:]) < 0.01


def test_log_and_card_describe_the_training(trained, bullseyes):
    assert [row["epoch"] for row in trained.log] == [1, 2]
    with (trained.folder / checkpoint.LOG).open() as file:
        assert [float(r["val_mse"]) for r in csv.DictReader(file)] == [
            row["val_mse"] for row in trained.log
        ]
    card = fourierreg.load_model(trained.path).card
    assert card == json.loads(json.dumps(trained.card))
    assert card["grid"] == [24, 24] and card["sigma"] == [0.02] and card["modes"] == [6, 6]
    assert card["velocity_scale_mm"] == 0.3 and card["reference_length_mm"] == 24 / 16
    alphas = [e.alpha for e in read_dataset(bullseyes).examples]
    assert min(alphas) <= card["alpha_range"][0] < card["alpha_range"][1] <= max(alphas)
    assert card["data"]["train"] == {"bullseye": 22} and card["data"]["test"] == {"bullseye": 5}
    assert card["scores"]["test"]["all"]["pairs"] == 5
    assert set(card["versions"]) >= {"fourierreg", "keras", keras.backend.backend()}
    assert not list(trained.path.parent.glob(".part-*"))


def test_the_weights_of_the_smallest_validation_error_are_saved(trained):
    best = min(row["val_mse"] for row in trained.log)
    assert trained.card["scores"]["validation"]["all"]["mse"] == pytest.approx(best, rel=1e-3)
    with zipfile.ZipFile(trained.path) as archive:  # without optimizer
        assert sum(i.file_size for i in archive.infolist()) < 8 * 4 * 30_000


def test_the_weights_of_the_last_epoch_are_kept_if_so_asked(bullseyes, tmp_path):
    found = train(bullseyes, tmp_path / "last.keras", keep="last", learning_rate=0.1, **FAST)
    assert found.card["kept_epoch"] == "last"
    error = found.card["scores"]["validation"]["all"]["mse"]
    assert error == pytest.approx(found.log[-1]["val_mse"], rel=1e-3)
    best = train(bullseyes, found.path, learning_rate=0.1, **FAST).card
    smallest = min(row["val_mse"] for row in found.log)
    assert best["scores"]["validation"]["all"]["mse"] == pytest.approx(smallest, rel=1e-3)


def test_training_stops_after_patience_epochs_without_improvement(bullseyes, tmp_path):
    options = {**FAST, "epochs": 40, "patience": 2, "learning_rate": 0.3}
    log = train(bullseyes, tmp_path / "model.keras", **options).log
    best = min(log, key=lambda row: row["val_mse"])["epoch"]
    assert len(log) == best + 2 < 40


def test_a_folder_of_other_settings_is_refused(trained, bullseyes):
    with pytest.raises(InputError, match=r"out: .* other values of learning_rate"):
        train(bullseyes, trained.path, **FAST, learning_rate=1e-2)


def test_a_folder_of_other_data_is_refused(trained, tmp_path):
    other = data.bullseyes(tmp_path / "other", 31)
    with pytest.raises(InputError, match=r"other values of .*data_sha256"):
        train(other, trained.path, **FAST)
    noisier = data.bullseyes(tmp_path / "noisier", 32, sigma=0.05)
    with pytest.raises(InputError, match=r"other values of conditions;"):
        train(noisier, trained.path, **FAST)


def test_splits_by_subject_are_kept_and_must_be_complete(tmp_path):
    folder = data.simulated(tmp_path, 6, size=24)
    card = train(folder, tmp_path / "model.keras", **FAST).card
    assert card["data"]["train"] == {"simulated": 2, "subjects": ["0", "1"]}
    assert card["data"]["test"]["subjects"] == ["4", "5"]
    unassigned = data.simulated(tmp_path / "unassigned", 1, size=24, splits=None)
    with pytest.raises(InputError, match="1 of 7 pairs have no split while others do"):
        train([folder, unassigned], tmp_path / "mixed.keras", **FAST)
    train_only = data.simulated(tmp_path / "train_only", 2, size=24)
    with pytest.raises(InputError, match="no pair in the split 'validation'"):
        train(train_only, tmp_path / "other.keras", **FAST)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"out": "model.h5"}, "out: expected a name ending in .keras"),
        ({"output": "beta"}, "output: expected"),
        ({"precision": "half"}, "precision: expected"),
        ({"epochs": 0}, "epochs: expected"),
        ({"filters": 0}, "filters: expected"),
        ({"weight_decay": -1.0}, "weight_decay: expected"),
        ({"learning_rate": -1.0}, "learning_rate: expected"),
        ({"decay_epochs": 0}, "decay_epochs: expected"),
        ({"fractions": (0.5, 0.2, 0.2)}, "fractions: expected three numbers that sum to 1"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(
    change, line, bullseyes, tmp_path
):
    out = tmp_path / change.pop("out", "model.keras")
    with pytest.raises(ValueError, match=line):
        train(bullseyes, out, **change)
    assert not list(tmp_path.iterdir())


def test_balanced_training_gives_each_kind_the_same_total_weight(bullseyes, tmp_path, monkeypatch):
    """The validation error is not weighted."""
    dataset = read_dataset(bullseyes)
    mixed = [
        e._replace(
            origin="labels" if i % 4 == 0 else "bullseye", split="train" if i < 26 else "validation"
        )
        for i, e in enumerate(dataset.examples)
    ]
    monkeypatch.setattr(
        "fourierreg.learning.splits.read_dataset", lambda folder: dataset._replace(examples=mixed)
    )
    created = []

    class RecordingSequence(PairSequence):
        def __init__(self, examples, shape, **options):
            created.append((examples, options))
            super().__init__(examples, shape, **options)

        def read_pair(self, index):
            return np.zeros((2, 24, 24), dtype=np.float32)

    monkeypatch.setattr("fourierreg.learning.fitting.PairSequence", RecordingSequence)
    monkeypatch.setattr("fourierreg.learning.scores.PairSequence", RecordingSequence)
    monkeypatch.setattr("fourierreg.learning.novelty.PairSequence", RecordingSequence)
    monkeypatch.setattr(
        "fourierreg.learning.appearance.read_example",
        lambda example, shape: np.zeros((2, *shape), dtype=np.float32),
    )
    trained = train(bullseyes, tmp_path / "model.keras", balanced=True, **FAST)
    (examples, options), (_, validation) = created[:2]
    weights = np.array(options["weights"])
    labeled = np.array([e.origin == "labels" for e in examples])
    assert 0 < labeled.sum() < labeled.size / 2
    assert weights[labeled].sum() == pytest.approx(weights[~labeled].sum())
    assert weights.mean() == pytest.approx(1)
    assert "weights" not in validation and trained.card["training"]["balanced"]


def test_pairs_of_subjects_are_not_split_at_random(tmp_path):
    folder = data.simulated(tmp_path, 6, size=24, splits=None)
    with pytest.raises(InputError, match="may not be split at random"):
        train(folder, tmp_path / "model.keras", **FAST)


def test_the_command_line_trains_and_resumes(bullseyes, tmp_path, capsys):
    out = tmp_path / "deep" / "model.keras"
    assert main(["train", str(bullseyes), "-o", str(out), "--epochs", "1", *FAST_OPTIONS]) == 0
    assert (out.with_suffix(".training") / checkpoint.CURVE).stat().st_size > 5000
    again = ["train", str(bullseyes), "-o", str(out), "--epochs", "1", "--filters", "2"]
    assert main([*again, "--batch-size", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["grid"] == [24, 24]
    assert main([*again, "--batch-size", "4"]) == 2
    assert "other values of batch_size" in capsys.readouterr().err

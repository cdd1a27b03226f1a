"""Training trains, stops, resumes to the same bits, and says what it did."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest

import fourierreg
from fourierreg.checks import InputError
from fourierreg.cli import main
from fourierreg.data.manifest import find_scans
from fourierreg.learning import checkpoint, training
from fourierreg.learning.examples import Example, read_folder
from fourierreg.learning.network import build_network
from fourierreg.learning.scores import constants_of, errors
from fourierreg.learning.sequence import PairSequence
from fourierreg.learning.training import train
from tests.learning import data

FAST = {"filters": 2, "batch_size": 8, "epochs": 2}
FAST_OPTIONS = ["--filters", "2", "--batch-size", "8", "--quiet"]


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 32)


@pytest.fixture(scope="module")
def trained(bullseyes, tmp_path_factory):
    return train(bullseyes, tmp_path_factory.mktemp("trained") / "model.keras", **FAST)


def test_a_tiny_set_is_learnt_by_heart(bullseyes):
    examples = [e._replace(split="train") for e in read_folder(bullseyes).examples[:6]]
    logs = np.log([e.alpha for e in examples])
    model = build_network((24, 24), filters=8, mean=logs.mean(), scale=logs.std(), weight_decay=0)
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="mse")
    batches = PairSequence(examples, (24, 24), batch_size=6)
    inputs, values = batches[0]
    losses = [float(model.train_on_batch(inputs, values)) for _ in range(120)]
    assert losses[0] > 0.3 and min(losses[-10:]) < 0.01


def test_what_is_left(trained, bullseyes):
    assert [row["epoch"] for row in trained.log] == [1, 2]
    with (trained.folder / checkpoint.LOG).open() as file:
        assert [float(r["val_mse"]) for r in csv.DictReader(file)] == [
            row["val_mse"] for row in trained.log
        ]
    card = fourierreg.load_model(trained.path).card
    assert card == json.loads(json.dumps(trained.card))
    assert card["grid"] == [24, 24] and card["sigma"] == [0.02] and card["modes"] == [6, 6]
    assert card["velocity_scale_mm"] == 0.3 and card["reference_length_mm"] == 24 / 16
    alphas = [e.alpha for e in read_folder(bullseyes).examples]
    assert min(alphas) <= card["alpha_range"][0] < card["alpha_range"][1] <= max(alphas)
    assert card["data"]["train"] == {"bullseye": 22} and card["data"]["test"] == {"bullseye": 5}
    assert card["scores"]["test"]["all"]["pairs"] == 5
    assert set(card["versions"]) >= {"fourierreg", "keras", keras.backend.backend()}
    assert not list(trained.path.parent.glob(".part-*"))


def test_the_best_weights_are_kept(trained):
    """The score of the card is that of the epoch with the smallest validation error."""
    best = min(row["val_mse"] for row in trained.log)
    assert trained.card["scores"]["validation"]["all"]["mse"] == pytest.approx(best, rel=1e-3)
    with zipfile.ZipFile(trained.path) as archive:  # no optimiser inside
        assert sum(i.file_size for i in archive.infolist()) < 8 * 4 * 30_000


def test_it_stops_when_nothing_gets_better(bullseyes, tmp_path):
    setting = {**FAST, "epochs": 40, "patience": 2, "learning_rate": 0.3}
    log = train(bullseyes, tmp_path / "model.keras", **setting).log
    best = min(log, key=lambda row: row["val_mse"])["epoch"]
    assert len(log) == best + 2 < 40


def test_more_epochs_go_on(bullseyes, tmp_path):
    first = train(bullseyes, tmp_path / "model.keras", **FAST)
    more = train(bullseyes, tmp_path / "model.keras", **{**FAST, "epochs": 3})
    assert more.log[:2] == first.log and len(more.log) == 3


def test_other_settings_are_refused(trained, bullseyes):
    with pytest.raises(InputError, match=r"out: .* other values of learning_rate"):
        train(bullseyes, trained.path, **FAST, learning_rate=1e-2)


def test_other_data_are_refused(trained, tmp_path):
    other = data.bullseyes(tmp_path / "other", 31)
    with pytest.raises(InputError, match=r"other values of .*data_sha256"):
        train(other, trained.path, **FAST)
    noisier = data.bullseyes(tmp_path / "noisier", 32, sigma=0.05)
    with pytest.raises(InputError, match=r"other values of conditions;"):
        train(noisier, trained.path, **FAST)


def test_splits_by_subject_are_held_to(tmp_path):
    """Two kinds of data, their splits as they are; a split that is missing is said."""
    folder = data.simulated(tmp_path, 6, size=24)
    card = train(folder, tmp_path / "model.keras", **FAST).card
    assert card["data"]["train"] == {"simulated": 2, "subjects": ["0", "1"]}
    assert card["data"]["test"]["subjects"] == ["4", "5"]
    homeless = data.simulated(tmp_path / "homeless", 1, size=24, splits=None)
    with pytest.raises(InputError, match="1 of 7 pairs have no split while others do"):
        train([folder, homeless], tmp_path / "mixed.keras", **FAST)
    only = data.simulated(tmp_path / "only", 2, size=24)
    with pytest.raises(InputError, match="no pair in the split 'validation'"):
        train(only, tmp_path / "other.keras", **FAST)


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
def test_bad_arguments(change, line, bullseyes, tmp_path):
    out = tmp_path / change.pop("out", "model.keras")
    with pytest.raises(ValueError, match=line):
        train(bullseyes, out, **change)
    assert not list(tmp_path.iterdir())


def test_scores():
    truth = np.log([1.0, 2.0, 4.0, 8.0])
    found = errors(truth + 0.1, truth, constant=0.0)
    assert found["mse"] == pytest.approx(0.01) and found["bias"] == pytest.approx(0.1)
    assert found["median_absolute_error"] == pytest.approx(0.1)
    assert found["absolute_error_95"] == pytest.approx(0.1)
    assert found["mse_of_constant"] == pytest.approx(np.mean(truth**2))
    assert found["r_squared"] == pytest.approx(1 - 0.01 / np.var(truth))
    assert found["spearman"] == pytest.approx(1.0)
    alike = errors(truth, np.zeros(4), constant=0.0)
    assert alike["r_squared"] is None and alike["spearman"] is None


def test_each_kind_has_its_own_constant():
    """What a prediction has to beat: the mean of the training pairs of its kind."""
    made = [("labels", 2.0), ("labels", 8.0), ("simulated", 1.0), ("simulated", 1.0)]
    examples = [Example("", "", alpha, "train", (), kind) for kind, alpha in made]
    assert constants_of(examples) == pytest.approx(
        {"all": np.log(2.0), "labels": np.log(4.0), "simulated": 0.0}
    )


def command(folder, out, epochs):
    return [
        *(sys.executable, "-m", "fourierreg", "train", str(folder), "-o", str(out)),
        *("--epochs", str(epochs), "--decay-epochs", "6", "--deterministic", *FAST_OPTIONS),
    ]


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(bullseyes, tmp_path):
    """kill -9 after the second epoch; then the same command again."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    environment = {**os.environ, **one_thread, "TF_NUM_INTEROP_THREADS": "1"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    whole, killed = tmp_path / "whole.keras", tmp_path / "killed.keras"
    subprocess.run(command(bullseyes, whole, 6), check=True, env=environment)
    process = subprocess.Popen(command(bullseyes, killed, 6), env=environment)
    log, end = killed.with_suffix(".training") / checkpoint.LOG, time.monotonic() + 120
    while not log.is_file() or len(log.read_text().splitlines()) < 3:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = log.read_text().splitlines()
    assert not killed.exists() and len(before) < 7
    subprocess.run(command(bullseyes, killed, 6), check=True, env=environment)
    assert log.read_text().splitlines()[: len(before)] == before  # nothing was done again
    first, second = (
        keras.models.load_model(p.with_suffix(".training") / checkpoint.CHECKPOINT)
        for p in (whole, killed)
    )
    for a, b in zip(first.variables, second.variables, strict=True):
        assert np.array_equal(*map(keras.ops.convert_to_numpy, (a, b))), a.path
    for a, b in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        assert np.array_equal(*map(keras.ops.convert_to_numpy, (a, b))), a.path


ELSEWHERE = """
import sys
import numpy as np
import fourierreg
folder, out = sys.argv[1:]
for epochs in (1, 2):  # stopped and resumed
    trained = fourierreg.train(folder, out + "/model.keras", filters=2, batch_size=8, epochs=epochs)
images = np.random.default_rng(0).random((2, 24, 24), dtype=np.float32)
print(trained.card["versions"]["jax"], fourierreg.predict_alpha(trained.path, *images).alpha)
"""


def test_training_under_another_backend(bullseyes, tmp_path):
    """Trained, stopped and resumed under JAX; read here."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", ELSEWHERE, str(bullseyes), str(tmp_path)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    images = np.random.default_rng(0).random((2, 24, 24), dtype=np.float32)
    here = fourierreg.predict_alpha(tmp_path / "model.keras", *images).alpha
    assert here == pytest.approx(float(done.stdout.split()[-1]), rel=1e-4)


def test_balanced_kinds_count_alike(bullseyes, tmp_path, monkeypatch):
    """In training; the validation error stays that of the pairs as they are."""
    found = read_folder(bullseyes)
    few = [
        e._replace(
            origin="labels" if i % 4 == 0 else "bullseye", split="train" if i < 26 else "validation"
        )
        for i, e in enumerate(found.examples)
    ]
    monkeypatch.setattr(training, "read_folder", lambda folder: found._replace(examples=few))
    made = []

    class CapturedGraph(PairSequence):
        def __init__(self, examples, shape, **options):
            made.append((examples, options))
            super().__init__(examples, shape, **options)

        def _read(self, index):
            return np.zeros((2, 24, 24), dtype=np.float32)

    monkeypatch.setattr(training, "PairSequence", CapturedGraph)
    monkeypatch.setattr("fourierreg.learning.scores.PairSequence", CapturedGraph)
    trained = train(bullseyes, tmp_path / "model.keras", balanced=True, **FAST)
    (examples, options), (_, validation) = made[:2]
    weights = np.array(options["weights"])
    real = np.array([e.origin == "labels" for e in examples])
    assert 0 < real.sum() < real.size / 2
    assert weights[real].sum() == pytest.approx(weights[~real].sum())
    assert weights.mean() == pytest.approx(1)
    assert "weights" not in validation and trained.card["training"]["balanced"]


def test_mixed_precision_resumes_its_optimiser(bullseyes, tmp_path):
    setting = {**FAST, "precision": "mixed_float16"}
    trained = train(bullseyes, tmp_path / "model.keras", **setting)
    _, model = checkpoint.load_state(trained.folder)
    assert 2 < int(model.optimizer.iterations) <= 2 * 3  # steps that overflow are left out
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    best = keras.models.load_model(trained.path)
    assert {layer.compute_dtype for layer in best.layers} == {"float32"}


def test_people_are_not_split_at_random(tmp_path):
    folder = data.simulated(tmp_path, 6, size=24, splits=None)
    with pytest.raises(InputError, match="may not be split at random"):
        train(folder, tmp_path / "model.keras", **FAST)


def test_command(bullseyes, tmp_path, capsys):
    out = tmp_path / "deep" / "model.keras"
    assert main(["train", str(bullseyes), "-o", str(out), "--epochs", "1", *FAST_OPTIONS]) == 0
    assert (out.with_suffix(".training") / checkpoint.CURVE).stat().st_size > 5000
    again = ["train", str(bullseyes), "-o", str(out), "--epochs", "1", "--filters", "2"]
    assert main([*again, "--batch-size", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["grid"] == [24, 24]
    assert main([*again, "--batch-size", "4"]) == 2
    assert "other values of batch_size" in capsys.readouterr().err


def test_a_full_disk_is_one_line(bullseyes, tmp_path, capsys, monkeypatch):
    """What was kept before stays, and the same command goes on from it."""
    out = tmp_path / "model.keras"
    command = ["train", str(bullseyes), "-o", str(out), *FAST_OPTIONS, "--epochs"]
    assert main([*command, "1"]) == 0
    before = (out.with_suffix(".training") / checkpoint.CHECKPOINT).read_bytes()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "temporary_path", full)
        assert main([*command, "2"]) == 2
    said = capsys.readouterr().err
    assert "the disk is full" in said and said.count("\n") == 1
    assert (out.with_suffix(".training") / checkpoint.CHECKPOINT).read_bytes() == before
    assert main([*command, "2"]) == 0


def test_it_goes_on_from_another_network(trained, bullseyes, tmp_path):
    """Its weights are where this one starts, and its architecture is this one's."""
    began = fourierreg.load_model(trained.path)
    options = {"initial": trained.path, "learning_rate": 1e-9, "epochs": 1}
    made = train(bullseyes, tmp_path / "more.keras", **options)
    assert made.card["network"]["filters"] == 2 and made.card["network"] == began.card["network"]
    assert made.card["training"]["initial"]["name"] == "model"
    for before, after in zip(
        began.network.trainable_weights,
        fourierreg.load_model(made.path).network.trainable_weights,
        strict=True,
    ):
        np.testing.assert_allclose(before, after, atol=1e-5)
    other = data.bullseyes(tmp_path / "other", 32, shape=(28, 28))
    with pytest.raises(InputError, match=r"initial: its grid is \(24, 24\), that of datasets"):
        train(other, tmp_path / "other.keras", **options)
    with pytest.raises(InputError, match=r"other values of .*initial"):
        train(bullseyes, tmp_path / "more.keras", learning_rate=1e-9, epochs=1)


def test_who_was_seen_once_is_never_tested_on(tmp_path):
    """Not in the next training, and not in the one after that."""
    first = data.simulated(tmp_path / "first", 6, size=24)
    homes = data.splits()
    turned = {s: {"train": "test", "test": "train"}.get(home, home) for s, home in homes.items()}
    second = data.simulated(tmp_path / "second", 6, size=24, splits=turned)
    seen = train(first, tmp_path / "first.keras", **FAST).path
    with pytest.raises(InputError, match="initial: it was trained on 0, 1, who stand in"):
        train(second, tmp_path / "second.keras", initial=seen, **FAST)
    all_new = {s: "train" if home == "test" else "validation" for s, home in homes.items()}
    scans = [scan for scan in find_scans(tmp_path / "second" / "scans") if scan.subject > "1"]
    fourierreg.simulate_pairs(
        scans, tmp_path / "third", 4, size=24, modes=6, splits=all_new, workers=1
    )
    third = train(tmp_path / "third", tmp_path / "third.keras", initial=seen, **FAST).path
    with pytest.raises(InputError, match="initial: it was trained on 0, 1, who stand in"):
        train(second, tmp_path / "fourth.keras", initial=third, **FAST)

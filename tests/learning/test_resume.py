"""Resumed training: more epochs, after a kill or a full disk, in mixed precision, under JAX."""

import errno
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.learning import checkpoint
from fourierreg.learning.training import train
from tests.learning import data
from tests.learning.data import FAST, FAST_OPTIONS


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 32)


def test_a_larger_number_of_epochs_continues_the_training(bullseyes, tmp_path):
    first = train(bullseyes, tmp_path / "model.keras", **FAST)
    more = train(bullseyes, tmp_path / "model.keras", **{**FAST, "epochs": 3})
    assert more.log[:2] == first.log and len(more.log) == 3


def command(folder, out, epochs):
    return [
        *(sys.executable, "-m", "fourierreg", "train", str(folder), "-o", str(out)),
        *("--epochs", str(epochs), "--decay-epochs", "6", "--deterministic", *FAST_OPTIONS),
    ]


@pytest.mark.slow
def test_a_killed_training_resumes_to_bit_identical_weights(bullseyes, tmp_path):
    """SIGKILL after the second epoch, then the same command again."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    environment = {**os.environ, **one_thread, "TF_NUM_INTEROP_THREADS": "1"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    whole, killed = tmp_path / "whole.keras", tmp_path / "killed.keras"
    subprocess.run(command(bullseyes, whole, 6), check=True, env=environment)
    process = subprocess.Popen(command(bullseyes, killed, 6), env=environment)
    log, deadline = killed.with_suffix(".training") / checkpoint.LOG, time.monotonic() + 120
    while not log.is_file() or len(log.read_text().splitlines()) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = log.read_text().splitlines()
    assert not killed.exists() and len(before) < 7
    subprocess.run(command(bullseyes, killed, 6), check=True, env=environment)
    assert log.read_text().splitlines()[: len(before)] == before  # no epoch is repeated
    first, second = (
        keras.models.load_model(p.with_suffix(".training") / checkpoint.CHECKPOINT)
        for p in (whole, killed)
    )
    for a, b in zip(first.variables, second.variables, strict=True):
        assert np.array_equal(*map(keras.ops.convert_to_numpy, (a, b))), a.path
    for a, b in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        assert np.array_equal(*map(keras.ops.convert_to_numpy, (a, b))), a.path


TRAIN_AND_RESUME = """
import sys
import numpy as np
import fourierreg
folder, out = sys.argv[1:]
for epochs in (1, 2):
    trained = fourierreg.train(folder, out + "/model.keras", filters=2, batch_size=8, epochs=epochs)
images = np.random.default_rng(0).random((2, 24, 24), dtype=np.float32)
print(trained.card["versions"]["jax"], fourierreg.predict_alpha(trained.path, *images).alpha)
"""


def test_a_network_trained_and_resumed_under_jax_predicts_the_same_here(bullseyes, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", TRAIN_AND_RESUME, str(bullseyes), str(tmp_path)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    images = np.random.default_rng(0).random((2, 24, 24), dtype=np.float32)
    here = fourierreg.predict_alpha(tmp_path / "model.keras", *images).alpha
    assert here == pytest.approx(float(done.stdout.split()[-1]), rel=1e-4)


def test_mixed_precision_resumes_its_optimizer_and_saves_single_precision(bullseyes, tmp_path):
    options = {**FAST, "precision": "mixed_float16"}
    trained = train(bullseyes, tmp_path / "model.keras", **options)
    _, model = checkpoint.load_checkpoint(trained.folder)
    assert 2 < int(model.optimizer.iterations) <= 2 * 3  # steps that overflow are skipped
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    best = keras.models.load_model(trained.path)
    assert {layer.compute_dtype for layer in best.layers} == {"float32"}


def test_training_resumes_after_a_full_disk(bullseyes, tmp_path, capsys, monkeypatch):
    """The error is one line, and the last checkpoint is unchanged."""
    out = tmp_path / "model.keras"
    command = ["train", str(bullseyes), "-o", str(out), *FAST_OPTIONS, "--epochs"]
    assert main([*command, "1"]) == 0
    before = (out.with_suffix(".training") / checkpoint.CHECKPOINT).read_bytes()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "temporary_path", full)
        assert main([*command, "2"]) == 2
    error = capsys.readouterr().err
    assert "the disk is full" in error and error.count("\n") == 1
    assert (out.with_suffix(".training") / checkpoint.CHECKPOINT).read_bytes() == before
    assert main([*command, "2"]) == 0

"""Checkpoints of a training: state, network and optimizer, written after every epoch."""

import json
import math
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from fourierreg.atomic import temporary_path, write_table

STATE = "training_state.json"
CHECKPOINT, BEST, LOG, CURVE = "checkpoint.keras", "best.keras", "log.csv", "curve.png"


class Checkpoint(keras.callbacks.Callback):
    """Callback that saves the network, optimizer, log and best weights, and stops early.

    Parameters
    ----------
    folder : path
    patience : int
        Training stops after this many epochs without a smaller validation loss.
    state : dict
        From `load_checkpoint`; updated in place.
    build : callable
        Builds the network in single precision and without optimizer, whose state would triple the
        size of the file, to save the best weights.
    epochs : int
        Maximum number of epochs.
    callback : callable, optional
        Called with (completed epochs, `epochs`).
    """

    def __init__(
        self,
        folder: Path | str,
        patience: int,
        state: dict[str, Any],
        build: Callable[[], keras.Model],
        epochs: int,
        callback: Callable[[int, int], object] | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.patience, self.state = Path(folder), patience, state
        self.build, self.epochs, self.callback = build, epochs, callback
        self.epoch_start = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has not decreased for `patience`."""
        epoch = self.state["epoch"]
        return bool(epoch >= self.epochs or epoch - self.state["best_epoch"] >= self.patience)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epoch_start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = logs or {}
        state, loss = self.state, float(logs["val_mse"])
        row = {"epoch": epoch + 1, **{name: float(f"{v:.7g}") for name, v in logs.items()}}
        row["seconds"] = round(time.perf_counter() - self.epoch_start, 2)
        state["rows"].append(row)
        state["epoch"] = epoch + 1
        if math.isfinite(loss) and (state["best"] is None or loss < state["best"]):
            state["best"], state["best_epoch"] = loss, epoch + 1
            best = self.build()
            best.set_weights(self.model.get_weights())
            with temporary_path(self.folder / BEST) as name:
                best.save(name)
        with temporary_path(self.folder / CHECKPOINT) as name:
            self.model.save(name)
            with zipfile.ZipFile(name, "a") as archive:
                archive.writestr(STATE, json.dumps(state))
        write_table(self.folder / LOG, state["rows"])
        if self.callback is not None:
            self.callback(state["epoch"], self.epochs)
        if self.finished:
            self.model.stop_training = True


def load_checkpoint(folder: Path | str) -> tuple[dict[str, Any], keras.Model | None]:
    """State and compiled network of the training in a folder; an empty state and None if it has
    no checkpoint."""
    path = Path(folder) / CHECKPOINT
    if not path.is_file():
        return {"epoch": 0, "best": None, "best_epoch": 0, "rows": []}, None
    with zipfile.ZipFile(path) as archive:
        state = json.loads(archive.read(STATE))
    return state, keras.models.load_model(path)

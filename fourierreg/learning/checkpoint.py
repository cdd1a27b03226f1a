"""A training that can be killed: everything the next epoch needs, in one file per epoch's end."""

import json
import math
import time
import zipfile
from pathlib import Path

import keras

from fourierreg.atomic import temporary_path, write_table

STATE = "training_state.json"
CHECKPOINT, BEST, LOG, CURVE = "checkpoint.keras", "best.keras", "log.csv", "curve.png"


class Checkpoint(keras.callbacks.Callback):
    """Keep the network, its optimiser, the log and the best weights after every epoch; stop early.

    Parameters
    ----------
    folder : Path
    patience : int
        Epochs without a better validation loss after which training ends.
    state : dict
        Of `load_state`.
    fresh : callable
        Makes the network anew, with no optimiser (which takes twice the room of the weights) and
        in single precision, for what is kept.
    epochs : int
        At most.
    callback : callable, optional
        Called with (epochs done, `epochs`).
    """

    def __init__(self, folder, patience, state, fresh, epochs, callback=None):
        super().__init__()
        self.folder, self.patience, self.state = Path(folder), patience, state
        self.fresh, self.epochs, self.callback = fresh, epochs, callback
        self.began = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        state, loss = self.state, float(logs["val_mse"])
        row = {"epoch": epoch + 1, **{name: float(f"{v:.7g}") for name, v in logs.items()}}
        row["seconds"] = round(time.perf_counter() - self.began, 2)
        state["rows"].append(row)
        state["epoch"] = epoch + 1
        if math.isfinite(loss) and (state["best"] is None or loss < state["best"]):
            state["best"], state["best_epoch"] = loss, epoch + 1
            best = self.fresh()
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
        if ended(state, self.patience):
            self.model.stop_training = True


def ended(state, patience):
    """Whether the validation loss has not fallen for `patience` epochs."""
    return state["epoch"] - state["best_epoch"] >= patience


def load_state(folder):
    """State and network of a training that was begun in a folder; a new state and None without."""
    path = Path(folder) / CHECKPOINT
    if not path.is_file():
        return {"epoch": 0, "best": None, "best_epoch": 0, "rows": []}, None
    with zipfile.ZipFile(path) as archive:
        state = json.loads(archive.read(STATE))
    return state, keras.models.load_model(path)

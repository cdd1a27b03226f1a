"""Model card: what a network was trained on and its errors (``model_card.json`` in its file)."""

import importlib
import json
import platform
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fourierreg import __version__
from fourierreg.atomic import temporary_path
from fourierreg.data.splits import SPLITS
from fourierreg.errors import InputError
from fourierreg.learning.appearance import appearance_of
from fourierreg.learning.examples import Conditions, Example
from fourierreg.learning.novelty import describe, features_of
from fourierreg.learning.scores import (
    conformal_half_width,
    mean_log_alphas,
    predict_log_alpha,
    score,
)

MEMBER, FORMAT = "model_card.json", 1
# What prediction needs; cards of early versions may lack some.
REQUIRED = (
    *("grid", "spacing_mm", "modes", "velocity_scale_mm", "reference_length_mm", "sigma"),
    *("labels", "alpha_range", "network", "scores"),
)
PREPROCESSING = (
    "skull-stripped and affinely aligned; resampled to the grid, the source onto the target's; "
    "each divided by the 99.5th percentile of its foreground"
)


def save_with_card(model: keras.Model, path: Path | str, card: Mapping[str, Any]) -> None:
    """Write a ``.keras`` file that contains a model card; the file is written whole or not at all.

    Keras reads the file as any other. `read_card`, or ``unzip -p FILE model_card.json``, returns
    the card.
    """
    with temporary_path(path) as name:
        model.save(name)
        with zipfile.ZipFile(name, "a", zipfile.ZIP_DEFLATED) as archive:
            text = json.dumps({"format": FORMAT, **card}, indent=1, allow_nan=False)
            archive.writestr(MEMBER, text)


def read_card(path: Path | str) -> dict[str, Any]:
    """Read the model card of a ``.keras`` file.

    Raises
    ------
    InputError
        The file is missing, is not a Keras model, or has no card or one of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"model: no file {path}; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(MEMBER))
    except zipfile.BadZipFile as error:
        raise InputError(
            f"model: {path} is not a .keras file ({error}); give a model of `fourierreg train`"
        ) from error
    except KeyError as error:
        raise InputError(
            f"model: {path} has no {MEMBER}, so its training data are unknown; give a model of "
            "`fourierreg train` (saving it again with Keras loses the card)"
        ) from error
    if card.pop("format", None) != FORMAT:
        raise InputError(f"model: {path} was written by another version; train it again")
    missing = [key for key in REQUIRED if key not in card]
    if missing:
        raise InputError(
            f"model: the card of {path} has no {', '.join(missing)}, as it was written by another "
            "version; train it again"
        )
    return card


def build_card(
    model: keras.Model,
    splits: Mapping[str, Sequence[Example]],
    conditions: Conditions,
    network: Mapping[str, Any],
    training: Mapping[str, Any],
    state: Mapping[str, Any],
) -> dict[str, Any]:
    """Card of a trained network, with its errors on the validation and test splits.

    `network` and `training` are the keywords of `build_network` and the options of the training;
    `state` is its final state, as in `load_checkpoint`.
    """
    bullseyes_only = all(example.origin == "bullseye" for example in splits["train"])
    alphas = [example.alpha for example in splits["train"]]
    baselines = mean_log_alphas(splits["train"])
    return {
        "created": time.strftime("%Y-%m-%d"),
        "grid": list(conditions.shape),
        "spacing_mm": list(conditions.spacing),
        "preprocessing": "none: images as they were made" if bullseyes_only else PREPROCESSING,
        "modes": list(conditions.modes),
        "velocity_scale_mm": conditions.velocity_scale,
        "reference_length_mm": conditions.reference_length,
        "power": conditions.power,
        "dynamics": conditions.dynamics,
        "sigma": list(conditions.sigma),
        "labels": list(conditions.labels),
        "alpha_range": [min(alphas), max(alphas)],
        "mean_log_alpha": baselines,
        "network": network,
        "training": {
            **training,
            "epochs": state["epoch"],
            "best_epoch": state["best_epoch"],
            "seconds": round(sum(row["seconds"] for row in state["rows"])),
        },
        "data": _data_record(splits),
        "scores": {
            name: score(model, splits[name], conditions.shape, network["output"], baselines)
            for name in SPLITS[1:]
            if splits[name]
        },
        **_unseen_record(model, splits, conditions, network["output"], training["exchange"]),
        "versions": _versions(),
    }


def _unseen_record(
    model: keras.Model,
    splits: Mapping[str, Sequence[Example]],
    conditions: Conditions,
    output: str,
    exchange: bool,
) -> dict[str, Any]:
    """The interval of predictions, from the test split (or validation, without one), and what tells
    pairs that are unlike those of the training."""
    name = "test" if splits["test"] else "validation"
    predicted = predict_log_alpha(model, splits[name], conditions.shape, output)
    truth = np.log([example.alpha for example in splits[name]])
    features = [
        np.concatenate(
            [features_of(model, splits[part], conditions.shape) for part in parts if splits[part]]
        )
        for parts in (SPLITS[:1], SPLITS[1:])
    ]
    return {
        "interval": {"from": f"{name} split", **conformal_half_width(predicted - truth)},
        "novelty": describe(*features),
        "appearance": appearance_of(splits["train"], conditions.shape, exchange),
    }


def _versions() -> dict[str, str]:
    """Versions of this package, Python, Keras and its backend."""
    backend = keras.backend.backend()
    return {
        "fourierreg": __version__,
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
    }


def _data_record(splits: Mapping[str, Sequence[Example]]) -> dict[str, dict[str, Any]]:
    """Number of pairs of each kind, and the subjects, of every split."""
    record: dict[str, dict[str, Any]] = {}
    for name, examples in splits.items():
        kinds = sorted({e.origin for e in examples})
        record[name] = {kind: sum(e.origin == kind for e in examples) for kind in kinds}
        subjects = sorted({s for e in examples for s in e.subjects if s})
        if subjects:
            record[name]["subjects"] = subjects
    return record

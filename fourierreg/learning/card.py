"""What a network was trained on and how well it does: ``model_card.json`` inside its file."""

import importlib
import json
import platform
import time
import zipfile
from pathlib import Path

import keras

from fourierreg import __version__
from fourierreg.atomic import temporary_path
from fourierreg.data.manifest import SPLITS
from fourierreg.data.nifti import sha256
from fourierreg.errors import InputError
from fourierreg.learning.scores import constants_of, scores_of

MEMBER, FORMAT = "model_card.json", 1
PREPROCESSING = (
    "skull-stripped and affinely aligned; resampled to the grid, the source onto the target's; "
    "each divided by the 99.5th percentile of its foreground"
)


def save_with_card(model, path, card):
    """Write a ``.keras`` file with its card, all or nothing.

    Keras reads the file as any other; `read_card`, or ``unzip -p FILE model_card.json``, gives the
    card.
    """
    with temporary_path(path) as name:
        model.save(name)
        with zipfile.ZipFile(name, "a", zipfile.ZIP_DEFLATED) as archive:
            text = json.dumps({"format": FORMAT, **card}, indent=1, allow_nan=False)
            archive.writestr(MEMBER, text)


def read_card(path):
    """The card of a ``.keras`` file.

    Raises
    ------
    InputError
        No file, no Keras model, or one without a card.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"model: no file {path}; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(MEMBER))
    except zipfile.BadZipFile as error:
        raise InputError(f"model: {path} is no .keras file ({error})") from error
    except KeyError as error:
        raise InputError(
            f"model: {path} has no {MEMBER}, so what it was trained for is unknown; give a model "
            "of `fourierreg train` (saving it again with Keras loses the card)"
        ) from error
    if card.pop("format") != FORMAT:
        raise InputError(f"model: {path} was written by another version; train it again")
    return card


def describe(best, split, conditions, setting, run, state):
    """What the network was trained on and how well it does."""
    backend = keras.backend.backend()
    stored = all(example.origin == "bullseye" for example in split["train"])
    alphas = [example.alpha for example in split["train"]]
    constants = constants_of(split["train"])
    return {
        "created": time.strftime("%Y-%m-%d"),
        "grid": list(conditions.shape),
        "spacing_mm": list(conditions.spacing),
        "preprocessing": "none: images as they were made" if stored else PREPROCESSING,
        "modes": list(conditions.modes),
        "velocity_scale_mm": conditions.velocity_scale,
        "reference_length_mm": conditions.reference_length,
        "power": conditions.power,
        "dynamics": conditions.dynamics,
        "sigma": list(conditions.sigma),
        "labels": list(conditions.labels),
        "alpha_range": [min(alphas), max(alphas)],
        "mean_log_alpha": constants,
        "network": setting,
        "training": {
            **run,
            "epochs": state["epoch"],
            "best_epoch": state["best_epoch"],
            "seconds": round(sum(row["seconds"] for row in state["rows"])),
        },
        "data": _origins(split),
        "scores": {
            name: scores_of(best, split[name], conditions.shape, setting["output"], constants)
            for name in SPLITS[1:]
            if split[name]
        },
        "versions": {
            "fourierreg": __version__,
            "python": platform.python_version(),
            "keras": keras.__version__,
            backend: importlib.import_module(backend).__version__,
        },
    }


def origin_of(start):
    """What the card of a network says of the one it went on from, and whom that had seen."""
    earlier = start.card["training"].get("initial") or {"subjects": []}
    seen = {*earlier["subjects"], *start.card["data"]["train"].get("subjects", ())}
    return {"name": start.card["name"], "sha256": sha256(start.path), "subjects": sorted(seen)}


def _origins(split):
    """How many pairs of which kind every split has, and of which subjects."""
    found = {}
    for name, chosen in split.items():
        kinds = sorted({e.origin for e in chosen})
        found[name] = {kind: sum(e.origin == kind for e in chosen) for kind in kinds}
        subjects = sorted({s for e in chosen for s in e.subjects if s})
        if subjects:
            found[name]["subjects"] = subjects
    return found

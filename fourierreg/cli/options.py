"""Options that several commands have, in one table; and values made of them."""

import argparse
from collections.abc import Mapping
from typing import Any

OPTIONS: Mapping[str, dict[str, Any]] = {
    # output and machine
    "--output": {"required": True, "metavar": "DIR", "help": "output folder"},
    "--quiet": {"action": "store_true", "help": "no progress bar, no table"},
    "--json": {"action": "store_true", "help": "print JSON instead of a table"},
    "--backend": {"default": "numpy", "help": "numpy (default) or cupy"},
    "--workers": {"type": int, "help": "processes on this machine (default one per core)"},
    "--seed": {"type": int, "default": 0, "help": "of the random numbers (default 0)"},
    "--size": {"type": int, "help": "resample to this many voxels on the longest axis"},
    # the model
    "--modes": {"type": int, "help": "band per axis (default 16)"},
    "--power": {"type": float, "help": "exponent c of the metric (default 3)"},
    "--reference-length": {"type": float, "help": "ℓ in mm (default: field of view / 16)"},
    "--velocity-scale": {"type": float, "help": "s in mm (default ℓ/8)"},
    "--num-steps": {
        "type": int,
        "help": "time steps of the geodesic (default: as many as its flow needs; 10 in `simulate`)",
    },
    "--integrator": {
        "choices": ["rk4", "euler"],
        "help": "of the geodesic (default rk4)",
    },
    "--dynamics": {
        "choices": ["epdiff", "stationary"],
        "help": "geodesic (epdiff, default), or the flow of a stationary velocity",
    },
    "--similarity": {
        "choices": ["ssd", "ncc", "lncc", "lncc-likelihood", "mi"],
        "help": "sum of squares, global or local correlation, the likelihood of images whose "
        "windows have a gain, an offset and a variance, mutual information",
    },
    # the noise and α
    "--sigma": {"default": "estimate", "help": 'noise σ, "estimate" (default), or "profile"'},
    "--decimation": {"type": float, "help": "ρ, the fraction of independent voxels"},
    "--posterior": {
        "choices": ["predictive", "marginal", "joint"],
        "help": "how α is inferred: from held-out voxels, or from a posterior of a likelihood",
    },
    "--quality": {
        "choices": ["fast", "default", "accurate", "paper"],
        "help": "a model, its α, and how hard to try",
    },
    "--alpha0": {"type": float, "help": "where the search for α starts"},
    "--max-iterations": {"type": int, "help": "of one fit, on any grid"},
    # grids of a saved registration
    "--inverse": {"action": "store_true", "help": "from the target to the source"},
    "--affine": {
        "metavar": "FILE",
        "help": "the image that moves is an unprepared scan, and this its affine: the .mat file of "
        "`prepare`, one of ANTs, an .lta of FreeSurfer, or a matrix of FSL's flirt, whose -ref has "
        "the grid of the run's own image",
    },
    "--reference": {"metavar": "IMAGE", "help": "write on the grid of this image"},
    "--reference-affine": {
        "metavar": "FILE",
        "help": "the reference is an unprepared scan, and this its affine",
    },
    # labels
    "--source-labels": {"help": "labels on the source, for Dice"},
    "--target-labels": {"help": "labels on the target, for Dice"},
    "--structures": {
        "help": "merged structures for Dice: neuromorphometrics, or a CSV table with columns "
        "value,structure"
    },
    "--fractions": {
        "type": float,
        "nargs": 3,
        "default": [0.70, 0.15, 0.15],
        "metavar": ("TRAIN", "VALIDATION", "TEST"),
        "help": "fractions of the splits (default 0.7 0.15 0.15)",
    },
}
SHORT = {"--output": "-o"}

COMMON = ("--quiet", "--json")
MODEL = (
    "--modes",
    "--power",
    "--reference-length",
    "--velocity-scale",
    "--num-steps",
    "--integrator",
    "--dynamics",
)
OTHER_FIELDS = ("power", "reference_length", "integrator", "dynamics")  # of the model
LABELS = ("--source-labels", "--target-labels")


def add_options(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add options of the table to a parser.

    Parameters
    ----------
    parser : ArgumentParser
    names : str
    changes
        Other values of the table's entries, for all of `names`.
    """
    for name in names:
        flags = [SHORT[name]] if name in SHORT else []
        parser.add_argument(*flags, name, **{**OPTIONS[name], **changes})


def given_fields(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the named options that were given."""
    values = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def model_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords `modes`, `num_steps`, `velocity_scale` and, for other fields, `model` as plain data:
    what `result.json` and a label run record."""
    from fourierreg.model.model import MODEL_KEYWORDS, Model

    given = {name: getattr(options, name) for name in MODEL_KEYWORDS}
    others = given_fields(options, *OTHER_FIELDS)
    return {**given, "model": Model(**others).to_dict()} if others else given


def model_of_options(options: argparse.Namespace) -> Any:
    """The `Model` of a command's options."""
    from fourierreg.model.model import model_of

    keywords = model_keywords(options)
    return model_of(keywords.pop("model", None), **keywords)


def sigma_of(text: str | None) -> float | str | None:
    """The value of --sigma: a number or "estimate"."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text

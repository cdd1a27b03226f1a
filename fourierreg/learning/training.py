"""Train a network on pairs whose α is known or was estimated."""

import functools
import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from fourierreg import checks
from fourierreg.backend import release_memory
from fourierreg.data.manifest import FRACTIONS, SPLITS
from fourierreg.data.run_header import claim
from fourierreg.errors import InputError
from fourierreg.learning.card import describe, origin_of, save_with_card
from fourierreg.learning.checkpoint import BEST, Checkpoint, ended, load_state
from fourierreg.learning.examples import combine, read_folder, split_at_random
from fourierreg.learning.network import OUTPUTS, build_network
from fourierreg.learning.pretrained import Model, load_model
from fourierreg.learning.sequence import PairSequence

HEADER = "training.json"
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
LEAST_RATE = 0.01  # of the first, where it decays
OWN = ("weight_decay", "seed")  # of a network that goes on from another


class Trained(NamedTuple):
    """What a training leaves: the model's file, its card, the log (a dict per epoch), and the
    folder that a stopped training goes on from."""

    path: Path
    card: dict
    log: list
    folder: Path


def train(
    datasets,
    out,
    *,
    architecture="two-stream",
    filters=8,
    activation="relu",
    shared_streams=True,
    output="log_alpha",
    weight_decay=1e-4,
    initial=None,
    learning_rate=5e-4,
    decay_epochs=None,
    batch_size=16,
    epochs=1000,
    patience=50,
    augment=True,
    smoothing=0.0,
    balanced=False,
    fractions=FRACTIONS,
    precision="auto",
    deterministic=False,
    licence="",
    seed=0,
    callback=None,
    callbacks=(),
):
    """Train a network, keep its best weights, and write it with a card of what it was trained on.

    Everything is kept after every epoch in a folder beside the model (``NAME.training``): the same
    call goes on where a training was stopped, to the very weights it would have reached. On a GPU
    that CuPy used before in this process, its idle memory is given back first.

    Parameters
    ----------
    datasets : path or sequence of paths
        Folders of `fourierreg label` or `simulate`, or of `make_bullseye_dataset`. Their splits
        (by subject) are held to; pairs without any, which are independent, are split at random.
    out : path
        The model, ``NAME.keras``.
    architecture, filters, activation, shared_streams, output, weight_decay
        Of `build_network`; the loss is the squared error of `output`.
    initial : Model, str or path, optional
        Go on from the weights of this network, as `load_model` takes it, on other data or other
        terms. All of the line above but `weight_decay` is then as it is there.
    learning_rate : float
        Of Adam.
    decay_epochs : int, optional
        Epochs over which it falls to a hundredth along half a cosine; constant by default.
    batch_size : int
    epochs : int
        At most.
    patience : int
        Epochs without a better validation error after which training ends.
    augment, smoothing
        Of `PairSequence`.
    balanced : bool
        Weigh the training pairs so that each kind (of label tables, simulated, bull-eyes) counts as
        much as any other, however few there are of it.
    fractions : (train, validation, test)
        Of pairs without a split.
    precision : {"auto", "float32", "mixed_float16", "mixed_bfloat16"}
        "auto": mixed_float16 on a GPU, float32 on a CPU.
    deterministic : bool
        Same weights from the same seed, where the operations of the Keras backend allow (slower).
    licence : str
        What the card says of the data's licence.
    seed : int
    callback : callable, optional
        Called with (epochs done, `epochs`).
    callbacks : sequence of keras.callbacks.Callback

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        No usable pairs; splits that leak; a split that is missing; a folder of another training; an
        `initial` of another grid, or one that has seen people of the validation or test split.
    ValueError, TypeError
        An argument of another kind or range.
    RuntimeError
        The validation error was never a finite number.
    """
    release_memory()
    out = Path(out)
    if out.suffix != ".keras":
        raise InputError(f"out: expected a name ending in .keras; got {out}")
    if decay_epochs is not None:
        checks.count("decay_epochs", decay_epochs)
    checks.choice("output", output, OUTPUTS)
    checks.choice("precision", precision, PRECISIONS)
    checks.positive("learning_rate", float(learning_rate))
    for name, value in (("epochs", epochs), ("patience", patience), ("batch_size", batch_size)):
        checks.count(name, value)
    split, conditions = _read(datasets, fractions, seed)
    logs = np.log([example.alpha for example in split["train"]])
    setting = {
        "architecture": architecture,
        "filters": filters,
        "activation": activation,
        "shared_streams": shared_streams,
        "output": output,
        "weight_decay": float(weight_decay),
        "mean": float(logs.mean()),
        "scale": float(max(logs.std(), 1e-3)),
        "seed": seed,
    }
    start = None if initial is None else _start(initial, split, conditions)
    if start is not None:
        setting |= {k: v for k, v in start.card["network"].items() if k not in OWN}
    run = {
        "learning_rate": float(learning_rate),
        "decay_epochs": decay_epochs,
        "batch_size": batch_size,
        "augment": augment,
        "smoothing": 0.0 if smoothing == 0 else checks.positive("smoothing", float(smoothing)),
        "balanced": balanced,
        "precision": _policy(precision),
        "pairs": {name: len(chosen) for name, chosen in split.items()},
        "data_sha256": _digest(split),
        "conditions": json.loads(json.dumps(conditions._asdict())),
        "initial": None if start is None else origin_of(start),
    }
    fresh = functools.partial(build_network, conditions.shape, **setting)
    fresh()  # says what is wrong with its arguments before anything is written
    folder = out.with_suffix(".training")
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder / HEADER, {**setting, **run}, "out")
    keras.utils.set_random_seed(seed)
    if deterministic:
        _make_deterministic()
    state, model = load_state(folder)
    if model is None:
        model = _compiled(fresh, run, None if start is None else start.network.get_weights())
    checkpoint = Checkpoint(folder, patience, state, fresh, epochs, callback)
    if state["epoch"] < epochs and not ended(state, patience):
        _fit(model, split, conditions.shape, setting, run, checkpoint, callbacks)
    if state["best"] is None:
        raise RuntimeError(
            "learning_rate: the validation error was never a finite number; use a smaller one, or "
            "precision='float32'"
        )
    best = keras.models.load_model(folder / BEST)
    card = {"name": out.stem, **describe(best, split, conditions, setting, run, state)}
    save_with_card(best, out, {**card, "licence": licence})
    return Trained(out, {**card, "licence": licence}, state["rows"], folder)


def _read(datasets, fractions, seed):
    """Examples of every split, and what they have in common."""
    datasets = [datasets] if isinstance(datasets, str | Path) else datasets
    examples, conditions = combine(read_folder(folder) for folder in datasets)
    if not any(example.split for example in examples):
        if any(example.origin != "bullseye" for example in examples):
            raise InputError(
                "datasets: the pairs have no splits, and pairs of the same people may not be split "
                "at random; split by subject (fourierreg pairs, simulate --splits)"
            )
        examples = split_at_random(examples, fractions, seed)
    split = {name: [e for e in examples if e.split == name] for name in SPLITS}
    for name in SPLITS[:2]:
        if not split[name]:
            raise InputError(
                f"datasets: no pair in the split {name!r}; split by subject (fourierreg pairs) and "
                "label or simulate pairs of every split"
            )
    return split, conditions


def _start(initial, split, conditions):
    """The network to go on from, if it may be."""
    start = initial if isinstance(initial, Model) else load_model(initial)
    if start.shape != tuple(conditions.shape):
        raise InputError(
            f"initial: its grid is {start.shape}, that of datasets {tuple(conditions.shape)}; "
            "label and simulate at its --size, or train anew"
        )
    seen = set(origin_of(start)["subjects"])
    held = {subject for name in SPLITS[1:] for e in split[name] for subject in e.subjects}
    if seen & held:
        raise InputError(
            f"initial: it was trained on {', '.join(sorted(seen & held))}, who stand in the "
            "validation or test split of datasets; put them into its train split, or train anew"
        )
    return start


def _fit(model, split, shape, setting, run, checkpoint, callbacks):
    """Epochs from where the checkpoint's state is."""
    options = {"batch_size": run["batch_size"], "output": setting["output"]}
    done = checkpoint.state["epoch"]
    batches = PairSequence(
        split["train"],
        shape,
        shuffle=True,
        augment=run["augment"],
        smoothing=run["smoothing"],
        weights=_weights(split["train"]) if run["balanced"] else None,
        seed=setting["seed"],
        epoch=done,
        **options,
    )
    model.fit(
        batches,
        validation_data=PairSequence(split["validation"], shape, **options),
        initial_epoch=done,
        epochs=checkpoint.epochs,
        callbacks=[checkpoint, *callbacks],
        shuffle=False,  # a PairSequence shuffles by itself
        verbose=0,
    )


def _weights(examples):
    """Weights of 1 on average, and alike in sum for every kind."""
    counts = Counter(example.origin for example in examples)
    return [len(examples) / (len(counts) * counts[example.origin]) for example in examples]


def _digest(split):
    """Of the names, α and splits of all pairs."""
    named = [
        [Path(e.source).name, Path(e.target).name, e.alpha, e.split]
        for examples in split.values()
        for e in examples
    ]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _compiled(fresh, run, weights):
    """A new network with its optimiser, and with given weights if there are any."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(run["precision"])
    try:
        model = fresh()
    finally:
        keras.config.set_dtype_policy(before)
    if weights is not None:
        model.set_weights(weights)
    rate = run["learning_rate"]
    if run["decay_epochs"] is not None:
        steps = run["decay_epochs"] * math.ceil(run["pairs"]["train"] / run["batch_size"])
        rate = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=LEAST_RATE)
    optimizer = keras.optimizers.Adam(rate)
    if run["precision"] == "mixed_float16":  # said here, or a reloaded network would not know it
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss="mse", metrics=["mse"])
    return model


def _policy(precision):
    if precision != "auto":
        return precision
    return "mixed_float16" if _has_gpu() else "float32"


def _has_gpu():
    """Whether the Keras backend computes on a GPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import torch

    return torch.cuda.is_available()


def _make_deterministic():
    """Operations whose sums have a fixed order."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)

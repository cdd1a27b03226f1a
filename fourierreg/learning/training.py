"""Train a network on pairs whose α is known or was estimated."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from fourierreg import checks
from fourierreg.backend import release_memory
from fourierreg.data.run_header import ensure_header
from fourierreg.data.splits import FRACTIONS
from fourierreg.errors import InputError
from fourierreg.learning.card import build_card, save_with_card
from fourierreg.learning.checkpoint import BEST, Checkpoint, load_checkpoint
from fourierreg.learning.examples import Conditions, Example
from fourierreg.learning.fitting import compile_network, fit, make_deterministic, precision_policy
from fourierreg.learning.initial import initial_record, load_initial
from fourierreg.learning.network import OUTPUTS, build_network
from fourierreg.learning.pretrained import TrainedNetwork
from fourierreg.learning.splits import digest, read_splits

HEADER = "training.json"
KEPT = ("best", "last")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
MIN_SCALE = 1e-3  # of ln α, for training data of a single α
NOT_INHERITED = ("weight_decay", "seed")  # options that an initial network does not determine


class TrainingResult(NamedTuple):
    """Result of `train`.

    Attributes
    ----------
    path : Path
        The model.
    card : dict
        Its model card.
    log : list of dict
        Losses of each epoch.
    folder : Path
        Checkpoints, from which the training can be resumed.
    """

    path: Path
    card: dict[str, Any]
    log: list[dict[str, Any]]
    folder: Path


def train(
    datasets: Path | str | Iterable[Path | str],
    out: Path | str,
    *,
    architecture: str = "two-stream",
    filters: int = 8,
    activation: str = "relu",
    shared_streams: bool = True,
    output: str = "log_alpha",
    weight_decay: float = 1e-4,
    initial: TrainedNetwork | Path | str | None = None,
    learning_rate: float = 5e-4,
    decay_epochs: int | None = None,
    batch_size: int = 16,
    epochs: int = 1000,
    patience: int = 50,
    augment: bool = True,
    smoothing: float = 0.0,
    contrast: float = 0.0,
    exchange: bool = False,
    balanced: bool = False,
    fractions: Sequence[float] = FRACTIONS,
    keep: str = "best",
    precision: str = "auto",
    deterministic: bool = False,
    license: str = "",
    seed: int = 0,
    callback: Callable[[int, int], object] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Train a network and write its weights to a file with a model card.

    A checkpoint is written after every epoch to a folder beside the model (``NAME.training``). The
    same call resumes an interrupted training and reaches the same weights as an uninterrupted one.
    If CuPy was used in this process, the unused blocks of its memory pools are freed first.

    Parameters
    ----------
    datasets : path or iterable of paths
        Folders of `label_pairs` or `simulate_pairs`, whose splits by subject are kept, or of
        `make_bullseye_dataset`, whose pairs are independent and are split at random.
    out : path
        File of the model, ``NAME.keras``.
    architecture, filters, activation, shared_streams, output, weight_decay
        As in `build_network`. The loss is the squared error of `output`.
    initial : TrainedNetwork, str or path, optional
        Network whose weights training starts from (str or path as in `load_model`). Its
        architecture, filters, activation, streams and output replace the arguments above.
    learning_rate : float
        Initial learning rate of Adam.
    decay_epochs : int, optional
        Epochs in which the learning rate decays to a hundredth along a half cosine; constant by
        default.
    batch_size : int
    epochs : int
        Maximum number of epochs.
    patience : int
        Training stops after this many epochs without a smaller validation loss.
    augment, smoothing, contrast, exchange
        As in `PairSequence`.
    balanced : bool
        Weight the training pairs so that each kind (labeled, simulated, bull-eye) has the same
        total weight, however many pairs it has.
    fractions : (train, validation, test)
        Fractions of the random split.
    keep : {"best", "last"}
        Epoch whose weights are written: the one of the smallest validation loss, or the last. With
        few people in the validation split the best of many epochs is there by chance; with
        `decay_epochs` the last ones hardly differ.
    precision : {"auto", "float32", "mixed_float16", "mixed_bfloat16"}
        "auto" is mixed_float16 on a GPU and float32 on a CPU.
    deterministic : bool
        Use deterministic operations of the Keras backend where they exist (slower), so that the
        same seed gives the same weights.
    license : str
        License of the data, for the model card.
    seed : int
        Seed of initial weights, random split, shuffling and augmentation.
    callback : callable, optional
        Called with (completed epochs, `epochs`).
    callbacks : sequence of keras.callbacks.Callback

    Returns
    -------
    TrainingResult

    Raises
    ------
    InputError
        An argument is out of range; there are no usable pairs; a subject is in two splits; the
        train or validation split is empty; the folder is of a training with other arguments;
        `initial` has another grid or was trained on subjects of the validation or test split.
    RuntimeError
        The validation loss was never finite.
    """
    release_memory()
    out = Path(out)
    checks.choice("output", output, OUTPUTS)
    checks.choice("keep", keep, KEPT)
    options = {
        "learning_rate": float(learning_rate),
        "decay_epochs": decay_epochs,
        "batch_size": batch_size,
        "augment": augment,
        "smoothing": _not_negative("smoothing", smoothing),
        "contrast": _not_negative("contrast", contrast),
        "exchange": exchange,
        "balanced": balanced,
        "precision": precision,
    }
    _check_arguments(out, options, epochs, patience)
    splits, conditions = read_splits(datasets, fractions, seed)
    start = None if initial is None else load_initial(initial, splits, conditions)
    network: dict[str, Any] = {
        "architecture": architecture,
        "filters": filters,
        "activation": activation,
        "shared_streams": shared_streams,
        "output": output,
        "weight_decay": float(weight_decay),
        **_output_scaling(splits["train"]),
        "seed": seed,
    }
    if start is not None:
        network |= {k: v for k, v in start.card["network"].items() if k not in NOT_INHERITED}
    training = _training_record(options, splits, conditions, start)
    build = functools.partial(build_network, conditions.shape, **network)
    build()  # raises on invalid arguments before anything is written
    folder = out.with_suffix(".training")
    folder.mkdir(parents=True, exist_ok=True)
    ensure_header(folder / HEADER, {**network, **training}, "out")
    keras.utils.set_random_seed(seed)
    if deterministic:
        make_deterministic()
    state, model = load_checkpoint(folder)
    checkpoint = Checkpoint(folder, patience, state, build, epochs, callback)
    if not checkpoint.finished:
        model = model or compile_network(build, training, start)
        fit(model, splits, network, training, checkpoint, callbacks)
    trained = _load_best(folder, state) if keep == "best" else _load_last(folder, build)
    card = build_card(trained, splits, conditions, network, training, state)
    card = {"name": out.stem, **card, "kept_epoch": keep, "licence": license}
    save_with_card(trained, out, card)
    return TrainingResult(out, card, state["rows"], folder)


def _check_arguments(out: Path, options: Mapping[str, Any], epochs: int, patience: int) -> None:
    """Check the arguments of `train` that are not those of `build_network`."""
    if out.suffix != ".keras":
        raise InputError(f"out: expected a name ending in .keras; got {out}")
    if options["decay_epochs"] is not None:
        checks.count("decay_epochs", options["decay_epochs"])
    checks.choice("precision", options["precision"], PRECISIONS)
    checks.positive("learning_rate", options["learning_rate"])
    checks.count("epochs", epochs)
    checks.count("patience", patience)
    checks.count("batch_size", options["batch_size"])


def _not_negative(name: str, value: float) -> float:
    return 0.0 if value == 0 else checks.positive(name, float(value))


def _output_scaling(examples: Sequence[Example]) -> dict[str, float]:
    """Mean and scale of ln α, keywords of `build_network`."""
    logs = np.log([example.alpha for example in examples])
    return {"mean": float(logs.mean()), "scale": float(max(logs.std(), MIN_SCALE))}


def _training_record(
    options: Mapping[str, Any],
    splits: Mapping[str, Sequence[Example]],
    conditions: Conditions,
    start: TrainedNetwork | None,
) -> dict[str, Any]:
    """Options and data of a training as plain JSON values, for its header and the card."""
    return {
        **options,
        "precision": precision_policy(options["precision"]),
        "pairs": {name: len(examples) for name, examples in splits.items()},
        "data_sha256": digest(splits),
        "conditions": json.loads(json.dumps(conditions._asdict())),
        "initial": None if start is None else initial_record(start),
    }


def _load_best(folder: Path, state: Mapping[str, Any]) -> keras.Model:
    """Network with the weights of the smallest validation loss."""
    if state["best"] is None:
        raise InputError(
            "learning_rate: the validation error was never a finite number; use a smaller one, or "
            "precision='float32'"
        )
    return keras.models.load_model(folder / BEST)


def _load_last(folder: Path, build: Callable[[], keras.Model]) -> keras.Model:
    """Network with the weights of the last epoch, in single precision and without optimizer."""
    _, model = load_checkpoint(folder)
    assert model is not None
    last = build()
    last.set_weights(model.get_weights())
    return last

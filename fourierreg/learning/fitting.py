"""Optimization of the weights: precision, optimizer, loss weights, and epochs from a checkpoint."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from fourierreg.learning.checkpoint import Checkpoint
from fourierreg.learning.examples import Example
from fourierreg.learning.pretrained import TrainedNetwork
from fourierreg.learning.sequence import PairSequence

FINAL_RATE = 0.01  # final learning rate of the cosine decay, relative to the first


def compile_network(
    build: Callable[[], keras.Model],
    training: Mapping[str, Any],
    initial: TrainedNetwork | None,
) -> keras.Model:
    """Build a network in the precision of the training and compile it with Adam.

    Parameters
    ----------
    build : callable
        Builds the network.
    training : mapping
        Options of the training: `precision`, `learning_rate`, `decay_epochs`, `batch_size`, and
        the numbers of `pairs`.
    initial : TrainedNetwork, optional
        Network whose weights to start from; random by default.
    """
    default_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(training["precision"])
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy(default_policy)
    if initial is not None:
        model.set_weights(initial.network.get_weights())
    rate = training["learning_rate"]
    if training["decay_epochs"] is not None:
        batches = math.ceil(training["pairs"]["train"] / training["batch_size"])
        rate = keras.optimizers.schedules.CosineDecay(
            rate, training["decay_epochs"] * batches, alpha=FINAL_RATE
        )
    optimizer = keras.optimizers.Adam(rate)
    if training["precision"] == "mixed_float16":  # explicit, so that the saved network contains it
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss="mse", metrics=["mse"])
    return model


def fit(
    model: keras.Model,
    splits: Mapping[str, Sequence[Example]],
    network: Mapping[str, Any],
    training: Mapping[str, Any],
    checkpoint: Checkpoint,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train a network from the epoch of its checkpoint on.

    Parameters
    ----------
    model : keras.Model
        Compiled; the checkpoint's network in a resumed training.
    splits : mapping
        Examples of each split.
    network, training : mapping
        Keywords of `build_network`, and options of the training.
    checkpoint : Checkpoint
    callbacks : sequence of keras.callbacks.Callback
    """
    options = {"batch_size": training["batch_size"], "output": network["output"]}
    shape = training["conditions"]["shape"]
    completed = checkpoint.state["epoch"]
    batches = PairSequence(
        splits["train"],
        shape,
        shuffle=True,
        augment=training["augment"],
        smoothing=training["smoothing"],
        contrast=training["contrast"],
        exchange=training["exchange"],
        weights=balancing_weights(splits["train"]) if training["balanced"] else None,
        seed=network["seed"],
        epoch=completed,
        **options,
    )
    model.fit(
        batches,
        validation_data=PairSequence(splits["validation"], shape, **options),
        initial_epoch=completed,
        epochs=checkpoint.epochs,
        callbacks=[checkpoint, *callbacks],
        shuffle=False,  # PairSequence shuffles
        verbose=0,
    )


def balancing_weights(examples: Sequence[Example]) -> list[float]:
    """Weights with mean 1 whose sum is the same for every kind of example."""
    counts = Counter(example.origin for example in examples)
    return [len(examples) / (len(counts) * counts[example.origin]) for example in examples]


def precision_policy(precision: str) -> str:
    """Keras dtype policy; "auto" is mixed_float16 on a GPU and float32 on a CPU."""
    if precision != "auto":
        return precision
    return "mixed_float16" if _has_gpu() else "float32"


def _has_gpu() -> bool:
    """Whether the Keras backend computes on a GPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import torch

    return torch.cuda.is_available()


def make_deterministic() -> None:
    """Make the operations of the Keras backend deterministic, where it can."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)

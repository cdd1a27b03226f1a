"""Predict α of a pair of images by a network, with an error bar and optional refinement."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fourierreg import checks
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import read_image
from fourierreg.errors import InputTypeError
from fourierreg.learning.appearance import statistics_of
from fourierreg.learning.inputs import check_sigma, prepare_pair
from fourierreg.learning.interpretation import Prediction, interpret
from fourierreg.learning.pretrained import TrainedNetwork, load_model
from fourierreg.learning.refinement import refine_prediction, trained_settings
from fourierreg.learning.sequence import stack_pairs
from fourierreg.model.model import MODEL_KEYWORDS, model_of


def predict_alpha(
    network: TrainedNetwork | Path | str,
    source: Any,
    target: Any,
    *,
    spacing: float | Sequence[float] | None = None,
    sigma: float | str | None = None,
    refine: bool = False,
    **settings: Any,
) -> Prediction:
    """Predict α of a pair of images.

    Parameters
    ----------
    network : TrainedNetwork, str or path
        A network, or its name or path as in `load_model`.
    source, target : arrays (N_1, …, N_d), or nibabel images
        Prepared like the training images of the network (see its card). 3D images are resampled to
        the network's grid and normalized like those; 2D images are used as they are.
    spacing : float or sequence of float, optional
        mm per voxel of arrays.
    sigma : float or "estimate", optional
        Noise level for which α is wanted; an error if the network was trained for another.
    refine : bool
        Run `map_alpha` as for the labels of the training. The prediction is accepted if the
        interval of this estimate contains it.
    **settings
        Keywords of `map_alpha` for the refinement.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        The network cannot be loaded, or was trained for another dimension, field of view or noise
        level.
    InputTypeError
        `settings` without `refine`, or an array and a nibabel image.
    """
    began = time.perf_counter()
    network = _loaded(network)
    if settings and not refine:
        raise InputTypeError(f"{', '.join(settings)}: expected with refine=True only")
    check_sigma(network, sigma)
    pair = prepare_pair(network, source, target, spacing)
    prediction = predict_batch(network, [pair])[0]
    if refine:
        trained = trained_settings(network.card, sigma)
        if "model" in settings:  # in place of that of the training
            settings["model"] = model_of(settings["model"]).to_dict()
            trained = {k: v for k, v in trained.items() if k not in ("model", *MODEL_KEYWORDS)}
        options = {**trained, **settings}
        prediction = refine_prediction(prediction, source, target, spacing, options)
    return replace(prediction, seconds=time.perf_counter() - began)


def predict_pairs(
    network: TrainedNetwork | Path | str,
    pairs: Iterable[Pair],
    *,
    sigma: float | str | None = None,
    batch_size: int = 8,
    callback: Callable[[int, int], object] | None = None,
) -> list[Prediction | Exception]:
    """Predict α of many pairs of files.

    Parameters
    ----------
    network : TrainedNetwork, str or path
        As in `predict_alpha`.
    pairs : iterable of Pair
        As returned by `read_pairs`.
    sigma : float or "estimate", optional
        As in `predict_alpha`.
    batch_size : int
        Number of pairs that are read and predicted at a time.
    callback : callable, optional
        Called with (completed pairs, all pairs).

    Returns
    -------
    list of Prediction or Exception
        For a pair that cannot be read or that the network does not fit, the exception.

    Raises
    ------
    InputError
        The network cannot be loaded or was trained for another noise level, or `batch_size` is
        not a positive integer.
    """
    network = _loaded(network)
    check_sigma(network, sigma)
    pairs = list(pairs)
    results: list[Prediction | Exception] = []
    for start in range(0, len(pairs), checks.count("batch_size", batch_size)):
        batch = pairs[start : start + batch_size]
        images = [_read_pair(network, pair) for pair in batch]
        began = time.perf_counter()
        predictions = iter(
            predict_batch(network, [x for x in images if not isinstance(x, Exception)])
        )
        seconds = (time.perf_counter() - began) / len(batch)
        results += [
            x if isinstance(x, Exception) else replace(next(predictions), seconds=seconds)
            for x in images
        ]
        if callback is not None:
            callback(len(results), len(pairs))
    return results


def predict_batch(
    network: TrainedNetwork, pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[Prediction]:
    """Predict α of pairs of arrays on the network's grid, in one batch."""
    if not pairs:
        return []
    features: Any = [None] * len(pairs)
    statistics: Any = features
    if network.card.get("appearance") is not None:
        statistics = [statistics_of(*pair) for pair in pairs]
    if network.card.get("novelty") is None:
        outputs = network.network(stack_pairs(pairs))
    else:
        features, outputs = network.with_features(stack_pairs(pairs))
        features = _to_host(features)
    values = _to_host(outputs)[:, 0]
    return [
        interpret(network.card, float(value), own, looks)
        for value, own, looks in zip(values, features, statistics, strict=True)
    ]


def _to_host(tensor: Any) -> Any:
    return keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor))


def _loaded(network: TrainedNetwork | Path | str) -> TrainedNetwork:
    return network if isinstance(network, TrainedNetwork) else load_model(network)


def _read_pair(network: TrainedNetwork, pair: Pair) -> tuple[np.ndarray, np.ndarray] | Exception:
    """Images of a pair on the network's grid, or the exception if that fails."""
    try:
        source, target = read_image(pair.source, "source"), read_image(pair.target, "target")
        return prepare_pair(network, source, target, None)
    except (ValueError, TypeError, OSError) as error:
        return error

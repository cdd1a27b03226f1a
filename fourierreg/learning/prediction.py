"""Predict α of a pair of images by a network, with an error bar and optional refinement."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fourierreg import checks
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import read_image
from fourierreg.errors import InputTypeError
from fourierreg.learning.inputs import check_sigma, prepare_pair
from fourierreg.learning.pretrained import TrainedNetwork, load_model
from fourierreg.learning.scores import ALL, SMALLEST_ALPHA
from fourierreg.learning.sequence import stack_pairs
from fourierreg.model.model import MODEL_KEYWORDS, model_of
from fourierreg.registration.map_alpha import map_alpha
from fourierreg.registration.result import Registration

EDGE = 0.05  # fraction of the range of ln α at each end in which a prediction is "at the edge"


@dataclass(frozen=True)
class Prediction:
    """Predicted or refined α of a pair of images.

    Attributes
    ----------
    alpha : float
        The refined estimate, or the prediction if it was not refined.
    predicted : float
        Prediction of the network.
    interval : (float, float)
        95 % interval of `alpha`. That of a prediction is the 95th percentile of the absolute error
        in ln α on pairs of the same data sets that were held out of training; on other data it may
        be too narrow.
    at_edge : bool
        Whether the prediction is at an end of the range of α in the training data.
    status : str
        A sentence, with a remedy if the result is doubtful.
    seconds : float
    accepted : bool or None
        Whether the refinement converged and its interval contains the prediction; None without
        refinement.
    registration : Registration or None
        Result of the refinement.
    settings : dict or None
        Keywords of `map_alpha` in the refinement.
    """

    alpha: float
    predicted: float
    interval: tuple[float, float]
    at_edge: bool
    status: str
    seconds: float
    accepted: bool | None = None
    registration: Registration | None = None
    settings: dict[str, Any] | None = None


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
        Run `map_alpha` from the prediction. One or two registrations confirm a good prediction;
        otherwise the search continues to the full estimate.
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
        trained = _trained_settings(network.card, sigma)
        if "model" in settings:  # in place of that of the training
            settings["model"] = model_of(settings["model"]).to_dict()
            trained = {k: v for k, v in trained.items() if k not in ("model", *MODEL_KEYWORDS)}
        options = {**trained, **settings}
        prediction = _refine(prediction, source, target, spacing, options)
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
    outputs = keras.ops.stop_gradient(network.network(stack_pairs(pairs)))
    values = keras.ops.convert_to_numpy(outputs)
    return [_prediction(network.card, float(value)) for value in values[:, 0]]


def _loaded(network: TrainedNetwork | Path | str) -> TrainedNetwork:
    return network if isinstance(network, TrainedNetwork) else load_model(network)


def _read_pair(network: TrainedNetwork, pair: Pair) -> tuple[np.ndarray, np.ndarray] | Exception:
    """Images of a pair on the network's grid, or the exception if that fails."""
    try:
        source, target = read_image(pair.source, "source"), read_image(pair.target, "target")
        return prepare_pair(network, source, target, None)
    except (ValueError, TypeError, OSError) as error:
        return error


def _prediction(card: Mapping[str, Any], output: float) -> Prediction:
    """Prediction with its interval and status, from the output of the network."""
    is_log = card["network"]["output"] == "log_alpha"
    log_alpha = output if is_log else math.log(max(output, SMALLEST_ALPHA))
    low, high = (math.log(a) for a in card["alpha_range"])
    margin = EDGE * (high - low)
    at_edge = not low + margin <= log_alpha <= high - margin
    scores = card["scores"].get("test", card["scores"]["validation"])[ALL]
    error = scores["absolute_error_95"]
    alpha = math.exp(log_alpha)
    interval = math.exp(log_alpha - error), math.exp(log_alpha + error)
    status = (
        f"Predicted: alpha = {alpha:.3g}, 95 % interval {interval[0]:.3g} to {interval[1]:.3g}."
    )
    if at_edge:
        status = (
            f"Predicted alpha = {alpha:.3g} is at the edge of the range of the training data "
            f"({card['alpha_range'][0]:.3g} to {card['alpha_range'][1]:.3g}); refine it, or use "
            "map_alpha."
        )
    return Prediction(alpha, alpha, interval, at_edge, status, 0.0)


def _trained_settings(card: Mapping[str, Any], sigma: float | str | None) -> dict[str, Any]:
    """Keywords of `map_alpha` with which the network's training pairs were labeled or simulated."""
    if sigma is None:
        known = card["sigma"]
        sigma = known[0] if len(known) == 1 else "estimate"
    settings = {
        "sigma": sigma,
        "velocity_scale": card["velocity_scale_mm"],
        "modes": tuple(card["modes"]),
        "model": {
            "reference_length": card["reference_length_mm"],
            **{name: card[name] for name in ("power", "dynamics") if name in card},
        },
    }
    if "marginal" not in card["labels"] and "joint" in card["labels"]:
        settings["posterior"] = "joint"
    return settings


def _refine(
    prediction: Prediction,
    source: Any,
    target: Any,
    spacing: float | Sequence[float] | None,
    settings: Mapping[str, Any],
) -> Prediction:
    """Refine a prediction by `map_alpha` started from it.

    Far from the optimum the posterior is flat, so that a search that starts from a wrong prediction
    may fail; it is then repeated from the default start.
    """
    settings = {"posterior": "marginal", **settings}
    used = {"alpha0": prediction.predicted, **settings}
    result = map_alpha(source, target, spacing=spacing, **used)
    if not result.converged and "alpha0" not in settings:
        used = dict(settings)
        result = map_alpha(source, target, spacing=spacing, **used)
    interval = result.alpha_interval or (math.nan, math.nan)
    accepted = bool(result.converged and interval[0] <= prediction.predicted <= interval[1])
    return replace(
        prediction,
        alpha=result.alpha,
        interval=interval,
        accepted=accepted,
        status=_refined_status(prediction.predicted, accepted, result, interval),
        registration=result,
        settings={name: value for name, value in used.items() if name != "callback"},
    )


def _refined_status(
    predicted: float, accepted: bool, result: Registration, interval: tuple[float, float]
) -> str:
    if not result.converged:
        return result.status
    low, high = interval
    if accepted:
        return (
            f"Accepted: the prediction of {predicted:.3g} is in the 95 % interval of the estimate, "
            f"{result.alpha:.3g} ({low:.3g} to {high:.3g})."
        )
    return (
        f"Not accepted: the prediction of {predicted:.3g} is outside the 95 % interval of the full "
        f"estimate, {result.alpha:.3g} ({low:.3g} to {high:.3g}), which replaces it."
    )

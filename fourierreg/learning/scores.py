"""Errors of predicted α on examples that were not used for training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from scipy.stats import spearmanr

from fourierreg.learning.examples import Example
from fourierreg.learning.sequence import PairSequence

LEVEL = 0.95  # of the interval of a prediction
ALL = "all"  # key of the scores over all kinds of examples
SMALLEST_ALPHA = 1e-6  # outputs of networks that predict α itself are clipped here


def predict_log_alpha(
    model: keras.Model,
    examples: Sequence[Example],
    shape: Sequence[int],
    output: str,
    batch_size: int = 4,
) -> np.ndarray:
    """Predict ln α of examples by a network with the given output."""
    batches = PairSequence(examples, shape, batch_size=batch_size, output=output)
    values = np.asarray(model.predict(batches, verbose=0), dtype=np.float64)[:, 0]
    return values if output == "log_alpha" else np.log(np.maximum(values, SMALLEST_ALPHA))


def mean_log_alphas(examples: Sequence[Example]) -> dict[str, float]:
    """Mean ln α over all training examples ("all") and over each kind.

    These constants are the baseline that predictions are compared with.
    """
    logs = np.log([example.alpha for example in examples])
    kinds = np.array([example.origin for example in examples])
    per_kind = {str(kind): float(logs[kinds == kind].mean()) for kind in set(kinds)}
    return {ALL: float(logs.mean()), **per_kind}


def score(
    model: keras.Model,
    examples: Sequence[Example],
    shape: Sequence[int],
    output: str,
    baselines: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Error statistics over all examples of a split and, if there are several kinds, over each.

    Parameters
    ----------
    model : keras.Model
    examples : sequence of Example
    shape : sequence of int
        Grid of the network.
    output : {"log_alpha", "alpha"}
        As in `build_network`.
    baselines : mapping
        `mean_log_alphas` of the training examples; a kind without its own uses that of all.

    Returns
    -------
    dict
        `error_statistics` of "all" and of each kind.
    """
    predicted = predict_log_alpha(model, examples, shape, output)
    truth = np.log([example.alpha for example in examples])
    kinds = np.array([example.origin for example in examples])
    scores = {ALL: error_statistics(predicted, truth, baselines[ALL])}
    if len(set(kinds)) > 1:
        for kind in sorted(set(kinds)):
            chosen = kinds == kind
            baseline = baselines.get(str(kind), baselines[ALL])
            scores[str(kind)] = error_statistics(predicted[chosen], truth[chosen], baseline)
    return scores


def conformal_half_width(errors: np.ndarray, level: float = LEVEL) -> dict[str, Any]:
    """Half width of an interval of ln α that covers unseen pairs at a rate, from errors of others.

    It is the smallest error that at least ⌈(n + 1) level⌉ of the n errors do not exceed (split
    conformal prediction), or with fewer than 1/(1 − level) − 1 of them the largest, which covers
    at n/(n + 1) only.

    Parameters
    ----------
    errors : array
        In ln α, of pairs of people that training has not seen.
    level : float

    Returns
    -------
    dict
        ``half_width``, ``level`` and the number of ``pairs``, for the model card.
    """
    ordered = np.sort(np.abs(errors))
    rank = min(math.ceil((len(ordered) + 1) * level), len(ordered))
    reached = min(level, rank / (len(ordered) + 1))
    return {
        "half_width": float(ordered[rank - 1]),
        "level": round(reached, 4),
        "pairs": len(ordered),
    }


def error_statistics(predicted: np.ndarray, truth: np.ndarray, constant: float) -> dict[str, Any]:
    """Statistics of the error in ln α, and the mean squared error of a constant prediction.

    `r_squared` is relative to the variance of `truth` itself. It and `spearman` are None if `truth`
    does not vary or has fewer than three values.
    """
    error = predicted - truth
    variance = float(np.var(truth))
    varies = variance > 0 and len(truth) > 2
    return {
        "pairs": len(truth),
        "mse": float(np.mean(error**2)),
        "mse_of_constant": float(np.mean((constant - truth) ** 2)),
        "median_absolute_error": float(np.median(abs(error))),
        "absolute_error_95": float(np.percentile(abs(error), 95)),
        "bias": float(np.mean(error)),
        "r_squared": 1 - float(np.mean(error**2)) / variance if varies else None,
        "spearman": _rank_correlation(predicted, truth) if varies else None,
    }


def _rank_correlation(predicted: np.ndarray, truth: np.ndarray) -> float:
    if np.ptp(predicted) == 0:
        return 0.0
    return float(spearmanr(predicted, truth).statistic)

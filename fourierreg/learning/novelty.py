"""How unlike the training pairs a pair is, by the features of a network and by how it looks.

The features are those that the last layer sees, the averages over voxels. Along the principal
directions of the training features a distance is relative to their standard deviation there, and
across them to the rms distance of the training features from those directions. How a pair looks is
in `appearance`: a network does not see what did not matter in its training.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from fourierreg.learning.examples import Example
from fourierreg.learning.sequence import PairSequence

LAYER = "average"  # of every architecture of `build_network`
DIRECTIONS = 8  # at most
MIN_SHARE = 1e-4  # of the variance, along a direction
RATE = 0.01  # of held-out pairs that lie beyond the threshold
MIN_PAIRS = 4  # of the training; with fewer there is no score


def feature_network(network: keras.Model) -> keras.Model:
    """The network up to its features, with its output beside them."""
    return keras.Model(network.inputs, [network.get_layer(LAYER).output, network.outputs[0]])


def features_of(
    network: keras.Model, examples: Sequence[Example], shape: Sequence[int], batch_size: int = 4
) -> np.ndarray:
    """Features of examples, (pairs, features)."""
    batches = PairSequence(examples, shape, batch_size=batch_size)
    found = feature_network(network).predict(batches, verbose=0)[0]
    return np.asarray(found, dtype=np.float64)


def describe(training: np.ndarray, held_out: np.ndarray) -> dict[str, Any] | None:
    """What `novelty` needs, for a model card; None with too few pairs.

    Parameters
    ----------
    training, held_out : array, (pairs, features)
        The threshold is the score that `RATE` of the latter exceed.
    """
    if len(training) < MIN_PAIRS or not len(held_out):
        return None
    mean = training.mean(axis=0)
    _, singular, directions = np.linalg.svd(training - mean, full_matrices=False)
    variances = singular**2 / (len(training) - 1)
    count = int(np.sum(variances[:DIRECTIONS] > MIN_SHARE * variances.sum()))
    directions, deviations = directions[:count], np.sqrt(variances[:count])
    across = training - mean - (training - mean) @ directions.T @ directions
    record: dict[str, Any] = {
        "mean": _rounded(mean),
        "directions": [_rounded(row) for row in directions],
        "deviations": _rounded(deviations),
        "across": max(float(np.sqrt(np.mean(np.sum(across**2, axis=1)))), 1e-6),
        "threshold": 1.0,
    }
    scores = [novelty(record, row) for row in held_out]
    threshold = float(np.quantile(scores, 1 - RATE))
    if not threshold > 0:  # features that do not vary
        return None
    record["threshold"] = threshold
    record["held_out_pairs"] = len(held_out)
    return record


def novelty(record: Mapping[str, Any], features: np.ndarray) -> float:
    """Distance of the features of a pair from those of the training, relative to the threshold.

    Parameters
    ----------
    record : mapping
        As returned by `describe`.
    features : array, (features,)
    """
    offset = np.asarray(features, dtype=np.float64) - np.asarray(record["mean"])
    directions = np.asarray(record["directions"]).reshape(-1, offset.size)
    along = directions @ offset
    across = float(np.linalg.norm(offset - along @ directions)) / record["across"]
    scaled = along / np.asarray(record["deviations"])
    inside = math.sqrt(float(np.mean(scaled**2))) if scaled.size else 0.0
    return max(inside, across) / record["threshold"]


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]

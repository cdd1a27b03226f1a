"""How a pair of images looks, by statistics with names: what the features of a network miss.

A network ignores what does not matter for α within its training: brightness, contrast, shading.
Outside of the training it ignores them too. Each statistic is compared with the range that it has
over the training pairs, on its own, so that a person can be told which one is unusual.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from fourierreg.image.foreground import background_of
from fourierreg.learning.examples import Example, read_example

OF_AN_IMAGE = ("brightness", "contrast", "skewness", "detail", "edges", "shading", "size")
OF_A_PAIR = ("difference", "unshared variance", "unshared foreground")
NAMES = tuple(f"{x} of the {end}" for end in ("source", "target") for x in OF_AN_IMAGE) + tuple(
    f"{x} of the images" for x in OF_A_PAIR
)
FINE, COARSE, SHADING = 1 / 64, 1 / 32, 1 / 10  # widths of Gaussians, of the field of view
TRUNCATE = 2.5  # standard deviations
BACKGROUND = 0.05  # of the intensities: interpolation leaves less around a brain
FLOOR = 1e-4  # of the intensities, which are about 1
SMALLEST_SHARE = 1e-2  # of variance or foreground that is not shared
MIN_RANGE = 0.05  # on either side of the median, of statistics that hardly vary
MIN_PAIRS, MAX_PAIRS = 100, 500  # that the ranges are of; with fewer there are none
# Relative to the farthest training pair, what is not yet unlike the training. Held-out pairs of the
# same studies reach 1.4 (benchmarks/tables/predictor_predictions.csv). Those of another study are,
# as they are, at 1.9 in the median (benchmarks/predictor_outsiders.py); blurred ones often pass.
MAX_DISTANCE = 1.5


def statistics_of(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Statistics of a pair on the grid of a network, in the order of `NAMES`, float64.

    Parameters
    ----------
    source, target : array, (N_1, …, N_d)
        As the network gets them, with intensities of about 1.

    Notes
    -----
    Brightness, contrast and skewness are mean, standard deviation and skewness of the foreground.
    The others are logarithms: rms of what a narrow Gaussian removes (detail), rms gradient after a
    wider one (edges), standard deviation of local means (shading), fraction of the voxels (size),
    rms difference of the images, 1 - r² of their correlation r (unshared variance), and 1 - Dice of
    their foregrounds (unshared foreground).
    """
    images = [np.asarray(image, dtype=np.float32) for image in (source, target)]
    masks = [_foreground(image) for image in images]
    inside = masks[0] | masks[1]
    smoothed = [_smooth(image, FINE) for image in images]
    found = [
        value
        for image, smooth, mask in zip(images, smoothed, masks, strict=True)
        for value in _of_an_image(image, smooth, mask)
    ]
    difference = _log(np.sqrt(np.mean((images[0] - images[1])[inside] ** 2)))
    a, b = (image[inside].astype(np.float64) for image in smoothed)
    a, b = a - a.mean(), b - b.mean()
    shared = float(np.mean(a * b)) ** 2 / max(float(np.mean(a**2) * np.mean(b**2)), FLOOR**4)
    dice = 2 * np.sum(masks[0] & masks[1]) / (masks[0].sum() + masks[1].sum())
    unshared = [np.log(max(1 - share, SMALLEST_SHARE)) for share in (shared, dice)]
    return np.array([*found, difference, *unshared])


def _foreground(image: np.ndarray) -> np.ndarray:
    """Voxels that differ from the background; all of an image without one."""
    background = background_of(image)
    if background.threshold < 0:
        return np.ones(image.shape, dtype=bool)
    limit = max(background.threshold, BACKGROUND * background.scale)
    inside = abs(image - background.value) > limit
    return inside if inside.any() else ~inside


def _of_an_image(image: np.ndarray, smooth: np.ndarray, inside: np.ndarray) -> list[float]:
    values = image[inside].astype(np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    skewness = float(np.mean((values - mean) ** 3)) / max(deviation, FLOOR) ** 3
    detail = _log(np.sqrt(np.mean((image - smooth)[inside] ** 2)))
    coarse = _smooth(image, COARSE)
    edges = _log(np.sqrt(np.mean(sum(slope**2 for slope in np.gradient(coarse))[inside])))
    shading = _log(_local_means(coarse, inside).std())
    return [mean, deviation, skewness, detail, edges, shading, _log(inside.mean())]


def _local_means(coarse: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Means over neighborhoods, of an image that is smooth enough to be sampled more coarsely."""
    every = tuple(slice(None, None, max(1, round(COARSE * n))) for n in coarse.shape)
    weight = _smooth(inside.astype(np.float32), COARSE)[every]
    within = weight > 0.5
    if not within.any():
        return np.zeros(1)
    return _smooth(coarse[every], SHADING)[within] / _smooth(weight, SHADING)[within]


def appearance_of(
    examples: Sequence[Example], shape: Sequence[int], exchange: bool = False
) -> dict[str, Any] | None:
    """Range of the statistics over training examples as they are, for a model card; None for few.

    Parameters
    ----------
    examples : sequence of Example
        Of many, some are taken.
    shape : sequence of int
        Grid of the network.
    exchange : bool
        Whether a source may be a target as well. What augmentation else does is not in the ranges.
    """
    if len(examples) < MIN_PAIRS:
        return None
    chosen = np.unique(np.linspace(0, len(examples) - 1, MAX_PAIRS).astype(int))
    pairs = (read_example(examples[index], tuple(shape)) for index in chosen)
    found = np.array([statistics_of(*pair) for pair in pairs])
    if exchange:
        source, target, both = np.split(found, [len(OF_AN_IMAGE), 2 * len(OF_AN_IMAGE)], axis=1)
        found = np.concatenate([found, np.hstack([target, source, both])])
    return training_ranges(found)


def training_ranges(statistics: np.ndarray) -> dict[str, list[float]]:
    """Median of every statistic, and distances of the farthest pair below and above it.

    Parameters
    ----------
    statistics : array, (pairs, statistics)
        Of the training pairs; those that are not finite do not count.
    """
    finite = statistics[np.all(np.isfinite(statistics), axis=1)]
    middle = np.median(finite, axis=0)
    return {
        "middle": _rounded(middle),
        "below": _rounded(np.maximum(middle - finite.min(axis=0), MIN_RANGE)),
        "above": _rounded(np.maximum(finite.max(axis=0) - middle, MIN_RANGE)),
    }


def unlikeness(record: Mapping[str, Any], statistics: np.ndarray) -> tuple[float, str]:
    """How far a pair is from the training pairs, and in what.

    Returns
    -------
    score : float
        Distance of a statistic from the median of the training pairs, relative to `MAX_DISTANCE`
        times that of the farthest of them on the same side: the largest over all statistics.
    what : str
        Words for a message.
    """
    offset = statistics - np.asarray(record["middle"])
    ranges = np.where(offset < 0, np.asarray(record["below"]), np.asarray(record["above"]))
    scores = np.where(np.isfinite(offset), abs(offset) / (MAX_DISTANCE * ranges), np.inf)
    largest = int(np.argmax(scores))
    side = "below" if offset[largest] < 0 else "above"
    score = float(scores[largest])
    return score, f"{NAMES[largest]}: {MAX_DISTANCE * score:.1f} times as far {side} the median"


def _smooth(image: np.ndarray, share: float) -> np.ndarray:
    widths = [share * n for n in image.shape]
    return gaussian_filter(image, widths, mode="nearest", truncate=TRUNCATE)


def _log(value: Any) -> float:
    return float(np.log(max(float(value), FLOOR)))


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]

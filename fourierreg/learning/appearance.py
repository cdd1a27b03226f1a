"""How a pair of images looks, by statistics with names: what the features of a network miss.

A network ignores what does not matter for α within its training: brightness, contrast, shading.
Outside of the training it ignores them too. Each statistic is compared with the range that it has
over the training pairs, on its own, so that a person can be told which one is unusual.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from fourierreg.learning.examples import Example, read_example

OF_AN_IMAGE = ("brightness", "contrast", "skewness", "detail", "edges", "shading", "size")
OF_A_PAIR = ("difference", "correlation", "overlap")
NAMES = tuple(f"{x} of the {end}" for end in ("source", "target") for x in OF_AN_IMAGE) + tuple(
    f"{x} of the images" for x in OF_A_PAIR
)
FINE, COARSE, SHADING = 1 / 64, 1 / 32, 1 / 10  # widths of Gaussians, of the field of view
TRUNCATE = 2.5  # standard deviations
FLOOR = 1e-4  # of the intensities, which are about 1
BACKGROUND = 0.05  # of the intensities: interpolation leaves less around a brain
MAX_PAIRS = 500  # of the training that the ranges are of
MAX_DISTANCE = 2.0  # that is not unlike the training, relative to the farthest training pair


def statistics_of(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Statistics of a pair on the grid of a network, in the order of `NAMES`, float64.

    Parameters
    ----------
    source, target : array, (N_1, …, N_d)
        Normalized, with a background of zeros.

    Notes
    -----
    Brightness, contrast and skewness are mean, standard deviation and skewness of the intensities.
    The others are logarithms: rms of what a narrow Gaussian removes (detail), rms gradient after a
    wider one (edges), deviation of local means (shading), share of voxels (size), rms difference of
    the images, the part of the variance that they do not share (correlation), and that of their
    foregrounds (overlap), one less Dice.
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
    a, b = (image[inside].astype(np.float64) for image in smoothed)
    a, b = a - a.mean(), b - b.mean()
    shared = float(np.mean(a * b)) ** 2 / max(float(np.mean(a**2) * np.mean(b**2)), FLOOR**4)
    difference = _log(np.sqrt(np.mean((images[0] - images[1])[inside] ** 2)))
    overlap = 2 * np.sum(masks[0] & masks[1]) / (masks[0].sum() + masks[1].sum())
    return np.array([*found, difference, _log(1 - shared), _log(1 - overlap)])


def _foreground(image: np.ndarray) -> np.ndarray:
    """Voxels that differ from the background; all of an image without any."""
    inside = abs(image) > BACKGROUND
    return inside if inside.any() else np.ones_like(inside)


def _of_an_image(image: np.ndarray, smooth: np.ndarray, inside: np.ndarray) -> list[float]:
    values = image[inside].astype(np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    skewness = float(np.mean((values - mean) ** 3)) / max(deviation, FLOOR) ** 3
    detail = _log(np.sqrt(np.mean((image - smooth)[inside] ** 2)))
    slopes = sum(slope**2 for slope in np.gradient(_smooth(image, COARSE)))
    edges = _log(np.sqrt(np.mean(slopes[inside])))
    local = _smooth(image, SHADING)[inside] / _smooth(inside.astype(np.float32), SHADING)[inside]
    return [mean, deviation, skewness, detail, edges, _log(local.std()), _log(inside.mean())]


def appearance_of(examples: Sequence[Example], shape: Sequence[int]) -> dict[str, Any]:
    """Range of the statistics over training examples, or over some of many."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, MAX_PAIRS).astype(int))
    read = (read_example(examples[index], tuple(shape)) for index in chosen)
    return describe(np.array([statistics_of(*pair) for pair in read]))


def describe(training: np.ndarray) -> dict[str, Any]:
    """Range of the statistics of the training pairs, for a model card.

    Parameters
    ----------
    training : array, (pairs, statistics)
    """
    middle = np.median(training, axis=0)
    spread = np.maximum(0.05 * abs(middle), 1e-3)  # of a statistic that does not vary
    return {
        "middle": _rounded(middle),
        "below": _rounded(np.maximum(middle - training.min(axis=0), spread)),
        "above": _rounded(np.maximum(training.max(axis=0) - middle, spread)),
    }


def unlikeness(record: Mapping[str, Any], statistics: np.ndarray) -> tuple[float, str]:
    """How far a statistic is from the middle of the training pairs, and the name of the statistic.

    The distance is relative to `MAX_DISTANCE` times that of the farthest training pair on the same
    side. It is that of the statistic for which it is largest.
    """
    offset = statistics - np.asarray(record["middle"])
    reach = np.where(offset < 0, np.asarray(record["below"]), np.asarray(record["above"]))
    scores = abs(offset) / (MAX_DISTANCE * reach)
    largest = int(np.argmax(scores))
    return float(scores[largest]), NAMES[largest]


def _smooth(image: np.ndarray, share: float) -> np.ndarray:
    widths = [share * n for n in image.shape]
    return gaussian_filter(image, widths, mode="nearest", truncate=TRUNCATE)


def _log(value: Any) -> float:
    return float(np.log(max(float(value), FLOOR)))


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]

"""What the output of a network says: α with its interval, and how far it can be trusted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fourierreg.learning.appearance import unlikeness
from fourierreg.learning.novelty import novelty
from fourierreg.learning.scores import ALL, SMALLEST_ALPHA
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
        95 % interval of `alpha`. That of a prediction is conformal: as wide as it must be to cover
        95 % of pairs of people that were held out of training; on other data it may be too narrow.
    at_edge : bool
        Whether the prediction is at an end of the range of α in the training data.
    novelty : float or None
        How unlike the training pairs this one is: above 1 if its features in the network are
        farther from those of the training than in 99 of 100 held-out pairs, or if a statistic of
        its images (brightness, detail, difference, …) is more than 1.5 times as far from the median
        as in any training pair that was looked at. None where the card of the network has neither.
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
    novelty: float | None
    status: str
    seconds: float
    accepted: bool | None = None
    registration: Registration | None = None
    settings: dict[str, Any] | None = None


def interpret(
    card: Mapping[str, Any],
    output: float,
    features: np.ndarray | None = None,
    statistics: np.ndarray | None = None,
) -> Prediction:
    """Prediction of a pair.

    Parameters
    ----------
    card : mapping
        Of the network.
    output : float
        Of the network.
    features : array, optional
        Of the pair, where the card says how those of the training are distributed.
    statistics : array, optional
        Of the pair, likewise (`appearance.statistics_of`).
    """
    is_log = card["network"]["output"] == "log_alpha"
    log_alpha = output if is_log else math.log(max(output, SMALLEST_ALPHA))
    low, high = (math.log(a) for a in card["alpha_range"])
    margin = EDGE * (high - low)
    at_edge = not low + margin <= log_alpha <= high - margin
    unlike, how = _unlikeness(card, features, statistics)
    error, alpha = _half_width(card), math.exp(log_alpha)
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
    if unlike is not None and unlike > 1:
        status = (
            f"Predicted alpha = {alpha:.3g}, but these images are unlike those of the training "
            f"({how}): prepare them as the model card says, refine it, or use map_alpha."
        )
    return Prediction(alpha, alpha, interval, at_edge, unlike, status, 0.0)


def _unlikeness(
    card: Mapping[str, Any], features: np.ndarray | None, statistics: np.ndarray | None
) -> tuple[float | None, str]:
    """Novelty of a pair, None if the card has none, and what it is of."""
    found = []
    if features is not None:
        score = novelty(card["novelty"], features)
        found.append((score, f"{score:.1f} times as far as 99 % of held-out pairs"))
    if statistics is not None:
        score, what = unlikeness(card["appearance"], statistics)
        found.append((score, f"{what} as any training pair"))
    return max(found) if found else (None, "")


def _half_width(card: Mapping[str, Any]) -> float:
    """Half of the interval, in ln α; cards of earlier versions have a percentile of the errors."""
    if "interval" in card:
        return float(card["interval"]["half_width"])
    scores = card["scores"].get("test", card["scores"]["validation"])[ALL]
    return float(scores["absolute_error_95"])

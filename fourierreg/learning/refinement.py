"""Refinement of a prediction by the estimate that its network was trained on."""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fourierreg.learning.interpretation import Prediction
from fourierreg.registration.map_alpha import map_alpha
from fourierreg.registration.result import Registration


def trained_settings(card: Mapping[str, Any], sigma: float | str | None) -> dict[str, Any]:
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


def refine_prediction(
    prediction: Prediction,
    source: Any,
    target: Any,
    spacing: float | Sequence[float] | None,
    settings: Mapping[str, Any],
) -> Prediction:
    """Refine a prediction by `map_alpha`.

    With a given σ the search starts from the prediction, which saves time where α may be anything,
    as on bull-eyes. Far from the optimum the posterior is flat, so that a search that starts from a
    wrong prediction may fail; it is then repeated from the default start. With an estimated σ it
    starts where the labels of the training did: on brains a start from the prediction takes as
    long, and ends elsewhere by up to .14 in ln α (benchmarks/predictor_refine.py).
    """
    settings = {"posterior": "marginal", **settings}
    used = dict(settings)
    if isinstance(settings.get("sigma"), numbers.Real):
        used.setdefault("alpha0", prediction.predicted)
    result = map_alpha(source, target, spacing=spacing, **used)
    if not result.converged and used != settings:
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

"""α of a pair from a network, with an error bar, or a refusal."""

import math
import time
from dataclasses import dataclass, replace

import keras
import numpy as np

from fourierreg import checks
from fourierreg.backend import to_numpy
from fourierreg.data.nifti import read_image
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.geometry import Geometry, is_nibabel
from fourierreg.learning.examples import pair_on_grid
from fourierreg.learning.pretrained import Model, load_model
from fourierreg.learning.scores import WHOLE
from fourierreg.registration.map_alpha import map_alpha
from fourierreg.registration.result import Registration

FIELD_TOLERANCE = 0.01  # of the field of view
SIGMA_TOLERANCE = 0.1  # of σ
EDGE = 0.05  # of the range of ln α


@dataclass(frozen=True)
class Prediction:
    """α of a pair, as a network has it.

    Attributes
    ----------
    alpha : float
        The refined estimate's where there is one.
    predicted : float
        The network's own.
    interval : tuple of float
        95 %: of a refined estimate, its own; of a prediction, from its model's errors on pairs
        held back in training, which it is worth no more than.
    at_edge : bool
        Whether the prediction lies at the end of the range of α the network has seen.
    accepted : bool or None
        Whether a refinement converged and has the prediction inside its interval; None without one.
    status : str
        A sentence, with a remedy where something is doubtful.
    seconds : float
    registration : Registration or None
        Of a refinement.
    settings : dict or None
        Keywords of `map_alpha` that it was made with.
    """

    alpha: float
    predicted: float
    interval: tuple
    at_edge: bool
    status: str
    seconds: float
    accepted: bool | None = None
    registration: Registration | None = None
    settings: dict | None = None


def predict_alpha(model, source, target, *, spacing=None, sigma=None, refine=False, **settings):
    """Predict α of a pair of images.

    Parameters
    ----------
    model : Model, str or path
        As `load_model` takes it.
    source, target : arrays (N_1, …, N_d), or nibabel images
        Prepared as the network's training images were (its card says how). 3D images are resampled
        to the network's grid and scaled as those were; 2D ones are taken as they are.
    spacing : float or sequence of float, optional
        mm per voxel of arrays.
    sigma : float or "estimate", optional
        Noise that α is to be quoted with; refused where the network knows another.
    refine : bool
        Run `map_alpha` from the prediction: where one or two registrations confirm it, it is
        accepted, and where they do not, the search goes on to the full estimate.
    settings
        Keywords of `map_alpha` for the refinement.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError, TypeError
        Another dimension, field of view or σ than the network was trained for; settings without
        `refine`.
    InputError
        A model that cannot be loaded (a ValueError).
    """
    began = time.perf_counter()
    model = model if isinstance(model, Model) else load_model(model)
    if settings and not refine:
        raise InputTypeError(f"{', '.join(settings)}: expected with refine=True only")
    check_sigma(model, sigma)
    pair = _inputs(model, source, target, spacing)
    prediction = predictions(model, [pair])[0]
    prediction = replace(prediction, seconds=time.perf_counter() - began)
    if not refine:
        return prediction
    return _refined(model, prediction, source, target, spacing, sigma, settings, began)


def predict_pairs(model, pairs, *, sigma=None, batch_size=8, callback=None):
    """Predict α for many pairs of files.

    Parameters
    ----------
    model : Model, str or path
    pairs : sequence of Pair
        As of `read_pairs`.
    sigma
        As in `predict_alpha`.
    batch_size : int
        Pairs at a time.
    callback : callable, optional
        Called with (pairs done, all pairs).

    Returns
    -------
    list of Prediction or Exception
        A pair whose files or field of view will not do has an `InputError` or a ValueError
        in its place.

    Raises
    ------
    ValueError
        A model that cannot be loaded, another σ than it was trained for, no batch size.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_sigma(model, sigma)
    pairs, results = list(pairs), []
    for start in range(0, len(pairs), checks.count("batch_size", batch_size)):
        chosen = pairs[start : start + batch_size]
        read = [_read(model, pair) for pair in chosen]
        began = time.perf_counter()
        found = iter(predictions(model, [r for r in read if not isinstance(r, Exception)]))
        each = (time.perf_counter() - began) / len(chosen)
        results += [
            r if isinstance(r, Exception) else replace(next(found), seconds=each) for r in read
        ]
        if callback is not None:
            callback(len(results), len(pairs))
    return results


def _read(model, pair):
    try:
        images = [
            read_image(path, name)
            for path, name in zip(pair[:2], ("source", "target"), strict=True)
        ]
        return _inputs(model, *images, None)
    except (ValueError, TypeError, OSError) as error:
        return error


def check_sigma(model, sigma):
    """Refuse a noise that the network was not trained for."""
    known = model.card["sigma"]
    if sigma is None:
        return
    for value in known:
        if sigma == value:
            return
        both = isinstance(sigma, int | float), isinstance(value, int | float)
        if all(both) and math.isclose(sigma, value, rel_tol=SIGMA_TOLERANCE):
            return
    words = " or ".join(str(value) for value in known)
    raise InputError(
        f"sigma: the network was trained for {words}; got {sigma}: use map_alpha, or train a "
        "network on such pairs"
    )


def _inputs(model, source, target, spacing):
    """Both images on the network's grid, or a line on why they cannot be."""
    shape, field = model.shape, model.field_of_view
    if is_nibabel(source) != is_nibabel(target):
        raise InputTypeError(
            "source, target: expected two arrays or two nibabel images; got one of each"
        )
    if is_nibabel(source):
        if spacing is not None:
            raise InputError("spacing: nibabel images bring their own; leave it out")
        _check_field("target", Geometry.of(target).shape, Geometry.of(target).spacing, field)
        return pair_on_grid(source, target, shape)
    arrays = [
        to_numpy(checks.image(name, image))
        for name, image in (("source", source), ("target", target))
    ]
    checks.same_shape("source", arrays[0], "target", arrays[1])
    if arrays[1].ndim == len(shape):
        spacing = checks.spacing(spacing, len(shape))
    _check_field("target", arrays[1].shape, spacing, field)
    if len(shape) == 2:
        if arrays[1].shape != shape:
            raise InputError(f"target: expected the network's shape {shape}; got {arrays[1].shape}")
        return tuple(arrays)
    import nibabel as nib

    affine = np.diag([*spacing, 1.0])
    return pair_on_grid(*(nib.Nifti1Image(a, affine) for a in arrays), shape)


def _check_field(name, shape, spacing, field):
    if len(shape) != len(field):
        raise InputError(
            f"{name}: the network was trained on {len(field)}D images; got a shape of {shape}"
        )
    found = [n * h for n, h in zip(shape, spacing, strict=True)]
    if not np.allclose(found, field, rtol=FIELD_TOLERANCE):
        here, there = (" × ".join(f"{x:.4g}" for x in lengths) for lengths in (found, field))
        raise InputError(
            f"{name}: the network was trained on a field of view of {there} mm; got {here} mm: "
            "bring the images onto such a cube (fourierreg prepare), or use map_alpha"
        )


def predictions(model, pairs):
    """`Prediction` of every pair that lies on the network's grid."""
    if not pairs:
        return []
    inputs = {
        name: np.stack([pair[place] for pair in pairs])[..., None].astype(np.float32)
        for place, name in enumerate(("source", "target"))
    }
    values = keras.ops.convert_to_numpy(keras.ops.stop_gradient(model.network(inputs)))
    return [_prediction(model.card, float(value)) for value in values[:, 0]]


def _prediction(card, value):
    """From the network's number to α with an interval and a sentence."""
    log_alpha = value if card["network"]["output"] == "log_alpha" else math.log(max(value, 1e-6))
    low, high = (math.log(a) for a in card["alpha_range"])
    margin = EDGE * (high - low)
    at_edge = not low + margin <= log_alpha <= high - margin
    scores = card["scores"].get("test", card["scores"]["validation"])[WHOLE]
    reach = scores["absolute_error_95"]
    alpha = math.exp(log_alpha)
    interval = math.exp(log_alpha - reach), math.exp(log_alpha + reach)
    status = (
        f"Predicted: alpha = {alpha:.3g}, 95 % interval {interval[0]:.3g} to {interval[1]:.3g}."
    )
    if at_edge:
        status = (
            f"Predicted alpha = {alpha:.3g} lies at the edge of what the network has seen "
            f"({card['alpha_range'][0]:.3g} to {card['alpha_range'][1]:.3g}); refine it, or use "
            "map_alpha."
        )
    return Prediction(alpha, alpha, interval, at_edge, status, 0.0)


def _refined(model, prediction, source, target, spacing, sigma, settings, began):
    """The prediction accepted by `map_alpha` started from it, or the full estimate.

    Far from the truth the posterior is flat, and a search that starts there may end there: where
    it comes to nothing, the estimate starts where it always does.
    """
    if sigma is None:
        numbers = [value for value in model.card["sigma"] if value != "estimate"]
        sigma = numbers[0] if len(numbers) == len(model.card["sigma"]) == 1 else "estimate"
    trained = {
        "velocity_scale": model.card["velocity_scale_mm"],
        "reference_length": model.card["reference_length_mm"],
        "modes": tuple(model.card["modes"]),
        **{name: model.card[name] for name in ("power", "dynamics") if name in model.card},
    }
    if "marginal" not in model.card["labels"] and "joint" in model.card["labels"]:
        trained["posterior"] = "joint"
    given = {"sigma": sigma, **trained, **settings}
    settings = {"alpha0": prediction.predicted, **given}
    result = map_alpha(source, target, spacing=spacing, **settings)
    if not result.converged and "alpha0" not in given:
        settings = given
        result = map_alpha(source, target, spacing=spacing, **settings)
    low, high = result.alpha_interval
    accepted = bool(result.converged and low <= prediction.predicted <= high)
    if not result.converged:
        status = result.status
    elif accepted:
        status = (
            f"Accepted: the prediction of {prediction.predicted:.3g} lies in the 95 % interval of "
            f"the estimate, {result.alpha:.3g} ({low:.3g} to {high:.3g})."
        )
    else:
        status = (
            f"Not accepted: the prediction of {prediction.predicted:.3g} lies outside the 95 % "
            f"interval of the full estimate, {result.alpha:.3g} ({low:.3g} to {high:.3g}), which "
            "stands instead."
        )
    return replace(
        prediction,
        alpha=result.alpha,
        interval=result.alpha_interval,
        accepted=accepted,
        status=status,
        seconds=time.perf_counter() - began,
        registration=result,
        settings={name: value for name, value in settings.items() if name != "callback"},
    )

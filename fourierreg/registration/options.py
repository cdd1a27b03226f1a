"""Options that `register` and `map_alpha` share, checked: the noise, uncertainty, evidence."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.image.similarity import name_of
from fourierreg.model.noise import Noise
from fourierreg.model.uncertainty import NUM_SAMPLES

# Default γ: what worked for pairs of brains at 128³ (benchmarks/similarities.py). The sum over
# voxels that it multiplies stands for an integral, so that a coarser image needs a larger one.
WEIGHTS = {"ncc": 0.1, "lncc": 0.1, "mi": 0.03}
WEIGHT_VOXELS = 128  # along each axis


def noise_of(sigma, decimation):
    """`Noise` from the arguments `sigma` and `decimation`."""
    if decimation is not None:
        decimation = checks.positive("decimation", decimation)
        if decimation > 1:
            raise InputError(
                f"decimation: expected a fraction of voxels, at most 1; got {decimation}"
            )
    if isinstance(sigma, str):
        if sigma != "estimate":
            raise InputError(f"sigma: expected a number above 0, or 'estimate'; got {sigma!r}")
        return Noise(1.0, 1.0, True, fixed_decimation=decimation)
    return Noise(checks.positive("sigma", sigma), 1.0 if decimation is None else decimation, False)


def likelihood_noise(similarity: Any, sigma: float | str, decimation: float | None) -> Noise:
    """`Noise` of a similarity that is a likelihood."""
    if similarity.gaussian:
        return noise_of(sigma, decimation)
    if sigma != "estimate":
        raise InputError(
            f"sigma: expected 'estimate', as windows have variances of their own; got {sigma!r}: "
            "use similarity='ssd'"
        )
    return replace(noise_of(sigma, decimation), fixed_sigma=1.0)


def noise_or_weight(
    similarity: Any,
    sigma: float | str,
    decimation: float | None,
    weight: float | None,
    *,
    default: float | None,
    shape: Sequence[int],
) -> Noise:
    """`Noise` of `register`: σ and ρ for the sum of squares, γ for any similarity. `default` is the
    γ of a quality at 128 voxels along each axis, or None; `shape` that of the images."""
    if weight is None and default is None and similarity.likelihood:
        return likelihood_noise(similarity, sigma, decimation)
    for name, value, usual in (("sigma", sigma, "estimate"), ("decimation", decimation, None)):
        if value != usual:
            given = similarity.likelihood
            reason = "weight is given" if given else "this similarity has no noise"
            remedy = "use weight alone" if given else "use similarity='ssd'"
            raise InputError(f"{name}: expected {usual!r}, as {reason}; got {value!r}: {remedy}")
    if weight is None:
        weight = WEIGHTS.get(name_of(similarity)) if default is None else default
        if weight is None:
            raise InputError("weight: a similarity of your own has no default; give its weight γ")
        weight *= math.prod(WEIGHT_VOXELS / n for n in shape)
    return noise_of(1.0 / math.sqrt(checks.positive("weight", weight)), 1.0)


def check_likelihood(argument, model):
    """Refuse an argument that needs a Gaussian likelihood on the band."""
    if not model.similarity.gaussian:
        raise InputError(
            f"{argument}: needs a Gaussian likelihood, which this similarity is not; use "
            "similarity='ssd'"
        )
    if model.space == "full":
        raise InputError(f"{argument}: not available with space='full'; use space='bandlimited'")


def sample_count(uncertainty, model):
    """Number of posterior samples from the argument `uncertainty`; 0 for none."""
    if uncertainty is False or uncertainty is None:
        return 0
    uncertainty = NUM_SAMPLES if uncertainty is True else checks.count("uncertainty", uncertainty)
    check_likelihood("uncertainty", model)
    return uncertainty

"""Options that `register` and `map_alpha` share, checked: the noise, uncertainty, evidence."""

import math
from typing import Any

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.image.similarity import name_of
from fourierreg.model.noise import Noise
from fourierreg.model.uncertainty import NUM_SAMPLES

# Default γ: what worked for pairs of brains at 128³ (benchmarks/similarities.py).
WEIGHTS = {"ncc": 0.1, "lncc": 0.1, "mi": 0.03}


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


def noise_or_weight(
    similarity: Any, sigma: float | str, decimation: float | None, weight: float | None
) -> Noise:
    """`Noise` of `register`: σ and ρ for the sum of squares, γ for any similarity."""
    if weight is None and similarity.gaussian:
        return noise_of(sigma, decimation)
    for name, value, default in (("sigma", sigma, "estimate"), ("decimation", decimation, None)):
        if value != default:
            reason = "weight is given" if similarity.gaussian else "this similarity has no noise"
            remedy = "use weight alone" if similarity.gaussian else "use similarity='ssd'"
            raise InputError(f"{name}: expected {default!r}, as {reason}; got {value!r}: {remedy}")
    if weight is None:
        weight = WEIGHTS.get(name_of(similarity))
    if weight is None:
        raise InputError("weight: a similarity of your own has no default; give its weight γ")
    return noise_of(1.0 / math.sqrt(checks.positive("weight", weight)), 1.0)


def check_likelihood(argument, model):
    """Refuse an argument that needs a Gaussian likelihood on the band."""
    if not model.similarity.gaussian:
        raise InputError(
            f"{argument}: needs a likelihood, which this similarity is not; use similarity='ssd'"
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

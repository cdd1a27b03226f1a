"""Options that `register` and `map_alpha` share, checked: the noise, uncertainty, evidence."""

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.model.noise import Noise
from fourierreg.model.uncertainty import NUM_SAMPLES


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

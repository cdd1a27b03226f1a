"""Options of `map_alpha`, checked: which posterior, of which model, by which search."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fourierreg import checks
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.similarity import describe, similarity_of
from fourierreg.model.model import MODEL_KEYWORDS, Model, model_of
from fourierreg.model.noise import Noise
from fourierreg.registration.algorithm_1 import GradientDescent
from fourierreg.registration.alpha_search import Gamma
from fourierreg.registration.inputs import shape_of
from fourierreg.registration.options import likelihood_noise, noise_or_weight
from fourierreg.registration.quality import START, setting_of

POSTERIORS = ("predictive", "marginal", "joint")
OPTIMIZERS = ("quasi-newton", "gradient-descent")
JACOBIANS = ("auto", "approximate", "exact")
PROFILE = "profile"  # `sigma` for a noise that is estimated at every α
MAX_ITERATIONS = 500  # of one of its fits
# Arguments that belong to a posterior of the Gaussian likelihood, with their defaults.
LIKELIHOOD = {
    "model": None,
    "modes": None,
    "num_steps": None,
    "velocity_scale": None,
    "sigma": "estimate",
    "decimation": None,
    "alpha_prior": None,
    "optimizer": "quasi-newton",
    "jacobian": "auto",
    "uncertainty": False,
    "evidence": False,
    "max_iterations": None,
}


class AlphaOptions(NamedTuple):
    """What a search for α assumes.

    Attributes
    ----------
    posterior : {"predictive", "marginal", "joint"}
    model : Model
    noise : Noise
    alpha0 : float
    prior : Gamma or None
    descent : GradientDescent or None
        None for quasi-Newton.
    iterations : tuple of three int
        Limits of the fits, as in `Quality`.
    profile : bool
        Whether the noise is estimated at every α, not at a reference.
    """

    posterior: str
    model: Model
    noise: Noise
    alpha0: float
    prior: Gamma | None
    descent: GradientDescent | None
    iterations: tuple[int, int, int]
    profile: bool = False


def alpha_options(given: Mapping[str, Any], target: Any) -> AlphaOptions:
    """Check the keywords of `map_alpha` and fill in their defaults, those for `target`."""
    posterior = given["posterior"]
    if posterior is None:
        others = any(_is_given(given, name) for name in LIKELIHOOD)
        if given["similarity"] is not None:
            others = similarity_of(given["similarity"]).likelihood
        posterior = "marginal" if others and given["quality"] is None else "predictive"
    checks.choice("posterior", posterior, POSTERIORS)
    checks.choice("jacobian", given["jacobian"], JACOBIANS)
    checks.count("num_probes", given["num_probes"], minimum=2)
    if given["alpha0"] is not None:
        checks.positive("alpha0", given["alpha0"])
    if given["max_iterations"] is not None:
        checks.count("max_iterations", given["max_iterations"])
    return _predictive(given, target) if posterior == "predictive" else _mode(posterior, given)


def _is_given(given: Mapping[str, Any], name: str) -> bool:
    """Whether an argument of the likelihood is not its default."""
    value, default = given[name], LIKELIHOOD[name]
    return not (isinstance(value, type(default)) and value == default)


def _predictive(given: Mapping[str, Any], target: Any) -> AlphaOptions:
    """Options of the search by held-out voxels."""
    for name in ("alpha_prior", "optimizer", "jacobian"):
        if _is_given(given, name):
            raise InputError(
                f"{name}: expected none with posterior='predictive', which has no likelihood; "
                f"got {given[name]!r}: use posterior='marginal'"
            )
    own_model = None if given["model"] is None else model_of(given["model"])
    setting = setting_of(given["quality"], own_model, target)
    model = setting.model.with_fields(**_model_keywords(given))
    own = model.similarity == setting.model.similarity
    noise = noise_or_weight(
        model.similarity,
        given["sigma"],
        given["decimation"],
        None,
        default=setting.weight if own else None,
        shape=shape_of(target),
    )
    limit = given["max_iterations"]
    return AlphaOptions(
        "predictive",
        model,
        noise,
        setting.alpha if given["alpha0"] is None else given["alpha0"],
        None,
        None,
        setting.iterations if limit is None else (limit,) * 3,
    )


def _mode(posterior: str, given: Mapping[str, Any]) -> AlphaOptions:
    """Options of the search for a mode of a posterior of the Gaussian likelihood."""
    if given["quality"] is not None:
        raise InputError(
            f"quality: expected none with posterior={posterior!r}, whose similarity is the sum of "
            f"squares; got {given['quality']!r}: use model, or posterior='predictive'"
        )
    model = model_of(given["model"], **_model_keywords(given))
    similarity: Any = model.similarity
    if not similarity.likelihood:
        raise InputError(
            f"similarity: expected 'ssd' or 'lncc-likelihood', got {describe(similarity)!r}: "
            f"posterior={posterior!r} needs a likelihood, which this similarity is not; use "
            "posterior='predictive', or register at a given alpha"
        )
    if model.space == "full" and given["jacobian"] == "exact":
        raise InputError(
            "jacobian: expected 'approximate' with space='full'; got 'exact', which needs "
            "linearized shooting in the band"
        )
    profile = isinstance(given["sigma"], str) and given["sigma"] == PROFILE
    if profile and posterior != "marginal":
        raise InputError(
            f"sigma: expected a number or 'estimate' with posterior={posterior!r}; got 'profile'"
        )
    sigma = "estimate" if profile else given["sigma"]
    if isinstance(sigma, str) and sigma != "estimate":
        raise InputError(
            f"sigma: expected a number above 0, 'estimate' or 'profile'; got {sigma!r}"
        )
    limit = MAX_ITERATIONS if given["max_iterations"] is None else given["max_iterations"]
    return AlphaOptions(
        posterior,
        model,
        likelihood_noise(similarity, sigma, given["decimation"]),
        START if given["alpha0"] is None else given["alpha0"],
        _prior(given["alpha_prior"]),
        _descent_options(given["optimizer"], posterior, model),
        (limit,) * 3,
        profile,
    )


def _model_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("similarity", *MODEL_KEYWORDS)}


def _prior(alpha_prior: Any) -> Gamma | None:
    if alpha_prior is None:
        return None
    if not isinstance(alpha_prior, Sequence) or len(alpha_prior) != 2:
        raise InputTypeError(f"alpha_prior: expected (shape, scale); got {alpha_prior!r}")
    shape, scale = (checks.positive("alpha_prior", x) for x in alpha_prior)
    return Gamma(shape, scale)


def _descent_options(
    optimizer: str | GradientDescent, posterior: str, model: Model
) -> GradientDescent | None:
    """`GradientDescent` of the argument `optimizer`; None for quasi-Newton."""
    if isinstance(optimizer, str):
        if checks.choice("optimizer", optimizer, OPTIMIZERS) == "quasi-newton":
            return None
        optimizer = GradientDescent()
    if not isinstance(optimizer, GradientDescent):
        raise InputTypeError(f"optimizer: expected a word or GradientDescent; got {optimizer!r}")
    if posterior != "joint":
        raise InputError(
            "optimizer: 'gradient-descent' is Algorithm 1, which moves α along the joint "
            "posterior; use posterior='joint', or optimizer='quasi-newton'"
        )
    if optimizer.gradient == "jacobi" and (model.dynamics, model.space) != (
        "epdiff",
        "bandlimited",
    ):
        raise InputError(
            "optimizer: adjoint Jacobi fields are those of bandlimited geodesics; use "
            "GradientDescent(gradient='exact') with other dynamics or space='full'"
        )
    return optimizer

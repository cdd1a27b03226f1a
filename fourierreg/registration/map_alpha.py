"""Infer the regularization strength α of a pair of images, with an error bar."""

import math
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from fourierreg import checks
from fourierreg.backend import Array
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.similarity import describe, similarity_of
from fourierreg.model.model import MODEL_KEYWORDS, Model, model_of
from fourierreg.optim.batching import Coroutine, run
from fourierreg.optim.root import NO_OPTIMUM, NOT_CONVERGED, Root
from fourierreg.registration.algorithm_1 import GradientDescent
from fourierreg.registration.alpha_search import HIGHEST, LOWEST, AlphaSearch, Gamma
from fourierreg.registration.assembly import assemble
from fourierreg.registration.inputs import read_inputs
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import check_likelihood, noise_of, sample_count
from fourierreg.registration.result import Record, Registration

POSTERIORS = ("marginal", "joint")
OPTIMIZERS = ("quasi-newton", "gradient-descent")
JACOBIANS = ("auto", "approximate", "exact")
# Standard error of ln α from voxels and unfinished fits, whatever the curvature. Set from four
# simulated brains at 128³, where the curvature alone promises 1 to 2 %: two runs of
# benchmarks/recovery_brain.py that differ by rounding have rms errors of 4.2 (the table) and 6.0 %.
DISCRETIZATION_ERROR = 0.06
WIDEST = math.log(100.0)  # interval of ln α that still says something


def map_alpha(
    source: Any,
    target: Any,
    *,
    spacing: float | Sequence[float] | None = None,
    modes: int | Sequence[int] | None = None,
    num_steps: int | None = None,
    velocity_scale: float | None = None,
    model: Model | None = None,
    posterior: str = "marginal",
    sigma: float | str = "estimate",
    decimation: float | None = None,
    alpha0: float = 3.0,
    alpha_prior: tuple[float, float] | None = None,
    optimizer: str | GradientDescent = "quasi-newton",
    mask: Array | None = None,
    jacobian: str = "auto",
    num_probes: int = 8,
    pad: bool = True,
    uncertainty: bool | int = False,
    evidence: bool = False,
    max_iterations: int = 500,
    callback: Callable[[Record], Any] | None = None,
) -> Registration:
    """Infer α for a pair of images, and register them at it.

    The paper's setting is ``posterior="joint", sigma=0.03, num_steps=10,
    optimizer="gradient-descent"``.

    Parameters
    ----------
    source, target : arrays of one shape (N_1, …, N_d), d = 2 or 3, or nibabel images
        As in `register`.
    spacing, modes, num_steps, velocity_scale, model, sigma, decimation
        As in `register`. The similarity is the sum of squares: α is inferred with the Gaussian
        likelihood, and the other similarities of `Model` are not likelihoods.
    posterior : {"marginal", "joint"}
        "marginal" integrates v₀ out by Laplace's method and is nearly unbiased; "joint" is the
        paper's Eq. 6 (errata E1 to E4, E7), whose optimum is biased upward and may not exist.
    alpha0 : float
        Where the search starts; its limits are 1/300 and 3300 times that.
    alpha_prior : (shape, scale), optional
        Gamma prior, as a density of ln α; flat in ln α by default.
    optimizer : {"quasi-newton", "gradient-descent"} or GradientDescent
        L-BFGS at every α of a search; or the paper's Algorithm 1 (erratum E7), on α and v₀
        together, for the joint posterior, on the search grid: a given σ does not correct α on
        finer ones then.
    mask : bool array, optional
        Voxels of the target that count.
    jacobian : {"auto", "approximate", "exact"}
        J in the Hessian of the marginal: J ≈ -∇(S∘φ⁻¹), or by linearized shooting; "auto" is
        exact in 2D (of the band).
    num_probes : int
        Of the stochastic trace (bands of more than 2500 degrees of freedom).
    pad, uncertainty, evidence, max_iterations, callback
        As in `register`.

    Returns
    -------
    Registration
        With `alpha_interval`, the 95 % interval from the curvature of the (negative log)
        posterior of ln α, v re-optimized and ∇(S∘φ⁻¹) recomputed on both sides; widened in
        quadrature by the error of stochastic traces and by 6 % for the discretization.

    Raises
    ------
    InputError
        One line that names the argument, what was expected, what came and what to do.

    Notes
    -----
    α is inferred on the *search grid*: the images resampled to at most 300 000 voxels (64³ for a
    brain), which resolves the band at a fraction of the cost. α still belongs to a resolution, as
    resampling changes what counts as noise: real pairs resampled to 64³ beforehand have an α that
    is up to a third larger than at 128³ (benchmarks/labels.py). Where σ is given, which is the
    noise of the images' own voxels, α is corrected on their own grid.

    An estimated noise is that of the residual of a registration at α = 3 on the search grid (or,
    if α turns out to differ by more than a quarter, at that α), and the interval is conditional
    on it. σ, ρ and α cannot be inferred together on real pairs: the smaller α, the closer the fit
    and the smaller σ, which asks for a smaller α still. The noise of every iteration is in
    `history`; `sigma` and `decimation` of the result are those of the final registration on the
    images' own grid.

    One pair is a batch of one: `map_alpha_batch` finds the same α for it.
    """
    return run(estimate(**locals()))


def estimate(source: Any, target: Any, mask: Any, callback: Any, **keywords: Any) -> Coroutine:
    """`map_alpha` as a coroutine (`fourierreg.optim.batching`) that returns the `Registration`.

    `keywords` are all others of `map_alpha`.
    """
    began, given = time.perf_counter(), SimpleNamespace(**keywords)
    model = model_of(given.model, **{name: keywords[name] for name in MODEL_KEYWORDS})
    prior = _check_options(
        model,
        given.posterior,
        given.jacobian,
        given.num_probes,
        given.alpha0,
        given.alpha_prior,
        given.max_iterations,
    )
    descent = _descent_options(given.optimizer, given.posterior, model)
    samples, noise = sample_count(given.uncertainty, model), noise_of(given.sigma, given.decimation)
    if given.evidence:
        check_likelihood("evidence", model)
    placed = {"spacing": given.spacing, "mask": mask, "pad": given.pad}
    inputs = read_inputs(source, target, model, alpha=given.alpha0, **placed)
    small = inputs.metric.band.ndim == 2 and model.space == "bandlimited"
    exact = given.jacobian == "exact" or (given.jacobian == "auto" and small)
    manner = {
        "inside": inputs.inside,
        "chooses_steps": model.chooses_steps,
        "searches": True,
    }
    state = Multiresolution(inputs.problem, inputs.metric, noise, callback, **manner)
    search = AlphaSearch(
        state,
        given.posterior,
        exact,
        given.num_probes,
        prior,
        math.log(given.alpha0),
        given.max_iterations,
    )
    root = yield from (search.run() if descent is None else search.run_algorithm_1(descent))
    interval = math.nan, math.nan
    if root.found and math.isfinite(root.sd):
        root = root._replace(error=math.hypot(root.error, DISCRETIZATION_ERROR))
        interval = search.interval(root)
    return assemble(
        state,
        inputs,
        began=began,
        exact=exact,
        samples=samples,
        evidence=given.num_probes if given.evidence else 0,
        interval=interval,
        problem=_diagnosis(root, search, given.alpha0),
    )


def _check_options(
    model: Model,
    posterior: str,
    jacobian: str,
    num_probes: int,
    alpha0: float,
    alpha_prior: tuple[float, float] | None,
    max_iterations: int,
) -> Gamma | None:
    """Check the options of the search; returns the `Gamma` prior or None."""
    checks.choice("posterior", posterior, POSTERIORS)
    checks.choice("jacobian", jacobian, JACOBIANS)
    checks.count("num_probes", num_probes, minimum=2)
    checks.positive("alpha0", alpha0)
    checks.count("max_iterations", max_iterations)
    similarity = similarity_of(model.similarity)
    if not similarity.gaussian:
        raise InputError(
            f"similarity: expected 'ssd', got {describe(similarity)!r}: α is inferred with "
            "the Gaussian likelihood, and this similarity is not one; use it in register at a "
            "given alpha"
        )
    if model.space == "full" and jacobian == "exact":
        raise InputError(
            "jacobian: expected 'approximate' with space='full'; got 'exact', which needs "
            "linearized shooting in the band"
        )
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


def _diagnosis(root: Root, search: AlphaSearch, alpha0: float) -> str | None:
    """A sentence on a search that failed, with a remedy, or None."""
    joint, alpha = search.posterior == "joint", search.state.alpha
    if root.ending == NO_OPTIMUM:
        remedy = (
            "use posterior='marginal', or give alpha_prior"
            if joint
            else "the images may not constrain it: give alpha_prior, or check that they are aligned"
        )
        return (
            f"No interior optimum of alpha between {alpha0 * LOWEST:.3g} and "
            f"{alpha0 * HIGHEST:.3g} (the search ended at {alpha:.3g}); {remedy}."
        )
    if root.ending == NOT_CONVERGED:
        also = ", or sigma" if search.state.noise.estimated else ""
        return (
            f"The search for alpha had not settled when its steps ran out, at {alpha:.3g}; give an "
            f"alpha0 near it{also}."
        )
    if not math.isfinite(root.sd):
        remedy = "use posterior='marginal'" if joint else "raise num_probes"
        return (
            "The posterior of alpha is flat, or concave, at its optimum, so that there is no error "
            f"bar; {remedy}, or give alpha_prior."
        )
    low, high = root.interval()
    if high - low > WIDEST or not all(map(search.within_limits, (low, high))):
        return (
            "The images hardly constrain alpha: its 95 % interval is from "
            f"{math.exp(low):.3g} to {math.exp(high):.3g}; give alpha_prior, or check that the "
            "images are aligned."
        )
    return None

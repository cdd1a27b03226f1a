"""Infer the regularization strength α of a pair of images, with an error bar."""

import math
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from fourierreg.backend import Array
from fourierreg.image.similarity import Similarity
from fourierreg.model.model import Model
from fourierreg.optim.batching import run
from fourierreg.optim.requests import Coroutine
from fourierreg.registration.algorithm_1 import GradientDescent
from fourierreg.registration.alpha_options import AlphaOptions, alpha_options
from fourierreg.registration.alpha_search import HIGHEST, LOWEST, AlphaSearch
from fourierreg.registration.assembly import assemble
from fourierreg.registration.doubts import failed_search
from fourierreg.registration.inputs import read_inputs
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import check_likelihood, sample_count
from fourierreg.registration.predictive_search import PredictiveSearch
from fourierreg.registration.quality import Quality
from fourierreg.registration.result import Record, Registration

# Standard error of ln α from voxels and unfinished fits, whatever the curvature. Set from four
# simulated brains at 128³, where the curvature alone promises 1 to 2 %: two runs of
# benchmarks/recovery_brain.py that differ by rounding have rms errors of 4.2 (the table) and 6.0 %.
DISCRETIZATION_ERROR = 0.06


def map_alpha(
    source: Any,
    target: Any,
    *,
    quality: str | Quality | None = None,
    posterior: str | None = None,
    spacing: float | Sequence[float] | None = None,
    modes: int | Sequence[int] | None = None,
    similarity: str | Similarity | None = None,
    num_steps: int | None = None,
    velocity_scale: float | None = None,
    model: Model | None = None,
    sigma: float | str = "estimate",
    decimation: float | None = None,
    alpha0: float | None = None,
    alpha_prior: tuple[float, float] | None = None,
    optimizer: str | GradientDescent = "quasi-newton",
    mask: Array | None = None,
    jacobian: str = "auto",
    num_probes: int = 8,
    pad: bool = True,
    uncertainty: bool | int = False,
    evidence: bool = False,
    max_iterations: int | None = None,
    callback: Callable[[Record], Any] | None = None,
) -> Registration:
    """Infer α for a pair of images, and register them at it.

    By default α is the one whose registration of half of the voxels predicts the other half best,
    in the model of a quality of `register`. With an option of the Bayesian model (`model`, `sigma`
    and the like) it is the mode of its marginal posterior; the paper's setting is
    ``posterior="joint", sigma=0.03, optimizer="gradient-descent", model=Model(integrator="euler",
    num_steps=10)``.

    Parameters
    ----------
    source, target : arrays of one shape (N_1, …, N_d), d = 2 or 3, or nibabel images
        As in `register`.
    quality : {"fast", "default", "accurate", "paper"} or Quality, optional
        Of "predictive": the model, and how hard the registration at α tries.
    posterior : {"predictive", "marginal", "joint"}, optional
        "predictive" compares registrations on voxels that they have not seen, with any similarity
        and without a model of the noise. "marginal" integrates v₀ out by Laplace's method: nearly
        unbiased where images differ by a deformation of the prior and by noise. "joint" is the
        paper's Eq. 6 (errata E1 to E4, E7), whose optimum is biased upward and may not exist. The
        latter two take similarities that are likelihoods: "ssd", the default with them, and
        "lncc-likelihood", whose windows have a gain, an offset and a variance of their own. By
        default "predictive", or "marginal" where an option is given that belongs to a likelihood:
        such a `similarity`, `model` and its fields, `sigma`, `decimation`, `alpha_prior`,
        `optimizer`, `jacobian`, `uncertainty`, `evidence` or `max_iterations`.
    spacing, modes, similarity, num_steps, velocity_scale, model
        As in `register`.
    sigma : float, "estimate" or "profile"
        Noise σ in units of intensity. "estimate" takes σ and ρ of a registration at α = 3, and
        "profile" of one at every α.
    decimation : float, optional
        As in `register`.
    alpha0 : float, optional
        Where the search starts, by default at the quality's α, or 3; its limits are 1/300 and 3300
        times that.
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
    pad, uncertainty, evidence
        As in `register`.
    max_iterations : int, optional
        Of one fit, on any grid; by default 500, or those of the quality.
    callback : callable, optional
        As in `register`.

    Returns
    -------
    Registration
        With `alpha_interval`, a 95 % interval of ln α, widened in quadrature by 6 % for the
        discretization. Of "predictive" it comes from how far apart parts of the image have their
        minima; of the posteriors from the curvature of their logarithm, v re-optimized and
        ∇(S∘φ⁻¹) recomputed on both sides, and from the error of stochastic traces.

    Raises
    ------
    InputError
        One line that names the argument, what was expected, what came and what to do.

    Notes
    -----
    α belongs to a model: those of different exponents c (`Model.power`) or similarities do not
    compare. It is inferred on the *search grid*: the images resampled to at most 300 000 voxels
    (64³ for a brain), which resolves the band at a fraction of the cost. It still belongs to a
    resolution, as resampling changes what counts as noise: real pairs resampled to 64³ beforehand
    have a marginal α that is up to a third larger than at 128³ (benchmarks/labels.py). Where σ is
    given, which is the noise of the images' own voxels, α is corrected on their own grid.

    For the posteriors an estimated noise is that of the residual of a registration at α = 3 on the
    search grid (or, if α turns out to differ by more than a quarter, at that α), and the interval
    is conditional on it. It takes anatomy that is not matched yet for noise, so that between people
    α comes out too smooth; with "profile" too. A warning says so where held-out voxels contradict
    it. Below the best of a sweep of α, with everything else equal, Dice at the inferred α is .003
    in the mean of twelve pairs with "predictive", .006 with "lncc-likelihood" (24 modes, c = 1.5),
    .033 with "estimate" and .068 with "profile" (benchmarks/regret.py). The noise of every
    iteration is in `history`; `sigma` and `decimation` of the result are those of the final
    registration on the images' own grid.

    One pair is a batch of one: `map_alpha_batch` finds the same α for it.
    """
    return run(estimate(**locals()))


def estimate(source: Any, target: Any, mask: Any, callback: Any, **keywords: Any) -> Coroutine:
    """`map_alpha` as a coroutine (`fourierreg.optim.batching`) that returns the `Registration`.

    `keywords` are all others of `map_alpha`.
    """
    began, given = time.perf_counter(), SimpleNamespace(**keywords)
    options = alpha_options(keywords, target)
    model, predictive = options.model, options.posterior == "predictive"
    samples = sample_count(given.uncertainty, model)
    if given.evidence:
        check_likelihood("evidence", model)
    placed = {"spacing": given.spacing, "mask": mask, "pad": given.pad}
    inputs = read_inputs(source, target, model, alpha=options.alpha0, **placed)
    small = inputs.metric.band.ndim == 2 and model.space == "bandlimited"
    exact = given.jacobian == "exact" or (given.jacobian == "auto" and small)
    manner = {
        "inside": inputs.inside,
        "chooses_steps": model.chooses_steps,
        "searches": not predictive,
    }
    state = Multiresolution(inputs.problem, inputs.metric, options.noise, callback, **manner)
    root, doubt, losses = yield from _search(state, options, exact, given.num_probes)
    interval = math.nan, math.nan
    if root.found and math.isfinite(root.sd):
        root = root._replace(error=math.hypot(root.error, DISCRETIZATION_ERROR))
        limits = _limits(options)
        low, high = (min(max(x, limits["lower"]), limits["upper"]) for x in root.interval())
        interval = math.exp(low), math.exp(high)
    return assemble(
        state,
        inputs,
        began=began,
        exact=exact,
        samples=samples,
        evidence=given.num_probes if given.evidence else 0,
        interval=interval,
        problem=failed_search(root, options.posterior, options.alpha0, state.noise.estimated),
        doubt=doubt,
        budgeted=predictive and given.max_iterations is None,
        posterior=options.posterior,
        held_out=losses,
    )


def _search(
    state: Multiresolution, options: AlphaOptions, exact: bool, num_probes: int
) -> Coroutine:
    """Search for α and register at it (coroutine).

    Returns the `Root`, a sentence where held-out voxels contradict it, and the dissimilarity of
    held-out voxels by α where it was inferred from that.
    """
    start, limits = math.log(options.alpha0), _limits(options)
    if options.posterior == "predictive":
        predictive = PredictiveSearch(state, start, limits, options.iterations)
        root = yield from predictive.run()
        return root, None, predictive.losses
    search = AlphaSearch(
        state,
        options.posterior,
        exact,
        num_probes,
        options.prior,
        start,
        limits,
        options.iterations[0],
        options.profile,
    )
    if options.descent is not None:
        return (yield from search.run_algorithm_1(options.descent)), None, None
    return (yield from search.run()), search.doubt, None


def _limits(options: AlphaOptions) -> dict[str, float]:
    """Lowest and highest ln α."""
    return {
        "lower": math.log(options.alpha0 * LOWEST),
        "upper": math.log(options.alpha0 * HIGHEST),
    }

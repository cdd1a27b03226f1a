"""Infer the regularization strength α of a pair of images, with an error bar."""

import math
import time

from fourierreg import checks
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.similarity import similarity_of
from fourierreg.optim.root import NOT_MET, UNSETTLED
from fourierreg.registration.algorithm_1 import GradientDescent
from fourierreg.registration.alpha_search import HIGHEST, LOWEST, AlphaSearch, Gamma
from fourierreg.registration.assembly import assemble
from fourierreg.registration.inputs import noise_model, prepare, sample_count
from fourierreg.registration.multiresolution import Solver

POSTERIORS = ("marginal", "joint")
OPTIMIZERS = ("quasi-newton", "gradient-descent")
JACOBIANS = ("auto", "approximate", "exact")
# Standard error of ln α that voxels and unfinished fits leave, whatever the curvature: what lets
# the 95 % interval cover the truth in 143 of 150 simulated 2D pairs, and on brains at 128³, where
# the curvature alone promises 1 to 2 % (benchmarks/recovery.py, recovery_brain.py).
DISCRETISATION = 0.05


def map_alpha(
    source,
    target,
    *,
    spacing=None,
    modes=16,
    posterior="marginal",
    sigma="estimate",
    decimation=None,
    alpha0=3.0,
    similarity="ssd",
    num_steps=None,
    integrator="euler",
    dynamics="epdiff",
    velocity_scale=None,
    reference_length=None,
    power=3,
    alpha_prior=None,
    optimizer="quasi-newton",
    mask=None,
    jacobian="auto",
    num_probes=8,
    pad=True,
    space="bandlimited",
    uncertainty=False,
    max_iterations=500,
    callback=None,
):
    """Infer α for a pair of images, and register them at it.

    The paper's setting is ``posterior="joint", sigma=0.03, num_steps=10,
    optimizer="gradient-descent"``.

    Parameters
    ----------
    source, target : arrays of one shape (N_1, …, N_d), d = 2 or 3, or nibabel images
        As in `register`.
    spacing, modes, sigma, decimation, num_steps, integrator, dynamics
        As in `register`.
    velocity_scale, reference_length, power
        As in `register`.
    posterior : {"marginal", "joint"}
        "marginal" integrates v₀ out by Laplace's method and is nearly unbiased; "joint" is the
        paper's Eq. 6 (errata E1 to E4, E7), whose optimum is biased upward and may not exist.
    similarity : {"ssd"}
        α is inferred with the Gaussian likelihood; the others of `register` are no likelihoods.
    alpha0 : float
        Where the search starts; it ends at a 300th of it, or 3300 times.
    alpha_prior : (shape, scale), optional
        Gamma prior, as a density of ln α; flat in ln α where None.
    optimizer : {"quasi-newton", "gradient-descent"} or GradientDescent
        L-BFGS at every α of a search; or the paper's Algorithm 1 (erratum E7), on α and v₀
        together, for the joint posterior, on the
        search grid: a given σ does not correct α on finer ones then.
    mask : bool array, optional
        Voxels of the target that count.
    jacobian : {"auto", "approximate", "exact"}
        J in the Hessian of the marginal: J ≈ -∇(S∘φ⁻¹), or by linearised shooting; "auto" is
        exact in 2D (of the band).
    num_probes : int
        Of the stochastic trace (bands of more than 1000 degrees of freedom).
    pad, space, uncertainty, max_iterations, callback
        As in `register`.

    Returns
    -------
    Registration
        With `alpha_interval`, the 95 % interval from the curvature of the (negative log)
        posterior of ln α, v re-optimised and ∇(S∘φ⁻¹) computed anew on both sides; widened, in
        squares, by what stochastic traces leave and by 5 % for the discretisation.

    Raises
    ------
    ValueError, TypeError
        One line that names the argument, what was expected, what came and what to do.

    Notes
    -----
    α is inferred on the *search grid*: the images brought to at most 300 000 voxels (64³ for a
    brain), which resolves the band at a fraction of the cost. α still belongs to a resolution, as
    resampling changes what counts as noise: real pairs resampled to 64³ beforehand have an α that
    is up to a third larger than at 128³ (benchmarks/labels.py). Where σ is given, which is the
    noise of the images' own voxels, α is corrected on their own grid.

    An estimated noise is that of the residual of a registration at α = 3 on the search grid (or,
    where α turns out to differ by more than a quarter, at that α), and the interval is conditional
    on it. σ, ρ and α cannot be inferred together on real pairs: the smaller α, the closer the fit
    and the smaller σ, which asks for a smaller α still. The noise of every iteration stands in
    `history`; `sigma` and `decimation` of the result are those of the final registration on the
    images' own grid.

    Velocities are fitted by SciPy's L-BFGS, which works on the host. Where arrays live on a GPU
    they are fitted there, as those of a batch of one (`map_alpha_batch`), and α differs from the
    host's by what unfinished fits leave.
    """
    began = time.perf_counter()
    checks.choice("posterior", posterior, POSTERIORS)
    checks.choice("jacobian", jacobian, JACOBIANS)
    checks.count("num_probes", num_probes, minimum=2)
    checks.positive("alpha0", alpha0)
    prior = None
    if alpha_prior is not None:
        prior = Gamma(*(checks.positive("alpha_prior", float(x)) for x in alpha_prior))
    if not similarity_of(similarity).gaussian:
        raise InputError(
            f"similarity: expected 'ssd', got {similarity!r}: α is inferred with the Gaussian "
            "likelihood, and this similarity is none; use it in register at a given alpha"
        )
    descent = _descent_options(optimizer, posterior, dynamics, space)
    if space == "full" and jacobian == "exact":
        raise InputError(
            "jacobian: expected 'approximate' with space='full'; got 'exact', which needs "
            "linearised shooting in the band"
        )
    noise = noise_model(sigma, decimation)
    setup = prepare(
        source,
        target,
        spacing=spacing,
        modes=modes,
        alpha=alpha0,
        power=power,
        reference_length=reference_length,
        velocity_scale=velocity_scale,
        mask=mask,
        num_steps=num_steps,
        integrator=integrator,
        dynamics=dynamics,
        pad=pad,
        space=space,
    )
    samples = sample_count(uncertainty, setup.problem)
    small = setup.metric.band.ndim == 2 and space == "bandlimited"
    exact = jacobian == "exact" or (jacobian == "auto" and small)
    solver = Solver(setup.problem, setup.metric, noise, callback)
    search = AlphaSearch(
        solver, posterior, exact, num_probes, prior, math.log(alpha0), max_iterations
    )
    root = search.run() if descent is None else search.run_algorithm_1(descent)
    interval = math.nan, math.nan
    if root.found and math.isfinite(root.sd):
        root = root._replace(error=math.hypot(root.error, DISCRETISATION))
        interval = search.interval(root)
    trouble = _trouble(root, search, alpha0)
    return assemble(solver, setup, interval, trouble, samples, exact, began)


def _descent_options(optimizer, posterior, dynamics, space):
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
    if optimizer.gradient == "jacobi" and (dynamics, space) != ("epdiff", "bandlimited"):
        raise InputError(
            "optimizer: adjoint Jacobi fields are those of bandlimited geodesics; use "
            "GradientDescent(gradient='exact') with other dynamics or space='full'"
        )
    return optimizer


def _trouble(root, search, alpha0):
    """The sentence for a search that did not end as it should, with a remedy, or None."""
    joint, alpha = search.posterior == "joint", search.solver.metric.alpha
    if root.ending == NOT_MET:
        remedy = (
            "use posterior='marginal', or give alpha_prior"
            if joint
            else "the images may not constrain it: give alpha_prior, or check that they are aligned"
        )
        return (
            f"No interior optimum of alpha between {alpha0 * LOWEST:.3g} and "
            f"{alpha0 * HIGHEST:.3g} (the search ended at {alpha:.3g}); {remedy}."
        )
    if root.ending == UNSETTLED:
        also = ", or sigma" if search.solver.noise.estimated else ""
        return (
            f"The search for alpha had not settled when its steps ran out, at {alpha:.3g}; give an "
            f"alpha0 near it{also}."
        )
    if not math.isfinite(root.sd):
        remedy = "use posterior='marginal'" if joint else "raise num_probes"
        return (
            "The posterior of alpha is flat or convex the wrong way at its optimum, so there is no "
            f"error bar; {remedy}, or give alpha_prior."
        )
    if not all(map(search.within_limits, root.interval())):
        return (
            "The images hardly constrain alpha: its 95 % interval reaches the end of the search; "
            "give alpha_prior, or check that the images are aligned."
        )
    return None

"""Infer the regularization strength α of a pair of images, with an error bar."""

import math
import time
from typing import NamedTuple

from fourierreg import checks
from fourierreg.image.similarity import similarity_of
from fourierreg.registration.descent import Descent, GradientDescent
from fourierreg.registration.outcome import assemble
from fourierreg.registration.register import TOLERANCE
from fourierreg.registration.search import (
    FOUND,
    MAX_STEP,
    NOT_MET,
    SPREAD,
    UNSETTLED,
    Root,
    find_root,
)
from fourierreg.registration.setup import noise_model, prepare, sample_count
from fourierreg.registration.solver import Solver

POSTERIORS = ("marginal", "joint")
OPTIMIZERS = ("quasi-newton", "gradient-descent")
JACOBIANS = ("auto", "approximate", "exact")
LOWEST, HIGHEST = 1 / 300, 3300.0  # times alpha0: where α is sought
ALPHA_TOLERANCE, COARSE_ALPHA_TOLERANCE = 0.03, 0.1  # of ln α
MAX_ROUNDS = 5
REFERENCE_ALPHA = 3.0  # at which σ and ρ are estimated first, whatever alpha0
NOISE_REACH = 0.25  # of ln α, from where the noise was estimated
SMOOTH_START = 4.0  # times alpha0: in 2D, with a strong likelihood, roughness is hard to lose
SEARCH_TOLERANCE = 0.02  # of `minimise`
# Standard error of ln α that voxels and unfinished fits leave, whatever the curvature: what lets
# the 95 % interval cover the truth in 93 % of simulated 2D pairs (87 % without) and on brains at
# 128³, where the curvature alone promises 1 to 2 % (benchmarks/recovery.py, recovery_brain.py).
DISCRETISATION = 0.05


class Gamma(NamedTuple):
    """Gamma(shape, scale) prior of α, as a density of ln α: adds -shape ln α + α/scale to F."""

    shape: float
    scale: float

    def value(self, alpha):
        """What is added to F."""
        return alpha / self.scale - self.shape * math.log(alpha)

    def slope(self, alpha):
        """Derivative with respect to ln α."""
        return alpha / self.scale - self.shape

    def curvature(self, alpha):
        """Second derivative with respect to ln α."""
        return alpha / self.scale


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
    brain), which resolves the band and makes α independent of how finely they were sampled. Where
    σ is given, which is the noise of the images' own voxels, α is corrected on their own grid.

    An estimated noise is that of the residual of a registration at α = 3 on the search grid (or,
    where α turns out to differ by more than a quarter, at that α), and the interval is conditional
    on it. σ, ρ and α cannot be inferred together on real pairs: the smaller α, the closer the fit
    and the smaller σ, which asks for a smaller α still. The noise of every iteration stands in
    `history`; `sigma` and `decimation` of the result are those of the final registration on the
    images' own grid.
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
        raise ValueError(
            f"similarity: expected 'ssd', got {similarity!r}: α is inferred with the Gaussian "
            "likelihood, and this similarity is none; use it in register at a given alpha"
        )
    descent = _descent_options(optimizer, posterior, dynamics, space)
    if space == "full" and jacobian == "exact":
        raise ValueError(
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
    search = _Search(solver, posterior, exact, num_probes, prior, math.log(alpha0), max_iterations)
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
        raise TypeError(f"optimizer: expected a word or GradientDescent; got {optimizer!r}")
    if posterior != "joint":
        raise ValueError(
            "optimizer: 'gradient-descent' is Algorithm 1, which moves α along the joint "
            "posterior; use posterior='joint', or optimizer='quasi-newton'"
        )
    if optimizer.gradient == "jacobi" and (dynamics, space) != ("epdiff", "bandlimited"):
        raise ValueError(
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


class _Search:
    """Root of dF/d ln α on the pyramid of a `Solver`; α moves only at a converged velocity (E7)."""

    def __init__(self, solver, posterior, exact, num_probes, prior, start, max_iterations):
        self.solver, self.posterior, self.exact = solver, posterior, exact
        self.num_probes, self.prior, self.max_iterations = num_probes, prior, max_iterations
        smooth = solver.anneals and solver.metric.band.ndim == 2
        self.log_alpha = start + (math.log(SMOOTH_START) if smooth else 0.0)
        self.visited = {}
        self.limits = {
            "lower": start + math.log(LOWEST),
            "upper": start + math.log(HIGHEST),
        }

    def slope_at(self, level, log_alpha):
        """dF/d ln α at another α, the velocity re-optimised.

        The velocity comes from the nearest larger α visited: roughness is added where the images
        ask for it, while roughness once there is hard to lose again (a local minimum). Where none
        was visited, and the likelihood is strong, it comes from zero.
        """
        solver = self.solver
        if log_alpha in self.visited:
            solver.resume(self.visited[log_alpha])
            return self.slope_here(level)
        larger = [a for a in self.visited if a >= log_alpha]
        if larger:
            solver.resume(self.visited[min(larger)])
        elif solver.anneals:
            solver.restart()
        solver.move_to(log_alpha, level)
        if solver.evaluation is None:
            solver.descend(level, tolerance=TOLERANCE, max_iterations=self.max_iterations)
        solver.fit(level, tolerance=SEARCH_TOLERANCE, max_iterations=self.max_iterations)
        self.visited[log_alpha] = solver.state()
        return self.slope_here(level)

    def slope_here(self, level):
        """dF/d ln α at the present α and velocity, the prior of α included."""
        result = self.solver.slope(level, self.posterior, self.exact, self.num_probes)
        if self.prior is None:
            return result
        return result.plus(self.prior, self.solver.metric.alpha)

    def run(self):
        """α on the search grid, then the registration at that α.

        σ and ρ cannot be inferred together with α: on real pairs the smaller α, the closer the
        fit and the smaller σ, which asks for a smaller α still. An estimated noise is therefore
        that of a registration at `REFERENCE_ALPHA`, or, where α turns out to lie beyond
        `NOISE_REACH` of it, at that α. It belongs to the search grid and so does α. A given σ is
        that of the image's own voxels: there α is corrected on the finest grid.
        """
        solver, level, finest = self.solver, self.solver.search_level, self.solver.finest
        estimated, reference = solver.noise.estimated, math.log(REFERENCE_ALPHA)
        for _ in range(MAX_ROUNDS):
            if estimated:
                self.settle_noise(level, reference)
            root, slope = self.root(level)
            moved, reference = abs(root.log_alpha - reference), root.log_alpha
            if not root.found or not estimated or moved <= NOISE_REACH:
                break
        else:  # noise and α still move each other
            root = root._replace(ending=UNSETTLED)
        if math.isfinite(root.sd) and level < finest and not estimated:
            root = self.refine(root, slope)
        else:
            nearest = min(self.visited, key=lambda a: abs(a - root.log_alpha))
            solver.resume(self.visited[nearest])
            solver.move_to(root.log_alpha, level)
        if level < finest:
            solver.estimate_noise(finest)
        solver.fit(finest, tolerance=TOLERANCE, max_iterations=self.max_iterations)
        return root

    def run_algorithm_1(self, options):
        """α by Algorithm 1 on the search grid, its curvature by a second registration beside it,
        and the registration at that α.

        It starts from v = 0, as the default search does, whatever the noise was estimated with.
        """
        solver, level, finest = self.solver, self.solver.search_level, self.solver.finest
        if solver.noise.estimated:
            self.settle_noise(level, math.log(REFERENCE_ALPHA))
        solver.restart()
        solver.move_to(self.log_alpha, level)
        effort = {"max_iterations": self.max_iterations}
        solver.descend(level, tolerance=TOLERANCE, **effort)
        solver.fit(level, tolerance=SEARCH_TOLERANCE, **effort)
        descent = Descent(solver, level, options, self.prior)
        found = descent.run(**self.limits)
        log_alpha, state = math.log(solver.metric.alpha), solver.state()
        if not found:
            return Root(log_alpha, math.nan, NOT_MET)
        ending, slope = (
            (solver.settled, solver.at_boundary),
            descent.slope(solver.velocity, solver.metric).value,
        )
        solver.move_to(log_alpha + SPREAD, level)
        descent.register(recorded=False)
        curvature = (descent.slope(solver.velocity, solver.metric).value - slope) / SPREAD
        solver.resume(state)
        solver.settled, solver.at_boundary = ending
        if level < finest:
            solver.estimate_noise(finest)
            Descent(solver, finest, options, self.prior).register()
        return Root(log_alpha, curvature**-0.5 if curvature > 0 else math.nan, FOUND)

    def settle_noise(self, level, log_alpha):
        """Noise of a registration at ln α."""
        solver = self.solver
        solver.move_to(log_alpha, level)
        if solver.evaluation is None:
            solver.descend(level, tolerance=TOLERANCE, max_iterations=self.max_iterations)
        solver.settle_noise(level, tolerance=SEARCH_TOLERANCE, max_iterations=self.max_iterations)
        self.visited = {log_alpha: solver.state()}

    def root(self, level):
        """`find_root` on one grid, and the last slope it took."""
        slopes = []

        def slope_at(log_alpha):
            slopes.append(self.slope_at(level, log_alpha))
            return slopes[-1]

        root = find_root(slope_at, self.log_alpha, **self.limits, tolerance=ALPHA_TOLERANCE)
        self.log_alpha = root.log_alpha
        return root, slopes[-1]

    def refine(self, root, coarse_slope):
        """Newton steps on the finest grid, with the coarse curvature brought to its scale.

        The curvature with everything re-optimised, over that at frozen v, is a property of the
        pair that grids share; re-optimising on both sides on the finest grid would double the
        cost of the whole estimate.
        """
        solver, finest = self.solver, self.solver.finest
        log_alpha, share = root.log_alpha, 1 / root.sd**2 / coarse_slope.frozen_curvature
        for _ in range(MAX_ROUNDS):
            solver.move_to(log_alpha, finest)
            solver.fit(finest, tolerance=SEARCH_TOLERANCE, max_iterations=self.max_iterations)
            slope = self.slope_here(finest)
            curvature = share * slope.frozen_curvature
            if curvature <= 0:
                return root._replace(log_alpha=log_alpha, sd=math.nan)
            step = min(max(-slope.value / curvature, -MAX_STEP), MAX_STEP)
            if not self.within_limits(log_alpha + step):
                return root._replace(log_alpha=log_alpha, sd=math.nan, ending=NOT_MET)
            log_alpha += step
            if abs(step) <= COARSE_ALPHA_TOLERANCE:
                break
        else:
            root = root._replace(ending=UNSETTLED)
        solver.move_to(log_alpha, finest)
        error = slope.noise / curvature
        return root._replace(log_alpha=log_alpha, sd=curvature**-0.5, error=error)

    def interval(self, root):
        """That of `Root.interval`, of α, as far as α was sought."""
        lower, upper = self.limits["lower"], self.limits["upper"]
        return tuple(math.exp(min(max(x, lower), upper)) for x in root.interval())

    def within_limits(self, log_alpha):
        """Whether α is sought there."""
        return self.limits["lower"] <= log_alpha <= self.limits["upper"]

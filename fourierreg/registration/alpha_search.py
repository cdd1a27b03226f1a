"""The search for the α of a pair: registrations at several α on a pyramid of grids."""

import math
from typing import NamedTuple

from fourierreg.optim.root import (
    FOUND,
    MAX_STEP,
    NO_OPTIMUM,
    NOT_CONVERGED,
    SPREAD,
    Root,
    find_root,
)
from fourierreg.registration.algorithm_1 import Descent
from fourierreg.registration.multiresolution import SEARCH_TOLERANCE
from fourierreg.registration.predictive_search import contradiction

LOWEST, HIGHEST = 1 / 300, 3300.0  # times alpha0: the limits of the search
ALPHA_TOLERANCE, REFINEMENT_TOLERANCE = 0.03, 0.1  # of ln α, on the search grid and the finest
LOOSE_TOLERANCE = 0.5  # of fits on a search grid on which a given noise does not hold
FIRST_REFINEMENT = 2  # times the limit of iterations of a fit
MAX_ROUNDS = 5
# At which σ and ρ are estimated first, and where a search starts on a grid on which a given noise
# does not hold yet, whatever alpha0: such fits depend on where they come from.
REFERENCE_ALPHA = 3.0
NOISE_RANGE = 0.25  # of ln α, from where the noise was estimated
SMOOTH_START = 4.0  # times alpha0: in 2D, with a strong likelihood, roughness is hard to lose


class Gamma(NamedTuple):
    """Gamma(shape, scale) prior of α, as a density of ln α: adds -shape ln α + α/scale to F."""

    shape: float
    scale: float

    def value(self, alpha: float) -> float:
        """What is added to F."""
        return alpha / self.scale - self.shape * math.log(alpha)

    def slope(self, alpha: float) -> float:
        """Derivative with respect to ln α."""
        return alpha / self.scale - self.shape

    def curvature(self, alpha: float) -> float:
        """Second derivative with respect to ln α."""
        return alpha / self.scale


class AlphaSearch:
    """Root of dF/d ln α on the pyramid of a registration.

    α moves only at a converged velocity (E7).

    Parameters
    ----------
    state : Multiresolution
    posterior : {"marginal", "joint"}
    exact : bool
        Form of J in the Hessian of the marginal.
    num_probes : int
    prior : Gamma or None
    start : float
        ln α.
    limits : dict
        `lower` and `upper` ln α.
    max_iterations : int
        Of one fit.
    profile : bool
        Whether the noise is estimated anew at every α (its profile likelihood).
    """

    def __init__(
        self, state, posterior, exact, num_probes, prior, start, limits, max_iterations, profile
    ):
        self.profile = profile
        self.state, self.posterior, self.exact = state, posterior, exact
        self.num_probes, self.prior, self.max_iterations = num_probes, prior, max_iterations
        smooth = state.noises.needs_continuation and state.metric.band.ndim == 2
        self.log_alpha = start + (math.log(SMOOTH_START) if smooth else 0.0)
        tolerance = SEARCH_TOLERANCE
        if state.noises.given is not None and state.noises.is_estimated(state.search_level):
            self.log_alpha, tolerance = math.log(REFERENCE_ALPHA), LOOSE_TOLERANCE
        self.search_options = {"tolerance": tolerance, "max_iterations": max_iterations}
        self.visited = {}
        self.limits = limits
        self.doubt = None  # a sentence, where held-out voxels contradict α

    def slope_at(self, level, log_alpha):
        """dF/d ln α at another α, with the velocity re-optimized (coroutine).

        The velocity starts from the nearest larger α visited: roughness is added where the images
        ask for it, while roughness once there is hard to lose again (a local minimum). If none was
        visited, and the likelihood is strong, it starts from zero.
        """
        state = self.state
        if log_alpha in self.visited:
            state.restore(self.visited[log_alpha])
            return (yield from self.slope(level))
        larger = [a for a in self.visited if a >= log_alpha]
        if larger:
            state.restore(self.visited[min(larger)])
        elif state.noises.needs_continuation and not state.noises.is_estimated(level):
            state.reset()
        yield from state.move_to(log_alpha, level)
        if state.evaluation is None:
            yield from state.descend(level, max_iterations=self.max_iterations)
        if self.profile:
            yield from state.settle_noise(level, **self.search_options)
        else:
            yield from state.fit(level, **self.search_options)
        self.visited[log_alpha] = state.state()
        return (yield from self.slope(level))

    def slope(self, level):
        """dF/d ln α at the present α and velocity, the prior of α included (coroutine)."""
        slope = yield from self.state.slope(level, self.posterior, self.exact, self.num_probes)
        return slope if self.prior is None else slope.plus(self.prior, self.state.alpha)

    def run(self):
        """α on the search grid, then the registration at that α (coroutine).

        σ and ρ cannot be inferred together with α: on real pairs the smaller α, the closer the
        fit and the smaller σ, which asks for a smaller α still. An estimated noise is therefore
        that of a registration at `REFERENCE_ALPHA`, or, if α turns out to lie beyond
        `NOISE_RANGE` of it, at that α. It belongs to the search grid, as does α. A given σ is
        that of the image's own voxels: α is corrected with it on the finest grid.
        """
        state, level, finest = self.state, self.state.search_level, self.state.finest
        estimated = state.noises.is_estimated(level) and not self.profile
        reference = math.log(REFERENCE_ALPHA)
        for _ in range(MAX_ROUNDS):
            if estimated:
                yield from self.settle_noise(level, reference)
            root, slope = yield from self.root(level)
            moved, reference = abs(root.log_alpha - reference), root.log_alpha
            if not root.found or not estimated or moved <= NOISE_RANGE:
                break
        else:  # noise and α still move each other
            root = root._replace(ending=NOT_CONVERGED)
        if root.found and math.isfinite(root.sd) and state.noises.given is None:
            self.doubt = yield from contradiction(state, root.log_alpha)
        if math.isfinite(root.sd) and level < finest and state.noises.given is not None:
            state.estimate_noise(finest)
            root = yield from self.refine(root, slope)
        else:
            nearest = min(self.visited, key=lambda a: abs(a - root.log_alpha))
            state.restore(self.visited[nearest])
            yield from state.move_to(root.log_alpha, level)
        if level < finest:
            state.estimate_noise(finest)
        yield from state.fit(finest, tolerance=state.tolerance, max_iterations=self.max_iterations)
        return root

    def run_algorithm_1(self, options):
        """α by Algorithm 1 on the search grid, its curvature from a second registration near it,
        and the registration at that α (coroutine).

        It starts from v = 0, as the default search does, whatever the noise was estimated with.
        """
        state, level, finest = self.state, self.state.search_level, self.state.finest
        state.noises.given_from = level
        if state.noises.given is None:
            yield from self.settle_noise(level, math.log(REFERENCE_ALPHA))
        state.reset()
        yield from state.move_to(self.log_alpha, level)
        yield from state.descend(level, max_iterations=self.max_iterations)
        yield from state.fit(level, max_iterations=self.max_iterations)
        descent = Descent(state, level, options, self.prior)
        found = descent.run(**self.limits)
        log_alpha, saved = math.log(state.alpha), state.state()
        if not found:
            return Root(log_alpha, math.nan, NO_OPTIMUM)
        ending, slope = (state.converged, state.at_boundary), descent.slope().value
        yield from state.move_to(log_alpha + SPREAD, level)
        descent.register(recorded=False)
        curvature = (descent.slope().value - slope) / SPREAD
        state.restore(saved)
        state.converged, state.at_boundary = ending
        if level < finest:
            state.estimate_noise(finest)
            Descent(state, finest, options, self.prior).register()
        return Root(log_alpha, curvature**-0.5 if curvature > 0 else math.nan, FOUND)

    def settle_noise(self, level, log_alpha):
        """Noise of a registration at ln α (coroutine)."""
        state = self.state
        yield from state.move_to(log_alpha, level)
        if state.evaluation is None:
            yield from state.descend(level, max_iterations=self.max_iterations)
        yield from state.settle_noise(level, **self.search_options)
        self.visited = {log_alpha: state.state()}

    def root(self, level):
        """`find_root` on one grid, and the last slope it took (coroutine)."""
        slopes = []

        def slope_at(log_alpha):
            slopes.append((yield from self.slope_at(level, log_alpha)))
            return slopes[-1]

        root = yield from find_root(
            slope_at, self.log_alpha, **self.limits, tolerance=ALPHA_TOLERANCE
        )
        self.log_alpha = root.log_alpha
        return root, slopes[-1]

    def refine(self, root, coarse_slope):
        """Newton steps on the finest grid, with the coarse curvature brought to its scale
        (coroutine).

        The curvature with everything re-optimized, over that at frozen v, is a property of the
        pair that grids share; re-optimizing on both sides on the finest grid would double the
        cost of the whole estimate.
        """
        state, finest = self.state, self.state.finest
        log_alpha, ratio = root.log_alpha, 1 / root.sd**2 / coarse_slope.frozen_curvature
        for attempt in range(MAX_ROUNDS):
            limit = self.max_iterations * (FIRST_REFINEMENT if attempt == 0 else 1)
            yield from state.move_to(log_alpha, finest)
            yield from state.fit(finest, max_iterations=limit)
            slope = yield from self.slope(finest)
            curvature = ratio * slope.frozen_curvature
            if curvature <= 0:
                return root._replace(log_alpha=log_alpha, sd=math.nan)
            step = min(max(-slope.value / curvature, -MAX_STEP), MAX_STEP)
            if not self.within_limits(log_alpha + step):
                return root._replace(log_alpha=log_alpha, sd=math.nan, ending=NO_OPTIMUM)
            log_alpha += step
            if abs(step) <= REFINEMENT_TOLERANCE:
                break
        else:
            root = root._replace(ending=NOT_CONVERGED)
        yield from state.move_to(log_alpha, finest)
        error = slope.noise / curvature
        return root._replace(log_alpha=log_alpha, sd=curvature**-0.5, error=error)

    def within_limits(self, log_alpha):
        """Whether ln α is within the limits of the search."""
        return self.limits["lower"] <= log_alpha <= self.limits["upper"]

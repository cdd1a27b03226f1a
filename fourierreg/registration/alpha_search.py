"""The way to the α of a pair: registrations at several α on a pyramid of grids."""

import math
from typing import NamedTuple

from fourierreg.optim.root import (
    FOUND,
    MAX_STEP,
    NOT_MET,
    SPREAD,
    UNSETTLED,
    Root,
    find_root,
)
from fourierreg.registration.algorithm_1 import Descent
from fourierreg.registration.register import TOLERANCE

LOWEST, HIGHEST = 1 / 300, 3300.0  # times alpha0: where α is sought
ALPHA_TOLERANCE, COARSE_ALPHA_TOLERANCE = 0.03, 0.1  # of ln α
MAX_ROUNDS = 5
REFERENCE_ALPHA = 3.0  # at which σ and ρ are estimated first, whatever alpha0
NOISE_REACH = 0.25  # of ln α, from where the noise was estimated
SMOOTH_START = 4.0  # times alpha0: in 2D, with a strong likelihood, roughness is hard to lose
SEARCH_TOLERANCE = 0.02  # of `minimise`


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


class AlphaSearch:
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

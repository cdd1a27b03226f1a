"""The long work that an estimate of α asks for, done for one pair or for many at once."""

import math
from dataclasses import dataclass
from functools import cached_property

from threadpoolctl import threadpool_limits

from fourierreg.backend import array_module, backend_of
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import DENSE_LIMIT, alpha_slope, velocity_drift
from fourierreg.model.problem import Problem
from fourierreg.optim.batching import Request
from fourierreg.registration.fit import fit_velocities
from fourierreg.registration.optimise import minimise
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric


@dataclass(frozen=True, eq=False)
class Fit(Request):
    """`minimise`; `record` gets prior, likelihood and gradient norm of every iteration."""

    problem: Problem
    metric: Metric
    velocity: object
    memory: object
    tolerance: float
    max_iterations: int
    record: object

    @cached_property
    def kind(self):
        """Problems of one kind in one band, with one way to end."""
        kind = _kind(self.problem, self.metric)
        return kind and (*kind, self.tolerance, self.max_iterations)

    def alone(self):
        """By SciPy on the host; where arrays live elsewhere, as a batch of one, whose optimiser
        keeps its vectors there."""
        if backend_of(self.velocity) != "numpy" and self.kind is not None:
            (result,) = self.together([self])
            if isinstance(result, Exception):
                raise result
            return result

        def on_iteration(evaluation):
            norm = gradient_norm(evaluation.gradient, self.metric.band)
            self.record(evaluation.prior, evaluation.likelihood, norm)

        return minimise(
            self.problem,
            self.metric,
            self.velocity,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            memory=self.memory or (),
            on_iteration=on_iteration,
        )

    @staticmethod
    def together(requests):
        """By `fit_velocities`."""
        return fit_velocities(
            [r.problem for r in requests],
            [r.metric for r in requests],
            [r.velocity for r in requests],
            memories=[r.memory for r in requests],
            tolerance=requests[0].tolerance,
            max_iterations=requests[0].max_iterations,
            record=lambda pair, *energies: requests[pair].record(*energies),
        )


@dataclass(frozen=True, eq=False)
class _AtMinimum(Request):
    """What is asked of the Hessian at a minimum."""

    problem: Problem
    metric: Metric
    velocity: object
    geodesic: object


@dataclass(frozen=True, eq=False)
class Drift(_AtMinimum):
    """dv/d ln α of the optimal velocity, J ≈ -g."""

    @cached_property
    def kind(self):
        """Problems of one kind in one band."""
        return _kind(self.problem, self.metric)

    def alone(self):
        """`velocity_drift`."""
        return _drift(self.problem, self.metric, self.velocity, self.geodesic)

    @staticmethod
    def together(requests):
        """`velocity_drift` of many."""
        problem, metric, velocity = _stacked(requests)
        return list(_drift(problem, metric, velocity, problem.shoot(velocity, metric)))


@dataclass(frozen=True, eq=False)
class AlphaSlope(_AtMinimum):
    """`alpha_slope` of the marginal posterior."""

    exact: bool
    num_probes: int

    @cached_property
    def kind(self):
        """Stochastic traces of problems of one kind; dense ones are a matrix to each pair."""
        if self.exact or self.metric.band.degrees_of_freedom <= DENSE_LIMIT:
            return None
        kind = _kind(self.problem, self.metric)
        return kind and (*kind, self.num_probes)

    def alone(self):
        """`alpha_slope`."""
        return self._slope(self.problem, self.metric, self.velocity, self.geodesic)

    def _slope(self, problem, metric, velocity, geodesic):
        def curvature_at(v):
            return problem.curvature(problem.shoot(v, metric), self.exact)

        with threadpool_limits(1, user_api="blas"):
            hessian = PosteriorHessian(metric, problem.curvature(geodesic, self.exact))
            return alpha_slope(velocity, hessian, curvature_at, self.num_probes)

    @staticmethod
    def together(requests):
        """`alpha_slope` of many."""
        problem, metric, velocity = _stacked(requests)
        geodesic = problem.shoot(velocity, metric)
        return requests[0]._slope(problem, metric, velocity, geodesic).each()


def gradient_norm(gradient, band):
    """L² norm of a gradient with respect to v₀."""
    return math.sqrt(float(inner(gradient, gradient, band, array_module(gradient))))


def _drift(problem, metric, velocity, geodesic):
    with threadpool_limits(1, user_api="blas"):
        hessian = PosteriorHessian(metric, problem.curvature(geodesic))
        return velocity_drift(velocity, hessian)


def _kind(problem, metric):
    """Of problems that can be put together: in metrics that differ in α alone."""
    return problem.kind and (*problem.kind, metric.with_alpha(1.0))


def _stacked(requests):
    """Problem, metric and velocities of many requests."""
    xp = array_module(requests[0].velocity)
    return (
        Problem.together([r.problem for r in requests]),
        Metric.together([r.metric for r in requests]),
        xp.stack([r.velocity for r in requests]),
    )

"""The expensive work that a registration requests, run for many pairs as one batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.model.flow_error import flow_error
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import alpha_slope, velocity_derivative
from fourierreg.model.problem import Problem
from fourierreg.model.traces import DENSE_LIMIT
from fourierreg.optim.requests import OpenRequest, Request
from fourierreg.optim.vectors import CurvaturePairs
from fourierreg.registration.fit import open_fit
from fourierreg.registration.fit_rows import Start
from fourierreg.registration.held_out import held_out_losses
from fourierreg.spectral.metric import MetricBatch


@dataclass(frozen=True, eq=False)
class _PairRequest(Request):
    """Work on one pair: its problem, metric and velocity are batches of one."""

    problem: Problem
    metric: MetricBatch
    velocity: Array

    @cached_property
    def batch_key(self):  # type: ignore[override]
        """Problems that can be concatenated, in metrics that differ in α alone."""
        key = self.problem.batch_key
        return key and (*key, self.metric.with_alphas(()), *self.options)

    @property
    def options(self):
        """Options that a batch shares."""
        return ()


@dataclass(frozen=True, eq=False)
class Fit(_PairRequest, OpenRequest):
    """Fit the velocity at the present α and noise (`fourierreg.registration.fit`); the result is a
    `Minimum`. `record` is called with prior, likelihood and gradient norm of every iteration."""

    memory: CurvaturePairs | None
    tolerance: float
    max_iterations: int
    record: Callable

    @staticmethod
    def run_open(requests, finish, join):
        """Fit all pairs, whatever their α, noise and stopping rules."""
        records = {place: request.record for place, request in enumerate(requests)}
        first = len(records)

        def more():
            nonlocal first
            joining = join()
            records.update(enumerate((request.record for request in joining), start=first))
            first += len(joining)
            return Fit._start(joining) if joining else None

        def finished(ended):
            for place, _ in ended:
                del records[place]
            finish(ended)

        yield from open_fit(
            Fit._start(requests),
            record=lambda pair, *energies: records[pair](*energies),
            finished=finished,
            more=more,
        )

    @staticmethod
    def _start(requests):
        return Start(
            *_concatenated(requests),
            [request.memory for request in requests],
            np.array([request.tolerance for request in requests]),
            np.array([request.max_iterations for request in requests]),
        )


@dataclass(frozen=True, eq=False)
class VelocityDerivative(_PairRequest):
    """dv/d ln α of the optimal velocity, with J ≈ -g: an array (1, d, *band)."""

    @staticmethod
    def run(requests):
        """Solve for all pairs."""
        problem, metric, velocity = _concatenated(requests)
        hessian = PosteriorHessian(metric, problem.curvature(problem.shoot(velocity, metric)))
        derivative = velocity_derivative(velocity, hessian)
        return [derivative[[pair]] for pair in range(len(requests))]


@dataclass(frozen=True, eq=False)
class AlphaSlope(_PairRequest):
    """dF/d ln α of the marginal posterior at the optimal velocity: a `Slope` of floats."""

    exact: bool
    num_probes: int

    @cached_property
    def batch_key(self):  # type: ignore[override]
        """Of stochastic traces; dense ones form a matrix for each pair, which takes memory."""
        dense = self.metric.band.degrees_of_freedom <= DENSE_LIMIT
        return None if self.exact or dense else super().batch_key

    @property
    def options(self):
        """The form of J and the number of probes."""
        return self.exact, self.num_probes

    @staticmethod
    def run(requests):
        """Slopes of all pairs."""
        problem, metric, velocity = _concatenated(requests)
        exact = requests[0].exact

        def curvature_at(v):
            return problem.curvature(problem.shoot(v, metric), exact)

        hessian = PosteriorHessian(metric, curvature_at(velocity))
        slope = alpha_slope(velocity, hessian, curvature_at, requests[0].num_probes)
        return slope.unstack()


@dataclass(frozen=True, eq=False)
class HeldOut(_PairRequest):
    """Dissimilarity of the voxels that a fit has not seen, at its `velocity`: a float array
    (parts,) (`fourierreg.registration.held_out`)."""

    inside: Array

    @staticmethod
    def run(requests):
        """Measure it for all pairs."""
        problem, metric, velocity = _concatenated(requests)
        inside = array_module(velocity).concatenate([request.inside for request in requests])
        return list(held_out_losses(problem, metric, velocity, inside))


@dataclass(frozen=True, eq=False)
class FlowError(_PairRequest):
    """How far the end map of the velocity is from its flow, in mm: a float."""

    @staticmethod
    def run(requests):
        """Measure it for all pairs."""
        problem, metric, velocity = _concatenated(requests)
        return [float(error) for error in flow_error(problem, velocity, metric)]


def _concatenated(requests):
    """Problem, metric and velocities of the pairs of all requests."""
    xp = array_module(requests[0].velocity)
    return (
        Problem.concatenate([request.problem for request in requests]),
        MetricBatch.concatenate([request.metric for request in requests]),
        xp.concatenate([request.velocity for request in requests]),
    )

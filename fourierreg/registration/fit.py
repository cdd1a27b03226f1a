"""`minimise` for many pairs at once: L-BFGS whose rows are packed velocities (`lbfgs`)."""

import numpy as np
from threadpoolctl import threadpool_limits

from fourierreg.backend import array_module, to_numpy
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem
from fourierreg.optim.lbfgs import minimize
from fourierreg.registration.optimise import (
    NOT_FINITE,
    PRECONDITIONER_SHARE,
    WINDOW,
    Minimum,
)
from fourierreg.spectral.band import inner, pack, packed_diagonal, unpack
from fourierreg.spectral.metric import Metric


def fit_velocities(problems, metrics, starts, *, memories, tolerance, max_iterations, record):
    """As `minimise`, of problems of one `Problem.kind` in one band.

    Parameters
    ----------
    problems, metrics, starts, memories : sequences, one entry per pair
    tolerance, max_iterations
        As in `minimise`.
    record : callable
        Called as record(pair, prior, likelihood, gradient norm) with every accepted iteration.

    Returns
    -------
    list of Minimum, or the exception a pair ended in
    """
    xp = array_module(starts[0])
    finite = np.array([bool(xp.all(xp.isfinite(start))) for start in starts])
    results = [None if good else FloatingPointError(NOT_FINITE) for good in finite]
    kept = np.flatnonzero(finite)
    if kept.size:
        with threadpool_limits(1, user_api="blas"):
            run = _Pairs(*([values[i] for i in kept] for values in (problems, metrics)), xp)
            ends = run.minimise(
                xp.stack([starts[i] for i in kept]),
                [memories[i] for i in kept],
                tolerance,
                max_iterations,
                lambda pair, *energies: record(kept[pair], *energies),
            )
            for i, end in zip(kept, ends, strict=True):
                results[i] = end
    return results


class _Pairs:
    """The energies of several pairs as functions of rows of one array."""

    def __init__(self, problems, metrics, xp):
        self.problem, self.metric, self.xp = (
            Problem.together(problems),
            Metric.together(metrics),
            xp,
        )
        self.metrics, self.band = metrics, metrics[0].band
        self.chosen = None

    def packed(self, v):
        """Fields of all pairs as rows."""
        return pack(v, self.band, self.xp).reshape(v.shape[0], -1)

    def unpacked(self, x):
        """Rows as fields."""
        return unpack(x.reshape(x.shape[0], self.band.ndim, -1), self.band, self.xp)

    def minimise(self, v, memories, tolerance, max_iterations, record):
        """A `Minimum` for every pair."""
        v, first = self.admissible_start(v)
        inverse, gain = self.scale(first)
        self.energies = np.array(first[:3])

        def accept(row, norm):
            record(row, *self.energies[1:, row], norm)

        ends = minimize(
            self.objective,
            self.totals,
            self.packed(v),
            (first.total, self.packed(first.gradient)),
            inverse,
            gain,
            memories,
            enough=tolerance * np.sqrt(self.band.degrees_of_freedom),
            window=WINDOW,
            max_iterations=max_iterations,
            accept=accept,
        )
        found = self.unpacked(self.xp.stack([end.x for end in ends]))
        last = self.problem.evaluate(found, self.metric)
        return [
            Minimum(
                found[i].copy(),
                last.one(i, self.metrics[i]),
                end.iterations,
                end.settled,
                end.refused,
                end.pairs,
            )
            for i, end in enumerate(ends)
        ]

    def admissible_start(self, v):
        """Velocities shrunk until each shoots to a diffeomorphism, and their `Evaluation`."""
        evaluation = self.problem.evaluate(v, self.metric)
        while not np.all(np.isfinite(evaluation.total)):
            share = self.xp.asarray(np.where(np.isfinite(evaluation.total), 1.0, 0.8))
            v = share[(..., *[None] * (self.band.ndim + 1))] * v
            evaluation = self.problem.evaluate(v, self.metric)
        return v, evaluation

    def scale(self, first):
        """Diagonal that stands for the inverse Hessian, packed; and the factor that makes a first
        step along the gradient end at the minimiser along it under H."""
        xp, band = self.xp, self.band
        hessian = PosteriorHessian(self.metric, self.problem.curvature(first.geodesic))
        scale = hessian.prior(xp) + PRECONDITIONER_SHARE * hessian.curvature.diagonal
        along = first.gradient / scale
        slope = to_numpy(inner(first.gradient, along, band, xp))
        bend = to_numpy(inner(along, hessian(along), band, xp))
        gain = np.where(bend > 0, slope / np.where(bend > 0, bend, 1.0), 1.0)
        return 1.0 / packed_diagonal(scale, band, xp).reshape(scale.shape[0], -1), gain

    def objective(self, rows):
        """The function that gives what says the energies of some pairs, (rows, 5), and their packed
        gradients."""
        problem, metric, xp = self.problem, self.metric, self.xp
        if rows.size < len(self.metrics):
            problem, metric = problem.select(rows), metric.select(rows)
        problem.weight_of(1)  # made now, not while work is recorded
        metric.symbol(xp)
        self.chosen = problem

        def function(x):
            numbers, slope, _ = problem.measure(self.unpacked(x), metric)
            return xp.swapaxes(numbers, 0, 1), self.packed(slope)

        return function

    def totals(self, numbers, rows):
        """Energies of some pairs, from what `objective` says of them."""
        self.energies[:, rows] = self.chosen.energies(numbers.T)
        return self.energies[0, rows]

"""The package's L-BFGS compared with SciPy's L-BFGS-B, on real pairs at fixed α and noise.

    python benchmarks/lbfgs.py --data FOLDER --pairs 1000-1001 1006-1010

Both minimize the same energy from v = 0 on the search grid, with the same diagonal preconditioner
and stopping rule. σ and ρ are those of the residual before registration; a second run multiplies
the weight ρ/σ² by ten. Prints final energy, evaluations and seconds.
"""

import argparse
import math
import time
from dataclasses import replace

import brains
import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.model import Model
from fourierreg.registration.fit import WINDOW, fit
from fourierreg.registration.fit_rows import PRECONDITIONER_SHARE
from fourierreg.registration.inputs import read_inputs
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import noise_of
from fourierreg.spectral.band import pack, unpack

TOLERANCE, MAX_ITERATIONS, ALPHA = 0.02, 500, 3.0


def problem_of(source, target, spacing):
    """Problem and metric of a pair on the search grid."""
    inputs = read_inputs(source, target, Model(), alpha=ALPHA, spacing=spacing)
    state = Multiresolution(inputs.problem, inputs.metric, noise_of("estimate", None))
    state.estimate_noise(state.search_level)
    return state.problem(state.search_level), state.metric, state.velocity


class Counted:
    """Wrapper of a problem that counts its evaluations."""

    def __init__(self, problem):
        self.problem, self.evaluations = problem, 0

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def evaluate(self, v, metric):
        return type(self.problem).evaluate(self, v, metric)  # which calls `measure` below

    def measure(self, *arguments):
        self.evaluations += 1
        return self.problem.measure(*arguments)


def fit_ours(problem, metric, start):
    """Final energy of the fit of the package."""
    options = {"tolerance": TOLERANCE, "max_iterations": MAX_ITERATIONS}
    (minimum,) = fit(problem, metric, start, [None], record=lambda *_: None, **options)
    return float(minimum.evaluation.total[0])


def fit_scipy(problem, metric, start):
    """Final energy by SciPy. Where the map folds, the objective has a value above the best one and
    a gradient toward the best point, so that the line search backtracks."""
    band, first = metric.band, problem.evaluate(start, metric)
    hessian = PosteriorHessian(metric, problem.curvature(first.geodesic))
    scale = np.sqrt(hessian.prior(np) + PRECONDITIONER_SHARE * hessian.curvature.diagonal)
    step = first.gradient / scale / scale
    slope = float(np.sum(pack(first.gradient, band, np) * pack(step, band, np)))
    curvature = float(np.sum(pack(step, band, np) * pack(hessian(step), band, np)))
    unit = math.sqrt(slope / curvature)
    totals, best = [first.total[0]], [first.total[0], np.zeros(band.degrees_of_freedom)]

    def objective(x):
        v = unit * unpack(x.reshape(1, band.ndim, -1), band, np) / scale
        found = problem.evaluate(v, metric)
        if found.gradient is None:
            step_from_best = x - best[1]
            rise = max(abs(best[0]), 1.0)
            squared_length = max(float(step_from_best @ step_from_best), 1e-300)
            return best[0] + rise, 2 * rise * step_from_best / squared_length
        if found.total[0] < best[0]:
            best[:] = found.total[0], x.copy()
        return found.total[0], unit * pack(found.gradient / scale, band, np).ravel()

    def callback(intermediate_result):
        totals.append(best[0])
        min_decrease = TOLERANCE * math.sqrt(band.degrees_of_freedom)
        if len(totals) > WINDOW and totals[-WINDOW - 1] - totals[-1] < min_decrease:
            raise StopIteration

    options = {"maxiter": MAX_ITERATIONS, "ftol": 0.0, "gtol": 0.0, "maxcor": 30}
    minimize(objective, best[1], jac=True, method="L-BFGS-B", callback=callback, options=options)
    return float(best[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    options = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        for name, (source, _, spacing), (target, _, _) in brains.pairs(options):
            problem, metric, start = problem_of(source, target, spacing)
            problem.evaluate(start, metric)  # compiles
            for weight in (1.0, 10.0):
                row = []
                for function in (fit_ours, fit_scipy):
                    counted = Counted(_weighted(problem, weight))
                    began = time.perf_counter()
                    energy = function(counted, metric, start)
                    row.append((energy, counted.evaluations, time.perf_counter() - began))
                print(
                    f"{name}, weight × {weight:g}: "
                    + "; ".join(
                        f"{kind} {energy:.1f} nats, {count} evaluations, {seconds:.1f} s"
                        for kind, (energy, count, seconds) in zip(
                            ("fourierreg", "SciPy"), row, strict=True
                        )
                    ),
                    flush=True,
                )


def _weighted(problem, factor):
    """The problem with its weight multiplied by a factor."""
    return replace(problem, weight=factor * problem.weight)


if __name__ == "__main__":
    main()

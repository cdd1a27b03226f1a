"""How far the end map of a geodesic is from the flow of its velocity."""

import math
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.spectral.metric import MetricBatch
from fourierreg.spectral.transform import synthesis

ORDERS = {"euler": 1, "rk4": 4}
MAX_STEPS = 16
SAFETY = 0.8  # of the error that more steps aim at


def flow_error(problem: Any, velocity: Array, metric: MetricBatch) -> np.ndarray:
    """Largest distance, in mm, between each end map of a `Problem` and that of steps half as long,
    on its grid; a float array (pairs,).

    By Richardson's extrapolation it is the error of the map, up to a part in 2^order; infinite
    where the flow diverges.
    """
    xp, band = array_module(velocity), metric.band
    ends = [
        problem.with_steps(num_steps).shoot(velocity, metric, linearize=False)
        for num_steps in (problem.num_steps, 2 * problem.num_steps)
    ]
    coarse, fine = (end.displacement_coefficients() for end in ends)
    with np.errstate(over="ignore", invalid="ignore"):
        u = synthesis(fine - coarse, band, problem.shape, np.float32, xp)
        largest = to_numpy(xp.max(xp.sum(u * u, axis=1).reshape(u.shape[0], -1), axis=1))
    return np.sqrt(np.where(np.isfinite(largest), largest, math.inf), dtype=float)


def more_steps(num_steps: int, integrator: str, error: float, tolerance: float) -> int:
    """Number of steps at which an error is expected to be within the tolerance: at least one more,
    at most twice as many."""
    ratio = (error / (SAFETY * tolerance)) ** (1 / ORDERS[integrator])
    enough = math.ceil(num_steps * ratio) if math.isfinite(ratio) else 2 * num_steps
    return min(max(enough, num_steps + 1), 2 * num_steps, MAX_STEPS)

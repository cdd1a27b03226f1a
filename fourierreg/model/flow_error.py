"""How far the end map of a geodesic is from the flow of its velocity."""

import math
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.geodesic.shooting import Geodesic
from fourierreg.spectral.metric import MetricBatch
from fourierreg.spectral.transform import synthesis

ORDERS = {"euler": 1, "rk4": 4}
MAX_STEPS = 16
SAFETY = 0.8  # of the error that more steps aim at


def flow_error(problem: Any, velocity: Array, metric: MetricBatch, geodesic: Geodesic) -> float:
    """Largest distance, in mm, between the end map of a `Problem` of one pair and that of steps
    half as long, on its grid.

    By Richardson's extrapolation it is the error of the map, up to a part in 2^order; infinite
    where the flow diverges.
    """
    xp, band = array_module(velocity), metric.band
    finer = problem.with_steps(2 * problem.num_steps).shoot(velocity, metric, linearize=False)
    difference = finer.displacement_coefficients() - geodesic.displacement_coefficients()
    if not bool(xp.all(xp.isfinite(difference))):
        return math.inf
    u = synthesis(difference, band, problem.shape, np.float32, xp)
    return math.sqrt(float(xp.max(xp.sum(u * u, axis=1))))


def more_steps(num_steps: int, integrator: str, error: float, tolerance: float) -> int:
    """Number of steps at which an error is expected to be within the tolerance: at least one more,
    at most twice as many."""
    ratio = (error / (SAFETY * tolerance)) ** (1 / ORDERS[integrator])
    enough = math.ceil(num_steps * ratio) if math.isfinite(ratio) else 2 * num_steps
    return min(max(enough, num_steps + 1), 2 * num_steps, MAX_STEPS)

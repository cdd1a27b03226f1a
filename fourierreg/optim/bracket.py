"""Find the minimum of a sum of losses over ln α, each value of which costs a registration.

The minimum is bracketed by steps of a factor of two, and taken from the parabola through the three
points. How far the minima of the parts of the sum lie apart tells how well it is known.
"""

import math
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from scipy import stats

from fourierreg.optim.root import FOUND, NO_OPTIMUM, NOT_CONVERGED, Root

STEP = math.log(2.0)


def find_minimum(
    losses_at: Callable[[list[float]], Generator[Any, Any, Any]],
    start: float,
    *,
    lower: float,
    upper: float,
    max_values: int = 10,
) -> Generator[Any, Any, Root]:
    """Minimum of Σ_j f_j(ln α).

    Parameters
    ----------
    losses_at : callable
        List of ln α -> coroutine (`fourierreg.optim.batching`) that returns for each the losses f_j
        of independent parts of the data, a float array (parts,).
    start, lower, upper : float
        Initial ln α, and the limits of the search.
    max_values : int

    Returns
    -------
    coroutine that returns a Root
        Its `sd` is the standard error of a minimum of a sum of independent losses, Σ_j (f_j' - f̄')²
        over f″² (the sandwich estimator), as wide as Student's distribution of so few parts.
    """
    values: dict[int, np.ndarray] = {}  # at whole multiples of STEP from the start

    def best():
        return min(values, key=lambda k: float(values[k].sum()))

    while len(values) < max_values:
        wanted = [0, 1, -1] if not values else [best() + 1, best() - 1]
        missing = [k for k in wanted if k not in values]
        if not missing:
            return _parabola(values, best(), start)
        positions = [start + STEP * k for k in missing]
        if not all(lower <= position <= upper for position in positions):
            return Root(start + STEP * best(), math.nan, NO_OPTIMUM)
        found = yield from losses_at(positions)
        values |= {k: np.asarray(own, dtype=float) for k, own in zip(missing, found, strict=True)}
    return Root(start + STEP * best(), math.nan, NOT_CONVERGED)


def _parabola(values: dict[int, np.ndarray], best: int, start: float) -> Root:
    """Vertex of the parabola through the lowest point and its neighbors."""
    low, middle, high = (values[best + side] for side in (-1, 0, 1))
    slopes, bends = (high - low) / (2 * STEP), (high - 2 * middle + low) / STEP**2
    bend = float(bends.sum())
    if bend <= 0:
        return Root(start + STEP * best, math.nan, FOUND)
    shift = -float(slopes.sum()) / bend
    at_vertex, parts = slopes + bends * shift, len(slopes)
    if parts < 2:
        return Root(start + STEP * best + shift, math.nan, FOUND)
    spread = parts * float(np.var(at_vertex, ddof=1))
    widening = stats.t.ppf(0.975, parts - 1) / stats.norm.ppf(0.975)
    return Root(start + STEP * best + shift, widening * math.sqrt(spread) / bend, FOUND)

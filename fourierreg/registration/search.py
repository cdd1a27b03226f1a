"""Find where dF/d ln α vanishes, and how sharply it crosses zero there.

Each slope costs a registration, so the search is a safeguarded secant in ln α that starts from
the curvature at frozen v; it knows nothing of images.
"""

import math
from typing import NamedTuple

MAX_STEP = math.log(2.0)
MIN_SPREAD, MAX_SPREAD = 0.1, 0.3  # of ln α between the two slopes that give the curvature
FROZEN_SHARE = 0.6  # d²F at re-optimised v, as a share of that at frozen v (DESIGN: 0.5 to 0.7)


class Root(NamedTuple):
    """ln α, its standard deviation, and whether an interior optimum was found."""

    log_alpha: float
    sd: float
    found: bool


def find_root(slope_at, start, *, lower, upper, tolerance, max_slopes=12, error_bar=True):
    """Root of an increasing function of ln α.

    Parameters
    ----------
    slope_at : callable
        ln α -> object with `value` and `frozen_curvature`.
    start, lower, upper : float
        ln α to start from, and the limits of the search.
    tolerance : float
        Step in ln α below which the search stops.
    max_slopes : int
    error_bar : bool
        Make sure that two slopes at least `MIN_SPREAD` apart give the curvature.
    """
    points = []
    log_alpha, found = start, False
    while len(points) < max_slopes:
        slope = slope_at(log_alpha)
        points.append((log_alpha, slope.value))
        step = _step(points, slope.frozen_curvature)
        if abs(step) <= tolerance:
            found = True
            break
        if not lower <= log_alpha + step <= upper:
            break
        log_alpha += step
    if not found:
        return Root(log_alpha, math.nan, False)
    root = log_alpha + step
    curvature = _curvature(points, root)
    if error_bar and curvature is None:
        sd = 1 / math.sqrt(max(FROZEN_SHARE * slope.frozen_curvature, 1.0))
        probe = root - max(1.5 * MIN_SPREAD, min(2 * sd, 0.8 * MAX_SPREAD))
        points.append((probe, slope_at(probe).value))
        curvature = _curvature(points, root)
    if curvature is None or curvature <= 0:
        return Root(root, math.nan, True)
    return Root(root, 1 / math.sqrt(curvature), True)


def _step(points, frozen_curvature):
    """Change of ln α that should bring the last slope to zero."""
    last, value = points[-1]
    below = max((p for p in points if p[1] < 0), default=None)
    above = min((p for p in points if p[1] > 0), default=None)
    if below and above and below[0] < above[0]:
        share = below[1] / (below[1] - above[1])
        target = below[0] + min(max(share, 0.05), 0.95) * (above[0] - below[0])
        return target - last
    curvature = FROZEN_SHARE * frozen_curvature
    if len(points) > 1:
        (a, fa), (b, fb) = points[-2:]
        secant = (fb - fa) / (b - a) if b != a else 0.0
        curvature = secant if secant > 0 else 0.0
    step = -value / curvature if curvature > 0 else -math.copysign(math.inf, value)
    return min(max(step, -MAX_STEP), MAX_STEP)


def _curvature(points, root):
    """Slope of the slopes between the two points around `root` that are far enough apart."""
    nearest = sorted(points, key=lambda p: abs(p[0] - root))
    for other in nearest[1:]:
        if MIN_SPREAD <= abs(other[0] - nearest[0][0]) <= MAX_SPREAD:
            return (other[1] - nearest[0][1]) / (other[0] - nearest[0][0])
    return None

"""Find where dF/d ln α vanishes, and how sharply it crosses zero there.

Each slope costs a registration, so the search is a safeguarded secant in ln α that starts from
the curvature at frozen v; it knows nothing of images.
"""

import math
from typing import NamedTuple

MAX_STEP = math.log(2.0)
MIN_SPREAD, MAX_SPREAD = 0.1, 0.3  # of ln α between the two slopes that give the curvature
SPREAD = 0.15  # where a second slope is taken once the first is close to the root
EXTRAPOLATION = 0.08  # how far beyond those two the root may lie
FROZEN_SHARE = 0.6  # d²F at re-optimised v, as a share of that at frozen v (DESIGN: 0.5 to 0.7)


class Root(NamedTuple):
    """ln α, its standard deviation, and whether an interior optimum was found."""

    log_alpha: float
    sd: float
    found: bool


def find_root(slope_at, start, *, lower, upper, tolerance, max_slopes=12):
    """Root of an increasing function of ln α, and the slope of that function there.

    It ends where a step is below `tolerance`, or where two slopes `MIN_SPREAD` to `MAX_SPREAD`
    apart, between which the function is close to a line, have the root between or beside them.

    Parameters
    ----------
    slope_at : callable
        ln α -> object with `value` and `frozen_curvature`.
    start, lower, upper : float
        ln α to start from, and the limits of the search.
    tolerance : float
        Step in ln α below which the root is found.
    max_slopes : int
    """
    points, log_alpha = [], start
    while len(points) < max_slopes and lower <= log_alpha <= upper:
        slope = slope_at(log_alpha)
        points.append((log_alpha, slope.value))
        step = _step(points, slope.frozen_curvature)
        root = log_alpha + step
        curvature = _curvature(points, root)
        close = abs(step) <= tolerance or _on_a_line(points, root, slope.frozen_curvature)
        if close and curvature is not None:
            return Root(root, 1 / math.sqrt(curvature) if curvature > 0 else math.nan, True)
        if curvature is None and abs(step) < SPREAD:
            # Far enough for a curvature; upwards where it is near, because fits from a rougher
            # velocity settle sooner than those that must find new detail.
            step = SPREAD if step > -SPREAD / 2 else -SPREAD
        log_alpha += step
    return Root(min(max(log_alpha, lower), upper), math.nan, False)


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
    far = [p for p in points[:-1] if abs(p[0] - last) >= MIN_SPREAD]
    if far:  # two fits too close to each other differ by where they stopped
        curvature = (far[-1][1] - value) / (far[-1][0] - last)
    step = -value / curvature if curvature > 0 else -math.copysign(math.inf, value)
    return min(max(step, -MAX_STEP), MAX_STEP)


def _pair(points, root):
    """The point nearest to the root and the next that is far enough from it, or None."""
    nearest = sorted(points, key=lambda p: abs(p[0] - root))
    for other in nearest[1:]:
        if MIN_SPREAD <= abs(other[0] - nearest[0][0]) <= MAX_SPREAD:
            return nearest[0], other
    return None


def _curvature(points, root):
    """Slope of the slopes between the two points of `_pair`, or None."""
    pair = _pair(points, root)
    if pair is None:
        return None
    (a, fa), (b, fb) = pair
    return (fb - fa) / (b - a)


def _on_a_line(points, root, frozen_curvature):
    """Whether the root follows from two points between which the function is close to a line."""
    pair = _pair(points, root)
    if pair is None or not 0 < _curvature(points, root) <= max(frozen_curvature, 0.0):
        return False
    low, high = sorted(p[0] for p in pair)
    return low - EXTRAPOLATION <= root <= high + EXTRAPOLATION

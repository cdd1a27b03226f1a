"""Find where dF/d ln α vanishes, and how sharply it crosses zero there.

Each slope costs a registration, so the search is a safeguarded secant in ln α that starts from
the curvature at frozen v; it knows nothing of images.
"""

import math
from typing import NamedTuple

from scipy.optimize import brentq

MAX_STEP = math.log(2.0)
MIN_SPREAD, MAX_SPREAD = 0.1, 0.3  # of ln α between the two slopes that give the curvature
SPREAD = 0.15  # where a second slope is taken once the first is close to the root
EXTRAPOLATION = 0.08  # how far beyond those two the root may lie
FROZEN_SHARE = 0.6  # d²F at re-optimised v, as a share of that at frozen v (0.5 to 0.7)


MAX_SKEW = 3.0

FOUND, NOT_MET, UNSETTLED = "found", "not met", "unsettled"


class Root(NamedTuple):
    """ln α, its standard deviation, how the search for it ended, and the skewness there.

    sd = (d²F/d(ln α)²)^{-1/2}, NaN where there is no minimum; `ending` is `FOUND`, `NOT_MET` (the
    slope had one sign wherever it was taken) or `UNSETTLED` (the steps ran out); `skew` =
    d ln(d²F)/d ln α; `error` is the standard error of ln α from other sources.
    """

    log_alpha: float
    sd: float
    ending: str
    skew: float = 0.0
    error: float = 0.0

    @property
    def found(self):
        """Whether it is an optimum."""
        return self.ending == FOUND

    def interval(self, z=1.96):
        """ln α on both sides where F has risen by z²/2, with d²F growing exponentially.

        F rises by (e^{gx} - 1 - gx) / (g sd)² at a distance x, g the skewness: a quadratic and a
        little more. 95 % of the posterior for z = 1.96. `error` is added in squares.
        """
        if not math.isfinite(self.sd):
            return math.nan, math.nan
        sd = math.hypot(self.sd, self.error)
        g = min(max(self.skew * sd, -1.0), 1.0)  # per standard deviation; more is beyond its reach

        def excess(x):
            rise = 0.5 * x**2 if abs(g * x) < 1e-4 else (math.expm1(g * x) - g * x) / g**2
            return rise - 0.5 * z**2

        low, high = (brentq(excess, 0.0, side * 20 * z) for side in (-1, 1))
        return self.log_alpha + sd * low, self.log_alpha + sd * high


def find_root(slope_at, start, *, lower, upper, tolerance, max_slopes=12):
    """Root of an increasing function of ln α, and the slope of that function there.

    It ends where a step is below `tolerance`, or where two slopes `MIN_SPREAD` to `MAX_SPREAD`
    apart, between which the function is close to a line, have the root between or beside them.

    Parameters
    ----------
    slope_at : callable
        ln α -> object with `value`, its standard error `noise`, and `frozen_curvature`.
    start, lower, upper : float
        ln α to start from, and the limits of the search.
    tolerance : float
        Step in ln α below which the root is found.
    max_slopes : int
    """
    points, log_alpha = [], start
    while len(points) < max_slopes and lower <= log_alpha <= upper:
        slope = slope_at(log_alpha)
        points.append(_Point(log_alpha, slope.value, slope.frozen_curvature))
        step = _step(points, slope.frozen_curvature)
        root = log_alpha + step
        curvature = _curvature(points, root)
        close = abs(step) <= tolerance or _on_a_line(points, root, slope.frozen_curvature)
        if close and curvature is not None:
            if curvature <= 0:
                return Root(root, math.nan, FOUND, _skew(points, root))
            error = slope.noise / curvature
            return Root(root, curvature**-0.5, FOUND, _skew(points, root), error)
        if curvature is None and abs(step) < SPREAD:
            # Far enough for a curvature; upwards where it is near, because fits from a rougher
            # velocity settle sooner than those that must find new detail.
            step = SPREAD if step > -SPREAD / 2 else -SPREAD
        log_alpha += step
    crossed = min(p.value for p in points) < 0 < max(p.value for p in points)
    ending = UNSETTLED if crossed and lower <= log_alpha <= upper else NOT_MET
    return Root(min(max(log_alpha, lower), upper), math.nan, ending)


class _Point(NamedTuple):
    log_alpha: float
    value: float
    frozen_curvature: float


def _step(points, frozen_curvature):
    """Change of ln α that should bring the last slope to zero."""
    last = points[-1]
    below = max((p for p in points if p.value < 0), default=None)
    above = min((p for p in points if p.value > 0), default=None)
    if below and above and below.log_alpha < above.log_alpha:
        share = below.value / (below.value - above.value)
        width = above.log_alpha - below.log_alpha
        return below.log_alpha + min(max(share, 0.05), 0.95) * width - last.log_alpha
    curvature = FROZEN_SHARE * frozen_curvature
    far = [p for p in points[:-1] if abs(p.log_alpha - last.log_alpha) >= MIN_SPREAD]
    if far:  # two fits too close to each other differ by where they stopped
        curvature = _secant(far[-1], last)
    step = -last.value / curvature if curvature > 0 else -math.copysign(math.inf, last.value)
    return min(max(step, -MAX_STEP), MAX_STEP)


def _secant(a, b):
    return (b.value - a.value) / (b.log_alpha - a.log_alpha)


def _pair(points, root):
    """The point nearest to the root and the next that is far enough from it, or None."""
    nearest = sorted(points, key=lambda p: abs(p.log_alpha - root))
    for other in nearest[1:]:
        if MIN_SPREAD <= abs(other.log_alpha - nearest[0].log_alpha) <= MAX_SPREAD:
            return nearest[0], other
    return None


def _skew(points, root):
    """d ln(d²F)/d ln α, that at frozen v for that of F: they grow alike."""
    a, b = _pair(points, root)
    if min(a.frozen_curvature, b.frozen_curvature) <= 0:
        return 0.0
    ratio = math.log(b.frozen_curvature / a.frozen_curvature) / (b.log_alpha - a.log_alpha)
    return min(max(ratio, -MAX_SKEW), MAX_SKEW)


def _curvature(points, root):
    """d²F at the root from the two points of `_pair`, or None.

    The slope of the slopes belongs to the middle between the two; the skewness takes it to the
    root.
    """
    pair = _pair(points, root)
    if pair is None:
        return None
    a, b = pair
    middle = 0.5 * (a.log_alpha + b.log_alpha)
    return _secant(a, b) * math.exp(_skew(points, root) * (root - middle))


def _on_a_line(points, root, frozen_curvature):
    """Whether the root follows from two points between which the function is close to a line."""
    pair = _pair(points, root)
    if pair is None or not 0 < _secant(*pair) <= max(frozen_curvature, 0.0):
        return False
    low, high = sorted(p.log_alpha for p in pair)
    return low - EXTRAPOLATION <= root <= high + EXTRAPOLATION

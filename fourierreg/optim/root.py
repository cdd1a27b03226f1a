"""Find the root of an increasing function of ln α, and how steeply it crosses zero there.

Each value costs a registration, so the search is a safeguarded secant that starts from a guess of
the derivative, the curvature at frozen velocity. It knows nothing of images.
"""

import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from scipy.optimize import brentq

MAX_STEP = math.log(2.0)
MIN_SPREAD, MAX_SPREAD = 0.1, 0.3  # in ln α, between the two slopes that give the curvature
SPREAD = 0.15  # in ln α, to a second slope once the first is close to the root
EXTRAPOLATION = 0.08  # in ln α, how far beyond those two the root may lie
FROZEN_SHARE = 0.6  # d²F with the velocity re-optimized over d²F at frozen velocity (0.5 to 0.7)
MAX_SKEW = 3.0

FOUND, NO_OPTIMUM, NOT_CONVERGED = "found", "no interior optimum", "not converged"


class Root(NamedTuple):
    """Root of the slope dF/d ln α.

    Attributes
    ----------
    log_alpha : float
    sd : float
        Standard deviation of ln α, (d²F/d(ln α)²)^{-1/2}; NaN where F has no minimum.
    ending : str
        `FOUND`, `NO_OPTIMUM` (every slope had the same sign) or `NOT_CONVERGED` (out of steps).
    skew : float
        d ln(d²F) / d ln α.
    error : float
        Standard error of ln α from other sources.
    """

    log_alpha: float
    sd: float
    ending: str
    skew: float = 0.0
    error: float = 0.0

    @property
    def found(self) -> bool:
        """Whether it is an optimum."""
        return self.ending == FOUND

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """ln α on both sides where F has risen by z²/2, with d²F growing exponentially.

        At a distance x F rises by (e^{gx} - 1 - gx) / (g sd)², g the skewness. z = 1.96 gives 95 %
        of the posterior. `error` is added in quadrature.
        """
        if not math.isfinite(self.sd):
            return math.nan, math.nan
        sd = math.hypot(self.sd, self.error)
        g = min(max(self.skew * sd, -1.0), 1.0)  # per standard deviation; bounded where it is valid

        def excess(x: float) -> float:
            rise = 0.5 * x**2 if abs(g * x) < 1e-4 else (math.expm1(g * x) - g * x) / g**2
            return rise - 0.5 * z**2

        low, high = (brentq(excess, 0.0, side * 20 * z) for side in (-1, 1))
        return self.log_alpha + sd * low, self.log_alpha + sd * high


class _Point(NamedTuple):
    log_alpha: float
    value: float
    frozen_curvature: float


def find_root(
    slope_at: Callable[[float], Generator[Any, Any, Any]],
    start: float,
    *,
    lower: float,
    upper: float,
    tolerance: float,
    max_slopes: int = 12,
) -> Generator[Any, Any, Root]:
    """Root of an increasing function of ln α, with the slope of the function there.

    The search ends where a step is below `tolerance`, or where two slopes `MIN_SPREAD` to
    `MAX_SPREAD` apart, between which the function is close to a line, have the root between or
    beside them.

    Parameters
    ----------
    slope_at : callable
        ln α -> coroutine (`fourierreg.optim.batching`) that returns an object with `value`, its
        standard error `noise`, and `frozen_curvature`.
    start, lower, upper : float
        Initial ln α, and the limits of the search.
    tolerance : float
        Step in ln α below which the root is found.
    max_slopes : int

    Returns
    -------
    coroutine that returns a Root
    """
    points: list[_Point] = []
    log_alpha = start
    while len(points) < max_slopes and lower <= log_alpha <= upper:
        slope = yield from slope_at(log_alpha)
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
            # Far enough for a curvature; upwards where the root is near, because fits that start
            # from a rougher velocity converge sooner than those that must find new detail.
            step = SPREAD if step > -SPREAD / 2 else -SPREAD
        log_alpha += step
    crossed = min(p.value for p in points) < 0 < max(p.value for p in points)
    ending = NOT_CONVERGED if crossed and lower <= log_alpha <= upper else NO_OPTIMUM
    return Root(min(max(log_alpha, lower), upper), math.nan, ending)


def _step(points: list[_Point], frozen_curvature: float) -> float:
    """Change of ln α that should bring the last slope to zero."""
    last = points[-1]
    below = max((p for p in points if p.value < 0), default=None)
    above = min((p for p in points if p.value > 0), default=None)
    if below and above and below.log_alpha < above.log_alpha:
        fraction = below.value / (below.value - above.value)
        width = above.log_alpha - below.log_alpha
        return below.log_alpha + min(max(fraction, 0.05), 0.95) * width - last.log_alpha
    curvature = FROZEN_SHARE * frozen_curvature
    far = [p for p in points[:-1] if abs(p.log_alpha - last.log_alpha) >= MIN_SPREAD]
    if far:  # two fits too close to each other differ mainly by where they stopped
        curvature = _secant(far[-1], last)
    step = -last.value / curvature if curvature > 0 else -math.copysign(math.inf, last.value)
    return min(max(step, -MAX_STEP), MAX_STEP)


def _secant(a: _Point, b: _Point) -> float:
    return (b.value - a.value) / (b.log_alpha - a.log_alpha)


def _bracket(points: list[_Point], root: float) -> tuple[_Point, _Point] | None:
    """The point nearest to the root and the next that is far enough from it, or None."""
    nearest = sorted(points, key=lambda p: abs(p.log_alpha - root))
    for other in nearest[1:]:
        if MIN_SPREAD <= abs(other.log_alpha - nearest[0].log_alpha) <= MAX_SPREAD:
            return nearest[0], other
    return None


def _skew(points: list[_Point], root: float) -> float:
    """d ln(d²F)/d ln α, from the curvature at frozen velocity, which grows at the same rate."""
    pair = _bracket(points, root)
    if pair is None:
        return 0.0
    a, b = pair
    if min(a.frozen_curvature, b.frozen_curvature) <= 0:
        return 0.0
    ratio = math.log(b.frozen_curvature / a.frozen_curvature) / (b.log_alpha - a.log_alpha)
    return min(max(ratio, -MAX_SKEW), MAX_SKEW)


def _curvature(points: list[_Point], root: float) -> float | None:
    """d²F at the root from the two points of `_bracket`, or None.

    Their secant is the curvature half way between them; the skewness extrapolates it to the root.
    """
    pair = _bracket(points, root)
    if pair is None:
        return None
    a, b = pair
    middle = 0.5 * (a.log_alpha + b.log_alpha)
    return _secant(a, b) * math.exp(_skew(points, root) * (root - middle))


def _on_a_line(points: list[_Point], root: float, frozen_curvature: float) -> bool:
    """Whether the root follows from two points between which the function is close to a line."""
    pair = _bracket(points, root)
    if pair is None or not 0 < _secant(*pair) <= max(frozen_curvature, 0.0):
        return False
    low, high = sorted(p.log_alpha for p in pair)
    return low - EXTRAPOLATION <= root <= high + EXTRAPOLATION

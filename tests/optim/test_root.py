"""The search for the root of dF/d ln α, on functions whose root is known."""

import math
from types import SimpleNamespace

import pytest

from fourierreg.optim.batching import run
from fourierreg.optim.root import FOUND, NO_OPTIMUM, NOT_CONVERGED, Root, find_root


def find(slope_at, start, **limits):
    """`find_root` of a plain function, which requests nothing."""

    def coroutine(x):
        return slope_at(x)
        yield

    return run(find_root(coroutine, start, **limits))


LIMITS = {"lower": math.log(1e-2), "upper": math.log(1e3), "tolerance": 0.01}


class Function:
    """A slope, its derivative at frozen v (a share of the true one), and where it was asked."""

    def __init__(self, value, derivative, frozen=1.6, noise=0.0):
        self.value, self.derivative, self.frozen, self.noise = value, derivative, frozen, noise
        self.calls = []

    def __call__(self, x):
        self.calls.append(x)
        return SimpleNamespace(
            value=self.value(x),
            noise=self.noise,
            frozen_curvature=self.frozen * self.derivative(x),
        )


def line(root, curvature, frozen=1.6):
    return Function(lambda x: curvature * (x - root), lambda x: curvature, frozen)


def exponential(root):
    return Function(lambda x: 50 * (math.exp(x) - math.exp(root)), lambda x: 50 * math.exp(x))


@pytest.mark.parametrize("frozen", [0.3, 1.0, 1.6, 10.0])
@pytest.mark.parametrize("start", [-1.0, 0.5, 1.1, 4.0])
def test_line(start, frozen):
    root, curvature = 1.1, 80.0
    slope = line(root, curvature, frozen)
    found = find(slope, start, **LIMITS)
    assert found.found
    assert abs(found.log_alpha - root) <= LIMITS["tolerance"]
    # sd = (d²F/d(ln α)²)^{-1/2}; differences of a line are exact.
    assert math.isclose(found.sd, 1 / math.sqrt(curvature), rel_tol=1e-9)


@pytest.mark.parametrize("start", [-1.0, 0.5, 1.5, 3.0])
def test_convex(start):
    root = 1.1
    slope = exponential(root)
    found = find(slope, start, **LIMITS)
    assert found.found
    assert abs(found.log_alpha - root) <= 2 * LIMITS["tolerance"]
    # The frozen curvature grows as the true one does, which takes the difference to the root.
    assert math.isclose(found.sd, 1 / math.sqrt(50 * math.exp(root)), rel_tol=0.02)
    assert math.isclose(found.skew, 1.0, rel_tol=1e-6)


def test_the_error_of_the_traces_widens_the_interval():
    slope = Function(lambda x: 80.0 * (x - 1.1), lambda x: 80.0, noise=16.0)
    found = find(slope, 0.5, **LIMITS)
    assert math.isclose(found.sd, 80**-0.5) and math.isclose(found.error, 0.2)
    low, high = found.interval()
    assert math.isclose(high - low, 2 * 1.96 * math.hypot(80**-0.5, 0.2), rel_tol=1e-3)


def test_interval_is_where_f_has_risen():
    # F = 50 (eˣ - eʳ x): the ends of the interval lie 1.96²/2 above the minimum.
    root = 1.1

    def f(x):
        return 50 * (math.exp(x) - math.exp(root) * x)

    found = find(exponential(root), 1.3, **LIMITS)
    low, high = found.interval()
    for end in (low, high):
        assert math.isclose(f(end) - f(root), 1.96**2 / 2, rel_tol=0.05)
    assert root - low > high - root  # flatter below


def test_interval_of_a_line_is_symmetric():
    found = Root(0.5, 0.1, FOUND)
    assert found.interval() == pytest.approx((0.5 - 0.196, 0.5 + 0.196))
    assert all(math.isnan(x) for x in Root(0.5, math.nan, FOUND).interval())


@pytest.mark.parametrize("start", [-1.0, 3.0])
def test_concave(start):
    slope = Function(lambda x: -20 * (math.exp(-x) - math.exp(-1)), lambda x: 20 * math.exp(-x))
    found = find(slope, start, **LIMITS)
    assert found.found
    assert abs(found.log_alpha - 1) <= 2 * LIMITS["tolerance"]


def test_a_step_function_is_bracketed():
    # Nothing but its sign is to be trusted: tanh is flat away from the root.
    slope = Function(
        lambda x: 100 * math.tanh(20 * (x - 1.3)),
        lambda x: 2000 / math.cosh(min(20 * abs(x - 1.3), 300)) ** 2,
    )
    found = find(slope, 0.0, **LIMITS, max_slopes=40)
    assert found.found
    assert abs(found.log_alpha - 1.3) <= 2 * LIMITS["tolerance"]


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_no_root(sign):
    # The joint objective, falling all the way: the search ends at its limits and says so.
    slope = Function(lambda x: sign * (10 + math.exp(-abs(x))), lambda x: 1.0)
    found = find(slope, 1.0, **LIMITS)
    assert not found.found
    assert math.isnan(found.sd)
    assert all(LIMITS["lower"] <= x <= LIMITS["upper"] for x in slope.calls)


def test_negative_curvature_walks_towards_the_root():
    # At an unconverged start the frozen curvature may be negative: only the sign counts then.
    slope = Function(lambda x: 60 * (x - 2), lambda x: -1.0)
    found = find(slope, 0.0, **LIMITS)
    assert found.found
    assert abs(found.log_alpha - 2) <= LIMITS["tolerance"]


def test_slopes_are_counted():
    slope = exponential(1.1)
    find(slope, 4.0, **LIMITS, max_slopes=2)
    assert len(slope.calls) == 2


def test_near_the_root_two_slopes_do():
    slope = line(1.1, 80.0)
    for start in (1.02, 1.1, 1.15):
        slope.calls.clear()
        found = find(slope, start, **LIMITS)
        assert len(slope.calls) == 2
        assert math.isclose(found.sd, 1 / math.sqrt(80.0), rel_tol=1e-9)


def test_two_close_slopes_are_not_differenced():
    # A fit that stops early is off by a constant: between close points that is all there is.
    slope = line(1.1, 80.0, frozen=1 / 0.6)
    noisy = Function(lambda x: slope.value(x) + (3.0 if slope.calls else -3.0), slope.derivative)

    def value(x):
        result = noisy(x)
        slope.calls.append(x)
        return result

    found = find(value, 1.04, **LIMITS)
    assert found.found
    assert abs(found.log_alpha - 1.1) < 2 * 3.0 / 80.0


def test_how_a_search_ends():
    """No sign of a root is another matter than a root that was not pinned down."""
    assert find(line(20.0, 80.0), 0.0, **LIMITS).ending == NO_OPTIMUM
    assert find(line(-20.0, 80.0), 0.0, **LIMITS).ending == NO_OPTIMUM
    assert find(line(5.0, 80.0), 0.0, **LIMITS, max_slopes=2).ending == NO_OPTIMUM
    jump = Function(lambda x: math.copysign(1e3, x - 1.1), lambda x: 80.0)
    assert find(jump, 0.0, **LIMITS, max_slopes=4).ending == NOT_CONVERGED
    assert find(line(5.0, 80.0), 0.0, **LIMITS).ending == FOUND


def test_the_interval_of_a_flat_posterior_is_wide():
    """Skewness times a large standard deviation does not overflow."""
    low, high = Root(0.0, 8.0, FOUND, skew=3.0).interval()
    assert -30 < low < -20 and 10 < high < 16
    mirrored = Root(0.0, 8.0, FOUND, skew=-3.0).interval()
    assert mirrored == pytest.approx((-high, -low))

"""Laws that operators obey, as reusable checks (the idea of SigPy's and PyLops' dot tests).

Tolerances come from the floating-point type (`rtol_of`), or from what a test says in one comment.
"""

import math
import pickle

import numpy as np

from fourierreg.backend import to_numpy


def rtol_of(dtype):
    """4 √eps: loose enough for any sum of rounding errors, tight enough for any wrong formula."""
    return 4.0 * math.sqrt(np.finfo(dtype).eps)


DOUBLE = rtol_of(np.float64)


def close(actual, expected, rtol=None):
    """|actual - expected| <= rtol max|expected|, entry by entry; rtol from the coarser type."""
    actual, expected = np.asarray(to_numpy(actual)), np.asarray(to_numpy(expected))
    assert actual.shape == expected.shape
    if rtol is None:
        kinds = [a.dtype for a in (actual, expected) if a.dtype.kind in "fc"]
        rtol = max((rtol_of(kind) for kind in kinds), default=0.0)
    error = float(np.max(np.abs(actual - expected)))
    size = float(np.max(np.abs(expected)))
    assert error <= rtol * size, f"error {error:.3g}, largest value {size:.3g}, rtol {rtol:.3g}"


def linear(op, x, y, rtol=None):
    """A(2x - 3y) = 2 A x - 3 A y."""
    close(op(2.0 * x - 3.0 * y), 2.0 * op(x) - 3.0 * op(y), rtol)


def adjoint(op, transposed, v, w, inner_out, inner_in, rtol=DOUBLE):
    """⟨A v, w⟩ = ⟨v, A* w⟩, each in its own inner product."""
    image, pulled = op(v), transposed(w)
    left, right = float(inner_out(image, w)), float(inner_in(v, pulled))
    # Relative to the lengths of the vectors (Cauchy-Schwarz), as either product may nearly vanish.
    size = math.sqrt(float(inner_out(image, image)) * float(inner_out(w, w)))
    assert abs(left - right) <= rtol * size, (left, right)
    assert abs(left) > 100 * rtol * size, "the two sides vanish: the test says nothing"


def inverse(forward, back, x, rtol=None):
    """B A x = x."""
    close(back(forward(x)), x, rtol)


def derivative(f, x, direction, slope, h):
    """The remainder f(x + h w) - f(x) - h df(x)[w] falls as h².

    `f` returns an array or a number, `slope` is df(x)[w] of the same kind. The order is observed
    over three halvings of `h`, which is small enough for the quadratic term to lead and large
    enough for it to stand above rounding; a wrong derivative gives order 1.
    """
    value = _host(f(x))
    steps = h / 2.0 ** np.arange(4)
    remainders = [
        np.linalg.norm(_host(f(x + float(step) * direction)) - value - step * _host(slope))
        for step in steps
    ]
    orders = np.log2(np.divide(remainders[:-1], remainders[1:]))
    assert np.all(np.abs(orders - 2.0) < 0.2), (orders, remainders)


def gradient(f, x, direction, slope_along, h):
    """As `derivative`, for a function whose gradient g is given as ⟨g, w⟩."""
    derivative(f, x, direction, float(slope_along), h)


def symmetric(op, v, w, inner, rtol=DOUBLE):
    """⟨A v, w⟩ = ⟨v, A w⟩."""
    adjoint(op, op, v, w, inner, inner, rtol)


def picklable(value):
    """A value object survives a pickle, equal and with an equal hash."""
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)


def _host(value):
    return np.ravel(to_numpy(value))

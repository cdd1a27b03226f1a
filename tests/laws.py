"""Laws that operators obey, as reusable checks (the idea of SigPy's and PyLops' dot tests).

Tolerances follow from the floating-point type (`rtol_of`), or are justified in a comment of a test.
"""

import math
import pickle

import numpy as np

from fourierreg.backend import to_numpy


def rtol_of(dtype):
    """4 √eps: above the accumulated rounding errors, below the effect of a wrong formula."""
    return 4.0 * math.sqrt(np.finfo(dtype).eps)


DOUBLE = rtol_of(np.float64)


def scalar(value):
    """The float of a number or of an array of one element, on any backend."""
    return float(np.asarray(to_numpy(value)).item())


def close(actual, expected, rtol=None):
    """|actual - expected| <= rtol max|expected| elementwise; rtol by default of the less precise
    type."""
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
    """⟨A v, w⟩ = ⟨v, A* w⟩ with the inner products of the two spaces."""
    image, pulled = op(v), transposed(w)
    left, right = scalar(inner_out(image, w)), scalar(inner_in(v, pulled))
    # Relative to the norms of the vectors (Cauchy-Schwarz), as the products may nearly vanish.
    size = math.sqrt(scalar(inner_out(image, image)) * scalar(inner_out(w, w)))
    assert abs(left - right) <= rtol * size, (left, right)
    assert abs(left) > 100 * rtol * size, "both sides vanish: the test is inconclusive"


def inverse(forward, back, x, rtol=None):
    """B A x = x."""
    close(back(forward(x)), x, rtol)


def derivative(f, x, direction, slope, h):
    """The remainder f(x + h w) - f(x) - h df(x)[w] falls as h².

    `f` returns an array or a scalar, `slope` is df(x)[w] of the same shape. The order is estimated
    over three halvings of `h`, which must be small enough for the quadratic term to dominate and
    large enough for it to exceed rounding errors; a wrong derivative gives order 1.
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
    """`derivative` of a scalar function with gradient g, for `slope_along` = ⟨g, w⟩."""
    derivative(f, x, direction, scalar(slope_along), h)


def symmetric(op, v, w, inner, rtol=DOUBLE):
    """⟨A v, w⟩ = ⟨v, A w⟩."""
    adjoint(op, op, v, w, inner, inner, rtol)


def picklable(value):
    """Pickling a value object preserves equality and the hash."""
    restored = pickle.loads(pickle.dumps(value))
    assert restored == value
    assert hash(restored) == hash(value)


def _host(value):
    return np.ravel(to_numpy(value))

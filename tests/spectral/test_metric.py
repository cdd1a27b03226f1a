"""The metric of velocity fields: its operators, determinant and derivatives with respect to α."""

import itertools
import math

import numpy as np
import pytest

from fourierreg import backend as backends
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import white


def whole_band(metric):
    """A_k of every frequency of the whole band."""
    band, length = metric.band, metric.reference_length
    for k in itertools.product(*(range(-c, c + 1) for c in band.cutoff)):
        yield sum(
            length**2 * (2 - 2 * math.cos(2 * math.pi * kj / n)) / h**2
            for kj, n, h in zip(k, band.shape, band.spacing, strict=True)
        )


def test_raise_inverts_lower(metric, xp):
    laws.inverse(metric.lower, metric.raise_, white(metric.band, 0))
    laws.inverse(metric.raise_, metric.lower, white(metric.band, 0))


def test_lower_and_raise_are_symmetric(metric, xp):
    v, w = white(metric.band, 0), white(metric.band, 1)
    for op in (metric.lower, metric.raise_):
        laws.symmetric(op, v, v + w, lambda a, b: inner(a, b, metric.band, xp))
        laws.linear(op, v, w)


def test_inner_is_positive_and_is_the_product_of_momentum_and_velocity(metric, xp):
    v, w = white(metric.band, 0), white(metric.band, 1)
    laws.close(metric.inner(v, w), inner(v, metric.lower(w), metric.band, xp))
    assert float(metric.inner(v, v)) >= float(inner(v, v, metric.band, xp))  # L >= 1


def test_lower_and_raise_keep_the_precision(metric, xp):
    v = white(metric.band, 0).astype(np.complex64)
    assert metric.lower(v).dtype == np.complex64
    assert metric.raise_(v).dtype == np.complex64


def test_log_determinant_sums_the_whole_band(metric, xp):
    # ln|L| = d c Σ_k ln(α A_k + 1) (erratum E3)
    total = sum(math.log(metric.alpha * a + 1) for a in whole_band(metric))
    expected = metric.band.ndim * metric.power * total
    assert math.isclose(metric.log_determinant(xp), expected, rel_tol=laws.rtol_of(np.float64))


def test_effective_modes_sum_the_whole_band(metric, xp):
    expected = metric.band.ndim * sum(
        metric.alpha * a / (metric.alpha * a + 1) for a in whole_band(metric)
    )
    assert math.isclose(metric.effective_modes(xp), expected, rel_tol=laws.rtol_of(np.float64))


@pytest.mark.parametrize("power", [2, 3, 2.5])
def test_effective_modes_are_the_derivative_of_the_log_determinant(xp, power):
    # d ln|L| / d ln α = c · effective modes (erratum E4)
    metric = Metric.create((20, 17), modes=6, power=power, alpha=2.0)
    h = 1e-4  # error h²/6 times a third derivative, which is of the order of the first
    above, below = (metric.with_alpha(2.0 * math.exp(s)).log_determinant(xp) for s in (h, -h))
    slope = (above - below) / (2 * h)
    assert math.isclose(slope, power * metric.effective_modes(xp), rel_tol=1e-7)


def test_alpha_symbol_is_the_derivative_of_the_symbol(metric, xp):
    h = 1e-4
    above, below = (metric.with_alpha(metric.alpha * math.exp(s)).symbol(xp) for s in (h, -h))
    laws.close(metric.power * metric.alpha_symbol(xp), (above - below) / (2 * h), rtol=1e-6)


def test_metric_pickles_and_compares_by_value(metric):
    laws.picklable(metric)
    assert metric.with_alpha(metric.alpha) == metric
    assert metric.with_alpha(1.0) != metric


def test_default_lengths_are_fractions_of_the_field_of_view():
    metric = Metric.create((32, 32), spacing=0.5)
    assert metric.reference_length == 1.0
    assert metric.velocity_scale == 1 / 8
    assert metric.with_alpha(4.0).smoothing_length == 2.0
    assert metric.band.modes == (16, 16)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("alpha", 0.0),
        ("alpha", -1.0),
        ("alpha", math.nan),
        ("alpha", math.inf),
        ("power", 0),
        ("reference_length", -2.0),
        ("velocity_scale", 0.0),
        ("modes", 2),
        ("modes", 40),
        ("modes", (5, 5, 5)),
        ("spacing", (1.0, 0.0)),
        ("spacing", (1.0, 1.0, 1.0)),
    ],
)
def test_errors_name_the_argument(argument, value):
    with pytest.raises(ValueError, match=argument):
        Metric.create((20, 17), **({"modes": 5} | {argument: value}))


@pytest.mark.parametrize("shape", [(5,), (4, 4, 4, 4), 7, (0, 5)])
def test_invalid_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        Metric.create(shape)


def test_symbols_are_on_the_requested_backend(metric, backend):
    assert backends.backend_of(metric.symbol(backends.active_module())) == backend

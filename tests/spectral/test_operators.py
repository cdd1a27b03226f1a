"""Differential operators: symbols compared with differences on the image grid."""

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.operators import (
    default_reference_length,
    derivative,
    divergence,
    jacobian,
    laplacian,
)
from fourierreg.spectral.transform import synthesis
from tests import laws
from tests.fields import white


def on_image_grid(f, band, xp):
    return synthesis(f, band, band.shape, np.float64, xp)


def test_derivative_is_that_of_the_series(band, xp):
    f = white(band, 0)[0]
    values = to_numpy(on_image_grid(f, band, xp))
    for j, (n, h) in enumerate(zip(band.shape, band.spacing, strict=True)):
        k = np.fft.fftfreq(n, h).reshape([-1 if i == j else 1 for i in range(band.ndim)])
        slope = np.fft.ifft(2j * np.pi * k * np.fft.fft(values, axis=j), axis=j).real
        laws.close(on_image_grid(derivative(band, xp)[j] * f, band, xp), slope)


def test_laplacian_is_minus_the_second_difference(band, xp):
    # A = -ℓ² Σ_j (f(x + h_j) - 2 f(x) + f(x - h_j)) / h_j²
    f, length = white(band, 0)[0], 1.7
    values = on_image_grid(f, band, xp)
    expected = sum(
        (2.0 * values - xp.roll(values, 1, axis=j) - xp.roll(values, -1, axis=j))
        * (length / h) ** 2
        for j, h in enumerate(band.spacing)
    )
    laws.close(on_image_grid(laplacian(band, length, xp) * f, band, xp), expected)


def test_jacobian_has_components_first_and_derivatives_second(band, xp):
    v = white(band, 0)
    dv = jacobian(v, band, xp)
    for i in range(band.ndim):
        for j in range(band.ndim):
            laws.close(dv[i, j], derivative(band, xp)[j] * v[i])


def test_divergence_is_minus_the_adjoint_of_the_jacobian(band, xp):
    tensor = white(band, 1, batch=(band.ndim,))
    laws.adjoint(
        lambda v: jacobian(v, band, xp),
        lambda t: -divergence(t, band, xp),
        white(band, 0),
        tensor,
        lambda s, t: xp.sum(inner(s, t, band, xp)),
        lambda v, w: inner(v, w, band, xp),
    )


def test_reference_length_is_a_sixteenth_of_the_field_of_view():
    assert default_reference_length((32, 32), (0.5, 0.5)) == 1.0
    assert np.isclose(default_reference_length((10, 20, 40), (1.0, 2.0, 0.5)), 8000 ** (1 / 3) / 16)


def test_alpha_means_the_same_at_any_resolution(xp):
    coarse = Metric.create((32, 40), spacing=(1.0, 1.5), modes=5)
    fine = Metric.create((64, 80), spacing=(0.5, 0.75), modes=5)
    # A_k departs from (2πkℓ/NH)² by a share (2πk/N)²/12 at most: two percent at k = 2, N = 32.
    bound = (2 * np.pi * 2 / 32) ** 2 / 12
    laws.close(coarse.laplacian(xp), fine.laplacian(xp), rtol=bound)
    assert coarse.velocity_scale == fine.velocity_scale

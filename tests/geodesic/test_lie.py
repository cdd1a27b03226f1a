"""ad, ad* and ad† (Eq. 2, erratum E6).

The Jacobi identity does not hold: the truncation to the band violates it. Nothing in the package
relies on it.
"""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.geodesic.lie import ad, ad_dagger, ad_star
from fourierreg.spectral.band import Band, axis_frequencies, inner
from fourierreg.spectral.transform import analysis, synthesis
from tests import laws
from tests.fields import velocity, white


def test_ad_is_antisymmetric_and_linear(band, xp):
    v, w, x = (white(band, seed) for seed in range(3))
    laws.close(ad(v, w, band), -ad(w, v, band))
    laws.linear(lambda y: ad(v, y, band), w, x)
    assert float(xp.max(xp.abs(ad(v, v, band)))) < laws.rtol_of(np.float64)


def test_ad_star_is_adjoint_to_ad(band, xp):
    v = white(band, 0)

    def dot(a, b):
        return inner(a, b, band, xp)

    laws.adjoint(
        lambda w: ad(v, w, band),
        lambda m: ad_star(v, m, band),
        white(band, 1),
        white(band, 2),
        dot,
        dot,
    )


def test_ad_dagger_is_adjoint_to_ad_in_the_metric(metric, xp):
    v = velocity(metric, 0)
    laws.adjoint(
        lambda w: ad(v, w, metric.band),
        lambda w: ad_dagger(v, w, metric),
        velocity(metric, 1),
        velocity(metric, 2),
        metric.inner,
        metric.inner,
    )


@pytest.mark.parametrize(
    ("shape", "spacing"), [((13, 11), (1.0, 1.6)), ((9, 11, 9), (1.0, 1.6, 0.7))]
)
def test_operators_equal_a_direct_spatial_computation(xp, shape, spacing):
    # The band has every frequency of an odd grid, and products of fields with |k_j| <= K_j / 2 are
    # in the band: nothing is truncated, so the operators can be evaluated at the voxels.
    band = Band(shape, shape, spacing)
    low = np.all(
        [np.abs(k) <= c // 2 for k, c in zip(_broadcast(band), band.cutoff, strict=True)], axis=0
    )
    v, w = (xp.asarray(to_numpy(white(band, seed)) * low) for seed in range(2))
    v_, w_ = (to_numpy(synthesis(f, band, shape, np.float64, xp)) for f in (v, w))
    d = len(shape)

    def derivative(f, j):
        k = np.fft.fftfreq(shape[j], spacing[j]).reshape([-1 if i == j else 1 for i in range(d)])
        return np.fft.ifft(2j * np.pi * k * np.fft.fft(f, axis=j), axis=j).real

    bracket = np.stack(
        [
            sum(derivative(v_[i], j) * w_[j] - derivative(w_[i], j) * v_[j] for j in range(d))
            for i in range(d)
        ]
    )
    laws.close(ad(v, w, band), analysis(bracket, band, np))
    laws.close(synthesis(ad(v, w, band), band, shape, np.float64, xp), bracket)
    # ad*_v m = (Dv)ᵀ m + ∇·(m ⊗ v)
    expected = np.stack(
        [
            sum(derivative(v_[j], i) * w_[j] + derivative(w_[i] * v_[j], j) for j in range(d))
            for i in range(d)
        ]
    )
    laws.close(synthesis(ad_star(v, w, band), band, shape, np.float64, xp), expected)


def _broadcast(band):
    return np.broadcast_arrays(*axis_frequencies(band))

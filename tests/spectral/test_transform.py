"""Synthesis and analysis, compared with sums of exponentials and numpy.fft."""

import itertools

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.spectral.band import inner
from fourierreg.spectral.transform import analysis, resample_low_pass, synthesis
from tests import laws
from tests.fields import white


def coefficient(f, k):
    """f_k for any k of the whole band; f_k = conj f_{-k} where it is not stored."""
    k = np.asarray(k)
    return f[tuple(k)] if k[-1] >= 0 else np.conj(f[tuple(-k)])


def brute_force(f, band, shape):
    """f(x_m) = Σ_k f_k exp(2πi Σ_j k_j m_j / N_j), over the whole band."""
    m = np.meshgrid(*map(np.arange, shape), indexing="ij")
    total = np.zeros(shape, complex)
    for k in itertools.product(*(range(-c, c + 1) for c in band.cutoff)):
        phase = sum(kj * mj / n for kj, mj, n in zip(k, m, shape, strict=True))
        total += coefficient(f, k) * np.exp(2j * np.pi * phase)
    assert np.max(np.abs(total.imag)) < laws.rtol_of(np.float64)
    return total.real


def test_synthesis_is_the_sum_of_exponentials(band, xp):
    f = white(band, 0)[0]
    for shape in (band.shape, band.product_shape):
        expected = brute_force(to_numpy(f), band, shape)
        laws.close(synthesis(f, band, shape, np.float64, xp), expected)


def test_synthesis_is_the_inverse_fft(band, xp):
    f = white(band, 0)
    rows = [np.concatenate([np.arange(c + 1), np.arange(-c, 0)]) for c in band.cutoff]
    rows[-1] = np.arange(band.cutoff[-1] + 1)
    spectrum = np.zeros((band.ndim, *band.shape[:-1], band.shape[-1] // 2 + 1), complex)
    spectrum[np.ix_(range(band.ndim), *rows)] = to_numpy(f)
    axes = tuple(range(1, band.ndim + 1))
    expected = np.fft.irfftn(spectrum, band.shape, axes, norm="forward")
    laws.close(synthesis(f, band, band.shape, np.float64, xp), expected)


def test_analysis_is_the_truncated_fft(band, xp):
    values = np.random.default_rng(0).standard_normal(band.shape)
    spectrum = np.fft.rfftn(values, norm="forward")
    rows = [np.concatenate([np.arange(c + 1), np.arange(-c, 0)]) for c in band.cutoff]
    rows[-1] = np.arange(band.cutoff[-1] + 1)
    laws.close(analysis(xp.asarray(values), band, xp), spectrum[np.ix_(*rows)])


@pytest.mark.parametrize("grid", ["shape", "product_shape"])
def test_analysis_is_adjoint_to_synthesis(band, xp, grid):
    shape = getattr(band, grid)
    values = xp.asarray(np.random.default_rng(0).standard_normal((band.ndim, *shape)))
    laws.adjoint(
        lambda f: synthesis(f, band, shape, np.float64, xp),
        lambda a: analysis(a, band, xp),
        white(band, 1),
        values,
        lambda a, b: xp.sum(a * b) / np.prod(shape),
        lambda f, g: inner(f, g, band, xp),
    )


def test_analysis_inverts_synthesis(band, xp):
    laws.inverse(
        lambda f: synthesis(f, band, band.shape, np.float64, xp),
        lambda a: analysis(a, band, xp),
        white(band, 0, batch=(2,)),
    )


def test_transforms_are_linear(band, xp):
    laws.linear(
        lambda f: synthesis(f, band, band.shape, np.float64, xp), white(band, 0), white(band, 1)
    )


def test_transforms_have_the_requested_precision(band, xp):
    f = white(band, 0)
    single = synthesis(f, band, band.shape, np.float32, xp)
    assert single.dtype == np.float32
    assert analysis(single, band, xp).dtype == np.complex64
    laws.close(single, synthesis(f, band, band.shape, np.float64, xp))


def test_low_pass_resampling_keeps_only_low_frequencies(band, xp):
    values = np.random.default_rng(0).standard_normal(band.shape)
    finer = tuple(2 * n + 1 for n in band.shape)
    expected = synthesis(analysis(xp.asarray(values), band, xp), band, finer, np.float64, xp)
    laws.close(resample_low_pass(xp.asarray(values), band.cutoff, finer, xp), expected)


def test_low_pass_resampling_onto_the_same_grid_is_the_identity(band, xp):
    values = xp.asarray(np.random.default_rng(0).standard_normal((2, *band.shape)))
    laws.close(resample_low_pass(values, band.cutoff, band.shape, xp), values, rtol=0.0)

"""The band and its real coordinates."""

from dataclasses import replace

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.spectral.band import Band, change_band, inner, multiplicity, pack, unpack
from fourierreg.spectral.transform import synthesis
from tests import laws
from tests.fields import white


@pytest.mark.parametrize(("modes", "cutoff"), [(3, 1), (4, 1), (15, 7), (16, 7), (17, 8)])
def test_even_modes_lose_their_nyquist_frequency(modes, cutoff):
    band = Band((32, 40), (modes, modes), (1.0, 1.0))
    assert band.cutoff == (cutoff, cutoff)
    assert band.coefficient_shape == (2 * cutoff + 1, cutoff + 1)


def test_degrees_of_freedom_count_the_whole_band(band):
    # P = d Π_j (2 K_j + 1): the sum of the multiplicities of the stored coefficients (erratum E2)
    total = np.sum(np.broadcast_to(multiplicity(band, np), band.coefficient_shape))
    assert band.num_frequencies == total
    assert band.degrees_of_freedom == band.ndim * total


def test_band_pickles_and_compares_by_value(band):
    laws.picklable(band)


def test_extent_is_in_mm():
    assert Band((10, 20), (5, 5), (1.5, 0.5)).extent == (15.0, 10.0)


def test_unpack_inverts_pack(band, xp):
    f = white(band, 0, batch=(2,))
    laws.inverse(lambda g: pack(g, band, xp), lambda x: unpack(x, band, xp), f)
    x = xp.asarray(np.random.default_rng(1).standard_normal((3, band.num_frequencies)))
    laws.inverse(lambda y: unpack(y, band, xp), lambda g: pack(g, band, xp), x)


def test_pack_is_an_isometry(band, xp):
    f, g = white(band, 0), white(band, 1)
    laws.close(xp.sum(pack(f, band, xp) * pack(g, band, xp)), inner(f, g, band, xp))


def test_unpack_is_the_transpose_of_pack(band, xp):
    f = white(band, 0)
    x = xp.asarray(np.random.default_rng(1).standard_normal((band.ndim, band.num_frequencies)))
    laws.adjoint(
        lambda v: pack(v, band, xp),
        lambda y: unpack(y, band, xp),
        f,
        x,
        lambda a, b: xp.sum(a * b),
        lambda a, b: inner(a, b, band, xp),
    )


def test_unpacked_fields_are_hermitian_on_the_last_plane(band):
    f = to_numpy(white(band, 0))[..., 0]  # the plane k_d = 0
    axes = tuple(range(1, f.ndim))
    mirrored = np.roll(np.flip(f, axes), 1, axes)
    np.testing.assert_array_equal(f, mirrored.conj())


def test_inner_product_is_the_mean_over_voxels(band, xp):
    f, g = white(band, 0), white(band, 1)
    values = [synthesis(h, band, band.shape, np.float64, xp) for h in (f, g)]
    voxels = np.prod(band.shape)
    laws.close(inner(f, g, band, xp), xp.sum(values[0] * values[1]) / voxels)


def test_inner_product_keeps_batch_axes(band, xp):
    f, g = white(band, 0, batch=(3,)), white(band, 1, batch=(3,))
    expected = [float(inner(f[i], g[i], band, xp)) for i in range(3)]
    laws.close(inner(f, g, band, xp), np.array(expected))


def test_another_band_holds_the_same_fields(band, xp):
    f = white(band, 0)
    narrow = replace(band, modes=tuple(max(3, n - 3) for n in band.modes))
    kept = change_band(f, band, narrow, xp)
    assert kept.shape == (*f.shape[: -band.ndim], *narrow.coefficient_shape)
    back = change_band(kept, narrow, band, xp)
    values, expected = (
        synthesis(c, b, band.shape, np.float64, xp) for c, b in ((kept, narrow), (back, band))
    )
    laws.close(values, expected)
    # A field of the narrow band survives, and what is dropped is orthogonal to what is kept.
    laws.close(change_band(back, band, narrow, xp), kept)
    assert abs(laws.scalar(inner(f - back, back, band, xp))) < 1e-12
    assert change_band(f, band, band, xp) is f

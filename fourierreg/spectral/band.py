"""The band: which Fourier coefficients of a periodic grid are kept, and how they are stored."""

import math
from dataclasses import dataclass

import numpy as np

from fourierreg.backend.tables import cached_table


@dataclass(frozen=True)
class Band:
    """Low frequencies |k_j| <= K_j of a periodic grid, K_j = (modes_j - 1) // 2.

    Coefficients are those of the Fourier series (``norm="forward"``) in rfft layout: an array of
    shape ``(2 K_1 + 1, …, 2 K_{d-1} + 1, K_d + 1)``, frequencies ``0 … K, -K … -1`` along every
    axis but the last, ``0 … K`` along the last, Hermitian on the plane k_d = 0.

    Parameters
    ----------
    shape : tuple of int
        Points of the grid along each axis.
    modes : tuple of int
        Band along each axis; an even number loses its Nyquist frequency (16 keeps 15).
    spacing : tuple of float
        Distance between points, in mm.
    """

    shape: tuple
    modes: tuple
    spacing: tuple

    @property
    def ndim(self):
        """Dimension d of the domain."""
        return len(self.shape)

    @property
    def cutoff(self):
        """Highest frequency K_j along each axis."""
        return tuple((n - 1) // 2 for n in self.modes)

    @property
    def coefficient_shape(self):
        """Shape of the stored coefficients of one scalar field."""
        *full, last = self.cutoff
        return (*(2 * k + 1 for k in full), last + 1)

    @property
    def num_frequencies(self):
        """Frequencies in the whole band, Π_j (2 K_j + 1)."""
        return math.prod(2 * k + 1 for k in self.cutoff)

    @property
    def degrees_of_freedom(self):
        """Real degrees of freedom P = d Π_j (2 K_j + 1) of a vector field (erratum E2)."""
        return self.ndim * self.num_frequencies

    @property
    def product_shape(self):
        """Smallest grid on which a product of two fields of the band is free of aliasing."""
        return tuple(3 * k + 1 for k in self.cutoff)

    @property
    def extent(self):
        """Length of the domain along each axis, in mm."""
        return tuple(n * h for n, h in zip(self.shape, self.spacing, strict=True))


def frequencies(cutoff, half=False):
    """Integer frequencies of one axis in storage order."""
    if half:
        return np.arange(cutoff + 1)
    return np.concatenate([np.arange(cutoff + 1), np.arange(-cutoff, 0)])


def axis_frequencies(band):
    """Integer frequencies of every axis, each shaped to broadcast over the coefficients."""
    d = band.ndim
    return [
        frequencies(k, half=j == d - 1).reshape([-1 if i == j else 1 for i in range(d)])
        for j, k in enumerate(band.cutoff)
    ]


@cached_table()
def multiplicity(band, xp):
    """How often a stored coefficient counts in the whole band: 1 where k_d = 0, else 2."""
    weights = np.full(band.cutoff[-1] + 1, 2.0)
    weights[0] = 1.0
    return xp.asarray(weights)


@cached_table()
def _real_layout(band, xp):
    """Flat indices of the independent coefficients and of their mirror images on k_d = 0."""
    shape = band.coefficient_shape
    k = np.stack(np.broadcast_arrays(*axis_frequencies(band))).reshape(band.ndim, -1)
    plane = k[-1] == 0
    first_nonzero = np.argmax(k != 0, axis=0)
    leading = np.take_along_axis(k, first_nonzero[None], axis=0)[0]
    independent = np.flatnonzero(~plane | (leading > 0))
    on_plane = np.flatnonzero(plane & (leading > 0))
    mirror = np.ravel_multi_index(
        [-k[j, on_plane] % n for j, n in enumerate(shape[:-1])] + [k[-1, on_plane]], shape
    )
    return xp.asarray(independent), xp.asarray(on_plane), xp.asarray(mirror)


def pack(coefficients, band, xp):
    """Coordinates of a field in an orthonormal basis of its real degrees of freedom.

    ``(…, *coefficient_shape)`` complex to ``(…, num_frequencies)`` real; the Euclidean product of
    two packed fields is the inner product of the band.
    """
    independent, _, _ = _real_layout(band, xp)
    flat = coefficients.reshape(*coefficients.shape[: -band.ndim], -1)
    kept = math.sqrt(2.0) * flat[..., independent]
    return xp.concatenate([flat[..., :1].real, kept.real, kept.imag], axis=-1)


def unpack(coordinates, band, xp):
    """Inverse (and transpose) of `pack`."""
    independent, on_plane, mirror = _real_layout(band, xp)
    half = independent.shape[0]
    shape = coordinates.shape[:-1]
    flat = xp.zeros((*shape, math.prod(band.coefficient_shape)), dtype=xp.complex128)
    flat[..., :1] = coordinates[..., :1]
    real, imag = coordinates[..., 1 : half + 1], coordinates[..., half + 1 :]
    flat[..., independent] = (real + 1j * imag) / math.sqrt(2.0)
    flat[..., mirror] = flat[..., on_plane].conj()
    return flat.reshape(*shape, *band.coefficient_shape)


def packed_diagonal(symbol, band, xp):
    """A real symbol over stored frequencies, (…, *coefficient_shape) of every component or of all
    alike, as the diagonal in the packed basis, (…, d, num_frequencies)."""
    ones = xp.ones((band.ndim, band.num_frequencies))
    return pack(symbol * unpack(ones, band, xp), band, xp)


def inner(f, g, band, xp):
    """⟨f, g⟩ = Σ over the whole band of Re(conj f_k g_k) = mean over voxels of f·g.

    The sum runs over components and frequencies; leading (batch) axes are kept.
    """
    axes = tuple(range(-band.ndim - 1, 0))
    return xp.sum(multiplicity(band, xp) * (f.real * g.real + f.imag * g.imag), axis=axes)

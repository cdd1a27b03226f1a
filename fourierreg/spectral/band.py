"""The band: which Fourier coefficients of a periodic grid are kept, and how they are stored."""

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from fourierreg.backend import Array
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
        Distance between points along each axis, in mm.
    """

    shape: tuple[int, ...]
    modes: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def ndim(self) -> int:
        """Dimension d of the domain."""
        return len(self.shape)

    @property
    def cutoff(self) -> tuple[int, ...]:
        """Highest frequency K_j along each axis."""
        return tuple((n - 1) // 2 for n in self.modes)

    @property
    def coefficient_shape(self) -> tuple[int, ...]:
        """Shape of the stored coefficients of one scalar field."""
        *full, last = self.cutoff
        return (*(2 * k + 1 for k in full), last + 1)

    @property
    def num_frequencies(self) -> int:
        """Number of frequencies in the whole band, Π_j (2 K_j + 1)."""
        return math.prod(2 * k + 1 for k in self.cutoff)

    @property
    def degrees_of_freedom(self) -> int:
        """Real degrees of freedom P = d Π_j (2 K_j + 1) of a vector field (erratum E2)."""
        return self.ndim * self.num_frequencies

    @property
    def product_shape(self) -> tuple[int, ...]:
        """Smallest grid on which a product of two fields of the band is free of aliasing."""
        return tuple(3 * k + 1 for k in self.cutoff)

    @property
    def extent(self) -> tuple[float, ...]:
        """Length of the domain along each axis, in mm."""
        return tuple(n * h for n, h in zip(self.shape, self.spacing, strict=True))


def frequencies(cutoff: int, half: bool = False) -> np.ndarray:
    """Integer frequencies of one axis in storage order: ``0 … K``, then ``-K … -1`` if not
    `half`."""
    if half:
        return np.arange(cutoff + 1)
    return np.concatenate([np.arange(cutoff + 1), np.arange(-cutoff, 0)])


def axis_frequencies(band: Band) -> list[np.ndarray]:
    """Integer frequencies of every axis, each shaped to broadcast over the coefficients."""
    d = band.ndim
    return [
        frequencies(k, half=j == d - 1).reshape([-1 if i == j else 1 for i in range(d)])
        for j, k in enumerate(band.cutoff)
    ]


@cached_table()
def multiplicity(band: Band, xp: ModuleType) -> Array:
    """How many frequencies of the whole band a stored coefficient stands for: 1 where k_d = 0,
    else 2."""
    weights = np.full(band.cutoff[-1] + 1, 2.0)
    weights[0] = 1.0
    return xp.asarray(weights)


@cached_table()
def _independent_coefficients(band: Band, xp: ModuleType) -> tuple[Array, Array, Array]:
    """Flat indices of the independent coefficients other than k = 0; of those among them on the
    plane k_d = 0; and of the complex conjugates of the latter."""
    shape = band.coefficient_shape
    k = np.stack(np.broadcast_arrays(*axis_frequencies(band))).reshape(band.ndim, -1)
    plane = k[-1] == 0
    first_nonzero = np.argmax(k != 0, axis=0)
    leading = np.take_along_axis(k, first_nonzero[None], axis=0)[0]
    independent = np.flatnonzero(~plane | (leading > 0))
    on_plane = np.flatnonzero(plane & (leading > 0))
    conjugate = np.ravel_multi_index(
        [-k[j, on_plane] % n for j, n in enumerate(shape[:-1])] + [k[-1, on_plane]], shape
    )
    return xp.asarray(independent), xp.asarray(on_plane), xp.asarray(conjugate)


def pack(coefficients: Array, band: Band, xp: ModuleType) -> Array:
    """Coordinates of a field in an orthonormal basis of its real degrees of freedom.

    ``(…, *coefficient_shape)`` complex to ``(…, num_frequencies)`` real; the Euclidean product of
    two packed fields is the inner product of the band.
    """
    independent, _, _ = _independent_coefficients(band, xp)
    flat = coefficients.reshape(*coefficients.shape[: -band.ndim], -1)
    kept = math.sqrt(2.0) * flat[..., independent]
    return xp.concatenate([flat[..., :1].real, kept.real, kept.imag], axis=-1)


def unpack(coordinates: Array, band: Band, xp: ModuleType) -> Array:
    """Inverse (and transpose) of `pack`."""
    independent, on_plane, conjugate = _independent_coefficients(band, xp)
    half = independent.shape[0]
    shape = coordinates.shape[:-1]
    flat = xp.zeros((*shape, math.prod(band.coefficient_shape)), dtype=xp.complex128)
    flat[..., :1] = coordinates[..., :1]
    real, imag = coordinates[..., 1 : half + 1], coordinates[..., half + 1 :]
    flat[..., independent] = (real + 1j * imag) / math.sqrt(2.0)
    flat[..., conjugate] = flat[..., on_plane].conj()
    return flat.reshape(*shape, *band.coefficient_shape)


def change_band(coefficients: Array, band: Band, other: Band, xp: ModuleType) -> Array:
    """Coefficients of the same fields in another band of the same domain: frequencies that it lacks
    are dropped, those that it adds are zero."""
    if band.modes == other.modes:
        return coefficients
    lead = coefficients.shape[: -band.ndim]
    out = xp.zeros((*lead, *other.coefficient_shape), dtype=coefficients.dtype)
    common = [min(k) for k in zip(band.cutoff, other.cutoff, strict=True)]
    here: list[Array] = []
    there: list[Array] = []
    for j, cutoff in enumerate(common):
        k = frequencies(cutoff, half=j == band.ndim - 1)
        shape = [-1 if i == j else 1 for i in range(band.ndim)]
        for index, full in ((here, band), (there, other)):
            index.append(xp.asarray(k % full.coefficient_shape[j]).reshape(shape))
    out[(..., *there)] = coefficients[(..., *here)]
    return out


def packed_diagonal(symbol: Array, band: Band, xp: ModuleType) -> Array:
    """Diagonal in the packed basis, (…, d, num_frequencies), of the operator with a real symbol.

    The symbol is (…, *coefficient_shape), with or without an axis of components.
    """
    ones = xp.ones((band.ndim, band.num_frequencies))
    return pack(symbol * unpack(ones, band, xp), band, xp)


def inner(f: Array, g: Array, band: Band, xp: ModuleType) -> Array:
    """⟨f, g⟩ = Σ over the whole band of Re(conj f_k g_k) = mean over voxels of f·g.

    The sum runs over components and frequencies; leading (batch) axes are kept.
    """
    axes = tuple(range(-band.ndim - 1, 0))
    return xp.sum(multiplicity(band, xp) * (f.real * g.real + f.imag * g.imag), axis=axes)


def real_dtype(coefficients: Array) -> type:
    """Floating-point type of the real and imaginary parts of complex coefficients."""
    return np.float32 if coefficients.dtype == np.complex64 else np.float64


def complex_dtype(real: DTypeLike) -> type:
    """Complex type of the coefficients of fields with values of a floating-point type."""
    return np.complex64 if np.dtype(real) == np.float32 else np.complex128


def real_view(coefficients: Array, xp: ModuleType) -> Array:
    """View of complex coefficients as real numbers, with an axis (real, imaginary) appended."""
    contiguous = xp.ascontiguousarray(coefficients)
    return contiguous.view(real_dtype(coefficients)).reshape(*contiguous.shape, 2)

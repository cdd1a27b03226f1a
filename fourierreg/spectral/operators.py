"""Differential operators, all diagonal in frequency (docs/mathematics.md)."""

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fourierreg.backend import Array
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import Band, axis_frequencies


@cached_table()
def laplacian(band: Band, reference_length: float, xp: ModuleType) -> Array:
    """A_k = ℓ² Σ_j (2 - 2 cos(2π k_j / N_j)) / h_j², shape (*coefficient_shape)."""
    symbol = sum(
        (2.0 - 2.0 * np.cos(2.0 * np.pi * k / n)) / h**2
        for k, n, h in zip(axis_frequencies(band), band.shape, band.spacing, strict=True)
    )
    return xp.asarray(reference_length**2 * symbol)


@cached_table()
def derivative(band: Band, xp: ModuleType) -> Array:
    """D_{j,k} = 2πi k_j / (N_j h_j), shape (d, *coefficient_shape): the derivative itself.

    (The paper's group takes central differences on the image grid, i sin(2π k_j / N_j) / h_j. The
    product rule holds for the derivative only, and so do forms of EPDiff with fewer products.)
    """
    symbols = [
        2j * np.pi * k / length
        for k, length in zip(axis_frequencies(band), band.extent, strict=True)
    ]
    return xp.asarray(np.stack(np.broadcast_arrays(*symbols)))


@cached_table()
def axis_derivatives(band: Band, dtype: type, xp: ModuleType) -> Array:
    """Table (3, longest axis) of D_{j,k} / i, which depends on k_j only, padded with zeros.

    A 2D band is treated as a 3D one whose first axis has length one: it fills the last two rows.
    """
    table: np.ndarray = np.zeros((3, max(band.coefficient_shape)), dtype=dtype)
    for j, (k, length) in enumerate(zip(axis_frequencies(band), band.extent, strict=True)):
        table[3 - band.ndim + j, : k.size] = 2.0 * np.pi * k.ravel() / length
    return xp.asarray(table)


def jacobian(v: Array, band: Band, xp: ModuleType) -> Array:
    """(Dv)_{ij} = D_j v_i: ``(…, d, *band)`` to ``(…, d, d, *band)``."""
    d = band.ndim
    return xp.expand_dims(v, -d - 1) * derivative(band, xp).astype(v.dtype, copy=False)


def divergence(tensor: Array, band: Band, xp: ModuleType) -> Array:
    """(∇·t)_i = Σ_j D_j t_{ij}: ``(…, d, d, *band)`` to ``(…, d, *band)``."""
    return xp.sum(
        tensor * derivative(band, xp).astype(tensor.dtype, copy=False), axis=-band.ndim - 1
    )


def default_reference_length(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """ℓ = (Π_j N_j h_j)^{1/d} / 16, in mm: makes α dimensionless."""
    return math.prod(n * h for n, h in zip(shape, spacing, strict=True)) ** (1 / len(shape)) / 16

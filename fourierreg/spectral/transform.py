"""Transforms between the band and a grid by separable partial-DFT matrix products.

The band is a small part of a grid's frequencies (15 of 128 lines), so one matrix product per axis
takes a tenth of the time of a full FFT; the same holds on the small grids on which products of
fields are computed. Leading axes are batch axes.
"""

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fourierreg.backend import Array
from fourierreg.backend.kernels import (
    JOB_THREADS,
    PARALLEL_SIZE,
    SHARED_BYTES,
    launch,
    voxel_blocks,
)
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import Band, complex_dtype, frequencies, real_view

TILE = 4  # rows and columns per GPU thread: ROWS and COLUMNS of kernels.cu


@cached_table()
def _exponentials(cutoff: int, points: int, dtype: type, xp: ModuleType) -> Array:
    """exp(2πi m k / points), shape (points, 2K + 1)."""
    phase = 2j * np.pi / points * (np.outer(np.arange(points), frequencies(cutoff)) % points)
    return xp.asarray(np.exp(phase).astype(dtype))


@cached_table()
def _conjugate_exponentials(cutoff: int, points: int, dtype: type, xp: ModuleType) -> Array:
    """exp(-2πi k m / points) / points, shape (2K + 1, points)."""
    matrix = _exponentials(cutoff, points, np.complex128, xp).conj().T / points
    return xp.ascontiguousarray(matrix).astype(dtype)


@cached_table()
def _last_axis_synthesis(cutoff: int, points: int, dtype: type, xp: ModuleType) -> Array:
    """Real matrix (2 (K + 1), points) that sums the half axis: rows w cos, -w sin interleaved."""
    phase = 2 * np.pi / points * (np.outer(np.arange(cutoff + 1), np.arange(points)) % points)
    weight = np.where(np.arange(cutoff + 1) == 0, 1.0, 2.0)[:, None]
    rows = np.stack([weight * np.cos(phase), -weight * np.sin(phase)], axis=1)
    return xp.asarray(rows.reshape(-1, points).astype(dtype))


@cached_table()
def _last_axis_analysis(cutoff: int, points: int, dtype: type, xp: ModuleType) -> Array:
    """Real matrix (points, 2 (K + 1)): columns cos, -sin interleaved, divided by `points`."""
    phase = 2 * np.pi / points * (np.outer(np.arange(points), np.arange(cutoff + 1)) % points)
    columns = np.stack([np.cos(phase), -np.sin(phase)], axis=2) / points
    return xp.asarray(columns.reshape(points, -1).astype(dtype))


def _contract(values: Array, matrix: Array, axis: int, xp: ModuleType) -> Array:
    """Multiply a matrix (N, n) along one axis of length n, which becomes N.

    On the host by BLAS. On a GPU by kernels of this package: cuBLAS cannot be captured in a graph
    (`fourierreg.backend.graphs`), and for such thin matrices the cost is in reading the values.
    """
    shape = values.shape
    lead, trail = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    values = values.reshape(lead, shape[axis], trail)
    if _has_blas(xp):  # a product for each field: BLAS rounds by the number of rows
        by_field = values.reshape(shape[0], -1, shape[axis]) if trail == 1 else values
        product = by_field @ matrix.T if trail == 1 else np.matmul(matrix, values)
    elif values.dtype.kind == "c":
        product = _contract_complex(xp.ascontiguousarray(values), matrix, shape[0], xp)
    else:  # real values are contracted along their last axis only
        product = _contract_rows(xp.ascontiguousarray(values[:, :, 0]), matrix, xp)
    return product.reshape(*shape[:axis], matrix.shape[0], *shape[axis + 1 :])


def _has_blas(xp: ModuleType) -> bool:
    """Whether the matrix products of a namespace may be used."""
    return xp is np


def _contract_complex(values: Array, matrix: Array, items: int, xp: ModuleType) -> Array:
    """Multiply a complex matrix (N, n) along the middle axis: (lead, n, trail) to (lead, N, trail).

    `lead` is a multiple of the number of items of the batch.
    """
    lead, n, trail = values.shape
    size, lead_per_item = matrix.shape[0], lead // items
    out = xp.empty((lead, size, trail), dtype=values.dtype)
    launch(
        "fourierreg.spectral",
        "contract",
        [real_view(values, xp), real_view(matrix, xp)],
        [],
        [real_view(out, xp)],
        sizes=(items, lead_per_item, n, trail, size),
        blocks=voxel_blocks(lead_per_item * size * trail, items),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _contract_rows(values: Array, matrix: Array, xp: ModuleType) -> Array:
    """Multiply a real matrix (N, n), which may be a transpose: (rows, n) to (rows, N)."""
    rows, n = values.shape
    size = matrix.shape[0]
    rows_per_block = _rows_per_block(n, size, matrix.itemsize)
    out = xp.empty((rows, size), dtype=values.dtype)
    row_stride, column_stride = (stride // matrix.itemsize for stride in matrix.strides)
    launch(
        "fourierreg.spectral",
        "contract_rows",
        [values, matrix],
        [],
        [out],
        sizes=(rows, n, size, rows_per_block, column_stride, row_stride),
        blocks=(math.ceil(rows / rows_per_block),),
        scratch=rows_per_block * (n | 1),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _rows_per_block(n: int, size: int, itemsize: int) -> int:
    """Rows contracted by one block: enough to occupy its threads, if shared memory holds them."""
    tiles = math.ceil(JOB_THREADS / math.ceil(size / TILE))
    return TILE * max(1, min(tiles, SHARED_BYTES // (TILE * (n | 1) * itemsize)))


def synthesis(
    coefficients: Array, band: Band, shape: Sequence[int], dtype: type, xp: ModuleType
) -> Array:
    """Evaluate fields, given by coefficients of the band, on a grid.

    Parameters
    ----------
    coefficients : array, shape (…, *band.coefficient_shape)
    band : Band
    shape : tuple of int
        Points along each axis: the image grid, or a smaller one.
    dtype : numpy.float32 or numpy.float64
        Precision of the matrix products and of the result.
    xp : namespace of `coefficients`

    Returns
    -------
    array, shape (…, *shape)
    """
    d = band.ndim
    batch = coefficients.shape[:-d]
    kind = complex_dtype(dtype)
    values = coefficients.astype(kind, copy=False).reshape(-1, *band.coefficient_shape)
    for j in range(d - 1):
        values = _contract(values, _exponentials(band.cutoff[j], shape[j], kind, xp), j + 1, xp)
    values = xp.ascontiguousarray(values).view(dtype)
    values = values.reshape(values.shape[0], -1, 2 * band.cutoff[-1] + 2)
    matrix = _last_axis_synthesis(band.cutoff[-1], shape[-1], dtype, xp)
    return _contract(values, matrix.T, 2, xp).reshape(*batch, *shape)


def analysis(values: Array, band: Band, xp: ModuleType) -> Array:
    """Coefficients in the band of real fields on any grid: the adjoint of `synthesis`.

    Both inner products are means (over voxels, and over the whole band by Parseval), so the
    adjoint of synthesis is the truncated, forward-normalized transform itself.

    Parameters
    ----------
    values : array, shape (…, *shape)
    band : Band
    xp : namespace of `values`

    Returns
    -------
    array, shape (…, *band.coefficient_shape)
        complex64 for float32 values, else complex128.
    """
    d = band.ndim
    batch, shape = values.shape[:-d], values.shape[-d:]
    real = values.dtype
    kind = complex_dtype(real)
    matrix = _last_axis_analysis(band.cutoff[-1], shape[-1], real, xp)
    values = values.reshape(math.prod(batch), -1, shape[-1])
    coefficients = _contract(values, matrix.T, 2, xp).view(kind)
    coefficients = coefficients.reshape(-1, *shape[:-1], band.cutoff[-1] + 1)
    for j in reversed(range(d - 1)):
        matrix = _conjugate_exponentials(band.cutoff[j], shape[j], kind, xp)
        coefficients = _contract(coefficients, matrix, j + 1, xp)
    return coefficients.reshape(*batch, *band.coefficient_shape)


@cached_table()
def _low_pass_matrix(
    cutoff: int, points: int, target_points: int, dtype: type, xp: ModuleType
) -> Array:
    """Real matrix (points, target_points) that keeps |k| <= cutoff and resamples."""
    k = frequencies(cutoff)
    forward = np.exp(-2j * np.pi / points * np.outer(np.arange(points), k)) / points
    backward = np.exp(2j * np.pi / target_points * np.outer(k, np.arange(target_points)))
    return xp.asarray((forward @ backward).real.astype(dtype))


def resample_low_pass(
    values: Array, cutoff: Sequence[int], shape: Sequence[int], xp: ModuleType
) -> Array:
    """Low-pass real fields to |k_j| <= cutoff_j and sample them on a grid of `shape` points.

    An axis that already has the requested length is left as it is (all its frequencies are kept).
    """
    d = len(shape)
    for j in reversed(range(d)):
        axis = j - d
        if values.shape[axis] != shape[j]:
            matrix = _low_pass_matrix(cutoff[j], values.shape[axis], shape[j], values.dtype, xp)
            values = xp.moveaxis(xp.matmul(xp.moveaxis(values, axis, -1), matrix), -1, axis)
    return values

"""Band ↔ grid by separable partial-DFT matrix products.

The band is a small part of a grid's frequencies (15 of 128 lines), so one matrix product per axis
takes a tenth of the time of a full FFT; the same holds on the small grids where products of
fields are formed. Leading axes are batch axes: one call transforms any number of fields.
"""

import math

import numpy as np

from fourierreg.backend.kernels import (
    JOB_THREADS,
    PARALLEL_SIZE,
    SHARED_BYTES,
    launch,
    voxel_blocks,
)
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import frequencies

TILE = 4  # rows, and columns, that a thread of a GPU contracts: ROWS and COLUMNS of kernels.cu


@cached_table()
def _exponentials(cutoff, points, dtype, xp):
    """exp(2πi m k / points), shape (points, frequencies), of one full axis."""
    phase = 2j * np.pi / points * (np.outer(np.arange(points), frequencies(cutoff)) % points)
    return xp.asarray(np.exp(phase).astype(dtype))


@cached_table()
def _conjugate_exponentials(cutoff, points, dtype, xp):
    """exp(-2πi k m / points) / points, shape (frequencies, points)."""
    matrix = _exponentials(cutoff, points, np.complex128, xp).conj().T / points
    return xp.ascontiguousarray(matrix).astype(dtype)


@cached_table()
def _last_axis(cutoff, points, dtype, xp):
    """Real matrix (2 (K + 1), points) that sums a half axis: rows w cos, -w sin interleaved."""
    phase = 2 * np.pi / points * (np.outer(np.arange(cutoff + 1), np.arange(points)) % points)
    weight = np.where(np.arange(cutoff + 1) == 0, 1.0, 2.0)[:, None]
    rows = np.stack([weight * np.cos(phase), -weight * np.sin(phase)], axis=1)
    return xp.asarray(rows.reshape(-1, points).astype(dtype))


@cached_table()
def _last_axis_analysis(cutoff, points, dtype, xp):
    """Real matrix (points, 2 (K + 1)): cos, -sin interleaved, divided by `points`."""
    phase = 2 * np.pi / points * (np.outer(np.arange(points), np.arange(cutoff + 1)) % points)
    columns = np.stack([np.cos(phase), -np.sin(phase)], axis=2) / points
    return xp.asarray(columns.reshape(points, -1).astype(dtype))


def _contract(values, matrix, batch_axes, xp):
    """Matrix product along one axis, without moving it: axes before it are a batch.

    By BLAS on the host. A GPU's BLAS cannot be recorded (`fourierreg.backend.graphs`), and these
    matrices are so thin that reading the values is what takes the time.
    """
    shape = values.shape
    lead, after = math.prod(shape[:batch_axes]), math.prod(shape[batch_axes + 1 :])
    values = values.reshape(lead, shape[batch_axes], after)
    if _has_blas(xp):
        product = values[:, :, 0] @ matrix.T if after == 1 else np.matmul(matrix, values)
    elif values.dtype.kind == "c":
        product = _contracted(xp.ascontiguousarray(values), matrix, shape[0], xp)
    else:  # of real numbers the last axis alone
        product = _rows_contracted(xp.ascontiguousarray(values[:, :, 0]), matrix, xp)
    return product.reshape(*shape[:batch_axes], matrix.shape[0], *shape[batch_axes + 1 :])


def _has_blas(xp):
    """Whether a namespace's matrix products can stand anywhere."""
    return xp is np


def _contracted(values, matrix, items, xp):
    """(lead, n, after) to (lead, N, after) by a matrix (N, n), of complex numbers; `lead` is a
    multiple of the number of items."""
    lead, n, after = values.shape
    size, each = matrix.shape[0], lead // items
    out = xp.empty((lead, size, after), dtype=values.dtype)
    launch(
        "fourierreg.spectral",
        "contract",
        [_with_parts(values), _with_parts(matrix)],
        [],
        [_with_parts(out)],
        sizes=(items, each, n, after, size),
        blocks=voxel_blocks(each * size * after, items),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _rows_contracted(values, matrix, xp):
    """(rows, n) to (rows, N) by a matrix (N, n), which may be a transpose, of real numbers."""
    rows, n = values.shape
    size, each = matrix.shape[0], _rows_together(n, matrix.shape[0], matrix.itemsize)
    out = xp.empty((rows, size), dtype=values.dtype)
    across, along = (stride // matrix.itemsize for stride in matrix.strides)
    launch(
        "fourierreg.spectral",
        "contract_rows",
        [values, matrix],
        [],
        [out],
        sizes=(rows, n, size, each, along, across),
        blocks=(math.ceil(rows / each),),
        scratch=each * (n | 1),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _rows_together(n, size, itemsize):
    """Rows that one block of a GPU's threads contracts: as many as keep all threads at work, or as
    its own memory holds where that is less."""
    busy = math.ceil(JOB_THREADS / math.ceil(size / TILE))
    return TILE * max(1, min(busy, SHARED_BYTES // (TILE * (n | 1) * itemsize)))


def _with_parts(array):
    """The same memory with one last axis more, of real and imaginary parts."""
    return array.view(np.zeros(1, array.dtype).real.dtype).reshape(*array.shape, 2)


def _complex_type(real):
    return np.complex64 if np.dtype(real) == np.float32 else np.complex128


def synthesis(coefficients, band, shape, dtype, xp):
    """Values on a grid of `shape` points of fields given by coefficients of the band.

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
    kind = _complex_type(dtype)
    values = coefficients.astype(kind, copy=False).reshape(-1, *band.coefficient_shape)
    for j in range(d - 1):
        matrix = _exponentials(band.cutoff[j], shape[j], kind, xp)
        values = _contract(values, matrix, batch_axes=j + 1, xp=xp)
    values = xp.ascontiguousarray(values).view(dtype)
    values = values.reshape(values.shape[0], -1, 2 * band.cutoff[-1] + 2)
    values = _contract(values, _last_axis(band.cutoff[-1], shape[-1], dtype, xp).T, 2, xp)
    return values.reshape(*batch, *shape)


def analysis(values, band, xp):
    """Coefficients in the band of real fields on any grid: the adjoint of `synthesis`.

    Both inner products are means (over voxels, and over the whole band by Parseval), so the
    adjoint of synthesis is the truncated, forward-normalised transform itself.

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
    kind = _complex_type(real)
    matrix = _last_axis_analysis(band.cutoff[-1], shape[-1], real, xp)
    values = values.reshape(math.prod(batch), -1, shape[-1])
    coefficients = _contract(values, matrix.T, 2, xp).view(kind)
    coefficients = coefficients.reshape(-1, *shape[:-1], band.cutoff[-1] + 1)
    for j in reversed(range(d - 1)):
        matrix = _conjugate_exponentials(band.cutoff[j], shape[j], kind, xp)
        coefficients = _contract(coefficients, matrix, batch_axes=j + 1, xp=xp)
    return coefficients.reshape(*batch, *band.coefficient_shape)


@cached_table()
def _low_pass_matrix(cutoff, points, target_points, dtype, xp):
    """Real matrix (points, target_points): keep |k| <= cutoff, then sample anew."""
    k = frequencies(cutoff)
    here = np.exp(-2j * np.pi / points * np.outer(np.arange(points), k)) / points
    there = np.exp(2j * np.pi / target_points * np.outer(k, np.arange(target_points)))
    return xp.asarray((here @ there).real.astype(dtype))


def resample_low_pass(values, cutoff, shape, xp):
    """Low-pass real fields to |k_j| <= cutoff_j and sample them on a grid of `shape` points.

    An axis whose `shape` is its own length is left as it is (all its frequencies are kept).
    """
    d = len(shape)
    for j in reversed(range(d)):
        axis = j - d
        if values.shape[axis] != shape[j]:
            matrix = _low_pass_matrix(cutoff[j], values.shape[axis], shape[j], values.dtype, xp)
            values = xp.moveaxis(xp.matmul(xp.moveaxis(values, axis, -1), matrix), -1, axis)
    return values

"""The CUDA kernels of the spectral package, compiled by the host compiler, equal the numba ones."""

import math

import numpy as np
import pytest

from fourierreg.backend.kernels import JOB_THREADS, SHARED_BYTES
from fourierreg.spectral import kernels
from fourierreg.spectral.band import Band
from fourierreg.spectral.operators import axis_derivatives
from fourierreg.spectral.product_grid import (
    CONCURRENT_BLOCKS,
    _analysis_tables,
    _scratch_from_grid,
    _scratch_to_grid,
    _shape_3d,
    _split_jobs,
    _synthesis_tables,
)
from fourierreg.spectral.transform import _rows_per_block
from tests import host, laws
from tests.host import random

# Odd and even grids; a grid with the minimum of points; a 2D band.
CASES = {
    "3d": (Band((12, 10, 11), (7, 5, 6), (1.0, 1.6, 0.7)), (10, 7, 7)),
    "3d-voxels": (Band((12, 10, 11), (7, 5, 6), (1.0, 1.6, 0.7)), (7, 6, 5)),
    "2d": (Band((17, 20), (5, 8), (1.6, 0.7)), (8, 10)),
}
FIELDS = np.array([[1, 0], [0, 1], [0, 3], [1, 4], [0, 4], [0, 5], [0, 11]])
BATCH, PAIRS = 4, 2


compiled = host.compiled_fixture("fourierreg.spectral")


@pytest.mark.parametrize("part_size", [1, 2, 3, 100])  # 100: the whole field
@pytest.mark.parametrize(("band", "grid"), CASES.values(), ids=CASES)
def test_to_grid(compiled, band, grid, part_size):
    library, dtype = compiled
    shape, grid = _shape_3d(band.coefficient_shape), _shape_3d(grid)
    x = random((BATCH, 3, *shape, 2), dtype)
    fields = np.concatenate([FIELDS, [[0, 2], [0, 7], [0, 8]]]) if shape[0] > 1 else FIELDS
    symbols = 1.0 + random((PAIRS, *shape), np.float64, 1) ** 2
    derivatives = axis_derivatives(band, dtype, np)
    inputs = [x, fields, symbols, derivatives, *_synthesis_tables(band, grid, dtype, np)]
    expected, actual = host.nan_filled((2, BATCH, len(fields), *grid[::-1]), dtype)
    kernels.to_grid(*inputs, expected)
    parts = math.ceil((grid[0] // 2 + 1) / part_size)
    sizes = (BATCH, 3, len(fields), PAIRS, derivatives.shape[1], *shape, *grid, parts, part_size)
    scratch = BATCH * len(fields) * parts * _scratch_to_grid(shape, grid, parts, part_size)
    host.call(library, "to_grid", inputs, sizes, [actual], scratch=scratch)
    laws.close(actual, expected)


@pytest.mark.parametrize("part_size", [1, 2, 3, 100])
@pytest.mark.parametrize(("band", "grid"), CASES.values(), ids=CASES)
def test_from_grid(compiled, band, grid, part_size):
    library, dtype = compiled
    shape, grid = _shape_3d(band.coefficient_shape), _shape_3d(grid)
    inputs = [random((BATCH, *grid[::-1]), dtype), *_analysis_tables(band, grid, dtype, np)]
    expected, actual = host.nan_filled((2, BATCH, *shape, 2), dtype)
    kernels.from_grid(*inputs, expected)
    part_size = min(part_size, shape[2])
    parts = math.ceil(shape[2] / part_size)
    sizes = (BATCH, *shape, *grid, parts, part_size)
    scratch = BATCH * parts * _scratch_from_grid(shape, grid, part_size)
    host.call(library, "from_grid", inputs, sizes, [actual], scratch=scratch)
    laws.close(actual, expected)


@pytest.mark.parametrize("d", [2, 3])
def test_multiply(compiled, d):
    library, dtype = compiled
    matrices, vectors = random((PAIRS, d, d, 50), dtype), random((BATCH, d, 50), dtype, 1)
    expected, actual = host.nan_filled((2, BATCH, d, 50), dtype)
    kernels.multiply(matrices, vectors, expected)
    host.call(library, "multiply", [matrices, vectors], (BATCH, PAIRS, d, 50), [actual])
    laws.close(actual, expected)
    by_definition = np.einsum("bijp,bjp->bip", matrices[np.arange(BATCH) % PAIRS], vectors)
    laws.close(expected, by_definition)


def test_contract(compiled):
    library, dtype = compiled
    values, matrix = random((3 * 2, 5, 4, 2), dtype), random((7, 5, 2), dtype, 1)
    expected, actual = host.nan_filled((2, 3 * 2, 7, 4, 2), dtype)
    kernels.contract(values, matrix, expected)
    host.call(library, "contract", [values, matrix], (3, 2, 5, 4, 7), [actual])
    laws.close(actual, expected)
    complex_values, complex_matrix = (a[..., 0] + 1j * a[..., 1] for a in (values, matrix))
    by_definition = np.einsum("inj,qn->iqj", complex_values, complex_matrix)
    laws.close(expected[..., 0] + 1j * expected[..., 1], by_definition)


@pytest.mark.parametrize("transposed", [False, True], ids=["row-major", "transposed"])
@pytest.mark.parametrize(("rows", "n", "size"), [(13, 6, 7), (9, 5, 3), (3, 8, 16)])
def test_contract_rows(compiled, rows, n, size, transposed):
    library, dtype = compiled
    values = random((rows, n), dtype)
    matrix = random((n, size), dtype, 1).T if transposed else random((size, n), dtype, 1)
    expected, actual = host.nan_filled((2, rows, size), dtype)
    kernels.contract_rows(values, matrix, expected)
    rows_per_block, scratch = 8, math.ceil(rows / 8) * 8 * (n | 1)
    strides = (size, 1) if transposed else (1, n)
    sizes = (rows, n, size, rows_per_block, *strides)
    host.call(library, "contract_rows", [values, matrix], sizes, [actual], scratch=scratch)
    laws.close(actual, expected)
    laws.close(expected, values @ matrix.T)


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(("n", "size"), [(16, 136), (136, 16), (1, 1), (5000, 16), (20_000, 3)])
def test_rows_of_a_block_fit_in_shared_memory_if_possible(n, size, itemsize):
    rows = _rows_per_block(n, size, itemsize)
    assert rows % 4 == 0
    assert rows == 4 or rows * (n | 1) * itemsize <= SHARED_BYTES
    assert math.ceil((rows - 4) / 4) * math.ceil(size / 4) < JOB_THREADS


@pytest.mark.parametrize("max_parts", [1, 8, 12])
@pytest.mark.parametrize("jobs", [0, 1, 15, 24, 100, 10_000])
def test_parts_cover_a_job_and_occupy_the_gpu(max_parts, jobs):
    parts, size = _split_jobs(jobs, max_parts)
    assert (parts - 1) * size < max_parts <= parts * size  # no part is empty
    assert parts == 1 or parts * jobs <= CONCURRENT_BLOCKS
    occupied = 3 * parts * jobs > CONCURRENT_BLOCKS or jobs * (parts + 1) > CONCURRENT_BLOCKS
    assert parts == max_parts or occupied

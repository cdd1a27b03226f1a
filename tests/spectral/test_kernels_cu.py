"""The CUDA kernels of small grids, compiled by the host compiler, equal the numba kernels."""

import math

import numpy as np
import pytest

from fourierreg.backend.kernels import JOB_THREADS, SHARED_BYTES
from fourierreg.spectral import kernels
from fourierreg.spectral.band import Band
from fourierreg.spectral.operators import slopes
from fourierreg.spectral.product_grid import (
    BLOCKS,
    _analysis_tables,
    _scratch_from_grid,
    _scratch_to_grid,
    _shares,
    _synthesis_tables,
    _volume,
)
from fourierreg.spectral.transform import _rows_together
from tests import host, laws
from tests.host import random

# Odd and even grids; a 2D band; an axis on its own few voxels.
CASES = {
    "3d": (Band((12, 10, 11), (7, 5, 6), (1.0, 1.6, 0.7)), (10, 7, 7)),
    "3d-voxels": (Band((12, 10, 11), (7, 5, 6), (1.0, 1.6, 0.7)), (7, 6, 5)),
    "2d": (Band((17, 20), (5, 8), (1.6, 0.7)), (8, 10)),
}
FIELDS = np.array([[1, 0], [0, 1], [0, 3], [1, 4], [0, 4]])
BATCH, PAIRS = 4, 2


compiled = host.compiled_fixture("fourierreg.spectral")


@pytest.mark.parametrize("each", [1, 2, 3, 100])  # in a share of a field; all of it
@pytest.mark.parametrize(("band", "grid"), CASES.values(), ids=CASES)
def test_to_grid(compiled, band, grid, each):
    library, dtype = compiled
    shape, grid = _volume(band.coefficient_shape), _volume(grid)
    x = random((BATCH, 2, *shape, 2), dtype)
    fields = np.concatenate([FIELDS, [[0, 2]]]) if shape[0] > 1 else FIELDS
    lower = 1.0 + random((PAIRS, *shape), np.float64, 1) ** 2
    along = slopes(band, dtype, np)
    inputs = [x, fields, lower, along, *_synthesis_tables(band, grid, dtype, np)]
    expected, actual = host.unwritten((2, BATCH, len(fields), *grid[::-1]), dtype)
    kernels.to_grid(*inputs, expected)
    shares = math.ceil((grid[0] // 2 + 1) / each)
    sizes = (BATCH, 2, len(fields), PAIRS, along.shape[1], *shape, *grid, shares, each)
    scratch = BATCH * len(fields) * shares * _scratch_to_grid(shape, grid, shares, each)
    host.call(library, "to_grid", inputs, sizes, [actual], scratch=scratch)
    laws.close(actual, expected)


@pytest.mark.parametrize("each", [1, 2, 3, 100])
@pytest.mark.parametrize(("band", "grid"), CASES.values(), ids=CASES)
def test_from_grid(compiled, band, grid, each):
    library, dtype = compiled
    shape, grid = _volume(band.coefficient_shape), _volume(grid)
    inputs = [random((BATCH, *grid[::-1]), dtype), *_analysis_tables(band, grid, dtype, np)]
    expected, actual = host.unwritten((2, BATCH, *shape, 2), dtype)
    kernels.from_grid(*inputs, expected)
    each = min(each, shape[2])
    shares = math.ceil(shape[2] / each)
    sizes = (BATCH, *shape, *grid, shares, each)
    scratch = BATCH * shares * _scratch_from_grid(shape, grid, each)
    host.call(library, "from_grid", inputs, sizes, [actual], scratch=scratch)
    laws.close(actual, expected)


@pytest.mark.parametrize("d", [2, 3])
def test_multiply(compiled, d):
    library, dtype = compiled
    matrices, vectors = random((PAIRS, d, d, 50), dtype), random((BATCH, d, 50), dtype, 1)
    expected, actual = host.unwritten((2, BATCH, d, 50), dtype)
    kernels.multiply(matrices, vectors, expected)
    host.call(library, "multiply", [matrices, vectors], (BATCH, PAIRS, d, 50), [actual])
    laws.close(actual, expected)
    by_hand = np.einsum("bijp,bjp->bip", matrices[np.arange(BATCH) % PAIRS], vectors)
    laws.close(expected, by_hand)


def test_contract(compiled):
    library, dtype = compiled
    values, matrix = random((3 * 2, 5, 4, 2), dtype), random((7, 5, 2), dtype, 1)
    expected, actual = host.unwritten((2, 3 * 2, 7, 4, 2), dtype)
    kernels.contract(values, matrix, expected)
    host.call(library, "contract", [values, matrix], (3, 2, 5, 4, 7), [actual])
    laws.close(actual, expected)
    by_hand = np.einsum("inj,qn->iqj", *(a[..., 0] + 1j * a[..., 1] for a in (values, matrix)))
    laws.close(expected[..., 0] + 1j * expected[..., 1], by_hand)


@pytest.mark.parametrize("turned", [False, True], ids=["as it is", "transposed"])
@pytest.mark.parametrize(("rows", "n", "size"), [(13, 6, 7), (9, 5, 3), (3, 8, 16)])
def test_contract_rows(compiled, rows, n, size, turned):
    library, dtype = compiled
    values = random((rows, n), dtype)
    matrix = random((n, size), dtype, 1).T if turned else random((size, n), dtype, 1)
    expected, actual = host.unwritten((2, rows, size), dtype)
    kernels.contract_rows(values, matrix, expected)
    each, scratch = 8, math.ceil(rows / 8) * 8 * (n | 1)
    sizes = (rows, n, size, each, *((size, 1) if turned else (1, n)))
    host.call(library, "contract_rows", [values, matrix], sizes, [actual], scratch=scratch)
    laws.close(actual, expected)
    laws.close(expected, values @ matrix.T)


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(("n", "size"), [(16, 136), (136, 16), (1, 1), (5000, 16), (20_000, 3)])
def test_rows_together_fit_a_blocks_own_memory_where_they_can(n, size, itemsize):
    rows = _rows_together(n, size, itemsize)
    assert rows % 4 == 0
    assert rows == 4 or rows * (n | 1) * itemsize <= SHARED_BYTES
    assert math.ceil((rows - 4) / 4) * math.ceil(size / 4) < JOB_THREADS


@pytest.mark.parametrize("most", [1, 8, 12])
@pytest.mark.parametrize("jobs", [0, 1, 15, 24, 100, 10_000])
def test_shares_are_all_of_a_field_and_fill_a_gpu(most, jobs):
    shares, each = _shares(most, jobs)
    assert (shares - 1) * each < most <= shares * each  # none is empty
    assert shares == 1 or shares * jobs <= BLOCKS
    assert shares == most or 3 * shares * jobs > BLOCKS or jobs * (shares + 1) > BLOCKS

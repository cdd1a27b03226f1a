"""The CUDA kernels of L-BFGS, compiled by the host compiler, equal the numba kernels."""

import numpy as np
import pytest

from fourierreg.optim import kernels
from fourierreg.optim.lbfgs import PARTS
from tests import host, laws
from tests.host import random

ROWS, MEMORY, SIZE = 3, 4, 700  # more numbers than partial sums


compiled = host.compiled_fixture("fourierreg.optim")


def told(dtype, accepted, slots, aims):
    """Control of three rows."""
    said = random((ROWS, 5 + 2 * MEMORY), dtype, 9)
    said[:, 0], said[:, 1], said[:, 2] = accepted, slots, aims
    said[0, 5:7] = 0.0
    return said


@pytest.mark.parametrize(
    ("accepted", "slots", "aims"),
    [((1, 1, 0), (2, -1, -1), (1, 1, 0)), ((0, 0, 1), (-1, -1, 0), (0, 1, 1))],
)
def test_advance(compiled, accepted, slots, aims):
    library, dtype = compiled
    control = told(dtype, accepted, slots, aims)
    inputs = [random((ROWS, SIZE), dtype, 1) ** 2, random((ROWS, SIZE), dtype, 2), control]
    before = [random((ROWS, SIZE), dtype, seed) for seed in range(3, 8)]
    before.append(random((ROWS, 2, MEMORY, SIZE), dtype, 8))
    expected, actual = ([a.copy() for a in before] for _ in range(2))
    kernels.advance(*inputs, *expected)
    host.call(library, "advance", inputs, (ROWS, MEMORY, SIZE), actual)
    for one, other in zip(actual, expected, strict=True):
        laws.close(one, other)
    x, gradient, direction, step, trial, known = expected
    for row in range(ROWS):
        moved = before[3][row] if accepted[row] else 0
        laws.close(x[row], before[0][row] + moved)
        laws.close(gradient[row], (inputs[1] if accepted[row] else before[1])[row])
        laws.close(trial[row] - x[row], step[row])
        laws.close(step[row], control[row, 4] * direction[row])
        assert np.any(known[row] != before[5][row]) == (slots[row] >= 0)
        assert np.any(direction[row] != before[2][row]) == bool(aims[row])


def test_products(compiled):
    library, dtype = compiled
    inputs = [random((ROWS, SIZE), dtype, seed) for seed in range(4)]
    inputs.append(random((ROWS, 2, MEMORY, SIZE), dtype, 4))
    expected, actual = np.empty((2, ROWS, 2 * MEMORY + 3, 5), dtype)
    kernels.products(*inputs, expected)
    scratch = ROWS * (2 * MEMORY + 3) * 5 * PARTS
    host.call(library, "products", inputs, (ROWS, MEMORY, SIZE), [actual], scratch=scratch)
    laws.close(actual, expected)
    inverse, gradient, fresh, step, known = inputs
    y = fresh - gradient
    rows = np.concatenate([known.reshape(ROWS, -1, SIZE), np.stack([step, y, fresh], 1)], axis=1)
    columns = np.stack([step, y, inverse * y, fresh, inverse * fresh], axis=1)
    laws.close(expected, np.einsum("rip,rjp->rij", rows, columns))

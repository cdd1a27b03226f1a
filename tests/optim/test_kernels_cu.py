"""The CUDA kernels of L-BFGS, compiled by the host compiler, equal the numba kernels."""

import numpy as np
import pytest

from fourierreg.optim import kernels
from fourierreg.optim.vectors import PARTS
from tests import host, laws
from tests.host import random

ROWS, CAPACITY, SIZE = 3, 4, 700  # more elements than partial sums


compiled = host.compiled_fixture("fourierreg.optim")


def control_of(dtype, accepted, slots, needs_direction):
    """Control of three rows, with some coefficients zero."""
    control = random((ROWS, 5 + 2 * CAPACITY), dtype, 9)
    control[:, 0], control[:, 1], control[:, 2] = accepted, slots, needs_direction
    control[0, 5:7] = 0.0
    return control


@pytest.mark.parametrize(
    ("accepted", "slots", "needs_direction"),
    [((1, 1, 0), (2, -1, -1), (1, 1, 0)), ((0, 0, 1), (-1, -1, 0), (0, 1, 1))],
)
def test_advance(compiled, accepted, slots, needs_direction):
    library, dtype = compiled
    control = control_of(dtype, accepted, slots, needs_direction)
    inputs = [random((ROWS, SIZE), dtype, 1) ** 2, random((ROWS, SIZE), dtype, 2), control]
    before = [random((ROWS, SIZE), dtype, seed) for seed in range(3, 8)]
    before.append(random((ROWS, 2, CAPACITY, SIZE), dtype, 8))
    expected, actual = ([a.copy() for a in before] for _ in range(2))
    kernels.advance(*inputs, *expected)
    host.call(library, "advance", inputs, (ROWS, CAPACITY, SIZE), actual)
    for one, other in zip(actual, expected, strict=True):
        laws.close(one, other)
    x, gradient, direction, step, trial, memory = expected
    for row in range(ROWS):
        moved = before[3][row] if accepted[row] else 0
        laws.close(x[row], before[0][row] + moved)
        laws.close(gradient[row], (inputs[1] if accepted[row] else before[1])[row])
        laws.close(trial[row] - x[row], step[row])
        laws.close(step[row], control[row, 4] * direction[row])
        assert np.any(memory[row] != before[5][row]) == (slots[row] >= 0)
        assert np.any(direction[row] != before[2][row]) == bool(needs_direction[row])


def test_products(compiled):
    library, dtype = compiled
    inputs = [random((ROWS, SIZE), dtype, seed) for seed in range(4)]
    inputs.append(random((ROWS, 2, CAPACITY, SIZE), dtype, 4))
    expected, actual = np.empty((2, ROWS, 2 * CAPACITY + 3, 5), dtype)
    kernels.products(*inputs, expected)
    scratch = ROWS * (2 * CAPACITY + 3) * 5 * PARTS
    host.call(library, "products", inputs, (ROWS, CAPACITY, SIZE), [actual], scratch=scratch)
    laws.close(actual, expected)
    inverse, gradient, trial_gradient, step, memory = inputs
    y = trial_gradient - gradient
    rows = np.concatenate(
        [memory.reshape(ROWS, -1, SIZE), np.stack([step, y, trial_gradient], 1)], axis=1
    )
    columns = np.stack([step, y, inverse * y, trial_gradient, inverse * trial_gradient], axis=1)
    laws.close(expected, np.einsum("rip,rjp->rij", rows, columns))

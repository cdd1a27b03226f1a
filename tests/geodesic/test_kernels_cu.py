"""The CUDA kernels of EPDiff, compiled by the host compiler, equal the numba kernels."""

import numpy as np
import pytest

from fourierreg.geodesic import kernels
from tests import host, laws
from tests.host import random

BATCH, SHARED, POINTS = 4, 2, 1500  # more than one of numba's blocks
FIELDS = {2: 10, 3: 19}  # of a point
SHAPES = {2: (1, 5, 4), 3: (3, 5, 4)}


compiled = host.compiled_fixture("fourierreg.geodesic")


@pytest.mark.parametrize("d", [2, 3])
def test_products(compiled, d):
    library, dtype = compiled
    point = random((BATCH, FIELDS[d], POINTS), dtype)
    expected, actual = np.empty((2, BATCH, 2 * d + 1, POINTS), dtype)
    kernels.products(point, expected)
    host.call(library, "products", [point], (BATCH, d, POINTS), [actual])
    laws.close(actual, expected)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", ["products_tangent", "products_adjoint"])
def test_linearized_products(compiled, d, name):
    library, dtype = compiled
    state, products = FIELDS[d], 2 * d + 1  # numbers of fields
    inputs, outputs = (state, products) if name == "products_tangent" else (products, state)
    point, other = random((SHARED, state, POINTS), dtype), random((BATCH, inputs, POINTS), dtype, 1)
    expected, actual = np.empty((2, BATCH, outputs, POINTS), dtype)
    getattr(kernels, name)(point, other, expected)
    host.call(library, name, [point, other], (BATCH, SHARED, d, POINTS), [actual])
    laws.close(actual, expected)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", ["rate", "rate_adjoint"])
def test_rates_in_the_band(compiled, d, name):
    library, dtype = compiled
    shape, longest = SHAPES[d], max(SHAPES[d])
    fields = 2 * d + 1 if name == "rate" else FIELDS[d]
    products = random((BATCH, fields, *shape, 2), dtype)
    state = random((BATCH, 2, d, *shape, 2), dtype, 1)
    symbols = 1.0 + random((SHARED, *shape), np.float64, 2) ** 2
    base = random(state.shape, dtype, 4)
    inputs = [state, base, products, symbols, random((3, longest), dtype, 3)]
    expected, actual = np.empty((2, *state.shape), dtype)
    keep, step = dtype(0.7), dtype(0.2)
    getattr(kernels, name)(*inputs, keep, step, expected)
    sizes = (BATCH, SHARED, longest, d, *shape)
    host.call(library, name, inputs, sizes, [actual], (keep, step))
    laws.close(actual, expected)

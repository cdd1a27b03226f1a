"""The Jacobian determinant of a map, its extremes and the barrier, and their CUDA kernels."""

import math

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.image.determinant import (
    END,
    REDUCTION_WIDTH,
    START,
    add_barrier_force,
    kernels,
    measure_map,
)
from tests import host, laws

SHAPE = (5, 6, 7)
PAIRS = 2
SPACING = (0.5, 2.0, 1.0)

compiled = host.compiled_fixture("fourierreg.image.determinant")


def scalars(dtype, *more):
    return [dtype(x) for x in (*SPACING, *more)]


def displacements(dtype=np.float64):
    """Two displacements in mm: one that folds, one whose determinants reach the barrier."""
    u = np.random.default_rng(0).standard_normal((PAIRS, 3, *SHAPE))
    return (
        u * np.reshape([1.0, 0.38], (2, 1, 1, 1, 1)) * np.reshape(SPACING, (3, 1, 1, 1))
    ).astype(dtype)


def test_determinant_kernels_agree(compiled):
    library, dtype = compiled
    u = displacements(dtype)
    expected, actual = host.nan_filled((2, PAIRS, *SHAPE), dtype)
    kernels.jacobian_determinant(u, *scalars(dtype), expected)
    host.call(library, "jacobian_determinant", [u], (PAIRS, *SHAPE), [actual], scalars(dtype))
    laws.close(actual, expected)


def end_map(library, dtype, u, parts, given):
    """Determinants and measures by numba and by CUDA C."""
    pairs, rows = u.shape[0], math.ceil(SHAPE[0] * SHAPE[1] / parts)
    expected = [host.nan_filled((pairs, *SHAPE), dtype), host.nan_filled((pairs, parts, 3), dtype)]
    actual = [np.full_like(a, np.nan) for a in expected]
    kernels.end_map(u, *given, *expected)
    sizes, scratch = (pairs, parts, rows, *SHAPE), pairs * parts * 3 * REDUCTION_WIDTH
    host.call(library, "end_map", [u], sizes, actual, given, scratch)
    return expected, actual


@pytest.mark.parametrize("parts", [1, 3, 4])  # 4: parts of unequal numbers of rows
def test_end_map_kernels_agree(compiled, parts):
    library, dtype = compiled
    u, given = displacements(dtype), scalars(dtype, 0.3, 0.5, 0.2, START, END)
    expected, actual = end_map(library, dtype, u, parts, given)
    for a, b in zip(actual, expected, strict=True):
        assert np.array_equal(np.isinf(a), np.isinf(b))
        laws.close(np.where(np.isinf(a), 0, a), np.where(np.isinf(b), 0, b))
    determinants, measures = expected
    factors = np.reshape(given[3:6], (3, 1, 1, 1))
    laws.close(measures[..., 0].max(axis=1), (abs(u) * factors).max(axis=(1, 2, 3, 4)))
    laws.close(measures[..., 1].max(axis=1), -determinants.min(axis=(1, 2, 3)))
    assert np.isinf(measures[0, :, 2].sum())
    assert 0 < measures[1, :, 2].sum() < np.inf


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_extremes_propagate_nan(compiled, axis):
    library, dtype = compiled
    u = np.zeros((1, 3, *SHAPE), dtype)
    u[0, axis, 2, 3, 4] = np.nan
    for _, measures in end_map(library, dtype, u, 1, scalars(dtype, 1, 1, 1, START, END)):
        assert np.isnan(measures[..., :2]).all()


def test_barrier_force_kernels_agree(compiled):
    library, dtype = compiled
    u, scale = displacements(dtype)[1:], np.array([1.7], dtype)
    determinants = host.nan_filled((1, *SHAPE), dtype)
    kernels.jacobian_determinant(u, *scalars(dtype), determinants)
    expected, actual = np.ones((2, *u.shape), dtype)
    given, inputs = scalars(dtype, START, END), [u, determinants, scale]
    kernels.barrier_force(*inputs, *given, expected)
    host.call(library, "barrier_force", inputs, (1, *SHAPE), [actual], given)
    assert np.any(expected != 1)
    laws.close(actual, expected, rtol=1e-4 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize(
    ("shape", "spacing"), [(SHAPE, SPACING), ((9, 8), (1.0, 0.7))], ids=["3d", "2d"]
)
def test_barrier_force_is_the_derivative_of_the_barrier(shape, spacing, backend):
    d, rng = len(shape), np.random.default_rng(1)
    u = rng.standard_normal((2, d, *shape)) * np.reshape(spacing, (d, *[1] * d))
    limits = (100.0,) * d

    def measures(field):
        return to_numpy(measure_map(asarray(field), spacing, limits)[0])

    while not np.all(measures(u)[:, 1] < -2 * END):  # each to where it does not fold yet
        u = np.where((measures(u)[:, 1] < -2 * END).reshape(-1, *[1] * (d + 1)), u, 0.97 * u)
    direction, scale = rng.standard_normal(u.shape), np.array([1.0, 0.5])
    _, determinants = measure_map(asarray(u), spacing, limits)
    zero = asarray(np.zeros_like(u))
    force = add_barrier_force(zero, asarray(u), determinants, asarray(scale), spacing)
    slopes = np.sum(to_numpy(force) * direction, axis=tuple(range(1, d + 2)))
    assert np.all(slopes != 0)
    for pair in range(2):
        laws.gradient(
            lambda x, pair=pair: scale[pair] * measures(x[None])[0, 2],
            u[pair],
            direction[pair],
            slopes[pair],
            1e-3,
        )


def test_no_barrier_far_from_a_fold(backend):
    u = asarray(np.zeros((1, 3, *SHAPE)))
    measures, determinants = measure_map(u, SPACING, (1.0, 1.0, 1.0))
    assert to_numpy(measures)[0].tolist() == [0.0, -1.0, 0.0]
    assert float(abs(determinants - 1).max()) == 0.0

"""The CUDA kernels of the local correlation, compiled by the host compiler, equal numba's."""

import numpy as np
import pytest

from fourierreg.image.similarity import kernels
from tests import host, laws

PAIRS = 2
CASES = {  # grids longer than a strip of a GPU thread; radii up to half an axis
    "3d": ((19, 18, 7), (2, 1, 3)),
    "wide": ((5, 35, 6), (2, 5, 0)),
    "2d": ((1, 17, 33), (0, 2, 4)),
}

compiled = host.compiled_fixture("fourierreg.image.similarity")


@pytest.mark.parametrize(("shape", "radii"), CASES.values(), ids=CASES)
def test_kernels(compiled, shape, radii):
    library, dtype = compiled
    rz, ry, rx = (dtype(r) for r in radii)
    sizes, rtol = (PAIRS, *shape), 2e-4 if dtype == np.float32 else 1e-9
    image, target = (host.random((PAIRS, *shape), dtype, seed) for seed in (0, 1))
    inside = (host.random((PAIRS, *shape), dtype, 2) < 0.8).astype(dtype)
    target *= inside
    shift, floor = np.array([0.3, -0.1], dtype), np.array([0.01, 0.02], dtype)

    def both(name, inputs, scalars, fields):
        expected, actual = host.nan_filled((2, PAIRS, *fields, *shape), dtype)
        getattr(kernels, name)(*inputs, *scalars, expected)
        host.call(library, name, inputs, sizes, [actual], scalars)
        laws.close(actual, expected, rtol=rtol)
        return expected

    moments = both("window_moments", [image, target, inside, shift], (ry, rx), (3,))
    value = (image - shift.reshape(-1, 1, 1, 1)) * inside
    laws.close(moments[:, 2], window_sum(value * target, (0, *radii[1:])), rtol=rtol)
    size = window_sum(inside, radii) * inside
    mean = window_sum(target, radii) / np.maximum(size, 1)
    spread = 1 + host.random((PAIRS, *shape), dtype, 3) ** 2
    terms = both("window_terms", [moments, size, mean, spread, floor], (rz,), (4,))
    sums = both("window_spread", [terms], (ry, rx), (3,))
    laws.close(sums, window_sum(terms[:, :3], (0, *radii[1:])), rtol=rtol)
    half = both("window_derivative", [image, target, inside, shift, sums], (rz,), ())
    a, b, c = (window_sum(sums[:, f], (radii[0], 0, 0)) for f in range(3))
    laws.close(half, (value * a - target * b - c) * inside, rtol=rtol)


def window_sum(field, radii):
    """Sum over a periodic box around every voxel."""
    for axis, radius in zip((-3, -2, -1), radii, strict=True):
        field = sum(np.roll(field, k, axis=axis) for k in range(-radius, radius + 1))
    return field

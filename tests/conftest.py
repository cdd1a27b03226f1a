"""Backends and grids over which the tests are parametrized."""

import os

import pytest

from fourierreg.backend import active_module, set_backend
from fourierreg.spectral.metric import Metric

# Idle OpenMP threads of several test processes would otherwise spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BACKENDS = ("numpy", "mock", pytest.param("cupy", marks=pytest.mark.gpu))

# Odd and even, non-cubic, anisotropic: a mix-up of two axes changes the results.
CASES = {
    "2d": {"shape": (20, 17), "modes": 6},
    "2d-anisotropic": {"shape": (17, 20), "modes": (5, 8), "spacing": (1.6, 0.7)},
    "3d-anisotropic": {"shape": (12, 10, 11), "modes": (7, 5, 6), "spacing": (1.0, 1.6, 0.7)},
}


@pytest.fixture(autouse=True)
def reset_backend():
    """Every test starts and ends on NumPy."""
    set_backend("numpy")
    yield
    set_backend("numpy")


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Name of the active backend; skips CuPy where it or a GPU is missing."""
    try:
        set_backend(request.param)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def xp(backend):
    """Namespace of the active backend."""
    return active_module()


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def metric(request):
    """A metric for every combination of dimension and spacing."""
    return Metric.create(**request.param)


@pytest.fixture
def band(metric):
    """The band of `metric`."""
    return metric.band

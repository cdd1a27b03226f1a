"""The backend switch, the mock device, and the cost of an import."""

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import (
    _cupy,
    active_module,
    array_module,
    asarray,
    backend_of,
    get_backend,
    mock_device,
    set_backend,
    to_numpy,
    use_backend,
)
from fourierreg.backend.mock_device import MockArray

NEVER_IMPORTED = (
    "keras",
    "tensorflow",
    "cupy",
    "dask",
    "matplotlib",
    "numba",
    "nibabel",
    "scipy.optimize",
)


def test_get_backend_returns_what_was_set():
    assert get_backend() == "numpy"
    set_backend("mock")
    assert get_backend() == "mock"
    assert active_module() is mock_device.namespace


def test_use_backend_restores_the_backend_after_an_error():
    with pytest.raises(KeyError), use_backend("mock"):
        assert get_backend() == "mock"
        raise KeyError
    assert get_backend() == "numpy"


def test_use_backend_nests():
    with use_backend("mock"):
        with use_backend("numpy"):
            assert get_backend() == "numpy"
        assert get_backend() == "mock"


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"backend: .*numpy, cupy, mock; got 'torch'"):
        set_backend("torch")
    assert get_backend() == "numpy"


@pytest.fixture
def without_cupy(monkeypatch):
    """Make `import cupy` fail."""
    _cupy._library.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    yield
    _cupy._library.cache_clear()


def test_error_for_missing_cupy_names_the_extra(without_cupy):
    with pytest.raises(ImportError, match=r"pip install 'fourierreg\[gpu\]'"):
        set_backend("cupy")
    assert get_backend() == "numpy"


@pytest.mark.gpu
def test_cupy_arrays_refuse_implicit_conversion(request):
    try:
        set_backend("cupy")
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    x = asarray(np.arange(3.0))
    assert backend_of(x) == "cupy"
    with pytest.raises(TypeError):
        np.asarray(x)
    np.testing.assert_array_equal(to_numpy(x), np.arange(3.0))


def test_backend_and_namespace_follow_from_an_array(backend):
    x = asarray(np.arange(3.0))
    assert backend_of(x) == backend
    assert array_module(x, 2.0, None) is active_module()
    np.testing.assert_array_equal(to_numpy(x), np.arange(3.0))
    assert isinstance(to_numpy(x), np.ndarray)


def test_namespace_follows_from_the_inputs_not_from_the_switch():
    x = asarray(np.zeros(2))
    with use_backend("mock"):
        assert array_module(x) is np


def test_mixing_backends_raises():
    a = np.zeros(3)
    with use_backend("mock"):
        b = asarray(np.zeros(3))
    with pytest.raises(TypeError, match="mock, numpy"):
        array_module(a, b)


@pytest.mark.parametrize("values", [(), (1.0,), (None, [1, 2])])
def test_array_module_needs_an_array(values):
    with pytest.raises(TypeError, match="no array"):
        array_module(*values)


def test_public_arguments_move_to_the_active_backend():
    with use_backend("mock"):
        x = asarray([1, 2], dtype=np.float32)
        assert backend_of(x) == "mock"
        assert x.dtype == np.float32
        assert backend_of(asarray(x)) == "mock"
    with pytest.raises(TypeError, match=r"'mock' but 'numpy' is active.*to_numpy"):
        asarray(x)


def test_to_numpy_does_not_copy_numpy_arrays():
    x = np.arange(3)
    assert to_numpy(x) is x


# The mock device


@pytest.fixture
def mock_array():
    set_backend("mock")
    return asarray(np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("convert", [np.asarray, np.array, np.stack, np.exp, np.float64])
def test_mock_device_refuses_implicit_conversion(mock_array, convert):
    with pytest.raises(TypeError):
        convert(mock_array)


@pytest.mark.parametrize(
    "mix",
    [
        lambda g, n: g + n,
        lambda g, n: n + g,
        lambda g, n: g * n,
        lambda g, n: n @ g.T,
        lambda g, n: g @ n.T,
        lambda g, n: g < n,
        lambda g, n: mock_device.namespace.add(g, n),
        lambda g, n: mock_device.namespace.sum(n),
        lambda g, n: mock_device.namespace.stack([g, n]),
        lambda g, n: mock_device.namespace.where(g > 0, g, n),
        lambda g, n: np.add(g, n),
        lambda g, n: n.__iadd__(g),
        lambda g, n: g.__setitem__(slice(None), n),
        lambda g, n: n.__setitem__(slice(None), g),
        lambda g, n: g[n > 0],
    ],
)
def test_mock_device_refuses_to_mix_with_numpy(mock_array, mix):
    with pytest.raises(TypeError):
        mix(mock_array, np.ones((2, 3)))


def test_mock_arrays_compute_with_each_other_and_with_scalars(mock_array):
    plain = to_numpy(mock_array)
    for result, expected in [
        (2 * mock_array + 1, 2 * plain + 1),
        (mock_array - np.float64(2), plain - 2),
        (mock_array / (1 + mock_array), plain / (1 + plain)),
        (mock_array @ mock_array.T, plain @ plain.T),
        (-(mock_array**2), -(plain**2)),
        (mock_array[mock_array > 2], plain[plain > 2]),
        (mock_array.reshape(3, 2).sum(axis=0), plain.reshape(3, 2).sum(axis=0)),
        (mock_device.namespace.einsum("ij,ij->i", mock_array, mock_array), (plain**2).sum(axis=1)),
        (mock_device.namespace.zeros((2, 2)), np.zeros((2, 2))),
    ]:
        assert isinstance(result, MockArray)
        np.testing.assert_array_equal(to_numpy(result), expected)


def test_mock_arrays_are_modified_in_place(mock_array):
    alias = mock_array
    mock_array += 1
    assert mock_array is alias
    mock_array[0] = 7.0
    mock_array[1, 1:] = mock_array[0, 1:]
    np.testing.assert_array_equal(to_numpy(mock_array), [[7, 7, 7], [4, 7, 7]])


def test_reductions_on_the_mock_device_are_arrays_with_explicit_conversion(mock_array):
    total = mock_device.namespace.sum(mock_array)
    assert isinstance(total, MockArray)
    assert float(total) == 15.0
    assert int(total) == 15
    assert bool(mock_device.namespace.all(mock_array >= 0)) is True
    with pytest.raises(TypeError):
        math.sqrt(np.asarray(total))


def test_mock_arrays_can_be_pickled(mock_array):
    restored = pickle.loads(pickle.dumps(mock_array))
    np.testing.assert_array_equal(to_numpy(restored), to_numpy(mock_array))


def test_mock_device_has_linear_algebra():
    set_backend("mock")
    inverse = mock_device.namespace.linalg.inv(asarray(2.0 * np.eye(3)))
    assert isinstance(inverse, MockArray)
    np.testing.assert_array_equal(to_numpy(inverse), 0.5 * np.eye(3))


def test_mock_device_counts_calls_that_fill_arrays():
    with use_backend("mock"):
        x = active_module().zeros((4, 6))
        with mock_device.count_launches() as counter:
            x.reshape(-1)[::2], x.T, x.astype(x.dtype, copy=False), active_module().empty(3)
        assert counter.total() == 0
        with mock_device.count_launches() as counter:
            x[0] = 2.0 * x[1] + active_module().sum(x, axis=0)
            x.astype(np.float32)
        assert dict(counter) == {
            "__rmul__": 1,
            "__add__": 1,
            "sum": 1,
            "__setitem__": 1,
            "astype": 1,
        }
        x + x
    assert counter.total() == 5


# The cost of an import


def in_a_fresh_interpreter(code):
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return json.loads(outcome.stdout)


def test_import_loads_no_heavy_package_and_takes_under_a_second():
    code = f"""
import json, sys, time
start = time.perf_counter()
import fourierreg
seconds = time.perf_counter() - start
fourierreg.set_backend("mock")
print(json.dumps([seconds, [name for name in {NEVER_IMPORTED} if name in sys.modules]]))
"""
    runs = [in_a_fresh_interpreter(code) for _ in range(3)]
    assert all(loaded == [] for _, loaded in runs)
    assert min(seconds for seconds, _ in runs) < 1.0


def test_only_shooting_loads_numba_and_nothing_loads_the_optimizer():
    code = f"""
import json, sys
import fourierreg
def heavy():
    return [name for name in {NEVER_IMPORTED} if name in sys.modules]
metric = fourierreg.Metric.create((20, 17), modes=5)
v = fourierreg.sample_velocity(metric, 0)
before = heavy()
fourierreg.shoot(v, metric)
print(json.dumps([before, heavy()]))
"""
    assert in_a_fresh_interpreter(code) == [[], ["numba"]]


def test_every_export_exists_and_is_listed():
    for name in fourierreg.__all__:
        assert getattr(fourierreg, name) is not None
        assert name in dir(fourierreg)
    with pytest.raises(AttributeError, match="no_such_name"):
        fourierreg.no_such_name  # noqa: B018

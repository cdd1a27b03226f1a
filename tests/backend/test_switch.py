"""Where arrays live: the switch, the mock device, and what an import costs."""

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


def test_set_and_get():
    assert get_backend() == "numpy"
    set_backend("mock")
    assert get_backend() == "mock"
    assert active_module() is mock_device.namespace


def test_use_restores_even_after_an_error():
    with pytest.raises(KeyError), use_backend("mock"):
        assert get_backend() == "mock"
        raise KeyError
    assert get_backend() == "numpy"


def test_uses_nest():
    with use_backend("mock"):
        with use_backend("numpy"):
            assert get_backend() == "numpy"
        assert get_backend() == "mock"


def test_unknown_backend():
    with pytest.raises(ValueError, match=r"backend: .*numpy, cupy, mock; got 'torch'"):
        set_backend("torch")
    assert get_backend() == "numpy"


@pytest.fixture
def without_cupy(monkeypatch):
    """A machine on which `import cupy` fails."""
    _cupy.library.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    yield
    _cupy.library.cache_clear()


def test_missing_cupy_names_the_extra(without_cupy):
    with pytest.raises(ImportError, match=r"pip install 'fourierreg\[gpu\]'"):
        set_backend("cupy")
    assert get_backend() == "numpy"


@pytest.mark.gpu
def test_cupy_arrays(request):
    try:
        set_backend("cupy")
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    x = asarray(np.arange(3.0))
    assert backend_of(x) == "cupy"
    with pytest.raises(TypeError):
        np.asarray(x)
    np.testing.assert_array_equal(to_numpy(x), np.arange(3.0))


def test_arrays_say_where_they_live(backend):
    x = asarray(np.arange(3.0))
    assert backend_of(x) == backend
    assert array_module(x, 2.0, None) is active_module()
    np.testing.assert_array_equal(to_numpy(x), np.arange(3.0))
    assert isinstance(to_numpy(x), np.ndarray)


def test_the_namespace_comes_from_the_inputs_not_from_the_switch():
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
def test_no_array_at_all_raises(values):
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


def test_to_numpy_leaves_numpy_alone():
    x = np.arange(3)
    assert to_numpy(x) is x


# The mock device


@pytest.fixture
def disguised():
    set_backend("mock")
    return asarray(np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("convert", [np.asarray, np.array, np.stack, np.exp, np.float64])
def test_guard_refuses_implicit_conversion(disguised, convert):
    with pytest.raises(TypeError):
        convert(disguised)


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
def test_guard_refuses_to_mix(disguised, mix):
    with pytest.raises(TypeError):
        mix(disguised, np.ones((2, 3)))


def test_guard_meets_its_own_kind_and_scalars(disguised):
    plain = to_numpy(disguised)
    for result, expected in [
        (2 * disguised + 1, 2 * plain + 1),
        (disguised - np.float64(2), plain - 2),
        (disguised / (1 + disguised), plain / (1 + plain)),
        (disguised @ disguised.T, plain @ plain.T),
        (-(disguised**2), -(plain**2)),
        (disguised[disguised > 2], plain[plain > 2]),
        (disguised.reshape(3, 2).sum(axis=0), plain.reshape(3, 2).sum(axis=0)),
        (mock_device.namespace.einsum("ij,ij->i", disguised, disguised), (plain**2).sum(axis=1)),
        (mock_device.namespace.zeros((2, 2)), np.zeros((2, 2))),
    ]:
        assert isinstance(result, MockArray)
        np.testing.assert_array_equal(to_numpy(result), expected)


def test_guard_writes_in_place(disguised):
    same = disguised
    disguised += 1
    assert disguised is same
    disguised[0] = 7.0
    disguised[1, 1:] = disguised[0, 1:]
    np.testing.assert_array_equal(to_numpy(disguised), [[7, 7, 7], [4, 7, 7]])


def test_guard_reductions_are_arrays_and_convert_only_by_name(disguised):
    total = mock_device.namespace.sum(disguised)
    assert isinstance(total, MockArray)
    assert float(total) == 15.0
    assert int(total) == 15
    assert bool(mock_device.namespace.all(disguised >= 0)) is True
    with pytest.raises(TypeError):
        math.sqrt(np.asarray(total))


def test_guard_survives_a_pickle(disguised):
    again = pickle.loads(pickle.dumps(disguised))
    np.testing.assert_array_equal(to_numpy(again), to_numpy(disguised))


def test_guard_disguises_linear_algebra_too():
    set_backend("mock")
    inverse = mock_device.namespace.linalg.inv(asarray(2.0 * np.eye(3)))
    assert isinstance(inverse, MockArray)
    np.testing.assert_array_equal(to_numpy(inverse), 0.5 * np.eye(3))


def test_the_guard_counts_what_fills_arrays():
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


def test_import_is_light():
    code = f"""
import json, sys, time
before = time.perf_counter()
import fourierreg
taken = time.perf_counter() - before
fourierreg.set_backend("mock")
print(json.dumps([taken, [name for name in {NEVER_IMPORTED} if name in sys.modules]]))
"""
    runs = [in_a_fresh_interpreter(code) for _ in range(3)]
    assert all(heavy == [] for _, heavy in runs)
    assert min(taken for taken, _ in runs) < 1.0


def test_what_needs_no_compiler_or_optimiser_loads_none():
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

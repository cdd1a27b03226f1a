"""A mock of a GPU's array library: NumPy arrays that behave like a device's.

They refuse implicit conversion to NumPy (`__array__`) and refuse to be mixed with plain NumPy
arrays, as CuPy's do, so that a run on a machine without a GPU proves that no kernel leaves the
device. `count_launches` counts what a GPU would be asked to launch, and how often the host waits.
"""

import collections
import contextlib
import types

import numpy as np

_counter: collections.Counter | None = None
_replaying = False
_WAITS = {"item", "tolist", "nonzero", "flatnonzero", "argwhere", "unique", "extract"}
_MAX_JOINED = 8  # arrays; to join more, CuPy copies a table of pointers to the device
_CUBLAS = {"matmul", "__matmul__", "__rmatmul__", "dot", "vdot", "inner", "einsum", "tensordot"}


@contextlib.contextmanager
def count_launches():
    """Count, by name, what would be launches on a device: calls that fill arrays, and kernels.

    Views are free. One call of a device's library may be several launches. Launches inside a
    captured graph count as "captured", its replays as "replay", and copies from the device to the
    host, for which the host waits, as "wait".
    """
    global _counter
    before, _counter = _counter, collections.Counter()
    try:
        yield _counter
    finally:
        _counter = before


@contextlib.contextmanager
def replaying():
    """The replay of a graph: refuse what cannot be captured, a wait for the device or a copy."""
    global _replaying
    count("replay")
    before, _replaying = _replaying, True
    try:
        yield
    finally:
        _replaying = before


def _note_transfer():
    """Note a copy between host and device, or a wait."""
    if _replaying:
        raise TypeError("a captured graph must neither wait for the device nor copy to or from it")


def _note_call(name, module=""):
    """Note a call that CuPy makes through cuBLAS, cuSOLVER or cuFFT, or that waits."""
    if _replaying and (name in _CUBLAS or module.endswith(("linalg", "fft"))):
        raise TypeError(
            f"a captured graph must not call {name}: CuPy cannot capture CUDA libraries"
        )
    if name in _WAITS:
        _note_transfer()


def _index(key):
    """An index as NumPy takes it; a mask or a list is a transfer on a device."""
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, list) or getattr(part, "dtype", None) == np.bool_:
            _note_transfer()
    return _unwrap_argument(key)


def count(name, result=None, inputs=()):
    """Count a call, unless its result is a view of an input."""
    if _counter is None:
        return
    made = result if isinstance(result, tuple | list) else (result,)
    given = [x for x in inputs if isinstance(x, np.ndarray)]
    if any(
        isinstance(a, np.ndarray) and any(np.may_share_memory(a, x) for x in given) for a in made
    ):
        return
    _counter["captured" if _replaying else name] += 1


class MockArray:
    """An array that only mixes with its own kind, Python scalars and NumPy scalars."""

    __slots__ = ("_data",)
    __array_ufunc__ = None  # np.ndarray + MockArray goes to __radd__, which refuses
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data):
        self._data = data

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "implicit conversion to a NumPy array is not allowed: use fourierreg.to_numpy"
        )

    def __repr__(self):
        return f"MockArray({self._data!r})"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._data, name)
        return _wrapped(value, self._data) if callable(value) else wrap(value)

    def __getitem__(self, key):
        return wrap(self._data[_index(key)])

    def __setitem__(self, key, value):
        count("__setitem__")
        self._data[_index(key)] = _unwrap_argument(value)

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        return (wrap(item) for item in self._data)

    def __float__(self):
        return float(unwrap(self))

    def __int__(self):
        return int(unwrap(self))

    def __complex__(self):
        return complex(unwrap(self))

    def __bool__(self):
        return bool(unwrap(self))


def wrap(value):
    """Wrap arrays and NumPy scalars (a device's reductions are 0-d arrays)."""
    if isinstance(value, np.ndarray):
        return MockArray(value)
    if isinstance(value, np.number | np.bool_):
        return MockArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(wrap(item) for item in value)
    return value


def unwrap(array):
    """The NumPy array inside: an explicit copy to the host, which waits for the device."""
    _note_transfer()
    count("wait")
    return array._data


def kernel_array(array):
    """The NumPy array inside, for a compiled loop that a device would run in place: not a copy."""
    return array._data


def copy_from_host(array, values):
    """Overwrite an array with one from the host."""
    _note_transfer()
    array._data[...] = values


def _unwrap_argument(value):
    """An argument as NumPy takes it; a plain NumPy array is refused."""
    if isinstance(value, MockArray):
        return value._data
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(
            f"a NumPy array of shape {value.shape} was mixed with a mock-device array: "
            "move it with fourierreg.backend.asarray"
        )
    if isinstance(value, tuple | list):
        return type(value)(_unwrap_argument(item) for item in value)
    if isinstance(value, dict):
        return {key: _unwrap_argument(item) for key, item in value.items()}
    return value


def _wrapped(function, *owner):
    """`function` of NumPy (or a method of the array `owner`), for mock-device arrays."""

    def call(*args, **kwargs):
        _note_call(function.__name__, getattr(function, "__module__", None) or "")
        args = _unwrap_argument(args)
        if args and isinstance(args[0], tuple | list) and len(args[0]) > _MAX_JOINED:
            _note_transfer()
        result = function(*args, **_unwrap_argument(kwargs))
        if function is not np.empty:
            count(function.__name__, result, (*owner, *args))
        return wrap(result)

    return call


def _method(name):
    def call(self, *others):
        _note_call(name)
        result = getattr(self._data, name)(*_unwrap_argument(others))
        count(name)
        return self if result is self._data else wrap(result)

    return call


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"]
for _name in (
    [f"__{op}__" for op in _BINARY]
    + [f"__r{op}__" for op in _BINARY]
    + [f"__i{op}__" for op in _BINARY if op != "matmul"]
    + [f"__{op}__" for op in ["lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"]]
):
    setattr(MockArray, _name, _method(_name))


class _Submodule(types.ModuleType):
    """A module of NumPy for mock-device arrays."""

    def __init__(self, module):
        super().__init__(f"fourierreg.backend.mock_device.{module.__name__}")
        self._module = module

    def __getattr__(self, name):
        value = getattr(self._module, name)
        if isinstance(value, types.ModuleType):
            return _Submodule(value)
        if isinstance(value, type) or not callable(value):
            return value
        return _wrapped(value)


class _Namespace(_Submodule):
    """`numpy` for mock-device arrays; creation from host data is explicit, by `asarray`."""

    ndarray = MockArray

    @staticmethod
    def asarray(array, dtype=None):
        if isinstance(array, MockArray):
            array = array._data
        else:
            _note_transfer()
        return MockArray(np.asarray(array, dtype=dtype))

    array = asarray


namespace = _Namespace(np)

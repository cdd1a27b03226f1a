"""NumPy in disguise: arrays that behave like a device's.

They refuse implicit conversion to NumPy (`__array__`) and refuse to meet plain NumPy arrays, as
CuPy's do, so that a run on a machine without a GPU proves that no kernel leaves the device.
`counting` tells how much such a device would be asked to do.
"""

import collections
import contextlib
import types

import numpy as np

_counter: collections.Counter | None = None
_recorded = False
_WAITS = {"item", "tolist", "nonzero", "flatnonzero", "argwhere", "unique", "extract"}
_MOST_JOINED = 8  # arrays, of more of which CuPy brings a table to the device
_OF_CUBLAS = {"matmul", "__matmul__", "__rmatmul__", "dot", "vdot", "inner", "einsum", "tensordot"}


@contextlib.contextmanager
def counting():
    """Count, by name, what would be launches on a device: calls that fill arrays, and kernels.

    Views are free. What a device's library makes of one call may be several launches. What
    recorded work does is under one name, "recorded", and its calls under another, "replay".
    """
    global _counter
    before, _counter = _counter, collections.Counter()
    try:
        yield _counter
    finally:
        _counter = before


@contextlib.contextmanager
def recording():
    """A replay: refuse what recorded work must not do, wait for the device or bring something to
    it."""
    global _recorded
    count("replay")
    before, _recorded = _recorded, True
    try:
        yield
    finally:
        _recorded = before


def _crosses():
    """Note that something goes from one memory to the other."""
    if _recorded:
        raise TypeError("recorded work must neither wait for the device nor bring anything to it")


def _note_call(name, module=""):
    """Note a call: of what CuPy has from cuBLAS, cuSOLVER or cuFFT, or of what waits."""
    if _recorded and (name in _OF_CUBLAS or module.endswith(("linalg", "fft"))):
        raise TypeError(f"recorded work must not call {name}: CuPy cannot record CUDA's libraries")
    if name in _WAITS:
        _crosses()


def _index(key):
    """An index without its disguise, where it is one that a device can take as it is."""
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, list) or getattr(part, "dtype", None) == np.bool_:
            _crosses()
    return _strip(key)


def count(name, result=None, inputs=()):
    """Note a call, unless its result is a view of what it was given."""
    if _counter is None:
        return
    made = result if isinstance(result, tuple | list) else (result,)
    given = [x for x in inputs if isinstance(x, np.ndarray)]
    if any(
        isinstance(a, np.ndarray) and any(np.may_share_memory(a, x) for x in given) for a in made
    ):
        return
    _counter["recorded" if _recorded else name] += 1


class GuardArray:
    """An array that only meets its own kind, Python scalars and NumPy scalars."""

    __slots__ = ("_data",)
    __array_ufunc__ = None  # np.ndarray + GuardArray comes to __radd__, which refuses
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, data):
        self._data = data

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "implicit conversion to a NumPy array is not allowed: use fourierreg.to_numpy"
        )

    def __repr__(self):
        return f"GuardArray({self._data!r})"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._data, name)
        return _guarded(value, self._data) if callable(value) else wrap(value)

    def __getitem__(self, key):
        return wrap(self._data[_index(key)])

    def __setitem__(self, key, value):
        count("__setitem__")
        self._data[_index(key)] = _strip(value)

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
    """Disguise arrays and NumPy scalars (a device's reductions are 0-d arrays)."""
    if isinstance(value, np.ndarray):
        return GuardArray(value)
    if isinstance(value, np.number | np.bool_):
        return GuardArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(wrap(item) for item in value)
    return value


def unwrap(array):
    """The NumPy array under the disguise: an explicit copy to the host."""
    _crosses()
    return array._data


def for_kernel(array):
    """The same for a compiled loop, which a device would run where the array is."""
    return array._data


def refill(array, values):
    """Overwrite an array with one of the host."""
    _crosses()
    array._data[...] = values


def _strip(value):
    """Take the disguise off an argument; a plain NumPy array is refused."""
    if isinstance(value, GuardArray):
        return value._data
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(
            f"a NumPy array of shape {value.shape} met a guard array: "
            "bring it over with fourierreg.backend.asarray"
        )
    if isinstance(value, tuple | list):
        return type(value)(_strip(item) for item in value)
    if isinstance(value, dict):
        return {key: _strip(item) for key, item in value.items()}
    return value


def _guarded(function, *owner):
    """`function` of NumPy (or of an array, its owner), for disguised arrays."""

    def call(*args, **kwargs):
        _note_call(function.__name__, getattr(function, "__module__", None) or "")
        args = _strip(args)
        if args and isinstance(args[0], tuple | list) and len(args[0]) > _MOST_JOINED:
            _crosses()
        result = function(*args, **_strip(kwargs))
        if function is not np.empty:
            count(function.__name__, result, (*owner, *args))
        return wrap(result)

    return call


def _method(name):
    def call(self, *others):
        _note_call(name)
        result = getattr(self._data, name)(*_strip(others))
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
    setattr(GuardArray, _name, _method(_name))


class _Submodule(types.ModuleType):
    """A module of NumPy for disguised arrays."""

    def __init__(self, module):
        super().__init__(f"fourierreg.guard.{module.__name__}")
        self._module = module

    def __getattr__(self, name):
        value = getattr(self._module, name)
        if isinstance(value, types.ModuleType):
            return _Submodule(value)
        if isinstance(value, type) or not callable(value):
            return value
        return _guarded(value)


class _Namespace(_Submodule):
    """`numpy` for disguised arrays; creation from host data is explicit, by `asarray`."""

    ndarray = GuardArray

    @staticmethod
    def asarray(array, dtype=None):
        if isinstance(array, GuardArray):
            array = array._data
        else:
            _crosses()
        return GuardArray(np.asarray(array, dtype=dtype))

    array = asarray


namespace = _Namespace(np)

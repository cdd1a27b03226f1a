"""Where arrays live: NumPy, CuPy, or the mock device that stands in for CuPy where there is no GPU.

Functions take their namespace from their inputs (`array_module`); the switch (`set_backend`) only
says where *new* arrays are allocated and where NumPy inputs go at a public boundary (`asarray`).
Nothing is moved silently in between, and mixing backends raises.

A backend is a namespace with NumPy's functions (`_namespace`), arrays that `backend_of` recognizes,
a copy to and from the host (`to_numpy`, `copy_from_host`), and a way
to run the compiled loops of every ``kernels.cu`` (`fourierreg.backend.kernels`).
"""

import contextlib
import gc
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from fourierreg.backend import mock_device, tables
from fourierreg.errors import InputError, InputTypeError

Array = Any  # numpy.ndarray, cupy.ndarray or an array of the mock device

BACKENDS = ("numpy", "cupy", "mock")

_active = "numpy"


def _gpu() -> ModuleType:
    """`fourierreg.backend._cupy`, which imports CuPy."""
    from fourierreg.backend import _cupy

    return _cupy


def _namespace(name: str) -> Any:
    """The array namespace called `name`."""
    if name == "numpy":
        return np
    if name == "mock":
        return mock_device.namespace
    if name == "cupy":
        return _gpu().library()
    raise InputError(f"backend: expected one of {', '.join(BACKENDS)}; got {name!r}")


def set_backend(name: str) -> None:
    """Choose where new arrays are allocated.

    Parameters
    ----------
    name : {"numpy", "cupy", "mock"}
        ``"mock"`` is NumPy whose arrays refuse every implicit conversion, as a GPU's do: a CPU run
        on it proves that the code would run on a device.

    Raises
    ------
    InputError
        The name is unknown.
    MissingDependencyError, BackendUnavailableError
        CuPy is not installed, or there is no GPU.
    """
    global _active
    _namespace(name)
    _active = name


def get_backend() -> str:
    """Name of the active backend."""
    return _active


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """`set_backend` for the length of a ``with`` block.

    Parameters
    ----------
    name : {"numpy", "cupy"}
    """
    before = _active
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def active_module() -> Any:
    """Namespace in which new arrays are allocated."""
    return _namespace(_active)


def backend_of(array: object) -> str | None:
    """Name of the backend an array lives on, or None for what is not an array."""
    if isinstance(array, np.ndarray):
        return "numpy"
    if isinstance(array, mock_device.MockArray):
        return "mock"
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "dtype"):
        return "cupy"
    return None


def on_device(array: object) -> bool:
    """Whether an array lives on a GPU, where CUDA kernels run."""
    return backend_of(array) == "cupy"


def array_module(*arrays: object) -> Any:
    """The namespace all `arrays` live in.

    Raises
    ------
    InputTypeError
        They live on different backends, or none of them is an array.
    """
    names = {name for name in map(backend_of, arrays) if name is not None}
    if len(names) != 1:
        what = "arrays of different backends: " + ", ".join(sorted(names)) if names else "no array"
        raise InputTypeError(f"got {what}; move them explicitly with to_numpy or set_backend")
    return _namespace(names.pop())


def asarray(array: object, dtype: Any = None) -> Array:
    """Bring a public argument to the active backend (NumPy inputs move, others must be there)."""
    xp = active_module()
    if backend_of(array) not in (None, "numpy", _active):
        raise InputTypeError(
            f"array lives on backend {backend_of(array)!r} but {_active!r} is active: "
            "move it explicitly with to_numpy"
        )
    return xp.asarray(array, dtype=dtype)


def to_numpy(array: object) -> np.ndarray:
    """Copy an array to host memory as a NumPy array.

    Parameters
    ----------
    array : array
        Of NumPy, which is returned as it is, or of CuPy.
    """
    name = backend_of(array)
    if name == "cupy":
        return _gpu().library().asnumpy(array)
    if name == "mock":
        return mock_device.unwrap(array)
    return np.asarray(array)


def copy_from_host(array: Array, values: object) -> None:
    """Overwrite an array with values from the host, in place."""
    name = backend_of(array)
    if name == "cupy":
        array.set(np.ascontiguousarray(values, dtype=array.dtype))
    elif name == "mock":
        mock_device.copy_from_host(array, values)
    else:
        array[...] = values


def device_count() -> int:
    """Number of GPUs that CuPy sees."""
    return int(_gpu().library().cuda.runtime.getDeviceCount())


def free_memory() -> int | None:
    """Bytes of the active backend's memory available for new arrays; None where unknown."""
    if _active == "cupy":
        return _gpu().free_memory()
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def held_memory() -> int | None:
    """Bytes held in the active backend's memory pools; None for a backend without pools."""
    return _gpu().held_memory() if _active == "cupy" else None


def release_memory() -> None:
    """Free cached tables and the unused blocks of the memory pools of the active backend."""
    tables.clear()
    gc.collect()
    if _active == "cupy":
        _gpu().release_memory()

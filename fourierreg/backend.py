"""Where arrays live: NumPy, CuPy or the guard that stands in for CuPy where there is no GPU.

Kernels take their namespace from their inputs (`array_module`); the switch (`set_backend`) only
says where *new* arrays are born and where NumPy inputs go at a public boundary (`asarray`).
Nothing is ever moved silently in between, and mixing backends raises. This is the only file
that names CuPy.
"""

import collections
import contextlib
import functools
import gc
import importlib
import os

import numpy as np

from fourierreg import guard

BACKENDS = ("numpy", "cupy", "guard")
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, which CuPy does not name

_active = "numpy"
_places: list = []  # for recorded work on GPUs, all that were made
_spare_places: dict = collections.defaultdict(list)  # by GPU, those that no recording has


@functools.cache
def _cupy():
    """The CuPy module, or one clear line that says what to install."""
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        raise ImportError(
            "backend 'cupy' needs CuPy, which is not installed: pip install 'fourierreg[gpu]'"
        ) from error
    except Exception as error:  # CuPy raises CUDARuntimeError, a class that needs a driver to name
        raise RuntimeError(
            "backend 'cupy' found no usable GPU "
            f"({error}): use set_backend('numpy'), or pip install 'fourierreg[gpu]' on a machine "
            "with a CUDA driver"
        ) from error
    return cupy


def _namespace(name):
    """The array namespace called `name`."""
    if name == "numpy":
        return np
    if name == "guard":
        return guard.namespace
    if name == "cupy":
        return _cupy()
    raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}; got {name!r}")


def set_backend(name):
    """Say where new arrays are born.

    Parameters
    ----------
    name : {"numpy", "cupy", "guard"}
        ``"guard"`` is NumPy in disguise: arrays that refuse every implicit conversion, so that a
        CPU run proves that the code would run on a device.

    Raises
    ------
    ValueError
        The name is unknown.
    ImportError, RuntimeError
        CuPy is missing, or there is no GPU.
    """
    global _active
    _namespace(name)
    _active = name


def get_backend():
    """Name of the active backend."""
    return _active


@contextlib.contextmanager
def use_backend(name):
    """`set_backend` for the length of a ``with`` block."""
    before = _active
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def active_module():
    """Namespace in which new arrays are born."""
    return _namespace(_active)


def backend_of(array):
    """Name of the backend an array lives on, or None for what is no array."""
    if isinstance(array, np.ndarray):
        return "numpy"
    if isinstance(array, guard.GuardArray):
        return "guard"
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "dtype"):
        return "cupy"
    return None


def on_device(array):
    """Whether an array lives on a GPU, where `device_kernel` runs."""
    return backend_of(array) == "cupy"


def array_module(*arrays):
    """The namespace all `arrays` live in.

    Raises
    ------
    TypeError
        They live on different backends, or none of them is an array.
    """
    names = {backend_of(array) for array in arrays} - {None}
    if len(names) != 1:
        what = "arrays of different backends: " + ", ".join(sorted(names)) if names else "no array"
        raise TypeError(f"got {what}; move them explicitly with to_numpy or set_backend")
    return _namespace(names.pop())


def asarray(array, dtype=None):
    """Bring a public argument to the active backend (NumPy inputs move, others must be there)."""
    xp = active_module()
    if backend_of(array) not in (None, "numpy", _active):
        raise TypeError(
            f"array lives on backend {backend_of(array)!r} but {_active!r} is active: "
            "move it explicitly with to_numpy"
        )
    return xp.asarray(array, dtype=dtype)


def to_numpy(array):
    """Copy an array to host memory as a NumPy array (a NumPy array comes back as it is)."""
    name = backend_of(array)
    if name == "cupy":
        return _cupy().asnumpy(array)
    if name == "guard":
        return guard.unwrap(array)
    return np.asarray(array)


def numbers(values):
    """What a sum leaves, on the host: a float, or an array where there is one for each pair."""
    values = to_numpy(values)
    return values if values.ndim else float(values)


def refill(array, values):
    """Overwrite an array with one of the host."""
    name = backend_of(array)
    if name == "cupy":
        array.set(np.ascontiguousarray(values, dtype=array.dtype))
    elif name == "guard":
        guard.refill(array, values)
    else:
        array[...] = values


def device_count():
    """GPUs that CuPy sees."""
    return int(_cupy().cuda.runtime.getDeviceCount())


def free_memory():
    """Bytes of the active backend's memory that new arrays can take; None where it does not say."""
    if _active == "cupy":
        kept = sum(pool.total_bytes() - pool.used_bytes() for pool in _pools())
        return _cupy().cuda.runtime.memGetInfo()[0] + kept
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def held_memory():
    """Bytes that the active backend keeps, in use or for later arrays; None where it keeps none."""
    return sum(pool.total_bytes() for pool in _pools()) if _active == "cupy" else None


def release_memory():
    """Give back what the backend keeps for later arrays: to other programs, or other sizes."""
    gc.collect()
    if _active == "cupy":
        _cupy().get_default_memory_pool().free_all_blocks()
        for spare in _spare_places.values():
            places = [spare.pop() for _ in range(len(spare))]
            for place in places:
                place.pool.free_all_blocks()
            spare.extend(places)


def _pools():
    """All memory pools of CuPy that are in use here."""
    return [_cupy().get_default_memory_pool(), *(place.pool for place in _places)]


class RecordingPlace:
    """A CUDA stream to record work on, and the memory pool of its temporary arrays (CuPy's pools
    keep what each stream has freed for that stream).

    While a recording may be replayed nothing else takes from its pool. None of it is freed while
    work is recorded: CuPy's own pools free theirs where memory runs out, which a recording may
    already point to.
    """

    def __init__(self):
        cuda = _cupy().cuda
        self.stream, self.pool = cuda.Stream(non_blocking=True), cuda.MemoryPool(self._from_device)

    def allocate(self, size, recorded):
        """CuPy's `alloc`; where memory runs out, after others have given back what they keep."""
        try:
            return self.pool.malloc(size)
        except MemoryError:  # holds what called, which is not to outlive the handler
            pass
        release_memory()
        if not recorded:
            self.pool.free_all_blocks()
        return self.pool.malloc(size)

    def give_back(self, spare):
        """Keep the memory for the next recording, or free it where little else is free."""
        if _cupy().cuda.runtime.memGetInfo()[0] < self.pool.total_bytes():
            self.pool.free_all_blocks()
        spare.append(self)

    @staticmethod
    def _from_device(size):
        """New memory within the limit that the default pool was given, or a MemoryError."""
        cuda, limit = _cupy().cuda, _cupy().get_default_memory_pool().get_limit()
        if limit and sum(pool.total_bytes() for pool in _pools()) + size > limit:
            raise MemoryError(f"{size} bytes are beyond the limit of the memory pool")
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if error.status != OUT_OF_MEMORY:
                raise
        raise MemoryError(f"{size} bytes: out of the GPU's memory")


def take_place():
    """A `RecordingPlace` on the present GPU, and what gives it back."""
    spare = _spare_places[_cupy().cuda.runtime.getDevice()]
    try:
        place = spare.pop()
    except IndexError:
        place = RecordingPlace()
        _places.append(place)
    return place, functools.partial(place.give_back, spare)


@functools.cache
def device_kernel(source, name):
    """Compile CUDA C `source` once and return its kernel `name`."""
    return _cupy().RawKernel(source, name)

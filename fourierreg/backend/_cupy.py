"""CuPy: its import, its memory pools, its kernels. The only file that names the library.

CuPy's pools keep the memory that a stream has freed for that stream. A captured graph replays on a
stream of its own, with temporary arrays from a pool of its own (`CaptureContext`); contexts are
kept and reused.
"""

import collections
import functools
import gc
import importlib
import os

from fourierreg.backend import compilation
from fourierreg.errors import BackendUnavailableError, MissingDependencyError

OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, for which CuPy has no constant

_contexts: list = []  # all that were made
_idle: dict = collections.defaultdict(list)  # contexts that no graph uses, by GPU


def library():
    """The CuPy module, or an error of one line that says what to do."""
    module, process = _library()
    if process != os.getpid():
        raise BackendUnavailableError(
            "the GPU was used before this process was forked, and CUDA cannot go on in a fork: "
            "start processes with multiprocessing.get_context('spawn'), or with joblib or Dask"
        )
    return module


@functools.cache
def _library():
    """CuPy, and the process that asked for it first."""
    try:
        module = importlib.import_module("cupy")
        module.cuda.runtime.getDeviceCount()
    except ImportError as error:
        raise MissingDependencyError(
            "backend 'cupy' needs CuPy, which is not installed: pip install 'fourierreg[gpu]'"
        ) from error
    except Exception as error:  # CUDARuntimeError, a class that cannot be named without a driver
        raise BackendUnavailableError(
            "backend 'cupy' found no usable GPU "
            f"({error}): use set_backend('numpy'), or pip install 'fourierreg[gpu]' on a machine "
            "with a CUDA driver"
        ) from error
    return module, os.getpid()


@functools.cache
def device_kernel(source, name):
    """Compile CUDA C `source` once and return its kernel `name`."""
    compilation.notify()
    return library().RawKernel(source, name)


def free_memory():
    """Bytes available for new arrays: free on the GPU, and unused in the pools."""
    unused = sum(pool.total_bytes() - pool.used_bytes() for pool in _pools())
    return library().cuda.runtime.memGetInfo()[0] + unused


def held_memory():
    """Bytes that the pools hold, used or not."""
    return sum(pool.total_bytes() for pool in _pools())


def release_memory():
    """Free the unused blocks of the default pool and of the contexts that no graph uses."""
    gc.collect()
    library().get_default_memory_pool().free_all_blocks()
    for idle in _idle.values():
        contexts = [idle.pop() for _ in range(len(idle))]
        for context in contexts:
            context.pool.free_all_blocks()
        idle.extend(contexts)


def _pools():
    return [library().get_default_memory_pool(), *(context.pool for context in _contexts)]


class CaptureContext:
    """A CUDA stream to capture a graph on, and the memory pool of its temporary arrays.

    While a graph may be replayed nothing else takes from its pool, and none of it is freed during
    the capture: CuPy's own pools free unused blocks when memory runs out, to which the graph may
    already point.
    """

    def __init__(self):
        cuda = library().cuda
        self.stream, self.pool = cuda.Stream(non_blocking=True), cuda.MemoryPool(self._from_device)

    def allocate(self, size, capturing):
        """CuPy's `alloc`; when memory runs out, once more after the other pools were emptied."""
        try:
            return self.pool.malloc(size)
        except MemoryError:  # its traceback holds arrays: leave the handler before retrying
            pass
        release_memory()
        if not capturing:
            self.pool.free_all_blocks()
        return self.pool.malloc(size)

    def give_back(self, idle):
        """Keep the context for the next graph; free its memory if little else is free."""
        if library().cuda.runtime.memGetInfo()[0] < self.pool.total_bytes():
            self.pool.free_all_blocks()
        idle.append(self)

    @staticmethod
    def _from_device(size):
        """New memory within the limit set on the default pool, or a MemoryError."""
        cuda, limit = library().cuda, library().get_default_memory_pool().get_limit()
        if limit and held_memory() + size > limit:
            raise MemoryError(f"{size} bytes are beyond the limit of the memory pool")
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if error.status != OUT_OF_MEMORY:
                raise
        raise MemoryError(f"{size} bytes: out of the GPU's memory")


def acquire_capture_context():
    """A `CaptureContext` of the present GPU, and the function that gives it back."""
    idle = _idle[library().cuda.runtime.getDevice()]
    try:
        context = idle.pop()
    except IndexError:
        context = CaptureContext()
        _contexts.append(context)
    return context, functools.partial(context.give_back, idle)

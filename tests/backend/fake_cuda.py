"""A fake of `cupy.cuda` for tests of captured graphs: it logs calls and counts memory."""

import collections
import contextlib
import types

from fourierreg import backend as backends
from fourierreg.backend import _cupy


class Stream:
    """A stream that logs what it is called for; `refuses` makes every capture fail."""

    def __init__(self, log, name, refuses=False):
        self.log, self.name, self.refuses = log, name, refuses

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, *_):
        self.log.append("exit")

    def record(self):
        return self.name

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")

    def begin_capture(self):
        self.log.append("begin")

    def end_capture(self):
        self.log.append("end")
        if self.refuses:
            raise RuntimeError("this cannot be captured")
        return types.SimpleNamespace(launch=lambda: self.log.append("launch"))


class Pool:
    """A memory pool that keeps its blocks; `device_free` is the free memory of the device."""

    device_free = 100

    def __init__(self, allocator=None):
        self.allocator, self.kept, self.freed = allocator, 0, 0

    def malloc(self, size):
        self.allocator(size)
        self.kept += size
        return size

    def free_all_blocks(self):
        Pool.device_free += self.kept
        self.kept, self.freed = 0, self.freed + 1

    def total_bytes(self):
        return self.kept

    def get_limit(self):
        return 0


class CUDARuntimeError(RuntimeError):
    """The out-of-memory error of CuPy."""

    status = 2


def device_malloc(size):
    """Allocate memory of the device."""
    if size > Pool.device_free:
        raise CUDARuntimeError(f"{size} bytes")
    Pool.device_free -= size


def install(monkeypatch, refuses):
    """Replace CuPy by a namespace with this CUDA, and make it the active backend.

    Returns the namespace `xp`, the `log` of calls, whether captures fail (`refuses`), the `default`
    memory pool, and the `allocators` that were used.
    """
    log, default, allocators = [], Pool(device_malloc), []

    @contextlib.contextmanager
    def using_allocator(allocate):
        allocators.append(allocate)
        yield

    runtime = types.SimpleNamespace(
        getDevice=lambda: 0,
        memGetInfo=lambda: (Pool.device_free, 100),
        CUDARuntimeError=CUDARuntimeError,
    )
    namespace = types.SimpleNamespace(
        cuda=types.SimpleNamespace(
            get_current_stream=lambda: Stream(log, "outer"),
            Stream=lambda non_blocking: Stream(log, "own", refuses),
            MemoryPool=Pool,
            Memory=device_malloc,
            MemoryPointer=lambda memory, offset: memory,
            using_allocator=using_allocator,
            runtime=runtime,
        ),
        get_default_memory_pool=lambda: default,
    )
    monkeypatch.setattr(Pool, "device_free", 100)
    monkeypatch.setattr(_cupy, "library", lambda: namespace)
    monkeypatch.setattr(backends, "_active", "cupy")
    monkeypatch.setattr(_cupy, "_contexts", [])
    monkeypatch.setattr(_cupy, "_idle", collections.defaultdict(list))
    return types.SimpleNamespace(
        xp=namespace, log=log, refuses=refuses, default=default, allocators=allocators
    )

"""Captured graphs: the same numbers at every call, and nothing that cannot be captured."""

import collections
import contextlib
import gc
import types

import numpy as np
import pytest

import fourierreg
from fourierreg import backend as backends
from fourierreg.backend import _cupy, active_module, asarray, copy_from_host, mock_device, to_numpy
from fourierreg.backend.graphs import CapturedGraph


@pytest.fixture(params=["numpy", "mock", pytest.param("cupy", marks=pytest.mark.gpu)])
def anywhere(request):
    """Every backend there is here."""
    try:
        fourierreg.set_backend(request.param)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    yield active_module()
    fourierreg.set_backend("numpy")


def test_what_changes_is_taken_from_arrays(anywhere):
    xp, x, total = anywhere, asarray(np.zeros(5)), asarray(np.zeros(5))

    def add():
        total[...] += x
        temporary = xp.sqrt(total) * 2.0
        return xp.sum(temporary * temporary)

    added = CapturedGraph(add, xp)
    for count in range(1, 6):
        copy_from_host(x, np.full(5, float(count)))
        assert float(to_numpy(added())) == pytest.approx(4 * 5 * sum(range(count + 1)))
    np.testing.assert_allclose(to_numpy(total), 15.0)


CROSSINGS = {
    "item": lambda x: x[0].item(),
    "tolist": lambda x: x.tolist(),
    "mask": lambda x: x[x > 0],
    "masked": lambda x: x.__setitem__(x > 0, 1.0),
    "list": lambda x: x[[0, 1]],
    "flatnonzero": lambda x: active_module().flatnonzero(x),
    "many joined": lambda x: active_module().stack([x] * 9),
    "to_numpy": lambda x: to_numpy(x),
    "float": lambda x: float(x[0]),
    "bool": lambda x: bool(x[0] > 0),
    "asarray": lambda x: asarray(np.ones(2)),
    "copy_from_host": lambda x: copy_from_host(x, np.ones(2)),
}


@pytest.mark.parametrize("name", CROSSINGS)
def test_the_guard_refuses_what_cannot_be_recorded(name):
    with fourierreg.use_backend("mock"):
        x = asarray(np.zeros(2))
        work = CapturedGraph(lambda: CROSSINGS[name](x), active_module())
        work()  # as it is written
        with pytest.raises(TypeError, match="neither wait for the device nor copy"):
            work()
        CROSSINGS[name](x)  # outside it is allowed


@pytest.mark.parametrize(
    "library",
    [lambda x, xp: x @ x, lambda x, xp: xp.einsum("i,i", x, x), lambda x, xp: xp.linalg.norm(x)],
)
def test_the_guard_refuses_libraries_that_cannot_be_recorded(library):
    with fourierreg.use_backend("mock"):
        x = asarray(np.ones(2))
        work = CapturedGraph(lambda: library(x, active_module()), active_module())
        work()
        with pytest.raises(TypeError, match="CuPy cannot capture CUDA libraries"):
            work()


def test_the_guard_counts_replays_apart():
    with fourierreg.use_backend("mock"):
        x = asarray(np.zeros(2))
        work = CapturedGraph(lambda: x + 1.0 + x, active_module())
        with mock_device.count_launches() as counter:
            for _ in range(3):
                work()
    assert counter == {"__add__": 2, "replay": 2, "captured": 4}


class Stream:
    """Of a CUDA that says what it was asked."""

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
    """A memory pool that keeps what it has; `room` is the device's."""

    room = 100

    def __init__(self, allocator=None):
        self.allocator, self.kept, self.freed = allocator, 0, 0

    def malloc(self, size):
        self.allocator(size)
        self.kept += size
        return size

    def free_all_blocks(self):
        Pool.room += self.kept
        self.kept, self.freed = 0, self.freed + 1

    def total_bytes(self):
        return self.kept

    def get_limit(self):
        return 0


class CUDARuntimeError(RuntimeError):
    """What CuPy raises."""

    status = 2


def memory(size):
    """Of the device."""
    if size > Pool.room:
        raise CUDARuntimeError(f"{size} bytes")
    Pool.room -= size


@pytest.fixture(params=[False, True], ids=["takes", "refuses"])
def cuda(request, monkeypatch):
    """A namespace with a CUDA of that kind, in place of CuPy."""
    log, default, allocators = [], Pool(memory), []

    @contextlib.contextmanager
    def using_allocator(allocate):
        allocators.append(allocate)
        yield

    runtime = types.SimpleNamespace(
        getDevice=lambda: 0,
        memGetInfo=lambda: (Pool.room, 100),
        CUDARuntimeError=CUDARuntimeError,
    )
    namespace = types.SimpleNamespace(
        cuda=types.SimpleNamespace(
            get_current_stream=lambda: Stream(log, "outer"),
            Stream=lambda non_blocking: Stream(log, "own", request.param),
            MemoryPool=Pool,
            Memory=memory,
            MemoryPointer=lambda memory, offset: memory,
            using_allocator=using_allocator,
            runtime=runtime,
        ),
        get_default_memory_pool=lambda: default,
    )
    monkeypatch.setattr(Pool, "room", 100)
    monkeypatch.setattr(_cupy, "library", lambda: namespace)
    monkeypatch.setattr(backends, "_active", "cupy")
    monkeypatch.setattr(_cupy, "_contexts", [])
    monkeypatch.setattr(_cupy, "_idle", collections.defaultdict(list))
    yield types.SimpleNamespace(
        xp=namespace, log=log, refuses=request.param, default=default, allocators=allocators
    )
    gc.collect()


ORDERED = ["own waits for outer", "enter", "exit", "outer waits for own"]


def test_the_second_call_is_recorded(cuda):
    called = []
    work = CapturedGraph(lambda: called.append("called") or len(called), cuda.xp)
    assert work() == 1 and cuda.log == ORDERED
    if cuda.refuses:
        with pytest.warns(RuntimeWarning, match="could not be captured as a graph .this cannot be captured"):
            assert work() == 3  # recorded in vain, and as it is written
        assert work() == 4 and cuda.log.count("begin") == 1
        return
    assert work() == work() == work() == 2
    recorded = [*ORDERED[:2], "begin", "end", *ORDERED[2:]]
    assert cuda.log == [*ORDERED, *recorded, *["launch"] * 3]


def test_work_that_fails_while_it_is_recorded_ends_the_capture(cuda):
    calls = []

    def fails():
        calls.append(0)
        if len(calls) == 2:
            raise RuntimeError("not in a recording")
        return len(calls)

    work = CapturedGraph(fails, cuda.xp)
    work()
    with pytest.warns(RuntimeWarning, match="not in a recording"):
        assert work() == 3
    assert cuda.log.count("begin") == cuda.log.count("end") == 1


def test_an_interrupt_ends_the_capture(cuda):
    calls = []

    def interrupted():
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt

    work = CapturedGraph(interrupted, cuda.xp)
    work()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert cuda.log.count("begin") == cuda.log.count("end") == 1


def test_what_an_error_leaves_under_way_is_waited_for(cuda):
    def fails():
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        CapturedGraph(fails, cuda.xp)()
    assert cuda.log == ORDERED


def test_a_place_is_used_again_but_never_by_two(cuda):
    one, two = (CapturedGraph(lambda: None, cuda.xp) for _ in range(2))
    assert one._context is not two._context
    assert len(_cupy._contexts) == 2 and not _cupy._idle[0]
    place = one._context
    del one
    gc.collect()
    assert _cupy._idle[0] == [place]
    three = CapturedGraph(lambda: None, cuda.xp)
    assert len(_cupy._contexts) == 2 and three._context is place


def test_memory_that_others_keep_is_freed_first(cuda):
    work = CapturedGraph(lambda: None, cuda.xp)
    work()
    allocate = cuda.allocators[0]
    cuda.default.malloc(80)
    assert allocate(15) == 15 and cuda.default.freed == 0
    assert allocate(30) == 30 and cuda.default.freed == 1
    with pytest.raises(MemoryError) as caught:
        allocate(200)
    assert caught.value.__context__ is None  # which would keep what called alive


def test_nothing_of_a_pool_is_freed_while_work_is_recorded(cuda):
    work = CapturedGraph(lambda: None, cuda.xp)
    pool = work._context.pool
    work()
    if not cuda.refuses:
        work()
        before = pool.freed
        with pytest.raises(MemoryError):
            cuda.allocators[1](200)
        assert pool.freed == before
    with pytest.raises(MemoryError):
        cuda.allocators[0](200)
    assert pool.freed > 0


def test_a_place_gives_memory_back_where_little_is_free(cuda):
    for size, kept in ((20, 20), (60, 0)):
        work = CapturedGraph(lambda: None, cuda.xp)
        work()
        pool, allocate = work._context.pool, cuda.allocators[-1]
        allocate(size)
        cuda.allocators.clear()
        del work, allocate
        gc.collect()
        assert pool.total_bytes() == kept

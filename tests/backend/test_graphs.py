"""Captured graphs: replays equal calls, and what cannot be captured is refused."""

import gc

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import _cupy, active_module, asarray, copy_from_host, mock_device, to_numpy
from fourierreg.backend.graphs import CapturedGraph
from tests.backend import fake_cuda


def test_replays_read_and_update_arrays_in_place(xp):
    x, total = asarray(np.zeros(5)), asarray(np.zeros(5))

    def add():
        total[...] += x
        temporary = xp.sqrt(total) * 2.0
        return xp.sum(temporary * temporary)

    added = CapturedGraph(add, xp)
    for count in range(1, 6):
        copy_from_host(x, np.full(5, float(count)))
        assert float(to_numpy(added())) == pytest.approx(4 * 5 * sum(range(count + 1)))
    np.testing.assert_allclose(to_numpy(total), 15.0)


TRANSFERS = {
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


@pytest.mark.parametrize("name", TRANSFERS)
def test_mock_device_refuses_transfers_in_a_replay(name):
    with fourierreg.use_backend("mock"):
        x = asarray(np.zeros(2))
        graph = CapturedGraph(lambda: TRANSFERS[name](x), active_module())
        graph()  # the first call is not captured
        with pytest.raises(TypeError, match="neither wait for the device nor copy"):
            graph()
        TRANSFERS[name](x)  # allowed outside of a graph


@pytest.mark.parametrize(
    "library",
    [lambda x, xp: x @ x, lambda x, xp: xp.einsum("i,i", x, x), lambda x, xp: xp.linalg.norm(x)],
)
def test_mock_device_refuses_cuda_libraries_in_a_replay(library):
    with fourierreg.use_backend("mock"):
        x = asarray(np.ones(2))
        graph = CapturedGraph(lambda: library(x, active_module()), active_module())
        graph()
        with pytest.raises(TypeError, match="CuPy cannot capture CUDA libraries"):
            graph()


def test_mock_device_counts_replays_and_captured_launches_separately():
    with fourierreg.use_backend("mock"):
        x = asarray(np.zeros(2))
        graph = CapturedGraph(lambda: x + 1.0 + x, active_module())
        with mock_device.count_launches() as counter:
            for _ in range(3):
                graph()
    assert counter == {"__add__": 2, "replay": 2, "captured": 4}


@pytest.fixture(params=[False, True], ids=["captures", "refuses"])
def cuda(request, monkeypatch):
    """A fake CUDA in place of CuPy, whose streams capture, or refuse to."""
    yield fake_cuda.install(monkeypatch, refuses=request.param)
    gc.collect()


ONE_CALL = ["own waits for outer", "enter", "exit", "outer waits for own"]


def test_the_second_call_is_captured_and_the_others_replay_it(cuda):
    calls = []
    graph = CapturedGraph(lambda: calls.append("call") or len(calls), cuda.xp)
    assert graph() == 1 and cuda.log == ONE_CALL
    if cuda.refuses:
        message = "could not be captured as a graph .this cannot be captured"
        with pytest.warns(RuntimeWarning, match=message):
            assert graph() == 3  # called once for the failed capture, and once more without
        assert graph() == 4 and cuda.log.count("begin") == 1
        return
    assert graph() == graph() == graph() == 2
    capture = [*ONE_CALL[:2], "begin", "end", *ONE_CALL[2:]]
    assert cuda.log == [*ONE_CALL, *capture, *["launch"] * 3]


def test_an_error_in_the_captured_function_ends_the_capture(cuda):
    calls = []

    def fails():
        calls.append(0)
        if len(calls) == 2:
            raise RuntimeError("not in a capture")
        return len(calls)

    graph = CapturedGraph(fails, cuda.xp)
    graph()
    with pytest.warns(RuntimeWarning, match="not in a capture"):
        assert graph() == 3
    assert cuda.log.count("begin") == cuda.log.count("end") == 1


def test_an_interrupt_ends_the_capture(cuda):
    calls = []

    def interrupted():
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt

    graph = CapturedGraph(interrupted, cuda.xp)
    graph()
    with pytest.raises(KeyboardInterrupt):
        graph()
    assert cuda.log.count("begin") == cuda.log.count("end") == 1


def test_streams_are_synchronized_after_an_error(cuda):
    def fails():
        raise ValueError("in the first call")

    with pytest.raises(ValueError, match="in the first call"):
        CapturedGraph(fails, cuda.xp)()
    assert cuda.log == ONE_CALL


def test_a_capture_context_is_reused_but_never_shared(cuda):
    one, two = (CapturedGraph(lambda: None, cuda.xp) for _ in range(2))
    assert one._context is not two._context
    assert len(_cupy._contexts) == 2 and not _cupy._idle[0]
    context = one._context
    del one
    gc.collect()
    assert _cupy._idle[0] == [context]
    three = CapturedGraph(lambda: None, cuda.xp)
    assert len(_cupy._contexts) == 2 and three._context is context


def test_memory_of_other_pools_is_freed_before_an_allocation_fails(cuda):
    graph = CapturedGraph(lambda: None, cuda.xp)
    graph()
    allocate = cuda.allocators[0]
    cuda.default.malloc(80)
    assert allocate(15) == 15 and cuda.default.freed == 0
    assert allocate(30) == 30 and cuda.default.freed == 1
    with pytest.raises(MemoryError) as caught:
        allocate(200)
    assert caught.value.__context__ is None  # it would keep the caller's arrays alive


def test_a_pool_is_not_freed_during_a_capture(cuda):
    graph = CapturedGraph(lambda: None, cuda.xp)
    pool = graph._context.pool
    graph()
    if not cuda.refuses:
        graph()
        before = pool.freed
        with pytest.raises(MemoryError):
            cuda.allocators[1](200)
        assert pool.freed == before
    with pytest.raises(MemoryError):
        cuda.allocators[0](200)
    assert pool.freed > 0


def test_an_idle_context_frees_its_memory_where_little_is_free(cuda):
    for size, kept in ((20, 20), (60, 0)):
        graph = CapturedGraph(lambda: None, cuda.xp)
        graph()
        pool, allocate = graph._context.pool, cuda.allocators[-1]
        allocate(size)
        cuda.allocators.clear()
        del graph, allocate
        gc.collect()
        assert pool.total_bytes() == kept

"""Functions that are called many times with the same shapes, captured once as a CUDA graph.

An energy with its gradient is some eighty launches, for most of which the launch overhead exceeds
the run time (`benchmarks/batch_counts.py --launches`). A captured graph costs the host one call.
"""

import contextlib
import warnings
import weakref

from fourierreg.backend import mock_device, tables


class CapturedGraph:
    """A function without arguments that launches the same kernels at every call.

    It reads what changes from arrays that stay in place (`fourierreg.backend.copy_from_host`),
    leaves what the next call needs in such arrays too, and neither waits for the device nor copies
    anything to it. The result of a call is overwritten by the next. The mock device enforces that;
    NumPy just calls the function.

    The first call runs the function eagerly, which compiles kernels and makes tables; the second
    captures it. If the capture fails, the function goes on eagerly, with a warning. Let one thread
    of a process use a GPU: tables are shared.

    Parameters
    ----------
    function : callable
    xp : namespace of its arrays
    capture : bool
        False: always run the function eagerly (it waits for the device, or calls cuBLAS).
    """

    def __init__(self, function, xp, capture=True):
        self._function, self._xp = function, xp
        self._called, self._eager = False, not capture
        self._graph = self._result = None
        self._tables: list = []  # that the graph reads
        self._on_device = hasattr(xp, "cuda")
        if self._on_device:
            from fourierreg.backend._cupy import acquire_capture_context

            self._context, give_back = acquire_capture_context()
            weakref.finalize(self, give_back).atexit = False

    def __call__(self):
        if self._on_device:
            return self._run_on_stream() if self._graph is None else self._replay()
        if self._eager or not self._called or self._xp is not mock_device.namespace:
            self._called = True
            return self._function()
        with mock_device.replaying():
            return self._function()

    def _replay(self):
        self._graph.launch()
        return self._result

    def _run_on_stream(self):
        """Run eagerly, or capture and replay for the first time, on the graph's own stream."""
        cuda, stream = self._xp.cuda, self._context.stream
        outer, capture = cuda.get_current_stream(), self._called and not self._eager
        stream.wait_event(outer.record())
        try:
            with stream:
                captured = capture and self._capture()
                if not captured:
                    with cuda.using_allocator(lambda size: self._context.allocate(size, False)):
                        self._result = self._function()
        finally:  # work in flight on the stream precedes what follows here
            outer.wait_event(stream.record())
        self._called = True
        return self._replay() if captured else self._result

    def _capture(self):
        """Capture the function; returns whether that succeeded."""
        cuda, stream = self._xp.cuda, self._context.stream
        try:
            stream.begin_capture()
            with (
                cuda.using_allocator(lambda size: self._context.allocate(size, True)),
                tables.holding(self._tables),
            ):
                result = self._function()
            graph = stream.end_capture()
        except BaseException as error:
            self._eager = True
            with contextlib.suppress(Exception):  # repeats that the capture failed
                stream.end_capture()
            if not isinstance(error, Exception):  # an interrupt
                raise
            warnings.warn(
                f"work on the GPU could not be captured as a graph ({error}); it runs on, but "
                "more slowly",
                RuntimeWarning,
                stacklevel=5,
            )
            return False
        self._result, self._graph = result, graph
        return True

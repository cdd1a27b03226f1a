"""Work that is the same at every call, recorded once and then replayed: a CUDA graph on a GPU.

An energy with its gradient is some eighty launches, most of which are longer in the asking than in
the doing (`benchmarks/gpu.py --launches`). Recorded, they cost the host one call.
"""

import contextlib
import warnings
import weakref

from fourierreg import guard
from fourierreg.backend import take_place


class Recorded:
    """A function without arguments that does the same work at every call.

    It takes what changes from arrays that stay where they are (`fourierreg.backend.refill`), leaves
    what the next call needs in such arrays too, and neither waits for the device nor brings
    anything to it. What a call gives is overwritten by the next. The guard holds it to that; NumPy
    just calls it.

    The first call runs as it is written, which compiles kernels and makes tables; the second is
    recorded. Temporary arrays have a memory pool of their own, which no other work takes from
    while this lives. Tables that are made once are shared: let one thread of a process use a GPU.

    Parameters
    ----------
    function : callable
    xp : namespace of its arrays
    """

    def __init__(self, function, xp):
        self._function, self._xp = function, xp
        self._called = self._refused = False
        self._graph = self._result = None
        self._on_device = hasattr(xp, "cuda")
        if self._on_device:
            self._place, give_back = take_place()
            weakref.finalize(self, give_back).atexit = False

    def __call__(self):
        if self._on_device:
            return self._on_stream() if self._graph is None else self._replay()
        if not self._called or self._xp is not guard.namespace:
            self._called = True
            return self._function()
        with guard.recording():
            return self._function()

    def _replay(self):
        self._graph.launch()
        return self._result

    def _on_stream(self):
        """The function as it is written, or its recording and first replay, on the own stream."""
        cuda, stream = self._xp.cuda, self._place.stream
        outer, recorded = cuda.get_current_stream(), self._called and not self._refused
        stream.wait_event(outer.record())
        try:
            with stream:
                recorded = recorded and self._record()
                if not recorded:
                    with cuda.using_allocator(lambda size: self._place.allocate(size, False)):
                        self._result = self._function()
        finally:  # whatever is under way there comes before what follows here
            outer.wait_event(stream.record())
        self._called = True
        return self._replay() if recorded else self._result

    def _record(self):
        """Whether the function could be recorded."""
        cuda, stream = self._xp.cuda, self._place.stream
        try:
            stream.begin_capture()
            with cuda.using_allocator(lambda size: self._place.allocate(size, True)):
                result = self._function()
            graph = stream.end_capture()
        except BaseException as error:
            self._refused = True
            with contextlib.suppress(Exception):  # says once more that it failed
                stream.end_capture()
            if not isinstance(error, Exception):  # an interrupt
                raise
            warnings.warn(
                f"work on the GPU could not be recorded ({error}); it goes on, more slowly",
                RuntimeWarning,
                stacklevel=5,
            )
            return False
        self._result, self._graph = result, graph
        return True

"""Compiled code: when it is made, which the first registration waits for, and where it is kept."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_listeners: list[Callable[[], Any]] = []


def notify() -> None:
    """Tell listeners that a kernel is about to be compiled, or loaded from the cache of a GPU."""
    for listener in list(_listeners):
        listener()


@contextlib.contextmanager
def listening(listener: Callable[[], Any]) -> Iterator[None]:
    """Call `listener` whenever a kernel is about to be compiled, within a ``with`` block."""
    from numba.core import event

    class OfNumba(event.Listener):
        def on_start(self, event: Any) -> None:
            listener()

        def on_end(self, event: Any) -> None:
            pass

    of_numba = OfNumba()
    event.register("numba:compile", of_numba)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
        event.unregister("numba:compile", of_numba)


def cache_folders(backend: str) -> list[Path]:
    """Where compiled code is kept."""
    package = Path(__file__).resolve().parents[1]
    folders = [Path(os.environ.get("NUMBA_CACHE_DIR", package))]  # in __pycache__ of each folder
    if backend == "cupy":
        default = Path.home() / ".cupy" / "kernel_cache"
        folders.append(Path(os.environ.get("CUPY_CACHE_DIR", default)))
    return folders

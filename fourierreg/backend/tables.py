"""Small constant arrays (symbols, DFT matrices), computed once per device.

A table is kept under the device on which it was made, so that two GPUs in one process do not meet,
until `clear` (`fourierreg.backend.release_memory`) or until newer ones take its place. A captured
graph points to the tables it reads: it holds them itself (`holding`).
"""

import collections
import contextlib
import functools

_caches: list = []
_holders: list = []


def cached_table(limit=64):
    """Decorate a function of hashable arguments, the last of which is the namespace `xp`; the
    `limit` newest tables of the function are kept."""

    def decorate(function):
        cache: collections.OrderedDict = collections.OrderedDict()
        _caches.append(cache)

        @functools.wraps(function)
        def table(*arguments):
            key = (device_of(arguments[-1]), *arguments[:-1])
            if key in cache:
                cache.move_to_end(key)
            else:
                cache[key] = function(*arguments)
                if len(cache) > limit:
                    cache.popitem(last=False)
            found = cache[key]
            for held in _holders:
                held.append(found)
            return found

        return table

    return decorate


def device_of(xp):
    """Identity of the device on which namespace `xp` allocates now."""
    return (xp.__name__, xp.cuda.runtime.getDevice()) if hasattr(xp, "cuda") else id(xp)


@contextlib.contextmanager
def holding(held):
    """Append every table used inside the block to the list `held`."""
    _holders.append(held)
    try:
        yield
    finally:
        _holders.remove(held)


def clear():
    """Forget all tables."""
    for cache in _caches:
        cache.clear()

"""Run several coroutines side by side, and batch the work that they request.

The estimate of one pair is a sequential algorithm: fit, take a slope, change α, fit again. It is
written as a generator that yields a `Request` wherever it needs expensive work, and is sent the
result. `run_all` drives many such coroutines, one per pair, and runs requests of the same kind as
one batch; `run` drives one, whose requests are batches of one.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Generator, Hashable, Sequence
from typing import Any, ClassVar

Coroutine = Generator["Request", Any, Any]


class Request(ABC):
    """Work that a coroutine waits for.

    Attributes
    ----------
    batch_key : hashable or None
        Requests of one class with the same key can be run as one batch; None: only by itself.
    repeatable : bool
        Whether requests of a batch that raised may be run again one by one, to find which one
        raises; else all of the batch get the exception.
    """

    batch_key: Hashable = None
    repeatable: ClassVar[bool] = True

    @staticmethod
    @abstractmethod
    def run(requests: Sequence[Any]) -> list[Any]:
        """Run a batch; returns a result for each request, or the exception that it raised."""


def run(coroutine: Coroutine) -> Any:
    """Run one coroutine to its end; returns its result or raises its exception."""
    (result,) = run_all([coroutine])
    if isinstance(result, Exception):
        raise result
    return result


def run_all(coroutines: Sequence[Coroutine]) -> list[Any]:
    """Run coroutines side by side.

    The largest batch of waiting requests is run next; among equal ones that of the coroutine with
    the fewest requests served. The others wait, so that more requests of their kind can join.

    Parameters
    ----------
    coroutines : sequence of generators that yield `Request`

    Returns
    -------
    list
        For each the value it returned, or the exception that it ended with. A `MemoryError` ends
        the whole run: a smaller batch may fit.
    """
    results: list[Any] = [None] * len(coroutines)
    waiting: dict[int, Request] = {}
    served = [0] * len(coroutines)

    def resume(index: int, result: Any = None) -> None:
        coroutine = coroutines[index]
        try:
            if isinstance(result, Exception):
                waiting[index] = coroutine.throw(result)
            else:
                waiting[index] = coroutine.send(result)
        except StopIteration as end:
            results[index] = end.value
        except MemoryError:
            raise
        except Exception as error:  # of one coroutine: the others go on
            results[index] = error

    try:
        for index in range(len(coroutines)):
            resume(index)
        while waiting:
            chosen = _next_batch(waiting, served)
            requests = [waiting.pop(index) for index in chosen]
            for index, result in zip(chosen, _run_batch(requests), strict=True):
                served[index] += 1
                resume(index, result)
    finally:
        for coroutine in coroutines:
            coroutine.close()
    return results


def _next_batch(waiting: dict[int, Request], served: list[int]) -> list[int]:
    """The coroutines whose requests are run next."""
    batches: dict[Any, list[int]] = defaultdict(list)
    for index, request in waiting.items():
        key = index if request.batch_key is None else request.batch_key
        batches[type(request), key].append(index)
    largest = max(batches.values(), key=lambda batch: (len(batch), -min(served[i] for i in batch)))
    return sorted(largest)


def _run_batch(requests: list[Request]) -> list[Any]:
    """Results of a batch, or exceptions."""
    try:
        return requests[0].run(requests)
    except MemoryError:
        raise
    except Exception as error:
        if len(requests) == 1 or not requests[0].repeatable:
            return [error] * len(requests)
    return [_run_batch([request])[0] for request in requests]

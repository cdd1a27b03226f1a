"""Run several coroutines side by side, and batch the work that they request.

The estimate of one pair is a sequential algorithm: fit, take a slope, change α, fit again. It is
written as a generator that yields a `Request` wherever it needs expensive work, and is sent the
result. `run_all` drives many such coroutines, one per pair, and runs requests of the same kind as
one batch; `run` drives one, whose requests are batches of one. A batch of `OpenRequest` goes on as
long as others of its kind come up (continuous batching).
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
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


class OpenRequest(Request):
    """Work in steps, whose batch others can join: a request that ends leaves its place to the next
    one of its coroutine, or of another."""

    repeatable: ClassVar[bool] = False

    @staticmethod
    def run(requests: Sequence[Any]) -> list[Any]:
        """Run a batch that none joins."""
        results: dict[int, Any] = {}
        requests[0].run_open(requests, results.update, list)
        return [results[place] for place in range(len(requests))]

    @staticmethod
    @abstractmethod
    def run_open(requests: Sequence[Any], finish: Callable, join: Callable) -> None:
        """Run a batch.

        Parameters
        ----------
        requests : sequence of requests
        finish : callable
            To be called with (position, result or exception) pairs as requests end, each once.
            Those that join later have the next positions.
        join : callable
            Returns requests that wait to join, perhaps none.
        """


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
    scheduler = _Scheduler(coroutines)
    try:
        scheduler.run()
    finally:
        for coroutine in coroutines:
            coroutine.close()
    return scheduler.results


class _Scheduler:
    """Coroutines, what they wait for, and what they returned."""

    def __init__(self, coroutines: Sequence[Coroutine]):
        self.coroutines = coroutines
        self.results: list[Any] = [None] * len(coroutines)
        self.waiting: dict[int, Request] = {}
        self.served = [0] * len(coroutines)

    def run(self) -> None:
        """Run all coroutines to their ends."""
        for index in range(len(self.coroutines)):
            self.resume(index)
        while self.waiting:
            chosen = self.largest(self.batches())
            if isinstance(self.waiting[chosen[0]], OpenRequest):
                self.run_open(chosen)
            else:
                self.run_closed(chosen)

    def resume(self, index: int, result: Any = None) -> None:
        """Send a coroutine the result that it waits for, until it waits for another or ends."""
        coroutine = self.coroutines[index]
        try:
            if isinstance(result, Exception):
                self.waiting[index] = coroutine.throw(result)
            else:
                self.waiting[index] = coroutine.send(result)
        except StopIteration as end:
            self.results[index] = end.value
        except MemoryError:
            raise
        except Exception as error:  # of one coroutine: the others go on
            self.results[index] = error

    def kind(self, index: int) -> tuple:
        """Waiting requests of the same kind can be run as one batch."""
        request = self.waiting[index]
        return type(request), index if request.batch_key is None else request.batch_key

    def batches(self) -> dict[tuple, list[int]]:
        """The coroutines that wait, by the kind of their requests."""
        found: dict[tuple, list[int]] = defaultdict(list)
        for index in sorted(self.waiting):
            found[self.kind(index)].append(index)
        return found

    def largest(self, batches: dict[tuple, list[int]]) -> list[int]:
        """The coroutines whose requests are run next."""

        def rank(batch: list[int]) -> tuple[int, int]:
            return len(batch), -min(self.served[index] for index in batch)

        return max(batches.values(), key=rank)

    def run_closed(self, chosen: list[int]) -> None:
        """Run a batch, and resume its coroutines."""
        requests = [self.waiting.pop(index) for index in chosen]
        for index, result in zip(chosen, _run_batch(requests), strict=True):
            self.served[index] += 1
            self.resume(index, result)

    def run_open(self, chosen: list[int]) -> None:
        """Run a batch to which others of its kind are added while it runs."""
        kind, places, unfinished = self.kind(chosen[0]), list(chosen), set(range(len(chosen)))

        def finish(ended: Iterable[tuple[int, Any]]) -> None:
            for place, result in ended:
                unfinished.discard(place)
                self.served[places[place]] += 1
                self.resume(places[place], result)

        def join() -> list[Request]:
            while True:
                batches = self.batches()
                joining = batches.get(kind, [])
                closed = {k: b for k, b in batches.items() if not issubclass(k[0], OpenRequest)}
                if joining or not closed:
                    break
                self.run_closed(self.largest(closed))  # its coroutines may join afterwards
            unfinished.update(range(len(places), len(places) + len(joining)))
            places.extend(joining)
            return [self.waiting.pop(index) for index in joining]

        requests: list[Any] = [self.waiting.pop(index) for index in chosen]
        try:
            requests[0].run_open(requests, finish, join)
        except MemoryError:
            raise
        except Exception as error:
            finish([(place, error) for place in sorted(unfinished)])


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

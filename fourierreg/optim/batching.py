"""Run several coroutines side by side, and batch the work that they request.

The estimate of one pair is a sequential algorithm: fit, take a slope, change α, fit again. It is
written as a generator that yields a `Request` wherever it needs expensive work, and is sent the
result; or a list of requests that do not need each other, and is sent the list of their results.
`run_all` drives many such coroutines, one per pair, and runs requests of the same kind as one
batch; `run` drives one. A batch of `OpenRequest` goes on as long as others of its kind come up
(continuous batching).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fourierreg.backend.threads import single_threaded_blas
from fourierreg.optim.requests import Coroutine, OpenRequest


def run(coroutine: Coroutine) -> Any:
    """Run one coroutine to its end; returns its result or raises its exception."""
    (result,) = run_all([coroutine])
    if isinstance(result, Exception):
        raise result
    return result


def run_all(
    coroutines: Iterable[Coroutine],
    *,
    batch_size: int | None = None,
    at_once: int | None = None,
    finished: Callable[[int, Any], Any] | None = None,
) -> list[Any]:
    """Run coroutines side by side, with BLAS limited to one thread.

    The largest batch, of what waits and of what runs in one that is open, goes on next; the others
    wait, so that more requests of their kind can join.

    Parameters
    ----------
    coroutines : iterable of generators that yield `Request` or lists of them
        Taken one by one, as earlier ones end.
    batch_size : int, optional
        Most requests of a batch.
    at_once : int, optional
        Most coroutines that run side by side, by default all: more than a batch holds, so that
        batches are full.
    finished : callable, optional
        Called as finished(number of the coroutine, its result or exception) as soon as it ends;
        nothing is returned then, so that no result is kept.

    Returns
    -------
    list
        For each the value it returned, or the exception that it ended with. A `MemoryError` ends
        the whole run: a smaller batch may fit. So does an exception of `finished`.
    """
    results: dict[int, Any] = {}
    end = results.__setitem__ if finished is None else finished
    scheduler = _Scheduler(iter(coroutines), batch_size, at_once, end)
    try:
        with single_threaded_blas():
            scheduler.run()
    finally:
        for task in scheduler.tasks:
            task.coroutine.close()
    return [results[number] for number in sorted(results)]


@dataclass(eq=False)
class _Task:
    """A coroutine and what it waits for."""

    number: int
    coroutine: Coroutine
    alone: bool = True  # whether it waits for one request, not a list
    results: list[Any] = field(default_factory=list)  # of the requests it waits for
    missing: int = 0
    served: int = 0


@dataclass(eq=False)
class _Waiting:
    """A request that has not run yet."""

    task: _Task
    place: int  # among the requests of its task
    request: Any

    @property
    def kind(self) -> tuple:
        """Waiting requests of the same kind can be run as one batch."""
        key = self.request.batch_key
        return type(self.request), self.task.number if key is None else key, key is None


class _OpenBatch:
    """A batch that others can join, with its requests by their positions.

    Results are kept until the batch gives way: what is done with them is no work of the batch, and
    none of its errors.
    """

    def __init__(self, chosen: list[_Waiting], take: Callable[[int], list[_Waiting]]):
        self.take = take  # requests that join, given the number of those that are in it
        self.unfinished = dict(enumerate(chosen))
        self.ended: list[tuple[_Waiting, Any]] = []
        self.next_place = len(chosen)
        requests = [waited.request for waited in chosen]
        self.running = requests[0].run_open(requests, self.finish, self.join)

    def finish(self, results: Iterable[tuple[int, Any]]) -> None:
        """Take the results of requests that ended."""
        self.ended += [(self.unfinished.pop(place), result) for place, result in results]

    def join(self) -> list[Any]:
        """Requests that join."""
        joining = self.take(len(self.unfinished))
        self.unfinished |= dict(enumerate(joining, start=self.next_place))
        self.next_place += len(joining)
        return [waited.request for waited in joining]

    def advance(self) -> list[tuple[_Waiting, Any]]:
        """Run until others may join; returns what has ended, with the results."""
        try:
            next(self.running, None)
        except MemoryError:
            raise
        except Exception as error:
            self.finish([(place, error) for place in list(self.unfinished)])
        ended, self.ended = self.ended, []
        return ended


class _Scheduler:
    """Coroutines, the requests that wait, and the batches that are open."""

    def __init__(
        self,
        source: Any,
        batch_size: int | None,
        at_once: int | None,
        end: Callable[[int, Any], None],
    ):
        self.source = enumerate(source)
        self.batch_size, self.at_once, self.end = batch_size, at_once, end
        self.tasks: list[_Task] = []
        self.waiting: list[_Waiting] = []
        self.open: dict[tuple, _OpenBatch] = {}
        self.last: tuple | None = None  # kind of the batch that ran last

    def run(self) -> None:
        """Run all coroutines to their ends."""
        self.admit()
        while self.waiting or self.open:
            self.last = kind = self.largest()
            if issubclass(kind[0], OpenRequest):
                self.advance(kind)
            else:
                self.run_closed(kind)

    def admit(self) -> None:
        """Start coroutines up to the number that may run side by side."""
        while self.at_once is None or len(self.tasks) < self.at_once:
            found = next(self.source, None)
            if found is None:
                break
            task = _Task(*found)
            self.tasks.append(task)
            self.resume(task)

    def resume(self, task: _Task, result: Any = None) -> None:
        """Send a coroutine the result that it waits for, until it waits for another or ends."""
        try:
            if isinstance(result, Exception):
                wanted = task.coroutine.throw(result)
            else:
                wanted = task.coroutine.send(result)
        except StopIteration as ending:
            ended = ending.value
        except MemoryError:
            raise
        except Exception as error:  # of one coroutine: the others go on
            ended = error
        else:
            self.wait(task, wanted)
            return
        self.tasks.remove(task)
        self.end(task.number, ended)

    def wait(self, task: _Task, wanted: Any) -> None:
        """Enter what a coroutine waits for."""
        task.alone = not isinstance(wanted, list)
        requests = [wanted] if task.alone else wanted
        task.results, task.missing = [None] * len(requests), len(requests)
        self.waiting += [_Waiting(task, place, request) for place, request in enumerate(requests)]

    def serve(self, waited: _Waiting, result: Any) -> None:
        """Give a request its result; its coroutine goes on once it has all it waits for."""
        task = waited.task
        task.results[waited.place] = result
        task.missing -= 1
        task.served += 1
        if task.missing:
            return
        found, task.results = task.results, []
        errors = [one for one in found if isinstance(one, Exception)]
        self.resume(task, errors[0] if errors else found[0] if task.alone else found)
        self.admit()

    def largest(self) -> tuple:
        """Kind of the batch that runs next: what others cannot join, then the largest; among equal
        ones such as are not open, because their coroutines may join others, then the last."""
        sizes = {kind: len(batch.unfinished) for kind, batch in self.open.items()}
        served = dict.fromkeys(self.open, 0)
        for waited in self.waiting:
            kind = waited.kind
            sizes[kind] = sizes.get(kind, 0) + 1
            served[kind] = min(served.get(kind, waited.task.served), waited.task.served)

        def rank(kind: tuple) -> tuple:
            size = min(sizes[kind], self.batch_size or sizes[kind])
            closed = not issubclass(kind[0], OpenRequest)
            return kind[-1], size, closed, kind == self.last, -served[kind]

        return max(sizes, key=rank)

    def take(self, kind: tuple, taken: int = 0) -> list[_Waiting]:
        """Requests of a kind that find room in a batch; they do not wait any more."""
        waiting = [waited for waited in self.waiting if waited.kind == kind]
        waiting.sort(key=lambda waited: (waited.task.served, waited.task.number))
        size = 1 if kind[-1] else self.batch_size
        chosen = waiting if size is None else waiting[: max(0, size - taken)]
        for waited in chosen:
            self.waiting.remove(waited)
        return chosen

    def run_closed(self, kind: tuple) -> None:
        """Run a batch, and resume its coroutines."""
        chosen = self.take(kind)
        results = _run_batch([waited.request for waited in chosen])
        for waited, result in zip(chosen, results, strict=True):
            self.serve(waited, result)

    def advance(self, kind: tuple) -> None:
        """Run an open batch until others may join, and resume the coroutines of what has ended."""
        batch = self.open.get(kind)
        if batch is None:
            batch = _OpenBatch(self.take(kind), lambda taken: self.take(kind, taken))
            self.open[kind] = batch
        ended = batch.advance()
        if not batch.unfinished:
            del self.open[kind]
        for waited, result in ended:
            self.serve(waited, result)


def _run_batch(requests: list[Any]) -> list[Any]:
    """Results of a batch, or exceptions."""
    try:
        return requests[0].run(requests)
    except MemoryError:
        raise
    except Exception as error:
        if len(requests) == 1 or not requests[0].repeatable:
            return [error] * len(requests)
    return [_run_batch([request])[0] for request in requests]

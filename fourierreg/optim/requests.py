"""Work that a coroutine waits for, and that is run for many as one batch (`batching`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, ClassVar

Coroutine = Generator[Any, Any, Any]


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
        for _ in requests[0].run_open(requests, results.update, list):
            pass
        return [results[place] for place in range(len(requests))]

    @staticmethod
    @abstractmethod
    def run_open(
        requests: Sequence[Any], finish: Callable, join: Callable
    ) -> Generator[None, None, None]:
        """Run a batch, as a generator that yields where some have ended and others may join; before
        it goes on, others may run.

        Parameters
        ----------
        requests : sequence of requests
        finish : callable
            To be called with (position, result or exception) pairs as requests end, each once.
            Those that join later have the next positions.
        join : callable
            Returns requests that wait to join, perhaps none.
        """

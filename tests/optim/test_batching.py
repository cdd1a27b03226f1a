"""The scheduler: requests of one kind run as one batch, and no coroutine harms another."""

import gc
import weakref
from dataclasses import dataclass

import pytest

from fourierreg.optim.batching import run, run_all
from fourierreg.optim.requests import OpenRequest, Request


@dataclass(frozen=True)
class Double(Request):
    """Twice a number; keeps a log of the batches."""

    value: object
    log: list
    batch_key: object = "double"

    @staticmethod
    def run(requests):
        requests[0].log.append([r.value for r in requests])
        return [
            ValueError(f"no double of {r.value}") if r.value is None else 2 * r.value
            for r in requests
        ]


def doubling(value, times, log, **key):
    """A coroutine that doubles a value so many times."""
    for _ in range(times):
        value = yield Double(value, log, **key)
    return value


def test_a_single_coroutine_runs_batches_of_one():
    log = []
    assert run(doubling(3, 2, log)) == 12
    assert log == [[3], [6]]


def test_coroutines_share_batches():
    log = []
    assert run_all([doubling(1, 2, log), doubling(5, 2, log)]) == [4, 20]
    assert log == [[1, 5], [2, 10]]


def test_the_longer_coroutine_goes_on_when_the_other_has_returned():
    log = []
    assert run_all([doubling(1, 3, log), doubling(5, 1, log)]) == [8, 10]
    assert log == [[1, 5], [2], [4]]


def test_the_largest_batch_runs_first_and_others_join_later():
    log = []

    def late(value):
        other = yield Double(value, log, batch_key="other")
        return (yield Double(other, log))

    found = run_all([late(1), doubling(2, 2, log), doubling(3, 2, log)])
    assert found == [4, 8, 12]
    assert log == [[2, 3], [4, 6], [1], [2]]


def test_requests_without_a_key_run_one_by_one():
    log = []
    assert run_all([doubling(n, 1, log, batch_key=None) for n in (1, 2)]) == [2, 4]
    assert log == [[1], [2]]


def test_coroutines_may_delegate():
    log = []

    def outer():
        first = yield from doubling(1, 1, log)
        return (yield from doubling(first, 2, log))

    assert run(outer()) == 8


def test_an_exception_of_a_request_is_raised_in_its_coroutine():
    log = []

    def careful():
        try:
            return (yield Double(None, log))
        except ValueError as error:
            return str(error)

    found = run_all([doubling(1, 2, log), careful(), doubling(None, 1, log)])
    assert found[0] == 4 and found[1] == "no double of None"
    assert isinstance(found[2], ValueError)
    with pytest.raises(ValueError, match="no double of None"):
        run(doubling(None, 1, log))


def test_a_batch_that_raises_is_run_again_request_by_request():
    class Fragile(Double):
        @staticmethod
        def run(requests):
            if any(r.value == 13 for r in requests):
                raise ArithmeticError("unlucky")
            return Double.run(requests)

    log = []

    def fragile(value):
        return (yield Fragile(value, log))

    found = run_all([fragile(1), fragile(13), fragile(2)])
    assert found[0] == 2 and found[2] == 4
    assert isinstance(found[1], ArithmeticError)


def test_requests_that_cannot_be_repeated_share_the_exception_of_their_batch():
    class Once(Double):
        repeatable = False

        @staticmethod
        def run(requests):
            requests[0].log.append(len(requests))
            raise ArithmeticError("once")

    log = []

    def asks():
        return (yield Once(1, log))

    found = run_all([asks(), asks()])
    assert log == [2] and all(isinstance(error, ArithmeticError) for error in found)


def test_an_exception_of_a_coroutine_leaves_the_others():
    log = []

    def broken():
        yield Double(1, log)
        raise ArithmeticError("broken")

    found = run_all([broken(), doubling(1, 2, log)])
    assert isinstance(found[0], ArithmeticError) and found[1] == 4


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("raised_by", ["coroutine", "request"])
def test_errors_that_end_the_run_close_every_coroutine(error, raised_by):
    log, closed = [], []

    class Ending(Double):
        @staticmethod
        def run(requests):
            raise error

    def ends():
        if raised_by == "coroutine":
            yield Double(0, log)
            raise error
        yield Ending(0, log, batch_key="ending")

    def waits():
        try:
            for _ in range(5):
                yield Double(1, log)
        finally:
            closed.append("closed")

    with pytest.raises(error):
        run_all([waits(), ends()])
    assert closed == ["closed"]


def test_nothing_to_run():
    assert run_all([]) == []


@dataclass(frozen=True)
class Count(OpenRequest):
    """So many steps, which all requests of a batch take together; keeps a log of who did."""

    name: str
    steps: int
    log: list
    batch_key: object = "count"

    @staticmethod
    def run_open(requests, finish, join):
        left = {place: request.steps for place, request in enumerate(requests)}
        names = [request.name for request in requests]
        while left:
            requests[0].log.append("".join(names[place] for place in left))
            left = {place: steps - 1 for place, steps in left.items()}
            ended = [place for place, steps in left.items() if steps == 0]
            if any(names[place] == "x" for place in ended):
                raise ValueError("x ended")
            left = {place: steps for place, steps in left.items() if steps}
            if ended:
                finish([(place, names[place]) for place in ended])
            if ended and left:
                yield
                for request in join():
                    left[len(names)] = request.steps
                    names.append(request.name)


def counting(name, log, *steps, doubles=None):
    """A coroutine that counts several times, and doubles in between."""
    for number in steps:
        yield Count(name, number, log)
        if doubles is not None:
            yield Double(number, doubles)
    return name


def test_an_open_batch_goes_on_with_the_next_requests_of_its_coroutines():
    log = []
    assert run_all([counting("a", log, 1, 3), counting("b", log, 2, 1)]) == ["a", "b"]
    assert log == ["ab", "ba", "ab", "a"]


def test_an_open_batch_waits_while_a_larger_one_can_run():
    log, doubles = [], []
    a, b = (counting(n, log, 1, 2, doubles=doubles) for n in "ab")
    assert run_all([a, b, counting("c", log, 5)]) == ["a", "b", "c"]
    assert log == ["abc", "cab", "cab", "c", "c"]
    assert doubles == [[1, 1], [2, 2]]  # together


def test_the_largest_of_several_open_batches_goes_on():
    log = []

    def other(name, *steps):
        for number in steps:
            yield Count(name, number, log, batch_key="other")
        return name

    pairs = [counting("a", log, 1), counting("b", log, 3), *(other(n, 2) for n in "uvw")]
    assert run_all(pairs) == ["a", "b", "u", "v", "w"]
    assert log == ["uvw", "uvw", "ab", "b", "b"]
    log.clear()
    late = [counting("a", log, 1, 1), counting("b", log, 3), other("u", 4), other("v", 2)]
    assert run_all(late) == ["a", "b", "u", "v"]
    assert log == ["ab", "ba", "uv", "uv", "u", "u", "b"]  # b waits for what is larger


def test_batches_hold_so_many_and_the_rest_follow():
    log, ended = [], []
    pairs = (
        counting(name, log, steps) for name, steps in zip("abcde", (1, 3, 2, 1, 1), strict=True)
    )
    run_all(pairs, batch_size=2, at_once=3, finished=lambda *end: ended.append(end))
    assert log == ["ab", "bc", "bc", "de"]
    assert ended == [(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]


def test_coroutines_are_started_when_there_is_room():
    started = []

    def coroutine(number):
        started.append(number)
        yield Double(number, [])
        return len(started)

    assert run_all(map(coroutine, range(5)), batch_size=1, at_once=2) == [2, 3, 4, 5, 5]
    assert started == list(range(5))


def test_requests_of_a_list_run_together():
    log = []

    def several():
        found = yield [Double(1, log), Double(2, log), Double(3, log, batch_key="other")]
        return found + (yield [Double(4, log)])

    assert run(several()) == [2, 4, 6, 8]
    assert log == [[1, 2], [3], [4]]


def test_an_exception_of_one_of_a_list_is_raised_once_all_have_run():
    log = []

    def several():
        try:
            yield [Double(None, log), Double(2, log, batch_key="other")]
        except ValueError as error:
            return str(error)

    assert run(several()) == "no double of None"
    assert log == [[None], [2]]


@pytest.mark.parametrize("open_batch", [False, True])
def test_an_exception_of_finished_ends_the_run(open_batch):
    """It is not taken for one of the batch, in which others still are."""
    seen, log = [], []

    def finished(number, result):
        raise OSError("disk full")

    def waits(coroutine):
        try:
            yield from coroutine
        except Exception as error:
            seen.append(error)

    if open_batch:
        pairs = [counting("a", log, 1), waits(counting("b", log, 3))]
    else:
        pairs = [doubling(1, 1, log), waits(doubling(1, 2, log))]
    with pytest.raises(OSError, match="disk full"):
        run_all(pairs, finished=finished)
    assert not seen


def test_no_request_is_kept_once_it_has_ended():
    class Value:
        pass

    alive, most = weakref.WeakSet(), []

    def coroutine():
        for _ in range(4):
            value = Value()
            alive.add(value)
            yield Count("a", 1, [value])
            del value
            gc.collect()
            most.append(len(alive))

    run_all([coroutine(), counting("b", [], 6)])
    assert max(most) <= 2  # the one that has just ended, and its successor


def test_an_exception_of_an_open_batch_is_raised_in_the_coroutines_that_are_in_it():
    log = []
    a, x, b = counting("a", log, 1), counting("x", log, 2), counting("b", log, 3)
    first, second, third = run_all([a, x, b])
    assert first == "a" and isinstance(second, ValueError) and isinstance(third, ValueError)

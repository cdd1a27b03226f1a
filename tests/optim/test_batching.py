"""Programs that run together: what they ask is done together, and none spoils another."""

from dataclasses import dataclass

import pytest

from fourierreg.optim.batching import Request, ask, run_all


@dataclass(frozen=True)
class Double(Request):
    """Twice a number; a log of what was done together."""

    value: object
    log: list
    kind: object = "double"

    def alone(self):
        self.log.append([self.value])
        return 2 * self.value

    @staticmethod
    def together(requests):
        requests[0].log.append([r.value for r in requests])
        return [
            ValueError(f"no double of {r.value}") if r.value is None else 2 * r.value
            for r in requests
        ]


def doubling(value, times, log, **kind):
    def program():
        result = value
        for _ in range(times):
            result = ask(Double(result, log, **kind))
        return result

    return program


def test_a_program_by_itself_has_everything_done_at_once():
    log = []
    assert doubling(3, 2, log)() == 12
    assert log == [[3], [6]]


def test_together_they_share_the_work():
    log = []
    assert run_all([doubling(1, 2, log), doubling(5, 2, log)]) == [4, 20]
    assert log == [[1, 5], [2, 10]]


def test_those_with_more_to_do_go_on():
    log = []
    assert run_all([doubling(1, 3, log), doubling(5, 1, log)]) == [8, 10]
    assert log == [[1, 5], [2], [4]]


def test_the_largest_group_comes_first_and_gathers_others():
    log = []

    def late(value):
        def program():
            other = ask(Double(value, log, kind="other"))
            return ask(Double(other, log))

        return program

    found = run_all([late(1), doubling(2, 2, log), doubling(3, 2, log)])
    assert found == [4, 8, 12]
    assert log == [[2, 3], [4, 6], [1], [2]]


def test_requests_of_no_kind_are_done_one_by_one():
    log = []
    assert run_all([doubling(n, 1, log, kind=None) for n in (1, 2)]) == [2, 4]
    assert log == [[1], [2]]


def test_an_exception_is_that_of_its_program():
    log = []

    def careful():
        try:
            return ask(Double(None, log))
        except ValueError as error:
            return str(error)

    def hasty():
        return ask(Double(None, log))

    found = run_all([doubling(1, 2, log), careful, hasty])
    assert found[0] == 4 and found[1] == "no double of None"
    assert isinstance(found[2], ValueError)


def test_an_exception_of_work_by_itself_too():
    class Broken(Double):
        def alone(self):
            raise ArithmeticError("broken")

    log = []

    def broken():
        return ask(Broken(1, log, kind=None))

    found = run_all([broken, doubling(1, 1, log)])
    assert isinstance(found[0], ArithmeticError) and found[1] == 2


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("whose", ["program", "work"])
def test_what_ends_the_run_ends_all_programs(error, whose):
    log, left = [], []

    class Ending(Double):
        @staticmethod
        def together(requests):
            raise error

    def ends():
        if whose == "program":
            ask(Double(0, log))
            raise error
        ask(Ending(0, log, kind="ending"))

    def waits():
        try:
            for _ in range(5):
                ask(Double(1, log))
        finally:
            left.append("cleaned up")

    with pytest.raises(error):
        run_all([waits, ends])
    assert left == ["cleaned up"]


def test_nothing_to_run():
    assert run_all([]) == []

"""Several programs at once: each runs until it asks for something; that is done together.

The estimate of one pair is a plain sequential program: fit, take a slope, move α, fit again. Its
long work is put as requests (`ask`). By itself a program has each done at once; among others
(`run_all`) it waits, as a greenlet, until requests of one kind can be done for many.
"""

from abc import ABC, abstractmethod
from collections import defaultdict

from greenlet import GreenletExit, getcurrent, greenlet


class Request(ABC):
    """Work that can be done alone, or with others of the same kind.

    `kind` is hashable: requests of one kind can be done together; None: each by itself.
    """

    kind: object = None

    @abstractmethod
    def alone(self):
        """Do it; the result."""

    @staticmethod
    @abstractmethod
    def together(requests):
        """Do several of one kind; a result for each, or the exception that it ended in."""


class _Program(greenlet):
    """One of several that run together."""


def ask(request):
    """Have a request done, and return its result.

    Raises
    ------
    Exception
        What the work ended in.
    """
    here = getcurrent()
    if not isinstance(here, _Program):
        return request.alone()
    result = here.parent.switch(request)
    if isinstance(result, Exception):
        raise result
    return result


def run_all(functions):
    """Run functions of no arguments side by side; what each returns, or the exception it ends in.

    Requests of the kind that most programs ask for are done next; between equals, those of the
    program that has had the fewest done. Others wait, and meet more of their kind.

    An exception of the work for many ends the whole run, as does a `MemoryError` of anyone: fewer
    may fit.
    """
    programs = [_Program(function) for function in functions]
    results, waiting, served = [None] * len(programs), {}, [0] * len(programs)

    def advance(index, *answer):
        try:
            asked = programs[index].switch(*answer)
        except MemoryError:
            raise
        except Exception as error:  # of one program: the others go on
            results[index] = error
            return
        if programs[index].dead:
            results[index] = asked
        else:
            waiting[index] = asked

    try:
        for index in range(len(programs)):
            advance(index)
        while waiting:
            chosen = _next(waiting, served)
            requests = [waiting.pop(index) for index in chosen]
            for index, answer in zip(chosen, _answers(requests), strict=True):
                served[index] += 1
                advance(index, answer)
    finally:
        for program in programs:
            if not program.dead:
                program.throw(GreenletExit)
    return results


def _next(waiting, served):
    """The programs whose requests are done next."""
    groups = defaultdict(list)
    for index, request in waiting.items():
        alone = request.kind is None
        groups[(type(request), index if alone else request.kind)].append(index)
    return sorted(max(groups.values(), key=lambda g: (len(g), -min(served[i] for i in g))))


def _answers(requests):
    """Results of requests of one kind."""
    if requests[0].kind is not None:
        return requests[0].together(requests)
    try:
        return [requests[0].alone()]
    except MemoryError:
        raise
    except Exception as error:
        return [error]

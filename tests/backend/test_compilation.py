"""It is said when code is compiled."""

import time
from types import SimpleNamespace

import numba

from fourierreg.backend import compilation
from fourierreg.cli import common

RECORD = SimpleNamespace(shape=(2, 2), alpha=3.0, prior=1.0, likelihood=2.0)


def compile_something():
    numba.njit(lambda x: x + 1)(1)


def test_listeners_hear_of_both_compilers_while_they_listen():
    heard = []
    with compilation.listening(lambda: heard.append("now")):
        compile_something()
        assert heard
        before = len(heard)
        compilation.notify()
        assert len(heard) == before + 1
    compile_something()
    compilation.notify()
    assert len(heard) == before + 1


def progress(monkeypatch, seconds):
    monkeypatch.setattr(common, "COMPILING_SECONDS", seconds)
    return common.Progress("registering", SimpleNamespace(quiet=False, json=False))


def test_a_line_says_that_the_first_iteration_waits_for_the_compiler(monkeypatch, capsys):
    with progress(monkeypatch, 0.0) as bar:
        compile_something()
        bar.timer.join()
        bar(RECORD)
        compile_something()
    output = capsys.readouterr().err
    assert output.count("compiling, once: kept in ") == 1 and "fourierreg warm-up" in output


def test_nothing_is_said_where_the_compiler_is_quick(monkeypatch, capsys):
    with progress(monkeypatch, 0.2) as bar:
        compile_something()
        bar(RECORD)
        time.sleep(0.3)
    assert "compiling" not in capsys.readouterr().err

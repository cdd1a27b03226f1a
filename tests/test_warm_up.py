"""`fourierreg warm-up` registers small images, and says where compiled code is kept."""

import pytest

from fourierreg.backend import compilation
from fourierreg.cli import main, warm_up


@pytest.mark.parametrize("backend", ["numpy", "mock"])
def test_it_runs_and_names_the_folder(backend, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(warm_up, "TASKS", warm_up.TASKS[:2])
    assert main(["warm-up", "--backend", backend]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ready in") and str(tmp_path) in printed


def test_an_unknown_backend_is_refused(capsys):
    assert main(["warm-up", "--backend", "abacus"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_cache_of_cupy_is_named_for_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    assert compilation.cache_folders("cupy")[-1] == tmp_path
    assert len(compilation.cache_folders("numpy")) == 1

"""The package in threads and in processes that are started in every way, as a script of a user's
does it, after it was used in the parent."""

import importlib.util
import os
import subprocess
import sys

import pytest

from fourierreg.backend import _cupy
from fourierreg.errors import BackendUnavailableError

SCRIPT = """
import sys
import numpy as np
import fourierreg
from fourierreg.simulation.bullseye import bullseye

def register(_):
    source = bullseye((34, 34), outer=(11.0, 10.0), inner=(6.0, 5.0))
    setting = dict(alpha=3.0, modes=8, max_iterations=2)
    return fourierreg.register(source, np.roll(source, 1, 0), **setting).alpha

def run(way):
    if way == "threads":
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(register, range(6)))
    if way == "joblib":
        import joblib
        return joblib.Parallel(2)(joblib.delayed(register)(i) for i in range(2))
    import multiprocessing
    with multiprocessing.get_context(way).Pool(2) as pool:
        return pool.map(register, range(2))

if __name__ == "__main__":
    register(0)
    print(set(run(sys.argv[1])))
"""


def outcome(folder, way, layer=None):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = dict(os.environ)
    environment.pop("NUMBA_THREADING_LAYER", None)
    if layer is not None:
        environment["NUMBA_THREADING_LAYER"] = layer
    command = [sys.executable, str(script), way]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("way", "layer"),
    [
        ("spawn", None),
        ("forkserver", None),
        ("threads", None),
        ("threads", "workqueue"),  # which ends the process where two threads use it at once
        ("joblib", None),
        pytest.param("fork", "workqueue", marks=pytest.mark.skipif(os.name == "nt", reason="fork")),
    ],
)
def test_registrations_run_beside_each_other(tmp_path, way, layer):
    if way == "joblib" and importlib.util.find_spec("joblib") is None:
        pytest.skip("joblib is not installed")
    found = outcome(tmp_path, way, layer)
    assert found.returncode == 0 and found.stdout == "{3.0}\n", found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's OpenMP")
def test_a_fork_of_a_process_with_threads_of_openmp_is_refused_in_one_line(tmp_path):
    """OpenMP would end it without a word, and a pool of such processes would wait for ever."""
    found = outcome(tmp_path, "fork", "omp")
    assert found.returncode == 1 and "get_context('spawn')" in found.stderr.splitlines()[-1]


def test_a_fork_of_a_process_that_used_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(_cupy, "_library", lambda: (None, os.getpid() + 1))
    with pytest.raises(BackendUnavailableError, match="CUDA cannot go on in a fork"):
        _cupy.library()

"""Label runs beside others and after what interrupts them: disks, signals, workers, schedulers."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import fourierreg
from fourierreg.cli import main
from fourierreg.labelling import folder as label_folder
from fourierreg.labelling.folder import LabelFolder, read_table
from tests.labelling.runs import FAST, ONE_WORKER, command, make_pairs, without_times


def test_concurrent_runs_into_different_folders_do_not_conflict(tmp_path):
    """Such as by using the same ports."""
    make_pairs(tmp_path, 1, labels=False)
    other = [sys.executable, "-m", "fourierreg", *command(tmp_path), "-o", str(tmp_path / "other")]
    process = subprocess.Popen(other)
    assert main(command(tmp_path)) == 0
    assert process.wait(timeout=120) == 0
    first, second = (read_table(tmp_path / name) for name in ("out", "other"))
    assert without_times(first) == without_times(second)


def test_a_folder_in_use_by_another_run_is_refused(tmp_path):
    task = {"settings": {}}
    with LabelFolder(tmp_path / "out", task):
        assert main(["label", *arguments_with_a_minimal_manifest(tmp_path)]) == 2
    with LabelFolder(tmp_path / "out", task):  # the lock was released
        pass


def arguments_with_a_minimal_manifest(folder):
    (folder / "pairs.csv").write_text("source,target\na.nii,b.nii\n")
    return [str(folder / "pairs.csv"), "-o", str(folder / "out")]


def test_a_full_disk_keeps_finished_rows_and_the_next_run_completes(tmp_path, monkeypatch, capsys):
    """The error is one line."""
    make_pairs(tmp_path, 3, labels=False)
    atomic_write, written = label_folder.atomic_write, []

    def full(path, mode="w"):
        written.append(path)
        if len(written) > 2:  # the header and one row
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return atomic_write(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(label_folder, "atomic_write", full)
        assert main(command(tmp_path, *ONE_WORKER)) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and len(error.strip().splitlines()) == 1
    rows = list((tmp_path / "out" / "rows").glob("*"))
    assert len(rows) == 1 and json.loads(rows[0].read_text())["state"] == "done"
    assert main(command(tmp_path)) == 0
    assert len(read_table(tmp_path / "out")) == 3


def test_a_killed_run_resumes(tmp_path):
    """No pair is estimated twice, missing or duplicated, and α equals that of a full run."""
    pairs = make_pairs(tmp_path, 3)
    process = subprocess.Popen(
        [sys.executable, "-m", "fourierreg", *command(tmp_path, *ONE_WORKER)]
    )
    folder = tmp_path / "out" / "rows"
    wait_for(lambda: complete_rows(folder), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in complete_rows(folder)}
    (folder / ".part-partial.json").write_text("{")  # a partially written row
    assert 1 <= len(kept) < 3
    assert main(command(tmp_path, *ONE_WORKER)) == 0
    assert all((folder / name).stat().st_mtime_ns == when for name, when in kept.items())
    table = read_table(tmp_path / "out")
    assert [(r["source"], r["target"]) for r in table] == [p[:2] for p in pairs]
    fourierreg.label_pairs(pairs, tmp_path / "whole", workers=1, **FAST)
    assert without_times(table) == without_times(read_table(tmp_path / "whole"))
    assert not list(folder.glob(".part*"))


def complete_rows(folder):
    """Row files without those being written, whose names are hidden but match pathlib's `*`."""
    return list(folder.glob("[!.]*.json")) if folder.exists() else []


def wait_for(condition, process=None, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, (
            "the process ended before it could be killed"
        )
        assert time.monotonic() < end, "timeout"
        time.sleep(0.02)


def test_a_killed_worker_is_replaced(tmp_path):
    """Its pair is estimated by the new worker."""
    make_pairs(tmp_path, 3, labels=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "fourierreg", *command(tmp_path, *ONE_WORKER)]
    )
    folder = tmp_path / "out" / "rows"
    wait_for(lambda: complete_rows(folder), process)
    (worker,) = [pid for pid in descendants(process.pid) if is_worker(pid)]
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert [row["state"] for row in read_table(tmp_path / "out")] == ["done"] * 3


def descendants(pid):
    """Process ids of all descendants of a process."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    return [int(p) for p in found] + [d for p in found for d in descendants(int(p))]


def is_worker(pid):
    """Whether a process is a Dask worker, not the resource tracker of multiprocessing."""
    with open(f"/proc/{pid}/cmdline") as file:
        return "spawn_main" in file.read()


def test_a_running_scheduler_is_used_by_its_address(tmp_path):
    """With a scheduler and two workers in separate processes."""
    make_pairs(tmp_path, 2, labels=False)
    address_file = tmp_path / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen([*start, *options, "--scheduler-file", str(address_file)], **quiet)
    ]
    try:
        wait_for(address_file.exists, processes[0])
        time.sleep(0.2)
        address = json.loads(address_file.read_text())["address"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
        more = ["--no-dashboard", "--local-directory", str(tmp_path / "scratch"), "--no-nanny"]
        processes += [subprocess.Popen([*worker, *more], **quiet) for _ in range(2)]
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        assert main(command(tmp_path, "--scheduler", address)) == 0
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
    assert [row["state"] for row in read_table(tmp_path / "out")] == ["done"] * 2


def test_an_unreachable_scheduler_is_refused(tmp_path, capsys, monkeypatch):
    make_pairs(tmp_path, 1, labels=False)
    monkeypatch.setattr("fourierreg.data.cluster.CONNECT_SECONDS", 1)
    assert main(command(tmp_path, "--scheduler", "tcp://127.0.0.1:9")) == 2
    assert "no Dask scheduler answers" in capsys.readouterr().err

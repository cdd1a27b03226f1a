"""Label runs: results, resumption after interruptions, and handling of every kind of failure."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.data.manifest import Pair, read_pairs, write_pairs
from fourierreg.errors import InputError
from fourierreg.labelling import folder as label_folder
from fourierreg.labelling import run as label_run
from fourierreg.labelling.folder import LabelFolder, pair_key, read_table
from fourierreg.labelling.worker import label_batch
from tests.brains import write_pair

FAST = {"modes": 6, "num_steps": 3, "size": 24}
FAST_OPTIONS = ["--modes", "6", "--num-steps", "3", "--size", "24", "--quiet"]
ONE_WORKER = ("--workers", "1")


def make_pairs(folder, count=3, labels=True):
    """Write the images of pairs of small heads and their manifest."""
    pairs = []
    for i in range(count):
        home = folder / f"p{i}"
        home.mkdir(parents=True)
        source, target = write_pair(home, same_grid=i % 2 == 0)
        maps = [str(home / f"{n}_labels.nii.gz") for n in ("source", "target")]
        pairs.append(Pair(str(source), str(target), *(maps if labels else ("", ""))))
    write_pairs(folder / "pairs.csv", pairs)
    return pairs


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "finished")} for row in rows]


def command(folder, *options):
    return ["label", str(folder / "pairs.csv"), "-o", str(folder / "out"), *FAST_OPTIONS, *options]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a run of two workers over three pairs; the pairs; the rows."""
    folder = tmp_path_factory.mktemp("labels")
    pairs = make_pairs(folder)
    calls = []
    rows = fourierreg.label_pairs(
        folder / "pairs.csv",
        folder / "out",
        workers=2,
        save_registrations=True,
        callback=lambda *call: calls.append(call[:2]),
        **FAST,
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    return folder, pairs, rows


def test_a_row_has_alpha_its_interval_quality_measures_and_provenance(finished):
    _, pairs, rows = finished
    for pair, row in zip(pairs, rows, strict=True):
        assert (row["source"], row["target"]) == pair[:2] and row["state"] == "done"
        assert row["alpha_low"] < row["alpha"] < row["alpha_high"]
        assert max(map(int, row["shape"].split("x"))) == 24
        assert row["velocity_scale_mm"] > 0 and row["reference_length_mm"] > 0
        assert row["sigma"] > 0 and row["decimation"] > 0 and row["folds"] == 0
        assert row["dice"] > row["dice_before"] and row["dice_600"] > 0
        assert len(row["source_sha256"]) == 64 and row["inverse_consistency_mm"] < 0.5


def test_the_table_has_the_rows_and_is_a_manifest(finished):
    folder, pairs, rows = finished
    table = read_table(folder / "out")
    assert [float(t["alpha"]) for t in table] == [r["alpha"] for r in rows]
    assert read_pairs(folder / "out" / "labels.csv") == pairs


def test_a_worker_gives_the_alpha_of_a_direct_call(finished):
    _, pairs, rows = finished
    task = {"size": 24, "structures": None, "backend": "numpy", "settings": {}}
    task["settings"] = {k: v for k, v in FAST.items() if k != "size"}
    row = label_batch([pairs[0]], task, [["a", "b", "c", "d"]], [None])[0]
    assert row["alpha"] == pytest.approx(rows[0]["alpha"], rel=1e-3)


def test_a_batch_saves_its_finished_pairs_if_one_fails(finished, tmp_path):
    _, pairs, rows = finished
    broken = pairs[1]._replace(target=str(tmp_path / "missing.nii.gz"), target_labels="")
    broken = broken._replace(source_labels="")
    calls = []
    found = fourierreg.label_pairs(
        [pairs[0], broken, pairs[2]],
        tmp_path / "out",
        workers=1,
        batch=2,
        save_registrations=True,
        callback=lambda *call: calls.append(call[:2]),
        **FAST,
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [row["batch"] for row in found] == [2, 2, 2]
    assert found[1]["state"] == "failed" and "missing" in found[1]["status"]
    same = {key: found[2][key] for key in ("seconds", "finished", "batch")}
    assert found[2] == rows[2] | same  # alone in its job
    low, high = rows[0]["alpha_low"], rows[0]["alpha_high"]
    assert low < found[0]["alpha"] < high and found[0]["dice"] > found[0]["dice_before"]
    kept = LabelFolder(tmp_path / "out", {}).registration_folder(pairs[0]) / "velocity.npz"
    assert fourierreg.Registration.load(kept).alpha == found[0]["alpha"]


def job_of(pairs, backend, **more):
    task = {"size": 24, "structures": None, "backend": backend}
    task["settings"] = {key: value for key, value in FAST.items() if key != "size"}
    digests = [["a", "b"] if not pair.source_labels else list("abcd") for pair in pairs]
    return {"pairs": pairs, "task": task, "digests": digests, "folders": [None] * len(pairs)} | more


def test_a_job_on_a_device_reports_every_pair_when_it_is_done(finished, tmp_path):
    """Pairs are read and finished beside the device's work; one that cannot be read fails alone."""
    _, pairs, rows = finished
    broken = Pair(str(tmp_path / "missing.nii.gz"), pairs[0].target, "", "")
    said = []
    with fourierreg.use_backend("numpy"):
        found = label_batch(**job_of([broken, *pairs], "mock", batch=2, report=said.append))
    assert sorted(place for place, _ in said) == [0, 1, 2, 3]
    assert all(found[place] == row for place, row in said)
    assert found[0]["state"] == "failed" and "no file" in found[0]["status"]
    for row, expected in zip(found[1:], rows, strict=True):
        assert row["backend"] == "mock" and row["dice"] == pytest.approx(expected["dice"], abs=0.01)
        assert row["alpha"] == pytest.approx(expected["alpha"], rel=0.1)


def test_a_job_that_moved_to_another_worker_keeps_what_is_done(finished):
    folder, pairs, rows = finished
    files = [str(LabelFolder(folder / "out", {}).row_path(pair)) for pair in pairs]
    said = []
    found = label_batch(**job_of(pairs, "numpy", rows=[*files[:2], None], report=said.append))
    assert found[:2] == rows[:2] and [place for place, _ in said] == [2]


def test_rows_are_kept_while_a_job_goes_on_and_after_it_fails(finished, tmp_path, monkeypatch):
    _, pairs, rows = finished

    def fails(function, jobs, reported):
        for place in (0, 0, 1):  # a job that moved repeats itself
            reported(0, (place, rows[place]))
        yield 0, RuntimeError("the worker died")

    kept = []
    job = (pairs, {}, [["a", "b", "c", "d"]] * 3)
    label_run._run_jobs(fails, [job], lambda pair, row: kept.append((pair, row["state"])))
    assert kept == list(zip(pairs, ["done", "done", "failed"], strict=True))


def test_jobs_on_gpus_share_the_pairs(monkeypatch):
    monkeypatch.setattr(label_run, "num_gpus", lambda: 3)
    assert label_run._job_length(100, None, None) == 34
    assert label_run._job_length(100, 2, None) == 50
    assert label_run._job_length(10_000, 2, None) == label_run.MAX_JOB
    assert label_run._job_length(200, None, "tcp://host:1") == label_run.SCHEDULED_JOB
    assert label_run._job_length(0, 2, None) == 1


def test_a_batch_size_of_zero_and_an_unknown_backend_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batch: expected an integer of at least 1; got 0"):
        fourierreg.label_pairs(make_pairs(tmp_path, 1), tmp_path / "out", batch=0)
    with pytest.raises(ValueError, match="backend: expected one of 'numpy', 'cupy'; got 'torch'"):
        fourierreg.label_pairs(tmp_path / "pairs.csv", tmp_path / "out", backend="torch")
    assert not (tmp_path / "out").exists()


def test_a_saved_registration_can_be_applied_and_evaluated(finished, capsys):
    folder, pairs, rows = finished
    run = folder / "out" / "registrations" / pair_key(pairs[1])
    deformed = str(folder / "deformed.nii.gz")
    assert main(["apply", str(run), pairs[1].source, "-o", deformed, "--quiet"]) == 0
    labels = [
        f"--source-labels={pairs[1].source_labels}",
        f"--target-labels={pairs[1].target_labels}",
    ]
    assert main(["evaluate", str(run), *labels, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["alpha"] == rows[1]["alpha"]
    assert report["dice"]["mean"] == [rows[1]["dice_before"], rows[1]["dice"]]


def test_evaluate_summarizes_a_label_run(finished, capsys):
    folder, _, rows = finished
    assert main(["evaluate", str(folder / "out")]) == 0
    assert "Dice" in capsys.readouterr().out
    assert main(["evaluate", str(folder / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == 3 and report["failed"] == 0 and report["folds"] == 0
    assert report["alpha_median"] == sorted(r["alpha"] for r in rows)[1]


def test_relative_paths_are_resolved_against_the_current_directory(tmp_path, monkeypatch):
    """The table of the run is a manifest that can be read from any directory."""
    (pair,) = make_pairs(tmp_path, 1, labels=False)
    monkeypatch.chdir(tmp_path)
    relative = pair._replace(source="p0/source.nii.gz", target="p0/target.nii.gz")
    fourierreg.label_pairs([relative], tmp_path / "out", workers=1, **FAST)
    monkeypatch.chdir("/")
    (found,) = read_pairs(tmp_path / "out" / label_folder.TABLE)
    assert found[:2] == pair[:2]


def test_a_second_run_estimates_nothing(finished, monkeypatch):
    folder, _, rows = finished
    monkeypatch.setattr(label_run, "label_batch", None)
    again = fourierreg.label_pairs(folder / "pairs.csv", folder / "out", **FAST)
    assert again == rows


@pytest.mark.parametrize(
    ("setting", "name"),
    [({"modes": 8}, "modes"), ({"size": 30}, "size"), ({"sigma": 0.1}, "sigma")],
)
def test_other_settings_are_refused(finished, setting, name):
    folder, _, rows = finished
    with pytest.raises(InputError, match=f"other values of {name}"):
        fourierreg.label_pairs(folder / "pairs.csv", folder / "out", **{**FAST, **setting})
    assert [float(r["alpha"]) for r in read_table(folder / "out")] == [r["alpha"] for r in rows]


def test_changed_inputs_are_refused(tmp_path):
    pairs = make_pairs(tmp_path, 1, labels=False)
    fourierreg.label_pairs(pairs, tmp_path / "out", **FAST)
    (tmp_path / "p0" / "source.nii.gz").write_bytes(
        (tmp_path / "p0" / "target.nii.gz").read_bytes()
    )
    with pytest.raises(InputError, match=r"labeled from other inputs \(source_sha256"):
        fourierreg.label_pairs(pairs, tmp_path / "out", **FAST)


def test_unknown_settings_are_refused(tmp_path):
    pairs = [Pair("a", "b")]
    with pytest.raises(InputError, match=r"^mode: not a setting"):
        fourierreg.label_pairs(pairs, tmp_path / "out", mode=3)
    with pytest.raises(ValueError, match=r"^size: expected"):
        fourierreg.label_pairs(pairs, tmp_path / "out", size=-3)
    assert not (tmp_path / "out").exists()


def test_a_corrupt_image_fails_only_its_own_pairs(tmp_path, capsys):
    pairs = make_pairs(tmp_path, 2, labels=False)
    source = tmp_path / "p0" / "source.nii.gz"
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    assert main(command(tmp_path)[:-1]) == 1
    output = capsys.readouterr()
    assert "failed: " in output.err and "1 of 2 pairs" in output.out
    bad, good = read_table(tmp_path / "out")
    assert bad["state"] == "failed" and "truncated" in bad["status"] and not bad["alpha"]
    assert good["state"] == "done"
    source.write_bytes(whole)
    assert main(command(tmp_path)) == 1  # failed pairs are not retried by default
    output = capsys.readouterr()
    assert "failed: " in output.err and not output.out
    assert main(command(tmp_path, "--retry-failed")) == 0
    retried, unchanged = read_table(tmp_path / "out")
    assert retried["state"] == "done" and unchanged == {**retried, **good}
    assert pair_key(pairs[0]) != pair_key(pairs[1])


def test_a_missing_image_gives_a_failed_row(tmp_path):
    pairs = make_pairs(tmp_path, 1, labels=False)
    os.unlink(pairs[0].target)
    (row,) = fourierreg.label_pairs(pairs, tmp_path / "out", workers=1, **FAST)
    assert row["state"] == "failed" and "no file" in row["status"]


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


def test_labels_may_be_those_of_held_out_voxels(tmp_path):
    """In the model of `map_alpha`'s default quality; warnings are counted."""
    make_pairs(tmp_path, 1, labels=False)
    options = ["--posterior", "predictive", "--size", "24", "--workers", "1", "--quiet"]
    out = tmp_path / "out"
    assert main(["label", str(tmp_path / "pairs.csv"), "-o", str(out), *options]) == 0
    row = read_table(out)[0]
    assert row["state"] == "done" and float(row["power"]) == 1.5 and row["sigma"] == ""
    assert int(row["warnings"]) >= 0

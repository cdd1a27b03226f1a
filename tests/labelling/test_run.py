"""Label runs: results, settings, and pairs that fail."""

import json
import os

import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.data.manifest import Pair, read_pairs
from fourierreg.errors import InputError
from fourierreg.labelling import folder as label_folder
from fourierreg.labelling import run as label_run
from fourierreg.labelling.folder import LabelFolder, pair_key, read_table
from fourierreg.labelling.worker import label_batch
from tests.labelling.runs import FAST, command, make_pairs


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


def test_labels_may_be_those_of_held_out_voxels(tmp_path):
    """In the model of `map_alpha`'s default quality; warnings are counted."""
    make_pairs(tmp_path, 1, labels=False)
    options = ["--posterior", "predictive", "--size", "24", "--workers", "1", "--quiet"]
    out = tmp_path / "out"
    assert main(["label", str(tmp_path / "pairs.csv"), "-o", str(out), *options]) == 0
    row = read_table(out)[0]
    assert row["state"] == "done" and float(row["power"]) == 1.5 and row["sigma"] == ""
    assert int(row["warnings"]) >= 0

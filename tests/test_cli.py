"""The command line: what it leaves, and one clear line with exit code 2 for bad input."""

import contextlib
import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.registration.quality import QUALITIES
from tests.brains import head, oblique_affine, write_pair

FAST = ["--modes", "6", "--num-steps", "4", "--quiet"]
FILES = {
    "deformed.nii.gz",
    "1Warp.nii.gz",
    "1InverseWarp.nii.gz",
    "jacobian.nii.gz",
    "velocity.npz",
    "figure.png",
    "result.json",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One finished `map-alpha` with labels, on grids that differ."""
    folder = tmp_path_factory.mktemp("pair")
    source, target = write_pair(folder, same_grid=False)
    labels = [f"--{n}-labels={folder / n}_labels.nii.gz" for n in ("source", "target")]
    code = main(["map-alpha", str(source), str(target), "-o", str(folder / "run"), *labels, *FAST])
    assert code in (0, 1)
    return folder


def test_folder_is_complete(run):
    assert {p.name for p in (run / "run").iterdir()} == FILES


def test_result_says_everything(run):
    report = json.loads((run / "run" / "result.json").read_text())
    assert report["inputs"]["source"]["sha256"] and report["inputs"]["source"]["divided_by"] > 1
    assert report["alpha"] > 0 and report["status"]
    assert report["parameters"]["modes"] == 6 and report["backend"] == "numpy"
    assert report["dice"]["mean_after"] > report["dice"]["mean_before"]
    assert set(report["dice"]["after"]) == {"300", "600", "900"}
    assert report["jacobian"]["folds"] == 0


def test_a_run_is_repeated_from_its_result(run, tmp_path):
    """From the command line by its arguments, from Python by its parameters."""
    report = json.loads((run / "run" / "result.json").read_text())
    arguments = report["arguments"]
    arguments[arguments.index("-o") + 1] = str(tmp_path / "again")
    assert main(arguments) in (0, 1)
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["alpha"] == pytest.approx(report["alpha"], rel=1e-6)
    images = [nib.load(report["inputs"][name]["path"]) for name in ("source", "target")]
    result = fourierreg.map_alpha(*images, **report["parameters"])
    assert result.alpha == pytest.approx(report["alpha"], rel=1e-6)


def test_apply_repeats_deformed(run):
    """`apply` on the source gives `deformed.nii.gz`, up to the intensity factor."""
    out = run / "moved.nii.gz"
    assert main(["apply", str(run / "run"), str(run / "source.nii.gz"), "-o", str(out)]) == 0
    report = json.loads((run / "run" / "result.json").read_text())
    moved = nib.load(out).get_fdata() / report["inputs"]["source"]["divided_by"]
    deformed = nib.load(run / "run" / "deformed.nii.gz").get_fdata()
    np.testing.assert_allclose(moved, deformed, atol=1e-4)


def test_apply_keeps_labels_whole(run):
    """Labels keep their dtype and values above 255, forwards and backwards."""
    for extra in ([], ["--inverse"]):
        out = run / "labels.nii.gz"
        name = "target" if extra else "source"
        image = str(run / f"{name}_labels.nii.gz")
        command = ["apply", str(run / "run"), image, "-o", str(out), "--labels", *extra]
        assert main(command) == 0
        labels = np.asanyarray(nib.load(out).dataobj)
        assert labels.dtype == np.uint16 and set(np.unique(labels)) == {0, 300, 600, 900}


def test_register_prints_json(tmp_path, capsys):
    source, target = write_pair(tmp_path)
    command = ["register", str(source), str(target), "--alpha", "2", "-o", str(tmp_path / "out")]
    code = main([*command, "--json", *FAST])
    report = json.loads(capsys.readouterr().out)
    assert code in (0, 1) and report["alpha"] == 2.0 and report["alpha_interval_95"] is None


def spoil(folder, kind):
    """Replace the source by something bad."""
    path = folder / "source.nii.gz"
    shape, affine = (30, 36, 24), oblique_affine((1.5, 1.2, 2.0))
    data = head(shape, (1.5, 1.2, 2.0))
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text":
        path.write_text("these are no voxels\n")
    elif kind == "zipped text":
        path.write_bytes(gzip.compress(b"these are no voxels\n" * 50))
    elif kind == "4-D":
        nib.save(nib.Nifti1Image(np.stack([data, data], -1), affine), path)
    elif kind == "RGB":
        rgb = np.zeros(shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, affine), path)
    elif kind == "NaN":
        nib.save(nib.Nifti1Image(np.where(data > 400, np.nan, data), affine), path)
    elif kind == "Inf":
        nib.save(nib.Nifti1Image(np.where(data > 400, np.inf, data), affine), path)
    elif kind == "constant":
        nib.save(nib.Nifti1Image(np.ones(shape, np.float32), affine), path)
    elif kind == "labels":
        path.write_bytes((folder / "source_labels.nii.gz").read_bytes())
    elif kind == "singular":
        image = nib.Nifti1Image(data, None)
        image.header["sform_code"], image.header["qform_code"] = 1, 0
        image.header["srow_x"] = image.header["srow_y"] = (1, 0, 0, 0)
        image.header["srow_z"] = (0, 0, 1, 0)
        image.to_filename(path)
    elif kind == "elsewhere":
        away = affine.copy()
        away[:3, 3] += 1000
        nib.save(nib.Nifti1Image(data, away), path)


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "truncated",
        "text",
        "zipped text",
        "4-D",
        "RGB",
        "NaN",
        "Inf",
        "constant",
        "labels",
        "singular",
        "elsewhere",
    ],
)
def test_bad_file_is_one_line(kind, tmp_path, capsys):
    source, target = write_pair(tmp_path)
    spoil(tmp_path, kind)
    code = main(["map-alpha", str(source), str(target), "-o", str(tmp_path / "out"), *FAST])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and "source" in said.lower()
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--sigma", "0"], "sigma"),
        (["--sigma", "-1"], "sigma"),
        (["--alpha0", "0"], "alpha"),
        (["--modes", "64"], "modes"),
        (["--backend", "abacus"], "backend"),
        (["--velocity-scale", "0"], "velocity-scale"),
        (["--source-labels", "x.nii"], "labels"),
        (["--mask", "absent.nii"], "mask"),
    ],
)
def test_bad_argument_is_one_line(arguments, word, tmp_path, capsys):
    source, target = write_pair(tmp_path)
    command = ["map-alpha", str(source), str(target), "-o", str(tmp_path / "out"), *FAST]
    assert main(command + arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and word in said


def test_unknown_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["map-alpha", "a.nii", "b.nii", "-o", "c", "--alpah0", "3"])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and "--alpah0" in said


def test_output_that_is_a_file(tmp_path, capsys):
    source, target = write_pair(tmp_path)
    (tmp_path / "out").write_text("taken")
    assert main(["map-alpha", str(source), str(target), "-o", str(tmp_path / "out"), *FAST]) == 2
    assert "--output" in capsys.readouterr().err


def test_full_disk_leaves_nothing_half_written(run, tmp_path, capsys, monkeypatch):
    """The disk fills up while the third file is written: a line, and only whole files."""
    from fourierreg.results import folder as output

    source, target = write_pair(tmp_path)
    written = []

    def full(image, path):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        nib.save(image, path)

    monkeypatch.setattr(output, "save_nifti", full)
    command = ["register", str(source), str(target), "--alpha", "3", "-o", str(tmp_path / "out")]
    assert main(command + FAST) == 2
    assert "disk is full" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in written}


def test_a_second_run_leaves_nothing_of_the_first(run, tmp_path, monkeypatch):
    """Killed half way, it has no result, and no file of other options."""
    from fourierreg.results import folder as output

    source, target = write_pair(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("result.json", "uncertainty.nii.gz", "writable"):
        (out / name).write_text("old")

    def stopped(image, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "save_nifti", stopped)
    command = ["register", str(source), str(target), "--alpha", "3", "-o", str(out), *FAST]
    assert main(command) == 130
    assert {p.name for p in out.iterdir()} == {"writable"}  # which is none of ours


def test_a_mask_on_another_grid_is_refused(tmp_path, capsys):
    """The same shape does not do where the affine differs."""
    source, target = write_pair(tmp_path)
    image = nib.load(target)
    affine = image.affine @ np.diag([-1, 1, 1, 1])
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image((image.get_fdata() > 0).astype(np.uint8), affine), mask)
    command = ["register", str(source), str(target), "--alpha", "3", "-o", str(tmp_path / "out")]
    assert main([*command, *FAST, "--mask", str(mask)]) == 2
    assert "--mask: " in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_label_of_one_image_alone(tmp_path, capsys):
    """It has no Dice; the run has its result all the same, in valid JSON."""
    source, target = write_pair(tmp_path)
    path = tmp_path / "source_labels.nii.gz"
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).copy()
    data[0, 0, 0] = 77  # in a corner: it may not survive
    nib.save(nib.Nifti1Image(data, image.affine), path)
    labels = [f"--{n}-labels={tmp_path / n}_labels.nii.gz" for n in ("source", "target")]
    out = str(tmp_path / "out")
    command = ["register", str(source), str(target), "--alpha", "3", "-o", out, *labels, *FAST]
    assert main(command) == 0
    text = (tmp_path / "out" / "result.json").read_text()
    assert json.loads(text)["dice"]["mean_after"] > 0
    assert main(["evaluate", out, *labels, "--json"]) == 0

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    json.loads(capsys.readouterr().out, parse_constant=refuse)


@pytest.mark.parametrize("command", ["apply", "evaluate", "prepare", "pairs", "simulate"])
def test_no_backend_where_none_is_used(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and "--backend" not in capsys.readouterr().out


def test_errors_name_the_option_not_the_keyword(tmp_path, capsys):
    assert main(["pairs", str(tmp_path / "none"), "-o", str(tmp_path / "p.csv")]) == 2
    assert capsys.readouterr().err.startswith("fourierreg pairs: FOLDER: no folder")
    assert main(["label", str(tmp_path / "none.csv"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("fourierreg label: PAIRS: no file")
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("fourierreg evaluate: DIR: no velocity.npz")


def test_a_full_disk_wherever_it_is_met(tmp_path, capsys, monkeypatch):
    """Also in commands that write through nibabel: one line, and only whole files."""
    from fourierreg.preparation import files as preparing

    source, _ = write_pair(tmp_path)

    def full(image, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparing.nib, "save", full)
    how = ["--no-n4", "--no-affine", "--size", "24", "--template", str(source)]
    assert main(["prepare", str(source), "-o", str(tmp_path / "out"), *how, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "the disk is full" in error and len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "out").iterdir())


def test_uncertainty_is_written_on_request(tmp_path):
    source, target = write_pair(tmp_path)
    out = tmp_path / "out"
    command = ["register", str(source), str(target), "--alpha", "3", "-o", str(out), *FAST]
    assert main([*command, "--uncertainty"]) in (0, 1)
    assert {p.name for p in out.iterdir()} == FILES | {"uncertainty.nii.gz"}
    image = nib.load(out / "uncertainty.nii.gz")
    assert image.shape == (*nib.load(target).shape, 3)
    np.testing.assert_allclose(image.affine, nib.load(target).affine)
    deviation = fourierreg.Registration.load(out / "velocity.npz").displacement_sd
    np.testing.assert_array_equal(np.moveaxis(image.get_fdata(dtype=np.float32), -1, 0), deviation)
    assert deviation.min() > 0


def test_register_by_another_similarity(tmp_path, capsys):
    source, target = write_pair(tmp_path)
    command = ["register", str(source), str(target), "--alpha", "3", "-o", str(tmp_path / "out")]
    chosen = ["--similarity", "ncc", "--weight", "0.5", "--dynamics", "stationary"]
    assert main([*command, *FAST, *chosen]) in (0, 1)
    report = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (report["similarity"], report["weight"]) == ("ncc", pytest.approx(0.5))
    assert (report["dynamics"], report["sigma"]) == ("stationary", None)
    capsys.readouterr()
    assert main([*command, *FAST, "--similarity", "mi", "--sigma", "0.1"]) == 2
    assert capsys.readouterr().err.startswith("fourierreg register: --sigma: expected 'estimate'")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(number, tmp_path):
    """A run stopped in the middle ends with 130, one line, and nothing left behind."""
    source, target = write_pair(tmp_path, shape=(60, 64, 56), spacing=(0.8, 0.8, 0.8))
    out = tmp_path / "out"
    program = "import sys; from fourierreg.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "map-alpha", str(source), str(target), "-o", str(out)]
    process = subprocess.Popen(
        [*command, "--sigma", "0.01", "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    while not out.exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert said.count("\n") == 1 and not out.exists()


def test_a_refused_run_leaves_no_folder(run, tmp_path, capsys):
    images = [str(run / f"{name}.nii.gz") for name in ("source", "target")]
    kept = tmp_path / "kept"
    kept.mkdir()
    for out in (tmp_path / "new", kept):
        assert main(["map-alpha", *images, "-o", str(out), "--sigma", "loud"]) == 2
        assert "--sigma: expected a number above 0, 'estimate'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and kept.exists()


def test_labels_warped_as_an_image_are_refused_with_the_remedy(run, tmp_path, capsys):
    labels, out = str(run / "source_labels.nii.gz"), tmp_path / "moved.nii.gz"
    assert main(["apply", str(run / "run"), labels, "-o", str(out)]) == 2
    assert "add --labels, which keeps them" in capsys.readouterr().err
    assert main(["apply", str(run / "run"), labels, "-o", str(out), "--labels"]) == 0
    assert capsys.readouterr().out == f"written to {out}\n"


@pytest.mark.parametrize("bar", ["Progress", "Count"])
def test_an_interrupt_that_is_swallowed_stops_the_next_iteration(bar):
    """Callbacks of compiled code lose exceptions; the signal is not lost with them."""
    from types import SimpleNamespace

    from fourierreg.cli import common

    options = SimpleNamespace(quiet=True, json=False)
    record = SimpleNamespace(shape=(2, 2), alpha=1.0, prior=0.0, likelihood=0.0)
    arguments = ("doing", options) if bar == "Progress" else ("doing", "pairs", options)
    call = (record,) if bar == "Progress" else (1, 2)
    common.forget_interruptions()
    with getattr(common, bar)(*arguments) as progress:
        progress(*call)
        with contextlib.suppress(KeyboardInterrupt):
            common.interrupt(signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt):
            progress(*call)
    common.forget_interruptions()


def test_a_bug_keeps_its_traceback_and_asks_for_a_report(tmp_path, capsys, monkeypatch):
    module = importlib.import_module("fourierreg.registration.register")  # not the function

    def broken(*arguments, **keywords):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(module, "read_inputs", broken)
    source, target = write_pair(tmp_path)
    assert main(["register", str(source), str(target), "-o", str(tmp_path / "out"), *FAST]) == 3
    said = capsys.readouterr().err
    assert "Traceback" in said and "broadcast" in said
    assert "this is a bug (ValueError); please report it" in said.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_memory_that_runs_out_is_one_line(tmp_path, capsys, monkeypatch):
    module = importlib.import_module("fourierreg.registration.register")  # not the function

    def full(*arguments, **keywords):
        raise MemoryError("8 GB")

    monkeypatch.setattr(module, "read_inputs", full)
    source, target = write_pair(tmp_path)
    assert main(["register", str(source), str(target), "-o", str(tmp_path / "out"), *FAST]) == 2
    assert capsys.readouterr().err.startswith("fourierreg register: out of memory (8 GB)")


def test_register_takes_the_default_alpha_of_the_function(tmp_path):
    source, target = write_pair(tmp_path)
    assert main(["register", str(source), str(target), "-o", str(tmp_path / "out"), *FAST]) in (
        0,
        1,
    )
    report = json.loads((tmp_path / "out" / "result.json").read_text())
    images = [nib.load(path) for path in (source, target)]
    expected = fourierreg.register(*images, modes=6, num_steps=4, quality="default")
    assert report["parameters"]["quality"] == "default"
    assert report["alpha"] == expected.alpha == QUALITIES["default"].alpha


def test_every_field_of_the_model_has_an_option(tmp_path):
    from dataclasses import fields

    from fourierreg.cli.options import OPTIONS

    options = {name.removeprefix("--").replace("-", "_") for name in OPTIONS}
    assert {f.name for f in fields(fourierreg.Model)} - options == {"space"}  # a baseline
    source, target = write_pair(tmp_path)
    given = ["--power", "2", "--integrator", "rk4", "--velocity-scale", "2", "--evidence"]
    out = tmp_path / "out"
    assert main(["register", str(source), str(target), "-o", str(out), *FAST, *given]) in (0, 1)
    model = fourierreg.Registration.load(out / "velocity.npz").model
    assert (model.power, model.integrator, model.velocity_scale) == (2, "rk4", 2.0)
    report = json.loads((out / "result.json").read_text())
    assert np.isfinite(report["log_evidence"])
    again = fourierreg.register(*(nib.load(p) for p in (source, target)), **report["parameters"])
    assert again.model == model and again.alpha == report["alpha"]

"""`fourierreg predict`."""

import csv
import json

import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.data.manifest import Pair, write_pairs
from tests.learning.data import heads, write_heads


def test_one_pair_is_printed_or_refined_into_a_folder(brain_model, tmp_path, capsys):
    source, target = map(str, write_heads(tmp_path / "in"))
    assert main(["predict", source, target, "--model", str(brain_model)]) == 0
    assert "α " in capsys.readouterr().out
    assert main(["predict", source, target, "--model", str(brain_model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alpha"] > 0
    alone = ["--model", str(brain_model), "-o", str(tmp_path / "alone"), "--quiet"]
    assert main(["predict", source, target, *alone]) == 0
    written = json.loads((tmp_path / "alone" / "result.json").read_text())
    low, high = written["alpha_interval_95"]
    assert low < written["alpha"] < high and written["inputs"]["source"]["path"] == source
    out = tmp_path / "run"
    options = ["--model", str(brain_model), "--refine", "-o", str(out), "--quiet"]
    assert main(["predict", source, target, *options]) in (0, 1)
    report = json.loads((out / "result.json").read_text())
    assert report["model"] == "small.keras" and isinstance(report["accepted"], bool)
    assert (out / "1Warp.nii.gz").is_file()
    # A prediction alone does not stand beside the registration of another run.
    again = ["predict", source, target, "--model", str(brain_model), "-o", str(out), "--quiet"]
    assert main(again) == 2


def test_a_pair_that_cannot_be_read_has_an_error_in_the_table(brain_model, tmp_path):
    source, target = write_heads(tmp_path / "in")
    pairs = [Pair(str(source), str(target)), Pair(str(target), str(source))]
    write_pairs(tmp_path / "pairs.csv", [*pairs, Pair(str(source), str(tmp_path / "no.nii.gz"))])
    out = tmp_path / "table.csv"
    options = ["--pairs", str(tmp_path / "pairs.csv"), "--model", str(brain_model), "-o", str(out)]
    assert main(["predict", *options, "--quiet"]) == 1
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["alpha"]) for row in rows] == [True, True, False]
    assert "no file" in rows[2]["status"]
    expected = fourierreg.predict_alpha(brain_model, *heads())
    assert float(rows[0]["alpha"]) == pytest.approx(expected.alpha, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["a.nii", "b.nii", "--model", "none"], "model: expected a .keras file of"),
        (["a.nii"], "SOURCE, TARGET, --pairs: expected two images"),
        (["a.nii", "b.nii", "--refine"], "--output: expected a folder"),
        (["--pairs", "p.csv", "--refine", "-o", "x"], "--refine: expected one pair"),
    ],
)
def test_invalid_options_are_refused_in_one_line(options, line, capsys):
    assert main(["predict", *options]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1

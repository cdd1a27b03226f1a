"""HTML reports of a registration and of a label run: contents, and no external resources."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.data.manifest import Pair
from fourierreg.labelling.folder import read_table
from fourierreg.results.folder import load_registration
from fourierreg.results.report import CITATIONS, render_report
from fourierreg.results.report_figures import RegistrationFigures
from tests.brains import write_pair

FAST = ["--modes", "6", "--num-steps", "3", "--quiet"]
PNG = re.compile(r'src="data:image/png;base64,([^"]+)"')
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A registration of images on two oblique grids, in a folder whose name must be escaped."""
    folder = tmp_path_factory.mktemp("a<b>&c")
    source, target = write_pair(folder, same_grid=False)
    labels = [f"--{n}-labels={folder / n}_labels.nii.gz" for n in ("source", "target")]
    out = folder / "run"
    assert main(["map-alpha", str(source), str(target), "-o", str(out), *labels, *FAST]) in (0, 1)
    return folder


class PageChecker(HTMLParser):
    """Checks that tags match; collects the external resources that a browser would load."""

    def __init__(self):
        super().__init__()
        self.open_tags, self.external = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open_tags.append(tag)
        self.external += [v for k, v in attributes if k in ("src", "href") and v[:5] != "data:"]

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag


def pictures_of(text):
    """Pictures of a page, which is checked to be well-formed and self-contained."""
    parser = PageChecker()
    parser.feed(text)
    assert not parser.open_tags and not parser.external and "url(" not in text
    pictures = [base64.b64decode(found) for found in PNG.findall(text)]
    assert all(picture[:8] == b"\x89PNG\r\n\x1a\n" for picture in pictures)
    return pictures


def test_the_report_of_a_registration_has_its_results(run):
    out = run / "page.html"
    assert main(["report", str(run / "run"), "-o", str(out), "--quiet"]) == 0
    text = out.read_text(encoding="utf-8")
    pictures = pictures_of(text)  # two to flicker; images, match, deformation, search, Dice
    assert len(pictures) == 7
    report = json.loads((run / "run" / "result.json").read_text())
    assert "source.nii.gz to target.nii.gz" in text
    assert f"{report['alpha']:.3g}" in text and "95 % interval" in text
    low, high = report["alpha_interval_95"]
    assert f"{low:.3g} to {high:.3g}" in text
    assert f"{report['dice']['mean_after']:.3f} after" in text
    assert "a<b>" not in text and "a&lt;b&gt;&amp;c" in text
    assert all(line.format(version=fourierreg.__version__) in text for line in CITATIONS)


def test_missing_or_changed_input_images_are_not_shown(run, tmp_path):
    copy = shutil.copytree(run / "run", tmp_path / "run")
    path = copy / "result.json"
    report = json.loads(path.read_text())
    assert "so they are not shown" not in render_report(copy)
    for change in ({"path": str(tmp_path / "gone.nii.gz")}, {"sha256": "0" * 64}):
        changed = json.loads(json.dumps(report))
        changed["inputs"]["source"] |= change
        path.write_text(json.dumps(changed))
        text = render_report(copy)
        assert "so they are not shown" in text and len(pictures_of(text)) == 7  # but the residuals


def test_images_and_displacement_are_reoriented_to_canonical_axes(run):
    result = load_registration(run / "run")
    figures = RegistrationFigures(result)
    assert result.geometry.matrix[0, 0] < 0 < figures.canonical.matrix[0, 0]
    np.testing.assert_array_equal(figures.reorient(result.deformed), result.deformed[::-1])
    u = result.displacement[:, ::-1] * np.array([-1, 1, 1]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(figures.reoriented_displacement(), u, atol=1e-4)


def test_the_report_of_a_label_run_has_its_results(tmp_path):
    home = tmp_path / "pair"
    home.mkdir()
    source, target = write_pair(home)
    maps = [f"{home / n}_labels.nii.gz" for n in ("source", "target")]
    pair = Pair(str(source), str(target), *maps)
    fourierreg.label_pairs([pair], tmp_path / "out", size=24, modes=6, num_steps=3, workers=1)
    text = render_report(tmp_path / "out")
    assert len(pictures_of(text)) == 2 and "1 pair in out" in text
    rows = read_table(tmp_path / "out")
    assert f"{float(rows[0]['alpha']):.5g}" in text and "600" in text


def test_alpha_is_shown_beside_that_of_comparable_pairs(run, tmp_path):
    home = tmp_path / "pair"
    home.mkdir()
    source, target = map(str, write_pair(home))
    options = {"size": 24, "modes": 6, "num_steps": 3, "workers": 1}
    fourierreg.label_pairs([Pair(source, target)], tmp_path / "labels", **options)
    before = len(pictures_of(render_report(run / "run")))
    text = render_report(run / "run", beside=tmp_path / "labels")
    assert len(pictures_of(text)) == before + 1
    assert "of 1 pairs have a smaller α" in text and "do not compare" not in text


@pytest.mark.parametrize(
    ("directory", "output", "line"),
    [
        ("nothing", "page.html", "DIR: no velocity.npz"),
        ("run", "page.pdf", "--output: expected a name ending in .html"),
        ("half", "page.html", "DIR: no result.json"),
    ],
)
def test_invalid_input_is_refused_and_nothing_is_written(
    run, tmp_path, capsys, directory, output, line
):
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(run / "run" / "velocity.npz", half)
    where = {"run": run / "run", "half": half}.get(directory, tmp_path / directory)
    assert main(["report", str(where), "-o", str(tmp_path / output)]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / output).exists()


def test_citations_agree_with_the_citation_file():
    root = Path(fourierreg.__file__).parent.parent
    text = (root / "CITATION.cff").read_text()
    title = re.search(r"title: (Deep .*)", text).group(1)
    assert any(title in line for line in CITATIONS)
    assert f"version: {fourierreg.__version__}" in text

"""From a BIDS data set to derivatives, read by their names and by SimpleITK."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from fourierreg.bids.scans import chosen_scans, find_mask
from fourierreg.cli import main
from tests.brains import head, oblique_affine

SHAPE, SPACING = (44, 48, 40), (2.0, 2.0, 2.0)
OPTIONS = ["--space", "Head", "--size", "40", "--quality", "fast", "--quiet"]


def save(data, affine, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two subjects with masks, one of two sessions, and one without a mask; a template."""
    root = tmp_path_factory.mktemp("bids")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-43, -50, -38)
    save(head(SHAPE, SPACING), affine, root / "template.nii.gz")
    for number, name in enumerate(("sub-01_ses-a", "sub-02", "sub-03")):
        subject, *session = name.split("_")
        data = head(SHAPE, SPACING, shift=2.0 + number)
        grid = oblique_affine(SPACING, tilt=0.05)
        center = affine @ [*((np.array(SHAPE) - 1) / 2), 1]
        grid[:3, 3] += (center - grid @ [*((np.array(SHAPE) - 1) / 2), 1])[:3]
        folder = root.joinpath("data", subject, *session, "anat")
        save(data, grid, folder / f"{name}_T1w.nii.gz")
        if number < 2:
            mask = root.joinpath("data", "derivatives", "strip", subject, *session, "anat")
            save((data > 60).astype(np.uint8), grid, mask / f"{name}_desc-brain_mask.nii.gz")
            # A mask in another space is not that of the scan.
            save(np.zeros((2, 2, 2)), grid, mask / f"{name}_space-Head_desc-brain_mask.nii.gz")
    return root


def bids(dataset, level, *options):
    command = ["bids", str(dataset / "data"), str(dataset / "out"), level, *options]
    if level == "participant":
        command += ["--template", str(dataset / "template.nii.gz"), *OPTIONS]
    return main(command)


@pytest.fixture(scope="module")
def output(dataset):
    assert bids(dataset, "participant") == 1  # one has neither a stripped scan nor a mask
    return dataset / "out"


def test_a_scan_with_a_skull_and_no_mask_says_what_to_do(dataset, output, capsys):
    assert bids(dataset, "participant", "--participant-label", "03") == 1
    line = capsys.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert line.startswith("sub-03 failed") and "--masks" in line
    assert not (output / "sub-03").exists()
    # With a mask it is registered, whatever was tried before.
    scan = chosen_scans(dataset / "data", ["03"])[0]
    image = nib.load(scan.image)
    masks = dataset / "masks"
    mask = (image.get_fdata() > 60).astype(np.uint8)
    save(mask, image.affine, masks / "sub-03_desc-brain_mask.nii.gz")
    options = ["--participant-label", "sub-03", "--masks", str(masks)]
    assert bids(dataset, "participant", *options) == 0
    assert (output / "sub-03" / "anat").is_dir()


def test_names_are_those_of_the_standard(output):
    description = json.loads((output / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"]
    folder = output / "sub-01" / "ses-a" / "anat"
    stems = (
        "from-Head_to-T1w_mode-image_xfm.h5",
        "from-T1w_to-Head_mode-image_xfm.h5",
        "space-Head_desc-preproc_T1w.nii.gz",
    )
    for stem in stems:
        path = folder / f"sub-01_ses-a_{stem}"
        assert path.is_file()
        side = json.loads(
            (folder / path.name.replace(".nii.gz", ".json").replace(".h5", ".json")).read_text()
        )
        assert side["Regularization"]["alpha"] > 0


def test_the_transforms_take_the_raw_scan_to_the_template_and_back(dataset, output):
    sitk = pytest.importorskip("SimpleITK")
    folder, stem = output / "sub-02" / "anat", "sub-02"
    scan = sitk.ReadImage(
        str(dataset / "data" / "sub-02" / "anat" / "sub-02_T1w.nii.gz"), sitk.sitkFloat32
    )
    deformed = sitk.ReadImage(
        str(folder / f"{stem}_space-Head_desc-preproc_T1w.nii.gz"), sitk.sitkFloat32
    )
    forward = sitk.ReadTransform(str(folder / f"{stem}_from-T1w_to-Head_mode-image_xfm.h5"))
    backward = sitk.ReadTransform(str(folder / f"{stem}_from-Head_to-T1w_mode-image_xfm.h5"))
    moved = sitk.GetArrayFromImage(sitk.Resample(scan, deformed, forward, sitk.sitkLinear, 0.0))
    expected = sitk.GetArrayFromImage(deformed)
    run = output / "sourcedata" / "fourierreg" / "sub-02"
    path = dataset / "applied.nii.gz"
    command = ["apply", str(run), str(dataset / "data/sub-02/anat/sub-02_T1w.nii.gz"), "--quiet"]
    assert main([*command, "--affine", str(run / "sub-02_T1w_affine.mat"), "-o", str(path)]) == 0
    applied = nib.load(path).get_fdata()
    np.testing.assert_allclose(moved.T, applied, atol=2e-3 * np.abs(applied).max())
    # There and back: points of the brain of the template.
    index = np.argwhere(expected.T > 0.5)[::17]
    gaps = []
    for voxel in index.tolist():
        point = deformed.TransformIndexToPhysicalPoint(voxel)
        there = forward.TransformPoint(point)
        gaps.append(np.subtract(backward.TransformPoint(there), point))
    assert np.sqrt(np.mean(np.square(gaps).sum(axis=1))) < 1.0


def test_a_finished_scan_is_not_registered_again(dataset, output):
    path = output / "sourcedata" / "fourierreg" / "sub-02" / "result.json"
    before = path.stat().st_mtime_ns
    assert bids(dataset, "participant", "--participant-label", "02") == 0
    assert path.stat().st_mtime_ns == before


def test_outcomes_may_be_json(dataset, output, capsys):
    command = ["bids", str(dataset / "data"), str(output)]
    options = ["--template", str(dataset / "template.nii.gz"), *OPTIONS[:-1], "--json"]
    assert main([*command, "participant", *options, "--participant-label", "02"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["scan"] == "sub-02" and outcome["new"] is False
    assert main([*command, "group", "--json", "--participant-label", "02"]) == 0
    assert json.loads(capsys.readouterr().out)["not_registered"] == []


def test_the_group_has_a_table_and_a_page(dataset, output):
    assert bids(dataset, "group", "--participant-label", "01", "02", "--quiet") == 0
    with (output / "group_T1w.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["name"] for row in rows] == ["sub-01_ses-a", "sub-02"]
    assert all(float(row["match"]) > 0.7 and row["folds"] == "0" for row in rows)
    described = json.loads((output / "group_T1w.json").read_text())
    assert set(described) == set(rows[0])
    page = (output / "group_T1w.html").read_text()
    assert "sub-01_ses-a" in page and "order of doubt" in page


def test_images_of_other_programs_below_the_data_set_are_no_scans(dataset):
    derived = dataset / "data" / "derivatives" / "other" / "sub-02" / "anat"
    save(np.ones((4, 4, 4), np.float32), np.eye(4), derived / "sub-02_desc-preproc_T1w.nii.gz")
    scans = chosen_scans(dataset / "data", None)
    assert [scan.subject for scan in scans] == ["01", "02", "03"]
    assert not any("derivatives" in scan.image for scan in scans)


def test_masks_in_other_spaces_are_not_taken(dataset):
    scan = chosen_scans(dataset / "data", ["02"])[0]
    path = find_mask(scan, [dataset / "data" / "derivatives"])
    assert path.name == "sub-02_desc-brain_mask.nii.gz"


@pytest.mark.parametrize(
    ("scan", "masks", "expected"),
    [
        ("sub-1", ["sub-10", "sub-1", "sub-1_ses-2"], "sub-1"),
        ("sub-1_ses-1", ["sub-1_ses-10", "sub-1", "sub-1_ses-1_task-rest"], None),
        ("sub-1_run-2", ["sub-1_run-1", "sub-1", "sub-1_run-2"], "sub-1_run-2"),
        ("sub-1_run-2", ["sub-1_run-1", "sub-1"], "sub-1"),
    ],
)
def test_a_mask_is_that_of_the_scan_or_none(tmp_path, scan, masks, expected):
    folder = tmp_path / "sub-1" / "anat"
    folder.mkdir(parents=True)
    (folder / f"{scan}_T1w.nii.gz").touch()
    for name in masks:
        (tmp_path / f"{name}_desc-brain_mask.nii.gz").touch()
    found = find_mask(chosen_scans(tmp_path, ["1"])[0], [tmp_path])
    assert (found and found.name) == (expected and f"{expected}_desc-brain_mask.nii.gz")


def test_runs_of_a_person_are_scans_of_their_own(tmp_path):
    folder = tmp_path / "sub-2" / "ses-1" / "anat"
    folder.mkdir(parents=True)
    for run in (1, 2):
        (folder / f"sub-2_ses-1_run-{run}_T1w.nii.gz").touch()
    scans = chosen_scans(tmp_path, None)
    assert [scan.prefix for scan in scans] == ["sub-2_ses-1_run-1", "sub-2_ses-1_run-2"]
    assert scans[0].relative == "sub-2/ses-1/anat/sub-2_ses-1_run-1_T1w.nii.gz"


def test_results_of_other_options_are_not_taken_for_these(dataset, output, capsys):
    command = ["bids", str(dataset / "data"), str(output), "participant", *OPTIONS]
    command += ["--template", str(dataset / "template.nii.gz"), "--participant-label", "02"]
    command[command.index("fast")] = "default"
    assert main(command) == 1
    assert "sub-02 was registered with other options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["participant", "--participant-label", "99"], "no T1w image of 99"),
        (["participant", "--masks", "nowhere"], "--masks: no folder"),
        (["participant", "--space", "Head"], "--template: expected --space"),
        (["group"], "no registration in"),
    ],
)
def test_bad_requests_are_one_line(dataset, tmp_path, capsys, options, line):
    command = ["bids", str(dataset / "data"), str(tmp_path / "new"), *options, "--quiet"]
    assert main(command) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and line in lines[0]
    assert main(["bids", str(dataset / "data"), str(dataset / "data"), "participant"]) == 2


def test_a_wrong_input_is_named(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (tmp_path / "nowhere", empty):
        assert main(["bids", str(folder), str(tmp_path / "out"), "participant"]) == 2
        assert capsys.readouterr().err.startswith("fourierreg bids: INPUT: no ")
    assert not (tmp_path / "out").exists()

"""Which files of a folder are the scans of its subjects."""

import json

import pytest

from fourierreg.cli import main
from fourierreg.data.scans import find_scans, subjects_without_scan
from fourierreg.errors import InputError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def bids(folder):
    """Three subjects: one with everything beside its T1w, one with two sessions, one without."""
    return touch(
        folder,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "sub-01/anat/sub-01_dseg.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz",
        "sub-03/func/sub-03_task-rest_bold.nii.gz",
        ".hidden/sub-04_T1w.nii.gz",
    )


def test_of_a_bids_folder_the_t1w_images_are_taken(tmp_path):
    scans = find_scans(bids(tmp_path))
    assert [(s.subject, s.session) for s in scans] == [("01", ""), ("02", "a"), ("02", "b")]
    assert all(s.image.endswith("T1w.nii.gz") for s in scans)
    assert [bool(s.labels) for s in scans] == [True, False, False]
    assert subjects_without_scan(tmp_path) == ["03"]


def test_another_suffix(tmp_path):
    scans = find_scans(bids(tmp_path), "bold")
    assert [s.subject for s in scans] == ["01", "03"]
    with pytest.raises(InputError, match=r"ends in _FLAIR .*\(found: T1w, T2w, bold, dseg\)"):
        find_scans(tmp_path, "FLAIR")


def test_names_without_entities(tmp_path):
    touch(tmp_path, "1000_t1.nii.gz", "1000_label.nii.gz", "1001_t1.nii", "1001_mask.nii.gz")
    assert [s.subject for s in find_scans(tmp_path)] == ["1000", "1001"]


def test_two_images_of_a_subject_are_refused_with_the_way_to_choose(tmp_path):
    touch(tmp_path, "sub-01_FLAIR.nii.gz", "sub-01_T2w.nii.gz")
    with pytest.raises(InputError, match=r"both belong to 01; .*pairs --suffix"):
        find_scans(tmp_path)
    assert len(find_scans(tmp_path, "T2w")) == 1


def test_the_command_says_who_has_none(tmp_path, capsys):
    out = str(tmp_path / "pairs.csv")
    touch(bids(tmp_path / "data"), "sub-05_T1w.nii.gz", "sub-06_T1w.nii.gz")
    command = ["pairs", str(tmp_path / "data"), "-o", out, "--fractions", "1", "0", "0"]
    assert main(command) == 0
    assert "left out, as they have no such image: 03" in capsys.readouterr().out
    assert main([*command, "--suffix", "T1w", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["without_image"] == ["03"]

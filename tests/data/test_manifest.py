"""Manifests, scans in folders, pairing of scans, and splits without leakage."""

import collections
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fourierreg.data.manifest import Pair, check_pairs, read_pairs, write_pairs
from fourierreg.data.pairing import make_pairs
from fourierreg.data.scans import Scan, find_scans
from fourierreg.data.splits import SPLITS, split_subjects
from fourierreg.errors import InputError


def scans(subjects=20, sessions=2):
    """Scans of several subjects and sessions, with labels."""
    return [
        Scan(f"{s:03d}", f"{t}", f"/data/sub-{s:03d}_ses-{t}_T1w.nii.gz", f"/data/{s}_{t}_dseg.nii")
        for s, t in itertools.product(range(subjects), range(sessions))
    ]


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)), path)


def test_subjects_are_split_in_the_given_fractions():
    names = [f"{i}" for i in range(100)]
    splits = split_subjects(names, seed=3)
    assert collections.Counter(splits.values()) == {"train": 70, "validation": 15, "test": 15}
    assert splits == split_subjects(reversed(names), seed=3) != split_subjects(names, seed=4)


def test_every_split_has_at_least_two_subjects():
    splits = split_subjects("abcdefg")
    assert collections.Counter(splits.values()) == {"train": 3, "validation": 2, "test": 2}
    with pytest.raises(ValueError, match="subjects: 4 are too few"):
        split_subjects("abcd")


@pytest.mark.parametrize("seed", range(20))
def test_pairs_do_not_leak_across_splits(seed):
    """All scans of a subject are in one split, and no subject is paired with itself."""
    all_scans = scans()
    pairs = make_pairs(
        all_scans, split_subjects((s.subject for s in all_scans), seed=seed), seed=seed
    )
    splits_of = collections.defaultdict(set)
    for pair in pairs:
        splits_of[pair.source_subject].add(pair.split)
        splits_of[pair.target_subject].add(pair.split)
        assert pair.source_subject != pair.target_subject
        assert pair.source_subject in pair.source
    assert all(len(found) == 1 for found in splits_of.values()) and len(splits_of) == 20
    assert {p.split for p in pairs} == set(SPLITS)
    sizes = collections.Counter(p.split for p in pairs)
    assert sizes == {"train": 14 * 13 * 4, "validation": 3 * 2 * 4, "test": 3 * 2 * 4}


def test_a_subset_of_the_pairs_is_balanced_over_subjects_and_splits():
    all_scans = scans(20, 1)
    splits = split_subjects(s.subject for s in all_scans)
    pairs = make_pairs(all_scans, splits, num_pairs=40, seed=1)
    assert len(set(pairs)) == 40
    assert collections.Counter(p.split for p in pairs) == {"train": 28, "validation": 6, "test": 6}
    uses = collections.Counter(itertools.chain.from_iterable(p[4:6] for p in pairs))
    assert len(uses) == 20 and max(uses.values()) - min(uses.values()) <= 2
    assert pairs == make_pairs(all_scans, splits, num_pairs=40, seed=1)
    with pytest.raises(ValueError, match="num_pairs: expected at most"):
        make_pairs(all_scans, splits, num_pairs=4000)


LEAKS = {
    "a subject in two splits": [
        Pair("a", "b", "", "", "1", "2", "", "train"),
        Pair("c", "d", "", "", "3", "1", "", "test"),
    ],
    "another scan of a subject": [
        Pair("a", "b", "", "", "1", "2", "", "train"),
        Pair("c", "b2", "", "", "3", "2", "", "validation"),
    ],
    "an image without a subject": [
        Pair("a", "b", split="train"),
        Pair("b", "c", split="test"),
    ],
    "an image with and without a split": [Pair("a", "b", split="train"), Pair("c", "a")],
}


@pytest.mark.parametrize("pairs", LEAKS.values(), ids=LEAKS.keys())
def test_leakage_is_refused(pairs):
    with pytest.raises(InputError, match="split by subject"):
        check_pairs(pairs)


def test_a_manifest_is_read_as_written(tmp_path):
    all_scans = scans(8, 1)
    pairs = make_pairs(all_scans, split_subjects(s.subject for s in all_scans), num_pairs=9)
    for name in ("pairs.csv", "pairs.tsv"):
        write_pairs(tmp_path / name, pairs)
        assert read_pairs(tmp_path / name) == pairs


def test_paths_are_relative_to_the_manifest(tmp_path):
    (tmp_path / "pairs.csv").write_text("target,source,alpha\nb/2.nii,1.nii,3.5\n")
    (pair,) = read_pairs(tmp_path / "pairs.csv")
    assert pair.source == str(tmp_path / "1.nii") and pair.target == str(tmp_path / "b" / "2.nii")
    write_pairs(tmp_path / "again.csv", [pair])
    assert "b/2.nii" in (tmp_path / "again.csv").read_text().splitlines()[1].split(",")


BAD = {
    "no file": (None, "no file"),
    "no header": ("a,b\n1,2\n", "no column source or target"),
    "no rows": ("source,target\n", "no pairs below"),
    "no target": ("source,target\na,\n", "line 2 of .* has no source or no target"),
    "labels of one image": ("source,target,source_labels\na,b,c\n", "labels for one image only"),
    "a duplicate pair": ("source,target\na,b\na,b\n", "listed twice"),
    "an unknown split": ("source,target,split\na,b,tset\n", "expected a split of"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_invalid_manifests_are_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "pairs.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)


def test_scans_of_a_bids_folder_are_found(tmp_path):
    for subject, session in itertools.product(("01", "02"), ("a", "b")):
        stem = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}"
        write_image(tmp_path / f"{stem}_T1w.nii.gz")
        write_image(tmp_path / f"derivatives/{stem}_dseg.nii.gz")
    found = find_scans(tmp_path)
    assert [(s.subject, s.session) for s in found] == [
        ("01", "a"), ("01", "b"), ("02", "a"), ("02", "b"),
    ]  # fmt: skip
    assert all("derivatives" in s.labels and s.image.endswith("T1w.nii.gz") for s in found)


def test_scans_of_a_flat_folder_are_found(tmp_path):
    for name in ("1000_t1.nii.gz", "1000_label.nii.gz", "1001_t1.nii.gz"):
        write_image(tmp_path / name)
    found = find_scans(tmp_path)
    assert [(s.subject, bool(s.labels)) for s in found] == [("1000", True), ("1001", False)]
    write_image(tmp_path / "1001_t2.nii.gz")
    with pytest.raises(InputError, match="both belong to 1001"):
        find_scans(tmp_path)


def test_hidden_files_are_ignored(tmp_path):
    """Such as those of macOS and the partial files of a killed run."""
    for name in ("1000_t1.nii.gz", "._1000_t1.nii.gz", ".part-x.nii.gz", ".cache/1001_t1.nii.gz"):
        write_image(tmp_path / name)
    assert [s.subject for s in find_scans(tmp_path)] == ["1000"]


def test_scans_have_absolute_paths(tmp_path, monkeypatch):
    write_image(tmp_path / "scans" / "1000_t1.nii.gz")
    monkeypatch.chdir(tmp_path)
    (scan,) = find_scans("scans")
    monkeypatch.chdir("/")
    assert Path(scan.image).is_file()


def test_text_tables_are_read_with_the_delimiter_they_are_written_with(tmp_path):
    for name in ("pairs.txt", "pairs.tsv", "pairs.csv"):
        write_pairs(tmp_path / name, [Pair("/a.nii", "/b.nii")])
        assert read_pairs(tmp_path / name) == [Pair("/a.nii", "/b.nii")]

"""Folders of pairs with known α simulated from given images."""

import nibabel as nib
import numpy as np
import pytest

import fourierreg
from fourierreg.cli import main
from fourierreg.data.manifest import read_pairs
from fourierreg.data.scans import find_scans
from fourierreg.errors import InputError
from fourierreg.image.deformation import warp
from fourierreg.simulation.folder import PAIRS, simulate_pairs, write_simulated_pair
from fourierreg.simulation.pair import simulate_matched_pair
from fourierreg.spectral.metric import Metric
from tests.brains import head

SHAPE, SPACING = (28, 30, 26), (2.0, 2.0, 2.0)


@pytest.fixture
def folder(tmp_path):
    """Two subjects with labels."""
    for subject in range(2):
        data = head(SHAPE, SPACING, seed=subject)
        labels = (np.digitize(data, (120, 400, 600)) * 300).astype(np.uint16)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"sub-{subject}_T1w.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), tmp_path / f"sub-{subject}_dseg.nii.gz")
    return tmp_path


def matched_pair(alpha, seed, sigma=0.05):
    image = head(SHAPE, SPACING) / 800
    metric = Metric.create(SHAPE, spacing=SPACING, modes=9, alpha=alpha)
    return simulate_matched_pair(image, metric, common_alpha=12.0, sigma=sigma, seed=seed), image


def test_the_displacement_deforms_the_source_onto_the_target():
    pair, image = matched_pair(4.0, 1, sigma=0)
    moved = warp(pair.source, pair.displacement, SPACING)
    before = np.linalg.norm(pair.source - pair.target)
    assert np.linalg.norm(moved - pair.target) < 0.35 * before
    assert np.linalg.norm(pair.source - image) > 0  # the source is deformed too


def test_source_and_target_have_the_same_noise_level_and_sharpness():
    """Their noise is independent and of equal variance; their high-frequency energy agrees."""
    noise, roughness = [], []
    for seed in range(6):
        clean, _ = matched_pair(4.0, seed, sigma=0)
        pair, _ = matched_pair(4.0, seed)
        a, b = pair.source - clean.source, pair.target - clean.target
        inside = (clean.source != 0) & (clean.target != 0)
        assert not a[clean.source == 0].any() and not b[clean.target == 0].any()
        noise.append([a[inside].std(), b[inside].std(), np.corrcoef(a[inside], b[inside])[0, 1]])
        roughness.append(
            [np.square(np.diff(x, 2, axis=0)).sum() for x in (clean.source, clean.target)]
        )
    first, second, correlation = np.mean(noise, axis=0)
    assert abs(first - 0.05) < 0.003 and abs(second - 0.05) < 0.003 and abs(correlation) < 0.02
    source, target = np.mean(roughness, axis=0)
    assert 0.8 < source / target < 1.25


def test_the_command_writes_pairs_and_a_manifest_with_the_true_alpha(folder, capsys):
    out = folder / "set"
    options = ["--num-pairs", "4", "--alphas", "3", "9", "--modes", "7", "--size", "24"]
    assert main(["simulate", str(folder), "-o", str(out), *options, "--workers", "1"]) == 0
    assert "4 pairs" in capsys.readouterr().out
    pairs = read_pairs(out / "pairs.csv")
    assert [p.source_subject for p in pairs] == ["0", "1", "0", "1"]
    text = (out / "pairs.csv").read_text().splitlines()
    rows = [dict(zip(text[0].split(","), line.split(","), strict=True)) for line in text[1:]]
    alphas = [float(row["alpha"]) for row in rows]
    assert all(3 <= a <= 9 for a in alphas) and len(set(alphas)) == 4
    assert all(float(row["velocity_scale_mm"]) > 0 and row["sigma"] == "0.03" for row in rows)
    for pair in pairs:
        source, labels = nib.load(pair.source), nib.load(pair.target_labels)
        assert max(source.shape) == 24 and source.get_data_dtype() == np.float32
        assert set(np.unique(labels.dataobj)) == {0, 300, 600, 900}


def test_a_data_set_is_resumed_and_extended(folder):
    scans = find_scans(folder)
    setting = {"modes": 7, "size": 24, "workers": 1, "seed": 5}
    three = simulate_pairs(scans, folder / "set", 3, **setting)
    first = (folder / "set" / "pairs" / "000000_target.nii.gz").stat().st_mtime_ns
    calls = []
    four = simulate_pairs(
        scans, folder / "set", 4, callback=lambda *call: calls.append(call), **setting
    )
    assert four[:3] == three and calls == [(4, 4)]
    assert (folder / "set" / "pairs" / "000000_target.nii.gz").stat().st_mtime_ns == first
    again = simulate_pairs(scans, folder / "again", 4, **setting)
    assert [r["alpha"] for r in again] == [r["alpha"] for r in four]
    a, b = (nib.load(folder / f / "pairs" / "000003_target.nii.gz") for f in ("set", "again"))
    np.testing.assert_array_equal(a.dataobj, b.dataobj)
    with pytest.raises(InputError, match="other values of seed"):
        simulate_pairs(scans, folder / "set", 4, **{**setting, "seed": 6})
    other = fourierreg.Model(power=2)
    with pytest.raises(InputError, match="other values of model"):
        simulate_pairs(scans, folder / "set", 4, model=other, **setting)
    simulate_pairs(scans, folder / "other", 1, model=other, **setting)
    with pytest.raises(InputError, match="other values of model"):
        simulate_pairs(scans, folder / "other", 2, **setting)


def test_pairs_have_the_split_of_their_subject(folder):
    scans, setting = find_scans(folder), {"modes": 7, "size": 24, "workers": 1}
    splits = {"0": "train", "1": "test"}
    rows = simulate_pairs(scans, folder / "set", 2, splits=splits, **setting)
    assert [row["split"] for row in rows] == ["train", "test"]
    with pytest.raises(InputError, match="no split is known for 1"):
        simulate_pairs(scans, folder / "other", 2, splits={"0": "train"}, **setting)


def test_a_prior_whose_samples_all_fold_raises_and_leaves_no_files(folder, monkeypatch):
    monkeypatch.setattr("fourierreg.simulation.pair.MAX_DRAWS", 5)
    scan = tuple(find_scans(folder)[0])
    setting = {"alphas": [0.01, 0.02], "sigma": 0.03, "seed": 0, "size": 24, "modes": 9}
    (folder / PAIRS).mkdir()
    with pytest.raises(InputError, match=r"^velocity_scale: at alpha"):
        write_simulated_pair(scan, str(folder), 0, {**setting, "velocity_scale": None})
    assert not any((folder / PAIRS).iterdir())

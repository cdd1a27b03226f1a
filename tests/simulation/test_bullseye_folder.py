"""Data sets of bull's-eye pairs: contents, resumption, validation of parameters."""

import json

import numpy as np
import pytest

import fourierreg
from fourierreg.image.deformation import jacobian_determinant
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.bullseye_folder import PairDataset, make_bullseye_dataset

SETTING = {"alphas": (1.0, 3.0), "shape": (40, 44), "modes": 7, "velocity_scale": 0.4, "seed": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bullseye_dataset(tmp_path_factory.mktemp("data") / "set", 6, **SETTING)


def test_the_manifest_has_a_row_per_pair(made):
    assert len(made) == 6
    assert [row["alpha"] for row in made.rows] == [1.0, 3.0] * 3
    assert [row["index"] for row in made.rows] == list(range(6))
    assert made.parameters["velocity_scale"] == 0.4
    assert len({row["outer_a"] for row in made.rows}) == 6  # ellipses vary


def test_the_target_is_the_deformed_source_plus_noise(made):
    for source, target, displacement, row in made:
        assert source.shape == target.shape == (40, 44)
        noise = target - fourierreg.warp(source, displacement)
        assert noise.std() == pytest.approx(0.03, rel=0.1)
        expected = bullseye(
            (40, 44),
            outer=(row["outer_a"], row["outer_b"]),
            inner=(row["inner_a"], row["inner_b"]),
        )
        np.testing.assert_array_equal(source, expected)


def test_no_sample_of_a_data_set_folds(tmp_path):
    # At α = 1 and s = 1 voxel half of all samples fold; they are rejected.
    pairs = make_bullseye_dataset(tmp_path, 8, alphas=(1.0,), velocity_scale=1.0)
    assert sum(row["draws"] for row in pairs.rows) > 8
    for pair in pairs:
        assert jacobian_determinant(pair.displacement).min() > 0.1


def test_an_interrupted_run_resumes(made, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, total):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        make_bullseye_dataset(tmp_path, 6, callback=kill, **SETTING)
    with pytest.raises(ValueError, match="no complete data set"):
        PairDataset(tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "pairs").iterdir()}
    again = make_bullseye_dataset(tmp_path, 6, **SETTING)
    assert {n: (tmp_path / "pairs" / n).stat().st_mtime_ns for n in before} == before
    assert again.rows == made.rows
    np.testing.assert_array_equal(again[5].target, made[5].target)


def test_other_parameters_are_refused(made):
    with pytest.raises(ValueError, match="other values of sigma"):
        make_bullseye_dataset(made.folder, 6, sigma=0.1, **SETTING)
    assert len(PairDataset(made.folder)) == 6


def test_alphas_can_be_log_uniform(tmp_path):
    setting = {**SETTING, "alphas": (0.5, 8.0, "log-uniform"), "vary_ellipses": False}
    pairs = make_bullseye_dataset(tmp_path, 12, **setting)
    alphas = np.array([row["alpha"] for row in pairs.rows])
    assert len(set(alphas)) == 12
    assert np.all((alphas > 0.5) & (alphas < 8.0))
    assert np.std(np.log(alphas)) > 0.4
    np.testing.assert_array_equal(pairs[0].source, pairs[1].source)


def test_another_format_version_is_refused(made, tmp_path):
    header = json.loads((made.folder / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**header, "format": 99}))
    (tmp_path / "manifest.csv").write_text((made.folder / "manifest.csv").read_text())
    with pytest.raises(ValueError, match="another version"):
        PairDataset(tmp_path)

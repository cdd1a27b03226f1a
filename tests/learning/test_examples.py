"""Examples and splits: what is read, and what must not be combined."""

import json

import numpy as np
import pytest

from fourierreg.data.manifest import Pair
from fourierreg.errors import InputError
from fourierreg.image.foreground import foreground_scale
from fourierreg.labelling.folder import HEADER
from fourierreg.labelling.run import label_pairs
from fourierreg.learning.examples import Example, read_dataset, read_example
from fourierreg.learning.sequence import PairSequence
from fourierreg.learning.splits import check_splits, combine, split_at_random
from tests.brains import write_pair
from tests.learning import data


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 10)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return data.simulated(tmp_path_factory.mktemp("simulated"), 6, size=18)


def test_bullseye_examples_have_the_grid_and_noise_of_their_data_set(bullseyes):
    examples, conditions = read_dataset(bullseyes)
    assert len(examples) == 10
    assert conditions.shape == (24, 24) and conditions.sigma == (0.02,)
    source, target = read_example(examples[3], (24, 24))
    assert source.shape == target.shape == (24, 24) and source.dtype == np.float32


def test_simulated_examples_have_splits_and_are_normalized(simulated):
    examples, conditions = read_dataset(simulated)
    assert [e.split for e in examples] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert conditions.shape == (17, 18, 14)
    assert conditions.modes == (6, 6, 6)
    for example in examples:
        for image in read_example(example, conditions.shape):
            assert image.shape == conditions.shape
            assert foreground_scale(image) == pytest.approx(1.0, rel=1e-5)


def test_converged_pairs_and_dynamics_of_a_label_run_are_read(tmp_path):
    source, target = map(str, write_pair(tmp_path))
    rows = label_pairs(
        [Pair(source, target), Pair(target, source), Pair(source, str(tmp_path / "none.nii.gz"))],
        tmp_path / "out",
        modes=6,
        num_steps=3,
        size=24,
        workers=1,
    )
    expected = [r["alpha"] for r in rows if r["state"] == "done" and r["converged"]]
    assert expected
    examples, conditions = read_dataset(tmp_path / "out")
    assert [e.alpha for e in examples] == pytest.approx(expected)
    assert conditions.sigma == ("estimate",)
    assert max(conditions.shape) == 24 and conditions.dynamics == "epdiff"
    header = tmp_path / "out" / HEADER
    content = json.loads(header.read_text())
    for settings in ({"dynamics": "stationary"}, {"model": {"dynamics": "stationary"}}):
        header.write_text(json.dumps({**content, "settings": settings}))
        assert read_dataset(tmp_path / "out").conditions.dynamics == "stationary"


def test_a_folder_without_a_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"datasets: .* has none of labels\.csv, pairs\.csv"):
        read_dataset(tmp_path)


def test_data_sets_of_different_grids_or_scales_are_not_combined(simulated, bullseyes, tmp_path):
    with pytest.raises(InputError, match="differ in shape"):
        combine([read_dataset(simulated), read_dataset(bullseyes)])
    other = data.simulated(tmp_path, 1, size=18, velocity_scale=1.0)
    with pytest.raises(InputError, match="differ in velocity scale"):
        combine([read_dataset(simulated), read_dataset(other)])


def test_marginal_and_joint_estimates_are_not_combined(simulated):
    dataset = read_dataset(simulated)
    assert dataset.conditions.labels == ("truth",)
    marginal, joint = (
        dataset._replace(conditions=dataset.conditions._replace(labels=(name,)))
        for name in ("marginal", "joint")
    )
    assert combine([dataset, marginal])[1].labels == ("marginal", "truth")
    with pytest.raises(InputError, match="some of the joint one"):
        combine([marginal, joint])


@pytest.mark.parametrize("change", [{"power": 2.0}, {"dynamics": "stationary"}])
def test_data_sets_of_different_models_are_not_combined(simulated, change):
    """α depends on the metric and on the flow."""
    dataset = read_dataset(simulated)
    other = dataset._replace(conditions=dataset.conditions._replace(**change))
    with pytest.raises(InputError, match=f"differ in {next(iter(change))}"):
        combine([dataset, other])


def example(name, split, *subjects):
    return Example(f"{name}_s", f"{name}_t", 3.0, split, subjects, "labels")


def test_a_subject_in_two_splits_is_refused():
    examples = [example("a", "train", "1", "2"), example("b", "test", "2", "3")]
    with pytest.raises(InputError, match="subject 2 is in the splits"):
        check_splits(examples)


def test_a_scan_and_a_pair_simulated_from_it_in_two_splits_are_refused():
    warped = Example("a_s", "a_t", 3.0, "train", (), "simulated", ("scan_1",))
    real = Example("scan_1", "scan_2", 3.0, "test", (), "labels", ("scan_1", "scan_2"))
    with pytest.raises(InputError, match="image scan_1 is in the splits 'train' and 'test'"):
        check_splits([warped, real])


def test_a_sequence_refuses_examples_of_several_splits():
    with pytest.raises(InputError, match="one split"):
        PairSequence([example("a", "train"), example("b", "test")], (16, 16))


def test_random_splits_have_the_given_fractions_and_are_reproducible(bullseyes):
    examples = read_dataset(bullseyes).examples
    found = split_at_random(examples, (0.5, 0.3, 0.2), 0)
    counts = [sum(e.split == s for e in found) for s in ("train", "validation", "test")]
    assert counts == [5, 3, 2]
    assert found == split_at_random(examples, (0.5, 0.3, 0.2), 0)

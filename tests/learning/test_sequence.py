"""Examples and batches: what is read, in which order, and what must never be mixed."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from fourierreg.checks import InputError
from fourierreg.data.manifest import Pair
from fourierreg.labelling.run import label_pairs
from fourierreg.learning import examples as module
from fourierreg.learning.examples import (
    Example,
    combine,
    read_example,
    read_folder,
    split_at_random,
)
from fourierreg.learning.sequence import PairSequence
from tests.brains import write_pair
from tests.learning import data


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 10)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return data.simulated(tmp_path_factory.mktemp("simulated"), 6, size=18)


def test_bullseyes(bullseyes):
    found = read_folder(bullseyes)
    assert len(found.examples) == 10
    assert found.conditions.shape == (24, 24) and found.conditions.sigma == (0.02,)
    source, target = read_example(found.examples[3], (24, 24))
    assert source.shape == target.shape == (24, 24) and source.dtype == np.float32


def test_simulated(simulated):
    found = read_folder(simulated)
    assert [e.split for e in found.examples] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert found.conditions.shape == (17, 18, 14)
    assert found.conditions.modes == (6, 6, 6)
    for example in found.examples:
        for image in read_example(example, found.conditions.shape):
            assert image.shape == found.conditions.shape
            assert np.percentile(image[image != 0], 99.5) == pytest.approx(1.0, rel=1e-5)


def test_label_tables(tmp_path):
    """Only pairs that are done and converged, with the α of the table."""
    source, target = map(str, write_pair(tmp_path))
    rows = label_pairs(
        [Pair(source, target), Pair(target, source), Pair(source, str(tmp_path / "none.nii.gz"))],
        tmp_path / "out",
        modes=6,
        num_steps=3,
        size=24,
        workers=1,
    )
    kept = [r["alpha"] for r in rows if r["state"] == "done" and r["converged"]]
    assert kept
    found = read_folder(tmp_path / "out")
    assert [e.alpha for e in found.examples] == pytest.approx(kept)
    assert found.conditions.sigma == ("estimate",)
    assert max(found.conditions.shape) == 24


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"datasets: .* has none of labels\.csv, pairs\.csv"):
        read_folder(tmp_path)


def test_folders_must_agree(simulated, bullseyes, tmp_path):
    with pytest.raises(InputError, match="differ in shape"):
        combine([read_folder(simulated), read_folder(bullseyes)])
    other = data.simulated(tmp_path, 1, size=18, velocity_scale=1.0)
    with pytest.raises(InputError, match="differ in velocity scale"):
        combine([read_folder(simulated), read_folder(other)])


def test_posteriors_are_not_mixed(simulated):
    found = read_folder(simulated)
    assert found.conditions.labels == ("truth",)
    other = [
        found._replace(conditions=found.conditions._replace(labels=(name,)))
        for name in ("marginal", "joint")
    ]
    assert combine([found, other[0]])[1].labels == ("marginal", "truth")
    with pytest.raises(InputError, match="some of the joint one"):
        combine(other)


@pytest.mark.parametrize("change", [{"power": 2.0}, {"dynamics": "stationary"}])
def test_models_are_not_mixed(simulated, change):
    """α of another metric, or of another flow, is another α."""
    found = read_folder(simulated)
    other = found._replace(conditions=found.conditions._replace(**change))
    with pytest.raises(InputError, match=f"differ in {next(iter(change))}"):
        combine([found, other])


def example(name, split, *subjects, origin="labels"):
    return Example(f"{name}_s", f"{name}_t", 3.0, split, subjects, origin)


def test_a_split_that_leaks_is_refused():
    found = module.Source([example("a", "train", "1", "2"), example("b", "test", "2", "3")], None)
    with pytest.raises(InputError, match="subject 2 stands in the splits"):
        module.check_splits(found.examples)


def test_a_simulated_pair_is_of_its_scan():
    """A scan in one split, warped, may not stand in a pair of another."""
    warped = Example("a_s", "a_t", 3.0, "train", (), "simulated", ("scan_1",))
    real = Example("scan_1", "scan_2", 3.0, "test", (), "labels", ("scan_1", "scan_2"))
    with pytest.raises(InputError, match="image scan_1 stands in the splits 'train' and 'test'"):
        module.check_splits([warped, real])


def test_several_splits_are_no_sequence():
    with pytest.raises(ValueError, match="one split"):
        PairSequence([example("a", "train"), example("b", "test")], (16, 16))


def test_random_splits_are_whole(bullseyes):
    found = split_at_random(read_folder(bullseyes).examples, (0.5, 0.3, 0.2), 0)
    counts = [sum(e.split == s for e in found) for s in ("train", "validation", "test")]
    assert counts == [5, 3, 2]
    assert found == split_at_random(read_folder(bullseyes).examples, (0.5, 0.3, 0.2), 0)


def batches(bullseyes, **options):
    found = split_at_random(read_folder(bullseyes).examples, (1, 0, 0), 0)
    return PairSequence(found, (24, 24), **{"batch_size": 4, **options})


def all_values(sequence):
    return np.concatenate([sequence[i][1] for i in range(len(sequence))])[:, 0]


def test_batches(bullseyes):
    sequence = batches(bullseyes)
    assert len(sequence) == 3
    inputs, values = sequence[0]
    assert inputs["source"].shape == (4, 24, 24, 1) and values.shape == (4, 1)
    assert sequence[2][1].shape == (2, 1)
    truth = [e.alpha for e in sequence.examples]
    np.testing.assert_allclose(all_values(sequence), np.log(truth), rtol=1e-6)
    np.testing.assert_allclose(all_values(batches(bullseyes, output="alpha")), truth, rtol=1e-6)


def test_weights_go_with_their_pairs(bullseyes):
    plain = batches(bullseyes)
    weights = np.arange(10.0) + 1
    weight_of = dict(zip(plain.values.tolist(), weights, strict=True))
    shuffled = batches(bullseyes, shuffle=True, weights=weights)
    for index in range(len(shuffled)):
        _, values, found = shuffled[index]
        np.testing.assert_array_equal(found, [weight_of[v] for v in values[:, 0].tolist()])


def test_order_belongs_to_seed_and_epoch(bullseyes):
    options = {"shuffle": True, "augment": True, "seed": 3}
    first = batches(bullseyes, **options)
    before = all_values(first)
    first.on_epoch_end()
    after, images = all_values(first), first[1][0]["source"]
    assert sorted(before) == sorted(after) and not np.array_equal(before, after)
    resumed = batches(bullseyes, epoch=1, **options)
    np.testing.assert_array_equal(all_values(resumed), after)
    np.testing.assert_array_equal(resumed[1][0]["source"], images)


def test_images_are_kept_while_there_is_room(bullseyes, monkeypatch):
    reads = []
    read = module.read_example

    def counted(example, shape):
        reads.append(example)
        return read(example, shape)

    monkeypatch.setattr("fourierreg.learning.sequence.read_example", counted)
    roomy, tight = batches(bullseyes), batches(bullseyes, memory=3 * 2 * 24 * 24 * 4)
    for sequence, expected in ((roomy, 10), (tight, 10 + 7)):
        reads.clear()
        first, second = ([sequence[i][0]["target"] for i in range(3)] for _ in range(2))
        assert len(reads) == expected
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_smoothing_is_the_same_for_both_images_of_half_the_pairs(bullseyes):
    plain = batches(bullseyes, augment=True, seed=1)
    smoothed = batches(bullseyes, augment=True, smoothing=1.5, seed=1)
    widths = []
    for index in range(len(plain.examples)):
        before, after = plain._read(index), smoothed._read(index)
        if np.array_equal(before, after):
            continue

        def gap(width, before=before, after=after):
            return sum(
                np.sum((gaussian_filter(b, width, truncate=3) - a) ** 2)
                for b, a in zip(before, after, strict=True)
            )

        found = minimize_scalar(gap, bounds=(0.1, 2.0), method="bounded")
        widths.append(found.x)
        total = sum(np.sum((b - a) ** 2) for b, a in zip(before, after, strict=True))
        assert found.fun < 1e-3 * total or total < 1e-6
    assert 0.2 < len(widths) / len(plain.examples) < 0.8
    assert max(widths) <= 1.51


def test_augmentation_flips_swaps_and_scales_both_images_alike(bullseyes):
    plain, augmented = batches(bullseyes), batches(bullseyes, augment=True, seed=1)
    seen = set()
    for index in range(len(plain.examples)):
        before = read_example(plain.examples[index], (24, 24))
        after = augmented._read(index)
        for axes, swapped in itertools.product(((), (0,), (1,), (0, 1)), (False, True)):
            factors = [
                np.linalg.norm(b) / np.linalg.norm(a) for a, b in zip(before, after, strict=True)
            ]
            moved = [np.flip(image, axes) for image in before]
            if all(
                np.allclose(f * (a.T if swapped else a), b, atol=1e-5)
                for f, a, b in zip(factors, moved, after, strict=True)
            ):
                seen.add((axes, swapped))
                assert factors[0] == pytest.approx(factors[1], rel=1e-5)
                assert 0.9 < factors[0] < 1.12
                break
        else:
            raise AssertionError("no flip or swap explains the augmented pair")
    assert len({axes for axes, _ in seen}) > 1 and len({swapped for _, swapped in seen}) == 2

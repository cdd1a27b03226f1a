"""Batches of examples: order, weights, cache, and augmentation."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from fourierreg.learning.examples import read_dataset, read_example
from fourierreg.learning.sequence import PairSequence
from fourierreg.learning.splits import split_at_random
from tests.learning import data


@pytest.fixture(scope="module")
def bullseyes(tmp_path_factory):
    return data.bullseyes(tmp_path_factory.mktemp("bullseyes"), 10)


def batches(bullseyes, **options):
    examples = split_at_random(read_dataset(bullseyes).examples, (1, 0, 0), 0)
    return PairSequence(examples, (24, 24), **{"batch_size": 4, **options})


def all_outputs(sequence):
    return np.concatenate([sequence[i][1] for i in range(len(sequence))])[:, 0]


def test_batches_have_the_shapes_and_values_of_their_examples(bullseyes):
    sequence = batches(bullseyes)
    assert len(sequence) == 3
    inputs, outputs = sequence[0]
    assert inputs["source"].shape == (4, 24, 24, 1) and outputs.shape == (4, 1)
    assert sequence[2][1].shape == (2, 1)
    truth = [e.alpha for e in sequence.examples]
    np.testing.assert_allclose(all_outputs(sequence), np.log(truth), rtol=1e-6)
    np.testing.assert_allclose(all_outputs(batches(bullseyes, output="alpha")), truth, rtol=1e-6)


def test_shuffling_keeps_weights_with_their_pairs(bullseyes):
    plain = batches(bullseyes)
    weights = np.arange(10.0) + 1
    weight_of = dict(zip(plain.outputs.tolist(), weights, strict=True))
    shuffled = batches(bullseyes, shuffle=True, weights=weights)
    for index in range(len(shuffled)):
        _, outputs, found = shuffled[index]
        np.testing.assert_array_equal(found, [weight_of[v] for v in outputs[:, 0].tolist()])


def test_order_and_augmentation_depend_only_on_seed_and_epoch(bullseyes):
    options = {"shuffle": True, "augment": True, "seed": 3}
    first = batches(bullseyes, **options)
    before = all_outputs(first)
    first.on_epoch_end()
    after, images = all_outputs(first), first[1][0]["source"]
    assert sorted(before) == sorted(after) and not np.array_equal(before, after)
    resumed = batches(bullseyes, epoch=1, **options)
    np.testing.assert_array_equal(all_outputs(resumed), after)
    np.testing.assert_array_equal(resumed[1][0]["source"], images)


def test_images_are_cached_up_to_the_given_size(bullseyes, monkeypatch):
    reads = []

    def counted(example, shape):
        reads.append(example)
        return read_example(example, shape)

    monkeypatch.setattr("fourierreg.learning.sequence.read_example", counted)
    all_cached = batches(bullseyes)
    three_cached = batches(bullseyes, cache_bytes=3 * 2 * 24 * 24 * 4)
    for sequence, expected in ((all_cached, 10), (three_cached, 10 + 7)):
        reads.clear()
        first, second = ([sequence[i][0]["target"] for i in range(3)] for _ in range(2))
        assert len(reads) == expected
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_half_the_pairs_are_smoothed_by_the_same_gaussian_in_both_images(bullseyes):
    plain = batches(bullseyes, augment=True, seed=1)
    smoothed = batches(bullseyes, augment=True, smoothing=1.5, seed=1)
    widths = []
    for index in range(len(plain.examples)):
        before, after = plain.read_pair(index), smoothed.read_pair(index)
        if np.array_equal(before, after):
            continue

        def error(width, before=before, after=after):
            return sum(
                np.sum((gaussian_filter(b, width, truncate=3) - a) ** 2)
                for b, a in zip(before, after, strict=True)
            )

        found = minimize_scalar(error, bounds=(0.1, 2.0), method="bounded")
        widths.append(found.x)
        total = sum(np.sum((b - a) ** 2) for b, a in zip(before, after, strict=True))
        assert found.fun < 1e-3 * total or total < 1e-6
    assert 0.2 < len(widths) / len(plain.examples) < 0.8
    assert max(widths) <= 1.51


def test_contrast_raises_both_images_to_one_power(bullseyes):
    plain = batches(bullseyes, augment=True, seed=1)
    changed = batches(bullseyes, augment=True, contrast=0.3, seed=1)
    powers = []
    for index in range(len(plain.examples)):
        found = []
        for before, after in zip(plain.read_pair(index), changed.read_pair(index), strict=True):
            chosen = (abs(before) > 0.05) & (abs(abs(before) - 1) > 0.2)
            values = np.log(abs(after[chosen])) / np.log(abs(before[chosen]))
            assert np.ptp(values) < 1e-3 and np.all(np.sign(after) == np.sign(before))
            found.append(np.median(values))
        assert found[0] == pytest.approx(found[1], rel=1e-4)
        powers.append(found[0])
    assert np.ptp(powers) > 0.1 and np.all(abs(np.log(powers)) <= 0.301)


def test_half_the_pairs_are_exchanged(bullseyes):
    plain = batches(bullseyes, augment=True, seed=1)
    changed = batches(bullseyes, augment=True, exchange=True, seed=1)
    exchanged = []
    for index in range(len(plain.examples)):
        before, after = plain.read_pair(index), changed.read_pair(index)
        exchanged.append(np.array_equal(before[0], after[1]))
        assert np.array_equal(before[::-1] if exchanged[-1] else before, after)
    assert 0.2 < np.mean(exchanged) < 0.8


def test_augmentation_applies_the_same_flips_swap_and_factor_to_both_images(bullseyes):
    plain, augmented = batches(bullseyes), batches(bullseyes, augment=True, seed=1)
    seen = set()
    for index in range(len(plain.examples)):
        before = read_example(plain.examples[index], (24, 24))
        after = augmented.read_pair(index)
        for axes, swapped in itertools.product(((), (0,), (1,), (0, 1)), (False, True)):
            factors = [
                np.linalg.norm(b) / np.linalg.norm(a) for a, b in zip(before, after, strict=True)
            ]
            flipped = [np.flip(image, axes) for image in before]
            if all(
                np.allclose(f * (a.T if swapped else a), b, atol=1e-5)
                for f, a, b in zip(factors, flipped, after, strict=True)
            ):
                seen.add((axes, swapped))
                assert factors[0] == pytest.approx(factors[1], rel=1e-5)
                assert 0.9 < factors[0] < 1.12
                break
        else:
            raise AssertionError("no flip or swap explains the augmented pair")
    assert len({axes for axes, _ in seen}) > 1 and len({swapped for _, swapped in seen}) == 2

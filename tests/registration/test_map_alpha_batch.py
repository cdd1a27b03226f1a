"""`map_alpha_batch` gives every pair the result that `map_alpha` gives it, whatever the other pairs
and the batch size.

Measured: to the last bit on NumPy and on the mock device, in 2D and in 3D, with and without masks.
Where rounding differs, as on a GPU, it decides at which of many kinks of the interpolated images a
fit ends: α is then the same up to a fraction of its standard deviation.
"""

import itertools
import math

import numpy as np
import pytest

import fourierreg
from fourierreg.errors import InputError, InputTypeError
from fourierreg.optim import lbfgs
from fourierreg.registration import map_alpha_batch as module
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral import transform

RTOL = 1e-6  # of α
SHAPE = (24, 22, 26)
SETTINGS = {"modes": 11, "sigma": 0.15, "num_steps": 2, "velocity_scale": 0.3, "pad": False}


def ball(shape=SHAPE, seed=0):
    """A thick shell of uneven brightness."""
    grids = np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in shape), indexing="ij")
    rng = np.random.default_rng(seed)
    radius = np.sqrt(sum(g**2 for g in grids)) + rng.uniform(-0.5, 0.5)
    shell = 1 / (1 + np.exp(radius - 9.0)) - 0.6 / (1 + np.exp(radius - 5.0))
    return (shell * (1 + 0.2 * np.sin(0.4 * grids[0] + seed))).astype(np.float32)


def simulated(image, alpha, seed):
    return simulate_pair(image, alpha=alpha, sigma=0.15, seed=seed, modes=11, velocity_scale=0.3)


@pytest.fixture(scope="module")
def pairs():
    """Sources and targets."""
    made = [simulated(ball(seed=i), alpha, i) for i, alpha in enumerate((3.0, 5.0, 8.0))]
    return [p.source for p in made], [p.target for p in made]


@pytest.fixture(scope="module")
def single(pairs):
    """Results of `map_alpha`."""
    return [fourierreg.map_alpha(*pair, **SETTINGS) for pair in zip(*pairs, strict=True)]


@pytest.fixture(scope="module")
def batch(pairs):
    """Results of `map_alpha_batch`."""
    return fourierreg.map_alpha_batch(*pairs, **SETTINGS)


def assert_same(found, expected):
    """Two lists of results that differ by rounding only."""
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.status == wanted.status
        assert actual.alpha == pytest.approx(wanted.alpha, rel=RTOL)
        assert actual.alpha_interval == pytest.approx(wanted.alpha_interval, rel=RTOL)
        assert len(actual.history) == len(wanted.history)
        actual, wanted = (fourierreg.to_numpy(r.displacement) for r in (actual, wanted))
        np.testing.assert_allclose(actual, wanted, atol=1e-4)


def assert_close(found, expected):
    """α within a quarter of its standard deviation: rounding decides where fits end."""
    for actual, wanted in zip(found, expected, strict=True):
        assert abs(math.log(actual.alpha / wanted.alpha)) < 0.25 * wanted.alpha_sd


def test_a_batch_gives_the_results_of_map_alpha(single, batch):
    assert all(result.converged for result in batch)
    assert_same(batch, single)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_results_do_not_depend_on_the_batch_size(pairs, single, batch_size):
    found = fourierreg.map_alpha_batch(*pairs, batch_size=batch_size, **SETTINGS)
    assert_same(found, single)


def test_the_mock_device_gives_the_same(pairs, batch, monkeypatch):
    sources, targets = pairs[0][:2], pairs[1][:2]
    with fourierreg.use_backend("mock"):
        found = fourierreg.map_alpha_batch(sources, targets, **SETTINGS)
        assert type(found[0].displacement).__name__ == "MockArray"
        single = fourierreg.map_alpha(sources[1], targets[1], **SETTINGS)
    assert_same(found[1:], [single])
    assert_close(found, batch[:2])  # BLAS rounds differently
    monkeypatch.setattr(transform, "_has_blas", lambda xp: False)
    assert_same(found, fourierreg.map_alpha_batch(sources, targets, **SETTINGS))


@pytest.mark.gpu
def test_a_gpu_gives_the_same(pairs, batch):
    try:
        fourierreg.set_backend("cupy")
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    found = fourierreg.map_alpha_batch(*pairs, **SETTINGS)
    assert_close(found, batch)


@pytest.mark.parametrize(
    ("backend_name", "posterior"), [("numpy", "marginal"), ("numpy", "joint"), ("mock", "marginal")]
)
def test_2d_images_with_masks(backend_name, posterior):
    """Dense traces, with the exact J, of one pair after the other, between batched fits."""
    settings = {"modes": 9, "sigma": 0.05, "velocity_scale": 1.0, "posterior": posterior}
    image = bullseye((48, 44), outer=(17.0, 15.0), inner=(8.0, 7.0))
    made = [
        simulate_pair(image, alpha=6.0, sigma=0.05, seed=seed, modes=9, velocity_scale=1.0)
        for seed in range(2)
    ]
    images = np.stack([p.source for p in made]), np.stack([p.target for p in made])
    masks = [np.ones_like(image, bool), image > 0.01]
    with fourierreg.use_backend(backend_name):
        found = fourierreg.map_alpha_batch(*images, masks=masks, **settings)
        single = [
            fourierreg.map_alpha(source, target, mask=mask, **settings)
            for source, target, mask in zip(*images, masks, strict=True)
        ]
    assert found[0].alpha != found[1].alpha
    assert_same(found, single)


def test_masks_and_callbacks(pairs):
    sources, targets = pairs[0][:2], pairs[1][:2]
    masks, records = [np.ones(SHAPE, bool), ball(seed=1) > 0.05], []
    found = fourierreg.map_alpha_batch(
        sources, targets, masks=masks, callback=lambda *record: records.append(record), **SETTINGS
    )
    for index, result in enumerate(found):
        assert tuple(record for pair, record in records if pair == index) == result.history
    masked = fourierreg.map_alpha(pairs[0][1], pairs[1][1], mask=masks[1], **SETTINGS)
    assert_same(found[1:], [masked])


class Limited:
    """`run_all` in whose place memory runs out where more than so many share a batch."""

    def __init__(self, monkeypatch, most, after=0):
        self.run_all, self.most, self.after, self.events = module.run_all, most, after, []
        monkeypatch.setattr(module, "run_all", self)
        monkeypatch.setattr(module, "release_memory", lambda: self.events.append("release"))

    def __call__(self, coroutines, batch_size, finished, **options):
        self.events.append(batch_size)
        left = [self.after]

        def counted(*end):
            finished(*end)
            left[0] -= 1
            if batch_size > self.most and left[0] <= 0:
                raise MemoryError("no room")

        if batch_size > self.most and not self.after:
            raise MemoryError("no room")
        return self.run_all(coroutines, batch_size=batch_size, finished=counted, **options)


def test_a_batch_that_does_not_fit_is_halved(pairs, single, monkeypatch):
    limited = Limited(monkeypatch, most=1)
    found = fourierreg.map_alpha_batch(*pairs, batch_size=3, **SETTINGS)
    assert limited.events == [3, "release", 1]
    assert_same(found, single)


def test_pairs_that_are_done_when_memory_runs_out_are_kept(pairs, single, monkeypatch):
    limited, done = Limited(monkeypatch, most=1, after=1), []
    options = {"batch_size": 2, "finished": lambda pair, _: done.append(pair)}
    found = fourierreg.map_alpha_batch(*pairs, **options, **SETTINGS)
    assert limited.events == [2, "release", 1]
    assert sorted(done) == [0, 1, 2]
    assert_same(found, single)


def test_memory_of_earlier_pairs_is_released_for_a_single_one(pairs, single, monkeypatch):
    limited = Limited(monkeypatch, most=0, after=1)  # each time after one more pair
    images = pairs[0][:2], pairs[1][:2]
    found = fourierreg.map_alpha_batch(*images, batch_size=1, **SETTINGS)
    assert limited.events == [1, "release", 1, "release"]
    assert_same(found, single[:2])


def test_a_pair_that_does_not_fit_is_an_error(pairs, monkeypatch):
    def fail(coroutines, **options):
        raise MemoryError("no room")

    monkeypatch.setattr(module, "run_all", fail)
    with pytest.raises(MemoryError, match="no room"):
        fourierreg.map_alpha_batch(*pairs, **SETTINGS)
    found = fourierreg.map_alpha_batch(*pairs, errors="return", **SETTINGS)
    assert len(found) == 3 and all(isinstance(f, MemoryError) for f in found)


def test_batches_stay_full_whatever_the_alpha_and_noise_of_pairs(monkeypatch):
    """At most a fifth of the rows of a step do no work (benchmarks/batch_counts.py)."""
    counts, step, size = {"steps": 0, "iterations": 0}, lbfgs._Rows.step, 2

    def counted(rows):
        accepted = step(rows)
        counts["steps"] += 1
        counts["iterations"] += int(accepted.sum())
        return accepted

    monkeypatch.setattr(lbfgs._Rows, "step", counted)
    setting = {"modes": 7, "velocity_scale": 0.3}
    made = [
        simulate_pair(ball(), alpha=alpha, sigma=sigma, seed=seed, **setting)
        for seed, (alpha, sigma) in enumerate(itertools.product((3.0, 5.0, 9.0, 14.0), (0.1, 0.2)))
    ]
    images = [pair.source for pair in made], [pair.target for pair in made]
    options = {"posterior": "marginal", "num_steps": 2, "pad": False} | setting
    found = fourierreg.map_alpha_batch(*images, batch_size=size, **options)
    iterations = sum(len(result.history) for result in found)
    assert 0 < iterations <= counts["iterations"]  # those on held-out voxels are not in history
    assert counts["iterations"] > 0.8 * size * counts["steps"]


def test_images_are_read_when_their_turn_comes(pairs, single):
    class Read:
        def __init__(self, images):
            self.images, self.read = images, []

        def __len__(self):
            return len(self.images)

        def __getitem__(self, pair):
            self.read.append(pair)
            return self.images[pair]

    sources, done = Read(pairs[0]), []

    def finished(pair, result):
        done.append((pair, list(sources.read)))

    options = {"batch_size": 1, "finished": finished}
    found = fourierreg.map_alpha_batch(sources, pairs[1], **options, **SETTINGS)
    assert done == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]
    assert_same(found, single)
    assert all(result.seconds > 0 for result in found)


@pytest.mark.parametrize(
    ("free", "settings", "expected"),
    [
        (None, {}, 4),
        (10**12, {}, 4),
        (2 * (10**6 * 400 + 3 * 16**3 * 3000) / 0.7 * 1.1, {}, 2),
        (2 * (10**6 * 400 + 3 * 32**3 * 3000) / 0.7 * 1.1, {"modes": 32}, 2),
        (2 * (10**6 * 400 + 3 * 32**3 * 3000) / 0.7 * 1.1, {"model": {"modes": 32}}, 2),
        (10, {}, 1),
    ],
)
def test_the_default_batch_fits_the_free_memory(monkeypatch, free, settings, expected):
    monkeypatch.setattr(module, "free_memory", lambda: free)
    settings = {"posterior": "marginal"} | settings
    assert module.default_batch_size((100, 100, 100), settings) == expected


def test_a_bad_pair_fails_without_effect_on_the_others(pairs, single):
    sources, targets = pairs[0][:2], [pairs[1][0], np.full(SHAPE, np.nan, np.float32)]
    found = fourierreg.map_alpha_batch(sources, targets, errors="return", **SETTINGS)
    assert isinstance(found[1], InputError)
    assert_same(found[:1], single[:1])
    with pytest.raises(InputError, match="target: has NaN") as caught:
        fourierreg.map_alpha_batch(sources[1:], targets[1:], **SETTINGS)
    assert "pair 0" in caught.value.__notes__[0]


def test_what_finished_raises_is_raised_and_no_pair_is_blamed(pairs):
    def finished(pair, result):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fourierreg.map_alpha_batch(*pairs, errors="return", finished=finished, **SETTINGS)


def test_an_error_after_a_fit_is_raised_as_it_is(pairs, monkeypatch):
    def assemble(*arguments, **keywords):
        raise RuntimeError("the real cause")

    monkeypatch.setattr("fourierreg.registration.map_alpha.assemble", assemble)
    with pytest.raises(RuntimeError, match="the real cause") as caught:
        fourierreg.map_alpha_batch(*pairs, **SETTINGS)
    assert len(caught.value.__notes__) == 1


def test_results_need_not_be_kept(pairs, single):
    done = {}
    found = fourierreg.map_alpha_batch(*pairs, keep=False, finished=done.__setitem__, **SETTINGS)
    assert found == [None] * 3
    assert_same([done[pair] for pair in range(3)], single)


def test_a_sequence_whose_first_image_cannot_be_read(pairs, single):
    class Broken:
        def __len__(self):
            return 2

        def __getitem__(self, pair):
            if pair == 0:
                raise OSError("no such file")
            return pairs[1][0]

    sources = [pairs[0][0]] * 2
    found = fourierreg.map_alpha_batch(sources, Broken(), errors="return", **SETTINGS)
    assert isinstance(found[0], OSError)
    assert_same(found[1:], single[:1])
    with pytest.raises(InputTypeError, match=r"source: .* got a path"):
        fourierreg.map_alpha_batch(["a.nii"], ["b.nii"])


def test_pairs_on_different_grids(pairs, single):
    other = simulated(ball((22, 26, 24), seed=5), 4.0, 5)
    sources, targets = [pairs[0][0], other.source], [pairs[1][0], other.target]
    found = fourierreg.map_alpha_batch(sources, targets, **SETTINGS)
    assert [r.domain.shape for r in found] == [SHAPE, (22, 26, 24)]
    assert_same(found[:1], single[:1])
    assert found[1].alpha_interval[0] < 4.0 < found[1].alpha_interval[1]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"batch_size": 0}, InputError, "batch_size: expected an integer of at least 1"),
        ({"errors": "ignore"}, InputError, "errors: expected one of 'raise', 'return'"),
        ({"masks": []}, InputError, "masks: expected one for each of 3 sources; got 0"),
        ({"alpha": 3.0}, InputTypeError, "alpha: not a keyword of map_alpha_batch"),
        ({"mask": None}, InputTypeError, "mask: not a keyword of map_alpha_batch"),
    ],
)
def test_errors_name_the_argument(pairs, keywords, error, message):
    with pytest.raises(error, match=message):
        fourierreg.map_alpha_batch(*pairs, **keywords)


def test_sources_without_a_target_are_refused(pairs):
    with pytest.raises(InputError, match="targets: expected one for each of 3"):
        fourierreg.map_alpha_batch(pairs[0], pairs[1][:2])


def test_an_empty_batch():
    assert fourierreg.map_alpha_batch([], []) == []

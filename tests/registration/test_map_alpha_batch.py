"""α of many pairs at once: that of each by itself, whatever its company and the memory."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.registration import map_alpha_batch as module
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral import transform

SHAPE = (24, 22, 26)
SETTING = {"modes": 11, "sigma": 0.15, "num_steps": 2, "velocity_scale": 0.3, "pad": False}


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
    made = [simulated(ball(seed=i), alpha, i) for i, alpha in enumerate((3.0, 5.0, 8.0))]
    return [p.source for p in made], [p.target for p in made]


@pytest.fixture(scope="module")
def alone(pairs):
    return [fourierreg.map_alpha(*pair, **SETTING) for pair in zip(*pairs, strict=True)]


@pytest.fixture(scope="module")
def together(pairs):
    return fourierreg.map_alpha_batch(*pairs, **SETTING)


def test_each_is_what_map_alpha_finds(alone, together):
    for one, other in zip(alone, together, strict=True):
        assert other.converged, other.status
        assert abs(math.log(other.alpha / one.alpha)) < 0.5 * one.alpha_sd
        assert other.alpha_sd == pytest.approx(one.alpha_sd, rel=0.2)
        apart = np.sqrt(np.mean((other.displacement - one.displacement) ** 2))
        assert apart < 0.1 * np.sqrt(np.mean(one.displacement**2))
        assert other.history[-1].likelihood == pytest.approx(one.history[-1].likelihood, rel=0.01)


def test_company_does_not_matter(pairs, together):
    alphas = [r.alpha for r in together]
    by_one = fourierreg.map_alpha_batch(*pairs, batch_size=1, **SETTING)
    assert [r.alpha for r in by_one] == pytest.approx(alphas, rel=1e-3)


def test_the_guard_gives_the_same(pairs, together, monkeypatch):
    with fourierreg.use_backend("mock"):
        found = fourierreg.map_alpha_batch(pairs[0][:2], pairs[1][:2], **SETTING)
        assert type(found[0].displacement).__name__ == "MockArray"
    assert_alike(found, together[:2])
    monkeypatch.setattr(transform, "_has_blas", lambda xp: False)  # the mock device's arithmetic
    expected = fourierreg.map_alpha_batch(pairs[0][:2], pairs[1][:2], **SETTING)
    assert [r.alpha for r in found] == pytest.approx([r.alpha for r in expected], rel=1e-6)


def assert_alike(found, expected):
    """α within a fraction of its error bar: where fits end is up to rounding."""
    for one, other in zip(found, expected, strict=True):
        assert abs(math.log(one.alpha / other.alpha)) < 0.25 * other.alpha_sd


@pytest.mark.gpu
def test_a_gpu_gives_the_same(pairs, together):
    try:
        fourierreg.set_backend("cupy")
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    found = fourierreg.map_alpha_batch(*pairs, **SETTING)
    assert_alike(found, together)


def test_memory_that_runs_out_makes_the_batch_smaller(pairs, together, monkeypatch):
    run, sizes = module.run_all, []

    def short(programs):
        sizes.append(len(programs))
        if len(programs) > 1:
            raise MemoryError("no room")
        return run(programs)

    monkeypatch.setattr(module, "run_all", short)
    found = fourierreg.map_alpha_batch(*pairs, batch_size=3, **SETTING)
    assert sizes == [3, 2, 1, 1, 1]
    assert [r.alpha for r in found] == pytest.approx([r.alpha for r in together], rel=1e-3)


def test_one_pair_that_does_not_fit(pairs, monkeypatch):
    def never(programs):
        raise MemoryError("no room")

    monkeypatch.setattr(module, "run_all", never)
    with pytest.raises(MemoryError, match="no room"):
        fourierreg.map_alpha_batch(*pairs, **SETTING)
    found = fourierreg.map_alpha_batch(*pairs, errors="return", **SETTING)
    assert all(isinstance(f, MemoryError) for f in found)


@pytest.mark.parametrize(
    ("free", "expected"),
    [(None, 4), (10**12, 4), (2 * (10**6 * 170 + 3 * 16**3 * 3000) / 0.7 * 1.1, 2), (10, 1)],
)
def test_the_default_batch_is_what_fits(monkeypatch, free, expected):
    monkeypatch.setattr(module, "free_memory", lambda: free)
    assert module._fitting([np.zeros((100, 100, 100), np.float32)] * 8, {}) == expected


def test_a_bad_pair_fails_alone(pairs, together):
    sources, targets = pairs[0][:2], [pairs[1][0], np.full(SHAPE, np.nan, np.float32)]
    found = fourierreg.map_alpha_batch(sources, targets, errors="return", **SETTING)
    assert isinstance(found[1], ValueError)
    assert found[0].alpha == pytest.approx(together[0].alpha, rel=1e-3)
    with pytest.raises(ValueError, match="target: has NaN") as caught:
        fourierreg.map_alpha_batch(sources[1:], targets[1:], **SETTING)
    assert "pair 0" in caught.value.__notes__[0]


def test_grids_may_differ(pairs, together):
    other = simulated(ball((22, 26, 24), seed=5), 4.0, 5)
    sources, targets = [pairs[0][0], other.source], [pairs[1][0], other.target]
    found = fourierreg.map_alpha_batch(sources, targets, **SETTING)
    assert [r.domain.shape for r in found] == [SHAPE, (22, 26, 24)]
    assert found[0].alpha == pytest.approx(together[0].alpha, rel=1e-3)
    assert found[1].alpha_interval[0] < 4.0 < found[1].alpha_interval[1]


def test_masks_and_records(pairs):
    sources, targets = pairs[0][:2], pairs[1][:2]
    masks, seen = [np.ones(SHAPE, bool), ball(seed=1) > 0.05], []
    found = fourierreg.map_alpha_batch(
        sources, targets, masks=masks, callback=lambda *record: seen.append(record), **SETTING
    )
    own = [len([r for pair, r in seen if pair == index]) for index in range(2)]
    assert own == [len(result.history) for result in found]
    masked = fourierreg.map_alpha(pairs[0][1], pairs[1][1], mask=masks[1], **SETTING)
    assert abs(math.log(found[1].alpha / masked.alpha)) < 0.5 * masked.alpha_sd


@pytest.mark.parametrize("posterior", ["marginal", "joint"])
def test_pictures_of_two_dimensions(posterior):
    """Dense traces, one pair after the other; fits together."""
    setting = {"modes": 9, "sigma": 0.05, "velocity_scale": 1.0, "posterior": posterior}
    image = bullseye((48, 44), outer=(17.0, 15.0), inner=(8.0, 7.0))
    made = [
        simulate_pair(image, alpha=6.0, sigma=0.05, seed=seed, modes=9, velocity_scale=1.0)
        for seed in range(2)
    ]
    images = np.stack([p.source for p in made]), np.stack([p.target for p in made])
    found = fourierreg.map_alpha_batch(*images, **setting)
    for pair, result in zip(zip(*images, strict=True), found, strict=True):
        one = fourierreg.map_alpha(*pair, **setting)
        assert abs(math.log(result.alpha / one.alpha)) < 0.5 * one.alpha_sd


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1"),
        ({"errors": "ignore"}, "errors: expected one of 'raise', 'return'"),
        ({"masks": []}, "masks: expected one for each of 3 sources; got 0"),
        ({"alpha": 3.0}, "alpha: no keyword of map_alpha_batch"),
        ({"mask": None}, "mask: no keyword of map_alpha_batch"),
    ],
)
def test_arguments(pairs, keywords, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fourierreg.map_alpha_batch(*pairs, **keywords)
    with pytest.raises(ValueError, match="targets: expected one for each of 3"):
        fourierreg.map_alpha_batch(pairs[0], pairs[1][:2])


def test_no_pairs():
    assert fourierreg.map_alpha_batch([], []) == []

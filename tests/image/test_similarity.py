"""Similarities: values against SciPy and a plain computation, slopes by Taylor's law."""

import numpy as np
import pytest
from scipy import ndimage, stats

from fourierreg.backend import active_module, asarray, to_numpy
from fourierreg.image import voxels
from fourierreg.image.similarity import (
    SIMILARITIES,
    Correlation,
    LocalCorrelation,
    LocalLikelihood,
    MutualInformation,
    SumOfSquares,
    name_of,
    similarity_of,
)
from fourierreg.image.similarity.base import FLOOR
from fourierreg.image.similarity.local_likelihood import SHARE
from tests import laws
from tests.fields import smooth_image

SHAPES = {"2d": (14, 17), "3d": (9, 10, 11)}
ALL = {
    "ssd": SumOfSquares(),
    "ncc": Correlation(),
    "lncc": LocalCorrelation(radius=2),
    "lncc-likelihood": LocalLikelihood(radius=2),
    "mi": MutualInformation(bins=16),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return request.param


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def measure(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "masked"])
def inside(request, shape):
    if not request.param:
        return None
    mask = np.zeros(shape, bool)
    mask[tuple(slice(2, n - 3) for n in shape)] = True
    return asarray(mask)[None]


def images(shape):
    """A deformed image, a target like it, and a source of a wider range."""
    source = smooth_image(shape, 0)
    other = smooth_image(shape, 1)
    return 0.9 * source[None], (0.8 * source + 0.3 * other)[None], source[None]


def known(measure, target, source, mask=None):
    """Statistics of undeformed images on a grid of 1 mm."""
    return measure.statistics(source, target, (1.0,) * (target.ndim - 1), mask)


def evaluate(measure, deformed, target, source, mask=None):
    """Dist of one pair as a float, and its half derivative."""
    statistics = known(measure, target, source, mask)
    value, half = measure.value_and_half_derivative(deformed, target, statistics, mask)
    return float(value[0]), half


def test_derivative_by_taylor(shape, backend, measure, inside):
    deformed, target, source = images(shape)
    _, half = evaluate(measure, deformed, target, source, inside)
    # In steps that leave the range of the source alone, beyond which mutual information is flat.
    direction = 0.2 * smooth_image(shape, 2)[None] * (abs(deformed) < 0.3)

    def value(x):
        return evaluate(measure, x, target, source, inside)[0]

    slope = 2 * float((half * direction).sum())
    laws.gradient(value, deformed, direction, slope, 0.02)


def test_force_is_half_derivative_times_slope_of_the_interpolant(shape, backend, measure, inside):
    _, target, source = images(shape)
    spacing = (1.0, 1.6, 0.7)[: len(shape)]
    rng = np.random.default_rng(0)
    u = asarray(rng.uniform(-1, 1, (1, len(shape), *shape)))
    statistics = measure.statistics(source, target, spacing, inside)
    value, force = measure.value_and_force(source, target, u, spacing, statistics, inside)
    deformed, slope = voxels.value_and_slope(source, u, spacing)
    expected, half = measure.value_and_half_derivative(deformed, target, statistics, inside)
    assert float(value[0]) == pytest.approx(float(expected[0]))
    laws.close(force, slope * half[:, None])


def test_single_precision_agrees(shape, backend, measure, inside):
    arrays = images(shape)
    single = [a.astype(np.float32) for a in arrays]
    value, half = evaluate(measure, *arrays, inside)
    value32, half32 = evaluate(measure, *single, inside)
    assert half32.dtype == np.float32
    if isinstance(measure, MutualInformation):  # a voxel at the edge of a bin may change over
        assert value32 == pytest.approx(value, rel=0.02)
        assert np.corrcoef(to_numpy(half32).ravel(), to_numpy(half).ravel())[0, 1] > 0.99
        return
    assert value32 == pytest.approx(value, rel=1e-3)
    laws.close(half32, half, rtol=1e-2)  # variances of windows are differences of like numbers


def test_what_lies_outside_the_mask_does_not_matter(shape, backend, measure):
    deformed, target, source = images(shape)
    outside = np.zeros(shape, bool)
    outside[tuple(slice(n // 2, n // 2 + 3) for n in shape)] = True
    mask = asarray(~outside)[None]
    lesion = target + 5.0 * asarray(outside.astype(float))[None]
    value, half = evaluate(measure, deformed, target, source, mask)
    other, changed = evaluate(measure, deformed, lesion, source, mask)
    assert other == pytest.approx(value, rel=1e-9)
    laws.close(changed, half)
    assert np.all(to_numpy(half)[0][outside] == 0)


def host(*arrays):
    return [to_numpy(a)[0] for a in arrays]


def test_correlation_is_pearsons(shape, backend, inside):
    deformed, target, source = images(shape)
    value, _ = evaluate(Correlation(), deformed, target, source, inside)
    i, t = host(deformed, target)
    keep = np.ones(shape, bool) if inside is None else to_numpy(inside)[0]
    r = stats.pearsonr(i[keep], t[keep]).statistic
    assert value == pytest.approx(keep.sum() * (1 - r**2), rel=1e-4)


def test_local_correlation_is_pearsons_in_windows(shape, backend, inside):
    radius = 2
    deformed, target, source = images(shape)
    value, _ = evaluate(LocalCorrelation(radius), deformed, target, source, inside)
    negative_log, _ = evaluate(LocalLikelihood(radius), deformed, target, source, inside)
    i, t, s = host(deformed, target, source)
    keep = np.ones(shape, bool) if inside is None else to_numpy(inside)[0]

    def box(x):
        return ndimage.uniform_filter(x * keep, 2 * radius + 1, mode="grid-wrap")

    def mean(x):
        return box(x) / np.maximum(box(np.ones(shape)), 1e-9)

    across = mean(i * t) - mean(i) * mean(t)
    own = mean(i * i) - mean(i) ** 2 + FLOOR * s.var()
    other = mean(t * t) - mean(t) ** 2 + FLOOR * t[keep].var()
    squared = (across**2 / (own * other))[keep]
    assert value == pytest.approx(np.sum(1 - squared), rel=1e-6)
    assert negative_log == pytest.approx(np.sum(np.log(1 - SHARE * squared)), rel=1e-6)
    # What a linear function of the window leaves of its center, over the rms of that.
    measure = LocalLikelihood(radius)
    gain = across / own
    left = t - mean(t) - gain * (i - mean(i))
    expected = left / np.sqrt(other * (1 - SHARE * across**2 / (own * other)))
    found = measure.residual(deformed, target, known(measure, target, source, inside), inside)
    np.testing.assert_allclose(to_numpy(found)[0][keep], expected[keep], rtol=1e-5, atol=1e-7)


def test_mutual_information_of_gaussians(backend):
    # -½ ln(1 - r²) per voxel; bins of a finite width see a little less.
    rng = np.random.default_rng(0)
    r, shape = 0.8, (200, 200)
    x, y = rng.standard_normal((2, *shape))
    i, t = asarray(x)[None], asarray(r * x + np.sqrt(1 - r**2) * y)[None]
    value, _ = evaluate(MutualInformation(bins=64), i, t, i)
    per_voxel = -value / 2 / i.size
    assert per_voxel == pytest.approx(-0.5 * np.log(1 - r**2), rel=0.03)


def test_linear_changes_of_intensity_do_not_matter(shape, backend):
    deformed, target, source = images(shape)
    for measure in (Correlation(), LocalCorrelation(), MutualInformation()):
        value, _ = evaluate(measure, deformed, target, source)
        changed, _ = evaluate(measure, deformed, 3.0 - 2.0 * target, source)
        rel = 0.05 if isinstance(measure, MutualInformation) else 1e-6  # bins are cut elsewhere
        assert changed == pytest.approx(value, rel=rel)


def test_a_perfect_match_is_a_minimum(shape, backend, measure, inside):
    deformed, _, source = images(shape)
    value, half = evaluate(measure, deformed, deformed, source, inside)
    moved = deformed + 0.05 * smooth_image(shape, 2)[None]
    worse = evaluate(measure, moved, deformed, source, inside)[0]
    slack = 0.01 * abs(value) if name_of(measure) == "mi" else 0.0  # few voxels, many bins
    assert value < worse + slack
    if name_of(measure) == "ssd":
        assert value == 0
        assert float(abs(half).max()) == 0


def test_curvature_is_about_right(shape, backend, measure):
    # Half the second difference along a random direction, to a factor of two: enough to scale.
    deformed, target, source = images(shape)
    direction = asarray(np.random.default_rng(0).standard_normal((1, *shape))) * 1e-2

    def value(x):
        return evaluate(measure, x, target, source)[0]

    bend = (value(deformed + direction) + value(deformed - direction) - 2 * value(deformed)) / 2
    statistics = known(measure, target, source)
    curvature = measure.curvature(deformed, target, statistics) * direction**2
    assert 0.5 < bend / float(curvature.sum()) < 2.0


def test_pairs_of_a_batch_are_independent(shape, backend, measure, inside):
    xp = active_module()
    pairs = [images(shape), [2.0 * a - 0.1 for a in reversed(images(shape))]]
    batch = [xp.concatenate(arrays) for arrays in zip(*pairs, strict=True)]
    mask = None if inside is None else xp.concatenate([inside, xp.roll(inside, 1, axis=1)])
    deformed, target, source = batch
    statistics = known(measure, target, source, mask)
    values, halves = measure.value_and_half_derivative(deformed, target, statistics, mask)
    bends = measure.curvature(deformed, target, statistics, mask) * xp.ones_like(halves)
    assert values.shape == (2,)
    for index, arrays in enumerate(pairs):
        own = None if mask is None else mask[index : index + 1]
        value, half = evaluate(measure, *arrays, own)
        assert float(values[index]) == pytest.approx(value, rel=1e-12)
        laws.close(halves[index : index + 1], half)
        bend = measure.curvature(*arrays[:2], known(measure, *arrays[1:], own), own)
        laws.close(bends[index : index + 1], bend * xp.ones_like(half))


def test_names():
    for name, kind in SIMILARITIES.items():
        assert type(similarity_of(name)) is kind
        assert name_of(similarity_of(name)) == name
    own = LocalCorrelation(radius=7)
    assert similarity_of(own) is own


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: similarity_of("mattes"), "similarity"),
        (lambda: LocalCorrelation(radius=0), "radius"),
        (lambda: MutualInformation(bins=4), "bins"),
    ],
)
def test_errors_name_the_argument(build, argument):
    with pytest.raises(ValueError, match=argument):
        build()

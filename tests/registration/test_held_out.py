"""Fits to half of the voxels, and the α that predicts the other half best."""

from dataclasses import replace

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import array_module, asarray, to_numpy
from fourierreg.data.template import template_brain
from fourierreg.errors import InputError
from fourierreg.image.similarity import LocalCorrelation
from fourierreg.model.problem import Problem
from fourierreg.registration.fit import fit
from fourierreg.registration.held_out import checkerboard, held_out_losses, seen
from fourierreg.simulation.bullseye import bullseye
from fourierreg.spectral.metric import Metric

SHAPE = (40, 44)
MODEL = fourierreg.Model(modes=9, velocity_scale=1.0)


def images(alpha=6.0, seed=0, sigma=0.05, shape=SHAPE):
    """(source, target, target without noise): a bull-eye deformed by a velocity drawn at α."""
    source = bullseye(shape, outer=(0.34 * shape[0], 0.3 * shape[1]), inner=(7.0, 6.0))
    clean, rng = deformed(source, alpha, seed)[0], np.random.default_rng(seed)
    target = clean + sigma * rng.standard_normal(shape)
    return source, target.astype(np.float32), clean


def deformed(source, alpha, seed):
    """A source deformed by a velocity drawn at α (s = 1 voxel), and the displacement."""
    with fourierreg.use_backend("numpy"):
        metric = fourierreg.Metric.create(source.shape, modes=9, alpha=alpha, velocity_scale=1.0)
        v = fourierreg.sample_velocity(metric, np.random.default_rng(100 + seed))
        u = fourierreg.shoot(v, metric).displacement()
        return fourierreg.warp(source, u), u


def problems(backend, count=1):
    """A problem of `count` pairs, its metric, start and voxels that count."""
    metric = Metric.create(SHAPE, modes=7, alpha=3.0, velocity_scale=1.0).batch()
    pairs = [images(seed=seed)[:2] for seed in range(count)]
    made = [
        Problem.of_pair(asarray(s), asarray(t), (1.0, 1.0), 400.0, num_steps=3, integrator="rk4")
        for s, t in pairs
    ]
    metric = metric.concatenate([metric] * count)
    shape = (count, 2, *metric.band.coefficient_shape)
    inside = asarray(np.ones((count, *SHAPE), bool))
    return Problem.concatenate(made), metric, asarray(np.zeros(shape, complex)), inside


def losses_of(problem, metric, start, inside):
    """Held-out losses after five iterations."""
    pairs = len(metric.alphas)
    rules = {"tolerance": 0.0, "max_iterations": 5, "record": lambda *_: None}
    minima = fit(seen(problem, inside), metric, start, [None] * pairs, **rules)
    velocity = array_module(start).concatenate([minimum.velocity for minimum in minima])
    return held_out_losses(problem, metric, velocity, inside)


def test_blocks_alternate():
    board = checkerboard((8, 6, 4))
    assert board[:2, :2, :2].all() and not board[2:4, :2, :2].any()
    assert board.mean() == 0.5


def test_the_fit_does_not_see_the_voxels_it_is_judged_by(backend):
    """Σ (r ± 1)² over n hidden voxels exceeds Σ r² by 2n in sum, if the same fit left r."""
    problem, *others = problems(backend)
    hidden = asarray(~checkerboard(SHAPE))[None]
    plain, up, down = (
        losses_of(
            replace(problem, target=problem.target + sign * hidden.astype(np.float32)), *others
        )
        for sign in (0, 1, -1)
    )
    assert plain.shape == (1, 4)
    count = float(to_numpy(hidden.sum()))
    assert float((up + down - 2 * plain).sum()) == pytest.approx(2 * count, rel=1e-4)
    assert plain.sum() > 0


def test_pairs_of_a_batch_have_the_losses_they_have_alone(backend):
    problem, metric, start, inside = problems(backend, count=2)
    together = losses_of(problem, metric, start, inside)
    for pair in range(2):
        one = [pair]
        alone = losses_of(problem.select(one), metric.select(one), start[one], inside[one])
        np.testing.assert_allclose(together[one], alone, rtol=1e-4)


def test_voxels_outside_the_mask_count_for_nothing(backend):
    problem, metric, start, inside = problems(backend)
    mask = np.zeros((1, *SHAPE), bool)
    mask[:, 6:-6, 6:-6] = True
    spoiled = to_numpy(problem.target).copy()
    spoiled[~mask] = 5.0
    masked = replace(problem, mask=asarray(mask))
    losses = [
        losses_of(p, metric, start, inside)
        for p in (masked, replace(masked, target=asarray(spoiled)))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sigma", [0.05, 0.15])
def test_the_alpha_found_predicts_the_image_without_noise(seed, sigma):
    """Eight times smoother or rougher, the deformed source is not nearer to the truth, which no
    fit has seen; and the α is about that of the prior from which the deformation was drawn."""
    source, target, clean = images(alpha=6.0, seed=seed, sigma=sigma, shape=(64, 60))
    result = fourierreg.map_alpha(source, target, posterior="predictive", model=MODEL)
    assert result.posterior == "predictive"
    errors = [
        np.mean((fourierreg.register(source, target, alpha=a, model=MODEL).deformed - clean) ** 2)
        for a in result.alpha * np.array([0.125, 1.0, 8.0])
    ]
    assert errors[1] < 1.4 * errors[0] and errors[1] < 0.5 * errors[2]
    assert 2.0 < result.alpha < 18.0
    low, high = result.alpha_interval
    assert low < result.alpha < high


def test_local_correlation_finds_the_alpha_that_aligns_best_through_a_gain_field():
    """α is not that of the prior, as γ is not the strength of the noise; but the displacement at it
    is as near to the truth as at the best of a smoother and a rougher one."""
    brain = np.ascontiguousarray(template_brain(64)[0][:, :, 33])
    clean, u = deformed(brain, alpha=10.0, seed=1)
    gain = np.linspace(0.6, 1.4, 64)[:, None]
    noise = 0.03 * np.random.default_rng(1).standard_normal(brain.shape) * (clean > 0)
    target = (gain * clean + noise).astype(np.float32)
    model = replace(MODEL, similarity=LocalCorrelation(3.0))
    result = fourierreg.map_alpha(brain, target, posterior="predictive", model=model)
    assert result.converged, result.status
    assert result.sigma is None and result.weight == pytest.approx(0.4)
    errors = [
        np.mean((fourierreg.register(brain, target, alpha=a, model=model).displacement - u) ** 2)
        for a in result.alpha * np.array([1 / 8, 1.0, 16.0])
    ]
    assert errors[1] < 1.1 * min(errors)


def test_by_default_alpha_is_predictive_in_the_model_of_a_quality(tmp_path):
    source, target, _ = images()
    result = fourierreg.map_alpha(source, target, quality="fast")
    # What every α that was tried predicts is kept: α lies next to the best of them.
    alphas, losses = np.array(result.held_out).T
    assert np.all(np.diff(alphas) > 0) and 0 < losses.argmin() < len(losses) - 1
    assert abs(np.log(result.alpha / alphas[losses.argmin()])) <= np.log(2)
    result.save(tmp_path / "result.npz")
    assert fourierreg.Registration.load(tmp_path / "result.npz").held_out == result.held_out
    assert result.posterior == "predictive" and result.similarity == "lncc"
    assert result.model.power == 1.5 and result.model.modes == 24
    by_option = fourierreg.map_alpha(source, target, modes=7, velocity_scale=1.0)
    assert by_option.posterior == "marginal" and by_option.similarity == "ssd"
    assert by_option.held_out is None


def test_a_small_image_has_no_more_modes_than_voxels():
    source, target, _ = images(shape=(24, 26))
    assert fourierreg.map_alpha(source, target).model.modes == 24


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"posterior": "predictive", "alpha_prior": (1.0, 2.0)}, "alpha_prior: expected none"),
        ({"posterior": "predictive", "jacobian": "exact"}, "jacobian: expected none"),
        ({"posterior": "marginal", "quality": "fast"}, "quality: expected none"),
        ({"quality": "fast", "model": MODEL}, "quality: expected none"),
        ({"posterior": "mean"}, "posterior: expected one of 'predictive', 'marginal', 'joint'"),
        ({"quality": "best"}, "expected one of 'fast', 'default', 'accurate', 'paper'"),
        ({"quality": "fast", "evidence": True}, "evidence: needs a Gaussian likelihood"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(keywords, message):
    source, target, _ = images()
    with pytest.raises(InputError, match=message):
        fourierreg.map_alpha(source, target, **keywords)

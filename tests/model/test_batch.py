"""Many pairs along one axis: every number is that of the pair by itself."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.model import laplace as marginal
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem, is_diffeomorphism
from fourierreg.optim.batching import ask, run_all
from fourierreg.registration import tasks as work
from fourierreg.registration.fit import fit_velocities
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import smooth_image, velocity, white
from tests.model import problems

ALPHAS = (2.0, 3.0, 5.0)
WEIGHTS = (20.0, 40.0, 60.0)


def make_all(case, *, masked=False, finer=False, **keywords):
    """Problems, metrics and velocities of three pairs, unlike in everything that may differ."""
    base = Metric.create(**problems.CASES[case])
    made, metrics, velocities = [], [], []
    for index, (alpha, weight) in enumerate(zip(ALPHAS, WEIGHTS, strict=True)):
        problem = problems.make(base, masked=masked, weight=weight, **keywords)
        shape = tuple((2 if finer else 1) * n for n in base.band.shape)
        images = [smooth_image(s, 10 * index + i) for i, s in enumerate((shape, base.band.shape))]
        mask = problem.mask
        if masked:
            inside = to_numpy(mask).copy()
            inside[index] = False
            mask = asarray(inside)
        made.append(replace(problem, source=images[0], target=images[1], mask=mask))
        metrics.append(base.with_alpha(alpha))
        velocities.append(velocity(metrics[-1], index))
    return made, metrics, velocities


@pytest.fixture(
    params=[
        ("2d", {}),
        ("2d-anisotropic", {"masked": True}),
        ("3d-anisotropic", {"finer": True}),
        ("3d-anisotropic", {"integrator": "rk4"}),
        ("3d-anisotropic", {"dynamics": "stationary"}),
    ],
    ids=["2d", "masked", "finer source", "rk4", "stationary"],
)
def setting(request, backend):
    case, keywords = request.param
    return make_all(case, **keywords)


def stacked(setting, xp):
    made, metrics, velocities = setting
    return Problem.together(made), Metric.together(metrics), xp.stack(velocities)


def test_the_metric(setting, xp):
    _, metrics, velocities = setting
    _, metric, v = stacked(setting, xp)
    probes = xp.stack([v, 2.0 * v])  # other axes come before that of pairs
    for index, (own, w) in enumerate(zip(metrics, velocities, strict=True)):
        laws.close(metric.lower(v)[index], own.lower(w))
        laws.close(metric.raise_(probes)[1, index], own.raise_(2.0 * w))
        laws.close(metric.inner(v, v)[index], own.inner(w, w))
        for name in ("log_determinant", "effective_modes"):
            assert getattr(metric, name)(xp)[index] == pytest.approx(getattr(own, name)(xp))
    assert metric.select([2, 0]).alpha == (5.0, 2.0)


def test_energy_and_gradient(setting, xp):
    problem, metric, v = stacked(setting, xp)
    found = problem.evaluate(v, metric)
    for index, (own, m, w) in enumerate(zip(*setting, strict=True)):
        expected = own.evaluate(w, m)
        laws.close(found.gradient[index], expected.gradient)
        for energy, alone in zip(found[:3], expected[:3], strict=True):
            assert energy[index] == pytest.approx(alone)
        one = found.one(index, m)
        assert one.total == pytest.approx(expected.total)
        u, alone = one.geodesic.displacement(), expected.geodesic.displacement()
        laws.close(u, alone)


def test_pairs_that_fold_are_refused_alone(setting, xp):
    made, metrics, velocities = setting
    wild = [velocities[0], 200.0 * velocities[1], velocities[2]]
    problem, metric, v = stacked((made, metrics, wild), xp)
    good = is_diffeomorphism(problem.shoot(v, metric), problem.shape)
    assert good.tolist() == [True, False, True]
    found = problem.evaluate(v, metric)
    assert np.isinf(found.total[1])
    for index in (0, 2):
        expected = made[index].evaluate(velocities[index], metrics[index])
        assert found.total[index] == pytest.approx(expected.total)
        laws.close(found.gradient[index], expected.gradient)
    nothing = problem.evaluate(200.0 * v, metric)
    assert np.all(np.isinf(nothing.total)) and nothing.gradient is None


@pytest.mark.parametrize("exact", [False, True])
def test_the_hessian(setting, xp, exact):
    problem, metric, v = stacked(setting, xp)
    hessian = PosteriorHessian(metric, problem.curvature(problem.shoot(v, metric), exact))
    w = xp.stack([xp.stack([white(metric.band, 3 * i + j) for j in range(3)]) for i in range(2)])
    image, solved = hessian(w), hessian.solve(w, rtol=1e-6)
    for index, (own, m, x) in enumerate(zip(*setting, strict=True)):
        alone = PosteriorHessian(m, own.curvature(own.shoot(x, m), exact))
        laws.close(image[:, index], alone(w[:, index]))
        laws.close(solved[:, index], alone.solve(w[:, index], rtol=1e-6))
        laws.close(hessian.diagonal(xp)[index], alone.diagonal(xp))


def requests_of(kind, setting, *more):
    return [
        kind(problem, metric, v, problem.shoot(v, metric), *more)
        for problem, metric, v in zip(*setting, strict=True)
    ]


def test_slopes_of_the_marginal(setting, xp, monkeypatch):
    monkeypatch.setattr(marginal, "DENSE_LIMIT", 0)
    monkeypatch.setattr(work, "DENSE_LIMIT", 0)
    requests = requests_of(work.AlphaSlope, setting, False, 5)
    assert len({request.kind for request in requests}) == 1 and requests[0].kind is not None
    for found, request in zip(requests[0].together(requests), requests, strict=True):
        expected = request.alone()
        for name in ("value", "roughness", "modes", "undetermined", "drift", "noise"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6), name
        assert found.frozen_curvature == pytest.approx(expected.frozen_curvature)
        laws.close(found.velocity, expected.velocity)
        assert isinstance(found.plus(marginal_prior(), 2.0).value, float)


def marginal_prior():
    from fourierreg.registration.alpha_search import Gamma

    return Gamma(2.0, 3.0)


def test_drifts_of_the_velocity(setting, xp):
    requests = requests_of(work.Drift, setting)
    for found, request in zip(requests[0].together(requests), requests, strict=True):
        laws.close(found, request.alone())


def test_exact_and_dense_slopes_are_taken_one_by_one(setting):
    assert requests_of(work.AlphaSlope, setting, True, 5)[0].kind is None
    assert requests_of(work.AlphaSlope, setting, False, 5)[0].kind is None  # a small band


def solvable(setting):
    """The same pairs, each target its source deformed, with a little noise."""
    made, metrics, velocities = setting
    targets = []
    for index, (problem, metric, v) in enumerate(zip(*setting, strict=True)):
        deformed = problem.deformed(problem.shoot(0.7 * v, metric))
        noise = np.random.default_rng(index).standard_normal(problem.shape)
        targets.append(deformed + asarray(0.05 * noise))
    pairs = zip(made, targets, strict=True)
    return [replace(problem, target=target) for problem, target in pairs], metrics, velocities


def fits(setting, seen=None, **changes):
    options = {"memory": None, "tolerance": 1e-3, "max_iterations": 300} | changes
    return [
        work.Fit(
            problem=problem,
            metric=metric,
            velocity=0.0 * v,
            record=(lambda *energies, i=i: seen[i].append(energies)) if seen else lambda *_: None,
            **options,
        )
        for i, (problem, metric, v) in enumerate(zip(*setting, strict=True))
    ]


def test_fits_end_where_they_do_alone(setting, xp):
    seen, setting = [[], [], []], solvable(setting)
    requests = fits(setting, seen)
    ends = requests[0].together(requests)
    for index, (end, request) in enumerate(zip(ends, requests, strict=True)):
        alone = fits(setting)[index].alone()
        assert end.settled and not end.at_boundary
        enough = request.tolerance * math.sqrt(request.metric.band.degrees_of_freedom)
        assert abs(end.evaluation.total - alone.evaluation.total) < 10 * enough
        laws.close(end.velocity, alone.velocity, rtol=0.05)
        totals = np.array(seen[index])[:, :2].sum(axis=1)
        assert np.all(np.diff(totals) <= 0) and len(totals) == end.evaluations
        assert totals[-1] == pytest.approx(end.evaluation.total)
        metric, gradient = request.metric, end.evaluation.gradient
        norm = math.sqrt(float(inner(gradient, gradient, metric.band, xp)))
        assert seen[index][-1][2] == pytest.approx(norm, rel=1e-3)


def test_a_start_that_folds_is_shrunk_and_one_that_is_not_finite_fails_alone(setting, xp):
    made, metrics, velocities = setting
    starts = [float("nan") * velocities[0], 200.0 * velocities[1], 0.0 * velocities[2]]
    seen = []
    found = fit_velocities(
        made,
        metrics,
        starts,
        memories=[None] * 3,
        tolerance=0.1,
        max_iterations=5,
        record=lambda pair, *_: seen.append(pair),
    )
    assert isinstance(found[0], FloatingPointError)
    assert set(seen) == {1, 2}
    for end in found[1:]:
        assert np.isfinite(end.evaluation.total)


def test_a_fit_alone_fails_alike_on_every_backend(setting, xp):
    request = fits(setting)[0]
    wrong = replace(request, velocity=float("nan") * request.velocity)
    with pytest.raises(FloatingPointError, match="not finite"):
        wrong.alone()
    assert np.isfinite(request.alone().evaluation.total)


def test_kinds_tell_what_fits_together(setting):
    made, metrics, _ = setting
    kind = fits(setting)[0].kind
    assert {fit.kind for fit in fits(setting)} == {kind}
    coarser = replace(made[0], spacing=tuple(2 * h for h in made[0].spacing))
    longer = replace(made[0], num_steps=made[0].num_steps + 1)
    for problem in (coarser, longer):
        assert fits(([problem], metrics[:1], setting[2][:1]))[0].kind != kind
    other = replace(metrics[0], velocity_scale=2 * metrics[0].velocity_scale)
    assert fits((made[:1], [other], setting[2][:1]))[0].kind != kind
    assert fits(setting, tolerance=0.5)[0].kind != kind
    jacobi = replace(made[0], gradient="jacobi")
    assert fits(([jacobi], metrics[:1], setting[2][:1]))[0].kind is None


def test_programs_ask_for_fits(setting):
    requests = fits(solvable(setting))
    ends = run_all([lambda fit=fit: ask(fit) for fit in requests])
    assert all(end.settled for end in ends)

"""The full-grid baseline: exact gradients, FFTs and their adjoints, agreement with the band."""

import math

import numpy as np
import pytest

import fourierreg
from fourierreg.geodesic import stationary
from fourierreg.geodesic.lie import ad_dagger
from fourierreg.geodesic.state import join_state, split_state
from fourierreg.image.voxels import value_and_slope
from fourierreg.model.full_grid import FullGridProblem, from_grid, to_grid
from fourierreg.model.hessian import PosteriorHessian, data_curvature
from fourierreg.model.problem import Problem
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.band import axis_frequencies, inner
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.transform import analysis, synthesis
from tests import laws
from tests.fields import smooth_image, white
from tests.model.problems import velocity

CASES = {
    "2d": ((20, 17), (1.0, 1.0)),
    "2d-anisotropic": ((15, 22), (1.6, 0.7)),
    "3d-anisotropic": ((12, 10, 11), (1.0, 1.6, 0.7)),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def metric(request):
    """The metric of the widest band of a grid, as a batch of one."""
    shape, spacing = request.param
    return Metric.create(shape, spacing=spacing, modes=shape).batch()


def problem_of(metric, kind=FullGridProblem, dtype=np.float64, **keywords):
    shape = metric.band.shape
    images = (smooth_image(shape, seed, dtype=dtype) for seed in (0, 1))
    return kind.of_pair(*images, metric.band.spacing, 40.0, num_steps=3, **keywords)


def test_transforms_are_those_of_the_widest_band(metric):
    v, band = white(metric.band, 0), metric.band
    values = to_grid(v, band, np.float64)
    laws.close(values, synthesis(v, band, band.shape, np.float64, np))
    laws.close(from_grid(values, band), v)
    noise = np.random.default_rng(0).standard_normal(values.shape)
    laws.close(from_grid(noise, band), analysis(noise, band, np))


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_is_the_derivative_of_the_energy(metric, masked):
    mask = None
    if masked:
        mask = np.zeros(metric.band.shape, bool)
        mask[tuple(slice(2, n - 3) for n in metric.band.shape)] = True
    problem = problem_of(metric, mask=mask)
    v, w = velocity(metric, 5, factor=0.5), velocity(metric, 6)
    slope = inner(problem.evaluate(v, metric).gradient, w, metric.band, np)
    laws.gradient(lambda x: problem.evaluate(x, metric).total, v, w, slope, 2e-5)


def test_same_energy_as_central_differences_in_the_band(metric, monkeypatch):
    # A velocity of a quarter of the frequencies, whose products fit the grid; the equations term by
    # term, with the differences of neighboring voxels that the full grid takes.
    def difference(band, xp):
        symbols = [
            1j * np.sin(2.0 * np.pi * k / n) / h
            for k, n, h in zip(axis_frequencies(band), band.shape, band.spacing, strict=True)
        ]
        return np.stack(np.broadcast_arrays(*symbols))

    monkeypatch.setattr("fourierreg.spectral.operators.derivative", difference)
    narrow = Metric.create(
        metric.band.shape,
        spacing=metric.band.spacing,
        modes=tuple(max(3, n // 4) for n in metric.band.shape),
    ).batch()
    problem, v = problem_of(metric), 0.5 * velocity(narrow, 5)
    values = synthesis(v, narrow.band, metric.band.shape, np.float64, np)
    v = analysis(values, metric.band, np)
    full = problem.evaluate(v, metric)
    state = join_state(v, np.zeros_like(v), metric, np)
    for _ in range(problem.num_steps):
        step = stationary.rate(state, stationary.evaluate_on_grid(state, metric), metric)
        velocity_, _ = split_state(state, metric)
        step[:, 0] = -ad_dagger(velocity_, velocity_, metric)
        state = state + step / problem.num_steps
    u = synthesis(split_state(state, metric)[1], metric.band, problem.shape, np.float64, np)
    residual = value_and_slope(problem.source, u, problem.spacing)[0] - problem.target
    assert full.likelihood[0] == pytest.approx(20.0 * np.sum(residual**2), rel=1e-3)
    assert full.prior[0] == pytest.approx(0.5 * metric.inner(v, v)[0] / metric.velocity_scale**2)


def test_single_precision(metric):
    v = velocity(metric, 5, factor=0.5)
    double = problem_of(metric).evaluate(v, metric)
    single = problem_of(metric, dtype=np.float32).evaluate(v, metric)
    assert single.geodesic.displacement.dtype == np.float32
    assert single.total == pytest.approx(double.total, rel=1e-4)
    laws.close(metric.raise_(single.gradient), metric.raise_(double.gradient), rtol=1e-3)


def test_curvature_is_that_of_the_band(metric):
    v, w = velocity(metric, 5, factor=0.5), white(metric.band, 7, (2, 1))
    problem = problem_of(metric)
    geodesic = problem.shoot(v, metric)
    curvature = problem.curvature(geodesic)
    laws.symmetric(
        curvature, w[0], w[1], lambda a, b: inner(a, b, metric.band, np), rtol=laws.DOUBLE
    )

    class SameGradient(Problem):
        """The band's form of the same g, on the voxels themselves as 4K + 1 exceeds their
        number."""

        def deformed_gradient(self, _):
            return problem.deformed_gradient(geodesic)

    other = problem_of(metric, SameGradient)
    reference = data_curvature(other, other.shoot(v, metric))
    moved, expected = curvature(w), reference(w)
    assert np.linalg.norm(moved - expected) < 1e-3 * np.linalg.norm(expected)
    assert curvature.diagonal.shape == reference.diagonal.shape
    np.testing.assert_allclose(curvature.diagonal, reference.diagonal, rtol=1e-3)
    assert PosteriorHessian(metric, curvature).solve(w).shape == w.shape


def test_a_fold_has_infinite_energy(metric):
    problem = problem_of(metric)
    v = velocity(metric, 5)
    for factor in (30.0, 1e30):
        evaluation = problem.evaluate(factor * v, metric)
        assert evaluation.total.tolist() == [math.inf]
        assert evaluation.gradient is None


def bullseye_pair(seed):
    source = bullseye((28, 26), outer=(9.5, 8.0), inner=(5.0, 4.0))
    return simulate_pair(source, alpha=6.0, seed=seed, sigma=0.05, modes=9, velocity_scale=1.0)


@pytest.fixture(scope="module")
def pair():
    return bullseye_pair(3)


FULL = fourierreg.Model(space="full")
SETTING = {"sigma": 0.05, "velocity_scale": 1.0, "jacobian": "approximate", "pad": False}


def test_it_agrees_with_a_band_wide_enough():
    """As far as differences of neighboring voxels are derivatives.

    α to 8 % and the displacement to a tenth of a voxel rms, in the median of six pairs (a fit ends
    at one of several kinks, and the rotation of a ring is hardly determined); every α of the full
    grid within the interval of the band; a result of the same form.
    """
    differences, distances = [], []
    for seed in range(1, 7):
        pair = bullseye_pair(seed)
        full = fourierreg.map_alpha(pair.source, pair.target, model=FULL, **SETTING)
        band = fourierreg.map_alpha(pair.source, pair.target, modes=20, **SETTING)
        assert full.converged and band.converged
        assert band.alpha_interval[0] < full.alpha < band.alpha_interval[1]
        assert full.metric.band.degrees_of_freedom == 2 * 27 * 25
        assert full.metric.band.shape == band.metric.band.shape
        differences.append(abs(math.log(full.alpha / band.alpha)))
        distances.append(np.sqrt(np.mean((full.displacement - band.displacement) ** 2)))
    assert np.median(differences) < 0.08
    assert np.median(distances) < 0.1


def test_register_on_the_full_grid(pair, tmp_path):
    setting = {"alpha": 6.0, "sigma": 0.05, "velocity_scale": 1.0}
    full = fourierreg.register(pair.source, pair.target, model=FULL, **setting)
    band = fourierreg.register(pair.source, pair.target, modes=26, **setting)  # of a padded domain
    # Rings hardly determine a rotation, but the images agree to a fifth of the noise.
    assert np.sqrt(np.mean((full.deformed - band.deformed) ** 2)) < 0.01
    energies = [r.history[-1].prior + r.history[-1].likelihood for r in (full, band)]
    assert energies[0] == pytest.approx(energies[1], rel=0.03)
    full.save(tmp_path / "full.npz")
    again = fourierreg.Registration.load(tmp_path / "full.npz")
    np.testing.assert_array_equal(again.velocity, full.velocity)


@pytest.mark.parametrize(
    ("fields", "options", "argument"),
    [
        ({"space": "voxels"}, {}, "space"),
        ({"space": "full", "integrator": "rk4"}, {}, "integrator"),
        ({"space": "full", "dynamics": "stationary"}, {}, "dynamics"),
        ({"space": "full"}, {"jacobian": "exact"}, "jacobian"),
    ],
)
def test_errors_name_what_is_not_supported(pair, fields, options, argument):
    with pytest.raises(ValueError, match=f"^{argument}"):
        model = fourierreg.Model(**fields)
        fourierreg.map_alpha(pair.source, pair.target, model=model, **{**SETTING, **options})


def test_the_exact_curvature_is_refused(metric):
    problem = problem_of(metric)
    geodesic = problem.shoot(velocity(metric, 5, factor=0.5), metric)
    with pytest.raises(ValueError, match=r"^jacobian"):
        problem.curvature(geodesic, exact=True)


def test_it_runs_on_numpy_only(pair):
    with fourierreg.use_backend("mock"), pytest.raises(ValueError, match="NumPy only"):
        fourierreg.register(pair.source, pair.target, model=FULL)

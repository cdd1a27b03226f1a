"""The paper's forward-backward sweep compared with the exact gradient, and its errata.

The function that is differentiated is linear in the deformed image of an analytic source, so that
neither interpolation nor noise affects the comparison: f = Σ_x w(x) S(x + u(x)).
"""

import numpy as np
import pytest

from fourierreg.backend import active_module, to_numpy
from fourierreg.geodesic.jacobi import end_gradient, jacobi_rate, sweep
from fourierreg.geodesic.lie import ad, ad_dagger
from fourierreg.geodesic.shooting import pull_back, shoot
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.operators import jacobian
from fourierreg.spectral.transform import analysis, synthesis
from tests import laws
from tests.fields import velocity, white

SHAPE = (48, 48)
FULL_MODES = 33


def metric_of(modes):
    return Metric.create(SHAPE, modes=modes, alpha=3.0, velocity_scale=1.0)


def truncated_velocity(metric):
    """One velocity of a band of `FULL_MODES`, truncated to the band of `metric`."""
    xp, wide = active_module(), metric_of(FULL_MODES)
    values = synthesis(velocity(wide, 4, factor=0.5), wide.band, SHAPE, np.float64, xp)
    return analysis(values, metric.band, xp)


def pushes(geodesic):
    """M Π[w ∇S∘φ⁻¹] and M Π[w ∇(S∘φ⁻¹)] = M Π[(I + Du)ᵀ w ∇S∘φ⁻¹] of a smooth S."""
    band, xp = geodesic.metric.band, active_module()
    u = to_numpy(geodesic.displacement(dtype=np.float64))
    x, y = np.indices(SHAPE) + u
    k = 2 * np.pi / 48
    slope = np.stack(
        [k * np.cos(k * x) * np.cos(2 * k * y), -2 * k * np.sin(k * x) * np.sin(2 * k * y)]
    )
    weight = np.cos(k * np.indices(SHAPE)[0] + 1.0)
    force = xp.asarray(weight * slope)
    du = jacobian(geodesic.displacement_coefficients(), band, xp)
    du = synthesis(du, band, SHAPE, np.float64, xp)
    deformed_force = force + xp.einsum("jixy,jxy->ixy", du, force)
    return analysis(force, band, xp), analysis(deformed_force, band, xp)


def compare(modes, num_steps, integrator="euler", method=sweep):
    """(relative difference, cosine) in the metric between a sweep and the exact gradient."""
    metric = metric_of(modes)
    geodesic = shoot(truncated_velocity(metric), metric, num_steps=num_steps, integrator=integrator)
    force, deformed_force = pushes(geodesic)
    exact = pull_back(geodesic, force)
    actual = method(geodesic, end_gradient(deformed_force, metric))
    error = actual - exact
    size, other = metric.inner(exact, exact), metric.inner(actual, actual)
    cosine = float(metric.inner(actual, exact)) / float(size * other) ** 0.5
    return float(metric.inner(error, error) / size) ** 0.5, cosine


def test_difference_is_of_first_order_in_the_euler_step(backend):
    differences = [compare(17, n)[0] for n in (10, 20, 40)]
    ratios = np.divide(differences[:-1], differences[1:])
    assert np.all((ratios > 1.8) & (ratios < 2.2)), differences  # above the truncation floor


def test_truncation_error_falls_with_the_modes(backend):
    # With Runge-Kutta steps only the truncation error remains.
    floors = [compare(modes, 12, "rk4")[0] for modes in (5, 9, 17)]
    assert np.all(np.divide(floors[:-1], floors[1:]) > 3), floors


def test_runge_kutta_reaches_the_truncation_error_in_four_steps(backend):
    coarse, fine = compare(9, 4, "rk4")[0], compare(9, 16, "rk4")[0]
    assert coarse == pytest.approx(fine, rel=0.05)


def test_the_sweep_is_linear_and_takes_batches(metric, backend):
    geodesic = shoot(velocity(metric, 0), metric, num_steps=3)
    batch = white(metric.band, 1, (2,))
    laws.linear(lambda x: sweep(geodesic, x), batch[0], batch[1])
    laws.close(sweep(geodesic, batch)[1], sweep(geodesic, batch[1]))


def test_corrected_rates_are_adjoint_to_the_linearized_flow(metric, backend, xp):
    # d/dt (⟨ĥ, δv⟩_V + ⟨v̂, δφ⟩_V) = 0 for (δv, δφ) of the linearized flow (E6),
    # dδv/dt = -ad†_δv v - ad†_v δv and dδφ/dt = δv + ad_v δφ.
    v, dv, dphi, v_hat, h_hat = (velocity(metric, s) for s in range(5))
    rates = jacobi_rate(v, v_hat, h_hat, metric)
    flow = (
        -ad_dagger(dv, v, metric) - ad_dagger(v, dv, metric),
        dv + ad(v, dphi, metric.band),
    )
    total = (
        metric.inner(rates[1], dv)
        + metric.inner(h_hat, flow[0])
        + metric.inner(rates[0], dphi)
        + metric.inner(v_hat, flow[1])
    )
    scale = abs(metric.inner(v_hat, flow[1])) + abs(metric.inner(h_hat, flow[0]))
    assert abs(float(total)) < 1e-9 * float(scale)


def sweep_variant(first, bracket, last):
    """Euler sweep with the signs of one reading of the printed Eq. 9.

    `first` is the argument of the first equation, `bracket` and `last` the signs of ad_v ĥ and
    ad†_ĥ v. In Eq. 2 the paper's ad† includes a minus, so both signs of ad† are tested.
    """

    def method(geodesic, end):
        metric = geodesic.metric
        v_hat, h_hat = end, 0 * end
        for step in range(geodesic.num_steps, 0, -1):
            v = geodesic.velocity(step)
            argument = h_hat if first == "h" else v_hat
            rates = (
                -ad_dagger(v, argument, metric),
                -v_hat + bracket * ad(v, h_hat, metric.band) + last * ad_dagger(h_hat, v, metric),
            )
            dt = 1 / geodesic.num_steps
            v_hat, h_hat = v_hat - dt * rates[0], h_hat - dt * rates[1]
        return h_hat

    return method


def test_the_corrected_form_is_the_one_implemented(backend):
    corrected = compare(17, 40, method=sweep_variant("v", +1, -1))
    assert corrected[0] == pytest.approx(compare(17, 40)[0])


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(("h", +1, -1), id="E6-h-in-the-first-equation"),
        pytest.param(("v", -1, -1), id="E6-sign-of-ad"),
        pytest.param(("v", +1, +1), id="E6-sign-of-ad-dagger"),
        pytest.param(("h", -1, +1), id="E6-all-as-printed"),
        pytest.param(("h", -1, -1), id="E6-as-printed-with-the-ad-dagger-of-Eq2"),
    ],
)
def test_printed_variants_are_wrong(backend, variant):
    # The corrected form has an error under 1 %; that of a wrong form does not fall with the step.
    corrected = compare(17, 80)[0]
    coarse, fine = (compare(17, n, method=sweep_variant(*variant))[0] for n in (20, 80))
    assert corrected < 0.01
    assert fine > 10 * corrected
    assert fine > 0.8 * coarse


def test_plus_sign_of_equation_8_points_uphill(backend):
    # E5: the cosine is -0.998 instead of +0.998.
    assert compare(17, 40)[1] > 0.998
    assert compare(17, 40, method=lambda geodesic, end: sweep(geodesic, -end))[1] < -0.998


def test_gradient_of_the_source_instead_of_the_deformed_image_is_worse(backend):
    # (∇S)∘φ⁻¹ at the end point instead of ∇(S∘φ⁻¹) gives an error of several per cent.
    metric = metric_of(17)
    geodesic = shoot(truncated_velocity(metric), metric, num_steps=80)
    force, _ = pushes(geodesic)
    exact, actual = pull_back(geodesic, force), sweep(geodesic, end_gradient(force, metric))
    error = actual - exact
    assert float(metric.inner(error, error) / metric.inner(exact, exact)) ** 0.5 > 0.03


def test_sign_of_epdiff(backend):
    # E6: the momentum is transported by the flow, d/dt ⟨L v, Ad_φ w⟩ = 0 for every w; at t = 0 this
    # is ⟨dv/dt, w⟩_V + ⟨v, ad_v w⟩_V = 0, which holds with the minus sign but not with Eq. 2's.
    metric = metric_of(9)
    v, w = truncated_velocity(metric), velocity(metric, 9, factor=1.0)
    transport = float(metric.inner(v, ad(v, w, metric.band)))
    rate = float(metric.inner(-ad_dagger(v, v, metric), w))
    assert rate + transport == pytest.approx(0, abs=1e-9 * abs(transport))


def test_a_stationary_flow_is_refused():
    metric = metric_of(9)
    geodesic = shoot(truncated_velocity(metric), metric, dynamics="stationary")
    with pytest.raises(ValueError, match="stationary"):
        sweep(geodesic, truncated_velocity(metric))

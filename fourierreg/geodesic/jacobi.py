"""The paper's gradient: adjoint Jacobi fields integrated back along a geodesic (Eq. 9, erratum E6).

    dv̂/dt = -ad†_v v̂,    dĥ/dt = -v̂ + ad_v ĥ - ad†_ĥ v,    v̂(1) = ∇_{v₁} f, ĥ(1) = 0;

ĥ(0) is the gradient at t = 0 in the metric. This is "differentiate, then discretize": unlike
`fourierreg.geodesic.shooting.pull_back`, which is exact for the discrete flow, it differs from the
gradient of the discrete energy by the error of the time steps and of the truncation of every
product to the band. It is the paper's own method, and an independent check.
"""

from collections.abc import Sequence

from fourierreg.backend import Array, array_module
from fourierreg.errors import InputError
from fourierreg.geodesic.lie import ad, ad_dagger
from fourierreg.geodesic.shooting import Geodesic
from fourierreg.geodesic.state import AnyMetric


def jacobi_rate(v: Array, v_hat: Array, h_hat: Array, metric: AnyMetric) -> tuple[Array, Array]:
    """(dv̂/dt, dĥ/dt) of Eq. 9 with the signs of erratum E6."""
    return (
        -ad_dagger(v, v_hat, metric),
        -v_hat + ad(v, h_hat, metric.band) - ad_dagger(h_hat, v, metric),
    )


def end_gradient(push: Array, metric: AnyMetric) -> Array:
    """∇_{v₁} f = -K Π[…] (Eq. 8, erratum E5).

    Parameters
    ----------
    push : complex array, (…, d, *band)
        M Π[ρσ⁻² (S∘φ⁻¹ - T) ∇(S∘φ⁻¹)], with ∇ of the deformed image, which a velocity changes at
        the rate -v·∇(S∘φ⁻¹).
    metric : Metric
    """
    return -metric.raise_(push)


def sweep(geodesic: Geodesic, end: Array) -> Array:
    """Integrate a gradient with respect to v₁ back to t = 0.

    Euler steps backward on the stored velocities for Euler geodesics; for Runge-Kutta geodesics
    the same scheme, with velocities at half steps by cubic Hermite interpolation.

    Parameters
    ----------
    geodesic : Geodesic
        Of EPDiff.
    end : complex array, (…, d, *band)
        ∇_{v₁} f in the metric (`end_gradient`).

    Returns
    -------
    complex array, (…, d, *band)
        ĥ(0): gradient with respect to v₀ in the metric.

    Raises
    ------
    InputError
        The geodesic is the flow of a stationary velocity, to which Eq. 9 does not apply.
    """
    if geodesic.dynamics != "epdiff":
        raise InputError(
            f"geodesic: expected dynamics 'epdiff'; got {geodesic.dynamics!r}: use pull_back"
        )
    metric, xp = geodesic.metric, array_module(end)
    dt = 1.0 / geodesic.num_steps
    v_hat, h_hat = end, xp.zeros_like(end)
    for step in range(geodesic.num_steps, 0, -1):
        after, before = (xp.broadcast_to(geodesic.velocity(n), end.shape) for n in (step, step - 1))
        if geodesic.integrator == "euler":
            rates = jacobi_rate(after, v_hat, h_hat, metric)
        else:
            middle = _midpoint_velocity(before, after, dt, metric)
            rates = _runge_kutta_rate((after, middle, before), v_hat, h_hat, dt, metric)
        v_hat, h_hat = v_hat - dt * rates[0], h_hat - dt * rates[1]
    return h_hat


def _midpoint_velocity(before: Array, after: Array, dt: float, metric: AnyMetric) -> Array:
    """Velocity half way between two states, from both and their rates (order 4)."""
    rate_difference = ad_dagger(after, after, metric) - ad_dagger(before, before, metric)
    return 0.5 * (before + after) + dt / 8 * rate_difference


def _runge_kutta_rate(
    velocities: Sequence[Array], v_hat: Array, h_hat: Array, dt: float, metric: AnyMetric
) -> tuple[Array, Array]:
    """Mean rate over a backward step of the classical Runge-Kutta scheme."""
    after, middle, before = velocities
    rates, stage = [], (v_hat, h_hat)
    for v, fraction in ((after, 0.5), (middle, 0.5), (middle, 1.0), (before, None)):
        rates.append(jacobi_rate(v, *stage, metric))
        if fraction is not None:
            v_rate, h_rate = rates[-1]
            stage = (v_hat - fraction * dt * v_rate, h_hat - fraction * dt * h_rate)
    v_mean, h_mean = ((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(*rates, strict=True))
    return v_mean, h_mean

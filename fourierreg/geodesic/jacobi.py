"""The paper's gradient: adjoint Jacobi fields carried back along a geodesic (Eq. 9, erratum E6).

    dv̂/dt = -ad†_v v̂,    dĥ/dt = -v̂ + ad_v ĥ - ad†_ĥ v,    v̂(1) = ∇_{v₁} f, ĥ(1) = 0;

ĥ(0) is the gradient at t = 0 in the metric. First differentiate, then discretise: unlike
`fourierreg.geodesic.shooting.pull_back`, which is exact for the discrete flow, it differs from the
gradient of the discrete energy by the steps, and by the truncation of every product to the band.
It stands here as the paper's own method and as an independent check.
"""

from fourierreg.backend import array_module
from fourierreg.errors import InputError
from fourierreg.geodesic.lie import ad, ad_dagger


def jacobi_rate(v, v_hat, h_hat, metric):
    """(dv̂/dt, dĥ/dt) of Eq. 9 with the signs of erratum E6."""
    return (
        -ad_dagger(v, v_hat, metric),
        -v_hat + ad(v, h_hat, metric.band) - ad_dagger(h_hat, v, metric),
    )


def end_gradient(push, metric):
    """∇_{v₁} f = -K Π[…] (Eq. 8, erratum E5).

    Parameters
    ----------
    push : complex array, (…, d, *band)
        M Π[ρσ⁻² (S∘φ⁻¹ - T) ∇(S∘φ⁻¹)], ∇ of the deformed image: a velocity moves it by -v·∇.
    metric : Metric
    """
    return -metric.raise_(push)


def sweep(geodesic, end):
    """Carry a gradient with respect to v₁ back to t = 0.

    Euler steps backward on the stored velocities for Euler geodesics; for Runge-Kutta ones the
    same scheme, with velocities at half steps by cubic Hermite interpolation.

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
    ValueError
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
            middle = _middle(before, after, dt, metric)
            rates = _runge_kutta((after, middle, before), v_hat, h_hat, dt, metric)
        v_hat, h_hat = v_hat - dt * rates[0], h_hat - dt * rates[1]
    return h_hat


def _middle(before, after, dt, metric):
    """Velocity half way between two states, from both and their rates (order 4)."""
    bend = ad_dagger(after, after, metric) - ad_dagger(before, before, metric)
    return 0.5 * (before + after) + dt / 8 * bend


def _runge_kutta(velocities, v_hat, h_hat, dt, metric):
    """Mean rate over a backward step by the classical scheme."""
    after, middle, before = velocities
    rates, moved = [], (v_hat, h_hat)
    for v, share in ((after, 0.5), (middle, 0.5), (middle, 1.0), (before, None)):
        rates.append(jacobi_rate(v, *moved, metric))
        if share is not None:
            moved = tuple(
                x - share * dt * rate for x, rate in zip((v_hat, h_hat), rates[-1], strict=True)
            )
    return tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(*rates, strict=True))

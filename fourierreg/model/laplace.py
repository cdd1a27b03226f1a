"""The marginal posterior of α: v₀ integrated out by Laplace's method (docs/mathematics.md).

    F(α) = min_v {⟨Lv, v⟩/2s² + ρ‖r‖²/2σ²} - ½ ln|L/s²| + ½ ln|H|
    dF/d ln α = (c/2) [s⁻²⟨E v, v⟩ - d Σ_k αA_k/(αA_k + 1) + s⁻² tr(E H⁻¹)]
                + ½ tr(H⁻¹ dH/dv·dv/d ln α)

with E = αA (αA + 1)^{c-1}. The last term is the change of J as the optimal velocity changes with α;
dv/d ln α = -H⁻¹ (c/s²) E v.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.traces import alpha_symbols, log_determinant, prior_force, traces
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import MetricBatch

DRIFT_STEP = 0.05  # of ln α, on both sides, for the change of J along the optimal velocity


class Slope(NamedTuple):
    """dF/d ln α and its parts, ``value = c/2 (roughness - modes + undetermined) + drift``.

    All are arrays (pairs,) on the host; after `unstack`, floats.

    Attributes
    ----------
    value, roughness, modes, undetermined, drift
    frozen_curvature
        Derivative of `value` at frozen v and g: a first guess of d²F/d(ln α)², too large for an
        error bar.
    noise
        Standard error of stochastic traces.
    velocity_derivative : complex array, (pairs, d, *band), or None
        dv/d ln α of the optimal velocity; None for the joint posterior.
    """

    value: Any
    roughness: Any
    modes: Any
    undetermined: Any
    drift: Any
    frozen_curvature: Any
    noise: Any
    velocity_derivative: Array | None = None

    def unstack(self) -> list["Slope"]:
        """The slope of every pair, its derivative of the velocity as a batch of one."""
        derivative = self.velocity_derivative
        return [
            Slope._make(
                [
                    *(float(part[pair]) for part in self[:7]),
                    None if derivative is None else derivative[[pair]],
                ]
            )
            for pair in range(self.value.size)
        ]

    def plus(self, prior: Any, alpha: float) -> "Slope":
        """With the slope and curvature of a prior of α added."""
        return self._replace(
            value=self.value + prior.slope(alpha),
            frozen_curvature=self.frozen_curvature + prior.curvature(alpha),
        )


def alpha_slope(
    v: Array,
    hessian: PosteriorHessian,
    curvature_at: Callable,
    num_probes: int,
    seed: int = 0,
) -> Slope:
    """dF/d ln α of the marginal posterior at optimal velocities (errata E3, E4).

    Parameters
    ----------
    v : complex array, (pairs, d, *band)
    hessian : PosteriorHessian
        At `v`.
    curvature_at : callable
        Velocities -> `DataCurvature` there, at the same α.
    num_probes, seed : int
        For stochastic traces.

    Returns
    -------
    Slope
    """
    metric, xp = hessian.metric, array_module(v)
    prior = joint_slope(v, metric)
    found = traces(v, hessian, num_probes, seed, xp)
    low, high = (curvature_at(v + s * DRIFT_STEP * found.velocity_derivative) for s in (-1.0, 1.0))
    change, change_error = found.change(low, high)
    half = metric.power / 2
    drift = change / (4 * DRIFT_STEP)
    return Slope(
        prior.value + half * found.undetermined + drift,
        prior.roughness,
        prior.modes,
        found.undetermined,
        drift,
        prior.frozen_curvature + half * found.growth,
        np.hypot(half * found.noise, change_error / (4 * DRIFT_STEP)),
        found.velocity_derivative,
    )


def velocity_derivative(v: Array, hessian: PosteriorHessian) -> Array:
    """dv/d ln α = -H⁻¹ (c/s²) E v of the optimal velocity, (pairs, d, *band)."""
    return -hessian.solve(prior_force(v, hessian.metric, array_module(v))[None])[0]


def joint_slope(v: Array, metric: MetricBatch) -> Slope:
    """∂f/∂ ln α of the joint posterior (Eq. 7, erratum E4), which has no trace."""
    xp, band, c = array_module(v), metric.band, metric.power
    a = metric.alpha_laplacian(xp)
    e, de = alpha_symbols(metric, xp)
    s2 = metric.velocity_scale**2
    roughness = to_numpy(inner(e * v, v, band, xp)) / s2
    growth = to_numpy(inner(de * v, v, band, xp)) / s2
    modes = metric.effective_modes(xp)
    saturation = metric.trace(a / (a + 1.0) ** 2, xp)
    zero = np.zeros(v.shape[0])
    curvature = c / 2 * (growth - saturation)
    return Slope(c / 2 * (roughness - modes), roughness, modes, zero, zero, curvature, zero)


def negative_log_marginal(
    total: np.ndarray, hessian: PosteriorHessian, num_probes: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """F(α): the energy `total` of the optimal velocities - ½ ln|L/s²| + ½ ln|H|, and the standard
    error of its log-determinant, each (pairs,).

    The search for α needs only the slope of F; its values compare models (α, c, s) on one pair.
    """
    metric = hessian.metric
    xp, size = array_module(hessian.curvature.tensor), metric.band.degrees_of_freedom
    prior = metric.log_determinant(xp) - 2 * size * math.log(metric.velocity_scale)
    posterior, error = log_determinant(hessian, num_probes, seed, xp)
    return total - 0.5 * prior + 0.5 * posterior, 0.5 * error

"""The marginal posterior of α: v₀ integrated out by Laplace's method (DESIGN §3).

    F(α) = min_v {⟨Lv, v⟩/2s² + ρ‖r‖²/2σ²} - ½ ln|L/s²| + ½ ln|H|
    dF/d ln α = (c/2) [s⁻²⟨E v, v⟩ - d Σ_k αA_k/(αA_k + 1) + s⁻² tr(E H⁻¹)]
                + ½ tr(H⁻¹ dH/dv·dv/d ln α)

with E = αA (αA + 1)^{c-1}. The last term is the change of J as the optimal velocity drifts with α;
dv/d ln α = -H⁻¹ (c/s²) E v.

The trace and log-determinant are dense where the band is small (2D), stochastic elsewhere, with
probes fixed by a seed so that both are smooth in α.
"""

import math
from typing import NamedTuple

import numpy as np

from fourierreg.backend import array_module, to_numpy
from fourierreg.spectral.band import inner, multiplicity, pack, unpack

DENSE_LIMIT = 1000  # degrees of freedom up to which H is formed as a matrix
DENSE_BLOCK = 64  # columns formed at a time


class Slope(NamedTuple):
    """dF/d ln α and its parts: ``value = c/2 (roughness - modes + undetermined) + drift``.

    `frozen_curvature` is the derivative of `value` with v and g held fixed: a first guess of
    d²F/d(ln α)², too large for an error bar. `noise` is the standard error of a stochastic trace.
    """

    value: float
    roughness: float
    modes: float
    undetermined: float
    drift: float
    frozen_curvature: float
    noise: float


def velocity_drift(v, hessian):
    """dv/d ln α = -H⁻¹ (c/s²) E v: how the optimal velocity moves with α."""
    metric = hessian.metric
    pull = metric.power / metric.velocity_scale**2 * metric.alpha_symbol(array_module(v))
    return -hessian.solve((pull * v)[None])[0]


def alpha_slope(v, hessian, beside, step, num_probes, seed=0):
    """dF/d ln α at the optimal velocity `v` (errata E3, E4).

    Parameters
    ----------
    v : complex array, (d, *band)
    hessian : PosteriorHessian
    beside : pair of DataCurvature
        At the velocities of ln α - step and ln α + step, to first order (`velocity_drift`).
    step : float
    num_probes, seed : int
        Of the stochastic traces.

    Returns
    -------
    Slope
    """
    metric = hessian.metric
    xp = array_module(v)
    prior = joint_slope(v, metric)
    traces = dense_traces if metric.band.degrees_of_freedom <= DENSE_LIMIT else stochastic_traces
    undetermined, curvature, noise, change = traces(hessian, beside, num_probes, seed, xp)
    half, drift = metric.power / 2, change / (4 * step)
    return Slope(
        prior.value + half * undetermined + drift,
        prior.roughness,
        prior.modes,
        undetermined,
        drift,
        prior.frozen_curvature + half * curvature,
        half * noise,
    )


def joint_slope(v, metric):
    """∂f/∂ ln α of the joint posterior (Eq. 7, erratum E4): no trace."""
    xp, band, c = array_module(v), metric.band, metric.power
    a = metric.alpha * metric.laplacian(xp)
    e, de = _e_symbols(metric, xp)
    s2 = metric.velocity_scale**2
    roughness = float(inner(e * v, v, band, xp)) / s2
    growth = float(inner(de * v, v, band, xp)) / s2
    modes = metric.effective_modes(xp)
    saturation = band.ndim * float(xp.sum(multiplicity(band, xp) * a / (a + 1.0) ** 2))
    return Slope(
        c / 2 * (roughness - modes), roughness, modes, 0.0, 0.0, c / 2 * (growth - saturation), 0.0
    )


def _e_symbols(metric, xp):
    """E = αA (αA + 1)^{c-1} and dE/d ln α."""
    a = metric.alpha * metric.laplacian(xp)
    e = metric.alpha_symbol(xp)
    return e, e + (metric.power - 1) * a**2 * (a + 1.0) ** (metric.power - 2)


def _ratio(de, e, xp):
    """E'/E, with its limit 1 where k = 0."""
    return xp.where(e > 0, de / xp.where(e > 0, e, 1.0), 1.0)


def stochastic_traces(hessian, beside, num_probes, seed, xp):
    """s⁻² tr(E H⁻¹), its derivative at frozen J, its standard error, and tr(H⁻¹ ΔH) (Hutchinson).

    ΔH is the difference of the two curvatures of `beside`.
    Probes are ±1 in the packed basis, where E and L are diagonal: the diagonal of H⁻¹ costs no
    variance.
    """
    metric = hessian.metric
    band, s2 = metric.band, metric.velocity_scale**2
    signs = np.random.default_rng(seed).integers(
        0, 2, (num_probes, band.ndim, band.num_frequencies)
    )
    e, de = _e_symbols(metric, xp)
    plain = unpack(xp.asarray(2.0 * signs - 1.0), band, xp)
    probe = plain * xp.sqrt(e / s2)
    solved = hessian.solve(probe)
    root = xp.sqrt(hessian.prior(xp) + hessian.curvature.diagonal)
    scaled = plain * root  # z = P^½ ζ: tr(H⁻¹ ΔH) = E[(H⁻¹ z)·ΔH P⁻¹ z], the variance of a ratio
    low, high = beside
    change = inner(hessian.solve(scaled), high(plain / root) - low(plain / root), band, xp)
    each = to_numpy(inner(probe, solved, band, xp))
    growth = inner(_ratio(de, e, xp) * probe, solved, band, xp)
    shrink = inner((e / s2) * solved, solved, band, xp)
    noise = float(np.std(each, ddof=1) / math.sqrt(num_probes)) if num_probes > 1 else math.inf
    curvature = float(xp.mean(growth)) - metric.power * float(xp.mean(shrink))
    return float(each.mean()), curvature, noise, float(xp.mean(change))


def dense_matrix(operator, band, xp):
    """A symmetric operator on fields of the band as a (P, P) matrix in the packed basis."""
    size = band.degrees_of_freedom
    columns = []
    for start in range(0, size, DENSE_BLOCK):
        block = np.eye(size)[start : start + DENSE_BLOCK].reshape(-1, band.ndim, size // band.ndim)
        column = pack(operator(unpack(xp.asarray(block), band, xp)), band, xp)
        columns.append(column.reshape(block.shape[0], size))
    matrix = xp.concatenate(columns)
    return 0.5 * (matrix + matrix.T)


def _packed_diagonal(symbol, metric, xp):
    """A real symbol over stored frequencies as the diagonal in the packed basis, (P,)."""
    band = metric.band
    ones = xp.ones((band.ndim, band.num_frequencies))
    weighted = pack(symbol * unpack(ones, band, xp), band, xp)
    return weighted.reshape(-1)


def dense_traces(hessian, beside, num_probes, seed, xp):
    """As `stochastic_traces`, exactly."""
    metric = hessian.metric
    s2 = metric.velocity_scale**2
    e, de = (_packed_diagonal(x, metric, xp) / s2 for x in _e_symbols(metric, xp))
    inverse = xp.linalg.inv(dense_matrix(hessian, hessian.metric.band, xp))
    low, high = (dense_matrix(curvature, hessian.metric.band, xp) for curvature in beside)
    diagonal = xp.diagonal(inverse)
    shrink = float(xp.sum(e[:, None] * inverse * e[None, :] * inverse))
    curvature = float(xp.sum(de * diagonal)) - metric.power * shrink
    return float(xp.sum(e * diagonal)), curvature, 0.0, float(xp.sum(inverse * (high - low)))

"""The marginal posterior of α: v₀ integrated out by Laplace's method (docs/mathematics.md).

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
from scipy.linalg import eigh_tridiagonal

from fourierreg.backend import array_module, to_numpy
from fourierreg.spectral.band import inner, pack, packed_diagonal, unpack

# Degrees of freedom up to which H is formed as a matrix: 35 modes in 2D, 9 in 3D. Probes are noisy
# where few modes are sharply determined, as in 2D; a matrix of this size takes a second.
DENSE_LIMIT = 2500
LANCZOS_STEPS = 30
DENSE_BLOCK = 64  # columns formed at a time
DRIFT_STEP = 0.05  # of ln α, on both sides, for the change of J along the optimal velocity


def numbers(values):
    values = to_numpy(values)
    return values if values.ndim else float(values)


class Slope(NamedTuple):
    """dF/d ln α and its parts: ``value = c/2 (roughness - modes + undetermined) + drift``.

    Numbers; arrays (pairs,) on the host for many pairs.

    `frozen_curvature` is the derivative of `value` with v and g held fixed: a first guess of
    d²F/d(ln α)², too large for an error bar. `noise` is the standard error of stochastic traces.
    `velocity` is dv/d ln α of the optimal velocity; None for the joint posterior.
    """

    value: float
    roughness: float
    modes: float
    undetermined: float
    drift: float
    frozen_curvature: float
    noise: float
    velocity: object = None

    def each(self):
        """The `Slope` of every one of many pairs."""
        pairs = range(self.value.shape[0])
        return [Slope(*(part[p] if np.ndim(part) else part for part in self)) for p in pairs]

    def plus(self, prior, alpha):
        """With the slope and curvature of a prior of α added."""
        return self._replace(
            value=self.value + prior.slope(alpha),
            frozen_curvature=self.frozen_curvature + prior.curvature(alpha),
        )


class Traces(NamedTuple):
    """What the slope needs of H⁻¹.

    `undetermined` = s⁻² tr(E H⁻¹), with standard error `noise`; `growth` its derivative at frozen
    J; `velocity` = dv/d ln α; `change` the function that gives tr(H⁻¹ ΔH) of an operator ΔH,
    with its standard error.
    """

    undetermined: float
    noise: float
    growth: float
    velocity: object
    change: object


def alpha_slope(v, hessian, curvature_at, num_probes, seed=0):
    """dF/d ln α at the optimal velocity `v` (errata E3, E4), of one pair or of many.

    Parameters
    ----------
    v : complex array, (d, *band) or (pairs, d, *band)
        Many pairs only beyond `DENSE_LIMIT` degrees of freedom.
    hessian : PosteriorHessian
    curvature_at : callable
        Velocity -> DataCurvature there, at the same α.
    num_probes, seed : int
        Of the stochastic traces.

    Returns
    -------
    Slope
    """
    metric, xp = hessian.metric, array_module(v)
    prior = joint_slope(v, metric)
    if metric.band.degrees_of_freedom <= DENSE_LIMIT:
        traces = dense_traces(v, hessian, xp)
    else:
        traces = stochastic_traces(v, hessian, num_probes, seed, xp)
    low, high = (curvature_at(v + s * DRIFT_STEP * traces.velocity) for s in (-1.0, 1.0))
    change, drift_noise = traces.change(lambda w: high(w) - low(w))
    drift = change / (4 * DRIFT_STEP)
    half = metric.power / 2
    noise = np.hypot(half * traces.noise, drift_noise / (4 * DRIFT_STEP))
    return Slope(
        prior.value + half * traces.undetermined + drift,
        prior.roughness,
        prior.modes,
        traces.undetermined,
        drift,
        prior.frozen_curvature + half * traces.growth,
        numbers(noise),
        traces.velocity,
    )


def _pull(v, metric, xp):
    """(c/s²) E v = -H dv/d ln α."""
    return metric.power / metric.velocity_scale**2 * metric.alpha_symbol(xp) * v


def velocity_drift(v, hessian):
    """dv/d ln α = -H⁻¹ (c/s²) E v: how the optimal velocity moves with α."""
    return -hessian.solve(_pull(v, hessian.metric, array_module(v))[None])[0]


def joint_slope(v, metric):
    """∂f/∂ ln α of the joint posterior (Eq. 7, erratum E4): no trace."""
    xp, band, c = array_module(v), metric.band, metric.power
    a = metric.alpha_laplacian(xp)
    e, de = _e_symbols(metric, xp)
    s2 = metric.velocity_scale**2
    roughness = numbers(inner(e * v, v, band, xp)) / s2
    growth = numbers(inner(de * v, v, band, xp)) / s2
    modes = metric.effective_modes(xp)
    saturation = metric.sum(a / (a + 1.0) ** 2, xp)
    return Slope(
        c / 2 * (roughness - modes), roughness, modes, 0.0, 0.0, c / 2 * (growth - saturation), 0.0
    )


def _e_symbols(metric, xp):
    """E = αA (αA + 1)^{c-1} and dE/d ln α."""
    a = metric.alpha_laplacian(xp)
    e = metric.alpha_symbol(xp)
    return e, e + (metric.power - 1) * a**2 * (a + 1.0) ** (metric.power - 2)


def _ratio(de, e, xp):
    """E'/E, with its limit 1 where k = 0."""
    return xp.where(e > 0, de / xp.where(e > 0, e, 1.0), 1.0)


def stochastic_traces(v, hessian, num_probes, seed, xp):
    """`Traces` by Hutchinson's estimator, all from one batch of conjugate gradients.

    Probes are ±1 in the packed basis, where E, L and D, the diagonal of H, are diagonal: between
    roots of E, and of D for the change, the diagonal of H⁻¹ adds nothing to the variance.
    """
    metric = hessian.metric
    band, s2 = metric.band, metric.velocity_scale**2
    others = max(2, math.ceil(num_probes / 2))
    signs = np.random.default_rng(seed).integers(
        0, 2, (num_probes + others, band.ndim, band.num_frequencies)
    )
    e, de = _e_symbols(metric, xp)
    root = xp.sqrt(hessian.diagonal(xp))
    plain = unpack(xp.asarray(2.0 * signs - 1.0), band, xp)
    for _ in range(v.ndim - band.ndim - 1):  # the same probes for every pair
        plain = plain[:, None]
    probe, below = plain[:num_probes] * xp.sqrt(e / s2), plain[num_probes:] / root
    scaled = plain[num_probes:] * root
    every = hessian.solve(xp.concatenate([probe, scaled, -_pull(v, metric, xp)[None]]))
    solved, scaled_solved, velocity = every[:num_probes], every[num_probes:-1], every[-1]
    faster = inner(_ratio(de, e, xp) * probe, solved, band, xp)
    slower = inner((e / s2) * solved, solved, band, xp)

    def change(operator):
        return _mean_and_error(inner(scaled_solved, operator(below), band, xp))

    return Traces(
        *_mean_and_error(inner(probe, solved, band, xp)),
        numbers(xp.mean(faster - metric.power * slower, axis=0)),
        velocity,
        change,
    )


def _mean_and_error(samples):
    """Mean over the probes, and its standard error."""
    values = to_numpy(samples)
    error = np.std(values, axis=0, ddof=1) / math.sqrt(values.shape[0])
    return numbers(values.mean(axis=0)), numbers(error)


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


def dense_traces(v, hessian, xp):
    """`Traces`, exactly."""
    metric = hessian.metric
    band, s2 = metric.band, metric.velocity_scale**2
    e, de = (packed_diagonal(x, band, xp).reshape(-1) / s2 for x in _e_symbols(metric, xp))
    inverse = xp.linalg.inv(dense_matrix(hessian, band, xp))
    diagonal = xp.diagonal(inverse)
    slower = float(xp.sum(e[:, None] * inverse * e[None, :] * inverse))
    pull = pack(_pull(v, metric, xp), band, xp)

    def change(operator):
        return float(xp.sum(inverse * dense_matrix(operator, band, xp))), 0.0

    return Traces(
        float(xp.sum(e * diagonal)),
        0.0,
        float(xp.sum(de * diagonal)) - metric.power * slower,
        unpack(-(inverse @ pull.reshape(-1)).reshape(pull.shape), band, xp),
        change,
    )


def negative_log_marginal(total, hessian, num_probes=8, seed=0):
    """F(α) up to a constant: the energy `total` of the optimal velocity - ½ ln|L/s²| + ½ ln|H|.

    The search for α needs only its slope; its values compare models (α, powers) on one pair.

    Returns
    -------
    (F, standard error of its log-determinant)
    """
    metric = hessian.metric
    xp = array_module(hessian.curvature.tensor)
    size = metric.band.degrees_of_freedom
    prior = metric.log_determinant(xp) - 2 * size * math.log(metric.velocity_scale)
    if size <= DENSE_LIMIT:
        value, noise = dense_log_determinant(hessian, xp), 0.0
    else:
        value, noise = stochastic_log_determinant(hessian, num_probes, seed, xp)
    return total - 0.5 * prior + 0.5 * value, 0.5 * noise


def dense_log_determinant(hessian, xp):
    """ln|H| by Cholesky's factors."""
    factor = xp.linalg.cholesky(dense_matrix(hessian, hessian.metric.band, xp))
    return 2.0 * float(xp.sum(xp.log(xp.diagonal(factor))))


def stochastic_log_determinant(hessian, num_probes, seed, xp):
    """ln|H| and its standard error: Lanczos quadrature of ln(D^{-½} H D^{-½}), plus ln|D|.

    D is the diagonal of H; probes are ±1 in the packed basis, where ln|D| is a sum.
    """
    band = hessian.metric.band
    signs = np.random.default_rng(seed).integers(
        0, 2, (num_probes, band.ndim, band.num_frequencies)
    )
    root = xp.sqrt(hessian.diagonal(xp))
    diagonal = 2.0 * float(xp.sum(xp.log(packed_diagonal(root, band, xp))))
    probe = unpack(xp.asarray(2.0 * signs - 1.0), band, xp)
    each = band.degrees_of_freedom * _quadrature(
        lambda w: hessian(w / root) / root, probe, band, xp
    )
    noise = float(np.std(each, ddof=1) / math.sqrt(num_probes)) if num_probes > 1 else math.inf
    return diagonal + float(each.mean()), noise


def _quadrature(operator, start, band, xp):
    """⟨q, ln(operator) q⟩ / ⟨q, q⟩ of every field q of a batch (Lanczos, reorthogonalised)."""
    tail = (slice(None), *[None] * (band.ndim + 1))
    basis = [start / xp.sqrt(inner(start, start, band, xp))[tail]]
    alphas, betas = [], []
    for _ in range(min(LANCZOS_STEPS, band.degrees_of_freedom)):
        w = operator(basis[-1])
        alphas.append(to_numpy(inner(basis[-1], w, band, xp)))
        for _ in range(2):
            for q in basis:
                w = w - inner(q, w, band, xp)[tail] * q
        norm = xp.sqrt(inner(w, w, band, xp))
        betas.append(to_numpy(norm))
        if float(xp.min(norm)) < 1e-10:
            break
        basis.append(w / norm[tail])
    results = []
    for a, b in zip(np.array(alphas).T, np.array(betas).T, strict=True):
        values, vectors = eigh_tridiagonal(a, b[:-1])
        results.append(float(np.sum(vectors[0] ** 2 * np.log(values))))
    return np.array(results)

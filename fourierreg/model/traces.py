"""Traces and log-determinants of the posterior Hessian: dense for small bands, else stochastic.

Stochastic ones have fixed probes (a seed), so that they are smooth in α. Probes are ±1 in the
packed basis, where E = αA (αA + 1)^{c-1}, L and D, the diagonal of H, are diagonal.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal

from fourierreg.backend import Array, to_numpy
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.spectral.band import inner, pack, packed_diagonal, unpack

# Degrees of freedom up to which H is formed as a matrix: 35 modes in 2D, 9 in 3D. Probes are noisy
# where few modes are sharply determined, as in 2D; a matrix of this size takes a second.
DENSE_LIMIT = 2500
LANCZOS_STEPS = 30
DENSE_BLOCK = 64  # columns formed at a time


class Traces(NamedTuple):
    """What the slope dF/d ln α needs of H⁻¹, for every pair.

    Attributes
    ----------
    undetermined, noise : float arrays, (pairs,)
        s⁻² tr(E H⁻¹) and its standard error.
    growth : float array, (pairs,)
        Derivative of `undetermined` with respect to ln α at frozen J.
    velocity_derivative : complex array, (pairs, d, *band)
        dv/d ln α of the optimal velocity.
    change : callable
        (low, high), two `DataCurvature` -> tr(H⁻¹ (high - low)) and its standard error, (pairs,).
    """

    undetermined: np.ndarray
    noise: np.ndarray
    growth: np.ndarray
    velocity_derivative: Array
    change: Callable


def traces(v: Array, hessian: PosteriorHessian, num_probes: int, seed: int, xp: Any) -> Traces:
    """`Traces` at the optimal velocity `v`, by whichever method the size of the band asks for."""
    if hessian.metric.band.degrees_of_freedom <= DENSE_LIMIT:
        return dense_traces(v, hessian, xp)
    return stochastic_traces(v, hessian, num_probes, seed, xp)


def alpha_symbols(metric, xp):
    """E = αA (αA + 1)^{c-1} and dE/d ln α, (pairs, 1, *band)."""
    a = metric.alpha_laplacian(xp)
    e = metric.alpha_symbol(xp)
    return e, e + (metric.power - 1) * a**2 * (a + 1.0) ** (metric.power - 2)


def prior_force(v, metric, xp):
    """(c/s²) E v = -H dv/d ln α."""
    return metric.power / metric.velocity_scale**2 * metric.alpha_symbol(xp) * v


def stochastic_traces(v, hessian, num_probes, seed, xp):
    """`Traces` by Hutchinson's estimator, all from one batch of conjugate gradients.

    Probes are scaled by roots of E, and of D for the change, so that the diagonal of H⁻¹ adds
    nothing to the variance.
    """
    metric = hessian.metric
    band, s2 = metric.band, metric.velocity_scale**2
    others = max(2, math.ceil(num_probes / 2))
    e, de = alpha_symbols(metric, xp)
    root = xp.sqrt(hessian.diagonal(xp))
    signs = _signs(band, num_probes + others, seed, xp)[:, None]  # the same for every pair
    probe, below = signs[:num_probes] * xp.sqrt(e / s2), signs[num_probes:] / root
    scaled = signs[num_probes:] * root
    right_hand_sides = xp.concatenate([probe, scaled, -prior_force(v, metric, xp)[None]])
    solutions = hessian.solve(right_hand_sides)
    solved, scaled_solved = solutions[:num_probes], solutions[num_probes:-1]
    ratio = xp.where(e > 0, de / xp.where(e > 0, e, 1.0), 1.0)  # E'/E, with its limit where k = 0
    faster = inner(ratio * probe, solved, band, xp)
    slower = inner((e / s2) * solved, solved, band, xp)

    def change(low, high):
        return _mean_and_error(inner(scaled_solved, high(below) - low(below), band, xp))

    return Traces(
        *_mean_and_error(inner(probe, solved, band, xp)),
        _mean_and_error(faster - metric.power * slower)[0],
        solutions[-1],
        change,
    )


def _signs(band, count, seed, xp):
    """Random signs in the packed basis, as fields (count, d, *band)."""
    signs = np.random.default_rng(seed).integers(0, 2, (count, band.ndim, band.num_frequencies))
    return unpack(xp.asarray(2.0 * signs - 1.0), band, xp)


def _mean_and_error(samples):
    """Mean over the probes and its standard error, (probes, pairs) to (pairs,)."""
    values = np.ascontiguousarray(to_numpy(samples).T)  # summed alike for every number of pairs
    return values.mean(axis=1), np.std(values, axis=1, ddof=1) / math.sqrt(values.shape[1])


def dense_matrix(operator, band, xp):
    """A symmetric operator on the fields of one pair as a (P, P) matrix in the packed basis."""
    size = band.degrees_of_freedom
    columns = []
    for start in range(0, size, DENSE_BLOCK):
        block = np.eye(size)[start : start + DENSE_BLOCK].reshape(-1, band.ndim, size // band.ndim)
        image = operator(unpack(xp.asarray(block), band, xp)[:, None])[:, 0]
        columns.append(pack(image, band, xp).reshape(block.shape[0], size))
    matrix = xp.concatenate(columns)
    return 0.5 * (matrix + matrix.T)


def dense_traces(v, hessian, xp):
    """`Traces` from the matrix of H, one pair after the other."""
    metric = hessian.metric
    band, c, pairs = metric.band, metric.power, range(v.shape[0])
    inverses, undetermined, growth, derivatives = [], [], [], []
    for pair in pairs:
        own = hessian.select([pair])
        symbols = (x[0] / metric.velocity_scale**2 for x in alpha_symbols(own.metric, xp))
        e, de = (packed_diagonal(x, band, xp).reshape(-1) for x in symbols)
        inverse = xp.linalg.inv(dense_matrix(own, band, xp))
        diagonal = xp.diagonal(inverse)
        slower = float(xp.sum(e[:, None] * inverse * e[None, :] * inverse))
        force = pack(prior_force(v[pair], own.metric, xp)[0], band, xp)
        derivatives.append(unpack(-(inverse @ force.reshape(-1)).reshape(force.shape), band, xp))
        undetermined.append(float(xp.sum(e * diagonal)))
        growth.append(float(xp.sum(de * diagonal)) - c * slower)
        inverses.append(inverse)

    def change(low, high):
        values = []
        for pair in pairs:
            a, b = low.select([pair]), high.select([pair])
            matrix = dense_matrix(lambda w, a=a, b=b: b(w) - a(w), band, xp)
            values.append(float(xp.sum(inverses[pair] * matrix)))
        return np.array(values), np.zeros(len(values))

    return Traces(
        np.array(undetermined),
        np.zeros(len(pairs)),
        np.array(growth),
        xp.stack(derivatives),
        change,
    )


def log_determinant(hessian: PosteriorHessian, num_probes: int, seed: int, xp: Any):
    """ln|H| of every pair, and its standard error, (pairs,)."""
    band = hessian.metric.band
    pairs = [hessian.select([pair]) for pair in range(len(hessian.metric.alphas))]
    if band.degrees_of_freedom <= DENSE_LIMIT:
        values = [dense_log_determinant(own, xp) for own in pairs]
        return np.array(values), np.zeros(len(values))
    estimates = [stochastic_log_determinant(own, num_probes, seed, xp) for own in pairs]
    return tuple(np.array(part) for part in zip(*estimates, strict=True))


def dense_log_determinant(hessian, xp):
    """ln|H| of one pair by Cholesky factorization."""
    factor = xp.linalg.cholesky(dense_matrix(hessian, hessian.metric.band, xp))
    return 2.0 * float(xp.sum(xp.log(xp.diagonal(factor))))


def stochastic_log_determinant(hessian, num_probes, seed, xp):
    """ln|H| of one pair and its standard error: ln|D| plus Lanczos quadrature of
    ln(D^{-½} H D^{-½}), D the diagonal of H."""
    band = hessian.metric.band
    root = xp.sqrt(hessian.diagonal(xp))
    diagonal = 2.0 * float(xp.sum(xp.log(packed_diagonal(root[0], band, xp))))
    probes = _signs(band, num_probes, seed, xp)[:, None]
    samples = _quadrature(lambda w: hessian(w / root) / root, probes, band, xp)
    samples = band.degrees_of_freedom * samples
    error = float(np.std(samples, ddof=1) / math.sqrt(num_probes)) if num_probes > 1 else math.inf
    return diagonal + float(samples.mean()), error


def _quadrature(operator, start, band, xp):
    """⟨q, ln(operator) q⟩ / ⟨q, q⟩ of a batch of fields q, (batch, 1, d, *band), by Lanczos steps
    with reorthogonalization."""
    tail = (..., *[None] * (band.ndim + 1))
    basis = [start / xp.sqrt(inner(start, start, band, xp))[tail]]
    diagonal, off_diagonal = [], []
    for _ in range(min(LANCZOS_STEPS, band.degrees_of_freedom)):
        w = operator(basis[-1])
        diagonal.append(to_numpy(inner(basis[-1], w, band, xp))[:, 0])
        for _ in range(2):
            for q in basis:
                w = w - inner(q, w, band, xp)[tail] * q
        norm = xp.sqrt(inner(w, w, band, xp))
        off_diagonal.append(to_numpy(norm)[:, 0])
        if float(xp.min(norm)) < 1e-10:
            break
        basis.append(w / norm[tail])
    results = []
    for a, b in zip(np.array(diagonal).T, np.array(off_diagonal).T, strict=True):
        values, vectors = eigh_tridiagonal(a, b[:-1])
        results.append(float(np.sum(vectors[0] ** 2 * np.log(values))))
    return np.array(results)

"""How far the displacement is determined: its posterior standard deviation at every voxel.

By Laplace's method v₀ ~ N(v̂, H⁻¹) with H = L/s² + (ρ/σ²) J*J; the displacement follows by the
linearised flow. Samples of N(0, H⁻¹) are H⁻¹ b with b ~ N(0, H), which is cheap to draw:
b = s⁻¹ L^½ ε + (ρ^½/σ) J* ε', both ε white; where H is small enough to form, C⁻ᵀ ε of its factor
C Cᵀ. The mean square of their displacements is an unbiased estimate of the diagonal of the
covariance, of the same relative error, (2 samples)^{-1/2} for the deviation, at every voxel,
however correlated neighbours are.
"""

import math

import numpy as np

from fourierreg.backend import array_module
from fourierreg.geodesic.shooting import pull_back, tangent
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import DENSE_LIMIT, dense_matrix
from fourierreg.spectral.band import unpack
from fourierreg.spectral.transform import analysis, synthesis

NUM_SAMPLES = 100
BATCH = 10
RTOL = 1e-3  # of the conjugate gradients


def displacement_sd(problem, metric, velocity, *, exact, num_samples=NUM_SAMPLES, seed=0):
    """Posterior standard deviation of the displacement, given α and the noise.

    Parameters
    ----------
    problem : Problem
        At its noise (`weight`).
    metric : Metric
    velocity : complex array, (d, *band)
        The minimiser v̂.
    exact : bool
        J by linearised shooting, or J ≈ -∇(S∘φ⁻¹).
    num_samples, seed : int

    Returns
    -------
    array, (d, N_1, …, N_d), mm along the array axes
    """
    xp, band = array_module(velocity), metric.band
    geodesic = problem.shoot(velocity, metric)
    hessian = PosteriorHessian(metric, problem.curvature(geodesic, exact))
    rng = np.random.default_rng(seed)
    if band.degrees_of_freedom <= DENSE_LIMIT:
        draw = _dense_sampler(hessian, rng, xp)
    else:
        draw = _iterative_sampler(problem, geodesic, hessian, exact, rng, xp)
    squares, done = 0.0, 0
    while done < num_samples:
        size = min(BATCH, num_samples - done)
        sample = draw(size)
        for moved in tangent(geodesic, sample):  # one field of the image's size at a time
            u = synthesis(moved, band, problem.shape, np.float32, xp)
            squares = squares + u * u
        done += size
    return xp.sqrt(squares / num_samples)


def _white(band, size, rng, xp):
    """White noise in the packed basis, (size, P)."""
    return xp.asarray(rng.standard_normal((size, band.degrees_of_freedom)))


def _dense_sampler(hessian, rng, xp):
    """Function that draws from N(0, H⁻¹) by Cholesky's factor of H."""
    band = hessian.metric.band
    root = xp.linalg.inv(xp.linalg.cholesky(dense_matrix(hessian, band, xp)))

    def draw(size):
        packed = _white(band, size, rng, xp) @ root
        return unpack(packed.reshape(size, band.ndim, band.num_frequencies), band, xp)

    return draw


def _iterative_sampler(problem, geodesic, hessian, exact, rng, xp):
    """Function that draws from N(0, H⁻¹) by conjugate gradients."""
    band = hessian.metric.band

    def draw(size):
        force = _random_force(problem, geodesic, exact, size, rng, xp)
        white = _white(band, size, rng, xp).reshape(size, band.ndim, band.num_frequencies)
        b = unpack(white, band, xp) * xp.sqrt(hessian.prior(xp)) + force
        return hessian.solve(b, rtol=RTOL)

    return draw


def _random_force(problem, geodesic, exact, size, rng, xp):
    """Draws of N(0, (ρ/σ²) J*J): J* of white noise on the voxels."""
    g = problem.source_gradient(geodesic) if exact else problem.deformed_gradient(geodesic)
    metric, shape = geodesic.metric, problem.shape
    factor = math.sqrt(problem.weight) * float(np.prod(shape))
    pushes = []
    for _ in range(size):
        noise = xp.asarray(rng.standard_normal(shape), dtype=g.dtype)
        pushes.append(factor * analysis(g * noise, metric.band, xp))
    pushes = xp.stack(pushes)
    if not exact:
        return pushes
    return metric.lower(pull_back(geodesic, pushes))

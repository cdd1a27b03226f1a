"""Posterior standard deviation of the displacement at every voxel.

By Laplace's method v₀ ~ N(v̂, H⁻¹) with H = L/s² + (ρ/σ²) J*J; the displacement follows by the
linearized flow. Samples of N(0, H⁻¹) are H⁻¹ b with b ~ N(0, H), which is cheap to draw:
b = s⁻¹ L^½ ε + (ρ^½/σ) J* ε', both ε white; where H is small enough to form, C⁻ᵀ ε of its factor
C Cᵀ. The mean square of their displacements is an unbiased estimate of the diagonal of the
covariance, with relative error (2 samples)^{-1/2} of the deviation at every voxel, however
correlated neighbors are.
"""

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.geodesic.shooting import pull_back, tangent
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.problem import Problem
from fourierreg.model.traces import DENSE_LIMIT, dense_matrix
from fourierreg.spectral.band import unpack
from fourierreg.spectral.metric import MetricBatch
from fourierreg.spectral.transform import analysis, synthesis

NUM_SAMPLES = 100
SAMPLES_AT_A_TIME = 10
RTOL = 1e-3  # of the conjugate gradients


def displacement_sd(
    problem: Problem,
    metric: MetricBatch,
    velocity: Array,
    *,
    exact: bool,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> Array:
    """Posterior standard deviation of the displacement of one pair, given α and the noise.

    Parameters
    ----------
    problem : Problem
        Of one pair, its `weight` that of the noise.
    metric : MetricBatch
    velocity : complex array, (1, d, *band)
        The minimizer v̂.
    exact : bool
        J by linearized shooting, or J ≈ -∇(S∘φ⁻¹).
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
        size = min(SAMPLES_AT_A_TIME, num_samples - done)
        for moved in tangent(geodesic, draw(size)):  # one field of the image's size at a time
            u = synthesis(moved[0], band, problem.shape, np.float32, xp)
            squares = squares + u * u
        done += size
    return xp.sqrt(squares / num_samples)


def _white_noise(band, size, rng, xp):
    """White noise in the packed basis, (size, d, num_frequencies)."""
    return xp.asarray(rng.standard_normal((size, band.ndim, band.num_frequencies)))


def _dense_sampler(hessian, rng, xp):
    """Function that draws (size, 1, d, *band) from N(0, H⁻¹) by the Cholesky factor of H."""
    band = hessian.metric.band
    root = xp.linalg.inv(xp.linalg.cholesky(dense_matrix(hessian, band, xp)))

    def draw(size):
        white = _white_noise(band, size, rng, xp)
        packed = white.reshape(size, -1) @ root
        return unpack(packed.reshape(white.shape), band, xp)[:, None]

    return draw


def _iterative_sampler(problem, geodesic, hessian, exact, rng, xp):
    """Function that draws (size, 1, d, *band) from N(0, H⁻¹) by conjugate gradients."""
    band = hessian.metric.band

    def draw(size):
        force = _random_force(problem, geodesic, exact, size, rng, xp)
        white = unpack(_white_noise(band, size, rng, xp), band, xp)[:, None]
        return hessian.solve(white * xp.sqrt(hessian.prior(xp)) + force, rtol=RTOL)

    return draw


def _random_force(problem, geodesic, exact, size, rng, xp):
    """Draws of N(0, (ρ/σ²) J*J): J* of white noise on the voxels."""
    g = problem.source_gradient(geodesic) if exact else problem.deformed_gradient(geodesic)
    metric, shape = geodesic.metric, problem.shape
    factor = xp.sqrt(problem.weight_of(metric.band.ndim + 1)) * float(np.prod(shape))
    forces = []
    for _ in range(size):
        noise = xp.asarray(rng.standard_normal(shape), dtype=g.dtype)
        forces.append(factor * analysis(g * noise, metric.band, xp))
    forces = xp.stack(forces)
    if not exact:
        return forces
    return metric.lower(pull_back(geodesic, forces))

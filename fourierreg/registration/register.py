"""Registration at a given α."""

import math
import time

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.image.similarity import name_of
from fourierreg.registration.assembly import assemble
from fourierreg.registration.inputs import noise_model, prepare, sample_count
from fourierreg.registration.multiresolution import Solver

TOLERANCE = 0.3  # of `minimise`
# γ where none is given: what served pairs of brains at 128³ (benchmarks/similarities.py).
WEIGHTS = {"ncc": 0.1, "lncc": 0.05, "mi": 0.03}


def register(
    source,
    target,
    *,
    alpha=3.0,
    spacing=None,
    modes=16,
    sigma=None,
    decimation=None,
    similarity="ssd",
    weight=None,
    num_steps=None,
    integrator="euler",
    dynamics="epdiff",
    velocity_scale=None,
    reference_length=None,
    power=3,
    mask=None,
    pad=True,
    space="bandlimited",
    uncertainty=False,
    max_iterations=100,
    callback=None,
):
    """Register `source` to `target` at a given regularization strength α.

    Minimises Eq. 3, ⟨Lv₀, v₀⟩/2s² + γ/2 Dist(S∘φ₁⁻¹, T), over the initial velocity by
    preconditioned L-BFGS, coarse to fine. Dist is ‖S∘φ₁⁻¹ - T‖² and γ = ρ/σ² (erratum E1) unless
    another similarity is given.

    Parameters
    ----------
    source, target : arrays of one shape (N_1, …, N_d), d = 2 or 3, or nibabel images
        Arrays are taken as they are (range about 1; what is below a millionth of the range counts
        as background); nibabel images bring their geometry, are
        divided by the 99.5th percentile of their foreground, and the source is taken onto the
        target's grid.
    alpha : float
        Dimensionless.
    spacing : float or sequence of float, optional
        mm per voxel of arrays; 1 where none is given.
    modes : int or sequence of int
        Band per axis.
    sigma : float or "estimate", optional
        Noise σ in units of intensity; "estimate", the default, takes the rms residual of the
        foreground.
    decimation : float, optional
        ρ, the fraction of independent voxels. By default estimated (virtual decimation) with
        ``sigma="estimate"``, else 1, the paper's.
    similarity : {"ssd", "ncc", "lncc", "mi"} or Similarity
        Sum of squares, normalised cross-correlation (global, or in windows of 9 voxels), mutual
        information, or one of `fourierreg.image.similarity` with its own parameters.
    weight : float, optional
        The paper's γ of Eq. 3; for "ssd" instead of `sigma` and `decimation`. By default
        `WEIGHTS` of this module for the other similarities, which have no σ.
    num_steps : int, optional
        Of the geodesic; 5 in 3D and 10, the paper's, in 2D by default. Coarser grids take 0.6 of
        them.
    integrator : {"euler", "rk4"}
    dynamics : {"epdiff", "stationary"}
        A geodesic, or the flow of a stationary velocity.
    velocity_scale, reference_length : float, optional
        s and ℓ in mm (`Metric`).
    power : float
        c of L = (αA + 1)^c.
    mask : bool array, optional
        Voxels of the target that count.
    pad : bool
        Surround images close to the border with zeros for the computation.
    space : {"bandlimited", "full"}
        Velocities of the band, or of every frequency of the grid, shot voxel by voxel: the
        baseline, many times slower (`benchmarks/table1.py`; `modes` does not matter to it).
    uncertainty : bool or int
        Estimate `displacement_sd`, the posterior standard deviation of the displacement, from 100
        (or so many) samples of the posterior of v₀ at the given α and noise; "ssd" only.
    max_iterations : int
        Of one fit, on any grid.
    callback : callable, optional
        Called with a `Record` at every accepted iteration.

    Returns
    -------
    Registration

    Raises
    ------
    ValueError, TypeError
        One line that names the argument, what was expected, what came and what to do.
    """
    began = time.perf_counter()
    setup = prepare(
        source,
        target,
        spacing=spacing,
        modes=modes,
        alpha=alpha,
        power=power,
        reference_length=reference_length,
        velocity_scale=velocity_scale,
        mask=mask,
        num_steps=num_steps,
        integrator=integrator,
        dynamics=dynamics,
        pad=pad,
        space=space,
        similarity=similarity,
    )
    samples = sample_count(uncertainty, setup.problem)
    noise = _noise_or_weight(setup.problem.similarity, sigma, decimation, weight)
    solver = Solver(setup.problem, setup.metric, noise, callback)
    effort = {"tolerance": TOLERANCE, "max_iterations": max_iterations}
    solver.descend(solver.search_level, **effort)
    solver.settle_noise(solver.search_level, **effort)
    if solver.search_level < solver.finest:
        solver.estimate_noise(solver.finest)
        solver.fit(solver.finest, **effort)
    exact = setup.metric.band.ndim == 2
    return assemble(solver, setup, None, None, samples, exact, began)


def _noise_or_weight(similarity, sigma, decimation, weight):
    """`Noise` of `register`: σ and ρ for the sum of squares, γ for any similarity."""
    if weight is None and similarity.gaussian:
        return noise_model("estimate" if sigma is None else sigma, decimation)
    for name, value in (("sigma", sigma), ("decimation", decimation)):
        if value is not None:
            reason = "weight is given" if similarity.gaussian else "this similarity has no noise"
            raise InputError(f"{name}: expected None, as {reason}; got {value!r}: use weight alone")
    if weight is None:
        weight = WEIGHTS[name_of(similarity)]
    return noise_model(1.0 / math.sqrt(checks.positive("weight", weight)), 1.0)

"""What a finished solver amounts to: maps, the deformed image, and a sentence on how it went."""

import time

import numpy as np

from fourierreg.backend import asarray, to_numpy
from fourierreg.image.deformation import invert
from fourierreg.image.geometry import resample_onto
from fourierreg.image.similarity import describe
from fourierreg.image.voxels import jacobian_determinant
from fourierreg.model.full_grid import FullGridProblem
from fourierreg.model.uncertainty import displacement_sd
from fourierreg.registration.result import Registration


def assemble(solver, setup, interval, problem_with_alpha, samples, exact, began):
    """`Registration` of a finished solver; `problem_with_alpha` is a sentence or None."""
    xp, metric = solver.xp, solver.metric
    finest = solver.levels[solver.finest].problem
    u = finest.displacement(solver.evaluation.geodesic)
    determinant = setup.domain.crop(jacobian_determinant(u, metric.band.spacing))
    inverse = invert(u, metric.band.spacing)
    displacement = setup.domain.crop(u)
    if setup.geometry is None:
        deformed = setup.domain.crop(finest.deformed(solver.evaluation.geodesic))
    else:
        moved = resample_onto(
            setup.original, setup.source_geometry, setup.geometry, to_numpy(displacement)
        )
        deformed = asarray(moved, dtype=np.float32)
    deviation = None
    if samples:
        deviation = setup.domain.crop(
            displacement_sd(
                solver.problem(solver.finest),
                metric,
                solver.velocity,
                exact=exact,
                num_samples=samples,
            )
        )
    folds = int(xp.sum(determinant <= 0))
    gaussian = finest.similarity.gaussian
    status, converged = _status(solver, interval, problem_with_alpha, folds)
    return Registration(
        alpha=metric.alpha,
        alpha_interval=interval,
        smoothing_length=metric.smoothing_length,
        sigma=solver.noise.sigma if gaussian else None,
        decimation=solver.noise.decimation if gaussian else None,
        similarity=describe(finest.similarity),
        weight=solver.noise.weight,
        metric=metric,
        velocity=solver.velocity,
        displacement=displacement,
        inverse_displacement=setup.domain.crop(inverse),
        deformed=deformed,
        jacobian_determinant=determinant,
        displacement_sd=deviation,
        history=tuple(solver.history),
        converged=converged,
        status=status,
        seconds=time.perf_counter() - began,
        domain=setup.domain,
        num_steps=finest.num_steps,
        integrator=finest.integrator,
        dynamics=finest.dynamics,
        space="full" if isinstance(finest, FullGridProblem) else "bandlimited",
        geometry=setup.geometry,
        source_geometry=setup.source_geometry,
        scales=setup.scales,
    )


def _status(solver, interval, problem_with_alpha, folds):
    """A sentence on how it went, and whether it went well."""
    if folds:
        return (
            f"Folded: the Jacobian determinant is not positive at {folds} voxels; "
            "use a larger alpha, a smaller velocity_scale or more num_steps."
        ), False
    if problem_with_alpha is not None:
        return problem_with_alpha, False
    if solver.at_boundary:
        return (
            "Stopped at the edge of the diffeomorphisms: further steps would fold the map; "
            "use a larger alpha, or more num_steps."
        ), False
    if not solver.settled:
        return (
            "The energy was still falling when the iterations ran out; raise max_iterations."
        ), False
    if interval is None:
        return "Converged at the given alpha.", True
    low, high = interval
    return (
        f"Converged: alpha = {solver.metric.alpha:.3g}, 95 % interval {low:.3g} to {high:.3g}."
    ), True

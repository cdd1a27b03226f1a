"""Assemble a `Registration` from a finished fit: maps, the deformed image, a sentence of status."""

import math
import time

import numpy as np

from fourierreg.backend import asarray
from fourierreg.image.deformation import invert
from fourierreg.image.determinant import jacobian_determinant
from fourierreg.image.geometry import resample_onto
from fourierreg.model.hessian import PosteriorHessian
from fourierreg.model.laplace import negative_log_marginal
from fourierreg.model.uncertainty import displacement_sd
from fourierreg.registration.doubts import doubts
from fourierreg.registration.result import Registration


def assemble(
    state,
    inputs,
    *,
    began,
    exact,
    samples=0,
    evidence=0,
    interval=None,
    problem=None,
    doubt=None,
    budgeted=False,
    posterior=None,
    held_out=None,
):
    """`Registration` of a finished `Multiresolution`.

    Parameters
    ----------
    state : Multiresolution
    inputs : Inputs
    began : float
        Start of the call (`time.perf_counter`).
    exact : bool
        Form of J in the Hessian.
    samples : int
        Posterior samples for `displacement_sd`; 0 for none.
    evidence : int
        Probes for `log_evidence` (bands too large for a dense one); 0 for none.
    interval : tuple of float, optional
        Of α, where it was inferred.
    problem : str, optional
        A sentence on what went wrong in the search for α.
    doubt : str, optional
        A sentence on the α of a search that did not fail.
    budgeted : bool
        Whether the limits of the iterations are those of a quality, so that they may be reached.
    posterior : str, optional
        How α was inferred.
    held_out : mapping, optional
        Dissimilarity of held-out voxels by α.
    """
    metric, level = state.metric.metric(0), state.levels[state.finest]
    domain, finest = inputs.domain, level.problem
    u = finest.displacement(state.evaluation.geodesic)[0]
    determinant = domain.crop(jacobian_determinant(u, metric.band.spacing))
    displacement, inverse = domain.crop(u), domain.crop(invert(u, metric.band.spacing))
    folds = int(state.xp.sum(determinant <= 0))
    log_evidence, error = _log_evidence(state, exact, evidence) if evidence else (None, None)
    failures = [*doubts(state, determinant), *_failures(state, problem, folds, budgeted)]
    warnings = failures if doubt is None else [*failures, doubt]
    return Registration(
        alpha=metric.alpha,
        alpha_interval=interval,
        sigma=state.noise.sigma if inputs.problem.similarity.gaussian else None,
        decimation=state.noise.decimation if state.likelihood else None,
        weight=state.noise.weight,
        model=inputs.model.with_fields(num_steps=state.num_steps),
        flow_error=state.flow_error if state.chooses_steps else None,
        metric=metric,
        velocity=state.velocity[0],
        displacement=displacement,
        inverse_displacement=inverse,
        deformed=_deformed(state, inputs, displacement),
        jacobian_determinant=determinant,
        displacement_sd=_displacement_sd(state, domain, exact, samples) if samples else None,
        log_evidence=log_evidence,
        log_evidence_error=error,
        history=tuple(state.history),
        converged=not failures,
        status=" ".join(warnings) or _success(state, interval, budgeted),
        warnings=tuple(warnings),
        posterior=posterior,
        held_out=None if held_out is None else _finite(held_out),
        seconds=time.perf_counter() - began,
        domain=domain,
        geometry=inputs.geometry,
        source_geometry=inputs.source_geometry,
        scales=inputs.scales,
    )


def _finite(losses):
    """Losses by α, sorted, without those of fits that failed."""
    return tuple(sorted(pair for pair in losses.items() if math.isfinite(pair[1])))


def _deformed(state, inputs, displacement):
    """The deformed source; of nibabel images interpolated once from the original voxels."""
    if inputs.geometry is None:
        finest = state.levels[state.finest].problem
        moved = inputs.domain.crop(finest.deformed(state.evaluation.geodesic)[0])
        return moved + moved.dtype.type(inputs.background)
    # beyond its field of view is background
    original = asarray(inputs.original - np.float32(inputs.background))
    moved = resample_onto(original, inputs.source_geometry, inputs.geometry, displacement)
    return moved + np.float32(inputs.background)


def _displacement_sd(state, domain, exact, samples):
    problem = state.problem(state.finest)
    deviation = displacement_sd(
        problem, state.metric, state.velocity, exact=exact, num_samples=samples
    )
    return domain.crop(deviation)


def _log_evidence(state, exact, num_probes):
    """ln p(images | α, noise, model) by Laplace's method and its standard error, in nats."""
    problem = state.problem(state.finest)
    evaluation = problem.evaluate(state.velocity, state.metric)
    hessian = PosteriorHessian(state.metric, problem.curvature(evaluation.geodesic, exact))
    negative, error = negative_log_marginal(evaluation.total, hessian, num_probes)
    return -(float(negative[0]) + state.likelihood_normalizer()), float(error[0])


def _open_decrease(state):
    """By how much the energy may still fall, as a fraction of its decrease from zero velocity on
    the last grid; infinite where that cannot be told, as after Algorithm 1."""
    if state.fitted_level is None:
        return math.inf
    zero = state.xp.zeros_like(state.velocity)
    start = float(state.problem(state.fitted_level).evaluate(zero, state.metric).total[0])
    decrease = start - float(state.evaluation.total[0])
    return state.remaining / decrease if decrease > 0 and state.remaining >= 0 else math.inf


def _failures(state, problem, folds, budgeted):
    """Sentences on what went wrong in the optimization: at most one, the most serious."""
    if folds:
        return [
            f"Folded: the Jacobian determinant is not positive at {folds} voxels; "
            "use a larger alpha, a smaller velocity_scale or more num_steps."
        ]
    if problem is not None:
        return [problem]
    if state.at_boundary:
        return [
            "Stopped at the edge of the diffeomorphisms: further steps would fold the map; "
            "use a larger alpha, or more num_steps."
        ]
    if not state.converged and not budgeted:
        return [f"The iterations ran out, and {_left(state)}; raise max_iterations."]
    return []


def _success(state, interval, budgeted):
    """A sentence on a registration that nothing is to be said against."""
    ended = "Converged"
    if not state.converged and budgeted:
        ended = f"Ended at the limits of iterations of its quality; {_left(state)}"
    if interval is not None:
        low, high = interval
        found = f"alpha = {state.alpha:.3g}, 95 % interval {low:.3g} to {high:.3g}"
        return f"{ended}: {found}." if ended == "Converged" else f"{found}. {ended}."
    return f"{ended} at the given alpha." if ended == "Converged" else f"{ended}."


def _left(state):
    """Half a sentence on how far the energy may still fall."""
    decrease = _open_decrease(state)
    if math.isfinite(decrease):
        return f"the energy may fall by another {100 * decrease:.2g} % of what it fell"
    return "how far the energy may still fall is not known"

"""Registration at a given α."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from fourierreg import checks
from fourierreg.backend import Array
from fourierreg.image.similarity import Similarity
from fourierreg.model.model import Model, model_of
from fourierreg.optim.batching import run
from fourierreg.registration.assembly import assemble
from fourierreg.registration.inputs import read_inputs, shape_of
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import check_likelihood, noise_or_weight, sample_count
from fourierreg.registration.quality import Quality, fit_to_quality, setting_of
from fourierreg.registration.result import Record, Registration

NUM_PROBES = 8  # for `log_evidence` of large bands


def register(
    source: Any,
    target: Any,
    *,
    quality: str | Quality | None = None,
    alpha: float | None = None,
    spacing: float | Sequence[float] | None = None,
    modes: int | Sequence[int] | None = None,
    similarity: str | Similarity | None = None,
    num_steps: int | None = None,
    velocity_scale: float | None = None,
    model: Model | None = None,
    sigma: float | str = "estimate",
    decimation: float | None = None,
    weight: float | None = None,
    mask: Array | None = None,
    pad: bool = True,
    uncertainty: bool | int = False,
    evidence: bool = False,
    max_iterations: int | None = None,
    callback: Callable[[Record], Any] | None = None,
) -> Registration:
    """Register `source` to `target` at a given regularization strength α.

    Minimizes Eq. 3, ⟨Lv₀, v₀⟩/2s² + γ/2 Dist(S∘φ₁⁻¹, T), over the initial velocity by
    preconditioned L-BFGS, coarse to fine in voxels and in the band. Where Dist is ‖S∘φ₁⁻¹ - T‖², γ
    is ρ/σ² (erratum E1).

    Parameters
    ----------
    source, target : arrays of one shape (N_1, …, N_d), d = 2 or 3, or nibabel images
        Arrays are taken as they are (range about 1; values below a millionth of the range count
        as background). Nibabel images bring their geometry and are divided by the 99.5th
        percentile of their foreground; the source is resampled onto the target's grid.
    quality : {"fast", "default", "accurate", "paper"} or Quality, optional
        A model, the α and the weight that serve it well, and limits of the iterations
        (`QUALITIES` of `fourierreg.registration.quality`). "default", unless `alpha`, `model` or
        `similarity` is given: then the model is that of `map_alpha`, to which the α that it infers
        belongs.
    alpha : float, optional
        Dimensionless. By default that of the quality; 3 without one.
    spacing : float or sequence of float, optional
        mm per voxel of arrays; 1 by default.
    modes, similarity, num_steps, velocity_scale
        Fields of `Model`; they override those of `model` or of the quality.
    model : Model, optional
        What the registration assumes, instead of a quality.
    sigma : float or "estimate"
        Noise σ in units of intensity; "estimate" takes the rms residual of the foreground. Only
        "estimate", which then has no effect, with another similarity than "ssd" or with `weight`.
    decimation : float, optional
        ρ, the fraction of independent voxels. By default estimated (virtual decimation) with
        ``sigma="estimate"``, else 1, the paper's.
    weight : float, optional
        The paper's γ of Eq. 3; for "ssd" instead of `sigma` and `decimation`. By default that of
        the quality, or `WEIGHTS` of `fourierreg.registration.options` for similarities without σ,
        each times (128³ / voxels of the image): the sum over voxels stands for an integral.
    mask : bool array, optional
        Voxels of the target that count.
    pad : bool
        Surround images close to the border with zeros for the computation.
    uncertainty : bool or int
        Estimate `displacement_sd`, the posterior standard deviation of the displacement, from 100
        (or that many) samples of the posterior of v₀ at the given α and noise; "ssd" only.
    evidence : bool
        Estimate `log_evidence` at the given α and noise; "ssd" only.
    max_iterations : int, optional
        Of one fit, on any grid; by default those of the quality, 100 with a `model`.
    callback : callable, optional
        Called with a `Record` after every accepted iteration.

    Returns
    -------
    Registration

    Raises
    ------
    InputError
        One line that names the argument, what was expected, what came and what to do.
    """
    began = time.perf_counter()
    at_quality = quality is not None or all(x is None for x in (alpha, model, similarity))
    own_model = None if model is None and at_quality else model_of(model)
    setting = setting_of(quality, own_model, target)
    model = setting.model.with_fields(
        modes=modes, similarity=similarity, num_steps=num_steps, velocity_scale=velocity_scale
    )
    iterations = setting.iterations
    if max_iterations is not None:
        iterations = (checks.count("max_iterations", max_iterations),) * 3
    samples = sample_count(uncertainty, model)
    if evidence:
        check_likelihood("evidence", model)
    own = model.similarity == setting.model.similarity
    noise = noise_or_weight(
        model.similarity,
        sigma,
        decimation,
        weight,
        default=setting.weight if own else None,
        shape=shape_of(target),
    )
    alpha = setting.alpha if alpha is None else alpha
    inputs = read_inputs(source, target, model, alpha=alpha, spacing=spacing, mask=mask, pad=pad)
    manner = {"inside": inputs.inside, "chooses_steps": model.chooses_steps}
    state = Multiresolution(inputs.problem, inputs.metric, noise, callback, **manner)
    run(fit_to_quality(state, iterations))
    exact = inputs.metric.band.ndim == 2 and model.space == "bandlimited"
    return assemble(
        state,
        inputs,
        began=began,
        exact=exact,
        samples=samples,
        evidence=NUM_PROBES if evidence else 0,
        budgeted=at_quality and max_iterations is None,
    )

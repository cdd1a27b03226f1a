"""Simulation of one image pair with known α, by a deformation drawn from the prior."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, asarray, to_numpy
from fourierreg.errors import InputError
from fourierreg.geodesic.prior import sample_velocity
from fourierreg.geodesic.shooting import shoot
from fourierreg.image.deformation import compose, jacobian_determinant, warp
from fourierreg.model.model import Model, model_of
from fourierreg.spectral.metric import Metric

NUM_STEPS = 10  # of the geodesics of simulated pairs
MIN_DETERMINANT = 0.1  # smallest accepted Jacobian determinant; excludes folding
MAX_DRAWS = 1000

Seed = int | Sequence[int] | np.random.Generator | None


class SimulatedPair(NamedTuple):
    """A pair from `simulate_pair`.

    Attributes
    ----------
    source, target : float32 ndarray, shape (N_1, …, N_d)
    alpha : float
    velocity : complex ndarray
        Coefficients of the initial velocity v₀.
    displacement : ndarray, shape (d, N_1, …, N_d)
        Of source onto target, in mm.
    metric : Metric
        Of the prior that v₀ was drawn from.
    draws : int
        Number of samples drawn, including rejected ones.
    """

    source: np.ndarray
    target: np.ndarray
    alpha: float
    velocity: np.ndarray
    displacement: np.ndarray
    metric: Metric
    draws: int


def simulate_pair(
    source: Array,
    *,
    alpha: float,
    sigma: float = 0.03,
    seed: Seed = None,
    spacing: float | Sequence[float] | None = None,
    modes: int | Sequence[int] | None = None,
    velocity_scale: float | None = None,
    num_steps: int | None = None,
    model: Model | None = None,
    foreground: bool = False,
) -> SimulatedPair:
    """Deform an image by a velocity drawn from the prior at `alpha`, and add white noise.

    Samples whose map has a Jacobian determinant below 0.1 anywhere, including all that fold, are
    rejected, so velocities follow the prior conditional on that. If nearly all samples are
    rejected, s (`velocity_scale`) is too large for `alpha`.

    Parameters
    ----------
    source : array, shape (N_1, …, N_d)
    alpha : float
    sigma : float
        Standard deviation of the noise of the target, in units of intensity; 0 for none.
    seed : int, sequence of int or numpy.random.Generator, optional
    spacing : float or sequence of float, optional
        mm per voxel; 1 by default.
    modes, velocity_scale, num_steps
        Fields of `Model`; they override those of `model`.
    model : Model, optional
        The prior and the flow; 10 time steps by default.
    foreground : bool
        Add noise only where the deformed image is nonzero.

    Returns
    -------
    SimulatedPair

    Raises
    ------
    InputError
        Invalid arguments; or 1000 samples were rejected.
    """
    source = to_numpy(checks.image("source", source))
    if sigma != 0:
        checks.positive("sigma", float(sigma))
    model = model_of(model, modes=modes, velocity_scale=velocity_scale, num_steps=num_steps)
    metric, rng = model.metric(source.shape, spacing, alpha), np.random.default_rng(seed)
    velocity, displacement, draws = draw_diffeomorphism(metric, rng, **simulation_flow(model))
    deformed = to_numpy(warp(source, displacement, metric.band.spacing))
    noise = _noise(deformed, sigma, rng, foreground)
    truth = to_numpy(velocity), to_numpy(displacement)
    return SimulatedPair(source, deformed + noise, float(alpha), *truth, metric, draws)


def simulation_flow(model: Model) -> dict[str, Any]:
    """Keywords of `shoot` for simulated pairs."""
    flow = {"integrator": model.integrator, "dynamics": model.dynamics}
    return {**flow, "num_steps": NUM_STEPS if model.num_steps is None else model.num_steps}


def draw_diffeomorphism(
    metric: Metric, rng: np.random.Generator, **flow: Any
) -> tuple[Array, Array, int]:
    """Sample a velocity from the prior until the Jacobian determinant of its map exceeds 0.1.

    Parameters
    ----------
    metric : Metric
    rng : numpy.random.Generator
    flow
        Keywords of `shoot`.

    Returns
    -------
    velocity, displacement : array
        On the active backend.
    draws : int
        Number of samples drawn, including rejected ones.

    Raises
    ------
    InputError
        1000 samples were rejected.
    """
    draws, smallest = 0, -np.inf
    while not smallest > MIN_DETERMINANT:  # written so that NaN is rejected
        if draws == MAX_DRAWS:
            raise InputError(
                f"velocity_scale: at alpha = {metric.alpha:g} and {metric.velocity_scale:.3g} mm "
                f"each of {MAX_DRAWS} samples folds or nearly folds; use a smaller "
                "velocity_scale, or a larger alpha"
            )
        draws += 1
        velocity = sample_velocity(metric, rng)
        with np.errstate(over="ignore", invalid="ignore"):  # the flow of a sample may diverge
            displacement = shoot(velocity, metric, **flow).displacement()
            determinant = jacobian_determinant(displacement, metric.band.spacing)
            smallest = float(to_numpy(determinant).min())
    return velocity, displacement, draws


def _noise(
    image: np.ndarray, sigma: float, rng: np.random.Generator, foreground: bool
) -> np.ndarray:
    """White noise as float32; zero where the image is zero if `foreground`."""
    noise = np.float32(sigma) * rng.standard_normal(image.shape).astype(np.float32)
    return noise * (image != 0) if foreground else noise


class MatchedPair(NamedTuple):
    """A pair from `simulate_matched_pair`.

    Attributes
    ----------
    source, target : float32 ndarray, shape (N_1, …, N_d)
    source_labels, target_labels : ndarray or None
        With the dtype of the given labels; None if none were given.
    displacement : ndarray, shape (d, N_1, …, N_d)
        Of source onto target, in mm.
    metric : Metric
        Of the prior that the deformation was drawn from.
    draws : int
        Number of samples drawn, including rejected ones.
    """

    source: np.ndarray
    target: np.ndarray
    source_labels: np.ndarray | None
    target_labels: np.ndarray | None
    displacement: np.ndarray
    metric: Metric
    draws: int


def simulate_matched_pair(
    image: np.ndarray,
    metric: Metric,
    *,
    common_alpha: float,
    model: Model | None = None,
    sigma: float = 0.03,
    seed: Seed = None,
    labels: np.ndarray | None = None,
) -> MatchedPair:
    """Simulate a pair whose source and target have the same interpolation blur and noise level.

    Both are interpolated once, from the same image. The source is deformed by a common map ψ (a
    geodesic drawn at `common_alpha`, and a shift of up to half a voxel), the target by ψ∘φ⁻¹ with
    φ drawn at the α of `metric`. Independent noise is added to both where they are nonzero. With
    `simulate_pair`, only the target is blurred and noisy, and a network could infer α from that.

    Parameters
    ----------
    image : ndarray, shape (N_1, …, N_d), float32
    metric : Metric
        Its α is the true α of the pair.
    common_alpha : float
        α of ψ. Use the same value for all pairs of a data set, so that ψ carries no information
        about the true α.
    model : Model, optional
        Its flow; 10 time steps by default.
    sigma : float
        Standard deviation of the noise, in units of intensity; 0 for none.
    seed : int, sequence of int or numpy.random.Generator, optional
    labels : integer ndarray, optional
        Deformed in the same way by nearest neighbor.

    Returns
    -------
    MatchedPair

    Raises
    ------
    InputError
        1000 samples were rejected (`draw_diffeomorphism`).
    """
    rng, spacing = np.random.default_rng(seed), metric.band.spacing
    flow = simulation_flow(model_of(model))
    _, common, _ = draw_diffeomorphism(metric.with_alpha(common_alpha), rng, **flow)
    shift = rng.uniform(-0.5, 0.5, metric.band.ndim) * spacing
    common = to_numpy(common) + shift.reshape(-1, *[1] * metric.band.ndim)
    _, displacement, draws = draw_diffeomorphism(metric, rng, **flow)
    displacement = to_numpy(displacement)
    composed = to_numpy(compose(asarray(common), asarray(displacement), spacing))
    images, maps = [], []
    for u in (common, composed):
        deformed = to_numpy(warp(image, u.astype(np.float32), spacing))
        images.append(deformed + _noise(deformed, sigma, rng, foreground=True))
        maps.append(None if labels is None else to_numpy(warp(labels, u, spacing, order=0)))
    return MatchedPair(images[0], images[1], maps[0], maps[1], displacement, metric, draws)

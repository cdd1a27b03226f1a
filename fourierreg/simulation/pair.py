"""Pairs of a known α: an image, and the same deformed by a velocity drawn from the prior."""

from typing import NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.backend import asarray, to_numpy
from fourierreg.geodesic.prior import sample_velocity
from fourierreg.geodesic.shooting import shoot
from fourierreg.image.deformation import compose, jacobian_determinant, warp
from fourierreg.spectral.metric import Metric

NUM_STEPS = 10  # of the geodesics that simulated targets are made with
MIN_DETERMINANT = 0.1  # a draw that compresses more is drawn again: nothing folds
MAX_DRAWS = 1000


class SimulatedPair(NamedTuple):
    """Source and target (float32 ndarrays), and the truth: α, v₀, displacement in mm, draws made.

    `metric` is that of the prior the velocity came from; `draws` counts those refused too.
    """

    source: np.ndarray
    target: np.ndarray
    alpha: float
    velocity: np.ndarray
    displacement: np.ndarray
    metric: Metric
    draws: int


def simulate_pair(
    source,
    *,
    alpha,
    sigma=0.03,
    seed=None,
    spacing=None,
    modes=16,
    velocity_scale=None,
    reference_length=None,
    num_steps=NUM_STEPS,
    integrator="euler",
    dynamics="epdiff",
    foreground=False,
):
    """Deform an image by a velocity drawn from the prior at `alpha`, and add white noise.

    A draw whose map compresses to less than a tenth anywhere (which includes every fold) is drawn
    again, so the velocities are those of the prior given that; where nearly all are refused, s
    (`velocity_scale`) is too large for `alpha`.

    Parameters
    ----------
    source : array, shape (N_1, …, N_d)
    alpha : float
    sigma : float
        Of the noise on the target, in units of intensity; 0 for none.
    seed : int, sequence of int or numpy.random.Generator, optional
    spacing, modes, velocity_scale, reference_length
        Of the `Metric`.
    num_steps, integrator, dynamics
        Of `shoot`.
    foreground : bool
        Noise only where the deformed image is not zero.

    Returns
    -------
    SimulatedPair

    Raises
    ------
    RuntimeError
        A thousand draws were refused.
    """
    source = to_numpy(checks.image("source", source))
    if sigma != 0:
        checks.positive("sigma", float(sigma))
    metric = Metric.create(
        source.shape,
        spacing=spacing,
        modes=modes,
        alpha=alpha,
        velocity_scale=velocity_scale,
        reference_length=reference_length,
    )
    rng = np.random.default_rng(seed)
    flow = {"num_steps": num_steps, "integrator": integrator, "dynamics": dynamics}
    velocity, u, draws = draw_diffeomorphism(metric, rng, **flow)
    moved = to_numpy(warp(source, u, metric.band.spacing))
    noise = _noise(moved, sigma, rng, foreground)
    truth = to_numpy(velocity), to_numpy(u)
    return SimulatedPair(source, moved + noise, float(alpha), *truth, metric, draws)


def draw_diffeomorphism(metric, rng, **flow):
    """A velocity of the prior whose map compresses to no less than a tenth.

    Returns
    -------
    velocity, displacement, draws
        The last counts those refused too.

    Raises
    ------
    RuntimeError
        A thousand draws were refused.
    """
    draws, smallest = 0, -np.inf
    while not smallest > MIN_DETERMINANT:  # it may not be a number
        if draws == MAX_DRAWS:
            raise RuntimeError(
                f"velocity_scale: at alpha = {metric.alpha:g} and {metric.velocity_scale:.3g} mm "
                f"each of {MAX_DRAWS} draws folds or nearly so; use a smaller velocity_scale, or a "
                "larger alpha"
            )
        draws += 1
        velocity = sample_velocity(metric, rng)
        with np.errstate(over="ignore", invalid="ignore"):  # a draw may blow up
            u = shoot(velocity, metric, **flow).displacement()
            smallest = float(to_numpy(jacobian_determinant(u, metric.band.spacing)).min())
    return velocity, u, draws


def _noise(image, sigma, rng, foreground):
    """White noise, float32; only where the image is not zero if `foreground`."""
    noise = np.float32(sigma) * rng.standard_normal(image.shape).astype(np.float32)
    return noise * (image != 0) if foreground else noise


class CarriedPair(NamedTuple):
    """`simulate_carried_pair`: images and labels (None without), and the truth.

    `displacement` is that of source onto target, (d, N_1, …, N_d) in mm.
    """

    source: np.ndarray
    target: np.ndarray
    source_labels: np.ndarray | None
    target_labels: np.ndarray | None
    displacement: np.ndarray
    metric: Metric
    draws: int


def simulate_carried_pair(image, metric, *, carrier_alpha, sigma=0.03, seed=None, labels=None):
    """A pair whose source and target differ by a known geodesic and by nothing else.

    Were the image itself the source, its target would be the only one of the two that is blurred
    by interpolation and noisy, and a network could read α from that. Here both are interpolated
    once, from one image: the source by a map ψ (a geodesic drawn at `carrier_alpha` and a shift of
    up to half a voxel), the target by ψ∘φ⁻¹, φ drawn at the α of `metric`; each has noise of its
    own where it is not zero.

    Parameters
    ----------
    image : ndarray, shape (N_1, …, N_d), float32
    metric : Metric
        Its α is the truth.
    carrier_alpha : float
        Of ψ, the same for all pairs of a set, so that it tells nothing.
    sigma : float
    seed : int, sequence of int or numpy.random.Generator, optional
    labels : integer ndarray, optional

    Returns
    -------
    CarriedPair

    Raises
    ------
    RuntimeError
        As `draw_diffeomorphism`.
    """
    rng, lengths = np.random.default_rng(seed), metric.band.spacing
    flow = {"num_steps": NUM_STEPS}
    _, carrier, _ = draw_diffeomorphism(metric.with_alpha(carrier_alpha), rng, **flow)
    shift = rng.uniform(-0.5, 0.5, metric.band.ndim) * lengths
    carrier = to_numpy(carrier) + shift.reshape(-1, *[1] * metric.band.ndim)
    _, u, draws = draw_diffeomorphism(metric, rng, **flow)
    u = to_numpy(u)
    there = to_numpy(compose(asarray(carrier), asarray(u), lengths))
    images, maps = [], []
    for displacement in (carrier, there):
        moved = to_numpy(warp(image, displacement.astype(np.float32), lengths))
        images.append(moved + _noise(moved, sigma, rng, foreground=True))
        if labels is not None:
            maps.append(to_numpy(warp(labels, displacement, lengths, order=0)))
    return CarriedPair(*images, *(maps or (None, None)), u, metric, draws)

"""Pairs of a known α: an image, and the same deformed by a velocity drawn from the prior."""

from typing import NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.backend import to_numpy
from fourierreg.data.prior import sample_velocity
from fourierreg.geodesic.shooting import shoot
from fourierreg.image.deformation import jacobian_determinant, warp
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
    (`velocity_scale`) is too large for `alpha` (DESIGN §2).

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
    lengths = metric.band.spacing
    rng = np.random.default_rng(seed)
    draws, smallest = 0, -np.inf
    while not smallest > MIN_DETERMINANT:  # it may not be a number
        if draws == MAX_DRAWS:
            raise RuntimeError(
                f"velocity_scale: at alpha = {alpha:g} and {metric.velocity_scale:.3g} mm each of "
                f"{MAX_DRAWS} draws folds or nearly so; use a smaller velocity_scale"
            )
        draws += 1
        velocity = sample_velocity(metric, rng)
        with np.errstate(over="ignore", invalid="ignore"):  # a draw may blow up
            u = shoot(
                velocity, metric, num_steps=num_steps, integrator=integrator, dynamics=dynamics
            ).displacement()
            smallest = float(to_numpy(jacobian_determinant(u, lengths)).min())
    moved = to_numpy(warp(source, u, lengths))
    noise = np.float32(sigma) * rng.standard_normal(source.shape).astype(np.float32)
    if foreground:
        noise = noise * (moved != 0)
    truth = to_numpy(velocity), to_numpy(u)
    return SimulatedPair(source, moved + noise, float(alpha), *truth, metric, draws)

"""Velocities drawn from the prior ṽ₀ ~ N(0, s² L⁻¹) (Eq. 5, erratum E2)."""

import math
from typing import NamedTuple

import numpy as np

from fourierreg.backend import active_module
from fourierreg.spectral.band import inner, unpack
from fourierreg.spectral.operators import derivative


def sample_velocity(metric, rng=None, size=None):
    """Draw initial velocities from the prior.

    Parameters
    ----------
    metric : Metric
    rng : numpy.random.Generator or int, optional
        Drawn on the host, so that a seed gives the same velocity on every backend.
    size : int, optional
        Number of draws, as a leading axis; one without it where None.

    Returns
    -------
    complex128 array, shape (d, *band) or (size, d, *band), in mm
    """
    xp, band = active_module(), metric.band
    rng = np.random.default_rng(rng)
    shape = (
        (band.ndim, band.num_frequencies)
        if size is None
        else (size, band.ndim, band.num_frequencies)
    )
    white = unpack(xp.asarray(rng.standard_normal(shape)), band, xp)
    return metric.velocity_scale * white / xp.sqrt(metric.symbol(xp))


class PriorSize(NamedTuple):
    """Standard deviations over voxels of one component of a prior sample."""

    velocity: float
    gradient: float


def prior_size(metric):
    """How large velocities of the prior are, and how steep.

    Returns
    -------
    PriorSize
        `velocity` in mm, s (Σ_k 1/L_k)^{1/2}; `gradient`, the rms length of the
        (dimensionless) gradient of one component, s (Σ_k |D_k|² / L_k)^{1/2}. Where it is not small
        against 1, samples fold.
    """
    xp, band = active_module(), metric.band
    root = (1.0 / xp.sqrt(metric.symbol(xp)))[None].astype(np.complex128)
    steep = derivative(band, xp) * root
    variance = float(inner(root, root, band, xp))
    slope = float(inner(steep, steep, band, xp))
    s = metric.velocity_scale
    return PriorSize(s * math.sqrt(variance), s * math.sqrt(slope))

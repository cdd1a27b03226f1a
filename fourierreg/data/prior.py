"""Velocities drawn from the prior ṽ₀ ~ N(0, s² L⁻¹) (Eq. 5, erratum E2)."""

import numpy as np

from fourierreg.backend import active_module
from fourierreg.spectral.band import unpack


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

"""Velocities drawn from the prior ṽ₀ ~ N(0, s² L⁻¹) (Eq. 5, erratum E2)."""

import numpy as np

from fourierreg.backend import Array, active_module
from fourierreg.spectral.band import unpack
from fourierreg.spectral.metric import Metric


def sample_velocity(
    metric: Metric, rng: np.random.Generator | int | None = None, size: int | None = None
) -> Array:
    """Draw initial velocities from the prior.

    Parameters
    ----------
    metric : Metric
    rng : numpy.random.Generator or int, optional
        Random numbers are drawn on the host, so that a seed gives the same velocity on every
        backend.
    size : int, optional
        Number of draws, as a leading axis; a single draw without that axis by default.

    Returns
    -------
    complex128 array, shape ``(d, *band)`` or ``(size, d, *band)``, in mm
    """
    xp, band = active_module(), metric.band
    rng = np.random.default_rng(rng)
    batch = () if size is None else (size,)
    normal = rng.standard_normal((*batch, band.ndim, band.num_frequencies))
    white = unpack(xp.asarray(normal), band, xp)
    return metric.velocity_scale * white / xp.sqrt(metric.symbol(xp))

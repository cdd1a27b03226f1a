"""What the residual says of the noise: its variance, and how many voxels are independent."""

import math

import numpy as np

from fourierreg.backend import array_module

MIN_SIGMA = 1e-3  # of the unit intensity range: keeps noise-free pairs finite


def foreground(source, target, mask=None):
    """Voxels that count: those of the mask, else those where either image is not zero."""
    return (source != 0) | (target != 0) if mask is None else mask


def lag_one_autocorrelation(residual, inside, axis):
    """Correlation of neighbours along `axis` where both are inside."""
    xp = array_module(residual, inside)
    count = xp.sum(inside)
    mean = xp.sum(residual * inside, dtype=np.float64) / count
    centred = xp.moveaxis((residual - mean.astype(residual.dtype)) * inside, axis, 0)
    within = xp.moveaxis(inside, axis, 0)
    pairs = float(xp.sum(within[1:] & within[:-1]))
    covariance = float(xp.sum(centred[1:] * centred[:-1], dtype=np.float64))
    variance = float(xp.sum(centred * centred, dtype=np.float64) / count)
    return covariance / max(pairs, 1.0) / variance if variance > 0 else 0.0


def decimation(residual, inside):
    """Virtual decimation ρ = Π_j min(1, 1 / (s_j √(4π))), s_j² = -1 / (4 ln r_j).

    r_j is the lag-one autocorrelation of the residual along axis j (Simpson 2012; Groves 2011): a
    residual smoothed by a Gaussian of s_j voxels has that many independent values per voxel.
    r_j <= 0 counts as 1.
    """
    rho = 1.0
    for axis in range(residual.ndim):
        r = lag_one_autocorrelation(residual, inside, axis)
        if 0 < r < 1:
            s = math.sqrt(-1 / (4 * math.log(r)))
            rho *= min(1.0, 1 / (s * math.sqrt(4 * math.pi)))
    return rho


def estimate(residual, inside):
    """σ = rms of the residual inside (never below `MIN_SIGMA`), and ρ by `decimation`."""
    xp = array_module(residual, inside)
    square = xp.sum(residual * residual * inside, dtype=np.float64)
    sigma = math.sqrt(float(square) / float(xp.sum(inside)))
    return max(sigma, MIN_SIGMA), decimation(residual, inside)

"""The noise of image pairs: σ, and the fraction ρ of voxels that are independent."""

import math
from dataclasses import dataclass, replace

import numpy as np

from fourierreg.backend import Array, array_module, to_numpy
from fourierreg.image.voxels import voxel_sums

MIN_SIGMA = 1e-3  # of the unit intensity range: keeps noise-free pairs finite


@dataclass(frozen=True)
class Noise:
    """σ and ρ of the voxels of one grid, for one pair.

    Attributes
    ----------
    sigma, decimation : float
        σ in units of intensity, and ρ.
    estimated : bool
        Whether they are estimated from residuals (ρ only without `fixed_decimation`).
    fixed_sigma, fixed_decimation : float or None
        What is not estimated: σ where the likelihood has none, and a given ρ of the image's own
        voxels.
    voxel_ratio : float
        Image voxels per voxel of the grid.
    """

    sigma: float
    decimation: float
    estimated: bool
    fixed_decimation: float | None = None
    voxel_ratio: float = 1.0
    fixed_sigma: float | None = None

    @property
    def weight(self) -> float:
        """ρ/σ² per voxel of the image: comparable between grids."""
        return self.decimation / self.sigma**2 / self.voxel_ratio

    def of_residual(self, residual: Array, inside: Array, voxel_ratio: float) -> "Noise":
        """The noise with σ and ρ estimated from a residual (1, N_1, …, N_d) on a grid."""
        (sigma,), (decimation,) = estimate(residual, inside)
        sigma = sigma if self.fixed_sigma is None else self.fixed_sigma
        if self.fixed_decimation is not None:
            decimation = min(1.0, self.fixed_decimation * voxel_ratio)
        return replace(
            self, sigma=float(sigma), decimation=float(decimation), voxel_ratio=voxel_ratio
        )


def estimate(residual: Array, inside: Array) -> tuple[np.ndarray, np.ndarray]:
    """σ = rms of the residual inside (never below `MIN_SIGMA`), and ρ by `virtual_decimation`.

    Parameters
    ----------
    residual : array, (pairs, N_1, …, N_d)
    inside : bool array of the same shape

    Returns
    -------
    sigma, decimation : float arrays, (pairs,)
    """
    sigma = np.sqrt(_sums(residual * residual * inside) / _sums(inside))
    return np.maximum(sigma, MIN_SIGMA), virtual_decimation(residual, inside)


def virtual_decimation(residual: Array, inside: Array) -> np.ndarray:
    """ρ = Π_j min(1, 1 / (s_j √(4π))), s_j² = -1 / (4 ln r_j), for every pair.

    r_j is the lag-one autocorrelation of the residual along axis j (Simpson 2012; Groves 2011): a
    residual smoothed by a Gaussian of s_j voxels has that many independent values per voxel.
    r_j <= 0 counts as 1.
    """
    rho = np.ones(residual.shape[0])
    for axis in range(1, residual.ndim):
        r = lag_one_autocorrelation(residual, inside, axis)
        smooth = (r > 0) & (r < 1)
        s = np.sqrt(-1 / (4 * np.log(np.where(smooth, r, 0.5))))
        rho *= np.where(smooth, np.minimum(1.0, 1 / (s * math.sqrt(4 * math.pi))), 1.0)
    return rho


def lag_one_autocorrelation(residual: Array, inside: Array, axis: int) -> np.ndarray:
    """Correlation of neighbors along `axis` where both are inside, (pairs,)."""
    xp = array_module(residual, inside)
    count = _sums(inside)
    mean = xp.asarray(_sums(residual * inside) / count).astype(residual.dtype)
    centered = (residual - mean.reshape(-1, *[1] * (residual.ndim - 1))) * inside
    whole = (slice(None),) * axis
    after, before = (*whole, slice(1, None)), (*whole, slice(None, -1))
    neighbors = _sums(inside[after] & inside[before])
    covariance = _sums(centered[after] * centered[before])
    variance = _sums(centered * centered) / count
    correlation = covariance / np.maximum(neighbors, 1.0) / np.where(variance > 0, variance, 1.0)
    return np.where(variance > 0, correlation, 0.0)


def _sums(field: Array) -> np.ndarray:
    """Sums over the voxels of every pair, on the host."""
    return to_numpy(voxel_sums(field))

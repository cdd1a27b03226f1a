"""Random fields and images for the tests, on the active backend, from a seed."""

import numpy as np

from fourierreg.backend import active_module
from fourierreg.geodesic.prior import sample_velocity
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.band import unpack


def white(band, seed, batch=()):
    """A vector field of the band with independent standard normal coordinates."""
    xp = active_module()
    shape = (*batch, band.ndim, band.num_frequencies)
    return unpack(xp.asarray(np.random.default_rng(seed).standard_normal(shape)), band, xp)


def velocity(metric, seed, size=None, factor=2.0):
    """A sample of the prior times `factor`: displacements of about half a voxel by default."""
    return factor * sample_velocity(metric, seed, size)


def smooth_image(shape, seed, cutoff=2, dtype=np.float64):
    """A random image with frequencies |k_j| <= cutoff and standard deviation 1/4."""
    grids = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    for _ in range(8):
        k = rng.integers(-cutoff, cutoff + 1, len(shape))
        phase = sum(kj * g for kj, g in zip(k, grids, strict=True))
        image += rng.standard_normal() * np.cos(phase + rng.uniform(0, 2 * np.pi))
    image -= image.mean()
    return active_module().asarray((0.25 * image / image.std()).astype(dtype))


def smooth_pair(shape, seed, **settings):
    """A simulated pair of known α = 4 in double precision, zero at the border."""
    points = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    image = np.prod([np.sin(np.pi * x) ** 2 for x in points], axis=0)
    image = image * (1.0 + 0.5 * smooth_image(shape, 3))
    pair = simulate_pair(image, alpha=4.0, seed=seed, **settings)
    return pair.source.astype(np.float64), pair.target.astype(np.float64)

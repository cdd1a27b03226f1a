"""How unlike two images are: Dist(S∘φ⁻¹, T) of Eq. 3, with its force on the deformation.

The energy is γ/2 Dist. Every Dist is a sum over the voxels of the mask (all where there is none),
which a coarser grid multiplies by the voxels that one of its own stands for. Every force is the
derivative of that very sum: ½ dDist/dI(x) ∇(S∘φ⁻¹)(x), where I is the deformed image and ∇ the
slope of the linear interpolant.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fourierreg import checks
from fourierreg.backend import array_module
from fourierreg.backend.tables import cached_table
from fourierreg.image.voxels import residual_and_force, value_and_slope

FLOOR = 1e-3  # of an image's variance: what a window without structure is taken to vary by


class Similarity(ABC):
    """Base of the similarities: one method per question the registration asks."""

    gaussian: ClassVar[bool] = False  # whether γ/2 Dist is a Gaussian negative log likelihood

    def push(self, source, target, u, spacing, mask=None):
        """Dist, a float or a 0-d array on the device, and its force, (d, N_1, …, N_d) per mm, at a
        displacement."""
        deformed, slope = value_and_slope(source, u, spacing)
        value, half = self.value_and_half_slope(deformed, target, source, mask)
        return value, slope * half

    @abstractmethod
    def value_and_half_slope(self, deformed, target, source, mask=None):
        """Dist and ½ dDist/dI at every voxel of the deformed image I."""

    @abstractmethod
    def curvature(self, deformed, target, source, mask=None):
        """½ d²Dist/dI² near a good match: a number, or one per voxel. It only scales the
        optimiser's unknowns."""


@dataclass(frozen=True)
class SumOfSquares(Similarity):
    """Dist = Σ (I - T)²: with γ = ρ/σ² the Gaussian likelihood of Eq. 4, erratum E1."""

    gaussian: ClassVar[bool] = True

    def push(self, source, target, u, spacing, mask=None):
        """Dist, which stays where the images are, and its force, in one pass over the voxels; of
        many pairs, along a first axis."""
        residual, force = residual_and_force(source, target, u, spacing)
        d = len(spacing)
        if mask is not None:
            beside = mask[(..., None, *[slice(None)] * d)]
            residual, force = residual * mask, force * beside
        xp, inner = array_module(residual), tuple(range(1 - d, 0))
        # First along all axes but one: a GPU has one block of threads take each sum of a pair.
        squares = xp.sum(residual * residual, axis=inner, dtype=np.float64)
        return xp.sum(squares, axis=-1), force

    def value_and_half_slope(self, deformed, target, source, mask=None):
        """Σ r² and r."""
        residual = _inside(deformed - target, mask)
        return _total(residual * residual), residual

    def curvature(self, deformed, target, source, mask=None):
        """1."""
        return 1.0


@dataclass(frozen=True)
class Correlation(Similarity):
    """Global normalised cross-correlation: Dist = M (1 - r²), r Pearson's of I and T.

    r² is the share of the variance of one image that the other explains, by any linear change of
    intensity.
    """

    def value_and_half_slope(self, deformed, target, source, mask=None):
        """M (1 - r²) and -M a [(T - mean) - (A/B) (I - mean)], A, B, C the centred sums."""
        count = _count(deformed, mask)
        i, t = _centred(deformed, mask, count), _centred(target, mask, count)
        across = _total(i * t)
        own = _total(i * i) + count * FLOOR * FLOOR * _variance(source)  # a constant image only
        other = _total(t * t) + count * FLOOR * FLOOR * _variance(target, mask)
        a = across / (own * other)
        half = -count * a * (t - (across / own) * i)
        return count * (1.0 - across * a), half.astype(deformed.dtype, copy=False)

    def curvature(self, deformed, target, source, mask=None):
        """1 / variance of I."""
        count = _count(deformed, mask)
        i = _centred(deformed, mask, count)
        return count / (_total(i * i) + count * FLOOR * FLOOR * _variance(source))


@dataclass(frozen=True)
class LocalCorrelation(Similarity):
    """Normalised cross-correlation in windows: Dist = Σ_x (1 - r²(x)) (Avants et al. 2008).

    Parameters
    ----------
    radius : int
        The window is a cube of 2 `radius` + 1 voxels of the grid at hand, periodic; of it the
        voxels of the mask count.
    """

    radius: int = 4

    def __post_init__(self):
        checks.count("radius", self.radius)

    def value_and_half_slope(self, deformed, target, source, mask=None):
        """Σ (1 - r²), and its exact derivative: every voxel counts in all windows around it."""
        i, t, terms = self._terms(deformed, target, source, mask)
        mean_i, mean_t, a, ratio = terms[:4]
        # Σ_x a (t - mean_t) - a ratio (i - mean_i), over the windows x that hold the voxel
        half = (
            i * self._sum(a * ratio)
            - self._sum(a * ratio * mean_i)
            - t * self._sum(a)
            + self._sum(a * mean_t)
        )
        return _count(deformed, mask) - _total(terms[4]), _inside(half, mask)

    def curvature(self, deformed, target, source, mask=None):
        """Σ over the windows that hold a voxel of r² / (sum of squares of I)."""
        _, _, (_, _, a, ratio, _) = self._terms(deformed, target, source, mask)
        return self._sum(a * ratio)

    def _terms(self, deformed, target, source, mask):
        """Centred images, and per window: means, a = A/(BC), A/B, r² (a and r² only inside)."""
        xp = array_module(deformed, target)
        kind = deformed.dtype.type
        count = _count(deformed, mask)
        if mask is None:
            size = kind(np.prod([min(2 * self.radius + 1, n) for n in deformed.shape]))
        else:
            size = xp.maximum(self._sum(mask.astype(kind)), 1)
        i, t = (_centred(image, mask, count) for image in (deformed, target))
        mean_i, mean_t = self._sum(i) / size, self._sum(t) / size
        across = self._sum(i * t) - size * mean_i * mean_t
        variances = _variance(source), _variance(target, mask)
        floors = (size * kind(FLOOR * variance) for variance in variances)
        own = self._sum(i * i) - size * mean_i * mean_i
        other = self._sum(t * t) - size * mean_t * mean_t
        own, other = (xp.maximum(x, 0) + f for x, f in zip((own, other), floors, strict=True))
        a = _inside(across / (own * other), mask)
        return i, t, (mean_i, mean_t, a, across / own, a * across)

    def _sum(self, field):
        """Sum over the window around every voxel (its own adjoint)."""
        xp = array_module(field)
        for axis, n in enumerate(field.shape):
            matrix = _window_matrix(n, self.radius, field.dtype, xp)
            field = xp.moveaxis(xp.matmul(xp.moveaxis(field, axis, -1), matrix), -1, axis)
        return xp.ascontiguousarray(field)


@dataclass(frozen=True)
class MutualInformation(Similarity):
    """Mutual information of intensities: Dist = -2 M MI, in nats (Mattes et al. 2003).

    For images that are linear functions of each other plus Gaussian noise γ/2 Dist is, with γ = 1,
    the negative log likelihood of their intensities. The histogram of the deformed image is
    smoothed by cubic B-splines, so that Dist has a derivative; that of the target has plain bins.

    Parameters
    ----------
    bins : int
        Of each image's range.
    """

    bins: int = 32

    def __post_init__(self):
        checks.count("bins", self.bins, minimum=8)

    def value_and_half_slope(self, deformed, target, source, mask=None):
        """-2 M MI and -Σ_i B'(i - p) ln(p_ij / p_i) / width."""
        joint, i, j, beyond, width = self._histogram(deformed, target, source, mask)
        xp = array_module(joint)
        count = _count(deformed, mask)
        rows, columns = xp.sum(joint, axis=1)[:, None], xp.sum(joint, axis=0)[None]
        filled = joint > 0
        own = xp.log(xp.where(filled, joint / xp.where(rows > 0, rows, 1.0), 1.0))
        mutual = own - xp.log(xp.where(columns > 0, columns, 1.0))
        information = float(xp.sum(xp.where(filled, joint * mutual, 0.0)))
        table = own.astype(deformed.dtype).reshape(-1)
        half = xp.zeros_like(beyond)
        for offset in range(4):
            slope = _spline_slope(beyond - offset, xp)
            half = half - slope * table[(i + offset) * self.bins + j]
        half = (half / deformed.dtype.type(width)).reshape(deformed.shape)
        return -2.0 * count * information, _inside(half, mask)

    def curvature(self, deformed, target, source, mask=None):
        """1 / variance of I where T is known."""
        joint, _, _, _, width = self._histogram(deformed, target, source, mask)
        xp = array_module(joint)
        bins = xp.arange(self.bins, dtype=joint.dtype)[:, None]
        columns = xp.sum(joint, axis=0)
        safe = xp.where(columns > 0, columns, 1.0)
        mean = xp.sum(bins * joint, axis=0) / safe
        within = xp.sum(joint * (bins - mean) ** 2)
        return 1.0 / (float(within) * width**2 + FLOOR * _variance(source))

    def _histogram(self, deformed, target, source, mask):
        """p_ij; first row and column of every voxel, how far beyond that row it is; its width."""
        xp = array_module(deformed, target)
        low, high = float(xp.min(source)), float(xp.max(source))
        width = max(high - low, 1e-12) / (self.bins - 5)  # two rows to spare on either side
        kind = deformed.dtype.type
        position = (deformed.reshape(-1) - kind(low)) * kind(1 / width) + 2
        position = xp.minimum(xp.maximum(position, 2), self.bins - 3)
        first = xp.floor(position) - 1
        i, beyond = first.astype(np.int64), position - first
        known = target if mask is None else target[mask]
        low, high = float(xp.min(known)), float(xp.max(known))
        j = (target.reshape(-1) - kind(low)) * kind(self.bins / max(high - low, 1e-12))
        j = xp.minimum(xp.maximum(j, 0).astype(np.int64), self.bins - 1)
        joint = xp.zeros(self.bins**2, dtype=np.float64)
        for offset in range(4):
            weight = _spline(beyond - offset, xp)
            if mask is not None:
                weight = weight * mask.reshape(-1)
            index = (i + offset) * self.bins + j
            joint = joint + xp.bincount(index, weights=weight, minlength=self.bins**2)
        joint = joint.reshape(self.bins, self.bins) / _count(deformed, mask)
        return joint, i, j, beyond, width


SIMILARITIES = {
    "ssd": SumOfSquares,
    "ncc": Correlation,
    "lncc": LocalCorrelation,
    "mi": MutualInformation,
}


def similarity_of(value):
    """The similarity a name stands for, or the one that was given."""
    if type(value) in SIMILARITIES.values():
        return value
    return SIMILARITIES[checks.choice("similarity", value, tuple(SIMILARITIES))]()


def name_of(similarity):
    """The name a similarity goes by."""
    return next(name for name, kind in SIMILARITIES.items() if type(similarity) is kind)


def describe(similarity):
    """Its name; with its parameters where they are not the default."""
    name = name_of(similarity)
    return name if similarity == SIMILARITIES[name]() else repr(similarity)


@cached_table()
def _window_matrix(points, radius, dtype, xp):
    """Circulant 0/1 matrix: which voxels of an axis lie in the window around which."""
    offset = np.arange(points)
    distance = np.minimum(offset, points - offset)
    near = (distance <= radius).astype(dtype)
    return xp.asarray(near[(offset[:, None] - offset) % points])


def _spline(x, xp):
    """Cubic B-spline at |x| <= 2."""
    x = xp.abs(x)
    return xp.where(x < 1, (4 - 6 * x**2 + 3 * x**3) / 6, xp.maximum(2 - x, 0) ** 3 / 6)


def _spline_slope(x, xp):
    """Its derivative."""
    size = xp.abs(x)
    inner = (1.5 * size - 2) * x
    outer = -0.5 * xp.maximum(2 - size, 0) ** 2 * xp.sign(x)
    return xp.where(size < 1, inner, outer)


def _total(field):
    return float(array_module(field).sum(field, dtype=np.float64))


def _inside(field, mask):
    return field if mask is None else field * mask


def _count(image, mask):
    """M: voxels that count."""
    return float(image.size) if mask is None else float(array_module(mask).sum(mask))


def _centred(image, mask, count):
    """Image less its mean over the mask; zero outside."""
    mean = _total(_inside(image, mask)) / count
    return _inside(image - image.dtype.type(mean), mask)


def _variance(image, mask=None):
    """Of the voxels of an image as it came, so that it does not change as it deforms."""
    known = image if mask is None else image[mask]
    return float(array_module(image).var(known, dtype=np.float64)) or 1.0

"""Reasons to doubt a finished registration, each a sentence with a remedy.

An optimizer that converged has found a minimum, which says nothing about whether the images show
the same thing: images of other contrast, or far apart, have a minimum as well. What they have in
common is judged by the correlation of source and target over their foreground, before and after.
Similarities that are blind to contrast are judged by squared correlations in windows, against those
of images that are shifted against each other.
"""

import math

import numpy as np
from scipy import ndimage

from fourierreg.backend import Array, to_numpy
from fourierreg.optim.root import NO_OPTIMUM, NOT_CONVERGED, Root
from fourierreg.registration.alpha_search import HIGHEST, LOWEST
from fourierreg.registration.multiresolution import Multiresolution

LEAST_BEFORE, LEAST_AFTER = 0.35, 0.5  # correlation over the foreground
LEAST_LOCAL = 0.3  # squared correlation in windows; less may still be
LEAST_RATIO = 1.7  # times that of shifted images
WINDOW = 5  # voxels along each axis
SHIFT = 3 / 16  # of the field of view, along the second axis
FLAT = 1e-4  # variance in a window, of that of the whole image, below which nothing is compared
SMALLEST_DETERMINANT = 0.04  # twice that at which the energy has its barrier
WIDEST = math.log(100.0)  # interval of ln α in which a posterior still says something
EQUAL = 1e-3  # largest difference of equal images, of the largest intensity


def doubts(state: Multiresolution, determinant: Array) -> list[str]:
    """Sentences on a finished `Multiresolution` and its Jacobian determinant, most serious first.

    Parameters
    ----------
    state : Multiresolution
    determinant : array, (N_1, …, N_d)
        det Dφ⁻¹ within the images.

    Returns
    -------
    list of str
    """
    level = state.levels[state.search_level]
    problem = level.problem
    geodesic = problem.with_steps(state.num_steps).shoot(state.velocity, state.metric)
    shown = (problem.undeformed, problem.target, problem.deformed(geodesic))
    before, target, after = (to_numpy(image[0]).astype(np.float64) for image in shown)
    inside = to_numpy(level.inside[0])
    found = []
    if np.max(np.abs(before - target)) <= EQUAL * np.max(np.abs(target)):
        found.append(
            "Source and target are equal: there is nothing to register, and they do not determine "
            "alpha."
        )
    elif problem.similarity.gaussian:
        found += _disagreement(
            _correlation(before, target, inside), _correlation(after, target, inside)
        )
    else:
        found += _local_disagreement(before, target, inside)
    smallest = float(determinant.min())
    if 0 < smallest < SMALLEST_DETERMINANT:
        found.append(
            f"The map nearly folds (smallest Jacobian determinant {smallest:.2g}); use a larger "
            "alpha, or a smaller velocity_scale."
        )
    return found


def _disagreement(before: float, after: float) -> list[str]:
    """Doubts about correlations before and after."""
    if after < LEAST_AFTER:
        return [
            f"The images hardly match even after registration (correlation {after:.2f}): they may "
            "differ in contrast (use similarity='lncc' or 'mi' of register), or be far from "
            "aligned."
        ]
    if before < LEAST_BEFORE:
        return [
            f"The images were not aligned (correlation {before:.2f} before registration, "
            f"{after:.2f} after), so that anatomy may have been matched with the wrong anatomy: "
            "align them first (fourierreg prepare)."
        ]
    return []


def _local_disagreement(before: np.ndarray, target: np.ndarray, inside: np.ndarray) -> list[str]:
    shift = max(1, round(SHIFT * target.shape[1]))
    shifted = np.roll(before, shift, axis=1)
    chance = _local_agreement(shifted, target, inside & np.roll(inside, shift, axis=1))
    agreement = _local_agreement(before, target, inside)
    if agreement >= min(LEAST_LOCAL, LEAST_RATIO * chance):
        return []
    return [
        f"The images were not aligned: before registration they agree in {agreement:.2f} of what "
        f"varies locally, and by chance in {chance:.2f}; align them first (fourierreg prepare)."
    ]


def _correlation(image: np.ndarray, target: np.ndarray, inside: np.ndarray) -> float:
    """Correlation coefficient over voxels inside; 1 where either is constant there."""
    a, b = image[inside], target[inside]
    norm = math.sqrt(a.var() * b.var()) if a.size else 0.0
    return float(np.mean((a - a.mean()) * (b - b.mean()))) / norm if norm > 0 else 1.0


def _local_agreement(image: np.ndarray, target: np.ndarray, inside: np.ndarray) -> float:
    """Mean squared correlation in windows around the voxels inside that vary in both images."""

    def mean(field: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(field, WINDOW, mode="constant")

    a, b = mean(image), mean(target)
    var_a, var_b = mean(image**2) - a**2, mean(target**2) - b**2
    varied = inside & (var_a > FLAT * image.var()) & (var_b > FLAT * target.var())
    if not varied.any():
        return 0.0
    covariance = (mean(image * target) - a * b)[varied]
    return float(np.mean(covariance**2 / (var_a[varied] * var_b[varied])))


def failed_search(root: Root, posterior: str, alpha0: float, estimated: bool) -> str | None:
    """A sentence on a search for α that failed, with a remedy, or None.

    Parameters
    ----------
    root : Root
    posterior : {"predictive", "marginal", "joint"}
    alpha0 : float
        Where the search started.
    estimated : bool
        Whether the noise was estimated.
    """
    joint, alpha = posterior == "joint", math.exp(root.log_alpha)
    low, high = math.log(alpha0 * LOWEST), math.log(alpha0 * HIGHEST)
    if root.ending == NO_OPTIMUM:
        remedy = {
            "joint": "use posterior='marginal', or give alpha_prior",
            "marginal": "the images may not constrain it: give alpha_prior, or check that they are "
            "aligned",
            "predictive": "the images may not constrain it: check that they are aligned",
        }[posterior]
        return (
            f"No interior optimum of alpha between {alpha0 * LOWEST:.3g} and "
            f"{alpha0 * HIGHEST:.3g} (the search ended at {alpha:.3g}); {remedy}."
        )
    if root.ending == NOT_CONVERGED:
        also = ", or sigma" if estimated else ""
        return (
            f"The search for alpha had not settled when its steps ran out, at {alpha:.3g}; give an "
            f"alpha0 near it{also}."
        )
    if not math.isfinite(root.sd):
        if posterior == "predictive":
            return "Held-out voxels do not tell which alpha is best: check that the images match."
        remedy = "use posterior='marginal'" if joint else "raise num_probes"
        return (
            "The posterior of alpha is flat, or concave, at its optimum, so that there is no error "
            f"bar; {remedy}, or give alpha_prior."
        )
    lowest, highest = root.interval()
    wide = highest - lowest > WIDEST and posterior != "predictive"
    if wide or lowest < low or highest > high:
        return (
            "The images hardly constrain alpha: its 95 % interval is from "
            f"{math.exp(lowest):.3g} to {math.exp(highest):.3g}; give alpha_prior, or check that "
            "the images are aligned."
        )
    return None

"""Curvatures of one pair and dense algebra, for the tests of `laplace` and `traces`."""

import math

import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.model.hessian import DataCurvature, PosteriorHessian, data_curvature
from fourierreg.model.traces import dense_matrix
from fourierreg.spectral.band import pack
from tests.laws import scalar
from tests.model import problems


def curvatures_of(case):
    """(metric, v, curvature at v, curvatures at 0.95 v and 1.05 v) of one pair, J ≈ -g."""
    metric, problem, v, geodesic = problems.solved(case)
    low_high = [data_curvature(problem, problem.shoot(s * v, metric)) for s in (0.95, 1.05)]
    return metric, v, data_curvature(problem, geodesic), low_high


def at_alpha(curvature, metric):
    """H at another α with J*J frozen."""
    frozen = DataCurvature(metric, curvature.tensor, curvature.grid)
    return PosteriorHessian(metric, frozen)


def without_data(curvature, metric):
    """The curvature of images without contrast."""
    return DataCurvature(metric, 0.0 * curvature.tensor, curvature.grid)


def is_close(actual, expected, **tolerances):
    """`math.isclose` of arrays of one element."""
    return math.isclose(scalar(actual), scalar(expected), **tolerances)


def dense(operator, metric, xp):
    """`dense_matrix` on the host."""
    return to_numpy(dense_matrix(operator, metric.band, xp))


def log_determinant(matrix):
    """ln|matrix|."""
    return np.linalg.slogdet(matrix)[1]


def packed(field, metric, xp):
    """Coordinates of the field of one pair, on the host."""
    return to_numpy(pack(field, metric.band, xp)).ravel()

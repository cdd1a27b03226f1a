"""Small registration problems: smooth random images, where linear interpolation is fair."""

import numpy as np

from fourierreg.backend import asarray
from fourierreg.model.problem import Problem
from fourierreg.spectral.metric import Metric
from tests.fields import smooth_image, velocity

CASES = {
    "2d": {"shape": (20, 17), "modes": 6},
    "2d-anisotropic": {"shape": (24, 22), "modes": (5, 6), "spacing": (1.6, 0.7)},
    "3d-anisotropic": {"shape": (12, 10, 11), "modes": (5, 3, 4), "spacing": (1.0, 1.6, 0.7)},
}


def make(metric, *, masked=False, weight=40.0, num_steps=3, **keywords):
    """A `Problem` in double precision on the grid of `metric`."""
    shape = metric.band.shape
    mask = None
    if masked:
        inside = np.zeros(shape, bool)
        inside[tuple(slice(2, n - 3) for n in shape)] = True
        mask = asarray(inside)
    return Problem(
        smooth_image(shape, 0),
        smooth_image(shape, 1),
        metric.band.spacing,
        weight,
        mask,
        num_steps,
        **keywords,
    )


def solved(case, **keywords):
    """(metric, problem, v, geodesic) at a random velocity."""
    metric = Metric.create(**CASES[case])
    problem = make(metric, **keywords)
    v = velocity(metric, 5)
    return metric, problem, v, problem.shoot(v, metric)

"""Small problems of smooth images, on which linear interpolation is accurate."""

from dataclasses import replace

import numpy as np
import pytest

from fourierreg.backend import asarray, to_numpy
from fourierreg.model.problem import Problem
from fourierreg.spectral.metric import Metric, MetricBatch
from tests import fields
from tests.fields import smooth_image

CASES = {
    "2d": {"shape": (20, 17), "modes": 6},
    "2d-anisotropic": {"shape": (24, 22), "modes": (5, 6), "spacing": (1.6, 0.7)},
    "3d-anisotropic": {"shape": (12, 10, 11), "modes": (5, 3, 4), "spacing": (1.0, 1.6, 0.7)},
}
# Of the three pairs of a batch.
ALPHAS = (2.0, 3.0, 5.0)
WEIGHTS = (20.0, 40.0, 60.0)
BATCH_CASES = {
    "2d": ("2d", {}),
    "masked": ("2d-anisotropic", {"masked": True}),
    "finer source": ("3d-anisotropic", {"finer": True}),
    "rk4": ("3d-anisotropic", {"integrator": "rk4", "num_steps": 2}),
    "stationary": ("3d-anisotropic", {"dynamics": "stationary"}),
}


def make(metric, *, masked=False, weight=40.0, **options):
    """A `Problem` of one pair in double precision on the grid of `metric`."""
    shape = metric.band.shape
    mask = None
    if masked:
        inside = np.zeros(shape, bool)
        inside[tuple(slice(2, n - 3) for n in shape)] = True
        mask = asarray(inside)
    images = (smooth_image(shape, seed) for seed in (0, 1))
    options = {"num_steps": 3} | options
    return Problem.of_pair(*images, metric.band.spacing, weight, mask, **options)


def velocity(metric, seed, factor=2.0):
    """`tests.fields.velocity` in a metric of one pair, (1, d, *band)."""
    return fields.velocity(metric.metric(0), seed, factor=factor)[None]


def solved(case, **keywords):
    """(metric, problem, v, geodesic) of one pair at a random velocity."""
    metric = Metric.create(**CASES[case]).batch()
    problem = make(metric, **keywords)
    v = velocity(metric, 5)
    return metric, problem, v, problem.shoot(v, metric)


def three_pairs(case, *, masked=False, finer=False, **options):
    """(problem, metric, velocity) of three pairs that differ in all that may differ in a batch."""
    base = Metric.create(**CASES[case])
    pairs = []
    for index, (alpha, weight) in enumerate(zip(ALPHAS, WEIGHTS, strict=True)):
        metric = base.with_alpha(alpha).batch()
        problem = make(metric, masked=masked, weight=weight, **options)
        shape = tuple((2 if finer else 1) * n for n in base.band.shape)
        source, target = (
            smooth_image(s, 10 * index + i)[None] for i, s in enumerate((shape, base.band.shape))
        )
        mask = problem.mask
        if masked:
            inside = to_numpy(mask).copy()
            inside[:, index + 2] = False
            mask = asarray(inside)
        problem = replace(problem, source=source, target=target, mask=mask)
        pairs.append((problem, metric, velocity(metric, index)))
    return pairs


def pairs_fixture(cases):
    """A fixture that gives `three_pairs` of each case on each backend."""

    @pytest.fixture(params=cases.values(), ids=cases.keys())
    def fixture(request, backend):
        case, options = request.param
        return three_pairs(case, **options)

    return fixture


def concatenated(pairs, xp):
    """Problem, metric and velocities of one batch."""
    made, metrics, velocities = zip(*pairs, strict=True)
    return Problem.concatenate(made), MetricBatch.concatenate(metrics), xp.concatenate(velocities)


def requests_of(kind, pairs, *options):
    """A request of each pair, each a batch of one."""
    return [kind(*pair, *options) for pair in pairs]


def run_single(request):
    """The result of a request run as a batch of one."""
    (result,) = request.run([request])
    return result

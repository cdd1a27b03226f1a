"""The flow of a stationary velocity is a one-parameter group."""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.geodesic.shooting import shoot
from fourierreg.image.deformation import compose
from fourierreg.spectral.metric import Metric
from tests import laws
from tests.fields import velocity

METRIC = {"shape": (48, 40), "modes": 16, "alpha": 12.0}


def end(v, metric, num_steps=16):
    geodesic = shoot(v, metric, num_steps=num_steps, integrator="rk4", dynamics="stationary")
    return geodesic.displacement(dtype=np.float64)


def test_the_velocity_is_constant(metric, xp):
    v = velocity(metric, 0)
    laws.close(shoot(v, metric, dynamics="stationary").velocity(), v)


# The group laws hold up to the truncation of (Du) v to the band and the error of linear
# interpolation, a fortieth of a voxel here.
@pytest.mark.parametrize("fraction", [0.5, 0.3])
def test_exponentials_of_multiples_of_one_velocity_compose(backend, xp, fraction):
    metric = Metric.create(**METRIC)
    v = velocity(metric, 3, factor=3.0)
    factors = end(fraction * v, metric), end((1 - fraction) * v, metric)
    composed = to_numpy(compose(*factors, metric.band.spacing))
    expected = to_numpy(end(v, metric))
    assert np.abs(expected).max() > 1.0
    assert np.abs(composed - expected).max() < 0.025


def test_the_opposite_velocity_gives_the_inverse(backend, xp):
    metric = Metric.create(**METRIC)
    v = velocity(metric, 3, factor=3.0)
    identity = to_numpy(compose(end(v, metric), end(-v, metric), metric.band.spacing))
    assert np.abs(identity).max() < 0.025


def test_a_stationary_flow_differs_from_the_geodesic(xp):
    metric = Metric.create(**METRIC)
    v = velocity(metric, 3, factor=3.0)
    geodesic = shoot(v, metric, num_steps=16, integrator="rk4")
    assert np.abs(to_numpy(geodesic.displacement()) - to_numpy(end(v, metric))).max() > 0.05

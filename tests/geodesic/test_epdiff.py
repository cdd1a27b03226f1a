"""The EPDiff equation of the velocity."""

from fourierreg.geodesic import epdiff
from fourierreg.geodesic.lie import ad_dagger
from fourierreg.geodesic.state import join_state, split_state
from tests import laws
from tests.fields import velocity


def test_velocity_obeys_epdiff(metric, xp):
    # dv/dt = -ad†_v v (Eq. 2, erratum E6)
    v = velocity(metric, 0)
    x = join_state(v, velocity(metric, 100), metric, xp)
    rate = epdiff.rate(x, epdiff.evaluate_on_grid(x, metric), metric)
    laws.close(split_state(rate, metric)[0], -ad_dagger(v, v, metric))

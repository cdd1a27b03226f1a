"""The velocity of a geodesic."""

from fourierreg.geodesic import epdiff
from fourierreg.geodesic.lie import ad_dagger
from fourierreg.geodesic.state import join, parts
from tests import laws
from tests.fields import velocity


def test_velocity_obeys_epdiff(metric, xp):
    # dv/dt = -ad†_v v (Eq. 2, erratum E6)
    v = velocity(metric, 0)
    x = join(v, velocity(metric, 100), metric, xp)
    rate = epdiff.rate(x, epdiff.on_grid(x, metric), metric)
    laws.close(parts(rate, metric)[0], -ad_dagger(v, v, metric))

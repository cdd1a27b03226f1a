"""Layout of a state: the velocity and the displacement of the inverse map, (v, u), as one array.

They are stacked along the axis before the components, shape ``(…, 2, d, *band)``. A covector is
(y, μ): y pairs with v in the metric (so that it is a natural gradient), μ pairs with u in the mean
over voxels.
"""

from types import ModuleType
from typing import NamedTuple

from fourierreg.backend import Array
from fourierreg.spectral.metric import Metric, MetricBatch

AnyMetric = Metric | MetricBatch


class Onto(NamedTuple):
    """What to return instead of a rate: keep base + step rate, a step of an integrator."""

    base: Array
    keep: float
    step: float


def split_state(state: Array, metric: AnyMetric) -> tuple[Array, Array]:
    """Split a state into (v, u), or a covector into (y, μ)."""
    tail = (slice(None),) * (metric.band.ndim + 1)
    return state[(..., 0, *tail)], state[(..., 1, *tail)]


def join_state(v: Array, u: Array, metric: AnyMetric, xp: ModuleType) -> Array:
    """Stack v and u into a state, or y and μ into a covector."""
    return xp.stack([v, u], axis=-metric.band.ndim - 2)

"""Layout of a state: the velocity and the displacement of the inverse map, (v, u), as one array.

They are stacked along the axis before the components, shape ``(…, 2, d, *band)``. A covector is
(y, μ): y pairs with v in the metric (so that its natural gradient is carried), μ pairs with u in
the mean over voxels.
"""


def parts(state, metric):
    """The two halves (v, u) of a state, or (y, μ) of a covector."""
    tail = (slice(None),) * (metric.band.ndim + 1)
    return state[(..., 0, *tail)], state[(..., 1, *tail)]


def join(v, u, metric, xp):
    """Stack two halves into a state."""
    return xp.stack([v, u], axis=-metric.band.ndim - 2)

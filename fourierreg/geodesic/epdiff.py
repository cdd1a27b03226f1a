"""EPDiff, the right-hand side of geodesic shooting, with its tangent and its adjoint.

Each is four compiled passes, whatever the number of fields: to the product grid, products at its
points, back, and what becomes of their coefficients. `fourierreg.geodesic.lie` says the same in
formulas, term by term. Where a `step` is given they give what a step of Euler's ends at: the state
(direction, covector) and the step times its rate.
"""

import functools
import math

import numpy as np

from fourierreg.backend import array_module
from fourierreg.backend.kernels import PARALLEL_SIZE, launch, voxel_blocks
from fourierreg.spectral.operators import slopes
from fourierreg.spectral.product_grid import (
    FIRST_DERIVATIVE,
    MOMENTUM,
    VALUE,
    as_real,
    fields_to_grid,
    from_grid,
)


def on_grid(state, metric):
    """A state (or a direction, which is of the same kind) on the product grid: v, m = L v, Dv and
    Du, where the rate is linearised; ``(…, 2, d, *band)`` to ``(…, 2 d (d + 1), points)``."""
    return _to_grid(state, _point_fields(metric.band.ndim), metric)


def rate(state, point, metric, step=None):
    """dv/dt = -ad†_v v (Eq. 2, erratum E6) and du/dt = -v - (Du) v (Eq. 1)."""
    d = metric.band.ndim
    formed = _at_points("products", point, (), d * (d + 2), d)
    return _in_band("rate", state, formed, metric, step)


def rate_tangent(point, direction, metric, step=None):
    """Derivative of `rate` at `point` along `direction` (which may carry batch axes)."""
    d = metric.band.ndim
    formed = _at_points("products_tangent", point, (on_grid(direction, metric),), d * (d + 2), d)
    return _in_band("rate", direction, formed, metric, step)


def rate_adjoint(point, covector, metric, step=None):
    """Transpose of `rate_tangent` applied to a covector (y, μ) (which may carry batch axes).

    y: -ad_v y + ad†_y v - K(μ + (Du)ᵀ μ);  μ: ∇·(μ ⊗ v). The first two terms are the adjoint
    Jacobi equation (Eq. 9, erratum E6).
    """
    d = metric.band.ndim
    fields = _to_grid(covector, _covector_fields(d), metric)
    formed = _at_points("products_adjoint", point, (fields,), 2 * d * (d + 1), d)
    return _in_band("rate_adjoint", covector, formed, metric, step)


@functools.cache
def _point_fields(d):
    """v, L v, D v and D u of a state, whose components are those of v, then of u."""
    v, u = range(d), range(d, 2 * d)
    derivatives = [(i, FIRST_DERIVATIVE + j) for i in (*v, *u) for j in range(d)]
    return (*((i, VALUE) for i in v), *((i, MOMENTUM) for i in v), *derivatives)


@functools.cache
def _covector_fields(d):
    """y, μ and D y."""
    derivatives = [(i, FIRST_DERIVATIVE + j) for i in range(d) for j in range(d)]
    return (*((i, VALUE) for i in range(2 * d)), *derivatives)


def _to_grid(state, fields, metric):
    xp, band = array_module(state), metric.band
    batch = state.shape[: -band.ndim - 2]
    components = state.reshape(-1, 2 * band.ndim, *band.coefficient_shape)
    values = fields_to_grid(components, fields, band, xp, metric.symbol(xp))
    return values.reshape(*batch, *values.shape[1:])


def _at_points(kernel, point, others, fields, d):
    """Products of fields at every point: (…, fields, points)."""
    xp = array_module(point)
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in (point, *others)))
    arrays = [_batch(point, batch, 2, xp, shared=bool(others))]
    arrays += [_batch(other, batch, 2, xp) for other in others]
    count, size = point.shape[-1], math.prod(batch)
    out = xp.empty((size, fields, count), dtype=point.dtype)
    launch(
        "fourierreg.geodesic",
        kernel,
        arrays,
        [],
        [out],
        sizes=(size, *([arrays[0].shape[0]] if others else []), d, count),
        blocks=voxel_blocks(count, size),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out.reshape(*batch, fields, count)


def _in_band(kernel, state, formed, metric, step):
    """A rate, from the state (or covector) and the products at the points; or a step."""
    xp, band = array_module(state), metric.band
    d, shape = band.ndim, (1,) * (3 - band.ndim) + band.coefficient_shape
    coefficients = from_grid(formed, band, xp)
    batch = coefficients.shape[: -d - 1]
    state = as_real(_batch(state, batch, d + 2, xp), xp).reshape(-1, 2, d, *shape, 2)
    lower = xp.ascontiguousarray(metric.symbol(xp).reshape(-1, *shape))
    along = slopes(band, state.dtype.type, xp)
    out = xp.empty((*batch, 2, d, *band.coefficient_shape), dtype=coefficients.dtype)
    launch(
        "fourierreg.geodesic",
        kernel,
        [state, as_real(coefficients, xp).reshape(state.shape[0], -1, *shape, 2), lower, along],
        [0.0, 1.0] if step is None else [1.0, step],
        [as_real(out, xp).reshape(state.shape)],
        sizes=(state.shape[0], lower.shape[0], along.shape[1], d, *shape),
        blocks=voxel_blocks(d * math.prod(shape), state.shape[0]),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _batch(array, batch, own, xp, shared=False):
    """An array (…, own axes) as one contiguous batch.

    A `shared` one whose axes are the last of the batch stays what it is: a kernel takes it modulo
    their number.
    """
    lead, tail = array.shape[:-own], array.shape[array.ndim - own :]
    whole = lead == batch or (shared and lead == batch[len(batch) - len(lead) :])
    if not whole:
        array = xp.broadcast_to(array, (*batch, *tail))
    return xp.ascontiguousarray(array).reshape(-1, *tail)

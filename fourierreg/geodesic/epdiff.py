"""EPDiff, the right-hand side of geodesic shooting, with its tangent and its adjoint.

Each is four compiled passes, whatever the number of fields: evaluation on the product grid,
products at its points, transformation back, and assembly of the rate in the band. Transforms are
most of the work, so that the equations are written with as few fields as possible: 26 per rate in
3D, where the form of the paper takes 39. `fourierreg.geodesic.lie` has that form, term by term.
"""

import functools
import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.backend.kernels import PARALLEL_SIZE, launch, voxel_blocks
from fourierreg.geodesic.state import AnyMetric, Onto
from fourierreg.spectral.band import real_view
from fourierreg.spectral.operators import axis_derivatives
from fourierreg.spectral.product_grid import (
    DIVERGENCE,
    FIRST_DERIVATIVE,
    MOMENTUM,
    ROTATION,
    VALUE,
    fields_to_grid,
    from_grid,
)

Fields = tuple[tuple[int, int], ...]


def evaluate_on_grid(state: Array, metric: AnyMetric) -> Array:
    """Evaluate v, m = L v, Ω = Dm - (Dm)ᵀ, div v and Du of a state (or of a direction) on the
    product grid.

    ``(…, 2, d, *band)`` to ``(…, fields, points)``: the point at which the rate is linearized.
    """
    return _to_grid(state, _state_fields(metric.band.ndim), metric)


def rate(state: Array, point: Array, metric: AnyMetric, onto: Onto | None = None) -> Array:
    """dv/dt = -ad†_v v (Eq. 2, erratum E6) and du/dt = -v - (Du) v (Eq. 1).

    ad†_v v = K[Ω v + (div v) m + ∇(v·m)]: equal to K[(Dv)ᵀ m + ∇·(m ⊗ v)] by the product rule.
    """
    d = metric.band.ndim
    products = _pointwise("products", point, (), 2 * d + 1, d)
    return _assemble("rate", state, products, metric, onto)


def rate_tangent(
    point: Array, direction: Array, metric: AnyMetric, onto: Onto | None = None
) -> Array:
    """Derivative of `rate` at `point` along `direction` (which may carry batch axes)."""
    d = metric.band.ndim
    change = evaluate_on_grid(direction, metric)
    products = _pointwise("products_tangent", point, (change,), 2 * d + 1, d)
    return _assemble("rate", direction, products, metric, onto)


def rate_adjoint(
    point: Array, covector: Array, metric: AnyMetric, onto: Onto | None = None
) -> Array:
    """Transpose of `rate_tangent` applied to a covector (y, μ) (which may carry batch axes).

    y: -ad_v y + ad†_y v - K(μ + (Du)ᵀ μ);  μ: ∇·(μ ⊗ v). The first two terms are the adjoint
    Jacobi equation (Eq. 9, erratum E6). By the product rule -ad_v y is (div y) v - (div v) y + ∇·B,
    B = y ⊗ v - v ⊗ y, and ad†_y v is K[Ω y + (div y) m + ∇(y·m)].
    """
    d = metric.band.ndim
    fields = _to_grid(covector, _covector_fields(d), metric)
    products = _pointwise("products_adjoint", point, (fields,), point.shape[-2], d)
    return _assemble("rate_adjoint", covector, products, metric, onto)


@functools.cache
def _state_fields(d: int) -> Fields:
    """v, L v, Ω, div v and D u of a state, whose components are those of v followed by those of
    u."""
    v, u = range(d), range(d, 2 * d)
    return (
        *((i, VALUE) for i in v),
        *((i, MOMENTUM) for i in v),
        *((i, ROTATION + 3 * i + j) for i in v for j in range(i + 1, d)),
        (0, DIVERGENCE),
        *((i, FIRST_DERIVATIVE + j) for i in u for j in range(d)),
    )


@functools.cache
def _covector_fields(d: int) -> Fields:
    """y, div y and μ of a covector."""
    return (
        *((i, VALUE) for i in range(d)),
        (0, DIVERGENCE),
        *((i, VALUE) for i in range(d, 2 * d)),
    )


def _to_grid(state: Array, fields: Fields, metric: AnyMetric) -> Array:
    """Evaluate fields of a state or covector on the product grid: (…, fields, points)."""
    xp, band = array_module(state), metric.band
    batch = state.shape[: -band.ndim - 2]
    components = state.reshape(-1, 2 * band.ndim, *band.coefficient_shape)
    values = fields_to_grid(components, fields, band, xp, metric.symbol(xp))
    return values.reshape(*batch, *values.shape[1:])


def _pointwise(kernel: str, point: Array, others: Sequence[Array], fields: int, d: int) -> Array:
    """Products of fields at every point of the grid: (…, fields, points)."""
    xp = array_module(point)
    batch = np.broadcast_shapes(*(a.shape[:-2] for a in (point, *others)))
    arrays = [_flat_batch(point, batch, 2, xp, shared=bool(others))]
    arrays += [_flat_batch(other, batch, 2, xp) for other in others]
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


def _assemble(
    kernel: str, state: Array, products: Array, metric: AnyMetric, onto: Onto | None
) -> Array:
    """A rate (or what `onto` asks for) in the band, from the state and the products."""
    xp, band = array_module(state), metric.band
    d, shape = band.ndim, (1,) * (3 - band.ndim) + band.coefficient_shape
    coefficients = from_grid(products, band, xp)
    batch = coefficients.shape[: -d - 1]

    def volumes(states: Array) -> Array:
        return real_view(_flat_batch(states, batch, d + 2, xp), xp).reshape(-1, 2, d, *shape, 2)

    base, keep, step = Onto(state, 0.0, 1.0) if onto is None else onto
    states, bases = volumes(state), volumes(base)
    symbols = xp.ascontiguousarray(metric.symbol(xp).reshape(-1, *shape))
    derivatives = axis_derivatives(band, states.dtype.type, xp)
    size = states.shape[0]
    out = xp.empty((*batch, 2, d, *band.coefficient_shape), dtype=coefficients.dtype)
    launch(
        "fourierreg.geodesic",
        kernel,
        [
            states,
            bases,
            real_view(coefficients, xp).reshape(size, -1, *shape, 2),
            symbols,
            derivatives,
        ],
        [keep, step],
        [real_view(out, xp).reshape(states.shape)],
        sizes=(size, symbols.shape[0], derivatives.shape[1], d, *shape),
        blocks=voxel_blocks(d * math.prod(shape), size),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _flat_batch(
    array: Array, batch: tuple[int, ...], own: int, xp: ModuleType, shared: bool = False
) -> Array:
    """Broadcast an array to a batch and flatten its batch axes; `own` is the number of others.

    A `shared` array whose batch axes are the last ones of the batch is not broadcast: kernels take
    its index modulo its length.
    """
    lead, tail = array.shape[:-own], array.shape[array.ndim - own :]
    matches = lead == batch or (shared and lead == batch[len(batch) - len(lead) :])
    if not matches:
        array = xp.broadcast_to(array, (*batch, *tail))
    return xp.ascontiguousarray(array).reshape(-1, *tail)

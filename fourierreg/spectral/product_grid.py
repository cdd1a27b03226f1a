"""Products of fields of the band without aliasing, on a small grid (`fourierreg.spectral.kernels`).

A product of two fields of cutoff K has frequencies up to 2K; on a grid of at least 3K + 1 points
per axis none of those above K is aliased into the band (on 3K points K itself is).

On a grid of some twenty points per axis one matrix product per axis is mostly overhead: launches
on a GPU, memory for intermediate values on a CPU. Here one call transforms any number of fields,
and applies derivatives and the metric on the way. Grid values are stored flat, with the last axis
of the grid slowest, which is the order in which the transforms write them.
"""

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from fourierreg.backend import Array
from fourierreg.backend.kernels import PARALLEL_SIZE, launch, voxel_blocks
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import Band, complex_dtype, real_dtype, real_view
from fourierreg.spectral.operators import axis_derivatives

# Operators that `fields_to_grid` applies to a component, and from DIVERGENCE on to several.
VALUE, MOMENTUM, FIRST_DERIVATIVE, DIVERGENCE, ROTATION = 0, 1, 2, 5, 6
CONCURRENT_BLOCKS = 192  # blocks of threads that a large GPU runs at a time, roughly


def to_grid(
    coefficients: Array, band: Band, xp: ModuleType, shape: tuple[int, ...] | None = None
) -> Array:
    """Evaluate fields on a small grid, flattened: ``(…, *band)`` to ``(…, points)``.

    Complex64 coefficients give float32 values, complex128 float64. The grid is the product grid
    (`Band.product_shape`) where no `shape` is given.
    """
    batch = coefficients.shape[: -band.ndim]
    components = coefficients.reshape(-1, 1, *band.coefficient_shape)
    values = fields_to_grid(components, ((0, VALUE),), band, xp, shape=shape)
    return values.reshape(*batch, -1)


def fields_to_grid(
    components: Array,
    fields: tuple[tuple[int, int], ...],
    band: Band,
    xp: ModuleType,
    symbol: Array | None = None,
    shape: tuple[int, ...] | None = None,
) -> Array:
    """Evaluate fields derived from components: ``(batch, components, *band)`` to ``(batch, fields,
    points)``.

    Parameters
    ----------
    components : complex array
    fields : tuple of (int, int)
        For every field, a component and the operator applied to it: `VALUE` (none), `MOMENTUM`
        (L), or `FIRST_DERIVATIVE` + j (D_j). Of a vector w whose components follow each other:
        `DIVERGENCE`, Σ_j D_j w_j, with the index of w_0; `ROTATION` + 3 i + j, the element D_j m_i
        - D_i m_j of its momentum m = L w, with the index of w_i.
    band : Band
    xp : namespace of `components`
    symbol : real array, (*band) or (pairs, 1, *band), optional
        Diagonal of L; `batch` is a multiple of the number of pairs.
    shape : tuple of int, optional
        Grid; the product grid by default.
    """
    kind = real_dtype(components)
    band_shape, grid = _shape_3d(band.coefficient_shape), _shape_3d(shape or band.product_shape)
    table = _field_table(fields, 3 - band.ndim, xp)
    symbol = _ones(band, xp) if symbol is None else symbol.astype(np.float64, copy=False)
    symbols = xp.ascontiguousarray(symbol.reshape(-1, *band_shape))
    derivatives = axis_derivatives(band, kind, xp)
    x = real_view(components, xp).reshape(*components.shape[:2], *band_shape, 2)
    out = xp.empty((x.shape[0], len(fields), math.prod(grid)), dtype=kind)
    jobs = x.shape[0] * len(fields)
    parts, part_size = _split_jobs(jobs, grid[0] // 2 + 1)
    sizes = (*x.shape[:2], len(fields), symbols.shape[0], derivatives.shape[1], *band_shape, *grid)
    launch(
        "fourierreg.spectral",
        "to_grid",
        [x, table, symbols, derivatives, *_synthesis_tables(band, grid, kind, xp)],
        [],
        [out.reshape(*out.shape[:2], *grid[::-1])],
        sizes=(*sizes, parts, part_size),
        blocks=(jobs * parts,),
        scratch=_scratch_to_grid(band_shape, grid, parts, part_size),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def from_grid(
    values: Array, band: Band, xp: ModuleType, shape: tuple[int, ...] | None = None
) -> Array:
    """Coefficients in the band of values on a small grid: the adjoint of `to_grid`."""
    batch, kind = values.shape[:-1], values.dtype.type
    band_shape, grid = _shape_3d(band.coefficient_shape), _shape_3d(shape or band.product_shape)
    flat = xp.ascontiguousarray(values).reshape(-1, *grid[::-1])
    parts, part_size = _split_jobs(flat.shape[0], band_shape[2])
    out = xp.empty((flat.shape[0], *band_shape), dtype=complex_dtype(kind))
    launch(
        "fourierreg.spectral",
        "from_grid",
        [flat, *_analysis_tables(band, grid, kind, xp)],
        [],
        [real_view(out, xp)],
        sizes=(flat.shape[0], *band_shape, *grid, parts, part_size),
        blocks=(flat.shape[0] * parts,),
        scratch=_scratch_from_grid(band_shape, grid, part_size),
        parallel=flat.size >= PARALLEL_SIZE,
    )
    return out.reshape(*batch, *band.coefficient_shape)


def flatten(values: Array, d: int, xp: ModuleType) -> Array:
    """Flatten values on a grid of d axes in the order of `to_grid`: ``(…, N_1, …, N_d)`` to ``(…,
    points)``."""
    lead = values.ndim - d
    swapped = xp.transpose(values, (*range(lead), *reversed(range(lead, values.ndim))))
    return xp.ascontiguousarray(swapped).reshape(*values.shape[:lead], -1)


def multiply(matrices: Array, vectors: Array, xp: ModuleType) -> Array:
    """Multiply a matrix and a vector at every point.

    ``(shared, d, d, points)`` times ``(batch, d, points)``; item b of the batch uses the matrices
    of index b modulo `shared`.
    """
    vectors = xp.ascontiguousarray(vectors)
    batch, d, points = vectors.shape
    out = xp.empty(vectors.shape, dtype=vectors.dtype)
    launch(
        "fourierreg.spectral",
        "multiply",
        [xp.ascontiguousarray(matrices), vectors],
        [],
        [out],
        sizes=(batch, matrices.shape[0], d, points),
        blocks=voxel_blocks(points, batch),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def _shape_3d(shape: tuple[int, ...], length: int = 1) -> tuple[int, ...]:
    """A 2D shape with a first axis of this length prepended; a 3D shape as it is."""
    return (length,) * (3 - len(shape)) + tuple(shape)


def _split_jobs(jobs: int, max_parts: int) -> tuple[int, int]:
    """Into how many parts a GPU splits each of several jobs, and the size of a part.

    A job consists of `max_parts` units of work; there are enough parts to occupy the GPU.
    """
    part_size = math.ceil(max_parts / max(1, min(max_parts, CONCURRENT_BLOCKS // max(1, jobs))))
    return math.ceil(max_parts / part_size), part_size


def _scratch_to_grid(
    band_shape: tuple[int, ...], grid: tuple[int, ...], parts: int, part_size: int
) -> int:
    """Scratch elements of one part of `to_grid`: the coefficients of the field, and the results of
    the first and second transforms at the points of the first axis that belong to the part."""
    n1, n2, n3 = band_shape
    width = grid[0] if parts == 1 else 2 * part_size
    return 2 * (n1 * n2 * n3 + n3 * (n2 + grid[1]) * width)


def _scratch_from_grid(band_shape: tuple[int, ...], grid: tuple[int, ...], part_size: int) -> int:
    """Scratch elements of one part of `from_grid`: the results of the three transforms at the
    frequencies of the last axis that belong to the part."""
    n1, n2, _ = band_shape
    return 2 * part_size * (n1 * n2 + n2 * grid[0] + grid[1] * grid[0])


@cached_table()
def _field_table(fields: tuple[tuple[int, int], ...], skipped_axes: int, xp: ModuleType) -> Array:
    """`fields` as an array, with the axes of derivatives counted in 3D."""
    shifts = {FIRST_DERIVATIVE: 1, DIVERGENCE: 0, ROTATION: 4}  # by operator, per skipped axis
    rows = []
    for component, operator in fields:
        kind = max((first for first in shifts if first <= operator), default=None)
        shift = 0 if kind is None else shifts[kind] * skipped_axes
        rows.append((component, operator + shift))
    return xp.asarray(np.array(rows, dtype=np.int64))


@cached_table()
def _ones(band: Band, xp: ModuleType) -> Array:
    return xp.ones(band.coefficient_shape)


@cached_table()
def _synthesis_tables(
    band: Band, grid: tuple[int, ...], kind: type, xp: ModuleType
) -> tuple[Array, ...]:
    """Cosines and sines of the three axes; those of the last times the multiplicity."""
    tables = _half_tables(band, grid)
    weight = np.where(np.arange(band.cutoff[-1] + 1) == 0, 1.0, 2.0)
    tables[4:] = tables[4] * weight, tables[5] * weight[1:]
    return tuple(xp.asarray(table.astype(kind)) for table in tables)


@cached_table()
def _analysis_tables(
    band: Band, grid: tuple[int, ...], kind: type, xp: ModuleType
) -> tuple[Array, ...]:
    """Cosines and sines of the three axes, transposed and divided by the points of their axis."""
    divisors = np.repeat(grid, 2)
    tables = [t.T / n for t, n in zip(_half_tables(band, grid), divisors, strict=True)]
    return tuple(xp.asarray(np.ascontiguousarray(table, dtype=kind)) for table in tables)


def _half_tables(band: Band, grid: tuple[int, ...]) -> list[np.ndarray]:
    """cos (N // 2 + 1, K + 1) and sin ((N - 1) // 2, K) of 2π x k / N for every axis, without the
    sines that are zero."""
    tables = []
    for cutoff, points in zip(_shape_3d(band.cutoff, 0), grid, strict=True):
        turns = np.outer(np.arange(points // 2 + 1), np.arange(cutoff + 1)) % points
        angle = 2.0 * np.pi / points * turns
        tables += [np.cos(angle), np.sin(angle)[1 : (points - 1) // 2 + 1, 1:]]
    return tables


def stack_to_grid(fields: Sequence[Array], band: Band, xp: ModuleType) -> list[Array]:
    """Apply `to_grid` to several arrays in one batch of transforms.

    Each field is ``(batch…, d, *band)`` or ``(batch…, d, d, *band)``; so are the results, with
    one axis of grid points in place of the band.
    """
    joined, shapes = _join(fields, band.ndim, xp)
    return _split(to_grid(joined, band, xp), shapes)


def stack_from_grid(fields: Sequence[Array], band: Band, xp: ModuleType) -> list[Array]:
    """Apply `from_grid` to several arrays in one batch: the adjoint of `stack_to_grid`."""
    joined, shapes = _join(fields, 1, xp)
    return _split(from_grid(joined, band, xp), shapes)


def _join(
    fields: Sequence[Array], trailing: int, xp: ModuleType
) -> tuple[Array, list[tuple[int, tuple[int, ...]]]]:
    """Concatenate the flattened component axes of `fields`, whose last `trailing` axes are points
    or frequencies; with the number of batch axes and the component shape of each."""
    batch = fields[0].ndim - trailing - 1
    shapes = [(batch, field.shape[batch : field.ndim - trailing]) for field in fields]
    flat = [
        field.reshape(*field.shape[:batch], -1, *field.shape[field.ndim - trailing :])
        for field in fields
    ]
    return xp.concatenate(flat, axis=batch), shapes


def _split(joined: Array, shapes: list[tuple[int, tuple[int, ...]]]) -> list[Array]:
    """Undo `_join` after a transform has changed the trailing axes."""
    parts, start = [], 0
    for batch, shape in shapes:
        stop = start + int(np.prod(shape))
        part = joined[(slice(None),) * batch + (slice(start, stop),)]
        parts.append(part.reshape(*part.shape[:batch], *shape, *part.shape[batch + 1 :]))
        start = stop
    return parts

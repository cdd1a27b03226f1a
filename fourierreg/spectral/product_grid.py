"""Products of fields of the band without aliasing, on a small grid (`fourierreg.spectral.kernels`).

A product of two fields of cutoff K has frequencies up to 2K; on a grid of at least 3K + 1 points
per axis none of those above K is aliased into the band (on 3K points K itself is).

On a grid of some twenty points per axis one matrix product per axis is mostly overhead: launches
on a GPU, memory for intermediate values on a CPU. Here one call transforms any number of fields,
and applies derivatives and the metric on the way. Values on the grid are only combined point by
point. They are flat, the last axis of the grid slowest, in the order the transforms write them.
"""

import math

import numpy as np

from fourierreg.backend.kernels import PARALLEL_SIZE, launch, voxel_blocks
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.operators import slopes

VALUE, MOMENTUM, FIRST_DERIVATIVE = 0, 1, 2  # what a component is multiplied by
BLOCKS = 192  # of threads, that a large GPU has at work at a time, about


def to_grid(coefficients, band, xp, shape=None):
    """Values on a small grid, flattened: ``(…, *band)`` to ``(…, points)``.

    Complex64 coefficients give float32 values, complex128 float64. The grid is that of products
    (`Band.product_shape`) where no `shape` is given.
    """
    batch = coefficients.shape[: -band.ndim]
    components = coefficients.reshape(-1, 1, *band.coefficient_shape)
    values = fields_to_grid(components, ((0, VALUE),), band, xp, shape=shape)
    return values.reshape(*batch, -1)


def fields_to_grid(components, fields, band, xp, lower=None, shape=None):
    """Values of fields made of components: ``(batch, components, *band)`` to ``(batch, fields,
    points)``.

    Parameters
    ----------
    components : complex array
    fields : tuple of (int, int)
        A component and what it is multiplied by: `VALUE` nothing, `MOMENTUM` `lower`,
        `FIRST_DERIVATIVE` + j D_j.
    band : Band
    xp : namespace of `components`
    lower : real array, (*band) or (pairs, 1, *band), optional
        Diagonal of L; `batch` is a multiple of the pairs.
    shape : tuple of int, optional
        The grid; that of products where none is given.
    """
    kind = _real_of(components)
    band_shape, grid = _volume(band.coefficient_shape), _volume(shape or band.product_shape)
    table = _fields(fields, 3 - band.ndim, xp)
    lower = _ones(band, xp) if lower is None else lower.astype(np.float64, copy=False)
    lower = xp.ascontiguousarray(lower.reshape(-1, *band_shape))
    along = slopes(band, kind, xp)
    x = as_real(components, xp).reshape(*components.shape[:2], *band_shape, 2)
    out = xp.empty((x.shape[0], len(fields), math.prod(grid)), dtype=kind)
    jobs = x.shape[0] * len(fields)
    shares, each = _shares(grid[0] // 2 + 1, jobs)
    sizes = (*x.shape[:2], len(fields), lower.shape[0], along.shape[1], *band_shape, *grid)
    launch(
        "fourierreg.spectral",
        "to_grid",
        [x, table, lower, along, *_synthesis_tables(band, grid, kind, xp)],
        [],
        [out.reshape(*out.shape[:2], *grid[::-1])],
        sizes=(*sizes, shares, each),
        blocks=(jobs * shares,),
        scratch=_scratch_to_grid(band_shape, grid, shares, each),
        parallel=out.size >= PARALLEL_SIZE,
    )
    return out


def from_grid(values, band, xp, shape=None):
    """Truncated coefficients of values on a small grid: the adjoint of `to_grid`."""
    batch, kind = values.shape[:-1], values.dtype.type
    band_shape, grid = _volume(band.coefficient_shape), _volume(shape or band.product_shape)
    flat = xp.ascontiguousarray(values).reshape(-1, *grid[::-1])
    shares, each = _shares(band_shape[2], flat.shape[0])
    complex_kind = np.complex64 if kind == np.float32 else np.complex128
    out = xp.empty((flat.shape[0], *band_shape), dtype=complex_kind)
    launch(
        "fourierreg.spectral",
        "from_grid",
        [flat, *_analysis_tables(band, grid, kind, xp)],
        [],
        [as_real(out, xp)],
        sizes=(flat.shape[0], *band_shape, *grid, shares, each),
        blocks=(flat.shape[0] * shares,),
        scratch=_scratch_from_grid(band_shape, grid, each),
        parallel=flat.size >= PARALLEL_SIZE,
    )
    return out.reshape(*batch, *band.coefficient_shape)


def flatten(values, d, xp):
    """Values on a grid of d axes, in the order of `to_grid`: ``(…, N_1, …, N_d)`` to ``(…,
    points)``."""
    lead = values.ndim - d
    swapped = xp.transpose(values, (*range(lead), *reversed(range(lead, values.ndim))))
    return xp.ascontiguousarray(swapped).reshape(*values.shape[:lead], -1)


def multiply(matrices, vectors, xp):
    """A matrix times a vector at every point: ``(shared, d, d, points)`` and ``(batch, d,
    points)``, whose item b meets the matrices of b modulo `shared`."""
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


def as_real(coefficients, xp):
    """The same memory with real and imaginary parts along a last axis."""
    contiguous = xp.ascontiguousarray(coefficients)
    return contiguous.view(_real_of(coefficients)).reshape(*contiguous.shape, 2)


def _real_of(coefficients):
    return np.float32 if coefficients.dtype == np.complex64 else np.float64


def _volume(shape, flat=1):
    """A 2D shape with a first axis of length one."""
    return (flat,) * (3 - len(shape)) + tuple(shape)


def _shares(most, jobs):
    """Into how many shares a GPU cuts each of several jobs that fall into at most so many parts,
    and how many parts a share has."""
    each = math.ceil(most / max(1, min(most, BLOCKS // max(1, jobs))))
    return math.ceil(most / each), each


def _scratch_to_grid(band_shape, grid, shares, each):
    """Numbers between the axes of a share of a field: of the band, and of two axes and one of it
    at the share's points of the first."""
    n1, n2, n3 = band_shape
    width = grid[0] if shares == 1 else 2 * each
    return 2 * (n1 * n2 * n3 + n3 * (n2 + grid[1]) * width)


def _scratch_from_grid(band_shape, grid, each):
    """As `_scratch_to_grid`, at the share's frequencies of the last axis."""
    n1, n2, _ = band_shape
    return 2 * each * (n1 * n2 + n2 * grid[0] + grid[1] * grid[0])


@cached_table()
def _fields(fields, skipped, xp):
    """The table of `fields`, its axes counted in 3D."""
    rows = [
        (component, kind if kind < FIRST_DERIVATIVE else kind + skipped)
        for component, kind in fields
    ]
    return xp.asarray(np.array(rows, dtype=np.int64))


@cached_table()
def _ones(band, xp):
    return xp.ones(band.coefficient_shape)


@cached_table()
def _synthesis_tables(band, grid, kind, xp):
    """Cosines and sines of the three axes, those of the last times how often a frequency counts."""
    tables = _half_tables(band, grid)
    weight = np.where(np.arange(band.cutoff[-1] + 1) == 0, 1.0, 2.0)
    tables[4:] = tables[4] * weight, tables[5] * weight[1:]
    return tuple(xp.asarray(table.astype(kind)) for table in tables)


@cached_table()
def _analysis_tables(band, grid, kind, xp):
    """Transposed, divided by the points of their axis."""
    divisors = np.repeat(grid, 2)
    tables = [t.T / n for t, n in zip(_half_tables(band, grid), divisors, strict=True)]
    return tuple(xp.asarray(np.ascontiguousarray(table, dtype=kind)) for table in tables)


def _half_tables(band, grid):
    """cos (N // 2 + 1, K + 1) and sin ((N - 1) // 2, K) of 2π x k / N for every axis; without the
    sines that are zero."""
    tables = []
    for cutoff, points in zip(_volume(band.cutoff, 0), grid, strict=True):
        turns = np.outer(np.arange(points // 2 + 1), np.arange(cutoff + 1)) % points
        angle = 2.0 * np.pi / points * turns
        tables += [np.cos(angle), np.sin(angle)[1 : (points - 1) // 2 + 1, 1:]]
    return tables


def stack_to_grid(fields, band, xp):
    """`to_grid` of several arrays in one batch of transforms.

    Each field is ``(batch…, d, *band)`` or ``(batch…, d, d, *band)``; so are the results, with
    one axis of grid points in place of the band.
    """
    joined, shapes = _join(fields, band.ndim, band.ndim, xp)
    return _split(to_grid(joined, band, xp), shapes)


def stack_from_grid(fields, band, xp):
    """`from_grid` of several arrays in one batch of transforms: the adjoint of `stack_to_grid`."""
    joined, shapes = _join(fields, 1, band.ndim, xp)
    return _split(from_grid(joined, band, xp), shapes)


def _join(fields, trailing, d, xp):
    """Concatenate the component axes of `fields`, whose last `trailing` axes are points."""
    batch = fields[0].ndim - trailing - 1
    shapes = [field.shape[batch : field.ndim - trailing] for field in fields]
    flat = [
        field.reshape(*field.shape[:batch], -1, *field.shape[field.ndim - trailing :])
        for field in fields
    ]
    return xp.concatenate(flat, axis=batch), [(batch, shape) for shape in shapes]


def _split(joined, shapes):
    """Undo `_join` after a transform changed the trailing axes."""
    parts, start = [], 0
    for batch, shape in shapes:
        stop = start + int(np.prod(shape))
        part = joined[(slice(None),) * batch + (slice(start, stop),)]
        parts.append(part.reshape(*part.shape[:batch], *shape, *part.shape[batch + 1 :]))
        start = stop
    return parts

"""Products of fields of the band, truncated to the band without aliasing.

A product of two fields of cutoff K holds frequencies up to 2K; on a grid of at least 3K + 1
points per axis none of those above K folds back onto the band (on 3K points K itself does).
"""

import numpy as np

from fourierreg.spectral.small_grid import from_grid, to_grid


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

"""Fields as the kernels take them: 3D grids, a 2D one with a first axis of length one."""

from collections.abc import Sequence
from types import ModuleType

from fourierreg.backend import Array


def scalar_to_3d(image: Array, d: int, kind: type, xp: ModuleType) -> Array:
    """Scalar fields on d axes as a contiguous (pairs, …) array over a 3D grid."""
    image = xp.ascontiguousarray(image.astype(kind, copy=False))
    return image.reshape(-1, *(1,) * (3 - d), *image.shape[image.ndim - d :])


def vector_to_3d(u: Array, d: int, kind: type, xp: ModuleType) -> Array:
    """Vector fields on d axes as a contiguous (pairs, 3, …) array over a 3D grid."""
    u = xp.ascontiguousarray(u.astype(kind, copy=False)).reshape(-1, *u.shape[u.ndim - d - 1 :])
    if d == 3:
        return u
    field = xp.zeros((u.shape[0], 3, 1, *u.shape[2:]), dtype=kind)
    field[:, 1:, 0] = u
    return field


def vector_from_3d(field: Array, d: int, shape: Sequence[int], xp: ModuleType) -> Array:
    """Undo `vector_to_3d` on a field, given the original shape."""
    return (field if d == 3 else xp.ascontiguousarray(field[:, 1:, 0])).reshape(shape)


def spacing_3d(spacing: Sequence[float]) -> Sequence[float]:
    """Spacing of the 3D grid that stands for a 2D one."""
    return spacing if len(spacing) == 3 else (1.0, *spacing)

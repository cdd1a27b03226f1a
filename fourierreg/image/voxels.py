"""One call per loop over voxels, wherever the arrays live: numba, CUDA, or numba under the guard.

2D fields get a first axis of length one on the way in and lose it on the way out.
"""

import functools
from importlib import resources

import numpy as np

from fourierreg.backend import array_module, backend_of, device_kernel, on_device
from fourierreg.guard import unwrap


@functools.cache
def device_source(real):
    """CUDA C of the kernels for `real` ("float" or "double")."""
    body = resources.files("fourierreg.image").joinpath("kernels.cu").read_text()
    return f"#define real {real}\n{body}"


def _launch(name, inputs, sizes, numbers, outputs):
    """Run kernel `name` on 3D arrays; `numbers` begin with the spacing, `outputs` are written."""
    kind = outputs[0].dtype.type
    numbers = [kind(x) for x in numbers]
    if on_device(outputs[0]):
        count = int(np.prod(outputs[0].shape[-3:]))
        kernel = device_kernel(device_source("double" if kind is np.float64 else "float"), name)
        arrays = [*inputs, *numbers, *(np.int64(n) for n in sizes), *outputs]
        kernel(((count + 255) // 256,), (256,), tuple(arrays))
        return
    from fourierreg.image import kernels  # numba takes half a second to import

    if backend_of(outputs[0]) == "guard":
        inputs, outputs = [unwrap(a) for a in inputs], [unwrap(a) for a in outputs]
    getattr(kernels, name)(*inputs, *numbers, *outputs)


def _volume(image, kind, xp):
    """A scalar field as a contiguous 3D array."""
    image = xp.ascontiguousarray(image.astype(kind, copy=False))
    return image if image.ndim == 3 else image[None]


def _vector(u, kind, xp):
    """A vector field as a contiguous (3, …) array over a 3D grid."""
    u = xp.ascontiguousarray(u.astype(kind, copy=False))
    if u.shape[0] == 3:
        return u
    volume = xp.zeros((3, 1, *u.shape[1:]), dtype=kind)
    volume[1:, 0] = u
    return volume


def _lengths(spacing):
    return spacing if len(spacing) == 3 else (1.0, *spacing)


def resample(image, u, spacing, kernel):
    """image(x + u(x)) by the kernel "interpolate" or "nearest".

    `image` may have leading axes (channels), all sampled in one pass; u is in mm, `spacing` is
    the image's.
    """
    xp = array_module(image, u)
    kind = np.float64 if image.dtype == np.float64 else np.float32
    grid = image.shape[-len(spacing) :]
    volume = (1,) * (3 - len(grid)) + grid
    channels = xp.ascontiguousarray(image.astype(kind, copy=False)).reshape(-1, *volume)
    vector = _vector(u, kind, xp)
    out = xp.empty((channels.shape[0], *vector.shape[1:]), dtype=kind)
    sizes = (*channels.shape, *out.shape[1:])
    _launch(kernel, [channels, vector], sizes, _lengths(spacing), [out])
    return out.reshape(*image.shape[: -len(grid)], *u.shape[1:])


def residual_and_force(source, target, u, spacing):
    """r = source(x + u) - target and r ∇source(x + u) (mm⁻¹), in one pass over the voxels.

    The gradient is that of the linear interpolant; at its kinks the mean of both slopes. The
    source may be sampled more finely, a whole number of times along each axis, from the same
    origin; `spacing` is the target's.
    """
    xp = array_module(source, target, u)
    kind = source.dtype.type
    s, t, v = _volume(source, kind, xp), _volume(target, kind, xp), _vector(u, kind, xp)
    residual, force = xp.empty(t.shape, dtype=kind), xp.empty((3, *t.shape), dtype=kind)
    sizes = (*s.shape, *t.shape)
    _launch("residual_and_force", [s, t, v], sizes, _lengths(spacing), [residual, force])
    if source.ndim == 2:
        force = force[1:, 0]
    return residual.reshape(target.shape), force


def value_and_slope(source, u, spacing):
    """source(x + u) and ∇source(x + u) (mm⁻¹), that of the linear interpolant, in one pass.

    On the grid of u, of which `spacing` is; the source may be finer, as in `residual_and_force`.
    """
    xp = array_module(source, u)
    kind = source.dtype.type
    s, v = _volume(source, kind, xp), _vector(u, kind, xp)
    value, slope = xp.empty(v.shape[1:], dtype=kind), xp.empty(v.shape, dtype=kind)
    sizes = (*s.shape, *value.shape)
    _launch("value_and_slope", [s, v], sizes, _lengths(spacing), [value, slope])
    if source.ndim == 2:
        slope = slope[1:, 0]
    return value.reshape(u.shape[1:]), slope


def jacobian_determinant(u, spacing):
    """det(I + Du) on the image grid by periodic central differences (positive: no fold)."""
    xp = array_module(u)
    kind = u.dtype.type
    vector = _vector(u, kind, xp)
    out = xp.empty(vector.shape[1:], dtype=kind)
    _launch("jacobian_determinant", [vector], out.shape, _lengths(spacing), [out])
    return out.reshape(u.shape[1:])


def invert(u, spacing, tolerance):
    """w(x) = -u(x + w(x)), to `tolerance` voxels of change at every voxel."""
    xp = array_module(u)
    vector = _vector(u, u.dtype.type, xp)
    out = xp.empty_like(vector)
    _launch("invert", [vector], vector.shape[1:], (*_lengths(spacing), tolerance), [out])
    return out if u.shape[0] == 3 else out[1:, 0]

"""The full-grid baseline (Zhang et al. 2013): velocities of every frequency, shot on the voxels.

The same model, estimated without a band: differences of neighboring voxels, products voxel by
voxel, one pair of FFTs per application of K. It serves as a reference: ``Model(space="full")``. The
unknown is stored as coefficients of the widest band of the grid (every frequency but Nyquist's, on
which central differences vanish), so that results and priors are of the same kind. Euler steps,
NumPy only, one pair at a time: the axis of pairs has length one.
"""

import functools
import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import fft

from fourierreg.backend import Array
from fourierreg.errors import InputError
from fourierreg.model.end_map import measured
from fourierreg.model.problem import Problem
from fourierreg.spectral.band import frequencies
from fourierreg.spectral.metric import MetricBatch

WORKERS = os.cpu_count() or 1


def to_grid(coefficients, band, dtype):
    """Values (…, *shape) of fields of the widest band, by one inverse FFT."""
    axes = tuple(range(-band.ndim, 0))
    half = (*band.shape[:-1], band.shape[-1] // 2 + 1)
    kind = np.result_type(dtype, np.complex64)
    full = np.zeros((*coefficients.shape[: -band.ndim], *half), dtype=kind)
    full[(..., *_rows(band))] = coefficients
    return fft.irfftn(full, band.shape, axes, norm="forward", overwrite_x=True, workers=WORKERS)


def from_grid(values, band):
    """Coefficients in the widest band: the adjoint of `to_grid`, by one FFT."""
    axes = tuple(range(-band.ndim, 0))
    return fft.rfftn(values, axes=axes, norm="forward", workers=WORKERS)[(..., *_rows(band))]


def _rows(band):
    """Indices of the frequencies of the band among those of an FFT."""
    last = band.ndim - 1
    return np.ix_(
        *(
            frequencies(k, half=j == last) % n
            for j, (k, n) in enumerate(zip(band.cutoff, band.shape, strict=True))
        )
    )


@dataclass(frozen=True)
class FullGridGeodesic:
    """A geodesic on the voxels: velocities, momenta, displacements after every step.

    All are lists of arrays (3, N_1, N_2, N_3), mm; a 2D field has a first axis of length one and
    a first component of zero.
    """

    metric: MetricBatch
    velocities: list
    momenta: list
    displacements: list

    dynamics = "epdiff"

    @property
    def num_steps(self):
        """Steps taken from t = 0 to t = 1."""
        return len(self.momenta)

    def end(self):
        """The end point without the path, which takes 3 `num_steps` fields of memory."""
        return FullGridGeodesic(self.metric, [], [], self.displacements[-1:])

    def select(self, pairs):
        """The geodesic of the only pair."""
        return self

    @property
    def displacement(self):
        """Displacement at t = 1, (1, d, N_1, …, N_d), in mm."""
        u = self.displacements[-1]
        return (u if self.metric.band.ndim == 3 else u[1:, 0])[None]


@dataclass(frozen=True)
class FullGridProblem(Problem):
    """A `Problem` of one pair whose geodesics are computed on the voxels."""

    coefficient_dtype: ClassVar[type] = np.complex64
    bandlimited: ClassVar[bool] = False
    batch_key = None

    def evaluate(self, v, metric):
        """As `Problem.evaluate`; keeps only the end point of the geodesic."""
        evaluation = super().evaluate(v, metric)
        return evaluation._replace(geodesic=evaluation.geodesic.end())

    def shoot(self, v, metric):
        """Euler steps of dm/dt = -ad*_v m, v = K m, du/dt = -v - (Du) v."""
        from fourierreg.model import full_grid_kernels  # importing numba takes half a second

        kind, band, dt = self.source.dtype.type, metric.band, 1.0 / self.num_steps
        smooth = _smoothing(metric, kind)
        scalars = _scalars(dt, self.spacing, kind)
        velocity = _as_3d(to_grid(v[0], band, kind))
        momentum = _as_3d(to_grid(metric.lower(v)[0], band, kind))
        velocities, momenta, displacements = [velocity], [momentum], [np.zeros_like(velocity)]
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # after a large step the flow may diverge
            for step in range(self.num_steps):
                m, u = np.empty_like(momentum), np.empty_like(momentum)
                full_grid_kernels.forward_step(
                    velocities[-1], momenta[-1], displacements[-1], *scalars, m, u
                )
                displacements.append(u)
                if step < self.num_steps - 1:  # the last momentum moves nothing
                    momenta.append(m)
                    velocities.append(smooth(m))
        return FullGridGeodesic(metric, velocities, momenta, displacements)

    def end_map(self, geodesic):
        """The end map on the voxels."""
        u = geodesic.displacement
        finite = np.isfinite(u).all(axis=tuple(range(1, u.ndim)))
        return measured(finite, u if finite[0] else np.zeros_like(u), geodesic.metric.band)

    def displacement(self, geodesic):
        """End displacement of the inverse map, in mm."""
        return geodesic.displacement

    def pull_back(self, geodesic, force):
        """Gradient with respect to v₀, in the metric, of a function with that force on u."""
        from fourierreg.model import full_grid_kernels

        metric, kind = geodesic.metric, self.source.dtype.type
        smooth, dt = _smoothing(metric, kind), kind(1.0 / geodesic.num_steps)
        scalars = _scalars(dt, self.spacing, kind)
        mu = kind(np.prod(self.shape)) * _as_3d(force[0])
        lam, spare = np.zeros_like(mu), (np.empty_like(mu), np.empty_like(mu))
        for step in reversed(range(geodesic.num_steps)):
            state = (
                geodesic.velocities[step],
                geodesic.momenta[step],
                geodesic.displacements[step],
            )
            pull = np.empty_like(mu)
            full_grid_kernels.adjoint_step(*state, lam, mu, *scalars, pull, *spare)
            pulled = smooth(pull)
            spare, (lam, mu) = (lam, mu), spare
            pulled *= dt
            lam += pulled
        field = lam if metric.band.ndim == 3 else lam[1:, 0]
        return from_grid(field, metric.band)[None]

    def curvature(self, geodesic, exact=False):
        """(ρ/σ²) J*J with J ≈ -g, on the voxels."""
        if exact:
            raise InputError(
                "jacobian: expected 'approximate' with space='full'; got 'exact', which needs "
                "linearized shooting: use jacobian='approximate'"
            )
        return FullGridCurvature(geodesic.metric, self.deformed_gradient(geodesic), self.weight)


@dataclass(frozen=True)
class FullGridCurvature:
    """The operator w -> (ρ/σ²) M Π[g (g·w)] by one pair of FFTs, on fields (…, 1, d, *band).

    Attributes
    ----------
    metric : MetricBatch
    tensor : array, (1, d, N_1, …, N_d)
        g.
    weight : float array, (1,)
    """

    metric: MetricBatch
    tensor: Array
    weight: np.ndarray

    def __call__(self, w):
        band, g = self.metric.band, self.tensor[0]
        out = np.empty(w.shape, dtype=w.dtype)
        factor = g.dtype.type(self.weight[0] * np.prod(band.shape))
        for field, result in zip(
            w.reshape(-1, *w.shape[-band.ndim - 1 :]),
            out.reshape(-1, *w.shape[-band.ndim - 1 :]),
            strict=True,
        ):  # field by field: a batch would exceed the cache, or the memory
            values = to_grid(field, band, g.dtype)
            result[...] = from_grid(g * (factor * (g * values).sum(axis=0)), band)
        return out

    multiply = __call__

    @property
    def diagonal(self):
        """Diagonal, (1, d, 1, …): the same at every frequency."""
        d = self.metric.band.ndim
        size = self.weight[0] * np.prod(self.metric.band.shape)
        means = size * np.array([np.mean(c * c) for c in self.tensor[0]])
        return means.reshape(1, -1, *[1] * d)

    def select(self, pairs):
        """The operator of the only pair."""
        return self


class _Smoothing:
    """The operator K on the voxels, by one pair of FFTs."""

    def __init__(self, metric, kind):
        band = metric.band
        self.d, self.shape = band.ndim, band.shape
        self.inverse = np.zeros((*band.shape[:-1], band.shape[-1] // 2 + 1), dtype=kind)
        self.inverse[_rows(band)] = 1.0 / metric.symbol(np)[0, 0]

    def __call__(self, m):
        flat = m if self.d == 3 else m[1:, 0]
        axes = tuple(range(-self.d, 0))
        hat = fft.rfftn(flat, axes=axes, workers=WORKERS)
        hat *= self.inverse
        return _as_3d(fft.irfftn(hat, self.shape, axes, overwrite_x=True, workers=WORKERS))


@functools.lru_cache(maxsize=2)
def _smoothing(metric, kind):
    """The `_Smoothing` shared by all geodesics at one α."""
    return _Smoothing(metric, kind)


def _as_3d(field):
    """A vector field as a contiguous (3, …) array over a 3D grid."""
    if field.shape[0] == 3:
        return np.ascontiguousarray(field)
    volume = np.zeros((3, 1, *field.shape[1:]), dtype=field.dtype)
    volume[1:, 0] = field
    return volume


def _scalars(dt, spacing, kind):
    """dt and 1 / 2h along z, y, x."""
    lengths = (1.0,) * (3 - len(spacing)) + tuple(spacing)
    return (kind(dt), *(kind(0.5 / h) for h in lengths))


def check(backend, model):
    """Refuse what the baseline does not support."""
    if backend != "numpy":
        raise InputError(
            "space: the full-grid baseline runs on NumPy only; use set_backend('numpy'), "
            "or space='bandlimited'"
        )
    for name, only in (("integrator", "euler"), ("dynamics", "epdiff")):
        value = getattr(model, name)
        if value != only:
            raise InputError(f"{name}: expected {only!r} with space='full'; got {value!r}")

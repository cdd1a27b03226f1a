"""H = L/s² + (ρ/σ²) J*J, the Gauss-Newton Hessian of the energy, matrix-free.

J is the derivative of the deformed image with respect to v₀. Two forms:

- approximate, J ≈ -g· with g = ∇(S∘φ₁⁻¹): J*J w = M Π[g (g·w)] is a multiplication between two
  truncations to the band, applied exactly on a grid of 4K + 1 points per axis once g gᵀ is
  low-passed to 2K (on an axis with fewer voxels, on the voxels themselves);
- exact, J w = g·δu with g = (∇S)∘φ₁⁻¹ and δu the linearized shooting of w.

Fields are (…, pairs, d, *band).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module
from fourierreg.backend.graphs import CapturedGraph
from fourierreg.geodesic.shooting import Geodesic, pull_back, tangent
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import MetricBatch
from fourierreg.spectral.product_grid import flatten, from_grid, multiply, to_grid
from fourierreg.spectral.transform import resample_low_pass


@dataclass(frozen=True)
class DataCurvature:
    """The operator w -> (ρ/σ²) J*J w on fields of the band.

    Attributes
    ----------
    metric : MetricBatch
    tensor : array, (pairs, d, d, points)
        Low-passed g gᵀ, times the weight and the number of voxels, on the small grid, whose
        points are in the order of `fourierreg.spectral.product_grid`.
    grid : tuple of int
        Shape of the small grid.
    geodesic : Geodesic or None
        Where J is linearized exactly; None for J ≈ -g.
    """

    metric: MetricBatch
    tensor: Array
    grid: tuple[int, ...]
    geodesic: Geodesic | None = None

    def __call__(self, w: Array) -> Array:
        if self.geodesic is None:
            return self.multiply(w)
        pulled = pull_back(self.geodesic, self.multiply(tangent(self.geodesic, w)))
        return self.metric.lower(pulled)

    def multiply(self, w: Array) -> Array:
        """M (ρ/σ²) Π[g (g·w)]."""
        xp, band, kind = array_module(w), self.metric.band, self.tensor.dtype
        working = w.astype(np.result_type(kind, np.complex64), copy=False)
        values = to_grid(working, band, xp, self.grid)
        vectors = values.reshape(-1, *values.shape[-2:])
        product = multiply(self.tensor, vectors, xp)
        product = from_grid(product.reshape(values.shape), band, xp, self.grid)
        return product.astype(w.dtype, copy=False)

    @property
    def diagonal(self) -> Array:
        """Diagonal of `multiply`, (pairs, d, 1, …): the same at every frequency."""
        xp, d = array_module(self.tensor), self.metric.band.ndim
        means = [xp.mean(self.tensor[:, i, i], axis=-1) for i in range(d)]
        return xp.stack(means, axis=-1)[(..., *[None] * d)]

    def select(self, pairs: Sequence[int]) -> "DataCurvature":
        """The operator of some of the pairs."""
        return replace(
            self,
            metric=self.metric.select(pairs),
            tensor=self.tensor[pairs],
            geodesic=None if self.geodesic is None else self.geodesic.select(pairs),
        )


def data_curvature(problem: Any, geodesic: Geodesic, exact: bool = False) -> DataCurvature:
    """`DataCurvature` of a `Problem` at the end point of a geodesic."""
    metric: Any = geodesic.metric
    band, shape = metric.band, problem.shape
    g = problem.source_gradient(geodesic) if exact else problem.deformed_gradient(geodesic)
    xp, d = array_module(g), band.ndim
    grid = tuple(min(n, 4 * k + 1) for n, k in zip(shape, band.cutoff, strict=True))
    double = tuple(2 * k for k in band.cutoff)
    factor = problem.weight_of(1) * float(np.prod(shape))
    tensor = xp.empty((g.shape[0], d, d, int(np.prod(grid))), dtype=g.dtype)
    for i in range(d):
        for j in range(i, d):
            entry = flatten(resample_low_pass(g[:, i] * g[:, j], double, grid, xp), d, xp)
            tensor[:, i, j] = tensor[:, j, i] = factor * entry
    return DataCurvature(metric, tensor, grid, geodesic if exact else None)


@dataclass(frozen=True)
class PosteriorHessian:
    """H = L/s² + (ρ/σ²) J*J on the band, symmetric positive definite in its inner product."""

    metric: MetricBatch
    curvature: DataCurvature

    def prior(self, xp: Any) -> Array:
        """Diagonal L/s², (pairs, 1, *band)."""
        return self.metric.symbol(xp) / self.metric.velocity_scale**2

    def diagonal(self, xp: Any) -> Array:
        """Diagonal of H with J ≈ -g, (pairs, d, *band)."""
        return self.prior(xp) + self.curvature.diagonal

    def __call__(self, w: Array) -> Array:
        return self.prior(array_module(w)) * w + self.curvature(w)

    def select(self, pairs: Sequence[int]) -> "PosteriorHessian":
        """The Hessian of some of the pairs."""
        return PosteriorHessian(self.metric.select(pairs), self.curvature.select(pairs))

    def solve(self, b: Array, *, rtol: float = 1e-2, max_iterations: int = 200) -> Array:
        """H⁻¹ b for right-hand sides (n, pairs, d, *band) by preconditioned conjugate gradients.

        A right-hand side of zero gives zero. A pair ends when all n right-hand sides of its own
        have converged.

        Returns
        -------
        array like `b`
        """
        xp, band = array_module(b), self.metric.band
        tail = (..., *[None] * (band.ndim + 1))
        preconditioner = self.diagonal(xp)
        x, r = xp.zeros_like(b), b.copy()
        p = r / preconditioner
        rz = inner(r, p, band, xp)
        goal, unfinished = rtol**2 * rz, xp.ones(rz.shape[1:], dtype=bool)

        def iterate() -> Array:
            hp = self(p)
            step = unfinished * _quotient(rz, inner(p, hp, band, xp), xp)
            x[...] += step[tail] * p
            r[...] -= step[tail] * hp
            z = r / preconditioner
            fresh = inner(r, z, band, xp)
            unfinished[...] &= xp.any(fresh > goal, axis=0)
            p[...] = z + _quotient(fresh, rz, xp)[tail] * p
            rz[...] = fresh
            return xp.any(unfinished)

        iteration = CapturedGraph(iterate, xp)
        for _ in range(max_iterations):
            if not bool(iteration()):
                break
        return x


def _quotient(a: Array, b: Array, xp: Any) -> Array:
    """a / b, and zero where b is zero."""
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), 0.0)

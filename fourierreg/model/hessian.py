"""H = L/s² + (ρ/σ²) J*J, the Gauss-Newton Hessian of the energy, matrix-free.

J is the derivative of the deformed image with respect to v₀. Two forms:

- approximate, J ≈ -g· with g = ∇(S∘φ₁⁻¹): J*J w = M Π[g (g·w)] is a multiplication between two
  truncations to the band, applied exactly on a grid of 4K + 1 points per axis once g gᵀ is
  low-passed to 2K (on an axis with fewer voxels, on the voxels themselves);
- exact, J w = g·δu with g = (∇S)∘φ₁⁻¹ and δu the linearised shooting of w.
"""

from dataclasses import dataclass

import numpy as np

from fourierreg.backend import array_module
from fourierreg.backend.graphs import CapturedGraph
from fourierreg.geodesic.shooting import Geodesic, pull_back, tangent
from fourierreg.spectral.band import inner
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.product_grid import flatten, from_grid, multiply, to_grid
from fourierreg.spectral.transform import resample_low_pass


@dataclass(frozen=True)
class DataCurvature:
    """w -> (ρ/σ²) J*J w for fields of the band (leading axes are batch axes).

    Of one pair, or of many: fields are (…, pairs, d, *band) then.

    Attributes
    ----------
    metric : Metric
    tensor : array, (d, d, points) or (pairs, d, d, points)
        Low-passed g gᵀ, times the weight and the number of voxels, on the small grid, whose
        points are in the order of `fourierreg.spectral.product_grid`.
    grid : tuple of int
        Its shape.
    geodesic : Geodesic or None
        Where J is linearised exactly; None for J ≈ -g.
    """

    metric: Metric
    tensor: object
    grid: tuple
    geodesic: Geodesic | None = None

    def __call__(self, w):
        if self.geodesic is None:
            return self.multiply(w)
        pulled = pull_back(self.geodesic, self.multiply(tangent(self.geodesic, w)))
        return self.metric.lower(pulled)

    def multiply(self, w):
        """M (ρ/σ²) Π[g (g·w)]."""
        xp, band, kind = array_module(w), self.metric.band, self.tensor.dtype
        working = w.astype(np.result_type(kind, np.complex64), copy=False)
        values = to_grid(working, band, xp, self.grid)
        vectors = values.reshape(-1, *values.shape[-2:])
        product = multiply(self.tensor.reshape(-1, *self.tensor.shape[-3:]), vectors, xp)
        product = from_grid(product.reshape(values.shape), band, xp, self.grid)
        return product.astype(w.dtype, copy=False)

    @property
    def diagonal(self):
        """Diagonal of `multiply`, one value per component: the same at every frequency."""
        xp, d = array_module(self.tensor), self.metric.band.ndim
        each = [xp.mean(self.tensor[..., i, i, :], axis=-1) for i in range(d)]
        return xp.stack(each, axis=-1)[(..., *[None] * d)]


def data_curvature(problem, geodesic, exact=False):
    """`DataCurvature` of a `Problem` at the end point of a geodesic."""
    metric = geodesic.metric
    band, shape = metric.band, problem.shape
    g = problem.source_gradient(geodesic) if exact else problem.deformed_gradient(geodesic)
    xp, d = array_module(g), band.ndim
    grid = tuple(min(n, 4 * k + 1) for n, k in zip(shape, band.cutoff, strict=True))
    double = tuple(2 * k for k in band.cutoff)
    factor, whole = problem.weight_of(1) * float(np.prod(shape)), (slice(None),) * d
    lead = g.shape[: -d - 1]
    tensor = xp.empty((*lead, d, d, int(np.prod(grid))), dtype=g.dtype)
    for i in range(d):
        for j in range(i, d):
            product = g[(..., i, *whole)] * g[(..., j, *whole)]
            entry = flatten(resample_low_pass(product, double, grid, xp), d, xp)
            tensor[..., i, j, :] = tensor[..., j, i, :] = factor * entry
    return DataCurvature(metric, tensor, grid, geodesic if exact else None)


@dataclass(frozen=True)
class PosteriorHessian:
    """H = L/s² + (ρ/σ²) J*J on the band, symmetric positive definite in its inner product."""

    metric: Metric
    curvature: DataCurvature

    def prior(self, xp):
        """Diagonal L/s²."""
        return self.metric.symbol(xp) / self.metric.velocity_scale**2

    def diagonal(self, xp):
        """Diagonal of H with J ≈ -g, over the stored frequencies of each component."""
        return self.prior(xp) + self.curvature.diagonal

    def __call__(self, w):
        return self.prior(array_module(w)) * w + self.curvature(w)

    def solve(self, b, *, rtol=1e-2, max_iterations=200):
        """H⁻¹ b for right-hand sides (n, d, *band) by preconditioned conjugate gradients.

        A right-hand side of zero, which a velocity of zero has, gives zero. Of many pairs (b is
        (n, pairs, d, *band)) each ends where all n of its own have converged.

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

        def iterate():
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


def _quotient(a, b, xp):
    """a / b, and zero where b is zero."""
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), 0.0)

"""The Lie algebra of vector fields of the band: ad and its two adjoints (Eq. 2, erratum E6).

Products are computed on the product grid (`fourierreg.spectral.product_grid`), so each function is
exact up to the final truncation to the band.
"""

from types import ModuleType

from fourierreg.backend import Array, array_module
from fourierreg.geodesic.state import AnyMetric
from fourierreg.spectral.band import Band
from fourierreg.spectral.operators import divergence, jacobian
from fourierreg.spectral.product_grid import stack_from_grid, stack_to_grid


def apply_matrix(a: Array, w: Array, xp: ModuleType) -> Array:
    """(a w)_i = Σ_j a_{ij} w_j at every point."""
    return xp.sum(a * w[..., None, :, :], axis=-2)


def apply_transpose(a: Array, w: Array, xp: ModuleType) -> Array:
    """(aᵀ w)_i = Σ_j a_{ji} w_j at every point."""
    return xp.sum(a * w[..., :, None, :], axis=-3)


def outer(m: Array, v: Array) -> Array:
    """(m ⊗ v)_{ij} = m_i v_j at every point."""
    return m[..., :, None, :] * v[..., None, :, :]


def ad(v: Array, w: Array, band: Band) -> Array:
    """ad_v w = (Dv) w - (Dw) v."""
    xp = array_module(v, w)
    v_, w_, dv, dw = stack_to_grid([v, w, jacobian(v, band, xp), jacobian(w, band, xp)], band, xp)
    (bracket,) = stack_from_grid([apply_matrix(dv, w_, xp) - apply_matrix(dw, v_, xp)], band, xp)
    return bracket


def ad_star(v: Array, m: Array, band: Band) -> Array:
    """ad*_v m = (Dv)ᵀ m + ∇·(m ⊗ v), the adjoint of ad_v in the mean over voxels."""
    xp = array_module(v, m)
    v_, m_, dv = stack_to_grid([v, m, jacobian(v, band, xp)], band, xp)
    dv_m, flux = stack_from_grid([apply_transpose(dv, m_, xp), outer(m_, v_)], band, xp)
    return dv_m + divergence(flux, band, xp)


def ad_dagger(v: Array, w: Array, metric: AnyMetric) -> Array:
    """ad†_v w = K ad*_v (L w), the adjoint of ad_v in the metric."""
    return metric.raise_(ad_star(v, metric.lower(w), metric.band))

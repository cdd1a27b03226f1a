"""The Lie algebra of vector fields of the band: ad and its two adjoints (Eq. 2, erratum E6).

Every product is formed on the product grid (`fourierreg.spectral.product_grid`), so each function
is exact up to the final truncation to the band.
"""

from fourierreg.backend import array_module
from fourierreg.spectral.operators import divergence, jacobian
from fourierreg.spectral.product_grid import stack_from_grid, stack_to_grid


def apply_matrix(a, w, xp):
    """(a w)_i = Σ_j a_{ij} w_j, at every point."""
    return xp.sum(a * w[..., None, :, :], axis=-2)


def apply_transpose(a, w, xp):
    """(aᵀ w)_i = Σ_j a_{ji} w_j, at every point."""
    return xp.sum(a * w[..., :, None, :], axis=-3)


def outer(m, v):
    """(m ⊗ v)_{ij} = m_i v_j, at every point."""
    return m[..., :, None, :] * v[..., None, :, :]


def ad(v, w, band):
    """ad_v w = (Dv) w - (Dw) v."""
    xp = array_module(v, w)
    v_, w_, dv, dw = stack_to_grid([v, w, jacobian(v, band, xp), jacobian(w, band, xp)], band, xp)
    (bracket,) = stack_from_grid([apply_matrix(dv, w_, xp) - apply_matrix(dw, v_, xp)], band, xp)
    return bracket


def ad_star(v, m, band):
    """ad*_v m = (Dv)ᵀ m + ∇·(m ⊗ v), the adjoint of ad_v in the mean over voxels."""
    xp = array_module(v, m)
    v_, m_, dv = stack_to_grid([v, m, jacobian(v, band, xp)], band, xp)
    carried, flux = stack_from_grid([apply_transpose(dv, m_, xp), outer(m_, v_)], band, xp)
    return carried + divergence(flux, band, xp)


def ad_dagger(v, w, metric):
    """ad†_v w = K ad*_v (L w), the adjoint of ad_v in the metric."""
    return metric.raise_(ad_star(v, metric.lower(w), metric.band))

"""Compiled steps of geodesic shooting on the full grid, and their adjoint (numba).

Each is one pass over memory. Fields are (3, N_1, N_2, N_3), periodic; differences are central.
"""

import numba

_parallel = numba.njit(parallel=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
_inline = numba.njit(inline="always", cache=True, error_model="numpy")


@_inline
def _slope(f, i, j, p, q, z, y, x, qz, qy, qx):
    """D_j f_i: `p` and `q` are the next and previous indices along z, y, x."""
    if j == 0:
        return (f[i, p[0], y, x] - f[i, q[0], y, x]) * qz
    if j == 1:
        return (f[i, z, p[1], x] - f[i, z, q[1], x]) * qy
    return (f[i, z, y, p[2]] - f[i, z, y, q[2]]) * qx


@_inline
def _flux(m, v, i, p, q, z, y, x, qz, qy, qx):
    """Σ_j D_j (m_i v_j)."""
    return (
        (m[i, p[0], y, x] * v[0, p[0], y, x] - m[i, q[0], y, x] * v[0, q[0], y, x]) * qz
        + (m[i, z, p[1], x] * v[1, z, p[1], x] - m[i, z, q[1], x] * v[1, z, q[1], x]) * qy
        + (m[i, z, y, p[2]] * v[2, z, y, p[2]] - m[i, z, y, q[2]] * v[2, z, y, q[2]]) * qx
    )


@_inline
def _forward_step(v, m, u, dt, qz, qy, qx, p, q, z, y, x, m_new, u_new):
    for i in range(3):
        carried = _flux(m, v, i, p, q, z, y, x, qz, qy, qx)
        advected = v[i, z, y, x]
        for j in range(3):
            carried += _slope(v, j, i, p, q, z, y, x, qz, qy, qx) * m[j, z, y, x]
            advected += _slope(u, i, j, p, q, z, y, x, qz, qy, qx) * v[j, z, y, x]
        m_new[i, z, y, x] = m[i, z, y, x] - dt * carried
        u_new[i, z, y, x] = u[i, z, y, x] - dt * advected


@_parallel
def forward_step(v, m, u, dt, qz, qy, qx, m_new, u_new):
    """m - dt ad*_v m and u - dt (v + (Du) v); q = 1 / 2h."""
    _, nz, ny, nx = v.shape
    for row in numba.prange(nz * ny):
        z, y = row // ny, row % ny
        zp, zq = (z + 1) % nz, (z + nz - 1) % nz
        yp, yq = (y + 1) % ny, (y + ny - 1) % ny
        for x in range(1, nx - 1):  # no index wraps: the compiler vectorises this loop
            p, q = (zp, yp, x + 1), (zq, yq, x - 1)
            _forward_step(v, m, u, dt, qz, qy, qx, p, q, z, y, x, m_new, u_new)
        for x in (0, nx - 1):
            p, q = (zp, yp, (x + 1) % nx), (zq, yq, (x + nx - 1) % nx)
            _forward_step(v, m, u, dt, qz, qy, qx, p, q, z, y, x, m_new, u_new)


@_inline
def _pull(m, u, lam, mu, qz, qy, qx, p, q, z, y, x, pull):
    for i in range(3):
        force = _flux(m, lam, i, p, q, z, y, x, qz, qy, qx) - mu[i, z, y, x]
        for j in range(3):
            force += _slope(lam, j, i, p, q, z, y, x, qz, qy, qx) * m[j, z, y, x]
            force -= _slope(u, j, i, p, q, z, y, x, qz, qy, qx) * mu[j, z, y, x]
        pull[i, z, y, x] = force


@_inline
def _carry(v, lam, mu, dt, qz, qy, qx, p, q, z, y, x, lam_new, mu_new):
    for i in range(3):
        bracket = v[i, z, y, x] * 0
        for j in range(3):
            bracket += _slope(v, i, j, p, q, z, y, x, qz, qy, qx) * lam[j, z, y, x]
            bracket -= _slope(lam, i, j, p, q, z, y, x, qz, qy, qx) * v[j, z, y, x]
        lam_new[i, z, y, x] = lam[i, z, y, x] - dt * bracket
        mu_new[i, z, y, x] = mu[i, z, y, x] + dt * _flux(mu, v, i, p, q, z, y, x, qz, qy, qx)


@_parallel
def adjoint_step(v, m, u, lam, mu, dt, qz, qy, qx, pull, lam_new, mu_new):
    """Transpose of `forward_step` at (λ, μ): ad*_λ m - μ - (Du)ᵀμ, λ - dt ad_v λ, and
    μ + dt ∇·(μ ⊗ v)."""
    _, nz, ny, nx = v.shape
    for row in numba.prange(nz * ny):
        z, y = row // ny, row % ny
        zp, zq = (z + 1) % nz, (z + nz - 1) % nz
        yp, yq = (y + 1) % ny, (y + ny - 1) % ny
        # Two loops: with fewer arrays in each the compiler can tell them apart and vectorises.
        for x in range(1, nx - 1):
            p, q = (zp, yp, x + 1), (zq, yq, x - 1)
            _pull(m, u, lam, mu, qz, qy, qx, p, q, z, y, x, pull)
        for x in range(1, nx - 1):
            p, q = (zp, yp, x + 1), (zq, yq, x - 1)
            _carry(v, lam, mu, dt, qz, qy, qx, p, q, z, y, x, lam_new, mu_new)
        for x in (0, nx - 1):
            p, q = (zp, yp, (x + 1) % nx), (zq, yq, (x + nx - 1) % nx)
            _pull(m, u, lam, mu, qz, qy, qx, p, q, z, y, x, pull)
            _carry(v, lam, mu, dt, qz, qy, qx, p, q, z, y, x, lam_new, mu_new)

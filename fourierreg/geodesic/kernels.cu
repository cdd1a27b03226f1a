/* Passes of EPDiff for the GPU, in plain C: the CPU counterpart, which says what the arrays are, is
 * kernels.py, and a test compiles this file with the host compiler and compares the two (device.h).
 * One thread to a point of the grid, or to a coefficient of a component, of one of a batch. */

FOURIERREG_KERNEL products(const real *points, long long batch, long long d, long long count,
                           real *out)
{
    FOURIERREG_VOXEL(batch, count)
    const real *v = points + 2 * d * (d + 1) * pair * count + voxel;
    const real *m = v + d * count, *dv = m + d * count, *du = dv + d * d * count;
    real *carried = out + d * (d + 2) * pair * count + voxel;
    real *advected = carried + d * count, *flux = advected + d * count;
    for (long long i = 0; i < d; i++) {
        real c = 0, a = 0;
        for (long long j = 0; j < d; j++) {
            c += dv[(j * d + i) * count] * m[j * count];
            a += du[(i * d + j) * count] * v[j * count];
            flux[(i * d + j) * count] = m[i * count] * v[j * count];
        }
        carried[i * count] = c;
        advected[i * count] = a;
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL products_tangent(const real *points, const real *changes, long long batch,
                                   long long shared, long long d, long long count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    const real *v = points + 2 * d * (d + 1) * (pair % shared) * count + voxel;
    const real *m = v + d * count, *dv = m + d * count, *du = dv + d * d * count;
    const real *v_ = changes + 2 * d * (d + 1) * pair * count + voxel;
    const real *m_ = v_ + d * count, *dv_ = m_ + d * count, *du_ = dv_ + d * d * count;
    real *carried = out + d * (d + 2) * pair * count + voxel;
    real *advected = carried + d * count, *flux = advected + d * count;
    for (long long i = 0; i < d; i++) {
        real c = 0, a = 0;
        for (long long j = 0; j < d; j++) {
            long long ij = (i * d + j) * count, ji = (j * d + i) * count;
            c += dv_[ji] * m[j * count] + dv[ji] * m_[j * count];
            a += du_[ij] * v[j * count] + du[ij] * v_[j * count];
            flux[ij] = m_[i * count] * v[j * count] + m[i * count] * v_[j * count];
        }
        carried[i * count] = c;
        advected[i * count] = a;
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL products_adjoint(const real *points, const real *covectors, long long batch,
                                   long long shared, long long d, long long count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    const real *v = points + 2 * d * (d + 1) * (pair % shared) * count + voxel;
    const real *m = v + d * count, *dv = m + d * count, *du = dv + d * d * count;
    const real *y = covectors + d * (d + 2) * pair * count + voxel;
    const real *mu = y + d * count, *dy = mu + d * count;
    real *bracket = out + 2 * d * (d + 1) * pair * count + voxel;
    real *carried = bracket + d * count, *flux = carried + d * count, *flux_mu = flux + d * d * count;
    for (long long i = 0; i < d; i++) {
        real b = 0, c = 0;
        for (long long j = 0; j < d; j++) {
            long long ij = (i * d + j) * count, ji = (j * d + i) * count;
            b += dv[ij] * y[j * count] - dy[ij] * v[j * count];
            c += dy[ji] * m[j * count] - du[ji] * mu[j * count];
            flux[ij] = m[i * count] * y[j * count];
            flux_mu[ij] = mu[i * count] * v[j * count];
        }
        bracket[i * count] = b;
        carried[i * count] = c;
    }
    FOURIERREG_END
}

/* Divergence of row i of a tensor of coefficients at stored frequency `at`: real and imaginary part. */
FOURIERREG_INLINE void divergence(const real *tensor, const real *slopes, long long longest,
                                  long long d, long long n1, long long n2, long long n3,
                                  long long i, long long at, real *re, real *im)
{
    long long band = n1 * n2 * n3;
    *re = 0;
    *im = 0;
    for (long long j = 0; j < d; j++) {
        long long axis = 3 - d + j, k = axis == 0 ? at / (n2 * n3) : axis == 1 ? at / n3 % n2 : at % n3;
        real slope = slopes[axis * longest + k];
        *re -= slope * tensor[2 * ((i * d + j) * band + at) + 1];
        *im += slope * tensor[2 * ((i * d + j) * band + at)];
    }
}

FOURIERREG_KERNEL rate(const real *states, const real *formed, const double *lower,
                       const real *slopes, real keep, real step, long long batch,
                       long long metrics, long long longest, long long d, long long n1,
                       long long n2, long long n3, real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    long long band = n1 * n2 * n3, i = voxel / band, at = voxel % band;
    const real *carried = formed + 2 * d * (d + 2) * pair * band;
    const real *advected = carried + 2 * d * band, *flux = advected + 2 * d * band;
    const real *state = states + 4 * d * pair * band;
    real *v = out + 4 * d * pair * band, *u = v + 2 * d * band, div[2];
    double share = step / lower[pair % metrics * band + at];
    divergence(flux, slopes, longest, d, n1, n2, n3, i, at, div, div + 1);
    for (int part = 0; part < 2; part++) {
        long long here = 2 * voxel + part;
        v[here] = (real)(keep * state[here] - share * (carried[here] + div[part]));
        u[here] = keep * state[2 * d * band + here] - step * (state[here] + advected[here]);
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL rate_adjoint(const real *covectors, const real *formed, const double *lower,
                               const real *slopes, real keep, real step, long long batch,
                               long long metrics, long long longest, long long d, long long n1,
                               long long n2, long long n3, real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    long long band = n1 * n2 * n3, i = voxel / band, at = voxel % band;
    const real *bracket = formed + 4 * d * (d + 1) * pair * band;
    const real *carried = bracket + 2 * d * band, *flux = carried + 2 * d * band;
    const real *flux_mu = flux + 2 * d * d * band;
    const real *y = covectors + 4 * d * pair * band, *mu = y + 2 * d * band;
    real *y_out = out + 4 * d * pair * band, *mu_out = y_out + 2 * d * band, div[2], div_mu[2];
    double share = step / lower[pair % metrics * band + at];
    divergence(flux, slopes, longest, d, n1, n2, n3, i, at, div, div + 1);
    divergence(flux_mu, slopes, longest, d, n1, n2, n3, i, at, div_mu, div_mu + 1);
    for (int part = 0; part < 2; part++) {
        long long here = 2 * voxel + part;
        double raised = share * (carried[here] - mu[here] + div[part]);
        y_out[here] = (real)(keep * y[here] + (raised - step * bracket[here]));
        mu_out[here] = keep * mu[here] + step * div_mu[part];
    }
    FOURIERREG_END
}

/* Passes of EPDiff for the GPU, in plain C: the CPU counterpart, which says what the arrays are, is
 * kernels.py, and a test compiles this file with the host compiler and compares the two (device.h).
 * One thread to a point of the grid, or to a coefficient of a component, of one of a batch. */

/* v, m, Dv and Du of an item at a voxel; `count` voxels lie between two of their components. */
typedef struct {
    const real *v, *m, *dv, *du;
} Point;

FOURIERREG_INLINE Point point_at(const real *points, int d, long long item, int count, int voxel)
{
    Point at;
    at.v = points + 2 * d * (d + 1) * item * count + voxel;
    at.m = at.v + d * count;
    at.dv = at.m + d * count;
    at.du = at.dv + d * d * count;
    return at;
}

FOURIERREG_KERNEL products(const real *points, int batch, int d, int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    Point x = point_at(points, d, pair, count, voxel);
    real *carried = out + d * (d + 2) * pair * count + voxel;
    real *advected = carried + d * count, *flux = advected + d * count;
    for (int i = 0; i < d; i++) {
        real c = 0, a = 0;
        for (int j = 0; j < d; j++) {
            c += x.dv[(j * d + i) * count] * x.m[j * count];
            a += x.du[(i * d + j) * count] * x.v[j * count];
            flux[(i * d + j) * count] = x.m[i * count] * x.v[j * count];
        }
        carried[i * count] = c;
        advected[i * count] = a;
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL products_tangent(const real *points, const real *changes, int batch, int shared,
                                   int d, int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    Point x = point_at(points, d, pair % shared, count, voxel);
    Point dx = point_at(changes, d, pair, count, voxel);
    real *carried = out + d * (d + 2) * pair * count + voxel;
    real *advected = carried + d * count, *flux = advected + d * count;
    for (int i = 0; i < d; i++) {
        real c = 0, a = 0;
        for (int j = 0; j < d; j++) {
            int ij = (i * d + j) * count, ji = (j * d + i) * count;
            c += dx.dv[ji] * x.m[j * count] + x.dv[ji] * dx.m[j * count];
            a += dx.du[ij] * x.v[j * count] + x.du[ij] * dx.v[j * count];
            flux[ij] = dx.m[i * count] * x.v[j * count] + x.m[i * count] * dx.v[j * count];
        }
        carried[i * count] = c;
        advected[i * count] = a;
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL products_adjoint(const real *points, const real *covectors, int batch, int shared,
                                   int d, int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    Point x = point_at(points, d, pair % shared, count, voxel);
    const real *y = covectors + d * (d + 2) * pair * count + voxel;
    const real *mu = y + d * count, *dy = mu + d * count;
    real *bracket = out + 2 * d * (d + 1) * pair * count + voxel;
    real *carried = bracket + d * count, *flux = carried + d * count, *flux_mu = flux + d * d * count;
    for (int i = 0; i < d; i++) {
        real b = 0, c = 0;
        for (int j = 0; j < d; j++) {
            int ij = (i * d + j) * count, ji = (j * d + i) * count;
            b += x.dv[ij] * y[j * count] - dy[ij] * x.v[j * count];
            c += dy[ji] * x.m[j * count] - x.du[ji] * mu[j * count];
            flux[ij] = x.m[i * count] * y[j * count];
            flux_mu[ij] = mu[i * count] * x.v[j * count];
        }
        bracket[i * count] = b;
        carried[i * count] = c;
    }
    FOURIERREG_END
}

/* Divergence of row i of a tensor of coefficients at stored frequency `at`: real and imaginary part. */
FOURIERREG_INLINE void divergence(const real *tensor, const real *slopes, int longest, int d,
                                  int n1, int n2, int n3, int i, int at, real *re, real *im)
{
    int band = n1 * n2 * n3;
    *re = 0;
    *im = 0;
    for (int j = 0; j < d; j++) {
        int axis = 3 - d + j, k = axis == 0 ? at / (n2 * n3) : axis == 1 ? at / n3 % n2 : at % n3;
        real slope = slopes[axis * longest + k];
        *re -= slope * tensor[2 * ((i * d + j) * band + at) + 1];
        *im += slope * tensor[2 * ((i * d + j) * band + at)];
    }
}

FOURIERREG_KERNEL rate(const real *states, const real *formed, const double *lower,
                       const real *slopes, real keep, real step, int batch, int metrics,
                       int longest, int d, int n1, int n2, int n3, real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    int band = n1 * n2 * n3, i = voxel / band, at = voxel % band;
    const real *carried = formed + 2 * d * (d + 2) * pair * band;
    const real *advected = carried + 2 * d * band, *flux = advected + 2 * d * band;
    const real *state = states + 4 * d * pair * band;
    real *v = out + 4 * d * pair * band, *u = v + 2 * d * band, div[2];
    double share = step / lower[pair % metrics * band + at];
    divergence(flux, slopes, longest, d, n1, n2, n3, i, at, div, div + 1);
    for (int part = 0; part < 2; part++) {
        int here = 2 * voxel + part;
        v[here] = (real)(keep * state[here] - share * (carried[here] + div[part]));
        u[here] = keep * state[2 * d * band + here] - step * (state[here] + advected[here]);
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL rate_adjoint(const real *covectors, const real *formed, const double *lower,
                               const real *slopes, real keep, real step, int batch, int metrics,
                               int longest, int d, int n1, int n2, int n3, real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    int band = n1 * n2 * n3, i = voxel / band, at = voxel % band;
    const real *bracket = formed + 4 * d * (d + 1) * pair * band;
    const real *carried = bracket + 2 * d * band, *flux = carried + 2 * d * band;
    const real *flux_mu = flux + 2 * d * d * band;
    const real *y = covectors + 4 * d * pair * band, *mu = y + 2 * d * band;
    real *y_out = out + 4 * d * pair * band, *mu_out = y_out + 2 * d * band, div[2], div_mu[2];
    double share = step / lower[pair % metrics * band + at];
    divergence(flux, slopes, longest, d, n1, n2, n3, i, at, div, div + 1);
    divergence(flux_mu, slopes, longest, d, n1, n2, n3, i, at, div_mu, div_mu + 1);
    for (int part = 0; part < 2; part++) {
        int here = 2 * voxel + part;
        double raised = share * (carried[here] - mu[here] + div[part]);
        y_out[here] = (real)(keep * y[here] + (raised - step * bracket[here]));
        mu_out[here] = keep * mu[here] + step * div_mu[part];
    }
    FOURIERREG_END
}

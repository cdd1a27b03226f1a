/* CUDA kernels of EPDiff. kernels.py has the same kernels for numba and describes the arrays;
 * backend/device.h defines the macros. One thread per point of the grid, or per coefficient of a
 * component, of an item of the batch. */

/* Pointers to v, m, Dv and Du of an item at a point, with `count` elements between components. */
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
    real *dv_m = out + d * (d + 2) * pair * count + voxel;
    real *advected = dv_m + d * count, *flux = advected + d * count;
    for (int i = 0; i < d; i++) {
        real c = 0, a = 0;
        for (int j = 0; j < d; j++) {
            c += x.dv[(j * d + i) * count] * x.m[j * count];
            a += x.du[(i * d + j) * count] * x.v[j * count];
            flux[(i * d + j) * count] = x.m[i * count] * x.v[j * count];
        }
        dv_m[i * count] = c;
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
    real *dv_m = out + d * (d + 2) * pair * count + voxel;
    real *advected = dv_m + d * count, *flux = advected + d * count;
    for (int i = 0; i < d; i++) {
        real c = 0, a = 0;
        for (int j = 0; j < d; j++) {
            int ij = (i * d + j) * count, ji = (j * d + i) * count;
            c += dx.dv[ji] * x.m[j * count] + x.dv[ji] * dx.m[j * count];
            a += dx.du[ij] * x.v[j * count] + x.du[ij] * dx.v[j * count];
            flux[ij] = dx.m[i * count] * x.v[j * count] + x.m[i * count] * dx.v[j * count];
        }
        dv_m[i * count] = c;
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
    real *bracket = out + 2 * d * (d + 1) * pair * count + voxel, *dy_m = bracket + d * count;
    real *flux = dy_m + d * count, *flux_mu = flux + d * d * count;
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
        dy_m[i * count] = c;
    }
    FOURIERREG_END
}

/* Divergence of row i of a tensor at stored frequency `at`: real and imaginary part. */
FOURIERREG_INLINE void divergence(const real *tensor, const real *derivatives, int longest,
                                  int d, int n1, int n2, int n3, int i, int at, real *re, real *im)
{
    int band = n1 * n2 * n3;
    *re = 0;
    *im = 0;
    for (int j = 0; j < d; j++) {
        int axis = 3 - d + j, k = axis == 0 ? at / (n2 * n3) : axis == 1 ? at / n3 % n2 : at % n3;
        real factor = derivatives[axis * longest + k];
        *re -= factor * tensor[2 * ((i * d + j) * band + at) + 1];
        *im += factor * tensor[2 * ((i * d + j) * band + at)];
    }
}

FOURIERREG_KERNEL rate(const real *states, const real *products, const double *symbols,
                       const real *derivatives, real keep, real step, int batch, int metrics,
                       int longest, int d, int n1, int n2, int n3, real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    int band = n1 * n2 * n3, i = voxel / band, at = voxel % band;
    const real *dv_m = products + 2 * d * (d + 2) * pair * band;
    const real *advected = dv_m + 2 * d * band, *flux = advected + 2 * d * band;
    const real *state = states + 4 * d * pair * band;
    real *v = out + 4 * d * pair * band, *u = v + 2 * d * band, div[2];
    double weight = step / symbols[pair % metrics * band + at];
    divergence(flux, derivatives, longest, d, n1, n2, n3, i, at, div, div + 1);
    for (int part = 0; part < 2; part++) {
        int c = 2 * voxel + part;
        v[c] = (real)(keep * state[c] - weight * (dv_m[c] + div[part]));
        u[c] = keep * state[2 * d * band + c] - step * (state[c] + advected[c]);
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL rate_adjoint(const real *covectors, const real *products, const double *symbols,
                               const real *derivatives, real keep, real step, int batch,
                               int metrics, int longest, int d, int n1, int n2, int n3, real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    int band = n1 * n2 * n3, i = voxel / band, at = voxel % band;
    const real *bracket = products + 4 * d * (d + 1) * pair * band;
    const real *dy_m = bracket + 2 * d * band, *flux = dy_m + 2 * d * band;
    const real *flux_mu = flux + 2 * d * d * band;
    const real *y = covectors + 4 * d * pair * band, *mu = y + 2 * d * band;
    real *y_out = out + 4 * d * pair * band, *mu_out = y_out + 2 * d * band, div[2], div_mu[2];
    double weight = step / symbols[pair % metrics * band + at];
    divergence(flux, derivatives, longest, d, n1, n2, n3, i, at, div, div + 1);
    divergence(flux_mu, derivatives, longest, d, n1, n2, n3, i, at, div_mu, div_mu + 1);
    for (int part = 0; part < 2; part++) {
        int c = 2 * voxel + part;
        double raised = weight * (dy_m[c] - mu[c] + div[part]);
        y_out[c] = (real)(keep * y[c] + (raised - step * bracket[c]));
        mu_out[c] = keep * mu[c] + step * div_mu[part];
    }
    FOURIERREG_END
}

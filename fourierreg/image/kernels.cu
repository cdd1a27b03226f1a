/* CUDA kernels: loops over voxels. kernels.py has the same kernels for numba and describes the
 * arrays, which are C-ordered; backend/device.h defines the macros. */

/* Periodic neighbors low, high of a position along an axis, and the fraction between them. */
FOURIERREG_INLINE real cell(real position, int n, int *low, int *high)
{
    real base = floor(position);
    int i = (int)base;
    if (i < 0 || i >= n) { /* rare, and a division costs more than the rest of this function */
        i %= n;
        if (i < 0) i += n;
    }
    *low = i;
    *high = i + 1 == n ? 0 : i + 1;
    return position - base;
}

FOURIERREG_INLINE real lerp_(real a, real b, real t) { return a + t * (b - a); }

/* Bilinear interpolation in the plane k between (j0 | j1) x (i0 | i1). */
FOURIERREG_INLINE real plane(const real *s, int ny, int nx, int k, int j0, int j1, int i0, int i1,
                             real b, real a)
{
    const real *p = s + k * ny * nx;
    return lerp_(lerp_(p[j0 * nx + i0], p[j0 * nx + i1], a),
                 lerp_(p[j1 * nx + i0], p[j1 * nx + i1], a), b);
}

FOURIERREG_KERNEL interpolate(const real *channels, const real *u, real hz, real hy, real hx,
                              int count, int nz, int ny, int nx, int mz, int my, int mx, real *out)
{
    FOURIERREG_VOXEL(1, mz * my * mx)
    int x = voxel % mx, y = voxel / mx % my, z = voxel / (mx * my), size = mz * my * mx;
    int k0, k1, j0, j1, i0, i1;
    real c = cell(z + u[voxel] * (1 / hz), nz, &k0, &k1);
    real b = cell(y + u[size + voxel] * (1 / hy), ny, &j0, &j1);
    real a = cell(x + u[2 * size + voxel] * (1 / hx), nx, &i0, &i1);
    for (long long f = 0; f < count; f++) {
        const real *image = channels + f * nz * ny * nx;
        out[f * size + voxel] = lerp_(plane(image, ny, nx, k0, j0, j1, i0, i1, b, a),
                                      plane(image, ny, nx, k1, j0, j1, i0, i1, b, a), c);
    }
    FOURIERREG_END
}

/* Neighbors low, high of a position along an axis without a period, and the fraction between them:
 * beyond the outermost centers these are continued. Returns whether it is on the image, whose voxels
 * reach half a voxel beyond their centers. */
FOURIERREG_INLINE int place(double position, int n, int *low, int *high, real *fraction)
{
    double clipped = position > 0 ? position : 0; /* also where it is NaN */
    if (clipped > n - 1) clipped = n - 1;
    *low = (int)clipped;
    *high = *low + 1 < n ? *low + 1 : *low;
    *fraction = (real)(clipped - *low);
    return position >= -0.5 && position < n - 0.5;
}

FOURIERREG_KERNEL sample(const real *image, const real *u, const double *mapping, real nearest,
                         real extend, real fill, int nz, int ny, int nx, int mz, int my, int mx,
                         real *out)
{
    FOURIERREG_VOXEL(1, mz * my * mx)
    int x = voxel % mx, y = voxel / mx % my, z = voxel / (mx * my), size = mz * my * mx;
    double at[3];
    for (int f = 0; f < 3; f++) {
        const double *row = mapping + 7 * f;
        at[f] = row[0] * z + row[1] * y + row[2] * x + row[3] + row[4] * u[voxel]
              + row[5] * u[size + voxel] + row[6] * u[2 * size + voxel];
    }
    int k0, k1, j0, j1, i0, i1;
    real c, b, a;
    int inside = place(at[0], nz, &k0, &k1, &c);
    inside &= place(at[1], ny, &j0, &j1, &b);
    inside &= place(at[2], nx, &i0, &i1, &a);
    if (!inside && extend == 0)
        out[voxel] = fill;
    else if (nearest != 0)
        out[voxel] = image[((c < (real)0.5 ? k0 : k1) * ny + (b < (real)0.5 ? j0 : j1)) * nx
                           + (a < (real)0.5 ? i0 : i1)];
    else
        out[voxel] = lerp_(plane(image, ny, nx, k0, j0, j1, i0, i1, b, a),
                           plane(image, ny, nx, k1, j0, j1, i0, i1, b, a), c);
    FOURIERREG_END
}

#define MAX_INVERSE_ITERATIONS 200

FOURIERREG_KERNEL invert(const real *u, real hz, real hy, real hx, real tolerance, int nz, int ny,
                         int nx, real *out)
{
    FOURIERREG_VOXEL(1, nz * ny * nx)
    int x = voxel % nx, y = voxel / nx % ny, z = voxel / (nx * ny), count = nz * ny * nx;
    real w[3], scale[3] = {1 / hz, 1 / hy, 1 / hx};
    for (int f = 0; f < 3; f++) w[f] = -u[f * count + voxel];
    for (int iteration = 0; iteration < MAX_INVERSE_ITERATIONS; iteration++) {
        int k0, k1, j0, j1, i0, i1;
        real c = cell(z + w[0] * scale[0], nz, &k0, &k1);
        real b = cell(y + w[1] * scale[1], ny, &j0, &j1);
        real a = cell(x + w[2] * scale[2], nx, &i0, &i1);
        real change = 0;
        for (int f = 0; f < 3; f++) {
            const real *v = u + f * count;
            real moved = lerp_(plane(v, ny, nx, k0, j0, j1, i0, i1, b, a),
                               plane(v, ny, nx, k1, j0, j1, i0, i1, b, a), c);
            real size = fabs(moved + w[f]) * scale[f];
            if (size > change) change = size;
            w[f] = -moved;
        }
        if (change < tolerance) break;
    }
    for (int f = 0; f < 3; f++) out[f * count + voxel] = w[f];
    FOURIERREG_END
}

FOURIERREG_KERNEL nearest(const real *channels, const real *u, real hz, real hy, real hx, int count,
                          int nz, int ny, int nx, int mz, int my, int mx, real *out)
{
    FOURIERREG_VOXEL(1, mz * my * mx)
    int x = voxel % mx, y = voxel / mx % my, z = voxel / (mx * my), size = mz * my * mx;
    int k, j, i, unused;
    cell(z + u[voxel] / hz + (real)0.5, nz, &k, &unused);
    cell(y + u[size + voxel] / hy + (real)0.5, ny, &j, &unused);
    cell(x + u[2 * size + voxel] / hx + (real)0.5, nx, &i, &unused);
    for (long long f = 0; f < count; f++)
        out[f * size + voxel] = channels[((f * nz + k) * ny + j) * nx + i];
    FOURIERREG_END
}

/* The linear interpolant and its slopes per voxel along the three axes. At a voxel center the
 * interpolant has a kink; the slope is the mean of the one-sided slopes. */
FOURIERREG_INLINE real with_slope(const real *s, int nz, int ny, int nx, int k0, int k1, real c,
                                  int j0, int j1, real b, int i0, int i1, real a, real *slope)
{
    real low = plane(s, ny, nx, k0, j0, j1, i0, i1, b, a);
    real high = plane(s, ny, nx, k1, j0, j1, i0, i1, b, a);
    real value = lerp_(low, high, c);
    slope[0] = high - low;
    slope[1] = lerp_(plane(s, ny, nx, k0, j1, j1, i0, i1, b, a),
                     plane(s, ny, nx, k1, j1, j1, i0, i1, b, a), c)
             - lerp_(plane(s, ny, nx, k0, j0, j0, i0, i1, b, a),
                     plane(s, ny, nx, k1, j0, j0, i0, i1, b, a), c);
    slope[2] = lerp_(plane(s, ny, nx, k0, j0, j1, i1, i1, b, a),
                     plane(s, ny, nx, k1, j0, j1, i1, i1, b, a), c)
             - lerp_(plane(s, ny, nx, k0, j0, j1, i0, i0, b, a),
                     plane(s, ny, nx, k1, j0, j1, i0, i0, b, a), c);
    if (a == 0) {
        int i_ = i0 == 0 ? nx - 1 : i0 - 1;
        slope[2] = (slope[2] + value - lerp_(plane(s, ny, nx, k0, j0, j1, i_, i_, b, a),
                                             plane(s, ny, nx, k1, j0, j1, i_, i_, b, a), c)) / 2;
    }
    if (b == 0) {
        int j_ = j0 == 0 ? ny - 1 : j0 - 1;
        slope[1] = (slope[1] + value - lerp_(plane(s, ny, nx, k0, j_, j_, i0, i1, b, a),
                                             plane(s, ny, nx, k1, j_, j_, i0, i1, b, a), c)) / 2;
    }
    if (c == 0) {
        int k_ = k0 == 0 ? nz - 1 : k0 - 1;
        slope[0] = (slope[0] + low - plane(s, ny, nx, k_, j0, j1, i0, i1, b, a)) / 2;
    }
    return value;
}

/* source(x + u) and its slopes per mm at a voxel of a grid (nz, ny, nx). The source has fz x fy x
 * fx voxels per voxel of the grid, and qz, qy and qx voxels per mm. */
FOURIERREG_INLINE real source_at(const real *source, const real *u, real qz, real qy, real qx,
                                 int fz, int fy, int fx, int nz, int ny, int nx, int voxel,
                                 real *slope)
{
    int row = voxel / nx, x = voxel % nx, y = row % ny, z = row / ny, count = nz * ny * nx;
    int k0, k1, j0, j1, i0, i1, sz = fz * nz, sy = fy * ny, sx = fx * nx;
    real c = cell(fz * z + u[voxel] * qz, sz, &k0, &k1);
    real b = cell(fy * y + u[count + voxel] * qy, sy, &j0, &j1);
    real a = cell(fx * x + u[2 * count + voxel] * qx, sx, &i0, &i1);
    real value = with_slope(source, sz, sy, sx, k0, k1, c, j0, j1, b, i0, i1, a, slope);
    slope[0] *= qz;
    slope[1] *= qy;
    slope[2] *= qx;
    return value;
}

FOURIERREG_KERNEL residual_and_force(const real *source, const real *target, const real *u, real qz,
                                     real qy, real qx, int pairs, int fz, int fy, int fx, int nz,
                                     int ny, int nx, real *residual, real *force)
{
    FOURIERREG_VOXEL(pairs, nz * ny * nx)
    int count = nz * ny * nx;
    long long index = pair * count + voxel;
    real g[3], value = source_at(source + pair * count * fz * fy * fx, u + 3 * pair * count, qz, qy,
                                 qx, fz, fy, fx, nz, ny, nx, voxel, g);
    real r = value - target[index];
    residual[index] = r;
    for (int f = 0; f < 3; f++) force[(3 * pair + f) * count + voxel] = r * g[f];
    FOURIERREG_END
}

FOURIERREG_KERNEL value_and_slope(const real *source, const real *u, real qz, real qy, real qx,
                                  int pairs, int fz, int fy, int fx, int nz, int ny, int nx,
                                  real *value, real *slope)
{
    FOURIERREG_VOXEL(pairs, nz * ny * nx)
    int count = nz * ny * nx;
    real g[3];
    value[pair * count + voxel] = source_at(source + pair * count * fz * fy * fx,
                                            u + 3 * pair * count, qz, qy, qx, fz, fy, fx, nz, ny,
                                            nx, voxel, g);
    for (int f = 0; f < 3; f++) slope[(3 * pair + f) * count + voxel] = g[f];
    FOURIERREG_END
}

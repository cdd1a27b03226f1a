/* CUDA kernels of EPDiff. kernels.py has the same kernels for numba and describes the arrays;
 * backend/device.h defines the macros. One thread per point of the grid, or per coefficient of a
 * component, of an item of the batch. */

/* Fields of a point: v, m, the elements i < j of Omega = Dm - (Dm)^T, div v and Du; their number is
 * also that of the products of the adjoint. Elements i < j of antisymmetric matrices are stored row
 * by row. */
#define PAIRS_OF_AXES(d) ((d) * ((d) - 1) / 2)
#define POINT_FIELDS(d) (2 * (d) + PAIRS_OF_AXES(d) + 1 + (d) * (d))

/* Pointers to the fields of an item at a point, with `count` elements between components. */
typedef struct {
    const real *v, *m, *omega, *div, *du;
} Point;

FOURIERREG_INLINE Point point_at(const real *points, int d, long long item, int count, int voxel)
{
    Point at;
    at.v = points + POINT_FIELDS(d) * item * count + voxel;
    at.m = at.v + d * count;
    at.omega = at.m + d * count;
    at.div = at.omega + PAIRS_OF_AXES(d) * count;
    at.du = at.div + count;
    return at;
}

FOURIERREG_KERNEL products(const real *points, int batch, int d, int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    Point x = point_at(points, d, pair, count, voxel);
    real *to = out + (2 * d + 1) * pair * count + voxel, force[3], dot = 0;
    for (int i = 0; i < d; i++) force[i] = *x.div * x.m[i * count];
    for (int i = 0, pairs = 0; i < d; i++) {
        real advected = 0;
        dot += x.v[i * count] * x.m[i * count];
        for (int j = 0; j < d; j++) advected += x.du[(i * d + j) * count] * x.v[j * count];
        for (int j = i + 1; j < d; j++, pairs++) {
            force[i] += x.omega[pairs * count] * x.v[j * count];
            force[j] -= x.omega[pairs * count] * x.v[i * count];
        }
        to[(d + 1 + i) * count] = advected;
    }
    for (int i = 0; i < d; i++) to[i * count] = force[i];
    to[d * count] = dot;
    FOURIERREG_END
}

FOURIERREG_KERNEL products_tangent(const real *points, const real *changes, int batch, int shared,
                                   int d, int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    Point x = point_at(points, d, pair % shared, count, voxel);
    Point dx = point_at(changes, d, pair, count, voxel);
    real *to = out + (2 * d + 1) * pair * count + voxel, force[3], dot = 0;
    for (int i = 0; i < d; i++) force[i] = *dx.div * x.m[i * count] + *x.div * dx.m[i * count];
    for (int i = 0, pairs = 0; i < d; i++) {
        real advected = 0;
        dot += dx.v[i * count] * x.m[i * count] + x.v[i * count] * dx.m[i * count];
        for (int j = 0; j < d; j++) {
            int ij = (i * d + j) * count;
            advected += dx.du[ij] * x.v[j * count] + x.du[ij] * dx.v[j * count];
        }
        for (int j = i + 1; j < d; j++, pairs++) {
            real w = x.omega[pairs * count], dw = dx.omega[pairs * count];
            force[i] += dw * x.v[j * count] + w * dx.v[j * count];
            force[j] -= dw * x.v[i * count] + w * dx.v[i * count];
        }
        to[(d + 1 + i) * count] = advected;
    }
    for (int i = 0; i < d; i++) to[i * count] = force[i];
    to[d * count] = dot;
    FOURIERREG_END
}

FOURIERREG_KERNEL products_adjoint(const real *points, const real *covectors, int batch, int shared,
                                   int d, int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    Point x = point_at(points, d, pair % shared, count, voxel);
    const real *y = covectors + (2 * d + 1) * pair * count + voxel;
    const real *mu = y + (d + 1) * count;
    real div_y = y[d * count], pulled[3], dot = 0;
    real *to = out + POINT_FIELDS(d) * pair * count + voxel, *bracket = to + (d + 1) * count;
    real *twist = bracket + d * count, *flux = twist + PAIRS_OF_AXES(d) * count;
    for (int i = 0; i < d; i++) pulled[i] = div_y * x.m[i * count];
    for (int i = 0, pairs = 0; i < d; i++) {
        real y_i = y[i * count], v_i = x.v[i * count];
        dot += y_i * x.m[i * count];
        bracket[i * count] = div_y * v_i - *x.div * y_i;
        for (int j = 0; j < d; j++) {
            pulled[i] -= x.du[(j * d + i) * count] * mu[j * count];
            flux[(i * d + j) * count] = mu[i * count] * x.v[j * count];
        }
        for (int j = i + 1; j < d; j++, pairs++) {
            pulled[i] += x.omega[pairs * count] * y[j * count];
            pulled[j] -= x.omega[pairs * count] * y_i;
            twist[pairs * count] = y_i * x.v[j * count] - y[j * count] * v_i;
        }
    }
    for (int i = 0; i < d; i++) to[i * count] = pulled[i];
    to[d * count] = dot;
    FOURIERREG_END
}

/* D_j / i at stored frequency `at`. */
FOURIERREG_INLINE real frequency(const real *derivatives, int longest, int d, int n2, int n3, int j,
                                 int at)
{
    int axis = 3 - d + j, k = axis == 0 ? at / (n2 * n3) : axis == 1 ? at / n3 % n2 : at % n3;
    return derivatives[axis * longest + k];
}

/* sum += D field at stored frequency `at`, D = i factor. */
FOURIERREG_INLINE void add_derivative(const real *field, int at, real factor, real *sum)
{
    sum[0] -= factor * field[2 * at + 1];
    sum[1] += factor * field[2 * at];
}

FOURIERREG_KERNEL rate(const real *states, const real *bases, const real *products,
                       const double *symbols, const real *derivatives, real keep, real step,
                       int batch, int metrics, int longest, int d, int n1, int n2, int n3,
                       real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    int band = n1 * n2 * n3, i = voxel / band, at = voxel % band, u = 2 * d * band;
    const real *force = products + 2 * (2 * d + 1) * pair * band, *dot = force + 2 * d * band;
    const real *advected = dot + 2 * band, *state = states + 4 * d * pair * band;
    const real *base = bases + 4 * d * pair * band;
    real *to = out + 4 * d * pair * band, slope[2] = {0, 0};
    double weight = step / symbols[pair % metrics * band + at];
    add_derivative(dot, at, frequency(derivatives, longest, d, n2, n3, i, at), slope);
    for (int part = 0; part < 2; part++) {
        int c = 2 * voxel + part;
        to[c] = (real)(keep * base[c] - weight * (force[c] + slope[part]));
        to[u + c] = keep * base[u + c] - step * (state[c] + advected[c]);
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL rate_adjoint(const real *covectors, const real *bases, const real *products,
                               const double *symbols, const real *derivatives, real keep, real step,
                               int batch, int metrics, int longest, int d, int n1, int n2, int n3,
                               real *out)
{
    FOURIERREG_VOXEL(batch, d * n1 * n2 * n3)
    int band = n1 * n2 * n3, i = voxel / band, at = voxel % band, u = 2 * d * band;
    const real *pulled = products + 2 * POINT_FIELDS(d) * pair * band;
    const real *dot = pulled + 2 * d * band, *bracket = dot + 2 * band;
    const real *twist = bracket + 2 * d * band, *flux = twist + 2 * PAIRS_OF_AXES(d) * band;
    const real *mu = covectors + 4 * d * pair * band + u, *base = bases + 4 * d * pair * band;
    real *to = out + 4 * d * pair * band;
    real slope[2] = {0, 0}, sum[2] = {0, 0}, div[2] = {0, 0};
    double weight = step / symbols[pair % metrics * band + at];
    for (int j = 0; j < d; j++) {
        real factor = frequency(derivatives, longest, d, n2, n3, j, at);
        int low = i < j ? i : j, high = i < j ? j : i;
        int element = low * d - low * (low + 1) / 2 + high - low - 1;
        add_derivative(flux + 2 * (i * d + j) * band, at, factor, div);
        if (i == j) add_derivative(dot, at, factor, slope);
        else add_derivative(twist + 2 * element * band, at, i < j ? factor : -factor, sum);
    }
    for (int part = 0; part < 2; part++) {
        int c = 2 * voxel + part;
        double raised = weight * (pulled[c] + slope[part] - mu[c]);
        to[c] = (real)(keep * base[c] + (raised + step * (bracket[c] + sum[part])));
        to[u + c] = keep * base[u + c] + step * div[part];
    }
    FOURIERREG_END
}

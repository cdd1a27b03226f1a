/* CUDA kernels: the Jacobian determinant of x + u(x), its extremes, and a barrier against folds.
 * kernels.py has the same kernels for numba and describes the arrays, which are C-ordered;
 * backend/device.h defines the macros. */

/* I + Du at a voxel of one pair, by periodic central differences. */
FOURIERREG_INLINE void jacobian(const real *u, real hz, real hy, real hx, int nz, int ny, int nx,
                                int voxel, real m[3][3])
{
    int row = voxel / nx, x = voxel % nx, y = row % ny, z = row / ny, count = nz * ny * nx;
    int down[3], up[3];
    real half[3] = {1 / (2 * hz), 1 / (2 * hy), 1 / (2 * hx)};
    down[0] = voxel + (z > 0 ? -1 : nz - 1) * ny * nx;
    up[0] = voxel + (z < nz - 1 ? 1 : 1 - nz) * ny * nx;
    down[1] = voxel + (y > 0 ? -1 : ny - 1) * nx;
    up[1] = voxel + (y < ny - 1 ? 1 : 1 - ny) * nx;
    down[2] = voxel + (x > 0 ? -1 : nx - 1);
    up[2] = voxel + (x < nx - 1 ? 1 : 1 - nx);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            m[i][j] = (i == j) + half[j] * (u[i * count + up[j]] - u[i * count + down[j]]);
}

FOURIERREG_INLINE real determinant(const real *u, real hz, real hy, real hx, int nz, int ny, int nx,
                                   int voxel)
{
    real m[3][3];
    jacobian(u, hz, hy, hx, nz, ny, nx, voxel, m);
    return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
         - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
         + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

FOURIERREG_KERNEL jacobian_determinant(const real *u, real hz, real hy, real hx, int pairs, int nz,
                                       int ny, int nx, real *out)
{
    FOURIERREG_VOXEL(pairs, nz * ny * nx)
    int count = nz * ny * nx;
    out[pair * count + voxel] = determinant(u + 3 * pair * count, hz, hy, hx, nz, ny, nx, voxel);
    FOURIERREG_END
}

/* Maximum that propagates NaN. */
FOURIERREG_INLINE real nan_max(real a, real b) { return b > a || b != b ? b : a; }

#define REDUCTION_WIDTH 512 /* partial results per job, a power of two */
#define LOWEST (-1e30f)     /* initial value of the maximum of -det(I + Du) */

FOURIERREG_KERNEL end_map(const real *u, real hz, real hy, real hx, real rz, real ry, real rx,
                          real start, real end, int pairs, int parts, int rows, int nz, int ny,
                          int nx, real *determinants, real *out, real *scratch)
{
    FOURIERREG_JOB(pairs * parts)
    int count = nz * ny * nx, part = job % parts, size = rows * nx;
    int first = part * size, last = first + size < count ? first + size : count;
    const real *v = u + 3 * (job / parts) * count;
    real *det = determinants + job / parts * count;
    real *displacements = FOURIERREG_SCRATCH(3 * REDUCTION_WIDTH);
    real *folds = displacements + REDUCTION_WIDTH, *barriers = folds + REDUCTION_WIDTH;
    FOURIERREG_PARALLEL_FOR(lane, REDUCTION_WIDTH) {
        real displacement = 0, fold = LOWEST, barrier = 0;
        for (int i = first + lane; i < last; i += REDUCTION_WIDTH) {
            displacement = nan_max(displacement, rz * fabs(v[i]));
            displacement = nan_max(displacement, ry * fabs(v[count + i]));
            displacement = nan_max(displacement, rx * fabs(v[2 * count + i]));
            det[i] = determinant(v, hz, hy, hx, nz, ny, nx, i);
            fold = nan_max(fold, -det[i]);
            if (det[i] < start) {
                real depth = log((det[i] > end ? det[i] - end : 0) / (start - end));
                barrier += depth * depth;
            }
        }
        displacements[lane] = displacement;
        folds[lane] = fold;
        barriers[lane] = barrier;
    }
    for (int half = REDUCTION_WIDTH / 2; half > 0; half /= 2) {
        FOURIERREG_SYNC
        FOURIERREG_PARALLEL_FOR(i, half) {
            displacements[i] = nan_max(displacements[i], displacements[i + half]);
            folds[i] = nan_max(folds[i], folds[i + half]);
            barriers[i] += barriers[i + half];
        }
    }
    FOURIERREG_SYNC
    FOURIERREG_PARALLEL_FOR(i, 3) {
        out[3 * job + i] = i == 0 ? *displacements : i == 1 ? *folds : *barriers;
    }
    FOURIERREG_END_JOB
}

FOURIERREG_KERNEL barrier_force(const real *u, const real *determinants, const real *scale, real hz,
                                real hy, real hx, real start, real end, int pairs, int nz, int ny,
                                int nx, real *force)
{
    FOURIERREG_VOXEL(pairs, nz * ny * nx)
    int count = nz * ny * nx, x = voxel % nx, y = voxel / nx % ny, z = voxel / (nx * ny);
    const real *v = u + 3 * pair * count, *det = determinants + pair * count;
    real half[3] = {1 / (2 * hz), 1 / (2 * hy), 1 / (2 * hx)}, *to = force + 3 * pair * count;
    for (int axis = 0; axis < 3; axis++)
        for (int side = 0; side < 2; side++) {
            int step = side ? 1 : -1, k = z, j = y, i = x;
            if (axis == 0) k = (z + step + nz) % nz;
            if (axis == 1) j = (y + step + ny) % ny;
            if (axis == 2) i = (x + step + nx) % nx;
            int neighbor = (k * ny + j) * nx + i;
            if (!(det[neighbor] < start)) continue;
            real m[3][3], gap = det[neighbor] - end;
            /* A voxel enters the difference of the next one with a minus. */
            real weight = scale[pair] * (side ? -half[axis] : half[axis]) * 2
                        * log(gap / (start - end)) / gap;
            jacobian(v, hz, hy, hx, nz, ny, nx, neighbor, m);
            int a = (axis + 1) % 3, b = (axis + 2) % 3;
            for (int c = 0; c < 3; c++) {
                const real *next = m[(c + 1) % 3], *last = m[(c + 2) % 3];
                to[c * count + voxel] += weight * (next[a] * last[b] - next[b] * last[a]);
            }
        }
    FOURIERREG_END
}

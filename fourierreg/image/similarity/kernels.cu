/* CUDA kernels: sums over the window around every voxel. kernels.py has the same kernels for numba
 * and describes the arrays, which are C-ordered; backend/device.h defines the macros.
 *
 * A thread moves along a strip of STRIP voxels and adds what enters the window, subtracting what
 * leaves it. Strips are short, so that rounding errors do not accumulate. */

#define STRIP 16

/* The index i + shift along a periodic axis of n voxels, 0 <= i < n, |shift| <= n. */
FOURIERREG_INLINE int wrapped(int i, int shift, int n)
{
    int j = i + shift;
    return j < 0 ? j + n : j >= n ? j - n : j;
}

/* I, I^2 and I T of a row, summed over 2 rx + 1 voxels around x, times `sign`, added to `sums`. */
FOURIERREG_INLINE void add_moments(const real *image, const real *target, const real *inside,
                                   real shift, int x, int rx, int nx, real sign, real *sums)
{
    for (int k = -rx; k <= rx; k++) {
        int i = wrapped(x, k, nx);
        real value = (image[i] - shift) * inside[i];
        sums[0] += sign * value;
        sums[1] += sign * value * value;
        sums[2] += sign * value * target[i];
    }
}

FOURIERREG_KERNEL window_moments(const real *image, const real *target, const real *inside,
                                 const real *shift, real radius_y, real radius_x, int pairs, int nz,
                                 int ny, int nx, real *out)
{
    int strips = (ny + STRIP - 1) / STRIP;
    FOURIERREG_VOXEL(pairs, nz * strips * nx)
    int ry = (int)radius_y, rx = (int)radius_x, count = nz * ny * nx;
    int x = voxel % nx, strip = voxel / nx % strips, z = voxel / (nx * strips);
    int first = STRIP * strip, last = first + STRIP < ny ? first + STRIP : ny;
    long long plane = pair * count + (long long)z * ny * nx;
    const real *i = image + plane, *t = target + plane, *m = inside + plane;
    real sums[3] = {0, 0, 0}, *here = out + 3 * pair * count + z * ny * nx + x;
    for (int k = -ry; k < ry; k++) {
        int row = wrapped(first, k, ny) * nx;
        add_moments(i + row, t + row, m + row, shift[pair], x, rx, nx, 1, sums);
    }
    for (int y = first; y < last; y++) {
        int row = wrapped(y, ry, ny) * nx;
        add_moments(i + row, t + row, m + row, shift[pair], x, rx, nx, 1, sums);
        for (int f = 0; f < 3; f++) here[f * count + y * nx] = sums[f];
        row = wrapped(y, -ry, ny) * nx;
        add_moments(i + row, t + row, m + row, shift[pair], x, rx, nx, -1, sums);
    }
    FOURIERREG_END
}

/* Add the values of three fields at an index, times `sign`, to `sums`. */
FOURIERREG_INLINE void add_fields(const real *fields, int count, int index, real sign, real *sums)
{
    for (int f = 0; f < 3; f++) sums[f] += sign * fields[f * count + index];
}

FOURIERREG_KERNEL window_terms(const real *moments, const real *size, const real *mean,
                               const real *spread, const real *floor_, real radius_z, int pairs,
                               int nz, int ny, int nx, real *out)
{
    int strips = (nz + STRIP - 1) / STRIP;
    FOURIERREG_VOXEL(pairs, strips * ny * nx)
    int rz = (int)radius_z, plane = ny * nx, count = nz * plane, column = voxel % plane;
    int first = STRIP * (voxel / plane), last = first + STRIP < nz ? first + STRIP : nz;
    const real *fields = moments + 3 * pair * count;
    real sums[3] = {0, 0, 0}, *terms = out + 4 * pair * count;
    for (int k = -rz; k < rz; k++)
        add_fields(fields, count, wrapped(first, k, nz) * plane + column, 1, sums);
    for (int z = first; z < last; z++) {
        int index = z * plane + column;
        long long voxels = pair * count + index;
        add_fields(fields, count, wrapped(z, rz, nz) * plane + column, 1, sums);
        real n = size[voxels], mean_i = sums[0] / (n > 1 ? n : 1);
        real across = sums[2] - sums[0] * mean[voxels], b = sums[1] - sums[0] * mean_i;
        b = (b > 0 ? b : 0) + n * floor_[pair];
        real ratio = n > 0 ? across / b : 0, a = n > 0 ? ratio / spread[voxels] : 0;
        terms[index] = a * ratio;
        terms[count + index] = a;
        terms[2 * count + index] = a * (mean_i * ratio - mean[voxels]);
        terms[3 * count + index] = a * across;
        add_fields(fields, count, wrapped(z, -rz, nz) * plane + column, -1, sums);
    }
    FOURIERREG_END
}

/* Sum of a row over 2 rx + 1 voxels around x. */
FOURIERREG_INLINE real row_sum(const real *row, int x, int rx, int nx)
{
    real sum = 0;
    for (int k = -rx; k <= rx; k++) sum += row[wrapped(x, k, nx)];
    return sum;
}

FOURIERREG_KERNEL window_spread(const real *terms, real radius_y, real radius_x, int pairs, int nz,
                                int ny, int nx, real *out)
{
    int strips = (ny + STRIP - 1) / STRIP;
    FOURIERREG_VOXEL(3 * pairs, nz * strips * nx)
    int ry = (int)radius_y, rx = (int)radius_x, plane = ny * nx, count = nz * plane;
    int x = voxel % nx, strip = voxel / nx % strips, z = voxel / (nx * strips);
    int first = STRIP * strip, last = first + STRIP < ny ? first + STRIP : ny;
    const real *field = terms + (pair / 3 * 4 + pair % 3) * count + z * plane;
    real sum = 0, *here = out + pair * count + z * plane + x;
    for (int k = -ry; k < ry; k++) sum += row_sum(field + wrapped(first, k, ny) * nx, x, rx, nx);
    for (int y = first; y < last; y++) {
        sum += row_sum(field + wrapped(y, ry, ny) * nx, x, rx, nx);
        here[y * nx] = sum;
        sum -= row_sum(field + wrapped(y, -ry, ny) * nx, x, rx, nx);
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL window_derivative(const real *image, const real *target, const real *inside,
                                    const real *shift, const real *sums, real radius_z, int pairs,
                                    int nz, int ny, int nx, real *out)
{
    int strips = (nz + STRIP - 1) / STRIP;
    FOURIERREG_VOXEL(pairs, strips * ny * nx)
    int rz = (int)radius_z, plane = ny * nx, count = nz * plane, column = voxel % plane;
    int first = STRIP * (voxel / plane), last = first + STRIP < nz ? first + STRIP : nz;
    const real *fields = sums + 3 * pair * count;
    real total[3] = {0, 0, 0};
    for (int k = -rz; k < rz; k++)
        add_fields(fields, count, wrapped(first, k, nz) * plane + column, 1, total);
    for (int z = first; z < last; z++) {
        long long index = pair * count + z * plane + column;
        add_fields(fields, count, wrapped(z, rz, nz) * plane + column, 1, total);
        real value = (image[index] - shift[pair]) * total[0] - target[index] * total[1] - total[2];
        out[index] = value * inside[index];
        add_fields(fields, count, wrapped(z, -rz, nz) * plane + column, -1, total);
    }
    FOURIERREG_END
}

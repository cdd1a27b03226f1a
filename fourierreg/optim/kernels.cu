/* Kernels of L-BFGS for the GPU, in plain C. kernels.py, the CPU counterpart, describes the arrays; a
 * test compiles this file with the host compiler and compares the two (device.h). */

FOURIERREG_KERNEL advance(const real *inverse_diagonal, const real *trial_gradient,
                          const real *control, int rows, int capacity, int size, real *x,
                          real *gradient, real *direction, real *step, real *trial, real *memory)
{
    FOURIERREG_VOXEL(rows, size)
    const real *flags = control + pair * (5 + 2 * capacity), *coefficients = flags + 5;
    long long i = pair * size + voxel;
    int slot = (int)flags[1];
    real *s = memory + 2 * pair * capacity * size + voxel, *y = s + capacity * size;
    if (flags[0] != 0) {
        if (slot >= 0) {
            s[slot * size] = step[i];
            y[slot * size] = trial_gradient[i] - gradient[i];
        }
        x[i] += step[i];
        gradient[i] = trial_gradient[i];
    }
    if (flags[2] != 0) {
        real scaled = flags[3] * gradient[i], plain = 0;
        for (int k = 0; k < capacity; k++) {
            if (coefficients[capacity + k] != 0) scaled += coefficients[capacity + k] * y[k * size];
            if (coefficients[k] != 0) plain += coefficients[k] * s[k * size];
        }
        direction[i] = -inverse_diagonal[i] * scaled - plain;
    }
    step[i] = flags[4] * direction[i];
    trial[i] = x[i] + step[i];
    FOURIERREG_END
}

/* Partial sums of a product: a power of two. */
#define PARTS 512

FOURIERREG_KERNEL products(const real *inverse_diagonal, const real *gradient,
                           const real *trial_gradient, const real *step, const real *memory,
                           int rows, int capacity, int size, real *out, real *scratch)
{
    FOURIERREG_JOB(rows * (2 * capacity + 3))
    long long row = job / (2 * capacity + 3);
    int j = job % (2 * capacity + 3);
    const real *d = inverse_diagonal + row * size, *g = gradient + row * size;
    const real *f = trial_gradient + row * size, *s = step + row * size;
    const real *a = memory + (2 * row * capacity + j) * size;
    if (j >= 2 * capacity) a = j == 2 * capacity ? s : f;
    real *sums = FOURIERREG_SCRATCH(5 * PARTS);
    FOURIERREG_PARALLEL_FOR(part, PARTS) {
        real with_s = 0, with_y = 0, with_dy = 0, with_f = 0, with_df = 0;
        for (int i = part; i < size; i += PARTS) {
            real change = f[i] - g[i], b = j == 2 * capacity + 1 ? change : a[i];
            with_s += b * s[i];
            with_y += b * change;
            with_dy += d[i] * b * change;
            with_f += b * f[i];
            with_df += d[i] * b * f[i];
        }
        sums[part] = with_s;
        sums[PARTS + part] = with_y;
        sums[2 * PARTS + part] = with_dy;
        sums[3 * PARTS + part] = with_f;
        sums[4 * PARTS + part] = with_df;
    }
    for (int half = PARTS / 2; half > 0; half /= 2) {
        FOURIERREG_SYNC
        FOURIERREG_PARALLEL_FOR(i, 5 * half) {
            int at = i / half * PARTS + i % half;
            sums[at] += sums[at + half];
        }
    }
    FOURIERREG_SYNC
    FOURIERREG_PARALLEL_FOR(i, 5) {
        out[5 * job + i] = sums[i * PARTS];
    }
    FOURIERREG_END_JOB
}

/* Passes of L-BFGS over the vectors of many rows for the GPU, in plain C: the CPU counterpart, which
 * says what the arrays are, is kernels.py, and a test compiles this file with the host compiler and
 * compares the two (device.h). */

FOURIERREG_KERNEL advance(const real *inverse, const real *fresh, const real *control, int rows,
                          int memory, int size, real *x, real *gradient, real *direction,
                          real *step, real *trial, real *known)
{
    FOURIERREG_VOXEL(rows, size)
    const real *said = control + pair * (5 + 2 * memory), *shares = said + 5;
    long long i = pair * size + voxel;
    int slot = (int)said[1];
    real *s = known + 2 * pair * memory * size + voxel, *y = s + memory * size;
    if (said[0] != 0) {
        if (slot >= 0) {
            s[slot * size] = step[i];
            y[slot * size] = fresh[i] - gradient[i];
        }
        x[i] += step[i];
        gradient[i] = fresh[i];
    }
    if (said[2] != 0) {
        real scaled = said[3] * gradient[i], plain = 0;
        for (int k = 0; k < memory; k++) {
            if (shares[memory + k] != 0) scaled += shares[memory + k] * y[k * size];
            if (shares[k] != 0) plain += shares[k] * s[k * size];
        }
        direction[i] = -inverse[i] * scaled - plain;
    }
    step[i] = said[4] * direction[i];
    trial[i] = x[i] + step[i];
    FOURIERREG_END
}

/* Partial sums of a product: a power of two. */
#define PARTS 512

FOURIERREG_KERNEL products(const real *inverse, const real *gradient, const real *fresh,
                           const real *step, const real *known, int rows, int memory, int size,
                           real *out, real *scratch)
{
    FOURIERREG_JOB(rows * (2 * memory + 3))
    long long row = job / (2 * memory + 3);
    int j = job % (2 * memory + 3);
    const real *d = inverse + row * size, *g = gradient + row * size, *f = fresh + row * size;
    const real *s = step + row * size, *a = known + (2 * row * memory + j) * size;
    if (j >= 2 * memory) a = j == 2 * memory ? s : f;
    real *sums = FOURIERREG_SCRATCH(5 * PARTS);
    FOURIERREG_PARALLEL_FOR(part, PARTS) {
        real with_s = 0, with_y = 0, with_dy = 0, with_f = 0, with_df = 0;
        for (int i = part; i < size; i += PARTS) {
            real change = f[i] - g[i], b = j == 2 * memory + 1 ? change : a[i];
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

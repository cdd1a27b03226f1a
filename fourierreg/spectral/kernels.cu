/* Transforms between the band and small grids for the GPU, in plain C: the CPU counterpart, which
 * says what the arrays are, is kernels.py, and a test compiles this file with the host compiler and
 * compares the two (device.h). One block to a share of a field: of the points of its first axis on
 * the way to the grid, of the frequencies of its last on the way back, so that blocks need nothing
 * of one another. */

/* out_q = sum_r exp(+-2 pi i q r / N) x_r along the third axis of planar complex fields: x is
 * (2, P, n, Q), out (2, P', N, Q') with the same points in the same order along its other axes;
 * cosines (N / 2 + 1, n / 2 + 1), sines ((N - 1) / 2, (n - 1) / 2). Where not all q up to N / 2 are
 * asked for, out holds only q and N - q of low <= q < high, in turns. */
FOURIERREG_INLINE void transform(const real *x, int P, int n, int Q, const real *cosines,
                                 const real *sines, real sign, int N, int low, int high, int Qout,
                                 real *out)
{
    int size = P * Q, evens = n / 2 + 1, odds = (n - 1) / 2;
    int whole = high - low == N / 2 + 1, width = whole ? N : 2 * (high - low);
    FOURIERREG_PARALLEL_FOR(job, (high - low) * size) {
        int q = low + job / size, i = job % size, mirror = (N - q) % N;
        const real *re = x + i / Q * n * Q + i % Q, *im = re + size * n;
        real c_re = 0, c_im = 0, s_re = 0, s_im = 0;
        for (int r = 0; r < evens; r++) {
            int a = r * Q, b = (n - r) * Q;
            int paired = r > 0 && r <= odds;
            real w = cosines[q * evens + r], v = 0;
            c_re += w * (paired ? re[a] + re[b] : re[a]);
            c_im += w * (paired ? im[a] + im[b] : im[a]);
            if (!paired || mirror == q) continue;
            v = sign * sines[(q - 1) * odds + r - 1];
            s_re += v * (re[a] - re[b]);
            s_im += v * (im[a] - im[b]);
        }
        int first = i / Qout * width * Qout + i % Qout;
        int here = first + (whole ? q : 2 * (q - low)) * Qout;
        int there = whole ? first + mirror * Qout : here + Qout;
        out[here] = c_re - s_im;
        out[size * width + here] = c_im + s_re;
        out[there] = c_re + s_im;
        out[size * width + there] = c_im - s_re;
    }
    FOURIERREG_SYNC
}

FOURIERREG_KERNEL to_grid(const real *coefficients, const long long *fields, const double *lower,
                          const real *slopes, const real *c1, const real *s1, const real *c2,
                          const real *s2, const real *c3, const real *s3, int batch, int components,
                          int count, int pairs, int longest, int n1, int n2, int n3, int size1,
                          int size2, int size3, int shares, int each, real *out, real *scratch)
{
    FOURIERREG_JOB(batch * count * shares)
    long long item = job / shares / count;
    int low = job % shares * each, high = low + each < size1 / 2 + 1 ? low + each : size1 / 2 + 1;
    int width = shares == 1 ? size1 : 2 * (high - low), widest = shares == 1 ? size1 : 2 * each;
    int f = job / shares % count, kind = fields[2 * f + 1], band = n1 * n2 * n3;
    const real *x = coefficients + 2 * band * (item * components + fields[2 * f]);
    const double *l = lower + band * (item % pairs);
    int planes = size2 * width;
    real *loaded = FOURIERREG_SCRATCH(2 * (band + n3 * (n2 + size2) * widest));
    real *first = loaded + 2 * band, *second = first + 2 * n2 * n3 * width;
    real *values = out + job / shares * size3 * size2 * size1;
    FOURIERREG_PARALLEL_FOR(i, band) {
        real re = x[2 * i], im = x[2 * i + 1];
        if (kind == 1) {
            re = (real)(l[i] * re);
            im = (real)(l[i] * im);
        } else if (kind > 1) {
            int k = kind == 2 ? i / (n2 * n3) : kind == 3 ? i / n3 % n2 : i % n3;
            real slope = slopes[(kind - 2) * longest + k], was = re;
            re = -slope * im;
            im = slope * was;
        }
        loaded[i] = re;
        loaded[band + i] = im;
    }
    FOURIERREG_SYNC
    transform(loaded, 1, n1, n2 * n3, c1, s1, 1, size1, low, high, 1, first);
    transform(first, 1, n2, n3 * width, c2, s2, 1, size2, 0, size2 / 2 + 1, width, second);
    FOURIERREG_PARALLEL_FOR(i, (size3 / 2 + 1) * planes) {
        int q = i / planes, p = i % planes, mirror = (size3 - q) % size3;
        int at = p % width, x1 = shares == 1 ? at : low + at / 2;
        if (shares > 1 && at % 2) x1 = (size1 - x1) % size1;
        real c = 0, s = 0;
        for (int k = 0; k < n3; k++) c += c3[q * n3 + k] * second[k * planes + p];
        if (mirror != q)
            for (int k = 1; k < n3; k++)
                s += s3[(q - 1) * (n3 - 1) + k - 1] * second[(n3 + k) * planes + p];
        /* A point that mirrors itself is there twice in a share, with one value. */
        values[(q * size2 + p / width) * size1 + x1] = c - s;
        values[(mirror * size2 + p / width) * size1 + x1] = c + s;
    }
    FOURIERREG_END_JOB
}

FOURIERREG_KERNEL from_grid(const real *grid, const real *c1, const real *s1, const real *c2,
                            const real *s2, const real *c3, const real *s3, int batch, int n1,
                            int n2, int n3, int size1, int size2, int size3, int shares, int each,
                            real *out, real *scratch)
{
    FOURIERREG_JOB(batch * shares)
    int low = job % shares * each, count = n3 - low < each ? n3 - low : each;
    int band = n1 * n2 * each, planes = size1 * size2;
    int evens = size3 / 2 + 1, odds = (size3 - 1) / 2;
    const real *values = grid + job / shares * size3 * planes;
    real *third = FOURIERREG_SCRATCH(2 * each * (n1 * n2 + n2 * size1 + planes));
    real *second = third + 2 * band, *first = second + 2 * n2 * each * size1;
    real *coefficients = out + job / shares * 2 * n1 * n2 * n3;
    FOURIERREG_PARALLEL_FOR(i, count * planes) {
        int k = low + i / planes, p = i % planes;
        real c = 0, s = 0;
        for (int r = 0; r < evens; r++) {
            const real *here = values + r * planes + p, *there = values + (size3 - r) * planes + p;
            int paired = r > 0 && r <= odds;
            c += c3[k * evens + r] * (paired ? *here + *there : *here);
            if (paired && k > 0) s += s3[(k - 1) * odds + r - 1] * (*here - *there);
        }
        first[i] = c;
        first[count * planes + i] = -s;
    }
    FOURIERREG_SYNC
    transform(first, count, size2, size1, c2, s2, -1, n2, 0, n2 / 2 + 1, count * size1, second);
    transform(second, n2 * count, size1, 1, c1, s1, -1, n1, 0, n1 / 2 + 1, n2 * count, third);
    FOURIERREG_PARALLEL_FOR(i, n1 * n2 * count) {
        int at = i / count * n3 + low + i % count;
        coefficients[2 * at] = third[i];
        coefficients[2 * at + 1] = third[n1 * n2 * count + i];
    }
    FOURIERREG_END_JOB
}

FOURIERREG_KERNEL multiply(const real *matrices, const real *vectors, int batch, int shared, int d,
                           int count, real *out)
{
    FOURIERREG_VOXEL(batch, count)
    const real *matrix = matrices + d * d * (pair % shared) * count + voxel;
    const real *vector = vectors + d * pair * count + voxel;
    for (int i = 0; i < d; i++) {
        real sum = 0;
        for (int j = 0; j < d; j++) sum += matrix[(i * d + j) * count] * vector[j * count];
        out[(d * pair + i) * count + voxel] = sum;
    }
    FOURIERREG_END
}

FOURIERREG_KERNEL contract(const real *values, const real *matrix, int batch, int lead, int n,
                           int after, int size, real *out)
{
    FOURIERREG_VOXEL(batch, lead * size * after)
    int j = voxel % after, q = voxel / after % size, i = voxel / (after * size);
    const real *x = values + 2 * ((pair * lead + i) * n * after + j), *m = matrix + 2 * q * n;
    real *here = out + 2 * (pair * lead * size * after + voxel), re = 0, im = 0;
    for (int k = 0; k < n; k++) {
        const real *a = m + 2 * k, *b = x + 2 * k * after;
        re += a[0] * b[0] - a[1] * b[1];
        im += a[0] * b[1] + a[1] * b[0];
    }
    here[0] = re;
    here[1] = im;
    FOURIERREG_END
}

/* Outputs of one thread, so that it reads each number several times from its registers. */
#define ROWS 4
#define COLUMNS 4

/* The matrix's entry of k and q lies `along` k and `across` q further. */
FOURIERREG_KERNEL contract_rows(const real *values, const real *matrix, int rows, int n, int size,
                                int each, int along, int across, real *out, real *scratch)
{
    FOURIERREG_JOB((rows + each - 1) / each)
    long long first = job * each;
    int count = rows - first < each ? rows - first : each;
    int pitch = n | 1; /* odd, so that rows ROWS apart lie in different banks of memory */
    real *x = FOURIERREG_SCRATCH(each * pitch);
    FOURIERREG_PARALLEL_FOR(i, count * n) {
        x[i / n * pitch + i % n] = values[first * n + i];
    }
    FOURIERREG_SYNC
    int lanes = (size + COLUMNS - 1) / COLUMNS;
    FOURIERREG_PARALLEL_FOR(item, (count + ROWS - 1) / ROWS * lanes) {
        int lane = item % lanes, row = item / lanes * ROWS;
        real sums[ROWS][COLUMNS] = {{0}};
        const real *here[ROWS], *column[COLUMNS];
        for (int r = 0; r < ROWS; r++) here[r] = x + (row + r < count ? row + r : row) * pitch;
        for (int c = 0; c < COLUMNS; c++) {
            int q = lane + c * lanes;
            column[c] = matrix + (q < size ? q : lane) * across;
        }
        for (int k = 0; k < n; k++)
            for (int c = 0; c < COLUMNS; c++) {
                real weight = column[c][k * along];
                for (int r = 0; r < ROWS; r++) sums[r][c] += weight * here[r][k];
            }
        for (int r = 0; r < ROWS && row + r < count; r++)
            for (int c = 0; c < COLUMNS && lane + c * lanes < size; c++)
                out[(first + row + r) * size + lane + c * lanes] = sums[r][c];
    }
    FOURIERREG_END_JOB
}

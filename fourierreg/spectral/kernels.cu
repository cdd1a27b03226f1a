/* CUDA kernels: transforms between the band and small grids. kernels.py has the same kernels for
 * numba and describes the arrays; backend/device.h defines the macros. Each block does one part of
 * a field, independently of the others: some points of the first axis in to_grid, some frequencies
 * of the last axis in from_grid. */

/* out_q = sum_r exp(+-2 pi i q r / N) x_r along the third axis of planar complex fields: x is
 * (2, P, n, Q), out (2, P', N, Q') with the same points in the same order along its other axes;
 * cosines (N / 2 + 1, n / 2 + 1), sines ((N - 1) / 2, (n - 1) / 2). If [low, high) is not all of
 * 0 ... N / 2, out holds only q and N - q of low <= q < high, interleaved. */
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
        int at = first + (whole ? q : 2 * (q - low)) * Qout;
        int at_mirror = whole ? first + mirror * Qout : at + Qout;
        out[at] = c_re - s_im;
        out[size * width + at] = c_im + s_re;
        out[at_mirror] = c_re + s_im;
        out[size * width + at_mirror] = c_im - s_re;
    }
    FOURIERREG_SYNC
}

/* value += +-D_axis x at stored frequency i; no derivative is taken for a negative axis. */
FOURIERREG_INLINE void add_component(const real *x, int axis, int i, int n2, int n3,
                                     const real *derivatives, int longest, real sign, real *value)
{
    real re = x[2 * i], im = x[2 * i + 1];
    if (axis < 0) {
        value[0] += re;
        value[1] += im;
        return;
    }
    int k = axis == 0 ? i / (n2 * n3) : axis == 1 ? i / n3 % n2 : i % n3;
    real factor = sign * derivatives[axis * longest + k];
    value[0] -= factor * im;
    value[1] += factor * re;
}

FOURIERREG_KERNEL to_grid(const real *coefficients, const long long *fields, const double *symbols,
                          const real *derivatives, const real *c1, const real *s1, const real *c2,
                          const real *s2, const real *c3, const real *s3, int batch, int components,
                          int count, int pairs, int longest, int n1, int n2, int n3, int size1,
                          int size2, int size3, int parts, int part_size, real *out, real *scratch)
{
    FOURIERREG_JOB(batch * count * parts)
    long long item = job / parts / count;
    int low = job % parts * part_size, end = size1 / 2 + 1;
    int high = low + part_size < end ? low + part_size : end;
    int width = parts == 1 ? size1 : 2 * (high - low);
    int max_width = parts == 1 ? size1 : 2 * part_size;
    int f = job / parts % count, op = fields[2 * f + 1], band = n1 * n2 * n3;
    const real *x = coefficients + 2 * band * (item * components + fields[2 * f]);
    const double *symbol = symbols + band * (item % pairs);
    int planes = size2 * width;
    real *loaded = FOURIERREG_SCRATCH(2 * (band + n3 * (n2 + size2) * max_width));
    real *first = loaded + 2 * band, *second = first + 2 * n2 * n3 * width;
    real *values = out + job / parts * size3 * size2 * size1;
    FOURIERREG_PARALLEL_FOR(i, band) {
        real value[2] = {0, 0};
        if (op < 5) {
            add_component(x, op - 2, i, n2, n3, derivatives, longest, 1, value);
        } else if (op == 5) {
            int first_axis = n1 == 1; /* a 2D band has the last two axes */
            for (int axis = first_axis; axis < 3; axis++)
                add_component(x + 2 * band * (axis - first_axis), axis, i, n2, n3, derivatives,
                              longest, 1, value);
        } else {
            int a = (op - 6) / 3, b = (op - 6) % 3;
            add_component(x, b, i, n2, n3, derivatives, longest, 1, value);
            add_component(x + 2 * band * (b - a), a, i, n2, n3, derivatives, longest, -1, value);
        }
        real factor = op == 1 || op > 5 ? (real)symbol[i] : 1;
        loaded[i] = factor * value[0];
        loaded[band + i] = factor * value[1];
    }
    FOURIERREG_SYNC
    transform(loaded, 1, n1, n2 * n3, c1, s1, 1, size1, low, high, 1, first);
    transform(first, 1, n2, n3 * width, c2, s2, 1, size2, 0, size2 / 2 + 1, width, second);
    FOURIERREG_PARALLEL_FOR(i, (size3 / 2 + 1) * planes) {
        int q = i / planes, p = i % planes, mirror = (size3 - q) % size3;
        int at = p % width, x1 = parts == 1 ? at : low + at / 2;
        if (parts > 1 && at % 2) x1 = (size1 - x1) % size1;
        real c = 0, s = 0;
        for (int k = 0; k < n3; k++) c += c3[q * n3 + k] * second[k * planes + p];
        if (mirror != q)
            for (int k = 1; k < n3; k++)
                s += s3[(q - 1) * (n3 - 1) + k - 1] * second[(n3 + k) * planes + p];
        /* A point that is its own mirror image is written twice, with the same value. */
        values[(q * size2 + p / width) * size1 + x1] = c - s;
        values[(mirror * size2 + p / width) * size1 + x1] = c + s;
    }
    FOURIERREG_END_JOB
}

FOURIERREG_KERNEL from_grid(const real *grid, const real *c1, const real *s1, const real *c2,
                            const real *s2, const real *c3, const real *s3, int batch, int n1,
                            int n2, int n3, int size1, int size2, int size3, int parts,
                            int part_size, real *out, real *scratch)
{
    FOURIERREG_JOB(batch * parts)
    int low = job % parts * part_size, count = n3 - low < part_size ? n3 - low : part_size;
    int band = n1 * n2 * part_size, planes = size1 * size2;
    int evens = size3 / 2 + 1, odds = (size3 - 1) / 2;
    const real *values = grid + job / parts * size3 * planes;
    real *third = FOURIERREG_SCRATCH(2 * part_size * (n1 * n2 + n2 * size1 + planes));
    real *second = third + 2 * band, *first = second + 2 * n2 * part_size * size1;
    real *coefficients = out + job / parts * 2 * n1 * n2 * n3;
    FOURIERREG_PARALLEL_FOR(i, count * planes) {
        int k = low + i / planes, p = i % planes;
        real c = 0, s = 0;
        for (int r = 0; r < evens; r++) {
            const real *here = values + r * planes + p;
            const real *mirrored = values + (size3 - r) * planes + p;
            int paired = r > 0 && r <= odds;
            c += c3[k * evens + r] * (paired ? *here + *mirrored : *here);
            if (paired && k > 0) s += s3[(k - 1) * odds + r - 1] * (*here - *mirrored);
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
                           int trail, int size, real *out)
{
    FOURIERREG_VOXEL(batch, lead * size * trail)
    int j = voxel % trail, q = voxel / trail % size, i = voxel / (trail * size);
    const real *x = values + 2 * ((pair * lead + i) * n * trail + j), *row = matrix + 2 * q * n;
    real *result = out + 2 * (pair * lead * size * trail + voxel), re = 0, im = 0;
    for (int k = 0; k < n; k++) {
        const real *a = row + 2 * k, *b = x + 2 * k * trail;
        re += a[0] * b[0] - a[1] * b[1];
        im += a[0] * b[1] + a[1] * b[0];
    }
    result[0] = re;
    result[1] = im;
    FOURIERREG_END
}

/* Size of the tile of outputs that one thread computes, so that it reuses values in registers. */
#define ROWS 4
#define COLUMNS 4

/* Element (q, k) of the matrix is matrix[q * row_stride + k * column_stride]. */
FOURIERREG_KERNEL contract_rows(const real *values, const real *matrix, int rows, int n, int size,
                                int rows_per_block, int column_stride, int row_stride, real *out,
                                real *scratch)
{
    FOURIERREG_JOB((rows + rows_per_block - 1) / rows_per_block)
    long long first = job * rows_per_block;
    int count = rows - first < rows_per_block ? rows - first : rows_per_block;
    int pitch = n | 1; /* odd, so that rows ROWS apart lie in different memory banks */
    real *x = FOURIERREG_SCRATCH(rows_per_block * pitch);
    FOURIERREG_PARALLEL_FOR(i, count * n) {
        x[i / n * pitch + i % n] = values[first * n + i];
    }
    FOURIERREG_SYNC
    int step = (size + COLUMNS - 1) / COLUMNS; /* between the columns of a tile */
    FOURIERREG_PARALLEL_FOR(tile, (count + ROWS - 1) / ROWS * step) {
        int column = tile % step, row = tile / step * ROWS;
        real sums[ROWS][COLUMNS] = {{0}};
        const real *inputs[ROWS], *weights[COLUMNS];
        for (int r = 0; r < ROWS; r++) inputs[r] = x + (row + r < count ? row + r : row) * pitch;
        for (int c = 0; c < COLUMNS; c++) {
            int q = column + c * step;
            weights[c] = matrix + (q < size ? q : column) * row_stride;
        }
        for (int k = 0; k < n; k++)
            for (int c = 0; c < COLUMNS; c++) {
                real weight = weights[c][k * column_stride];
                for (int r = 0; r < ROWS; r++) sums[r][c] += weight * inputs[r][k];
            }
        for (int r = 0; r < ROWS && row + r < count; r++)
            for (int c = 0; c < COLUMNS && column + c * step < size; c++)
                out[(first + row + r) * size + column + c * step] = sums[r][c];
    }
    FOURIERREG_END_JOB
}

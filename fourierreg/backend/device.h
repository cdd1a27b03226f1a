/* Prefix of every kernels.cu, after the definition of `real` as float or double. A kernels.cu is
 * plain C apart from these macros: the tests define them for CPU threads (tests/host.py) and
 * compile it with the host compiler. Indices within a pair or a job are int, whose division is four
 * times as fast as that of long long; indices across pairs or jobs are long long. */

#define FOURIERREG_KERNEL extern "C" __global__ void
#define FOURIERREG_INLINE __device__ static inline

/* One thread per voxel; the second dimension of the grid of blocks counts the pairs of a batch. */
#define FOURIERREG_VOXEL(pairs, count) \
    long long pair = blockIdx.y; \
    int voxel = blockIdx.x * blockDim.x + threadIdx.x; \
    if (pair >= (pairs) || voxel >= (count)) return;
#define FOURIERREG_END

/* One block per job. Its threads share the iterations of each FOURIERREG_PARALLEL_FOR and
 * synchronize at FOURIERREG_SYNC. */
#define FOURIERREG_JOB(count) \
    long long job = blockIdx.x; \
    if (job >= (count)) return;
#define FOURIERREG_END_JOB
#define FOURIERREG_PARALLEL_FOR(i, count) \
    for (int i = threadIdx.x; i < (count); i += blockDim.x)
#define FOURIERREG_SYNC __syncthreads();

/* Scratch memory of a job: `size` elements of type real, in a kernel whose last argument is `real
 * *scratch`. They are in shared memory where that argument is null, else in that array; which of
 * the two is decided by backend/kernels.py. */
extern __shared__ double fourierreg_shared[];
#define FOURIERREG_SCRATCH(size) (scratch ? scratch + job * (size) : (real *)fourierreg_shared)

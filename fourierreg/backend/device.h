/* What the CUDA C of every kernels.cu begins with; the tests, which compile those files with the
 * host compiler, define the same words for one thread (tests/host.py). `real` is float or double.
 * What counts within a pair or a job is an int, whose division is four times as fast as that of the
 * long long that counts across them. */

#define FOURIERREG_KERNEL extern "C" __global__ void
#define FOURIERREG_INLINE __device__ static inline

/* One thread to a voxel of one of many pairs, which a second axis of blocks counts. */
#define FOURIERREG_VOXEL(pairs, count) \
    long long pair = blockIdx.y; \
    int voxel = blockIdx.x * blockDim.x + threadIdx.x; \
    if (pair >= (pairs) || voxel >= (count)) return;
#define FOURIERREG_END

/* One block to a job, whose threads share each loop and wait for one another between two. */
#define FOURIERREG_JOB(count) \
    long long job = blockIdx.x; \
    if (job >= (count)) return;
#define FOURIERREG_END_JOB
#define FOURIERREG_PARALLEL_FOR(i, count) \
    for (int i = threadIdx.x; i < (count); i += blockDim.x)
#define FOURIERREG_SYNC __syncthreads();

/* So many numbers of type real that a job has to itself, in a kernel whose last argument is `real
 * *scratch`: of a block's own memory where launch.py, which knows whether they fit there, passes
 * nothing, else of that array. */
extern __shared__ double fourierreg_shared[];
#define FOURIERREG_SCRATCH(size) (scratch ? scratch + job * (size) : (real *)fourierreg_shared)

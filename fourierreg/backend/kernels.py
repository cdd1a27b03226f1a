"""Launch a compiled kernel where its arrays live: by numba on the host, by CUDA on a GPU.

Every kernel is written twice in its folder, in `kernels.py` (numba) and in `kernels.cu` (CUDA C),
under one name and with its arguments in one order: inputs, scalars, (CUDA only: sizes,) outputs.
"""

import functools
import importlib
import re
from importlib import resources

import numpy as np

from fourierreg.backend import array_module, backend_of, on_device
from fourierreg.backend.mock_device import count, kernel_array
from fourierreg.errors import InputError, InputTypeError

THREADS = 256  # of a block
JOB_THREADS = 512  # of a block that does a whole job; leaves 128 registers to each
SHARED_BYTES = 48 * 1024  # of shared memory that a block has on any GPU
MAX_INDEX = 2**31 - 1  # kernels index a vector field with 32 bits
PARALLEL_SIZE = 500_000  # array elements on small grids above which several threads pay


@functools.cache
def device_source(package, real):
    """CUDA C of the kernels of a package for `real` ("float" or "double")."""
    header = resources.files("fourierreg.backend").joinpath("device.h").read_text()
    body = resources.files(package).joinpath("kernels.cu").read_text()
    return f"#define real {real}\n{header}\n{body}"


@functools.cache
def parameters(package, name):
    """C types of the parameters of a CUDA kernel by name, in order, without `const`."""
    body = resources.files(package).joinpath("kernels.cu").read_text()
    inside = re.search(rf"FOURIERREG_KERNEL {name}\(([^)]*)\)", body)[1]
    found = [re.fullmatch(r"\s*(?:const )?(.*?)(\w+)\s*", one) for one in inside.split(",")]
    return {one[2]: one[1].strip() for one in found}


def _check_types(package, name, arrays, real):
    """Refuse an array of another type than the CUDA kernel declares: a GPU would misread it."""
    dtypes = {"real *": real, "double *": np.float64, "long long *": np.int64}
    asked = {k: dtypes[c] for k, c in parameters(package, name).items() if c.endswith("*")}
    asked.pop("scratch", None)
    for (parameter, dtype), array in zip(asked.items(), arrays, strict=True):
        if array.dtype != dtype:
            raise InputTypeError(
                f"{parameter} of {name}: expected {np.dtype(dtype)}, got {array.dtype}"
            )


def device_kernel(source, name):
    """The compiled CUDA kernel `name` of a source."""
    from fourierreg.backend import _cupy

    return _cupy.device_kernel(source, name)


def launch(package, name, inputs, scalars, outputs, *, sizes, blocks, scratch=0, parallel=True):
    """Run kernel `name` of a package.

    Parameters
    ----------
    package, name : str
    inputs, outputs : sequences of contiguous arrays
        The dtype of the first output is `real` in the kernel.
    scalars : sequence of float
        Passed as `real`.
    sizes : sequence of int
        Array sizes, for CUDA, which indexes within one pair or job with 32 bits.
    blocks : tuple of int
        The grid of blocks, for CUDA.
    scratch : int
        Elements of type `real` of private memory of every block, for CUDA: shared memory where they
        fit, else an array after the outputs. A block with scratch does one job.
    parallel : bool
        Whether numba may use several threads. For less than a millisecond of work they gain
        little, and cost much as soon as another process needs the other cores.
    """
    kind = outputs[0].dtype.type
    scalars = [kind(x) for x in scalars]
    if on_device(outputs[0]):
        if 3 * blocks[0] * THREADS > MAX_INDEX and not scratch:
            raise InputError(
                f"a grid of {blocks[0] * THREADS} points is more than a GPU's kernels index "
                f"({MAX_INDEX // 3}): use set_backend('numpy')"
            )
        source = device_source(package, "double" if kind is np.float64 else "float")
        arguments = [*inputs, *scalars, *(np.int32(n) for n in sizes), *outputs]
        threads, shared = (JOB_THREADS if scratch else THREADS), scratch * kind().itemsize
        if shared > SHARED_BYTES:
            arguments.append(array_module(outputs[0]).empty((blocks[0], scratch), dtype=kind))
            shared = 0
        elif scratch:
            arguments.append(np.uintp(0))
        device_kernel(source, name)(blocks, (threads,), tuple(arguments), shared_mem=shared)
        return
    kernels = importlib.import_module(f"{package}.kernels")  # numba takes half a second to import
    if backend_of(outputs[0]) == "mock":
        count(name)
        _check_types(package, name, [*inputs, *outputs], kind)
        inputs, outputs = [kernel_array(a) for a in inputs], [kernel_array(a) for a in outputs]
    kernel = getattr(kernels, name)
    if parallel:
        kernel(*inputs, *scalars, *outputs)
        return
    import numba  # loaded with the kernels

    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        kernel(*inputs, *scalars, *outputs)
    finally:
        numba.set_num_threads(threads)


def voxel_blocks(count, pairs=1):
    """Grid of blocks with one thread per voxel."""
    return ((count + THREADS - 1) // THREADS, pairs)

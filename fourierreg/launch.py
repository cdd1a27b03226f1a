"""One call per compiled loop, wherever the arrays live: numba, CUDA, or numba under the guard.

A loop stands twice in its folder, in `kernels.py` (numba) and in `kernels.cu` (CUDA C), under one
name and with its arguments in one order: inputs, numbers, (CUDA only: sizes,) outputs.
"""

import functools
import importlib
import re
from importlib import resources

import numpy as np

from fourierreg.backend import array_module, backend_of, device_kernel, on_device
from fourierreg.guard import count, for_kernel

THREADS = 256  # of a block
JOB_THREADS = 512  # of one that does a whole job; 128 registers are left to each
SHARED_BYTES = 48 * 1024  # that any GPU gives a block of its own memory
MOST_COUNTED = 2**31 - 1  # by the kernels, of the numbers of a vector field
PARALLEL_SIZE = 500_000  # numbers, on small grids, from which several threads pay


@functools.cache
def device_source(package, real):
    """CUDA C of the kernels of a package for `real` ("float" or "double")."""
    header = resources.files("fourierreg").joinpath("device.h").read_text()
    body = resources.files(package).joinpath("kernels.cu").read_text()
    return f"#define real {real}\n{header}\n{body}"


@functools.cache
def parameters(package, name):
    """C types of what a CUDA kernel takes, in order, by its name there; without `const`."""
    body = resources.files(package).joinpath("kernels.cu").read_text()
    inside = re.search(rf"FOURIERREG_KERNEL {name}\(([^)]*)\)", body)[1]
    found = [re.fullmatch(r"\s*(?:const )?(.*?)(\w+)\s*", one) for one in inside.split(",")]
    return {one[2]: one[1].strip() for one in found}


def _check_types(package, name, arrays, real):
    """A device would take an array of another type for one of its own."""
    dtypes = {"real *": real, "double *": np.float64, "long long *": np.int64}
    asked = {k: dtypes[c] for k, c in parameters(package, name).items() if c.endswith("*")}
    asked.pop("scratch", None)
    for (parameter, dtype), array in zip(asked.items(), arrays, strict=True):
        if array.dtype != dtype:
            raise TypeError(f"{parameter} of {name}: expected {np.dtype(dtype)}, got {array.dtype}")


def launch(package, name, inputs, numbers, outputs, *, sizes, blocks, scratch=0, parallel=True):
    """Run kernel `name` of a package.

    Parameters
    ----------
    package, name : str
    inputs, outputs : sequences of contiguous arrays
        The type of the first output is that of `real`.
    numbers : sequence of float
        Passed as `real`.
    sizes : sequence of int
        Of the arrays, for CUDA, which counts what is in one pair or job in 32 bits.
    blocks : tuple of int
        The grid of blocks, for CUDA.
    scratch : int
        Numbers of type `real` that every block needs to itself, for CUDA: an array after the
        outputs, or nothing there where they fit into a block's own memory. Such a block does a job.
    parallel : bool
        Whether numba may use several threads. Where there is less than a millisecond of work they
        gain little, and cost much as soon as something else wants the other cores.
    """
    kind = outputs[0].dtype.type
    numbers = [kind(x) for x in numbers]
    if on_device(outputs[0]):
        if 3 * blocks[0] * THREADS > MOST_COUNTED and not scratch:
            raise ValueError(
                f"a grid of {blocks[0] * THREADS} points is more than a GPU's kernels count "
                f"({MOST_COUNTED // 3}): use set_backend('numpy')"
            )
        source = device_source(package, "double" if kind is np.float64 else "float")
        arguments = [*inputs, *numbers, *(np.int32(n) for n in sizes), *outputs]
        threads, shared = (JOB_THREADS if scratch else THREADS), scratch * kind().itemsize
        if shared > SHARED_BYTES:
            arguments.append(array_module(outputs[0]).empty((blocks[0], scratch), dtype=kind))
            shared = 0
        elif scratch:
            arguments.append(np.uintp(0))
        device_kernel(source, name)(blocks, (threads,), tuple(arguments), shared_mem=shared)
        return
    kernels = importlib.import_module(f"{package}.kernels")  # numba takes half a second to import
    if backend_of(outputs[0]) == "guard":
        count(name)
        _check_types(package, name, [*inputs, *outputs], kind)
        inputs, outputs = [for_kernel(a) for a in inputs], [for_kernel(a) for a in outputs]
    kernel = getattr(kernels, name)
    if parallel:
        kernel(*inputs, *numbers, *outputs)
        return
    import numba  # loaded with the kernels

    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        kernel(*inputs, *numbers, *outputs)
    finally:
        numba.set_num_threads(threads)


def voxel_blocks(count, pairs=1):
    """Blocks for a thread to a voxel."""
    return ((count + THREADS - 1) // THREADS, pairs)

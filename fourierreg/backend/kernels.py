"""Launch a compiled kernel where its arrays live: numba on the host, CUDA on a GPU.

Every kernel is implemented twice in its folder, in ``kernels.py`` (numba) and in ``kernels.cu``
(CUDA C), with the same name and order of arguments: inputs, scalars, sizes (CUDA only), outputs.
"""

import functools
import importlib
import os
import re
import sys
import threading
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from fourierreg.backend import Array, array_module, backend_of, on_device
from fourierreg.backend.mock_device import count, kernel_array
from fourierreg.errors import BackendUnavailableError, InputError

THREADS = 256  # threads per block of a kernel with one thread per voxel
JOB_THREADS = 512  # threads per block of a kernel with one block per job (128 registers each)
SHARED_BYTES = 48 * 1024  # shared memory that every GPU offers a block
MAX_INDEX = 2**31 - 1  # kernels index a vector field with 32 bits
PARALLEL_SIZE = 500_000  # elements of an array on a small grid above which multithreading pays


@functools.cache
def device_source(package: str, real: str) -> str:
    """CUDA C of the kernels of a package for `real` ("float" or "double")."""
    header = resources.files("fourierreg.backend").joinpath("device.h").read_text()
    body = resources.files(package).joinpath("kernels.cu").read_text()
    return f"#define real {real}\n{header}\n{body}"


@functools.cache
def kernel_parameters(package: str, name: str) -> dict[str, str]:
    """C type of each parameter of a CUDA kernel, in order, without `const`."""
    body = resources.files(package).joinpath("kernels.cu").read_text()
    signature = re.search(rf"FOURIERREG_KERNEL {name}\(([^)]*)\)", body)
    if signature is None:
        raise LookupError(f"{package} has no CUDA kernel {name!r}")
    parameters = {}
    for declaration in signature[1].split(","):
        kind, parameter = re.findall(r"^\s*(?:const )?(.*?)(\w+)\s*$", declaration)[0]
        parameters[parameter] = kind.strip()
    return parameters


def _check_dtypes(package: str, name: str, arrays: Sequence[Array], real: type) -> None:
    """Raise a TypeError where a dtype differs from the declaration, which a GPU would misread."""
    dtypes = {"real *": real, "double *": np.float64, "long long *": np.int64}
    pointers = {
        parameter: dtypes[kind]
        for parameter, kind in kernel_parameters(package, name).items()
        if kind.endswith("*") and parameter != "scratch"
    }
    for (parameter, dtype), array in zip(pointers.items(), arrays, strict=True):
        if array.dtype != dtype:
            raise TypeError(f"{parameter} of {name}: expected {np.dtype(dtype)}, got {array.dtype}")


def device_kernel(source: str, name: str) -> Any:
    """The compiled CUDA kernel `name` of a source."""
    from fourierreg.backend import _cupy

    return _cupy.device_kernel(source, name)


def launch(
    package: str,
    name: str,
    inputs: Sequence[Array],
    scalars: Sequence[float],
    outputs: Sequence[Array],
    *,
    sizes: Sequence[int],
    blocks: tuple[int, ...],
    scratch: int = 0,
    parallel: bool = True,
) -> None:
    """Run a kernel on the backend of its arrays.

    Parameters
    ----------
    package, name : str
        Package whose ``kernels`` define the kernel, and the kernel's name.
    inputs, outputs : sequences of contiguous arrays
        The dtype of the first output is `real` in the kernel.
    scalars : sequence of float
        Passed as `real`.
    sizes : sequence of int
        Array sizes (CUDA only).
    blocks : tuple of int
        Grid of blocks (CUDA only).
    scratch : int
        Elements of type `real` of scratch memory per block (CUDA only): in shared memory where
        they fit, else in an array that is passed after the outputs. A kernel with scratch runs one
        block per job.
    parallel : bool
        Whether numba may use several threads. For less than a millisecond of work they gain
        little, and they are slow when another process needs the cores.

    Raises
    ------
    InputError
        The grid has more points than a GPU's kernels can index.
    """
    kind = outputs[0].dtype.type
    scalars = [kind(x) for x in scalars]
    if on_device(outputs[0]):
        arguments = [*inputs, *scalars, *(np.int32(n) for n in sizes), *outputs]
        _launch_cuda(package, name, arguments, outputs[0], blocks, scratch)
        return
    if backend_of(outputs[0]) == "mock":
        count(name)
        _check_dtypes(package, name, [*inputs, *outputs], kind)
        inputs, outputs = [kernel_array(a) for a in inputs], [kernel_array(a) for a in outputs]
    _run_numba(package, name, [*inputs, *scalars, *outputs], parallel)


def _launch_cuda(
    package: str,
    name: str,
    arguments: list[Any],
    output: Array,
    blocks: tuple[int, ...],
    scratch: int,
) -> None:
    """Launch a CUDA kernel, with its scratch in shared memory or in a new array."""
    kind = output.dtype.type
    if 3 * blocks[0] * THREADS > MAX_INDEX and not scratch:
        raise InputError(
            f"image: expected at most {MAX_INDEX // 3} points, which is what a GPU's kernels can "
            f"index; got {blocks[0] * THREADS}: use set_backend('numpy')"
        )
    source = device_source(package, "double" if kind is np.float64 else "float")
    threads, shared = (JOB_THREADS if scratch else THREADS), scratch * kind().itemsize
    if shared > SHARED_BYTES:
        arguments.append(array_module(output).empty((blocks[0], scratch), dtype=kind))
        shared = 0
    elif scratch:
        arguments.append(np.uintp(0))
    device_kernel(source, name)(blocks, (threads,), tuple(arguments), shared_mem=shared)


_process: int | None = None  # in which numba's threads run
# Numba's own thread pool, "workqueue", ends the process where two threads start a kernel at once.
_turn = threading.RLock()


def _new_turn() -> None:
    """Free the lock in a fork, where the thread that had it does not exist."""
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_turn)


def _run_numba(package: str, name: str, arguments: list[Any], parallel: bool) -> None:
    """Run a numba kernel, on one thread or on all."""
    kernels = importlib.import_module(f"{package}.kernels")  # numba takes half a second to import
    kernel = getattr(kernels, name)
    import numba  # loaded with the kernels

    if _process != os.getpid():
        _enter_process(numba)
    with _turn:
        if parallel:
            kernel(*arguments)
            return
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            kernel(*arguments)
        finally:
            numba.set_num_threads(threads)


def _enter_process(numba: Any) -> None:
    """Check that threads can be started here, before numba would end the process without a word.

    Raises
    ------
    BackendUnavailableError
        The process is a fork of one whose OpenMP threads were running: GNU's OpenMP cannot go on.
    """
    global _process
    forked = _process is not None
    if forked and sys.platform == "linux" and numba.threading_layer() == "omp":
        raise BackendUnavailableError(
            "fourierreg was used before this process was forked, and OpenMP cannot go on in a "
            "fork: start processes with multiprocessing.get_context('spawn') or 'forkserver', or "
            "with joblib or Dask; or set NUMBA_THREADING_LAYER=workqueue before Python starts"
        )
    _process = os.getpid()


def voxel_blocks(count: int, pairs: int = 1) -> tuple[int, int]:
    """Grid of blocks with one thread per voxel of every pair."""
    return ((count + THREADS - 1) // THREADS, pairs)

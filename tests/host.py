"""CUDA C compiled by the host compiler, for tests without a GPU.

The macros of `fourierreg/backend/device.h` are defined here for the host. A kernel with one thread
per voxel runs as a loop. In a kernel with one block per job, a job runs on four OpenMP threads,
which share its loops as the threads of a block do and synchronize where these do, so that a missing
FOURIERREG_SYNC shows. Grids with too few blocks, and jobs that need more scratch than they are
given, are detected (`LAUNCH_ERRORS`).
"""

import ctypes
import functools
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

from fourierreg.backend import kernels as launch

DTYPES = {"float": np.float32, "double": np.float64}
UNLIMITED = 2**40  # blocks or scratch, where a test does not check them
GUARD = 2**15  # elements after the scratch, which no job may write
MACROS = {
    "FOURIERREG_KERNEL": "void",
    "FOURIERREG_INLINE": "static inline",
    "FOURIERREG_VOXEL(pairs, count)": "HOST_CHECK_BLOCKS(count, host_blocks * host_threads) "
    "HOST_CHECK_BLOCKS(pairs, host_rows) for (long long pair = 0; pair < (pairs); pair++) "
    "for (int voxel = 0; voxel < (count); voxel++) {",
    "FOURIERREG_END": "}",
    "FOURIERREG_JOB(count)": "HOST_CHECK_BLOCKS(count, host_blocks) "
    "for (long long job = 0; job < (count); job++) "
    '_Pragma("omp parallel num_threads(THREADS)") {',
    "FOURIERREG_END_JOB": "}",
    "FOURIERREG_PARALLEL_FOR(i, count)": '_Pragma("omp for schedule(static, 1) nowait") '
    "for (int i = 0; i < (count); i++)",
    "FOURIERREG_SCRATCH(size)": "(scratch + host_scratch_offset(job, size))",
    "FOURIERREG_SYNC": '_Pragma("omp barrier")',
}
LAUNCH_STATE = ("host_blocks", "host_rows", "host_threads", "host_scratch", "host_errors")
LAUNCH_ERRORS = {1: "fewer blocks than work needs", 2: "less scratch than a job needs"}
PREFIX = f"""#include <math.h>
long long {", ".join(LAUNCH_STATE)};
#define HOST_CHECK_BLOCKS(needed, given) if ((needed) > (given)) host_errors |= 1;
static inline long long host_scratch_offset(long long job, long long size)
{{
    if (size > host_scratch) host_errors |= 2;
    return job * size;
}}
"""


def compiled(package, real, folder, threads=4):
    """Library of the kernels of a package for one precision, with this many threads per job."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no host compiler")
    source, library = folder / "kernels.c", folder / "kernels.so"
    body = resources.files(package).joinpath("kernels.cu").read_text()
    source.write_text(PREFIX + body)
    macros = {"real": real, "THREADS": threads, **MACROS}
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-shared", "-fPIC"]
    command = [compiler, *flags, *defines, str(source), "-o", str(library), "-lm"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return ctypes.CDLL(str(library))


def run(library, name, arguments, blocks, threads, scratch):
    """Run a compiled kernel on a grid of blocks with this much scratch per block; assert that
    both suffice."""
    for variable, value in zip(LAUNCH_STATE, (*blocks, threads, scratch, 0), strict=True):
        ctypes.c_longlong.in_dll(library, variable).value = value
    getattr(library, name)(*arguments)
    errors = ctypes.c_longlong.in_dll(library, "host_errors").value
    assert not errors, f"{name}: {LAUNCH_ERRORS.get(errors, LAUNCH_ERRORS)}"


def nan_filled(shape, dtype):
    """Array of NaN, for outputs that a kernel must write completely."""
    return np.full(shape, np.nan, dtype)


def call(library, name, inputs, sizes, outputs, scalars=(), scratch=0):
    """Call a kernel with the arguments of a device: inputs, scalars, sizes, outputs, scratch."""
    real = ctypes.c_float if outputs[0].dtype == np.float32 else ctypes.c_double
    memory = nan_filled(scratch + GUARD, outputs[0].dtype)
    if scratch:
        outputs = [*outputs, memory]
    arrays = [[ctypes.c_void_p(a.ctypes.data) for a in group] for group in (inputs, outputs)]
    arguments = (*arrays[0], *map(real, scalars), *map(ctypes.c_int, sizes), *arrays[1])
    run(library, name, arguments, (UNLIMITED, UNLIMITED), 1, UNLIMITED)
    assert np.all(np.isnan(memory[scratch:])), f"{name} writes beyond its scratch"


def emulate_cuda(monkeypatch, folder):
    """Make `launch` run the CUDA C, compiled by the host compiler, on NumPy arrays.

    The types, blocks and scratch of every call are checked against the kernel's declaration.
    Returns a set that collects (package, kernel) of every kernel that runs.
    """
    library = functools.cache(lambda package, real: compiled(package, real, folder(package), 1))
    launched = set()

    def kernel(source, name):
        package, real = source
        parameters = launch.kernel_parameters(package, name)

        def run_on_host(blocks, threads, arguments, *, shared_mem):
            assert shared_mem <= launch.SHARED_BYTES
            blocks = (*blocks, 1)[:2]
            assert blocks[1] < 65536
            scratch = shared_mem // DTYPES[real]().itemsize  # per block
            memory = nan_filled(blocks[0] * scratch + GUARD, DTYPES[real])
            converted = []
            for argument, (parameter, kind) in zip(arguments, parameters.items(), strict=True):
                if isinstance(argument, np.uintp):  # a null pointer: use shared memory
                    assert parameter == "scratch"
                    argument = memory
                elif parameter == "scratch":
                    scratch = argument.shape[1]
                converted.append(as_c(argument, parameter, kind, real))
            run(library(package, real), name, converted, blocks, threads[0], scratch)
            assert np.all(np.isnan(memory[-GUARD:])), f"{name} writes beyond its scratch"
            launched.add((package.rpartition(".")[2], name))

        return run_on_host

    monkeypatch.setattr(launch, "on_device", lambda array: True)
    monkeypatch.setattr(launch, "device_source", lambda package, real: (package, real))
    monkeypatch.setattr(launch, "device_kernel", kernel)
    return launched


def as_c(argument, parameter, kind, real):
    """Convert an argument to C; assert that it has the declared type."""
    plain = kind.removesuffix(" *")
    dtypes = {"long long": np.int64, "int": np.int32, "real": DTYPES[real], "double": np.float64}
    dtype = dtypes[plain]
    if not kind.endswith("*"):
        assert isinstance(argument, dtype), f"{kind} from {type(argument)}"
        scalar = {"f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int}
        return scalar[argument.dtype.char](argument.item())
    assert argument.dtype == dtype, f"{kind} from {argument.dtype}"
    flags = argument.flags  # `contract_rows` takes the strides of its matrix
    assert flags.c_contiguous or (parameter == "matrix" and flags.f_contiguous)
    return ctypes.c_void_p(argument.ctypes.data)


def compiled_fixture(package):
    """Fixture for a test module: (library, dtype) of the kernels of a package, per precision."""

    @pytest.fixture(scope="module", params=DTYPES)
    def library_and_dtype(request, tmp_path_factory):
        library = compiled(package, request.param, tmp_path_factory.mktemp("kernels"))
        return library, DTYPES[request.param]

    return library_and_dtype


def random(shape, dtype, seed=0):
    """Standard normal random numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)

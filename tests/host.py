"""CUDA C compiled by the host compiler.

The words of `fourierreg/device.h` are defined here for the host: one thread takes all voxels; a job
has four threads (OpenMP), which share its loops as the threads of a block do, and wait where those
wait, so that a wait that is missing shows. Blocks that do not do all of the work, and scratch that
is less than a job takes, are noted (`WRONG`).
"""

import ctypes
import functools
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

from fourierreg.backend import kernels as launch

TYPES = {"float": np.float32, "double": np.float64}
MANY = 2**40
BEYOND = 2**15  # numbers after the scratch, that no job may touch
WORDS = {
    "FOURIERREG_KERNEL": "void",
    "FOURIERREG_INLINE": "static inline",
    "FOURIERREG_VOXEL(pairs, count)": "HOST_ENOUGH(count, host_blocks * host_threads) "
    "HOST_ENOUGH(pairs, host_rows) for (long long pair = 0; pair < (pairs); pair++) "
    "for (int voxel = 0; voxel < (count); voxel++) {",
    "FOURIERREG_END": "}",
    "FOURIERREG_JOB(count)": "HOST_ENOUGH(count, host_blocks) "
    "for (long long job = 0; job < (count); job++) "
    '_Pragma("omp parallel num_threads(THREADS)") {',
    "FOURIERREG_END_JOB": "}",
    "FOURIERREG_PARALLEL_FOR(i, count)": '_Pragma("omp for schedule(static, 1) nowait") '
    "for (int i = 0; i < (count); i++)",
    "FOURIERREG_SCRATCH(size)": "(scratch + host_room(job, size))",
    "FOURIERREG_SYNC": '_Pragma("omp barrier")',
}


SAID = ("host_blocks", "host_rows", "host_threads", "host_scratch", "host_wrong")
NOTES = f"""#include <math.h>
long long {", ".join(SAID)};
#define HOST_ENOUGH(count, most) if ((count) > (most)) host_wrong |= 1;
static inline long long host_room(long long job, long long size)
{{
    if (size > host_scratch) host_wrong |= 2;
    return job * size;
}}
"""
WRONG = {1: "fewer blocks than there is work for", 2: "less scratch than a job takes"}


def compiled(package, real, folder, threads=4):
    """The kernels of a package for one precision, as a library, with so many threads to a job."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no host compiler")
    source, library = folder / "kernels.c", folder / "kernels.so"
    body = resources.files(package).joinpath("kernels.cu").read_text()
    source.write_text(NOTES + body)
    defines = [
        f"-D{name}={value}" for name, value in {"real": real, "THREADS": threads, **WORDS}.items()
    ]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-shared", "-fPIC"]
    command = [compiler, *flags, *defines, str(source), "-o", str(library), "-lm"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return ctypes.CDLL(str(library))


def run(library, name, arguments, blocks, threads, scratch):
    """A compiled kernel, by as many blocks as a GPU would have, with so much scratch for each."""
    for word, value in zip(SAID, (*blocks, threads, scratch, 0), strict=True):
        ctypes.c_longlong.in_dll(library, word).value = value
    getattr(library, name)(*arguments)
    wrong = ctypes.c_longlong.in_dll(library, "host_wrong").value
    assert not wrong, f"{name}: {WRONG.get(wrong, WRONG)}"


def unwritten(shape, dtype):
    """Room for what a kernel gives, with nothing in it."""
    return np.full(shape, np.nan, dtype)


def call(library, name, inputs, sizes, outputs, numbers=(), scratch=0):
    """A kernel as `launch` calls it on the device: inputs, numbers, sizes, outputs, scratch."""
    real = ctypes.c_float if outputs[0].dtype == np.float32 else ctypes.c_double
    room = unwritten(scratch + BEYOND, outputs[0].dtype)
    if scratch:
        outputs = [*outputs, room]
    arrays = [[ctypes.c_void_p(a.ctypes.data) for a in group] for group in (inputs, outputs)]
    arguments = (*arrays[0], *map(real, numbers), *map(ctypes.c_int, sizes), *arrays[1])
    run(library, name, arguments, (MANY, MANY), 1, MANY)
    assert np.all(np.isnan(room[scratch:])), f"{name} writes beyond its scratch"


def stand_in(monkeypatch, folder):
    """Have `launch` run NumPy arrays through the CUDA C, which the host compiler has compiled.

    What a kernel is given is held against what it asks for: types, blocks, scratch. Returns a set
    that is filled with the packages and names of those that ran.
    """
    library = functools.cache(lambda package, real: compiled(package, real, folder(package), 1))
    ran = set()

    def kernel(source, name):
        package, real = source
        asked = launch.parameters(package, name)

        def device(blocks, threads, arguments, *, shared_mem):
            assert shared_mem <= launch.SHARED_BYTES
            blocks = (*blocks, 1)[:2]
            assert blocks[1] < 65536
            scratch = shared_mem // TYPES[real]().itemsize  # of one block
            room = unwritten(blocks[0] * scratch + BEYOND, TYPES[real])
            given = []
            for argument, (parameter, kind) in zip(arguments, asked.items(), strict=True):
                if isinstance(argument, np.uintp):  # nothing: the block's own memory
                    assert parameter == "scratch"
                    argument = room
                elif parameter == "scratch":
                    scratch = argument.shape[1]
                given.append(passed(argument, parameter, kind, real))
            run(library(package, real), name, given, blocks, threads[0], scratch)
            assert np.all(np.isnan(room[-BEYOND:])), f"{name} writes beyond its scratch"
            ran.add((package.rpartition(".")[2], name))

        return device

    monkeypatch.setattr(launch, "on_device", lambda array: True)
    monkeypatch.setattr(launch, "device_source", lambda package, real: (package, real))
    monkeypatch.setattr(launch, "device_kernel", kernel)
    return ran


def passed(argument, parameter, kind, real):
    """An argument as C takes it, if it is of that kind."""
    plain = kind.removesuffix(" *")
    dtype = {"long long": np.int64, "int": np.int32, "real": TYPES[real], "double": np.float64}[
        plain
    ]
    if not kind.endswith("*"):
        assert isinstance(argument, dtype), f"{kind} from {type(argument)}"
        return {"f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int}[argument.dtype.char](
            argument.item()
        )
    assert argument.dtype == dtype, f"{kind} from {argument.dtype}"
    flags = argument.flags  # `contract_rows` is told the axes of its matrix
    assert flags.c_contiguous or (parameter == "matrix" and flags.f_contiguous)
    return ctypes.c_void_p(argument.ctypes.data)


def compiled_fixture(package):
    """A fixture of a test module: (library, dtype) of the kernels of a package, per precision."""

    @pytest.fixture(scope="module", params=TYPES)
    def both(request, tmp_path_factory):
        return compiled(package, request.param, tmp_path_factory.mktemp("kernels")), TYPES[
            request.param
        ]

    return both


def random(shape, dtype, seed=0):
    """Normal numbers of a type."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)

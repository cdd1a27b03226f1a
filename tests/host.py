"""CUDA C compiled by the host compiler.

The words of `fourierreg/device.h` are defined here for the host: one thread takes all voxels; a job
has four threads (OpenMP), which share its loops as the threads of a block do, and wait where those
wait, so that a wait that is missing shows.
"""

import ctypes
import functools
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

from fourierreg import launch

TYPES = {"float": np.float32, "double": np.float64}
BEYOND = 64  # numbers after the scratch, that no job may touch
WORDS = {
    "FOURIERREG_KERNEL": "void",
    "FOURIERREG_INLINE": "static inline",
    "FOURIERREG_VOXEL(pairs, count)": "for (long long pair = 0; pair < (pairs); pair++) "
    "for (int voxel = 0; voxel < (count); voxel++) {",
    "FOURIERREG_END": "}",
    "FOURIERREG_JOB(count)": "for (long long job = 0; job < (count); job++) "
    '_Pragma("omp parallel num_threads(THREADS)") {',
    "FOURIERREG_DONE": "}",
    "FOURIERREG_EACH(i, count)": '_Pragma("omp for schedule(static, 1) nowait") '
    "for (int i = 0; i < (count); i++)",
    "FOURIERREG_SCRATCH(size)": "(scratch + job * (size))",
    "FOURIERREG_WAIT": '_Pragma("omp barrier")',
}


def compiled(package, real, folder, threads=4):
    """The kernels of a package for one precision, as a library, with so many threads to a job."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no host compiler")
    source, library = folder / "kernels.c", folder / "kernels.so"
    body = resources.files(package).joinpath("kernels.cu").read_text()
    source.write_text(f"#include <math.h>\n{body}")
    defines = [
        f"-D{name}={value}" for name, value in {"real": real, "THREADS": threads, **WORDS}.items()
    ]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-shared", "-fPIC"]
    command = [compiler, *flags, *defines, str(source), "-o", str(library), "-lm"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return ctypes.CDLL(str(library))


def call(library, name, inputs, sizes, outputs, numbers=(), scratch=0):
    """A kernel as `launch` calls it on the device: inputs, numbers, sizes, outputs, scratch."""
    real = ctypes.c_float if outputs[0].dtype == np.float32 else ctypes.c_double
    room = np.full(scratch + BEYOND, np.nan, outputs[0].dtype)
    if scratch:
        outputs = [*outputs, room]
    arrays = [[ctypes.c_void_p(a.ctypes.data) for a in group] for group in (inputs, outputs)]
    plain = [real(x) for x in numbers]
    getattr(library, name)(*arrays[0], *plain, *map(ctypes.c_int, sizes), *arrays[1])
    assert np.all(np.isnan(room[scratch:])), f"{name} writes beyond its scratch"


def stand_in(monkeypatch, folder):
    """Have `launch` run NumPy arrays through the CUDA C, which the host compiler has compiled.

    What a kernel is given is held against what it asks for. Returns a set that is filled with the
    names of those that ran.
    """
    library = functools.cache(lambda package, real: compiled(package, real, folder(package), 1))
    ran = set()

    def kernel(source, name):
        package, real = source
        asked = launch.parameters(package, name).values()

        def run(blocks, threads, arguments, *, shared_mem):
            assert len(blocks) <= 2
            assert len(threads) == 1
            assert shared_mem <= launch.SHARED_BYTES
            ran.add(name)
            given, room = [], None
            for argument, kind in zip(arguments, asked, strict=True):
                if kind == "real *" and isinstance(argument, np.uintp):  # of the block's own memory
                    assert shared_mem > 0
                    room = np.full(blocks[0] * shared_mem // TYPES[real]().itemsize, np.nan)
                    room = room.astype(TYPES[real])
                given.append(passed(argument if room is None else room, kind, real))
            getattr(library(package, real), name)(*given)

        return run

    monkeypatch.setattr(launch, "on_device", lambda array: True)
    monkeypatch.setattr(launch, "device_source", lambda package, real: (package, real))
    monkeypatch.setattr(launch, "device_kernel", kernel)
    return ran


def passed(argument, kind, real):
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
    by_stride = np.argsort(argument.strides, kind="stable")[::-1]
    assert argument.transpose(by_stride).flags.c_contiguous  # `contract` is told its axes
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

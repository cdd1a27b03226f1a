"""CUDA C compiled by the host compiler.

The words of `fourierreg/device.h` are defined here for the host: one thread takes all voxels; a job
has four threads (OpenMP), which share its loops as the threads of a block do, and wait where those
wait, so that a wait that is missing shows.
"""

import ctypes
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

TYPES = {"float": np.float32, "double": np.float64}
WORDS = {
    "FOURIERREG_KERNEL": "void",
    "FOURIERREG_INLINE": "static inline",
    "FOURIERREG_VOXEL(pairs, count)": "for (long long pair = 0; pair < (pairs); pair++) "
    "for (int voxel = 0; voxel < (count); voxel++) {",
    "FOURIERREG_END": "}",
    "FOURIERREG_JOB(count)": "for (long long job = 0; job < (count); job++) "
    '_Pragma("omp parallel num_threads(4)") {',
    "FOURIERREG_DONE": "}",
    "FOURIERREG_EACH(i, count)": '_Pragma("omp for schedule(static, 1) nowait") '
    "for (int i = 0; i < (count); i++)",
    "FOURIERREG_WAIT": '_Pragma("omp barrier")',
}


def compiled(package, real, folder):
    """The kernels of a package for one precision, as a library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no host compiler")
    source, library = folder / "kernels.c", folder / "kernels.so"
    body = resources.files(package).joinpath("kernels.cu").read_text()
    source.write_text(f"#include <math.h>\n{body}")
    defines = [f"-D{name}={value}" for name, value in {"real": real, **WORDS}.items()]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-shared", "-fPIC"]
    command = [compiler, *flags, *defines, str(source), "-o", str(library), "-lm"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return ctypes.CDLL(str(library))


def call(library, name, inputs, sizes, outputs, numbers=(), scratch=0):
    """A kernel as `launch` calls it on the device: inputs, numbers, sizes, outputs, scratch."""
    real = ctypes.c_float if outputs[0].dtype == np.float32 else ctypes.c_double
    if scratch:
        outputs = [*outputs, np.full(scratch, np.nan, outputs[0].dtype)]
    arrays = [[ctypes.c_void_p(a.ctypes.data) for a in group] for group in (inputs, outputs)]
    plain = [real(x) for x in numbers]
    getattr(library, name)(*arrays[0], *plain, *map(ctypes.c_int, sizes), *arrays[1])


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

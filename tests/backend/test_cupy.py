"""CuPy without a GPU: it has all functions that are called, and CUDA's compiler accepts the
kernels."""

import ast
import inspect
import operator
from pathlib import Path

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import kernels as launch
from fourierreg.backend.kernels import device_source

PACKAGE = Path(fourierreg.__file__).parent
NAMESPACES = ("xp", "array_module", "active_module")
KERNELS = tuple(f"fourierreg.{name}" for name in ("spectral", "geodesic", "image", "optim"))
ARCHITECTURES = (75, 80, 90)


@pytest.fixture(scope="module")
def cupy():
    """CuPy, which can be imported without a GPU; skips where it is not installed."""
    return pytest.importorskip("cupy")


def calls(tree):
    """Calls of the array namespace in a syntax tree: dotted name, number of positional arguments,
    keywords."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        names, at = [], node.func
        while isinstance(at, ast.Attribute):
            names.insert(0, at.attr)
            at = at.value
        root = at.func if isinstance(at, ast.Call) else at
        if names and isinstance(root, ast.Name) and root.id in NAMESPACES:
            count = sum(not isinstance(a, ast.Starred) for a in node.args)
            yield ".".join(names), count, tuple(k.arg for k in node.keywords)


def all_calls():
    """`calls` of the whole package."""
    return sorted({c for path in PACKAGE.rglob("*.py") for c in calls(ast.parse(path.read_text()))})


def call_error(namespace, name, count, keywords):
    """Why a namespace cannot be called with these arguments, or None."""
    function = namespace
    for part in name.split("."):
        function = getattr(function, part, None)
        if function is None:
            return "is missing"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a ufunc has no signature
        return None if set(keywords) <= {"out", "dtype"} else "is a ufunc"
    try:
        signature.bind_partial(*[None] * count, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error)
    return None


def test_the_check_finds_wrong_calls(cupy):
    tree = ast.parse("xp.sum(a, axis=0, keepdims=True)\nxp.linalg.inv(a)\nxp.unwrap_(a)\nf.g(x)")
    assert len(list(calls(tree))) == 3
    assert call_error(cupy, "sum", 1, ("axis",)) is None
    assert call_error(cupy, "sum", 1, ("along",))
    assert call_error(cupy, "unwrap_", 1, ())
    assert call_error(cupy, "sqrt", 1, ("along",))


def test_cupy_has_every_function_that_is_called(cupy):
    package_calls = all_calls()
    assert len({name for name, *_ in package_calls}) > 30
    errors = {call: call_error(cupy, *call) for call in package_calls}
    assert {call: error for call, error in errors.items() if error} == {}


def cuda_names():
    """Names of `cupy.cuda` that `fourierreg.backend` uses."""
    for module in ("__init__", "_cupy", "graphs"):
        for node in ast.walk(ast.parse((PACKAGE / "backend" / f"{module}.py").read_text())):
            names, at = [], node
            while isinstance(at, ast.Attribute):
                names.insert(0, at.attr)
                at = at.value
            names = [at.id, *names] if isinstance(at, ast.Name) else names  # or _cupy().cuda…
            if names[:1] == ["cuda"] and names[1:]:
                yield ".".join(names[1:])


def test_cupy_has_every_name_of_cuda_that_is_used(cupy):
    names = set(cuda_names())
    assert {"MemoryPool", "Stream", "using_allocator", "runtime.getDevice"} <= names
    assert all(operator.attrgetter(name)(cupy.cuda) for name in names)
    for name in ("begin_capture", "end_capture", "wait_event", "record"):
        assert hasattr(cupy.cuda.Stream, name)
    assert hasattr(cupy.cuda.Graph, "launch")


def test_grids_beyond_32_bit_indices_are_refused(monkeypatch):
    monkeypatch.setattr(launch, "on_device", lambda array: True)
    blocks = launch.voxel_blocks(900**3)
    with pytest.raises(ValueError, match=r"image: expected at most 715827882 .*set_backend"):
        launch.launch("fourierreg.image", "x", [], [], [np.zeros(1)], sizes=(), blocks=blocks)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("package", KERNELS)
def test_kernels_compile_for_every_architecture(cupy, package, real, architecture):
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
    try:
        nvrtc.getVersion()
    except RuntimeError as error:  # the compiler is a separate package
        pytest.skip(str(error))
    program = nvrtc.createProgram(device_source(package, real), "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, [f"-arch=sm_{architecture}", "--std=c++17"])
        assert nvrtc.getProgramLog(program).strip("\n\0 ") == ""  # no warnings
        code = nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)
    names = [
        line.split("(")[0].split()[-1]
        for line in device_source(package, real).splitlines()
        if line.startswith("FOURIERREG_KERNEL ")
    ]
    assert names
    assert all(f".text.{name}\0".encode() in code for name in names)

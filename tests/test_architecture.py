"""The shape of the code: dependencies point down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fourierreg

PACKAGE = Path(fourierreg.__file__).parent
MAX_LINES, MAX_BODY = 300, 50  # of a file; of a function without signature and docstring

# Bottom to top. A name stands for a module or a folder; those of one set may know each other.
LAYERS = (
    {"errors", "atomic"},
    {"backend"},
    {"checks"},
    {"spectral"},
    {"geodesic", "image"},
    {"optim"},
    {"model"},
    {"registration"},
    {"data"},
    {"preparation", "simulation"},
    {"labelling"},
    {"learning"},
    {"plotting"},
    {"results"},
    {"bids"},
    {"cli", "__main__"},
)
# Folders that know nothing of each other, or of what lies below: who must not import what.
STRANGERS = {
    ("image", "geodesic"),
    ("geodesic", "image"),
    ("preparation", "simulation"),
    ("simulation", "preparation"),
    *(("optim", part) for part in ("checks", "spectral", "geodesic", "image")),
    *(("data", part) for part in ("geodesic", "model", "registration", "optim")),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(name):
    """Height of a module or folder; the package's own `__init__` (version, lazy names) is at 0."""
    if name == "__init__":
        return 0
    for height, layer in enumerate(LAYERS):
        if name in layer:
            return height
    raise AssertionError(f"{name}: in no layer; add it to LAYERS where it belongs")


def part_of(path):
    """First component of a file's place in the package: `spectral`, `backend`, …"""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_parts(tree, path):
    """Parts of the package a syntax tree imports, in functions too, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, _, rest = name.partition(".")
            if root == "fourierreg":
                part = rest.partition(".")[0]
                known = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
                yield (part if part and known else "__init__"), node.lineno


def violations(tree, path):
    """Arrows that point up, or at a stranger."""
    here = part_of(path)
    for part, line in imported_parts(tree, path):
        if layer_of(part) > layer_of(here) or (here, part) in STRANGERS:
            yield f"{here} ({path.name}:{line}) imports {part}"


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_dependencies_point_down(path):
    assert not list(violations(ast.parse(path.read_text()), path))


@pytest.mark.parametrize(
    ("place", "line", "allowed"),
    [
        ("spectral/band.py", "from fourierreg.backend import array_module", True),
        ("spectral/band.py", "from fourierreg.geodesic import lie", False),
        ("spectral/band.py", "from fourierreg import image", False),
        ("spectral/band.py", "def f():\n    import fourierreg.image.voxels", False),
        ("geodesic/lie.py", "from fourierreg.image.voxels import resample", False),
        ("image/voxels.py", "from fourierreg.geodesic import lie", False),
        ("backend.py", "from fourierreg.backend import mock_device", True),
        ("backend/graphs.py", "from fourierreg.spectral import band", False),
        ("results/folder.py", "from fourierreg import __version__, atomic", True),
        ("registration/fit.py", "from fourierreg.cli import main", False),
        ("model/problem.py", "from fourierreg.registration import fit", False),
        ("optim/lbfgs.py", "from fourierreg.image import voxels", False),
    ],
)
def test_the_check_itself(place, line, allowed):
    assert (not list(violations(ast.parse(line), PACKAGE / place))) is allowed


def mentions(tree, word):
    """Lines on which code, not prose, imports or names `word`."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Call):  # importlib.import_module("cupy")
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if called in ("import_module", "find_spec"):
                names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
        if any(name.split(".")[0] == word for name in names):
            yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_one_file_names_cupy(path):
    # The word may stand elsewhere as the name of a backend; the library may not.
    lines = list(mentions(ast.parse(path.read_text()), "cupy"))
    assert bool(lines) == (path.name == "_cupy.py"), lines


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def body_length(function):
    """Lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_functions_are_short(path):
    functions = [f for f in ast.walk(ast.parse(path.read_text())) if isinstance(f, ast.FunctionDef)]
    assert {f.name: body_length(f) for f in functions if body_length(f) > MAX_BODY} == {}


def test_results_load_without_what_computes_them():
    """`Registration.load` imports neither a solver nor the compiler."""
    code = (
        "import sys, fourierreg; fourierreg.Registration; "
        "ours = ('fourierreg.registration.result', 'fourierreg.registration.older_formats'); "
        "heavy = ('fourierreg.optim', 'fourierreg.registration.', 'scipy.optimize', 'numba'); "
        "print([m for m in sys.modules if m.startswith(heavy) and m not in ours])"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_every_module_has_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text()))

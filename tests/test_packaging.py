"""Wheel and source distribution: complete, valid, and able to register in an empty environment."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import fourierreg
from tests.brains import write_pair

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fourierreg"


def run(*command, **options):
    """Standard output of a command, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Paths of the wheel and the source distribution, built from the tracked files."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    archive = folder / "tracked.tar"
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    with tarfile.open(archive, "w") as tar:
        for name in listed:
            if (ROOT / name).is_file():
                tar.add(ROOT / name, name)
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    run(sys.executable, "-m", "build", "--no-isolation", "-o", str(folder), str(source))
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_metadata_are_valid(distributions):
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions))


def test_the_wheel_has_every_file_of_the_package_and_no_other(distributions):
    with zipfile.ZipFile(distributions[0]) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == expected


def test_the_source_distribution_has_what_its_tests_need(distributions):
    with tarfile.open(distributions[1]) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("tests/laws.py", "tutorials/04_alpha.ipynb", "benchmarks/tables.py", "README.md"):
        assert name in found
    assert not any("/generated/" in name for name in found)


@pytest.mark.slow
def test_the_wheel_registers_in_an_empty_environment(distributions, tmp_path):
    """With its own dependencies only, outside the repository."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", str(environment))
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, str(distributions[0]))
    source, target = write_pair(tmp_path)
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [str(scripts / "fourierreg"), "register", str(source), str(target), "--alpha", "2"]
    command += ["--modes", "6", "-o", str(tmp_path / "run"), "--max-iterations", "5"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=own
    )
    assert done.returncode in (0, 1), done.stderr
    assert (tmp_path / "run" / "1Warp.nii.gz").is_file()
    version = run(str(scripts / "fourierreg"), "--version", cwd=tmp_path, env=own)
    assert version.split() == ["fourierreg", fourierreg.__version__]


def test_the_version_is_the_same_everywhere():
    version = fourierreg.__version__
    recipe = (ROOT / "conda" / "meta.yaml").read_text()
    assert f'version = "{version}"' in recipe
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def requirements(text):
    """Names and lower bounds of requirements, one a line."""
    found = re.findall(r"^\s*-?\s*([A-Za-z0-9_-]+) ?>=([0-9.]+)\s*$", text, re.M)
    return dict(found)


def test_the_conda_recipe_has_the_requirements_of_the_package():
    recipe = (ROOT / "conda" / "meta.yaml").read_text()
    text = re.sub(r"\{%.*%\}\n", "", recipe)
    run_part = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", text))["requirements"]["run"]
    theirs = requirements("\n".join(run_part))
    assert theirs.pop("python") == "3.11"
    config = (ROOT / "setup.cfg").read_text()
    ours = config.partition("install_requires =\n")[2].partition("\n\n")[0]
    assert theirs == requirements(ours)


@pytest.mark.parametrize("name", ["Dockerfile", "fourierreg.def"])
def test_containers_copy_files_that_exist_and_install_extras_that_exist(name):
    text = (ROOT / "docker" / name).read_text()
    config = (ROOT / "setup.cfg").read_text()
    copied = re.findall(r"(?:COPY |^    )((?:[A-Za-z.]+ )+)/src", text, re.M)
    files = {word for line in copied for word in line.split()}
    assert {
        "setup.cfg",
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "fourierreg",
    } == files
    assert all((ROOT / file).exists() for file in files)
    extras = re.search(r"/src\[([a-z,]+)\]", text).group(1).split(",")
    assert all(f"\n{extra} =" in config for extra in extras)
    assert "fourierreg warm-up" in text

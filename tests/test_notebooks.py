"""Every notebook runs from a clean kernel at a small size, and is committed with its outputs."""

import importlib
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(
    path for folder in ("notebooks", "tutorials") for path in (ROOT / folder).glob("*.ipynb")
)


def read(path):
    """Read a notebook; nbformat is imported here so that the tests are collected without it."""
    nbformat = importlib.import_module("nbformat")
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebooks_are_found():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook_is_committed_with_figures_and_without_errors(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any(output.output_type == "display_data" for output in outputs)  # a figure
    assert not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert "widgets" not in read(path).metadata  # states hold whole volumes
    assert path.stat().st_size < 2e6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook_runs_at_a_small_size(path, monkeypatch):
    monkeypatch.setitem(os.environ, "FOURIERREG_NOTEBOOK_SIZE", "small")
    client = importlib.import_module("nbclient").NotebookClient(
        read(path),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()  # raises the error of a cell

"""Every notebook runs from top to bottom, and says in words what its kept outputs say."""

import importlib.util
import re
import warnings
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path) -> nbformat.NotebookNode:
    """What `make notebooks` does with one notebook, without writing it back."""
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.execute(path)


def words(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell printed, without its numbers."""
    printed = "".join(output.get("text", "") for output in cell.get("outputs", []) if output.output_type == "stream")
    return re.findall(r"[A-Za-z_]{3,}", printed)


def shown(cell: nbformat.NotebookNode) -> list[tuple[str, list[str]]]:
    """What a cell shows beside print, by kind; a slow machine prints in more pieces."""
    others = (output for output in cell.get("outputs", []) if output.output_type != "stream")
    return [(output.output_type, sorted(output.get("data", {}))) for output in others]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_repeats_its_kept_outputs(path, monkeypatch):
    monkeypatch.setenv("BANACH_MINUTES", "0.2")  # of those that train
    kept = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kernel's own, about loops and sockets
        fresh = execute(path)
    for before, after in zip(kept.cells, fresh.cells, strict=True):
        assert before.source == after.source
        assert words(before) == words(after)  # last digits and times differ from machine to machine
        assert shown(before) == shown(after)

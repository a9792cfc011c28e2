"""Every notebook runs from top to bottom, and says what its kept outputs say."""

import importlib.util
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


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []) if output.output_type == "stream")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_repeats_its_kept_outputs(path):
    kept = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kernel's own, about loops and sockets
        fresh = execute(path)
    for before, after in zip(kept.cells, fresh.cells, strict=True):
        assert before.source == after.source
        if " ms" not in printed(before):  # a time differs from run to run
            assert printed(before) == printed(after)
        assert len(before.get("outputs", [])) == len(after.get("outputs", []))

"""Run the notebooks of this folder, or those named, from top to bottom and keep their outputs; `make notebooks`."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path` with fresh outputs. Raises nbclient's CellExecutionError when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day change with every run
    return notebook


def main(names: list[str]) -> int:
    """Execute the notebooks called `names`, all when there are none, and write them back, each whole or not at all."""
    for path in [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb")):
        print(path.name)
        notebook = execute(path)
        temporary = path.with_suffix(".part")
        nbformat.write(notebook, temporary)
        temporary.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

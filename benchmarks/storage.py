"""Results as files, and runs that are made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from banach.mdp.storage import atomic_file


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_file(path) as temporary:
        Path(temporary).write_text(json.dumps(content, indent=1) + "\n")


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(path) as temporary:
        Path(temporary).write_text(text)


def complete(
    path: Path, found: dict[str, Any], kind: str, names: Iterable[str], seeds: int, make: Callable[[str, int], dict[str, Any]]
) -> None:
    """Make the runs that `found["runs"]` lacks, seed by seed, and write the JSON after each; a run says its `kind` and seed."""
    names = list(names)
    for seed in range(seeds):
        for name in names:
            if not any(run[kind] == name and run["seed"] == seed for run in found["runs"]):
                found["runs"].append(make(name, seed))
                write_json(path, found)

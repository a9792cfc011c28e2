"""Numbers of every step as one JSON line each: written at once, and cut back to a checkpoint when a run resumes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ...mdp.storage import atomic_file

FILE = "metrics.jsonl"


def append_metrics(folder: Path, step: int, numbers: dict[str, Any]) -> None:
    """Write the line of a step; numbers that JSON does not know become null."""
    clean = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in numbers.items()}
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **clean}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's folder in order; one that was cut off while it was written is left out."""
    path, lines = Path(folder) / FILE, []
    if not path.exists():
        return []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def cut_metrics(folder: Path, step: int) -> None:
    """Forget the lines after a step."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    with atomic_file(folder / FILE) as temporary:
        Path(temporary).write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

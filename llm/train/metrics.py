"""Numbers of every step as one JSON line each: written at once, and cut back to a checkpoint when a run resumes.

For TensorBoard, if it is wished, the same numbers as scalars in `tensorboard/`; steps that a resumed run makes again replace
the earlier ones there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...mdp.storage import atomic_file
from ..environments.reward import Failure
from .settings import TrainError

FILE, FAILURES = "metrics.jsonl", "failures.jsonl"


def append_metrics(folder: Path, step: int, numbers: dict[str, Any]) -> None:
    """Write the line of a step; numbers that JSON does not know become null."""
    clean = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in numbers.items()}
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **clean}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's folder in order; one that was cut off while it was written is left out."""
    return _lines(Path(folder) / FILE)


def append_failures(folder: Path, step: int, failures: Sequence[Failure]) -> None:
    """Write the answers of a step whose reward failed, a line each, with their text."""
    if failures:
        with (folder / FAILURES).open("a", encoding="utf-8") as file:
            for failure in failures:
                line = {"step": step, "sample": failure.sample, "part": failure.part, "fault": failure.fault}
                file.write(json.dumps(line | {"problem": failure.problem.index, "text": failure.text}) + "\n")


def board(folder: Path, done: int) -> Any:
    """TensorBoard's writer for the steps after `done`. Raises TrainError if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainError("TensorBoard is not installed: pip install 'banach[train]', or leave tensorboard out") from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)


def show(writer: Any, step: int, numbers: dict[str, Any]) -> None:
    """Hand a step's numbers to TensorBoard."""
    for name, x in numbers.items():
        if isinstance(x, (int, float)):
            writer.add_scalar(name, x, step)
    writer.flush()


def cut_metrics(folder: Path, step: int) -> None:
    """Forget the lines after a step, those of failures too."""
    for path in (folder / FILE, folder / FAILURES):
        kept = [line for line in _lines(path) if line["step"] <= step]
        if path.exists():
            with atomic_file(path) as temporary:
                Path(temporary).write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines

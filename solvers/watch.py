"""What looks on while a method works: the history of the trace, progress reports, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..mdp.errors import FileFormatError
from ..mdp.storage import read_arrays, write_arrays


@dataclass
class Watch:
    """Receives every outer iteration of a method.

    report: called with (sweeps, width) at each outer iteration, for progress bars.
    checkpoint: file that keeps the latest vector, rewritten at most every `seconds` seconds, by rename.
    model: fingerprint of the problem, kept in the checkpoint.
    """

    report: Callable[[float, float], None] | None = None
    checkpoint: Path | None = None
    model: str = ""
    seconds: float = 30.0
    sweeps: float = 0.0
    history: list[tuple[float, float]] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)

    def __call__(self, value: np.ndarray, width: float, sweeps: float = 1.0) -> None:
        """One outer iteration done: its vector, the width of the bracket it gives, the sweeps it took."""
        self.sweeps += sweeps
        self.history.append((self.sweeps, width))
        if self.report is not None:
            self.report(self.sweeps, width)
        if self.checkpoint is not None and time.monotonic() - self._saved >= self.seconds:
            self.save(value)

    def save(self, value: np.ndarray) -> None:
        """Write the checkpoint now."""
        if self.checkpoint is not None:
            write_arrays(self.checkpoint, "checkpoint", {"model": self.model, "sweeps": self.sweeps}, {"value": value})
            self._saved = time.monotonic()

    def resume(self, start: np.ndarray) -> np.ndarray:
        """The checkpoint's vector, or `start` when there is no checkpoint yet. Raises FileFormatError for another model's."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return start
        header, arrays = read_arrays(self.checkpoint, "checkpoint")
        value = arrays.get("value")
        if header.get("model") != self.model or value is None or value.shape != start.shape or not np.isfinite(value).all():
            raise FileFormatError(f"{self.checkpoint}: the checkpoint of another problem; remove it or name another file")
        self.sweeps = float(header.get("sweeps", 0.0))
        return value.astype(np.float64)

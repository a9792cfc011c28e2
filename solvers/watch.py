"""What looks on while a method works: the history of the trace, progress reports, checkpoints.

A checkpoint keeps the latest vector of a solve, so that it can go on after an interrupt. Any vector is a valid start, and the
proof at the end is made from scratch, so a checkpoint cannot make an answer wrong; but one that belongs to another problem, or
that is no whole file, is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..mdp.errors import FileFormatError
from ..mdp.storage import read_arrays, write_arrays
from .errors import NotConverged, SolveError

_LOOK = 32
"""Iterations between looks at whether only rounding is left; after four looks in a row that say so the solve ends."""


@dataclass
class Watch:
    """Receives every outer iteration of a method.

    report: called with (sweeps, width) at each outer iteration, for progress bars.
    checkpoint: file that keeps the latest vector, rewritten at most every `seconds` seconds, by rename.
    model: fingerprint of the problem, kept in the checkpoint.
    modulus: of a contraction. Rounding of T v - v, over 1 - modulus, keeps its brackets wider than a few u |v| / (1 - modulus);
        a method that has come near such widths and gains no more asks for the impossible, and is ended with NotConverged.
    """

    report: Callable[[float, float], None] | None = None
    checkpoint: Path | None = None
    model: str = ""
    modulus: float | None = None
    seconds: float = 30.0
    sweeps: float = 0.0
    history: list[tuple[float, float]] = field(default_factory=list)
    _shape: tuple[int, ...] = ()
    _latest: np.ndarray | None = None
    _stuck: int = 0
    _narrowest: float = math.inf
    _saved: float = field(default_factory=time.monotonic)

    def __call__(self, value: np.ndarray, width: float, sweeps: float = 1.0) -> None:
        """One outer iteration done: its vector, the width of the bracket it gives, the sweeps it took."""
        self.sweeps += sweeps
        self.history.append((self.sweeps, float(width)))
        if value.shape == self._shape:  # a method at work on a part of the problem shows vectors of another length
            self._latest = value
        if self.checkpoint is not None and time.monotonic() - self._saved >= self.seconds:
            self.save()
        if self.report is not None:
            self.report(self.sweeps, float(width))
        if self.modulus is not None and not math.isfinite(width):
            raise NotConverged("the values exceed the largest float; scale the rewards down")
        if self.modulus is not None and len(self.history) % _LOOK == 0:
            self._look(value, self.modulus)

    def _look(self, value: np.ndarray, modulus: float) -> None:
        size = max(float(value.max()), -float(value.min()))
        recent = min(width for _, width in self.history[-_LOOK:])
        stuck = recent > 0.999 * self._narrowest and recent <= 64 * 2.0**-53 * size / (1 - modulus)
        self._stuck, self._narrowest = self._stuck + 1 if stuck else 0, min(recent, self._narrowest)
        if self._stuck >= 4:
            raise NotConverged(
                f"the bracket is {self._narrowest:.3g} wide and rounding allows hardly less; ask for a wider eps, or use "
                "RationalPolicyIteration() on a small model",
                reached=self._narrowest,
            )

    def save(self) -> None:
        """Write the latest vector to the checkpoint now. Does nothing without a checkpoint, or before the first iteration."""
        if self.checkpoint is not None and self._latest is not None and np.isfinite(self._latest).all():
            header = {"model": self.model, "sweeps": self.sweeps}
            write_arrays(self.checkpoint, "checkpoint", header, {"value": self._latest})
        self._saved = time.monotonic()

    def resume(self, start: np.ndarray) -> np.ndarray:
        """The checkpoint's vector, or `start` when there is no checkpoint yet.

        Raises SolveError where the checkpoint's folder does not exist, FileFormatError for another problem's or a damaged one.
        """
        if self.checkpoint is None:
            return start
        self._shape = start.shape
        if not self.checkpoint.parent.is_dir():
            raise SolveError(f"{self.checkpoint}: its folder does not exist; make it, or name another file")
        if not self.checkpoint.exists():
            return start
        header, arrays = read_arrays(self.checkpoint, "checkpoint")
        value, sweeps = arrays.get("value"), header.get("sweeps")
        if header.get("model") != self.model:
            raise FileFormatError(f"{self.checkpoint}: the checkpoint of another problem; remove it or name another file")
        whole = value is not None and value.shape == start.shape and value.dtype == np.float64 and np.isfinite(value).all()
        counted = isinstance(sweeps, (int, float)) and math.isfinite(sweeps) and sweeps >= 0
        if value is None or not whole or not counted:
            raise FileFormatError(f"{self.checkpoint}: a damaged checkpoint; remove it or name another file")
        self.sweeps = float(sweeps)  # pyright: ignore[reportArgumentType]
        return value

"""Competitors in turn, A B C A B C ..., in one process, and their answers held against a certified reference.

An answer is `correct` when it is within 1e-6 of the optimum for certain, `missed` when it is further away for certain, and
`unverified` between, or without a reference. It is `certified` when, besides, its solver's own bounds contain the optimum and
are no more than 2e-6 apart; bounds that exclude the optimum are `wrong bounds`.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from banach.mdp import MDP
from banach.solvers import NotConverged, solve

from .competitor import ERROR, WIDTH, Competitor, Result

_ENOUGH = 5.0
"""Seconds after which a competitor is not run again."""
_PATIENCE = 30.0
"""Seconds for the reference."""


@dataclass
class Record:
    """What one competitor did: seconds and processor seconds of each solve or update, and the worst of its answers."""

    name: str
    build_seconds: float | None = None
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    error: float | None = None
    width: float | None = None
    verdict: str = "not run"
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """With medians."""
        medians = {
            "median_seconds": statistics.median(self.seconds) if self.seconds else None,
            "median_processor": statistics.median(self.processor) if self.processor else None,
        }
        return asdict(self) | medians


@dataclass(frozen=True)
class Reference:
    """A proved bracket."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def width(self) -> float:
        """Greatest distance of the bounds."""
        return float(np.max(self.upper - self.lower))

    def judge(self, result: Result) -> tuple[float, float | None, str]:
        """(largest possible error, width of its own bounds, verdict)."""
        if result.value.shape != self.lower.shape or not np.isfinite(result.value).all():
            return np.inf, None, "missed"
        most = float(np.maximum(result.value - self.lower, self.upper - result.value).max())
        least = float(np.maximum(self.lower - result.value, result.value - self.upper).max())
        verdict = "correct" if most <= ERROR else "missed" if least > ERROR else "unverified"
        if result.lower is None or result.upper is None:
            return most, None, verdict
        width = float(np.max(result.upper - result.lower))
        rounding = 1e-13 * float(np.abs(self.lower).max())  # bounds may have been shifted back after the solve
        if (result.lower > self.upper + rounding).any() or (result.upper < self.lower - rounding).any():
            return most, width, "wrong bounds"
        return most, width, "certified" if verdict == "correct" and width <= WIDTH + rounding + 1e-9 * WIDTH else verdict


def reference(model: MDP) -> Reference:
    """A proved bracket 1e-8 wide, or as wide as rounding and patience ask for. Raises what `solve` raises."""
    certificate = solve(model, eps=WIDTH).certificate
    size = float(np.abs(certificate.upper).max())
    rounding = 40 * np.finfo(float).eps * size / (1 - model.discount) if model.discount < 1 else 0.0
    deadline = time.perf_counter() + _PATIENCE

    def report(sweeps: float, width: float) -> None:
        if time.perf_counter() > deadline:
            raise TimeoutError

    with contextlib.suppress(NotConverged, TimeoutError):  # the wider bracket decides what it can
        certificate = solve(model, eps=min(max(1e-8, rounding), WIDTH), report=report).certificate
    return Reference(certificate.lower, certificate.upper)


def race(
    competitors: Sequence[Competitor],
    truth: Reference | None,
    repeat: int,
    finished: Callable[[list[Record]], None] = lambda records: None,
) -> list[Record]:
    """A record of each competitor. `finished` is told after each solve."""
    records = [Record(competitor.name) for competitor in competitors]
    solvers: list[Callable[[], Result] | None] = [None] * len(competitors)
    for _ in range(repeat):
        for i, competitor in enumerate(competitors):
            if records[i].failure is None and sum(records[i].seconds) < _ENOUGH:
                solvers[i] = _turn(competitor, records[i], solvers[i], truth)
                finished(records)
    return records


def _turn(
    competitor: Competitor, record: Record, solver: Callable[[], Result] | None, truth: Reference | None
) -> Callable[[], Result] | None:
    """Build where that is due, solve, judge; returns what may solve again."""
    try:
        if solver is None:
            began = time.perf_counter()
            solver = competitor.build()
            record.build_seconds = time.perf_counter() - began
        gc.collect()
        began, processor = time.perf_counter(), time.process_time()
        result = solver()
        record.seconds.append((time.perf_counter() - began) / competitor.updates)
        record.processor.append((time.process_time() - processor) / competitor.updates)
    except (Exception, SystemExit) as fault:  # a competitor may raise what it likes, and the others go on
        record.failure, record.verdict = f"{type(fault).__name__}: {fault}".splitlines()[0][:200], "failed"
        return None
    if truth is None:
        record.verdict = "unverified"
    else:
        error, width, verdict = truth.judge(result)
        if record.error is None or error >= record.error:
            record.error, record.width, record.verdict = error, width, verdict
    return None if competitor.fresh else solver

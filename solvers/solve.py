"""The one verb."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..mdp.criterion import Discounted
from ..mdp.model import MDP
from .certificate import Certificate
from .discounted import solve_discounted
from .errors import SolveError
from .solution import Solution, Trace
from .watch import Watch

_ROUTES: dict[type, Callable[..., Any]] = {
    Discounted: solve_discounted,
}


def solve(
    problem: MDP,
    method: Any = None,
    eps: float = 1e-6,
    *,
    start: np.ndarray | None = None,
    report: Callable[[float, float], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Solution:
    """Solve a decision problem and prove the answer.

    problem: an `MDP`.
    method: a method of this package, or None for a good one.
    eps: > 0; the returned bracket is rigorous, rounding included, and nowhere wider.
    start: first vector, shape (n_states,), where the method uses one.
    report: called with (sweeps, bracket width) at each outer iteration.
    checkpoint: file that keeps the latest vector while the method runs; a solve that finds it goes on from there.
    Raises SolveError for an impossible request, InfiniteValue, and NotConverged, which says what was reached.
    """
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not (math.isfinite(eps) and eps > 0):
        raise SolveError(f"eps is {eps!r}; it must be a positive number, the greatest width of the bracket")
    began = time.perf_counter()
    minimize = problem.criterion.minimize
    maximal = problem.negated() if minimize else problem
    first = _start(maximal, start, minimize)
    watch = Watch(report)
    if checkpoint is not None:
        watch = Watch(report, Path(checkpoint), maximal.fingerprint)
        first = watch.resume(maximal.operator.start() if first is None else first)
    answer = _ROUTES[type(problem.criterion)](maximal, method, eps, first, watch)
    lower, upper, witness = answer.lower, answer.upper, dict(answer.witness)
    if minimize:
        lower, upper = -upper, -lower
        witness = {_opposite(name): -vector for name, vector in witness.items()}
    certificate = Certificate(lower, upper, answer.policy, problem, witness)
    trace = Trace(answer.method, answer.reason, watch.sweeps, time.perf_counter() - began, watch.history)
    return Solution(lower + (upper - lower) / 2, answer.policy, certificate, trace)


def _start(problem: MDP, start: np.ndarray | None, minimize: bool) -> np.ndarray | None:
    if start is None:
        return None
    value = np.array(start, dtype=np.float64)
    if value.shape != (problem.n_states,) or not np.isfinite(value).all():
        raise SolveError(f"start must be {problem.n_states} finite numbers; its shape is {value.shape}")
    value = -value if minimize else value
    return np.where(problem.terminal, problem.terminal_value, value)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _opposite(name: str) -> str:
    return name.replace("lower", "?").replace("upper", "lower").replace("?", "upper")

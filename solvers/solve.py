"""The one verb."""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..mdp.criterion import AverageReward, Discounted, FiniteHorizon, TotalReward
from ..mdp.model import MDP
from ..mdp.time_varying import TimeVaryingMDP
from .average_reward import solve_average_reward
from .certificate import Certificate
from .discounted import solve_discounted
from .errors import SolveError
from .finite_horizon import solve_finite_horizon
from .solution import Solution, Trace
from .total_reward import solve_total_reward
from .watch import Watch

_ROUTES: dict[type, Callable[..., Any]] = {
    AverageReward: solve_average_reward,
    Discounted: solve_discounted,
    FiniteHorizon: solve_finite_horizon,
    TotalReward: solve_total_reward,
}
"""The route of a kind of problem, or else of its criterion."""


def solve(
    problem: MDP | TimeVaryingMDP,
    method: Any = None,
    eps: float = 1e-6,
    *,
    start: np.ndarray | None = None,
    report: Callable[[float, float], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Solution:
    """Solve a decision problem and prove the answer.

    problem: an `MDP` or a `TimeVaryingMDP`.
    method: a method of this package, or None for a good one.
    eps: > 0; the returned bracket is rigorous, rounding included, and nowhere wider.
    start: first vector, shape (n_states,), where the method uses one.
    report: called with (sweeps, bracket width) at each outer iteration.
    checkpoint: file that keeps the latest vector, rewritten every 30 seconds and when the solve is interrupted or gives up; a
        solve of the same problem that finds it goes on from there.
    Raises SolveError for an impossible request, FileFormatError for a checkpoint that is damaged or another problem's,
    InfiniteValue, and NotConverged, which says what was reached.
    """
    if isinstance(eps, bool) or not isinstance(eps, numbers.Real) or not (math.isfinite(eps) and eps > 0):
        raise SolveError(f"eps is {eps!r}; it must be a positive number, the greatest width of the bracket")
    if isinstance(method, type):
        raise SolveError(f"method is the class {method.__name__}; give one of its instances, such as {method.__name__}()")
    route = _ROUTES.get(type(problem)) or _ROUTES.get(type(getattr(problem, "criterion", None)))
    if route is None:
        raise SolveError(f"{type(problem).__name__} is no decision problem that solve knows; give an MDP")
    began = time.perf_counter()
    minimize = problem.criterion.minimize
    maximal = problem.negated() if minimize else problem
    first = _start(maximal, start, minimize)
    watch = Watch(report)
    if checkpoint is not None:
        watch = Watch(report, Path(checkpoint), maximal.fingerprint)
        first = watch.resume(maximal.terminal_value.copy() if first is None else first)
    try:
        answer = route(maximal, method, float(eps), first, watch)
    except BaseException:  # an interrupt, or a method whose budget has ended, loses no work
        with contextlib.suppress(OSError):
            watch.save()
        raise
    lower, upper, witness = answer.lower, answer.upper, dict(answer.witness)
    if minimize:
        lower, upper = np.asarray(-upper), np.asarray(-lower)
        witness = turned_round(witness)
    certificate = Certificate(lower, upper, answer.policy, problem, witness)
    trace = Trace(answer.method, answer.reason, watch.sweeps, time.perf_counter() - began, watch.history)
    return Solution(lower + (upper - lower) / 2, answer.policy, certificate, trace)


def _start(problem: MDP | TimeVaryingMDP, start: np.ndarray | None, minimize: bool) -> np.ndarray | None:
    if start is None:
        return None
    value = np.array(start, dtype=np.float64)
    if value.shape != (problem.n_states,) or not np.isfinite(value).all():
        raise SolveError(f"start must be {problem.n_states} finite numbers; its shape is {value.shape}")
    value = -value if minimize else value
    return np.where(problem.terminal, problem.terminal_value, value)  # pyright: ignore[reportCallIssue, reportArgumentType]


def turned_round(witness: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A witness of the negated problem: bounds, named lower_... and upper_..., change side and sign; all else stays.

    witness: vectors of any shape, by name.
    """
    sides = {"lower": "upper", "upper": "lower"}
    turned = dict(witness)
    for name, vector in witness.items():
        side, _, rest = name.partition("_")
        if side in sides:
            turned[f"{sides[side]}_{rest}"] = -vector
    return turned

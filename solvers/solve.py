"""The one verb."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..mdp.constrained import ConstrainedMDP
from ..mdp.criterion import AverageReward, Discounted, FiniteHorizon, TotalReward
from ..mdp.model import MDP
from ..mdp.validation import is_real
from .average_reward import solve_average_reward
from .certificate import Certificate
from .constrained import solve_constrained
from .discounted import solve_discounted
from .errors import Infeasible, SolveError
from .finite_horizon import solve_finite_horizon
from .problem import Problem
from .reduction import require_reducible, solve_reduced
from .solution import Solution, Trace
from .total_reward import solve_total_reward
from .watch import Watch

_ROUTES: dict[type, Callable[..., Any]] = {
    AverageReward: solve_average_reward,
    ConstrainedMDP: solve_constrained,
    Discounted: solve_discounted,
    FiniteHorizon: solve_finite_horizon,
    TotalReward: solve_total_reward,
}
"""The route of a kind of problem, or else of its criterion."""


def solve(
    problem: Problem,
    method: Any = None,
    eps: float = 1e-6,
    *,
    start: np.ndarray | None = None,
    report: Callable[[float, float], None] | None = None,
    checkpoint: str | Path | None = None,
    reduce: float | None = None,
) -> Solution:
    """Solve a decision problem and prove the answer.

    problem: an `MDP`, a `TimeVaryingMDP`, a `ConstrainedMDP`, a `RobustMDP` or a `LinearRobustMDP`.
    method: a method of this package, or None for a good one.
    eps: > 0; the returned bracket is rigorous, rounding included, and nowhere wider.
    start: first vector, shape (n_states,), where the method uses one.
    report: called with (sweeps, bracket width) at each outer iteration.
    checkpoint: file that keeps the latest vector, rewritten every 30 seconds and when the solve is interrupted or gives up; a
        solve of the same problem that finds it goes on from there.
    reduce: solve a quotient first, and prove its answer for the problem as given: 0 merges states that no experiment tells
        apart; a greater number those whose rewards and chances differ by as much, and the bracket is then as wide as that
        makes it, eps or more. See `banach.solvers.reduction`.
    Raises SolveError for an impossible request, FileFormatError for a checkpoint that is damaged or another problem's,
    InfiniteValue, Infeasible with its proof, and NotConverged, which says what was reached.
    """
    if not (is_real(eps) and 0 < eps < math.inf):
        raise SolveError(f"eps is {eps!r}; it must be a positive number, the greatest width of the bracket")
    if isinstance(method, type):
        raise SolveError(f"method is the class {method.__name__}; give one of its instances, such as {method.__name__}()")
    route = _ROUTES.get(type(problem)) or _ROUTES.get(type(getattr(problem, "criterion", None)))
    if route is None:
        raise SolveError(f"{type(problem).__name__} is no decision problem that solve knows; give an MDP")
    if reduce is not None:
        require_reducible(problem, reduce)
        if checkpoint is not None:
            raise SolveError("a checkpoint keeps vectors of the problem, reduce works on a quotient; give one of the two")
    began = time.perf_counter()
    minimize = problem.criterion.minimize
    maximal = problem.negated() if minimize else problem
    first = _start(maximal, start, minimize)
    watch = Watch(report)
    if checkpoint is not None:
        watch = Watch(report, Path(checkpoint), maximal.fingerprint)
        blank = np.array(maximal.terminal_value) if first is None else first
        first = watch.resume(blank)
    try:
        if reduce is not None and isinstance(maximal, MDP):
            answer = solve_reduced(maximal, route, method, float(eps), first, watch, float(reduce))
        else:
            answer = route(maximal, method, float(eps), first, watch)
    except Infeasible as refusal:
        proof = refusal.certificate
        raise Infeasible(str(refusal), _certificate(problem, proof.lower, proof.upper, proof.policy, proof.witness)) from None
    except BaseException:  # an interrupt, or a method whose budget has ended, loses no work
        with contextlib.suppress(OSError):
            watch.save()
        raise
    certificate = _certificate(problem, answer.lower, answer.upper, answer.policy, answer.witness)
    lower, upper = certificate.lower, certificate.upper
    trace = Trace(answer.method, answer.reason, watch.sweeps, time.perf_counter() - began, watch.history)
    return Solution(lower + (upper - lower) / 2, answer.policy, certificate, trace)


def _certificate(
    problem: Problem,
    lower: np.ndarray,
    upper: np.ndarray,
    policy: np.ndarray,
    witness: Mapping[str, np.ndarray],
) -> Certificate:
    """What was proved of the maximisation problem, said of the problem as it was given."""
    if problem.criterion.minimize:
        return Certificate(np.asarray(-upper), np.asarray(-lower), policy, problem, turned_round(witness))
    return Certificate(lower, upper, policy, problem, witness)


def _start(problem: Problem, start: np.ndarray | None, minimize: bool) -> np.ndarray | None:
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
    turned = {}
    for name, vector in witness.items():
        side, _, rest = name.partition("_")
        if side in sides:
            turned[f"{sides[side]}_{rest}"] = -vector
        else:
            turned[name] = vector
    return turned

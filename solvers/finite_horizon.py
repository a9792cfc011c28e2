"""Finite-horizon problems, stationary or time-varying: backward induction, whose bounds are its own proof."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mdp.model import MDP
from ..mdp.time_varying import TimeVaryingMDP
from .answer import Answer
from .backward_induction import BackwardInduction
from .discounted import evidence
from .errors import NotConverged, SolveError
from .watch import Watch


def solve_finite_horizon(problem: MDP | TimeVaryingMDP, method: Any, eps: float, start: object, watch: Watch) -> Answer:
    """Answer of a finite-horizon maximisation problem. Neither a start nor a checkpoint is of use to it, and none is read.

    Raises SolveError for another method, NotConverged when rounding makes the bracket wider than eps.
    """
    reason = "asked for"
    if method is None:
        method, reason = BackwardInduction(), "one sweep a decision is all there is to do"
    if not isinstance(method, BackwardInduction):
        raise SolveError(f"{method!r} does not solve finite-horizon problems; use BackwardInduction() or no method at all")
    stages = stages_of(problem)
    operators = [stage.operator for stage in stages]
    width = 0.0
    for guard in (_comfortable(stages), 4.0):
        lower, upper, policy = method.induce(operators, problem.terminal_value, guard, watch)
        width = float(np.max(upper - lower))
        if width <= eps:
            proofs = [evidence(o, policy[t], lower[t + 1], upper[t + 1]) for t, o in enumerate(operators)]
            witness = {name: np.stack([proof[name] for proof in proofs]) for name in (proofs[0] if proofs else {})}
            return Answer(lower, upper, policy, method, reason, witness)
    raise NotConverged(
        f"rounding over {len(stages)} stages leaves the bracket {width:.3g} wide (asked for {eps:.3g}); ask for a wider eps",
        reached=width,
    )


def stages_of(problem: MDP | TimeVaryingMDP) -> tuple[MDP, ...]:
    """The model of each decision, first to last."""
    if isinstance(problem, TimeVaryingMDP):
        return problem.stages
    return (problem,) * problem.criterion.horizon  # pyright: ignore[reportAttributeAccessIssue]


def _comfortable(stages: tuple[MDP, ...]) -> float:
    """A guard so wide that a checker in floating point with error bounds decides nearly every row without integers."""
    distinct = {id(stage): stage for stage in stages}.values()
    longest = max((int(np.max(np.diff(stage.row_ptr), initial=0)) for stage in distinct), default=0)
    return 8.0 * (longest + 10)

"""Discounted problems, and any other whose operator is a sup-norm contraction: run a method, then prove its answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mdp.bellman import BellmanOperator
from ..mdp.model import MDP
from ..mdp.operator import AffineOperator, Operator
from .answer import Answer
from .bracket import inductive_bracket
from .errors import NotConverged, SolveError
from .inexact_policy_iteration import InexactPolicyIteration
from .method import Method, model_of
from .modified_policy_iteration import ModifiedPolicyIteration
from .rational import MAX_STATES, RationalPolicyIteration
from .robust_policy_iteration import RobustPolicyIteration
from .watch import Watch

_TIGHTER = (0.9, 0.3, 0.02)
"""Shares of eps that the method is asked for, in turn, until the bracket, rounding included, is no wider than eps."""

_LARGEST = 1e300


def solve_discounted(problem: MDP, method: Any, eps: float, start: np.ndarray | None, watch: Watch) -> Answer:
    """Answer of a discounted maximisation problem. start: (n_states,) or None. Raises SolveError, NotConverged."""
    operator, start = problem.operator, problem.operator.start() if start is None else start
    if method is None:
        chosen, reason = default_method(operator)
        try:
            return _answer(problem, chosen, reason, eps, start, watch)
        except NotConverged:
            if not isinstance(operator, BellmanOperator) or problem.n_states > MAX_STATES:
                raise
        return _answer(problem, RationalPolicyIteration(), "floats proved too coarse for eps", eps, start, watch)
    return _answer(problem, method, "asked for", eps, start, watch)


def _answer(problem: MDP, method: Any, reason: str, eps: float, start: np.ndarray, watch: Watch) -> Answer:
    operator = problem.operator
    if not hasattr(method, "run"):
        raise SolveError(f"{method!r} does not solve discounted problems; use ModifiedPolicyIteration() or none at all")
    if _size(problem) > _LARGEST * (1 - operator.modulus) > 0:
        raise SolveError(f"rewards of {_size(problem):.3g} over 1 - discount may exceed the largest float; scale them down")
    if isinstance(method, RationalPolicyIteration):
        model_of(operator, method)  # refuses what is no table
        return Answer(*method.prove(problem, start, eps, watch), method, reason)
    if operator.modulus >= 1:
        raise NotConverged(f"the discount times the largest row sum is {operator.modulus!r}, which is no contraction")
    lower, upper, policy = certified_fixed_point(operator, method, eps, start, watch)
    return Answer(lower, upper, policy, method, reason, evidence(operator, policy, lower, upper))


def evidence(operator: Any, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> dict[str, np.ndarray]:
    """What the operator's checker needs beside policy and vectors, of any shape: nothing, for most."""
    return operator.evidence(policy, lower, upper) if hasattr(operator, "evidence") else {}


def _size(problem: MDP) -> float:
    amounts = (problem.reward, problem.terminal_value)
    return max(max(float(amount.max(initial=0.0)), -float(amount.min(initial=0.0))) for amount in amounts)


def default_method(operator: Operator) -> tuple[Method, str]:
    """A method that suits the operator, and why."""
    if hasattr(operator, "frozen"):
        return RobustPolicyIteration(), "with nature frozen too, a policy is evaluated by plain sweeps"
    if isinstance(operator, AffineOperator):
        return InexactPolicyIteration(), "policies are affine, and how far to evaluate them shows on the way"
    return ModifiedPolicyIteration(), "one policy's sweep costs less than an improvement"


def certified_fixed_point(
    operator: Operator, method: Method, eps: float, start: np.ndarray, watch: Watch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lower, upper, policy) with upper - lower <= eps, proved; `operator.modulus` < 1. Raises NotConverged."""
    value, reached, watch.modulus = start, np.inf, operator.modulus
    for share in _TIGHTER:
        value = method.run(operator, value, share * eps, watch)
        lower, upper, policy = inductive_bracket(operator, value)
        width = float(np.max(upper - lower))
        if width <= eps:
            return lower, upper, policy
        if width > 0.999 * reached:
            break
        reached = width
    raise NotConverged(
        f"the proved bracket is {reached:.3g} wide and rounding allows no less (asked for {eps:.3g}); ask for a wider eps, "
        "or use RationalPolicyIteration() on a small model",
        reached=reached,
    )

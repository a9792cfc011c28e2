r"""Total reward and reachability: collapse, come close, prove.

The quotient by free end components (`end_components`) has one solution of v = T v. A method comes close to it from a first
guess; the policy it finds is then made the centre of a proved bracket (`total_reward_proof`), which finishes the policy
iteration where the method stopped too soon. So a method decides how long it takes, never whether the answer is right.

Methods: PolicyIteration (expected totals solved for, then improved), ModifiedPolicyIteration and GaussSeidel (sweeps in the
order of the quotient), ValueIteration (Jacobi sweeps), IntervalIteration and OptimisticValueIteration (from both sides).

Bertsekas and Tsitsiklis, Math. Oper. Res. 16, 1991.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..mdp.model import MDP
from .answer import Answer
from .collapse import Quotient
from .end_components import quotient
from .errors import NotConverged, SolveError
from .interval_iteration import IntervalIteration
from .modified_policy_iteration import ModifiedPolicyIteration
from .optimistic_value_iteration import OptimisticValueIteration
from .policy_iteration import PolicyIteration
from .proper_policy import SMALL, first_guess, pack
from .proper_policy_iteration import noise, polished
from .total_reward_proof import certify
from .value_iteration import GaussSeidel, ValueIteration
from .watch import Watch

_FORCING = 0.05
"""Share of an improvement's change that the sweeps of its policy leave."""
_SWEEPS = 12
_ROUNDS_BEFORE_SOLVING = 100


def solve_total_reward(problem: MDP, method: Any, eps: float, start: np.ndarray | None, watch: Watch) -> Answer:
    """Answer of a total-reward maximisation problem. start: (n_states,) or None.

    Raises SolveError, InfiniteValue, NotConverged.
    """
    reason = "asked for"
    collapsed = quotient(problem)
    if method is None:
        method, reason = _default(collapsed)
    _require_known(method)
    value, policy = first_guess(collapsed.model)
    if start is not None and np.any(start[~problem.terminal]):
        value = collapsed.settle(start)
    if problem.n_pairs:
        value, policy = _approach(collapsed, method, value, policy, eps, Reported(watch, collapsed))
    bracket = certify(collapsed, value, policy, eps)
    watch(bracket.lower + (bracket.upper - bracket.lower) / 2, bracket.width)
    return Answer(bracket.lower, bracket.upper, bracket.policy, method, reason)


class Reported:
    """A watch that is shown quotient vectors, and keeps original ones."""

    def __init__(self, watch: Watch, collapsed: Quotient) -> None:
        self.watch, self.collapsed = watch, collapsed

    def __call__(self, value: np.ndarray, width: float, sweeps: float = 1.0) -> None:
        """One outer iteration done."""
        self.watch(self.collapsed.lift(value) if self.watch.checkpoint is not None else value, width, sweeps)


def _default(collapsed: Quotient) -> tuple[Any, str]:
    if collapsed.model.n_states <= SMALL:
        return PolicyIteration(), "few states, whose linear systems are solved at once"
    if collapsed.mixed >= 0:
        return PolicyIteration(), "loops of gains and costs, on which only proper policies are safe"
    return ModifiedPolicyIteration(sweeps=_SWEEPS), "Gauss-Seidel sweeps in the order of the graph suit most large models"


def _require_known(method: Any) -> None:
    known = (
        PolicyIteration, ModifiedPolicyIteration, GaussSeidel, ValueIteration, IntervalIteration, OptimisticValueIteration,
    )  # fmt: skip
    if not isinstance(method, known):
        names = ", ".join(f"{kind.__name__}()" for kind in known)
        raise SolveError(f"{method!r} does not solve total-reward problems; use {names}, or none at all")


def _approach(
    collapsed: Quotient, method: Any, value: np.ndarray, policy: np.ndarray, eps: float, watch: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A value and a policy of the quotient, near the optimum by the method's own standard."""
    if isinstance(method, PolicyIteration):
        return polished(collapsed, value, policy, 0.0, method.max_rounds, watch)
    if collapsed.mixed >= 0:  # elsewhere sweeps converge from any start, but not where a loop of mixed rewards gains
        value, policy = polished(collapsed, value, policy, 0.0)
    if isinstance(method, (IntervalIteration, OptimisticValueIteration)):
        return method.run_quotient(collapsed, eps / 2, watch)
    if isinstance(method, ValueIteration):
        return _value_iteration(collapsed, value, policy, eps, method.max_sweeps, watch)
    budget, sweeps = (
        (method.max_rounds, method.sweeps) if isinstance(method, ModifiedPolicyIteration) else (method.max_sweeps, 0)
    )
    return _sweeps(collapsed, value, policy, eps, sweeps, budget, watch)


def _sweeps(
    collapsed: Quotient, value: np.ndarray, policy: np.ndarray, eps: float, sweeps: int, max_rounds: int, watch: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Seidel sweeps of T with up to `sweeps` of its policy between, until the change is a small part of eps a step."""
    operator, earlier, change = collapsed.model.operator, math.inf, math.inf
    packed, settled = None, policy.copy()
    for rounds in range(max_rounds):
        low, high = operator.sweep(value, policy)
        change = max(high, -low)
        target = max(_per_step(collapsed, value, eps), noise(value) / 8)
        watch(value, change, 1 + sweeps / operator.actions_per_state)
        if change <= target:
            return value, policy
        if rounds % _ROUNDS_BEFORE_SOLVING == _ROUNDS_BEFORE_SOLVING - 1:
            if sweeps and change > earlier / 10:
                return value, policy
            earlier = change
        if sweeps:
            moved = np.flatnonzero(policy != settled)
            if packed is None or len(moved) > len(policy) // 2 or not operator.repack(packed, policy, moved):
                packed = pack(collapsed.model, policy)
            settled[moved] = policy[moved]
            for _ in range(sweeps):
                low, high = packed.sweep(value)
                if max(high, -low) <= max(_FORCING * change, target / 2):
                    break
    raise NotConverged(f"the sweeps still change values by {change:.3g} after {max_rounds}; raise their number")


def _value_iteration(
    collapsed: Quotient, value: np.ndarray, policy: np.ndarray, eps: float, max_sweeps: int, watch: Any
) -> tuple[np.ndarray, np.ndarray]:
    operator, following, change = collapsed.model.operator, np.empty_like(value), math.inf
    for _ in range(max_sweeps):
        low, high = operator.apply(value, following, policy)
        value, following = following, value
        change = max(high, -low)
        watch(value, change)
        if change <= max(_per_step(collapsed, value, eps), noise(value) / 8):
            return value, policy
    raise NotConverged(f"the sweeps still change values by {change:.3g} after {max_sweeps}; raise max_sweeps")


def _per_step(collapsed: Quotient, value: np.ndarray, eps: float) -> float:
    """A change a step that leaves room for a bracket of width eps, if the values tell how many steps there are."""
    reward = collapsed.problem.reward
    if reward.max() < 0:
        above = max(0.0, float(collapsed.problem.terminal_value.max()))
        return eps * -float(reward.max()) / (4 * (above - float(value.min())))
    return eps / 100

"""Average-reward problems: estimate a policy and a bias, then prove the gains."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from ..mdp.model import MDP
from ..mdp.robust import RobustMDP
from .answer import Answer
from .end_component_iteration import EndComponentIteration
from .errors import NotConverged, SolveError
from .gain_bracket import Estimate, gain_bracket
from .graph import Graph
from .multichain import MultichainPolicyIteration, howard
from .policy_iteration import PolicyIteration
from .relative_value_iteration import RelativeValueIteration
from .robust_average_reward import solve_robust_average_reward
from .watch import Watch

_TIGHTER = (0.9, 0.3, 0.02)
"""Shares of eps that the method is asked for, in turn, until the bracket, rounding included, is no wider than eps."""

_FACTORISABLE = 200_000
"""States up to which a policy's linear system is worth factorising when sweeps converge slowly."""

_A_FEW = 40
"""Sweeps of T before the graph is looked at."""

_WORK = 500_000_000
"""Transitions read by sweeps of T before a model of that size is factorised."""


class GainMethod(Protocol):
    """A method for the average reward."""

    def estimate(self, problem: MDP, eps: float, start: np.ndarray | None, watch: Watch) -> Estimate:
        """From start (n_states,) or None, a policy, a bias and blocks from which `gain_bracket` should prove gains within eps.

        Raises NotConverged.
        """
        ...


@dataclasses.dataclass(frozen=True)
class _Unichain:
    """Howard's policy iteration with one gain for all states, under the name of its settings."""

    settings: PolicyIteration

    def estimate(self, problem: MDP, eps: float, start: np.ndarray | None, watch: Watch) -> Estimate:
        return howard(problem, eps, start, watch, self.settings.max_rounds, unichain=True)


def solve_average_reward(problem: MDP | RobustMDP, method: Any, eps: float, start: np.ndarray | None, watch: Watch) -> Answer:
    """Answer of an average-reward maximisation problem; witness lower_bias, upper_bias, both (n_states,).

    Raises SolveError, NotConverged.
    """
    if isinstance(problem, RobustMDP):
        return solve_robust_average_reward(problem, method, eps, start, watch)
    if method is None:
        return _unasked(problem, eps, start, watch)
    inner = _Unichain(method) if isinstance(method, PolicyIteration) else method
    if not hasattr(inner, "estimate"):
        raise SolveError(
            f"{method!r} does not solve average-reward problems; use RelativeValueIteration(), PolicyIteration(), "
            "MultichainPolicyIteration(), EndComponentIteration() or no method at all"
        )
    return _proved(problem, inner, eps, start, watch, method, "asked for")


def _unasked(problem: MDP, eps: float, start: np.ndarray | None, watch: Watch) -> Answer:
    """Sweeps while they work; then what the graph and the size suggest."""
    asked, everywhere = _TIGHTER[0] * eps, np.zeros(problem.n_states, dtype=np.int32)
    method, reason = RelativeValueIteration(), "sweeps soon give all states the same gain"
    _, start, width = RelativeValueIteration(max_rounds=_A_FEW).sweep(problem, everywhere, 1, asked, start, watch)
    if width <= asked:
        return _proved(problem, method, eps, start, watch, method, reason)
    small = problem.n_states <= _FACTORISABLE
    rounds = RelativeValueIteration().max_rounds
    if small:
        rounds = min(rounds, max(500, _WORK // problem.n_transitions))
    blocks, _ = Graph.of(problem).end_components(np.ones(problem.n_pairs, dtype=np.bool_))
    if blocks.max() > 0:
        method, reason = EndComponentIteration(RelativeValueIteration(max_rounds=rounds)), f"{blocks.max() + 1} end components"
    elif small:
        reason = "one maximal end component, so the best gain is the same in every state"
        _, start, width = RelativeValueIteration(max_rounds=rounds).sweep(problem, everywhere, 1, asked, start, watch)
        if width > asked:
            method, reason = MultichainPolicyIteration(), "sweeps converge slowly"
    try:
        return _proved(problem, method, eps, start, watch, method, reason)
    except NotConverged:
        if not small or isinstance(method, MultichainPolicyIteration):
            raise
    method, reason = MultichainPolicyIteration(), "sweeps converge slowly"
    return _proved(problem, method, eps, start, watch, method, reason)


def _proved(
    problem: MDP, inner: GainMethod, eps: float, start: np.ndarray | None, watch: Watch, method: Any, reason: str
) -> Answer:
    reached = np.inf
    comfortable = 8.0 * (int(np.diff(problem.row_ptr).max()) + 10)
    for share in _TIGHTER:
        estimate = inner.estimate(problem, share * eps, start, watch)
        start = estimate.bias
        width = np.inf
        for guard in (comfortable, 4.0):
            lower, upper, witness = gain_bracket(problem, estimate, guard)
            width = float(np.max(upper - lower))
            if width <= eps:
                return Answer(lower, upper, estimate.policy, method, reason, witness)
        if width > 0.999 * reached:
            break
        reached = min(reached, width)
    raise NotConverged(
        f"the proved bracket is {reached:.3g} wide and rounding allows no less (asked for {eps:.3g}); ask for a wider eps",
        reached=reached,
    )

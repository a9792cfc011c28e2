r"""Incremental worst-case search: a robust problem as a sequence of ordinary ones.

Keep the models found so far, T_0 .. T_i. Solve, be greedy, let nature answer the policy p_i over the whole set U with the model
T_{i+1} that hurts it most from the start s_0; stop when she finds nothing worse than was feared:

    published:   Q_i = min_j Q*_{T_j},                p_i greedy for Q_i,        feared = max_a Q_i(s_0, a);
    repaired:    W_i = robust value where nature has, for every pair, the rows of T_0 .. T_i to choose from,
                                                      p_i greedy for W_i,        feared = W_i(s_0).

With U rectangular both are feared >= V*_U(s_0) >= worst value of p_i. The published version may find a model it knows and stop
with a gap open, since a minimum of Q functions is the Q function of nobody: then the status is STALLED, and both bounds are
given. The repaired version cannot: if T_{i+1} consists of known rows then V^{p_i}_U(s_0) = V^{p_i}_{T_{i+1}}(s_0) >= W_i(s_0),
and p_i is optimal; otherwise the set of known rows grows, and it is finite where U has finitely many vertices. It is a
cutting-plane method.

Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212); the stall and its repair are ours.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..mdp.ambiguity.scenarios import Scenarios
from ..mdp.criterion import Discounted
from ..mdp.dense import spread
from ..mdp.model import MDP
from ..mdp.restriction import restricted
from ..mdp.robust import RobustMDP
from .errors import NotConverged, SolveError
from .solve import solve

_SAME = 1e-12
"""Rows nearer than this, in every entry, are one row."""


class Status(enum.Enum):
    """How a search ended."""

    OPTIMAL = "nature finds nothing worse than was feared"
    STALLED = "nature's answer is a model that is known, and the gap is open; use repaired=True"


@dataclass(frozen=True)
class Round:
    """One round: what was feared at the start, what nature's answer is worth there at least, and the policy (n,) between."""

    feared: float
    worst: float
    policy: np.ndarray


@dataclass(frozen=True)
class WorstCaseSearch:
    """What the search found.

    status: OPTIMAL or STALLED. policy: int32 (n,), of the round with the best worst case.
    lower: the policy's worst case at the start, proved.
    upper: at or above V*_U at the start, up to the rounding of the rows found. Where nature picks one of finitely many models
        for good: with repaired=False, at or above the worst case of every deterministic policy; with repaired=True the value
        against a nature who may mix the rows of these models, which bounds nothing from above and may lie below `lower`.
    models: rows (z,) of every model found, the first one included, in the layout of `problem`.
    rounds: one after the other.
    """

    status: Status
    policy: np.ndarray
    lower: float
    upper: float
    models: list[np.ndarray]
    rounds: list[Round]
    problem: MDP


def iwocs(
    nature: RobustMDP | Sequence[MDP],
    state: int = 0,
    *,
    eps: float = 1e-6,
    repaired: bool = True,
    method: Any = None,
    max_rounds: int = 1_000,
) -> WorstCaseSearch:
    """Search for the worst case from one state.

    nature: a robust problem, whose nominal rows are the first model; or finitely many models of equal states, actions and
        rewards, of which nature picks one for good. These are not rectangular, and `upper` means less then, see
        `WorstCaseSearch`; OPTIMAL says no more than its words.
    state: the start s_0. eps: > 0, gap at which to stop; the ordinary problems are solved to a quarter of it.
    method: how ordinary problems are solved, or None for a good one.
    Raises SolveError for a problem that minimises, is optimistic, s-rectangular or not discounted, NotConverged after
    max_rounds.
    """
    game = _Rectangular(_checked(nature), eps / 4) if isinstance(nature, RobustMDP) else _Static(nature, eps / 4)
    if not 0 <= state < game.problem.n_states:
        raise SolveError(f"state {state} is not in 0..{game.problem.n_states - 1}")
    models, rounds, gap = [game.problem.probability.copy()], [], np.inf
    for _ in range(max_rounds):
        feared, policy = (_hull if repaired else _least_of_all)(game.problem, models, state, method, eps / 4)
        worst, rows = game.answer(policy, state)
        rounds.append(Round(feared, worst, policy))
        best = max(rounds, key=lambda one: one.worst)
        lowest = min(one.feared for one in rounds)
        gap = feared - worst
        if gap <= eps:
            return WorstCaseSearch(Status.OPTIMAL, policy, worst, feared, models, rounds, game.problem)
        known = _among_rows if repaired and isinstance(game, _Rectangular) else _among
        if known(rows, models, game.problem):
            return WorstCaseSearch(Status.STALLED, best.policy, best.worst, lowest, models, rounds, game.problem)
        models.append(rows)
    raise NotConverged(
        f"the gap is still {gap:.3g} after {max_rounds} rounds (asked for {eps:.3g}); raise max_rounds or eps",
        reached=gap,
    )


def _checked(problem: RobustMDP) -> RobustMDP:
    if problem.criterion.minimize or problem.optimistic or not isinstance(problem.criterion, Discounted):
        raise SolveError("the search is for discounted maximisation against a hostile nature; take problem.negated(), or solve")
    if problem.rectangularity == "s":
        raise SolveError("the search is for rows that nature picks apart from each other; use solve for SRectangular sets")
    if problem.transition_reward is not None:
        raise SolveError("the search knows rewards of pairs only; average transition_reward into them, or use solve")
    return problem


def _least_of_all(problem: MDP, models: list[np.ndarray], state: int, method: Any, eps: float) -> tuple[float, np.ndarray]:
    """(max_a, greedy policy) of the least of the models' optimal Q functions."""
    least = np.full(problem.n_pairs, np.inf)
    for rows in models:
        value = solve(problem.replace(probability=rows), method, eps=eps).certificate.upper
        ahead = np.add.reduceat(rows * value[problem.successor], problem.row_ptr[:-1])
        least = np.minimum(least, problem.reward + problem.discount * ahead)
    return _greedy(problem, least, state)


def _hull(problem: MDP, models: list[np.ndarray], state: int, method: Any, eps: float) -> tuple[float, np.ndarray]:
    """(W at the state, greedy policy) where nature has every model's row for every pair."""
    cuts = problem.row_ptr[1:-1]
    choices = zip(*(np.split(rows, cuts) for rows in models), strict=True)
    sets = [Scenarios(np.array(rows)) for rows in choices]
    answer = solve(RobustMDP(problem, sets), eps=eps)
    return float(answer.certificate.upper[state]), answer.policy


def _greedy(problem: MDP, worth: np.ndarray, state: int) -> tuple[float, np.ndarray]:
    policy = np.full(problem.n_states, -1, dtype=np.int32)
    for s in np.flatnonzero(~problem.terminal):
        policy[s] = int(np.argmax(worth[problem.state_ptr[s] : problem.state_ptr[s + 1]]))
    here = problem.state_ptr[state] + policy[state]
    return float(problem.terminal_value[state] if policy[state] < 0 else worth[here]), policy


def _among(rows: np.ndarray, models: list[np.ndarray], _: MDP) -> bool:
    return any(np.abs(rows - known).max(initial=0.0) <= _SAME for known in models)


def _among_rows(rows: np.ndarray, models: list[np.ndarray], problem: MDP) -> bool:
    """Whether every row is one of the known rows of its pair."""
    off = np.array([np.maximum.reduceat(np.abs(rows - known), problem.row_ptr[:-1]) for known in models])
    return bool((off.min(axis=0) <= _SAME).all())


@dataclass(frozen=True)
class _Rectangular:
    """Nature picks every row apart: her answer to a policy is robust policy evaluation."""

    robust: RobustMDP
    eps: float

    @property
    def problem(self) -> MDP:
        return self.robust.problem

    def answer(self, policy: np.ndarray, state: int) -> tuple[float, np.ndarray]:
        """(proved worst value of the policy (n,) at the state, rows of a worst model)."""
        answer = solve(self.robust.restricted(policy), eps=self.eps)
        return float(answer.certificate.lower[state]), self.robust.operator.worst_rows(answer.value)


class _Static:
    """Nature picks one of finitely many models for good."""

    def __init__(self, models: Sequence[MDP], eps: float) -> None:
        if not models or not all(isinstance(model, MDP) and isinstance(model.criterion, Discounted) for model in models):
            raise SolveError("nature needs at least one discounted MDP to choose")
        first = models[0]
        for index, model in enumerate(models):
            same = np.array_equal(model.state_ptr, first.state_ptr) and np.array_equal(model.reward, first.reward)
            if not same or model.criterion != first.criterion or not np.array_equal(model.terminal_value, first.terminal_value):
                raise SolveError(f"model {index} differs from model 0 in more than its rows")
        if first.criterion.minimize:
            raise SolveError("the search maximises; take the negated models")
        self.models, self.eps, self.problem = list(models), eps, spread(first)
        self.rows = [spread(model).probability for model in models]

    def answer(self, policy: np.ndarray, state: int) -> tuple[float, np.ndarray]:
        """(proved worst value of the policy (n,) at the state, rows of a worst model)."""
        worths = [float(solve(restricted(model, policy), eps=self.eps).certificate.lower[state]) for model in self.models]
        worst = int(np.argmin(worths))
        return worths[worst], self.rows[worst]

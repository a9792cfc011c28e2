r"""The decision problem on observation histories, and the beliefs behind it.

A history t = (o_1, a_1, ..., o_h) leaves a belief b(s) = P(s_h = s | t). On histories the problem is a tree:

    r(t, a) = sum_s b(s) r(s, a),      P(t a o | t, a) = sum_s' (sum_s b(s) P(s' | s, a)) Z(o | s'),
    b'(s') ~ (sum_s b(s) P(s' | s, a)) Z(o | s').

It has up to |O|^h |A|^(h-1) states at decision h. Histories of one length and one belief are bisimilar, hence the coarsest
bisimulation has at most as many classes at each h as there are beliefs (fewer where parts of the belief do not matter): that is
what makes logged episodes of different histories count for each other (Hong, Dragan and Levine, ICLR 2024, arXiv:2310.20663).

Beliefs are computed in fractions, rows of probabilities taken as weights over their exact sum, and rounded once: equal beliefs
give equal rows. Where rounding keeps other classes apart, ask for `coarsest_bisimulation(model, rational=True)`. Histories of
different lengths are never bisimilar, as they are at different distances from the end.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from .criterion import TotalReward
from .errors import ModelError
from .explore import from_callable
from .model import MDP
from .pomdp import POMDP, Episodes
from .quotient import Partition
from .simulate import Trajectories

History = tuple[int, ...]
"""Observations and actions in turn, first and last an observation."""

Belief = tuple[Fraction, ...]
END = "end"


@dataclass(frozen=True, eq=False)
class HistoryTree:
    """A problem on its histories.

    model: their decision problem, `TotalReward`; the last of its n states is the end, actions are in the order of their
    numbers. histories: of the first n - 1 states. beliefs: of these, each (S,) fractions that sum to one. horizon: decisions.
    number: the state of each history.
    """

    model: MDP
    histories: tuple[History, ...]
    beliefs: tuple[Belief, ...]
    horizon: int
    number: Mapping[History, int]

    @property
    def steps(self) -> np.ndarray:
        """The decision, 0, ..., H - 1, at which a state occurs, int64 (n,); H at the end."""
        return np.array([*(len(history) // 2 for history in self.histories), self.horizon])

    def by_belief(self) -> Partition:
        """Histories of one length and one belief together."""
        return self.merged([(len(t) // 2, b) for t, b in zip(self.histories, self.beliefs, strict=True)])

    def merged(self, keys: Iterable[Hashable]) -> Partition:
        """Histories of one key together, keys in the order of `histories`; the end alone. Raises ModelError where `Partition`
        does."""
        found: dict[Hashable, int] = {}
        classes = [found.setdefault(key, len(found)) for key in keys]
        return Partition.by_position(self.model, np.array([*classes, len(found)]))

    def trajectories(self, logged: Episodes) -> Trajectories:
        """Logged episodes as paths of the tree, states int32 (episodes, horizon + 1).

        Raises ModelError naming a history that cannot happen.
        """
        states = np.full((len(logged), self.horizon + 1), self.model.n_states - 1, dtype=np.int32)
        for i, (seen, done) in enumerate(zip(logged.observations.tolist(), logged.actions.tolist(), strict=True)):
            history: History = ()
            for h in range(self.horizon):
                history = (*history, done[h - 1], seen[h]) if h else (seen[0],)
                if history not in self.number:
                    raise ModelError(f"episode {i} has the history {history}, of probability zero; it is of another problem")
                states[i, h] = self.number[history]
        return Trajectories(states, logged.actions.astype(np.int32), logged.rewards)

    def value(self, policy: np.ndarray) -> np.ndarray:
        """What a policy is worth at every history, float64 (n,); policy: actions, int (n,), or a row a decision, int (H, n)."""
        model, steps = self.model, self.steps
        actions = policy if policy.ndim == 1 else policy[np.minimum(steps, self.horizon - 1), np.arange(model.n_states)]
        value = np.zeros(model.n_states)
        for state in range(model.n_states - 2, -1, -1):
            pair = model.state_ptr[state] + actions[state]
            row = slice(model.row_ptr[pair], model.row_ptr[pair + 1])
            value[state] = model.reward[pair] + model.probability[row] @ value[model.successor[row]]
        return value

    def worth(self, policy: np.ndarray) -> float:
        """The expected return of a policy from the start; see `value`, of shapes (n,) or (H, n)."""
        return float(np.asarray(self.model.initial) @ self.value(policy))


def history_tree(problem: POMDP, max_histories: int = 100_000) -> HistoryTree:
    """All histories of positive probability, shortest first.

    Raises ModelError for more than `max_histories`.
    """
    exact = _Exact(problem)
    beliefs: dict[Any, Belief] = {}
    start: dict[Any, float] = {}
    for observation, (probability, belief) in exact.seen(exact.initial).items():
        start[(observation,)], beliefs[(observation,)] = float(probability), belief
    order: list[Any] = []

    def step(history: Any) -> Any:
        if history == END:
            return 0.0
        order.append(history)
        return {a: transitions(history, a) for a in range(problem.n_actions)}

    def transitions(history: History, action: int) -> list[tuple[float, Any, float]]:
        belief = beliefs[history]
        reward = float(sum((p * r for p, r in zip(belief, exact.reward[action], strict=True)), Fraction(0)))
        if len(history) // 2 + 1 == problem.horizon:
            return [(1.0, END, reward)]
        found = exact.seen(exact.moved(belief, action))
        beliefs.update({(*history, action, o): following for o, (_, following) in found.items()})
        return [(float(p), (*history, action, o), reward) for o, (p, _) in found.items()]

    model = from_callable(step, start, criterion=TotalReward(), max_states=max_histories + 1)
    number = MappingProxyType({history: i for i, history in enumerate(order)})
    return HistoryTree(model, tuple(order), tuple(beliefs[t] for t in order), problem.horizon, number)


class _Exact:
    """The problem in fractions."""

    def __init__(self, problem: POMDP) -> None:
        self.initial = _weights(problem.initial)
        self.transition = [[_weights(row) for row in rows] for rows in problem.transition]
        self.observation = [_weights(row) for row in problem.observation]
        self.reward = [[Fraction(float(r)) for r in column] for column in problem.reward.T]

    def moved(self, belief: Belief, action: int) -> Belief:
        """The law of the next state."""
        law = [Fraction(0)] * len(belief)
        for p, rows in zip(belief, self.transition, strict=True):
            for state, q in enumerate(rows[action]) if p else ():
                law[state] += p * q
        return tuple(law)

    def seen(self, law: Belief) -> dict[int, tuple[Fraction, Belief]]:
        """What may be observed of a state of that law: its probability, and the belief that it leaves."""
        found = {}
        for o in range(len(self.observation[0])):
            joint = [p * row[o] for p, row in zip(law, self.observation, strict=True)]
            total = sum(joint, Fraction(0))
            if total:
                found[o] = (total, tuple(p / total for p in joint))
        return found


def _weights(row: np.ndarray) -> Belief:
    parts = [Fraction(float(p)) for p in row]
    total = sum(parts, Fraction(0))
    return tuple(p / total for p in parts)

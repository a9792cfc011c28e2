r"""Vectors and neighbouring models at which a bound is measured.

A statement about all v is measured where it hurts: at the start of value iteration and a few sweeps on,
at v* moved by +-1 in every state (all patterns of few states; random moves of many), and, for greedy policies, at

    v = v* + e s,    e = (q*(a*) - q*(a)) / (g (P_a - P_a*) s),    s = +1 where P_a > P_a*, else -1,

the vector nearest to v* in sup norm at which the worse action a is a greedy choice in its state (Singh and Yee 1994).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from ..mdp.criterion import Discounted
from ..mdp.model import MDP
from .rational import RationalEvidence

_ALL_PATTERNS = 3
"""Acting states up to which every sign pattern is tried."""


def signs(problem: MDP) -> Iterator[tuple[str, np.ndarray]]:
    """(name, direction): vectors (n,) of sup norm at most one: every pattern of signs for few acting states; for many, where
    equality could not be told from rounding anyway, four drawn uniformly from a fixed seed."""
    acting = np.flatnonzero(~problem.terminal)
    if len(acting) <= _ALL_PATTERNS:
        patterns = [np.array(pattern) for pattern in product((1.0, -1.0), repeat=len(acting))]
        names = ["".join("+" if sign > 0 else "-" for sign in pattern) for pattern in patterns]
    else:
        rng = np.random.default_rng(0)
        patterns = [rng.uniform(-1.0, 1.0, len(acting)) for _ in range(4)]
        names = [f"random {number}" for number in range(1, 5)]
    for name, pattern in zip(names, patterns, strict=True):
        direction = np.zeros(problem.n_states)
        direction[acting] = pattern
        yield name, direction


def vectors(evidence: Any) -> Iterator[tuple[str, Any]]:
    """(name, vector): zero, five sweeps from zero, and v* moved by `signs`."""
    value = evidence.zero()
    yield "0", value
    for _ in range(5):
        value = evidence.apply(value)
    yield "T^5 0", value
    centre = evidence.middle(evidence.optimal())
    for name, direction in signs(evidence.problem):
        yield f"v* moved by {name}", evidence.moved(centre, direction)


def temptations(evidence: Any) -> Iterator[tuple[str, Any]]:
    """(name, vector): for each action that is not optimal the vector nearest to v* at which it is greedy; see the module.

    Without exact numbers there are no ties, and nothing is yielded.
    """
    if not isinstance(evidence, RationalEvidence):
        return
    optimum = evidence.optimal()
    worth, rows = evidence.action_values(optimum), evidence.matrix.table()
    best = evidence.pairs_of(evidence.greedy(optimum))
    for state, chosen in zip(evidence.acting.tolist(), best.tolist(), strict=True):
        for pair in range(evidence.state_ptr[state], evidence.state_ptr[state + 1]):
            gap = worth[chosen] - worth[pair]
            pull = np.array([1.0 if a > b else -1.0 for a, b in zip(rows[pair], rows[chosen], strict=True)])
            drift = evidence.discount * sum(
                (a - b) * int(s)
                for a, b, s, ends in zip(rows[pair], rows[chosen], pull, evidence.terminal, strict=True)
                if not ends
            )
            if gap > 0 and drift > 0:
                action = pair - evidence.state_ptr[state]
                yield (
                    f"nearest v at which action {action} of state {state} is greedy",
                    evidence.moved(optimum, pull, gap / drift),
                )


def by_first_and_last_actions(evidence: Any) -> tuple[Any, Any]:
    """Two Markov chains on the same states: the problem with everybody's first, and with everybody's last action."""
    problem = evidence.problem
    first = np.where(problem.terminal, -1, 0).astype(np.int32)
    last = (np.diff(problem.state_ptr) - 1).astype(np.int32)
    return evidence.restricted(first), evidence.restricted(last)


def mistaken(problem: MDP, reward_error: float, jump: float) -> MDP:
    """A wrong model of a problem, with the same pairs: rewards off by `reward_error`, the first pair's up, the next's down, and
    so on; rows that, with probability `jump` in [0, 1], lead to state 0 instead."""
    ends = problem.row_ptr[1:]
    return problem.replace(
        row_ptr=problem.row_ptr + np.arange(len(problem.row_ptr)),
        successor=np.insert(problem.successor, ends, 0),
        probability=np.insert((1 - jump) * problem.probability, ends, jump),
        reward=problem.reward + reward_error * np.where(np.arange(problem.n_pairs) % 2, -1.0, 1.0),
    )


def tempting_rewards(problem: MDP, best: np.ndarray, error: float) -> MDP:
    """The problem with the rewards of the policy `best`, int32 (n,), lowered by `error` and all others raised by it."""
    acting = ~problem.terminal
    shift = np.ones(problem.n_pairs)
    shift[(problem.state_ptr[:-1] + best)[acting]] = -1.0
    return problem.replace(reward=problem.reward + error * shift)


def discounted_by(problem: MDP, discount: float) -> MDP:
    """The same rows and rewards under another discount in [0, 1)."""
    return problem.replace(criterion=Discounted(discount))

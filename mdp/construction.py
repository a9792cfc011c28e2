r"""Combinatorial problems as decision problems: one item at a time, on whole histories or on what is left to do.

An instance (f, X) is a finite set X of sequences of steps and an objective f, here to be made large. A partial solution is a
prefix.

direct      states are prefixes; a step z that some solution continues x with pays f(x z) - f(x); the last one ends
(`direct_mdp`) tail        states are tail instances: what may still follow, and what it adds to f. Phi maps a prefix to its
tail (`tail_mdp`)

Phi is a bisimulation: prefixes of one tail offer the same steps, which pay the same and lead to prefixes of one tail again
(Drakulic, Michel, Mai, Sors and Andreoli, NeurIPS 2023, arXiv:2301.03313). So an optimal policy of the tails, asked at the tail
of every prefix, builds optimal solutions; and a travelling salesman with N cities has 1 + N 2^(N-1) tails for sum_k N!/(N-k)!
prefixes. It need not be the coarsest: tails of a knapsack whose other items no longer fit are the same to any experiment.

The problems are in `banach.mdp.combinatorial`.
"""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from .criterion import TotalReward
from .errors import ModelError
from .explore import from_callable
from .model import MDP
from .quotient import Partition

CLOSE, STOP = "close", "stop"
END = "end"
"""The state in which nothing is left to do."""

Prefix = tuple[str, ...]
Tail = tuple[Hashable, ...]


class Construction(Protocol):
    """A problem that is solved step by step. Steps are words."""

    def steps(self, prefix: Prefix) -> list[str]:
        """The steps that some solution continues the prefix with; `CLOSE` and `STOP` end it."""
        ...

    def objective(self, prefix: Prefix) -> Fraction:
        """f of a prefix, exactly, from the whole of it."""
        ...

    def tail(self, prefix: Prefix) -> Tail:
        """Phi of a prefix that has not ended."""
        ...

    def continuations(self, tail: Tail) -> dict[str, tuple[float, Tail | None]]:
        """What each step from a tail pays, and the tail after it; None where it ends."""
        ...


def direct_mdp(problem: Construction, max_states: int = 1_000_000) -> MDP:
    """The problem on prefixes, to be made large in total; states and actions are named by their steps, the first is the start.

    Raises ModelError for more than `max_states` prefixes.
    """

    def step(state: Any) -> Any:
        if state == END:
            return 0.0
        here = problem.objective(state)
        return {
            z: [(1.0, END if z in (CLOSE, STOP) else (*state, z), float(problem.objective((*state, z)) - here))]
            for z in problem.steps(state)
        }

    return _spoken(from_callable(step, [()], criterion=TotalReward(), max_states=max_states))


def tail_mdp(problem: Construction, max_states: int = 1_000_000) -> MDP:
    """The problem on tails; states are named by what is left, the first is the whole problem.

    Raises ModelError for more than `max_states` tails.
    """

    def step(state: Any) -> Any:
        if state == END:
            return 0.0
        steps = problem.continuations(state)
        return {z: [(1.0, END if following is None else following, pays)] for z, (pays, following) in steps.items()}

    return _spoken(from_callable(step, [problem.tail(())], criterion=TotalReward(), max_states=max_states))


def _spoken(model: MDP) -> MDP:
    return model.replace(labels={END: model.terminal})


def prefixes(problem: Construction) -> list[Prefix | str]:
    """The states of `direct_mdp`, in its order: prefixes, and `END`."""
    found: list[Any] = [()]
    seen: set[Any] = {()}
    for state in found:
        for z in problem.steps(state) if state != END else ():
            following = END if z in (CLOSE, STOP) else (*state, z)
            if following not in seen:
                seen.add(following)
                found.append(following)
    return found


def tail_partition(problem: Construction, direct: MDP) -> Partition:
    """Phi as a partition of the direct problem, actions matched by their names.

    Raises ModelError for a model that is not `direct_mdp(problem)`.
    """
    states = prefixes(problem)
    if len(states) != direct.n_states or direct.action_names is None:
        raise ModelError(f"the model has {direct.n_states} states and the problem {len(states)}; give direct_mdp(problem)")
    number: dict[Hashable, int] = {}
    classes = [number.setdefault(END if state == END else problem.tail(tuple(state)), len(number)) for state in states]
    pairs: dict[Hashable, int] = {}
    named = zip(direct.pair_state.tolist(), direct.action_names, strict=True)
    matched = [pairs.setdefault((classes[state], name), len(pairs)) for state, name in named]
    return Partition(np.array(classes), np.array(matched))

r"""Models from a Python function, explored breadth-first from the initial states.

    step(state) = {action: [(probability, successor, reward), ...], ...}       what each action may lead to
    step(state) = a number                                                     the process ends here, worth that number
    step(state) = {}                                                           the process ends here, worth nothing

States and actions are any hashable objects; states are numbered in the order in which they are found, initial ones first.
A successor given twice is one transition with the sum of the probabilities; one of probability zero is not followed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .criterion import Criterion
from .errors import ModelError
from .expectation import expected_reward
from .model import MDP, criterion_from

Step = Callable[[Any], Mapping[Any, Iterable[tuple[float, Any, float]]] | float]


def from_callable(
    step: Step,
    initial: Sequence[Any] | Mapping[Any, float],
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    max_states: int = 10_000_000,
) -> MDP:
    """The part of a problem that is reachable from its initial states, named by the states and actions themselves.

    step: of a state, its actions with their transitions, or its terminal value; see the head of the module.
    initial: the initial states, equally likely, or a mapping from them to their probabilities.
    discount, criterion: exactly one of them.
    max_states: at most so many states are explored.
    Raises ModelError, naming state and action, when there are more states, when step returns something else, when a state
    cannot be hashed, and for everything that `MDP` refuses. What step itself raises passes through.
    """
    criterion = criterion_from(discount, criterion)
    found = _Found(max_states)
    weights = _initial(initial)
    for state in weights:
        found.number(state, None)
    state_ptr, names, worth = array("q", [0]), [], {}
    rows = _Rows(found)
    for state in found.states:  # grows while it is walked
        actions = step(state)
        if isinstance(actions, Mapping):
            for action, transitions in actions.items():
                rows.add(state, action, transitions)
                names.append(str(action))
        worth.update(_terminal(len(state_ptr) - 1, state, actions))
        state_ptr.append(len(names))
    n_states = len(found.states)
    terminal, value, start = np.zeros(n_states, dtype=np.bool_), np.zeros(n_states), np.zeros(n_states)
    terminal[list(worth)], value[list(worth)] = True, list(worth.values())
    start[: len(weights)] = list(weights.values())
    return MDP(
        state_ptr=np.array(state_ptr),
        row_ptr=np.array(rows.row_ptr),
        successor=np.array(rows.successor),
        probability=np.array(rows.probability),
        reward=np.array(rows.reward),
        criterion=criterion,
        terminal=terminal,
        terminal_value=value,
        initial=start,
        state_names=[str(state) for state in found.states],
        action_names=names,
    )


class _Found:
    """States in the order in which they were found, and their numbers."""

    def __init__(self, max_states: int) -> None:
        self.states: list[Any] = []
        self.max_states = max_states
        self._numbers: dict[Any, int] = {}

    def number(self, state: Any, source: Any) -> int:
        """The state's number, a new one if it has not been seen."""
        try:
            known = self._numbers.setdefault(state, len(self.states))
        except TypeError as fault:
            raise ModelError(f"state {state!r} cannot be a key ({fault}); use a tuple or another immutable object") from None
        if known == len(self.states):
            if known >= self.max_states:
                raise ModelError(
                    f"more than {self.max_states} states can be reached, the last {state!r} from {source!r}; "
                    "bound the state space, or raise max_states"
                )
            self.states.append(state)
        return known


class _Rows:
    """Transitions of the pairs seen so far."""

    def __init__(self, found: _Found) -> None:
        self.found = found
        self.row_ptr, self.successor = array("q", [0]), array("q")
        self.probability, self.reward = array("d"), array("d")

    def add(self, state: Any, action: Any, transitions: Any) -> None:
        """Append the row of one pair; equal successors are merged."""
        probabilities, rewards, merged = [], [], {}
        for entry in _listed(state, action, transitions):
            probability, successor, reward = _numbers(state, action, entry)
            probabilities.append(probability)
            rewards.append(reward if probability else 0.0)
            if probability:
                merged.setdefault(self.found.number(successor, state), []).append(probability)
        self.successor.extend(merged)
        self.probability.extend(math.fsum(parts) for parts in merged.values())
        self.row_ptr.append(len(self.successor))
        whole = np.array([0, len(probabilities)])
        self.reward.append(expected_reward(whole, np.array(probabilities), np.array(rewards))[0])


def _initial(initial: Sequence[Any] | Mapping[Any, float]) -> Mapping[Any, float]:
    try:
        weights = dict(initial) if isinstance(initial, Mapping) else dict.fromkeys(initial, 1.0)
    except TypeError as fault:
        raise ModelError(
            f"initial is {initial!r} ({fault}); give a list of hashable states, or a mapping to probabilities"
        ) from None
    if not weights:
        raise ModelError("initial is empty; give at least one state to start from")
    if not isinstance(initial, Mapping):
        return {state: 1.0 / len(weights) for state in weights}
    return weights


def _terminal(number: int, state: Any, actions: Any) -> dict[int, float]:
    if isinstance(actions, Mapping):
        return {} if actions else {number: 0.0}
    if isinstance(actions, bool) or not isinstance(actions, (int, float, np.integer, np.floating)):
        raise ModelError(
            f"step({state!r}) returned {actions!r}; return a mapping {{action: [(probability, successor, reward), ...]}}, "
            "or a number where the process ends"
        )
    return {number: float(actions)}


def _listed(state: Any, action: Any, transitions: Any) -> list[Any]:
    if isinstance(transitions, (str, bytes)) or not isinstance(transitions, Iterable):
        raise ModelError(f"state {state!r}, action {action!r}: {transitions!r} is no list of (probability, successor, reward)")
    return list(transitions)


def _numbers(state: Any, action: Any, entry: Any) -> tuple[float, Any, float]:
    try:
        probability, successor, reward = entry
        probability, reward = float(probability), float(reward)
    except (TypeError, ValueError) as fault:
        raise ModelError(
            f"state {state!r}, action {action!r}: {entry!r} is no (probability, successor, reward) ({fault})"
        ) from None
    if not 0 <= probability < math.inf:
        raise ModelError(
            f"state {state!r}, action {action!r}: the probability to {successor!r} is {probability}; it must be in [0, 1]"
        )
    return probability, successor, reward

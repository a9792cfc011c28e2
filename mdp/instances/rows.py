"""From the two handy ways of writing a family down to the model's compressed rows.

Large families fill arrays of equal width, entry ((state * actions) + action) * width + i being the i-th successor and its
probability; `from_regular` squeezes them in place, so that no second copy of the model ever exists. Small ones are listed by
hand; see `from_lists`. `reachable` keeps what can happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numba
import numpy as np

from ..criterion import Criterion
from ..errors import ModelError
from ..model import MDP

Action = tuple[float, Mapping[int, float]]


def blank(n_states: int, n_actions: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Zeros for `from_regular` to be filled: successor and probability, (n_states * n_actions * width,), and reward,
    (n_states * n_actions,).

    Raises ModelError when no model can be so large.
    """
    size = n_states * n_actions * width
    if size > np.iinfo(np.int32).max:
        raise ModelError(
            f"{n_states} states, {n_actions} actions, {width} successors: more than 2^31 - 1 transitions; take fewer"
        )
    return np.zeros(size, dtype=np.int32), np.zeros(size), np.zeros(n_states * n_actions)


def from_regular(
    n_states: int,
    n_actions: int,
    width: int,
    successor: np.ndarray,
    probability: np.ndarray,
    reward: np.ndarray,
    criterion: Criterion,
    *,
    terminal: np.ndarray | None = None,
    **fields: Any,
) -> MDP:
    """The model of arrays of equal width. They are consumed.

    successor: int32 (n_states * n_actions * width,), owning its memory. probability: float64, the same shape; entries of
    probability 0 are dropped, equal successors of one row merged, and an action whose row is all zero does not exist.
    reward: float64 (n_states * n_actions,). terminal: bool (n_states,); their actions are dropped.
    fields: the other fields of `MDP`.
    """
    terminal = np.zeros(n_states, dtype=np.bool_) if terminal is None else terminal
    state_ptr = np.zeros(n_states + 1, dtype=np.int32)
    row_ptr = np.zeros(n_states * n_actions + 1, dtype=np.int32)
    pairs, entries = _squeeze(n_actions, width, terminal, successor, probability, reward, state_ptr, row_ptr)
    for array, size in ((successor, entries), (probability, entries), (reward, pairs), (row_ptr, pairs + 1)):
        array.resize(size, refcheck=False)
    return MDP(state_ptr, row_ptr, successor, probability, reward, criterion, terminal=terminal, **fields)


@numba.njit(cache=True, nogil=True)
def _squeeze(n_actions, width, terminal, successor, probability, reward, state_ptr, row_ptr):
    pairs = entries = 0
    for state in range(len(terminal)):
        for action in range(0 if terminal[state] else n_actions):
            first = (state * n_actions + action) * width
            begin = entries
            for entry in range(first, first + width):
                j, p = successor[entry], probability[entry]
                if p == 0.0:
                    continue
                at = begin
                while at < entries and successor[at] != j:
                    at += 1
                if at < entries:
                    probability[at] += p
                    continue
                successor[entries], probability[entries] = j, p
                entries += 1
            if entries > begin:
                reward[pairs] = reward[state * n_actions + action]
                pairs += 1
                row_ptr[pairs] = entries
        state_ptr[state + 1] = pairs
    return pairs, entries


def from_lists(states: Sequence[Sequence[Action] | float], criterion: Criterion, **fields: Any) -> MDP:
    """The model of a hand-written list: for each state its actions (reward, {successor: probability}), or, if it is terminal,
    its value. fields: the other fields of `MDP`."""
    acting = [[] if isinstance(state, (int, float)) else list(state) for state in states]
    rows = [action for actions in acting for action in actions]
    return MDP(
        state_ptr=np.cumsum([0, *map(len, acting)]),
        row_ptr=np.cumsum([0, *(len(row) for _, row in rows)]),
        successor=np.array([j for _, row in rows for j in row], dtype=np.int32),
        probability=np.array([float(p) for _, row in rows for p in row.values()]),
        reward=np.array([float(reward) for reward, _ in rows]),
        criterion=criterion,
        terminal=np.array([isinstance(state, (int, float)) for state in states]),
        terminal_value=np.array([float(state) if isinstance(state, (int, float)) else 0.0 for state in states]),
        **fields,
    )


def start_at(n_states: int, state: int) -> np.ndarray:
    """The initial distribution of a certain first state, (n_states,)."""
    initial = np.zeros(n_states)
    initial[state] = 1.0
    return initial


def reachable(model: MDP) -> MDP:
    """The part of the model that can be reached from its initial distribution, in the old order.

    Raises ModelError when the model has none.
    """
    if model.initial is None:
        raise ModelError("the model has no initial distribution to start from")
    seen = np.zeros(model.n_states, dtype=np.bool_)
    start = np.flatnonzero(model.initial).astype(np.int32)
    _flood(model.state_ptr, model.row_ptr, model.successor, start, seen)
    number = (np.cumsum(seen) - 1).astype(np.int32)
    pairs = seen[model.pair_state]
    entries = np.repeat(pairs, np.diff(model.row_ptr))
    return MDP(
        state_ptr=np.concatenate(([0], np.cumsum(np.diff(model.state_ptr)[seen]))),
        row_ptr=np.concatenate(([0], np.cumsum(np.diff(model.row_ptr)[pairs]))),
        successor=number[model.successor[entries]],
        probability=model.probability[entries],
        reward=model.reward[pairs],
        criterion=model.criterion,
        terminal=model.terminal[seen],
        terminal_value=model.terminal_value[seen],
        initial=model.initial[seen],
        labels={name: states[seen] for name, states in model.labels.items()},
    )


@numba.njit(cache=True, nogil=True)
def _flood(state_ptr, row_ptr, successor, start, seen):
    stack = np.empty(len(seen), dtype=np.int32)
    depth = 0
    for state in start:
        seen[state] = True
        stack[depth] = state
        depth += 1
    while depth:
        depth -= 1
        state = stack[depth]
        for entry in range(row_ptr[state_ptr[state]], row_ptr[state_ptr[state + 1]]):
            j = successor[entry]
            if not seen[j]:
                seen[j] = True
                stack[depth] = j
                depth += 1

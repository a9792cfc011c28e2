r"""Models for solvers without terminal states or without discounts.

Closed: a terminal state worth c gets one action, a self-loop with reward (1 - g) c, and keeps its value.

Ended: discounting as termination. Every row is multiplied by g and leads on to an extra state n, the end, with the rest of
its probability; a terminal state worth c goes to the end at once, with reward c. The undiscounted total reward until the end
is the discounted value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from banach.mdp import MDP


@dataclass(frozen=True)
class Rows:
    """A model's arrays, with the meaning that they have in `MDP`."""

    state_ptr: np.ndarray
    row_ptr: np.ndarray
    successor: np.ndarray
    probability: np.ndarray
    reward: np.ndarray

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.state_ptr) - 1

    @property
    def pair_state(self) -> np.ndarray:
        """State of each pair."""
        return np.repeat(np.arange(self.n_states), np.diff(self.state_ptr))


def closed(model: MDP) -> Rows:
    """The model with its terminal states made absorbing."""
    ends = np.flatnonzero(model.terminal)
    return _with_rows_of_ends(model, ends, (1 - model.discount) * model.terminal_value[ends])


def ended(model: MDP) -> Rows:
    """The discounted model with termination in place of discounting; the end is the last state."""
    ends = np.flatnonzero(model.terminal)
    rows = _with_rows_of_ends(model, np.full(len(ends), model.n_states), model.terminal_value[ends])
    acting = ~model.terminal[rows.pair_state]
    mass = np.where(acting, model.discount, 1.0)
    rest = 1 - mass * np.add.reduceat(rows.probability, rows.row_ptr[:-1])
    leaves = np.flatnonzero(acting)
    lengths = np.diff(rows.row_ptr) + acting
    at = rows.row_ptr[1:][leaves]
    return Rows(
        np.append(rows.state_ptr, len(rows.reward) + 1),
        np.concatenate(([0], np.cumsum(lengths), [lengths.sum() + 1])),
        np.append(np.insert(rows.successor, at, model.n_states), model.n_states),
        np.append(np.insert(rows.probability * np.repeat(mass, np.diff(rows.row_ptr)), at, rest[leaves]), 1.0),
        np.append(rows.reward, 0.0),
    )


def _with_rows_of_ends(model: MDP, target: np.ndarray, reward: np.ndarray) -> Rows:
    """One row for each terminal state, in order, leading to `target`."""
    ends = np.flatnonzero(model.terminal)
    pair, entry = model.state_ptr[ends], model.row_ptr[model.state_ptr[ends]]
    lengths = np.insert(np.diff(model.row_ptr), pair, 1)
    return Rows(
        np.concatenate(([0], np.cumsum(np.diff(model.state_ptr) + model.terminal))),
        np.concatenate(([0], np.cumsum(lengths))),
        np.insert(model.successor, entry, target),
        np.insert(model.probability, entry, 1.0),
        np.insert(model.reward, pair, reward),
    )

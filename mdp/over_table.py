"""What a problem that is built on an `MDP` says of itself as that one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .criterion import Criterion
    from .model import MDP


class OverTable:
    """A problem whose states, actions and terminal values are those of the MDP in its field `problem`."""

    problem: MDP

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.problem.n_states

    @property
    def n_pairs(self) -> int:
        """Number of state-action pairs."""
        return self.problem.n_pairs

    @property
    def n_transitions(self) -> int:
        """Number of stored transitions."""
        return self.problem.n_transitions

    @property
    def criterion(self) -> Criterion:
        """What is to be optimised."""
        return self.problem.criterion

    @property
    def reward(self) -> np.ndarray:
        """One-step reward of each pair, float64 (n_pairs,)."""
        return self.problem.reward

    @property
    def row_ptr(self) -> np.ndarray:
        """Transitions of each pair, int32 (n_pairs + 1,)."""
        return self.problem.row_ptr

    @property
    def terminal(self) -> np.ndarray:
        """Terminal states, bool (n_states,)."""
        return self.problem.terminal

    @property
    def terminal_value(self) -> np.ndarray:
        """What arriving in a terminal state is worth, float64 (n_states,)."""
        return self.problem.terminal_value

    @property
    def initial(self) -> np.ndarray | None:
        """The initial distribution, float64 (n_states,), or None."""
        return self.problem.initial

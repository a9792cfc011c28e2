r"""Decision problems whose state is not seen: partially observed problems of a finite horizon, and logged episodes of them.

A hidden state s_1 is drawn, then for h = 1, ..., H: o_h ~ Z(. | s_h) is seen, a_h is done, r(s_h, a_h) is earned and
s_{h+1} ~ P(. | s_h, a_h). Who acts knows the history (o_1, a_1, ..., o_h) only.

Kaelbling, Littman and Cassandra, Artif. Intell. 101, 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .errors import ModelError
from .validation import ROW_SUM_TOLERANCE

Act = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Actions (n,) after observations (n, h) and the actions (n, h - 1) between them."""


@dataclass(frozen=True, eq=False)
class POMDP:
    """A finite decision problem seen through observations. S states, A actions, O observations.

    transition: float64 (S, A, S). reward: float64 (S, A), any finite numbers. observation: float64 (S, O), of what is seen in a
    state. initial: float64 (S,), of the first state. horizon: decisions, >= 1. Rows of probabilities sum to one within 1e-9.
    Raises ModelError naming the array, the place and the number that is wrong.
    """

    transition: np.ndarray
    reward: np.ndarray
    observation: np.ndarray
    initial: np.ndarray
    horizon: int

    def __post_init__(self) -> None:
        for name in ("transition", "reward", "observation", "initial"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.reward.ndim != 2 or 0 in self.reward.shape:
            raise ModelError(f"reward has shape {self.reward.shape}; it must be (states, actions), at least one of each")
        n, m = self.reward.shape
        seen = self.observation.shape[-1] if self.observation.ndim == 2 and self.observation.size else 1
        for name, shape in (("transition", (n, m, n)), ("observation", (n, seen)), ("initial", (n,))):
            if getattr(self, name).shape != shape:
                raise ModelError(f"{name} has shape {getattr(self, name).shape}; for a reward of shape {(n, m)} it is {shape}")
            _require_rows(name, getattr(self, name))
        for s, a in np.argwhere(~np.isfinite(self.reward))[:1].tolist():
            raise ModelError(f"the reward of state {s}, action {a} is {self.reward[s, a]}; it must be finite")
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, (int, np.integer)) or self.horizon < 1:
            raise ModelError(f"horizon is {self.horizon!r}; it must be a whole number >= 1 of decisions")

    @property
    def n_states(self) -> int:
        """Number of hidden states."""
        return self.reward.shape[0]

    @property
    def n_actions(self) -> int:
        """Number of actions, the same in every state."""
        return self.reward.shape[1]

    @property
    def n_observations(self) -> int:
        """Number of observations."""
        return self.observation.shape[1]


def _require_rows(name: str, array: np.ndarray) -> None:
    for where in np.argwhere(~(np.isfinite(array) & (array >= 0)))[:1].tolist():
        raise ModelError(f"{name}{where} is {array[tuple(where)]}; a probability is a number >= 0")
    for where in np.argwhere(np.abs(array.sum(axis=-1) - 1) > ROW_SUM_TOLERANCE)[:1].tolist():
        raise ModelError(f"{name}{where} sums to {array.sum(axis=-1)[tuple(where)]}; it must sum to 1")


@dataclass(frozen=True, eq=False)
class Episodes:
    """Logged episodes of H decisions: observations and actions int64 (n, H), rewards float64 (n, H)."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.actions)


def uniform(problem: POMDP) -> Act:
    """The policy that draws every action with equal probability."""
    return lambda observations, _, rng: rng.integers(problem.n_actions, size=len(observations))


def episodes(problem: POMDP, act: Act, n: int, rng: np.random.Generator) -> Episodes:
    """n independent episodes; `act` sees the histories, int64 (n, h) and (n, h - 1).

    Raises ModelError for an action that there is not.
    """
    horizon = problem.horizon
    seen, done = np.empty((2, n, horizon), dtype=np.int64)
    earned = np.empty((n, horizon))
    state = _draw(np.broadcast_to(problem.initial, (n, problem.n_states)), rng)
    for h in range(horizon):
        seen[:, h] = _draw(problem.observation[state], rng)
        action = np.asarray(act(seen[:, : h + 1], done[:, :h], rng))
        if action.shape != (n,) or ((action < 0) | (action >= problem.n_actions)).any():
            raise ModelError(f"at decision {h} the policy gave {action!r}; it gives {n} actions in [0, {problem.n_actions})")
        done[:, h], earned[:, h] = action, problem.reward[state, action]
        state = _draw(problem.transition[state, action], rng)
    return Episodes(seen, done, earned)


def _draw(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index of each row of probabilities (n, k)."""
    below = np.cumsum(rows, axis=1)
    return (rng.random((len(rows), 1)) * below[:, -1:] >= below).sum(axis=1)

r"""gymnasium's toy-text environments as models, and models as environments.

A table env.unwrapped.P[state][action] = [(probability, successor, reward, terminated), ...] is a model already. What it
leaves open is where the process ends: a transition with terminated=True does not go on from its successor, yet the table
often has a row for that state. So a successor that is reached by such transitions only, and where no episode begins,
becomes terminal, and its row is dropped; where other transitions lead to it as well, the terminated ones are led to one extra
terminal state, number n, instead. Both are worth nothing.

Towers et al., Gymnasium, 2024, arXiv:2407.17032.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from .criterion import Criterion, FiniteHorizon
from .errors import ModelError
from .expectation import expected_reward
from .model import MDP, criterion_from

Transition = tuple[float, int, float, bool]


def from_gymnasium(env: gymnasium.Env, discount: float | None = None, *, criterion: Criterion | None = None) -> MDP:
    """The model in an environment's table `env.unwrapped.P`, which FrozenLake, CliffWalking and Taxi have.

    States and actions keep their numbers; there may be one terminal state more (see the head of the module).
    `initial_state_distrib` becomes the initial distribution where the environment has one.
    Raises ModelError when there is no such table, naming what is wrong with it, and for everything that `MDP` refuses.
    """
    table = _table(env)
    initial = getattr(env.unwrapped, "initial_state_distrib", None)
    start = None if initial is None else np.array(initial, dtype=np.float64)
    n_states = len(table)
    if start is not None and start.shape != (n_states,):
        raise ModelError(f"initial_state_distrib has shape {start.shape}, but P has {n_states} states")
    ends, redirect = _ends(table, start)
    total = n_states + int(redirect)
    state_ptr, row_ptr, row_of_entry = array("q", [0]), array("q", [0]), array("q", [0])
    successor, probability = array("q"), array("d")
    chance, earned, names = array("d"), array("d"), []
    for state in range(total):
        for action, transitions in () if state == n_states or ends[state] else table[state].items():
            merged: dict[int, list[float]] = {}
            for p, to, r, done in transitions:
                chance.append(p)
                earned.append(r if p else 0.0)
                merged.setdefault(n_states if done and redirect and not ends[to] else to, []).append(p)
            row_of_entry.append(len(chance))
            kept = {to: math.fsum(parts) for to, parts in merged.items() if any(parts)}
            successor.extend(kept)
            probability.extend(kept.values())
            row_ptr.append(len(successor))
            names.append(str(action))
        state_ptr.append(len(names))
    terminal = np.append(ends, True) if redirect else ends
    return MDP(
        state_ptr=np.array(state_ptr),
        row_ptr=np.array(row_ptr),
        successor=np.array(successor),
        probability=np.array(probability),
        reward=expected_reward(np.array(row_of_entry), np.array(chance), np.array(earned)),
        criterion=criterion_from(discount, criterion),
        terminal=terminal,
        initial=start if start is None or not redirect else np.append(start, 0.0),
        action_names=names,
    )


def _table(env: gymnasium.Env) -> list[dict[Any, list[Transition]]]:
    """The table with states 0..n-1 in order and plain numbers. Raises ModelError naming state, action and entry."""
    given = getattr(getattr(env, "unwrapped", env), "P", None)
    if isinstance(given, Sequence) and not isinstance(given, str):
        given = dict(enumerate(given))
    if not isinstance(given, Mapping) or not given:
        raise ModelError(
            f"{env} has no table env.unwrapped.P of its transitions; FrozenLake, CliffWalking and Taxi have one, "
            "other environments can be written as a function for MDP.from_callable"
        )
    n_states = len(given)
    if set(given) != set(range(n_states)):
        raise ModelError(f"the table P has {n_states} states, but they are not numbered 0..{n_states - 1}")
    table = []
    for state in range(n_states):
        actions = given[state]
        items = actions.items() if isinstance(actions, Mapping) else enumerate(actions)
        table.append({action: [_entry(state, action, entry, n_states) for entry in entries] for action, entries in items})
    return table


def _entry(state: int, action: Any, entry: Any, n_states: int) -> Transition:
    try:
        probability, successor, reward, terminated = entry
        found = float(probability), index(successor), float(reward), bool(terminated)
    except (TypeError, ValueError) as fault:
        raise ModelError(
            f"P[{state}][{action}] holds {entry!r}, no (probability, successor, reward, terminated) ({fault})"
        ) from None
    if not 0 <= found[0] < math.inf:
        raise ModelError(f"P[{state}][{action}]: the probability to state {found[1]} is {found[0]}; it must be in [0, 1]")
    if not 0 <= found[1] < n_states:
        raise ModelError(f"P[{state}][{action}]: successor {found[1]} is not a state; states are 0..{n_states - 1}")
    return found


def _ends(table: list[dict[Any, list[Transition]]], start: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Which states only terminated transitions lead to, bool (n,), and whether others are reached by terminated ones too."""
    ended, entered = np.zeros(len(table), dtype=np.bool_), np.zeros(len(table), dtype=np.bool_)
    for actions in table:
        for transitions in actions.values():
            for probability, successor, _, terminated in transitions:
                (ended if terminated else entered)[successor] |= probability > 0
    if start is not None:
        entered |= start > 0
    return ended & ~entered, bool((ended & entered).any())


class MDPEnv(gymnasium.Env[Any, Any]):
    """An environment that simulates a model.

    Observations are states, actions are numbered among the state's own; info["action_mask"], int8 with an entry for each action
    of the action space, tells which there are. A step earns the pair's expected reward, and on arrival in a terminal state
    discount times its value, so that the mean discounted return of a policy is its value. Where the criterion minimises,
    rewards are negated costs, since gymnasium's agents maximise. A finite horizon truncates. Episodes begin in `initial`, by
    default anywhere but in a terminal state.
    Raises ModelError when an episode could begin where it ends.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, model: MDP) -> None:
        acting = ~model.terminal
        start = acting / max(acting.sum(), 1) if model.initial is None else model.initial
        for state in np.flatnonzero((start > 0) & ~acting)[:1] if acting.any() else [0]:
            raise ModelError(
                f"state {model.state_of(int(state))} is initial and terminal; an episode cannot begin where it ends"
            )
        self.model = model
        self.observation_space = spaces.Discrete(model.n_states)
        self.action_space = spaces.Discrete(int(np.diff(model.state_ptr).max()))
        self._start = np.cumsum(start)
        self._sign = -1.0 if model.criterion.minimize else 1.0
        self._horizon = model.criterion.horizon if isinstance(model.criterion, FiniteHorizon) else math.inf
        self._state: int | None = None
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode. seed: of the environment's own generator, `np_random`. options: none are known."""
        super().reset(seed=seed)
        self._steps = 0
        self._state = _drawn(self._start, self.np_random.random())
        return self._state, self._info()

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """One transition. Raises ModelError for an action that the state has not, ResetNeeded when no episode runs."""
        if self._state is None:
            raise gymnasium.error.ResetNeeded("the episode is over or has not begun; call reset()")
        model, state = self.model, self._state
        count = int(model.state_ptr[state + 1] - model.state_ptr[state])
        if not 0 <= int(action) < count:
            raise ModelError(
                f"state {model.state_of(state)} has no action {action}; it has 0..{count - 1}, see info['action_mask']"
            )
        pair = int(model.state_ptr[state]) + int(action)
        first, last = int(model.row_ptr[pair]), int(model.row_ptr[pair + 1])
        entry = first + _drawn(np.cumsum(model.probability[first:last]), self.np_random.random())
        arrived = int(model.successor[entry])
        terminated = bool(model.terminal[arrived])
        reward = float(model.reward[pair] + model.discount * model.terminal_value[arrived])
        self._steps += 1
        truncated = not terminated and self._steps >= self._horizon
        self._state = arrived
        info = self._info()
        if terminated or truncated:
            self._state = None
        return arrived, self._sign * reward, terminated, truncated, info

    def _info(self) -> dict[str, Any]:
        state = self._state
        assert state is not None
        mask = np.zeros(int(self.action_space.n), dtype=np.int8)  # pyright: ignore[reportAttributeAccessIssue]
        mask[: int(self.model.state_ptr[state + 1] - self.model.state_ptr[state])] = 1
        return {"action_mask": mask}


def _drawn(cumulative: np.ndarray, uniform: float) -> int:
    """Index drawn with probabilities proportional to the increments of `cumulative`; never one of probability zero."""
    drawn = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(drawn, int(np.searchsorted(cumulative, cumulative[-1], side="left")))

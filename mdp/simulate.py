r"""Trajectories and Monte-Carlo returns under a policy, from an explicit numpy Generator.

A step in state s draws a pair k of s from the policy, earns its expected reward r(k), and moves to j with probability
p(j | k) / sum p(. | k). In a terminal state nothing happens any more. One episode's return over K steps estimates the
criterion:

    sum_{t < K} g^t r_t + g^T w(s_T)  if a terminal state, worth w, is reached at T <= K       (g = 1 without discounting)
    1/K sum_{t < K} r_t                                                                          for the average reward

With rewards in [-R, R] and g < 1, leaving out what comes after K changes the expectation by at most g^K R / (1 - g). The
mean of M independent returns in an interval of length D is off by e or more with probability at most 2 exp(-2 M (e / D)^2)
(Hoeffding, J. Am. Stat. Assoc. 58, 1963).

Equal Generators give equal paths: the draws are one uniform number for the first state and, a step, one for the action where
the policy is stochastic and one for the successor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from .criterion import AverageReward, FiniteHorizon
from .errors import ModelError
from .model import MDP
from .validation import ROW_SUM_TOLERANCE

_CHUNK = 2_000_000
"""Steps between two moments at which an interrupt is heard."""


@dataclass(frozen=True)
class Trajectories:
    """Sampled paths.

    states: int32 (episodes, steps + 1). actions: int32 (episodes, steps), -1 in terminal states.
    rewards: float64 (episodes, steps), expected one-step rewards, 0 in terminal states; terminal values are not included.
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


def simulate(
    problem: MDP,
    policy: np.ndarray,
    episodes: int,
    steps: int,
    rng: np.random.Generator,
    initial: int | np.ndarray | None = None,
) -> Trajectories:
    """Independent paths of `steps` steps each.

    policy: actions, int (n,); or, a row a stage, int (stages, n) with stages >= steps; or probabilities of pairs, float
        (m,), that sum to one in each state.
    episodes, steps: >= 0.
    initial: first state, or distribution (n,), instead of the problem's own.
    Raises ModelError naming the state or number that is wrong.
    """
    walk = _walk(problem, policy, episodes, steps, initial)
    states = np.empty((episodes, steps + 1), dtype=np.int32)
    actions = np.empty((episodes, steps), dtype=np.int32)
    rewards = np.empty((episodes, steps))
    kernel: Any = _paths
    for part in _parts(episodes, steps):
        kernel(rng, *walk, states[part], actions[part], rewards[part])
    return Trajectories(states, actions, rewards)


def returns(
    problem: MDP,
    policy: np.ndarray,
    episodes: int,
    steps: int,
    rng: np.random.Generator,
    initial: int | np.ndarray | None = None,
) -> np.ndarray:
    """Return of each of `episodes` independent episodes of at most `steps` steps, float64 (episodes,); the paths are not kept.

    Arguments as in `simulate`; for a finite horizon, steps is at most the horizon. Equal Generators give the returns of the
    paths that `simulate` gives. Raises ModelError.
    """
    walk = _walk(problem, policy, episodes, steps, initial)
    if isinstance(problem.criterion, FiniteHorizon) and steps > problem.criterion.horizon:
        raise ModelError(f"steps={steps} is beyond the horizon, {problem.criterion.horizon} decisions; give at most as many")
    out = np.empty(episodes)
    kernel: Any = _sums
    for part in _parts(episodes, steps):
        kernel(rng, *walk, problem.terminal_value, problem.discount, steps, out[part])
    return out / max(steps, 1) if isinstance(problem.criterion, AverageReward) else out


def _parts(episodes: int, steps: int) -> list[slice]:
    size = max(1, _CHUNK // max(steps, 1))
    return [slice(begin, min(begin + size, episodes)) for begin in range(0, episodes, size)]


def _walk(problem: MDP, policy: Any, episodes: int, steps: int, initial: int | np.ndarray | None) -> tuple[np.ndarray, ...]:
    """What the kernels need: the model's arrays, the policy in both forms, one of them empty, and the first state's law."""
    for name, number in (("episodes", episodes), ("steps", steps)):
        if isinstance(number, bool) or int(number) != number or number < 0:
            raise ModelError(f"{name}={number!r} is not a whole number >= 0")
    policy = np.asarray(policy)
    if policy.dtype.kind == "f":
        actions, chances = np.empty((0, 0), dtype=np.int32), _pair_probabilities(problem, policy)
    else:
        actions, chances = _actions(problem, policy, steps), np.empty(0)
    return (
        problem.state_ptr, problem.row_ptr, problem.successor, problem.probability, problem.reward,
        actions, chances, _first(problem, initial),
    )  # fmt: skip


def _actions(problem: MDP, policy: np.ndarray, steps: int) -> np.ndarray:
    stages = policy[None, :] if policy.ndim == 1 else policy
    if policy.dtype.kind not in "iu" or stages.ndim != 2 or stages.shape[1] != problem.n_states:
        raise ModelError(
            f"the policy has shape {policy.shape}, {policy.dtype}; give an action for each of {problem.n_states} states, "
            f"or a probability for each of {problem.n_pairs} pairs"
        )
    if policy.ndim == 2 and len(stages) < steps:
        raise ModelError(f"the policy has {len(stages)} stages for {steps} steps; give at most as many steps")
    count = np.diff(problem.state_ptr)
    for stage, state in np.argwhere(~problem.terminal & ((stages < 0) | (stages >= count)))[:1]:
        raise ModelError(
            f"state {problem.state_of(state)}: the policy's action {stages[stage, state]} is not one of its {count[state]}"
        )
    return np.ascontiguousarray(stages, dtype=np.int32)


def _pair_probabilities(problem: MDP, policy: np.ndarray) -> np.ndarray:
    if policy.shape != (problem.n_pairs,):
        raise ModelError(f"the policy has shape {policy.shape}; give a probability for each of {problem.n_pairs} pairs")
    for pair in np.flatnonzero(~(policy >= 0))[:1]:
        where = problem.state_of(int(problem.pair_state[pair]))
        raise ModelError(f"state {where}: a policy probability is {policy[pair]}; it must be >= 0")
    sums = np.bincount(problem.pair_state, policy, problem.n_states)
    for state in np.flatnonzero(~problem.terminal & ~(np.abs(sums - 1) <= ROW_SUM_TOLERANCE))[:1]:
        where = problem.state_of(int(state))
        raise ModelError(f"state {where}: the policy's probabilities sum to {sums[state]!r}; they must sum to 1")
    return np.ascontiguousarray(policy, dtype=np.float64)


def _first(problem: MDP, initial: int | np.ndarray | None) -> np.ndarray:
    """The first state's law as cumulative sums, (n,)."""
    if initial is None:
        initial = problem.initial
    if initial is None:
        raise ModelError("the problem has no initial distribution; give initial=, a state or a distribution")
    if isinstance(initial, (int, np.integer)):
        if not 0 <= initial < problem.n_states:
            raise ModelError(f"initial state {initial} is not in 0..{problem.n_states - 1}")
        law = np.zeros(problem.n_states)
        law[initial] = 1.0
    else:
        law = np.asarray(initial, dtype=np.float64)
    if law.shape != (problem.n_states,) or not (law >= 0).all() or not abs(law.sum() - 1) <= ROW_SUM_TOLERANCE:
        raise ModelError(f"initial is no distribution on {problem.n_states} states; it must be >= 0 and sum to 1")
    return np.cumsum(law)


@numba.njit(cache=True, nogil=True)
def _draw(u, weight, begin, end):
    """Entry of weight[begin:end] in proportion to it, for u uniform in [0, 1)."""
    total = 0.0
    for entry in range(begin, end):
        total += weight[entry]
    target, total, chosen = u * total, 0.0, begin
    for entry in range(begin, end):
        if weight[entry] > 0.0:
            chosen = entry
            total += weight[entry]
            if target < total:
                break
    return chosen


@numba.njit(cache=True, nogil=True)
def _choose(rng, state, stage, state_ptr, actions, chances):
    """The pair of one step."""
    if len(actions) == 0:
        return _draw(rng.random(), chances, state_ptr[state], state_ptr[state + 1])
    return state_ptr[state] + actions[min(stage, len(actions) - 1), state]


@numba.njit(cache=True, nogil=True)
def _start(rng, first):
    """A state from cumulative sums; the least one beyond a uniform point, so that none of probability zero."""
    return np.searchsorted(first, rng.random() * first[-1], side="right")


@numba.njit(cache=True, nogil=True)
def _paths(rng, state_ptr, row_ptr, successor, probability, reward, actions, chances, first, states, taken, rewards):
    for episode in range(len(states)):
        state = _start(rng, first)
        states[episode, 0] = state
        for t in range(taken.shape[1]):
            if state_ptr[state] == state_ptr[state + 1]:
                taken[episode, t], rewards[episode, t] = -1, 0.0
            else:
                pair = _choose(rng, state, t, state_ptr, actions, chances)
                taken[episode, t], rewards[episode, t] = pair - state_ptr[state], reward[pair]
                state = successor[_draw(rng.random(), probability, row_ptr[pair], row_ptr[pair + 1])]
            states[episode, t + 1] = state


@numba.njit(cache=True, nogil=True)
def _sums(rng, state_ptr, row_ptr, successor, probability, reward, actions, chances, first, worth, discount, steps, out):
    for episode in range(len(out)):
        state, total, weight = _start(rng, first), 0.0, 1.0
        for t in range(steps):
            if state_ptr[state] == state_ptr[state + 1]:
                break
            pair = _choose(rng, state, t, state_ptr, actions, chances)
            total += weight * reward[pair]
            weight *= discount
            state = successor[_draw(rng.random(), probability, row_ptr[pair], row_ptr[pair + 1])]
        out[episode] = total + weight * worth[state]

r"""Models from dense arrays, in the two layouts in common use.

    "sas": transition[s, a, j] = p(j | s, a), shape (n, A, n)        (Puterman; QuantEcon)
    "ass": transition[a, s, j], shape (A, n, n)                      (MDP toolboxes)

Rewards: (n,), (n, A), or the transition's own shape, then averaged over successors (see `banach.mdp.expectation`).
An entry of -inf in a reward of shape (n, A) forbids the action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .criterion import Criterion
from .errors import ModelError
from .expectation import expected_reward
from .model import MDP, criterion_from, terminal_arrays
from .validation import real_array


def from_dense(
    transition: np.ndarray,
    reward: np.ndarray,
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    layout: str | None = None,
    terminal: Mapping[int, float] | Sequence[int] | None = None,
    initial: np.ndarray | None = None,
) -> MDP:
    """An MDP from dense arrays.

    transition: (n, A, n) or (A, n, n), probabilities. The rows of terminal states are ignored.
    reward: (n,), (n, A), or of the transition's shape; -inf in (n, A) forbids an action.
    discount, criterion: exactly one of them.
    layout: "sas" or "ass"; needed only when n == A.
    terminal: states where the process ends, with their values, or as a list worth zero.
    Raises ModelError for shapes that do not fit, and for everything that `MDP` refuses.
    """
    transition, reward = real_array("transition", transition), real_array("reward", reward)
    if _layout(transition, layout) == "ass":
        transition = transition.transpose(1, 0, 2)
        reward = reward.transpose(1, 0, 2) if reward.ndim == 3 else reward
    n_states = len(transition)
    flags, values = terminal_arrays(n_states, terminal)
    expected = _expected(transition, reward)
    allowed = (expected != -np.inf) & ~flags[:, None]
    for state in np.flatnonzero(~allowed.any(axis=1) & ~flags)[:1]:
        raise ModelError(f"state {state}: every action is forbidden by a reward of -inf; allow one, or declare it terminal")
    states, actions = np.nonzero(allowed)
    rows = transition[states, actions]
    stored = rows != 0
    return MDP(
        state_ptr=np.concatenate(([0], np.cumsum(allowed.sum(axis=1)))).astype(np.int32),
        row_ptr=np.concatenate(([0], np.cumsum(stored.sum(axis=1)))).astype(np.int32),
        successor=np.nonzero(stored)[1].astype(np.int32),
        probability=rows[stored],
        reward=expected[states, actions],
        criterion=criterion_from(discount, criterion),
        terminal=flags,
        terminal_value=values,
        initial=None if initial is None else real_array("initial", initial).copy(),
        action_names=None if allowed[~flags].all() else [str(action) for action in actions],
    )


def _layout(transition: np.ndarray, layout: str | None) -> str:
    if transition.ndim != 3:
        raise ModelError(f"transition has shape {transition.shape}; it must be (n, A, n) or (A, n, n)")
    first, second, third = transition.shape
    fits = [name for name, fit in (("sas", first == third), ("ass", second == third)) if fit]
    if layout is None and len(fits) == 1:
        return fits[0]
    if layout in fits:
        return str(layout)
    if layout is None and len(fits) == 2:
        raise ModelError(f"transition of shape {transition.shape} fits both layouts; say layout='sas' or layout='ass'")
    raise ModelError(f"transition of shape {transition.shape} is not of layout {layout or 'sas or ass'}")


def _expected(transition: np.ndarray, reward: np.ndarray) -> np.ndarray:
    n_states, n_actions, _ = transition.shape
    if reward.shape == transition.shape:
        return _averaged(transition, reward)
    if reward.shape == (n_states,):
        return np.repeat(reward[:, None], n_actions, axis=1)
    if reward.shape == (n_states, n_actions):
        return reward
    raise ModelError(
        f"reward has shape {reward.shape}; it must be ({n_states},), ({n_states}, {n_actions}) or the transition's shape"
    )


def _averaged(transition: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """sum_j p_j r_j over the last axis. What a step of probability zero would earn does not count, not even if infinite."""
    possible = transition != 0
    row_ptr = np.concatenate(([0], np.cumsum(possible.sum(axis=-1).ravel())))
    return expected_reward(row_ptr, transition[possible], reward[possible]).reshape(transition.shape[:-1])


def spread(problem: MDP) -> MDP:
    """The problem with every state stored in every row, in order; itself where that is so already.

    Repeated successors are added up, with one rounding each. Raises ModelError for more entries than an index can name.
    """
    n, m = problem.n_states, problem.n_pairs
    if m * n > np.iinfo(np.int32).max:
        raise ModelError(f"{m} rows over {n} states are more than 2^31 - 1 entries; keep the rows to the stored successors")
    heads, states = np.arange(m + 1) * n, np.tile(np.arange(n, dtype=np.int32), m)
    if np.array_equal(problem.row_ptr, heads) and np.array_equal(problem.successor, states):
        return problem
    rows = np.zeros((m, n))
    np.add.at(rows, (np.repeat(np.arange(m), np.diff(problem.row_ptr)), problem.successor), problem.probability)
    return problem.replace(row_ptr=heads, successor=states, probability=rows.ravel())

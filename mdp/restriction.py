"""The problem that is left when a policy has made all choices, or some of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .model import MDP


def restricted(model: MDP, policy: np.ndarray) -> MDP:
    """The problem in which a policy, int32 (n_states,) with -1 in terminal states, is the only choice."""
    acting = policy >= 0
    pairs = chosen_pairs(model, policy)
    entries = entries_of(model, pairs)
    return model.replace(
        state_ptr=np.concatenate(([0], np.cumsum(acting))),
        row_ptr=np.concatenate(([0], np.cumsum(np.diff(model.row_ptr)[pairs]))),
        successor=model.successor[entries],
        probability=model.probability[entries],
        reward=model.reward[pairs],
        action_names=None if model.action_names is None else [model.action_names[pair] for pair in pairs],
    )


def chosen_pairs(model: MDP, policy: np.ndarray) -> np.ndarray:
    """The pair that a policy (n_states,) takes in each state that acts, int64, in the order of the states, shape (acting,)."""
    return (model.state_ptr[:-1] + policy)[policy >= 0].astype(np.int64)


def entries_of(model: MDP, pairs: np.ndarray) -> np.ndarray:
    """The stored transitions of some pairs, any number of them, row after row; one-dimensional."""
    lengths = np.diff(model.row_ptr)[pairs].astype(np.int64)
    heads = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(model.row_ptr[pairs] - heads, lengths)


def limited(model: MDP, fixed: np.ndarray) -> MDP:
    """The model in which the fixed states, int32 (n,) with -1 for free ones, have one action."""
    action = np.arange(model.n_pairs) - model.state_ptr[model.pair_state]
    pairs: Any = np.flatnonzero((fixed[model.pair_state] < 0) | (fixed[model.pair_state] == action))
    entries, lengths = entries_of(model, pairs), np.diff(model.row_ptr)[pairs]
    counts = np.bincount(model.pair_state[pairs], minlength=model.n_states)
    return model.replace(
        state_ptr=np.concatenate(([0], np.cumsum(counts))),
        row_ptr=np.concatenate(([0], np.cumsum(lengths))),
        successor=model.successor[entries],
        probability=model.probability[entries],
        reward=model.reward[pairs],
        action_names=None if model.action_names is None else [model.action_names[pair] for pair in pairs],
    )

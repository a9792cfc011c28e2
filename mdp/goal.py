r"""From a labelled transition system to a decision problem: where its runs end, and what for.

Model checkers' files hold states, choices, labels and named rewards, but no question. With labels one asks

    target                   the probability of reaching a target state                    Pr(F target)
    target, avoid            ... before any state to avoid                                 Pr(!avoid U target)
    target, reward           the expected reward until a target state is reached           E(reward, F target)
    reward                   the expected reward for ever

and each is the same thing here: target states, and those to avoid, become terminal, worth 1 in target states when no
reward is named, and 0 otherwise (Puterman 2005, section 7.1; Baier and Katoen, Principles of Model Checking, 2008, chapter 10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ModelError

MAX_LABEL_BYTES = 2**30

_OF_TRANSITIONS = ("successor", "probability", "lower", "upper", "transition_reward")


def ending(
    labels: Mapping[str, np.ndarray], n_states: int, target: str | Sequence[str] | None, avoid: str | None, *, rewarded: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Terminal flags bool (n,) and values float64 (n,).

    target: a label, or several that must all hold. avoid: a label; where target holds as well, target counts.
    rewarded: a reward is collected on the way, so that target states are worth nothing by themselves.
    Raises ModelError when a label is not there, naming those that are, and when target states are none at all.
    """
    flags, values = np.zeros(n_states, dtype=np.bool_), np.zeros(n_states)
    if target is None:
        if avoid is not None:
            raise ModelError(f"avoid={avoid!r} needs target=..., the label to reach without passing through it")
        return flags, values
    wanted = [target] if isinstance(target, str) else list(target)
    reached = np.logical_and.reduce([_states(labels, name) for name in wanted])
    if not wanted or not reached.any():
        raise ModelError(
            f"no state carries {' and '.join(map(repr, wanted)) or 'an empty list of labels'}; choose another target"
        )
    flags |= reached
    if avoid is not None:
        flags |= _states(labels, avoid)
    if not rewarded:
        values[reached] = 1.0
    return flags, values


def without_pairs_of(ends: np.ndarray, rows: Mapping[str, Any]) -> dict[str, Any]:
    """The rows without the pairs of the states `ends`, bool (n,).

    rows: state_ptr (n + 1,), row_ptr (m + 1,), successor and probability (z,), reward (m,), and action_names, m strings or
        None, as in `MDP`; the result has the same names, and None for names that are all empty. Also lower, upper and
        transition_reward (z,) where they are there.
    """
    counts = np.diff(rows["state_ptr"])
    kept = np.repeat(~ends, counts)
    lengths = np.diff(rows["row_ptr"])
    entries = np.repeat(kept, lengths)
    names = rows["action_names"] and [rows["action_names"][pair] for pair in np.flatnonzero(kept)]
    return {
        "state_ptr": np.concatenate(([0], np.cumsum(np.where(ends, 0, counts)))),
        "row_ptr": np.concatenate(([0], np.cumsum(lengths[kept]))),
        **{name: rows[name][entries] for name in _OF_TRANSITIONS if name in rows},
        "reward": rows["reward"][kept],
        "action_names": names if names and any(names) else None,
    }


def require_room(n_labels: int, n_states: int) -> None:
    """Raise ValueError when so many labels of so many states are more than a file can mean."""
    if n_labels * n_states > MAX_LABEL_BYTES:
        raise ValueError(f"{n_labels} labels of {n_states} states would take {n_labels * n_states} bytes")


def _states(labels: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in labels:
        raise ModelError(f"there is no label {name!r}; the labels are {', '.join(sorted(labels)) or 'none'}")
    return labels[name]

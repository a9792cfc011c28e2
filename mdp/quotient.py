r"""Partitions of a problem's states and actions, and the problem that is left when classes are merged.

A partition puts states s into classes [s] and pairs k = (s, a) into classes [k]. It fits a problem when the states of a class
offer the same set of pair classes, and are all terminal or none. The quotient's states are the classes of states; the actions
of [s] are the pair classes that its states offer. With weights w on states, w(k) = w(s) / (pairs of s in [k]),

    r([s], [k]) = sum w(k') r(k') / sum w(k'),      P(D | [s], [k]) = sum w(k') P(D | k') / sum w(k'),

sums over the pairs k' of class [k] whose states are in [s]. Without weights the first state of a class stands for all.

The partition is a *bisimulation* when pairs of one class have equal rewards and give equal probability to every class of
states, and states of one class are worth the same where they are terminal; then weights do not matter and every value of the
quotient, of any policy and any criterion, is that of the problem. It is a *homomorphism* in the sense of Ravindran and Barto
too, since pairs of different names may share a class.

Givan, Dean and Greig, Artif. Intell. 147, 2003; Ravindran and Barto, IJCAI 2003; Li, Walsh and Littman, ISAIM 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import scipy.sparse

from .errors import ModelError
from .model import MDP


@dataclass(frozen=True, eq=False)
class Partition:
    """Classes of states and of state-action pairs, numbered in the order of their first members.

    states: int32 (n_states,), class of each state. pairs: int32 (n_pairs,), class of each pair.
    """

    states: np.ndarray
    pairs: np.ndarray

    def __post_init__(self) -> None:
        for name in ("states", "pairs"):
            renumbered: Any = first_occurrence
            numbers = renumbered(np.ascontiguousarray(getattr(self, name), dtype=np.int64))
            numbers.setflags(write=False)
            object.__setattr__(self, name, numbers)

    @property
    def n_classes(self) -> int:
        """Number of classes of states."""
        return int(self.states.max(initial=-1)) + 1

    @property
    def n_pair_classes(self) -> int:
        """Number of classes of pairs."""
        return int(self.pairs.max(initial=-1)) + 1

    def __eq__(self, other: object) -> bool:
        """Whether the same states, and the same pairs, are together."""
        if not isinstance(other, Partition):
            return NotImplemented
        return np.array_equal(self.states, other.states) and np.array_equal(self.pairs, other.pairs)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @classmethod
    def by_position(cls, model: MDP, states: np.ndarray) -> Partition:
        """Classes of states, int (n_states,), with actions matched by their position among their state's.

        Raises ModelError where states of one class differ in the number of actions.
        """
        states = _labels("states", states, model.n_states)
        classes = first_occurrence(states)
        position = np.arange(model.n_pairs) - model.state_ptr[model.pair_state]
        widest = int(np.diff(model.state_ptr).max(initial=1)) + 1
        partition = cls(states, classes[model.pair_state].astype(np.int64) * widest + position)
        _require_fit(model, partition)
        return partition


@dataclass(frozen=True, eq=False)
class Quotient:
    """A problem whose states are classes of another's, and the way back.

    model: the merged problem. original: the one it came from. partition: its classes.
    pair_class: int32, shape (model.n_pairs,), the class of pairs that each action of the merged problem stands for.
    """

    model: MDP
    original: MDP
    partition: Partition
    pair_class: np.ndarray

    def lift_value(self, value: np.ndarray) -> np.ndarray:
        """The original's vector of a vector over classes, shape (n_classes,) to (n_states,); of several, row by row."""
        return np.ascontiguousarray(value[..., self.partition.states])

    def lift_policy(self, policy: np.ndarray) -> np.ndarray:
        """The original's policy, shape (n_states,) of (n_classes,), int32: each state's first action of the class chosen.

        Weights of actions, float64 (model.n_pairs,), become weights (original.n_pairs,), on those first actions. Policies of
        several stages are lifted row by row.
        """
        if policy.dtype.kind == "f":
            lifted = np.zeros(self.original.n_pairs)
            lifted[self._first_pairs] = policy[self.quotient_pair[self._first_pairs]]
            return lifted
        lifted = [self._lift_actions(stage) for stage in policy.reshape(-1, self.model.n_states)]
        return np.array(lifted, dtype=np.int32).reshape((*policy.shape[:-1], self.original.n_states))

    def _lift_actions(self, policy: np.ndarray) -> np.ndarray:
        original, lifted = self.original, np.full(self.original.n_states, -1, dtype=np.int32)
        chosen = (self.model.state_ptr[:-1] + policy)[self.partition.states[original.pair_state]]
        pairs = self._first_pairs[chosen[self._first_pairs] == self.quotient_pair[self._first_pairs]]
        lifted[original.pair_state[pairs]] = pairs - original.state_ptr[original.pair_state[pairs]]
        return lifted

    @cached_property
    def quotient_pair(self) -> np.ndarray:
        """The pair of the merged problem that each pair of the original belongs to, int64, shape (original.n_pairs,)."""
        key = self.model.pair_state.astype(np.int64) * self._n_pair_classes + self.pair_class
        order = np.argsort(key)
        return order[np.searchsorted(key, self._keys, sorter=order)]

    @cached_property
    def _keys(self) -> np.ndarray:
        own = self.partition.states[self.original.pair_state].astype(np.int64)
        return own * self._n_pair_classes + self.partition.pairs

    @property
    def _n_pair_classes(self) -> int:
        return self.partition.n_pair_classes

    @cached_property
    def _first_pairs(self) -> np.ndarray:
        """The first pair of each state in each class that it offers, ascending."""
        return first_of_each(self.original, self.partition)


def quotient(model: MDP, partition: Partition, weights: np.ndarray | None = None) -> Quotient:
    """The problem with the classes of a partition merged.

    weights: > 0, float64 (n_states,), of the states in the mean of their class; None: its first state stands for it.
    Labels that differ inside a class are left out. Raises ModelError where the partition does not fit the problem, or a weight
    is not positive.
    """
    _require_fit(model, partition)
    first_state = np.unique(partition.states, return_index=True)[1]
    firsts = first_of_each(model, partition)
    of_first = np.isin(model.pair_state[firsts], first_state)
    chosen = firsts[of_first][np.argsort(partition.states[model.pair_state[firsts[of_first]]], kind="stable")]
    mean = _selection(model, chosen) if weights is None else _means(model, partition, chosen, weights)
    rows = scipy.sparse.csr_array((model.probability, model.successor, model.row_ptr), shape=(model.n_pairs, model.n_states))
    merge = scipy.sparse.csr_array(
        (np.ones(model.n_states), (np.arange(model.n_states), partition.states)), shape=(model.n_states, partition.n_classes)
    )
    merged = scipy.sparse.csr_array(scipy.sparse.csr_array(mean @ rows) @ merge)
    merged.sort_indices()
    counts = np.bincount(partition.states[model.pair_state[chosen]], minlength=partition.n_classes)
    initial = None if model.initial is None else np.bincount(partition.states, model.initial, minlength=partition.n_classes)
    labels = {name: states[first_state] for name, states in model.labels.items()}
    small = MDP(
        state_ptr=np.concatenate(([0], np.cumsum(counts))),
        row_ptr=merged.indptr,
        successor=merged.indices,
        probability=np.minimum(merged.data, 1.0),
        reward=mean @ model.reward,
        criterion=model.criterion,
        terminal=model.terminal[first_state],
        terminal_value=model.terminal_value[first_state],
        initial=initial,
        labels={name: own for name, own in labels.items() if np.array_equal(own[partition.states], model.labels[name])},
        state_names=_named(model.state_names, first_state),
        action_names=_named(model.action_names, chosen),
    )
    return Quotient(small, model, partition, partition.pairs[chosen])


def first_of_each(model: MDP, partition: Partition) -> np.ndarray:
    """The first pair of each state in each of the pair classes that it offers, ascending, one-dimensional."""
    key = model.pair_state.astype(np.int64) * max(partition.n_pair_classes, 1) + partition.pairs
    return np.sort(np.unique(key, return_index=True)[1])


def _named(names: Sequence[str] | None, chosen: np.ndarray) -> list[str] | None:
    return None if names is None else [names[int(i)] for i in chosen]


def _selection(model: MDP, chosen: np.ndarray) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(
        (np.ones(len(chosen)), chosen, np.arange(len(chosen) + 1)), shape=(len(chosen), model.n_pairs)
    )


def _means(model: MDP, partition: Partition, chosen: np.ndarray, weights: np.ndarray) -> scipy.sparse.csr_array:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (model.n_states,) or not np.all(weights > 0) or not np.isfinite(weights).all():
        raise ModelError(f"weights must be {model.n_states} positive numbers, one a state; their shape is {weights.shape}")
    width = max(partition.n_pair_classes, 1)
    own = model.pair_state.astype(np.int64) * width + partition.pairs
    _, place, count = np.unique(own, return_inverse=True, return_counts=True)
    weight = weights[model.pair_state] / count[place]
    key = partition.states[model.pair_state].astype(np.int64) * width + partition.pairs
    names = key[chosen]
    order = np.argsort(names)
    row = order[np.searchsorted(names, key, sorter=order)]
    total = np.bincount(row, weight, minlength=len(chosen))
    shape = (len(chosen), model.n_pairs)
    return scipy.sparse.csr_array((weight / total[row], (row, np.arange(model.n_pairs))), shape=shape)


def _labels(name: str, given: np.ndarray, length: int) -> np.ndarray:
    numbers = np.asarray(given)
    if numbers.shape != (length,) or numbers.dtype.kind not in "iu":
        raise ModelError(
            f"{name} must be {length} whole numbers, the class of each; got shape {numbers.shape}, {numbers.dtype}"
        )
    return np.ascontiguousarray(numbers, dtype=np.int64)


def _require_fit(model: MDP, partition: Partition) -> None:
    """Raise ModelError unless states of one class are alike in being terminal and in the classes of pairs that they offer."""
    if len(partition.states) != model.n_states or len(partition.pairs) != model.n_pairs:
        raise ModelError(
            f"the partition is of {len(partition.states)} states and {len(partition.pairs)} pairs; the model has "
            f"{model.n_states} and {model.n_pairs}"
        )
    firsts = first_of_each(model, partition)
    first_state = np.unique(partition.states, return_index=True)[1].astype(np.int64)
    counts = np.bincount(model.pair_state[firsts], minlength=model.n_states)
    standing = first_state[partition.states]
    offered = np.zeros(0, dtype=np.int64)
    if len(firsts):
        width = partition.n_pair_classes
        offered = np.isin(
            standing[model.pair_state[firsts]] * width + partition.pairs[firsts],
            model.pair_state[firsts].astype(np.int64) * width + partition.pairs[firsts],
        )
    faults = counts != counts[standing]
    faults[model.pair_state[firsts[~offered.astype(bool)]]] = True
    for state in np.flatnonzero(faults)[:1].tolist():
        raise ModelError(
            f"state {model.state_of(state)} is in the class of state {model.state_of(int(standing[state]))} and does not offer "
            "the same classes of actions; separate them, or match their actions"
        )


@numba.njit(cache=True, nogil=True)
def first_occurrence(numbers):
    """Classes renumbered 0, 1, ... in the order of their first members; int64 (k,) of any values to int32 (k,)."""
    size = 16
    while size < 2 * len(numbers):
        size *= 2
    slots, names = np.full(size, -1, dtype=np.int32), np.empty(len(numbers), dtype=np.int64)
    out, found = np.empty(len(numbers), dtype=np.int32), 0
    for i in range(len(numbers)):
        key = numbers[i]
        at = (key * np.int64(-7046029254386353131)) >> np.int64(20) & (size - 1)
        while slots[at] >= 0 and names[slots[at]] != key:
            at = (at + 1) & (size - 1)
        if slots[at] < 0:
            slots[at], names[found] = found, key
            found += 1
        out[i] = slots[at]
    return out

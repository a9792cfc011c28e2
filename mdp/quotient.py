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
        _fitted(model, partition)
        return partition


@dataclass(frozen=True, eq=False)
class Quotient:
    """A problem whose states are classes of another's, and the way back.

    model: the merged problem. original: the one it came from. partition: its classes.
    quotient_pair: int32, shape (original.n_pairs,), the pair of the merged problem that each pair of the original belongs to.
    first: bool, shape (original.n_pairs,), the pairs that are the first of their class in their state.
    """

    model: MDP
    original: MDP
    partition: Partition
    quotient_pair: np.ndarray
    first: np.ndarray

    def lift_value(self, value: np.ndarray) -> np.ndarray:
        """The original's vector of a vector over classes, shape (n_classes,) to (n_states,); of several, row by row."""
        return np.ascontiguousarray(value[..., self.partition.states])

    def lift_policy(self, policy: np.ndarray) -> np.ndarray:
        """The original's policy, shape (n_states,) of (n_classes,), int32: each state's first action of the class chosen.

        Weights of actions, float64 (model.n_pairs,), become weights (original.n_pairs,), on those first actions. Policies of
        several stages are lifted row by row.
        """
        if policy.dtype.kind == "f":
            return np.where(self.first, policy[self.quotient_pair], 0.0)
        lifted = [self._lift_actions(stage) for stage in policy.reshape(-1, self.model.n_states)]
        return np.array(lifted, dtype=np.int32).reshape((*policy.shape[:-1], self.original.n_states))

    def _lift_actions(self, policy: np.ndarray) -> np.ndarray:
        original, lifted = self.original, np.full(self.original.n_states, -1, dtype=np.int32)
        chosen = (self.model.state_ptr[:-1] + policy)[self.partition.states[original.pair_state]]
        pairs = np.flatnonzero(self.first & (chosen == self.quotient_pair))
        states = original.pair_state[pairs]
        lifted[states] = pairs - original.state_ptr[states]
        return lifted


def quotient(model: MDP, partition: Partition, weights: np.ndarray | None = None) -> Quotient:
    """The problem with the classes of a partition merged.

    weights: > 0, float64 (n_states,), of the states in the mean of their class; None: its first state stands for it.
    Labels that differ inside a class are left out. Raises ModelError where the partition does not fit the problem, or a weight
    is not positive.
    """
    order, chosen, into, first = _fitted(model, partition)
    first_state = order[np.searchsorted(partition.states[order], np.arange(partition.n_classes))]
    mean = _selection(model, chosen) if weights is None else _means(model, into, chosen, weights)
    rows = scipy.sparse.csr_array((model.probability, model.successor, model.row_ptr), shape=(model.n_pairs, model.n_states))
    merge = scipy.sparse.csr_array(
        (np.ones(model.n_states), partition.states, np.arange(model.n_states + 1)), shape=(model.n_states, partition.n_classes)
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
    return Quotient(small, model, partition, into, first)


def _named(names: Sequence[str] | None, chosen: np.ndarray) -> list[str] | None:
    return None if names is None else [names[int(i)] for i in chosen]


def _selection(model: MDP, chosen: np.ndarray) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(
        (np.ones(len(chosen)), chosen, np.arange(len(chosen) + 1)), shape=(len(chosen), model.n_pairs)
    )


def _means(model: MDP, into: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> scipy.sparse.csr_array:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (model.n_states,) or not np.all(weights > 0) or not np.isfinite(weights).all():
        raise ModelError(f"weights must be {model.n_states} positive numbers, one a state; their shape is {weights.shape}")
    own = model.pair_state.astype(np.int64) * max(len(chosen), 1) + into
    _, place, count = np.unique(own, return_inverse=True, return_counts=True)
    weight = weights[model.pair_state] / count[place]
    total = np.bincount(into, weight, minlength=len(chosen))
    shape = (len(chosen), model.n_pairs)
    return scipy.sparse.csr_array((weight / total[into], (into, np.arange(model.n_pairs))), shape=shape)


def _labels(name: str, given: np.ndarray, length: int) -> np.ndarray:
    numbers = np.asarray(given)
    if numbers.shape != (length,) or numbers.dtype.kind not in "iu":
        raise ModelError(
            f"{name} must be {length} whole numbers, the class of each; got shape {numbers.shape}, {numbers.dtype}"
        )
    return np.ascontiguousarray(numbers, dtype=np.int64)


def _fitted(model: MDP, partition: Partition) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The states class by class, the pairs that stand for the merged ones, and `quotient_pair` and `first` of the quotient.

    Raises ModelError unless states of one class are alike in being terminal and in the classes of pairs that they offer.
    """
    if len(partition.states) != model.n_states or len(partition.pairs) != model.n_pairs:
        raise ModelError(
            f"the partition is of {len(partition.states)} states and {len(partition.pairs)} pairs; the model has "
            f"{model.n_states} and {model.n_pairs}"
        )
    kernel: Any = _fit
    state, standing, order, chosen, into, first = kernel(
        model.state_ptr, partition.states, partition.pairs, partition.n_classes, partition.n_pair_classes
    )
    if state >= 0:
        raise ModelError(
            f"state {model.state_of(state)} is in the class of state {model.state_of(standing)} and does not offer "
            "the same classes of actions; separate them, or match their actions"
        )
    return order, chosen, into, first


@numba.njit(cache=True, nogil=True)
def _fit(state_ptr, state_class, pair_class, n_classes, n_pair_classes):
    """See `_fitted`; first a state that does not fit and the one that stands for its class, or -1 and -1."""
    n_states, n_pairs = len(state_class), len(pair_class)
    begin = np.zeros(n_classes + 1, dtype=np.int64)
    for c in state_class:
        begin[c + 1] += 1
    for c in range(n_classes):
        begin[c + 1] += begin[c]
    order, at = np.empty(n_states, dtype=np.int64), begin[:-1].copy()
    for state in range(n_states):
        order[at[state_class[state]]] = state
        at[state_class[state]] += 1
    offered, seen = np.full(n_pair_classes, -1, np.int32), np.full(n_pair_classes, -1, np.int32)
    number, chosen = np.empty(n_pair_classes, np.int32), np.empty(n_pairs, np.int64)
    into, first, found = np.empty(n_pairs, np.int32), np.zeros(n_pairs, np.bool_), 0
    for c in range(n_classes):
        standing, before = order[begin[c]], found
        for pair in range(state_ptr[standing], state_ptr[standing + 1]):
            k = pair_class[pair]
            if offered[k] != c:
                offered[k], number[k], chosen[found] = c, found, pair
                found += 1
        for i in range(begin[c], begin[c + 1]):
            state, count = order[i], 0
            for pair in range(state_ptr[state], state_ptr[state + 1]):
                k = pair_class[pair]
                if offered[k] != c:
                    return state, standing, order, chosen[:found], into, first
                into[pair] = number[k]
                if seen[k] != state:
                    seen[k], first[pair] = state, True
                    count += 1
            if count != found - before:
                return state, standing, order, chosen[:found], into, first
    return -1, -1, order, chosen[:found], into, first


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

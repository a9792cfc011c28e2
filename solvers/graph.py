r"""The graph under a decision problem: which states can reach which, whatever the probabilities are.

A pair (state, action) leads to the successors of positive probability in its row; zeros that are stored do not count.

- Strongly connected components, numbered so that no pair leads to a component of a higher number (Tarjan 1972).
- Maximal end components: the largest sets of states with some of their pairs such that no pair leads out and every state can
  reach every other. A process can stay for ever exactly in end components. Components and removals of pairs that leave
  alternate until nothing changes (de Alfaro, PhD thesis, Stanford 1997, section 3.3; Chatterjee and Henzinger, SODA 2011).
- Attraction: breadth-first search backwards from a goal. Where every state can reach the goal, the first pair found for each
  state is a policy that reaches it with probability one from everywhere, because from everywhere it has a chance to do so.

Everything is iterative; time is linear in the number of transitions, times the rounds of removals for end components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP

_index = np.uintp


@dataclass(frozen=True, eq=False)
class Graph:
    """The graph of a model, with its predecessor lists.

    pred_ptr: int32 (n + 1,), pred_pair: int32, the pairs that may lead to state s, with their multiplicity, are
        pred_pair[pred_ptr[s]:pred_ptr[s + 1]].
    """

    model: MDP
    pred_ptr: np.ndarray
    pred_pair: np.ndarray

    @classmethod
    def of(cls, model: MDP) -> Graph:
        """The graph of a model."""
        kernel: Any = _predecessors
        return cls(model, *kernel(model.n_states, model.row_ptr, model.successor, model.probability))

    def can_reach(self, goal: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """States with a path to the goal, bool (n,). goal: bool (n,). allowed: bool (m,), the pairs of the path."""
        kernel: Any = _can_reach
        allowed = np.ones(self.model.n_pairs, dtype=np.bool_) if allowed is None else allowed
        return kernel(self.model.pair_state, self.pred_ptr, self.pred_pair, goal, allowed)

    def end_components(self, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maximal end components made of allowed pairs. allowed: bool (m,).

        Returns each state's component, int32 (n,) from 0, or -1, and which pairs belong to one, bool (m,).
        """
        model, alive = self.model, allowed.copy()
        kernel: Any = _end_components
        component = kernel(
            model.state_ptr, model.row_ptr, model.successor, model.probability, model.pair_state, self.pred_ptr,
            self.pred_pair, alive,
        )  # fmt: skip
        return _renumbered(component), alive


def strong_components(model: MDP, allowed: np.ndarray | None = None) -> np.ndarray:
    """Strongly connected component of each state, int32 (n,), sinks first: no pair leads to a higher number.

    allowed: bool (m,), the pairs that count; default all.
    """
    kernel: Any = _tarjan
    n_states = model.n_states
    component, alive = np.full(n_states, -1, dtype=np.int32), np.empty(0, dtype=np.bool_) if allowed is None else allowed
    everything = np.arange(n_states, dtype=np.int32)
    work = np.zeros((5, n_states), dtype=np.int32)
    kernel(model.state_ptr, model.row_ptr, model.successor, model.probability, alive, everything, component, 0, work)
    return component


def reaching(pointers: np.ndarray, column: np.ndarray, weight: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """States of a Markov chain with a path to the goal, bool (n,).

    pointers: (n + 1,), column, weight: its rows; entries of weight zero do not count. goal: bool (n,).
    """
    backwards: Any = _predecessors
    search: Any = _can_reach
    n_states = len(goal)
    ptr, rows = backwards(n_states, pointers, column, weight)
    return search(np.arange(n_states, dtype=np.int32), ptr, rows, goal, np.ones(n_states, dtype=np.bool_))


def _renumbered(component: np.ndarray) -> np.ndarray:
    """The same partition with numbers 0, 1, ... in order of first appearance; -1 stays."""
    kept = np.flatnonzero(component >= 0)
    result = np.full(len(component), -1, dtype=np.int32)
    _, first, label = np.unique(component[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    result[kept] = rank[label]
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _predecessors(n_states, row_ptr, successor, probability):
    ptr = np.zeros(n_states + 1, np.int32)
    for entry in range(len(successor)):
        if probability[entry] > 0.0:
            ptr[successor[entry] + 1] += 1
    for state in range(n_states):
        ptr[state + 1] += ptr[state]
    free, pairs = ptr[:-1].copy(), np.empty(ptr[n_states], np.int32)
    for pair in range(len(row_ptr) - 1):
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            if probability[entry] > 0.0:
                target = successor[entry]
                pairs[free[target]] = pair
                free[target] += 1
    return ptr, pairs


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _can_reach(pair_state, pred_ptr, pred_pair, goal, allowed):
    reached, queue, tail = goal.copy(), np.empty(len(goal), np.int32), 0
    for state in range(len(goal)):
        if goal[state]:
            queue[tail] = state
            tail += 1
    head = 0
    while head < tail:
        target = queue[head]
        head += 1
        for k in range(pred_ptr[target], pred_ptr[target + 1]):
            pair = pred_pair[k]
            state = pair_state[pair]
            if allowed[pair] and not reached[state]:
                reached[state] = True
                queue[tail] = state
                tail += 1
    return reached


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tarjan(state_ptr, row_ptr, successor, probability, alive, roots, component, count, work):
    """Components of the graph of alive pairs that the roots reach, numbered from `count`; returns the next number.

    alive: bool (m,); empty when all are. component: -1 where not numbered yet. work: int32 (5, n); its first row, the visiting
    order, must be zero on entry.
    """
    order, low, path, stack, cursor = work[0], work[1], work[2], work[3], work[4]
    one, clock, depth, height = _index(1), 0, _index(0), _index(0)
    for r in range(len(roots)):
        root = _index(roots[r])
        if order[root] or component[root] >= 0:
            continue
        clock += 1
        order[root] = low[root] = clock
        cursor[root] = row_ptr[_index(state_ptr[root])]
        path[depth], stack[height] = root, root
        depth, height = depth + one, height + one
        while depth > _index(0):
            state = _index(path[depth - one])
            last = _index(row_ptr[_index(state_ptr[state + one])])
            entry, found, child, least = _index(cursor[state]), False, _index(0), low[state]
            while entry < last and not found:
                target = _index(successor[entry])
                fresh = order[target] == 0
                if (
                    component[target] < 0
                    and (fresh or order[target] < least)
                    and probability[entry] > 0.0
                    and (len(alive) == 0 or alive[_pair_of(state_ptr, row_ptr, state, entry)])
                ):
                    found, child = fresh, target
                    least = least if fresh else order[target]
                entry += one
            cursor[state], low[state] = entry, least
            if found:
                clock += 1
                order[child] = low[child] = clock
                cursor[child] = row_ptr[_index(state_ptr[child])]
                path[depth], stack[height] = child, child
                depth, height = depth + one, height + one
                continue
            depth -= one
            if depth > _index(0):
                above = _index(path[depth - one])
                low[above] = min(low[above], least)
            if least == order[state]:
                while component[state] < 0:
                    height -= one
                    component[_index(stack[height])] = count
                count += 1
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _pair_of(state_ptr, row_ptr, state, entry):
    """The pair of `state` whose row holds `entry`, by bisection."""
    low, high = _index(state_ptr[state]), _index(state_ptr[state + _index(1)])
    while high - low > _index(1):
        middle = (low + high) >> _index(1)
        if _index(row_ptr[middle]) <= entry:
            low = middle
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _discard(pair, pair_state, alive, left, dead, tail, label, touched):
    """Kill a pair; its state joins the queue `dead` when this was its last. Returns the queue's new end."""
    if alive[pair]:
        alive[pair] = False
        state = pair_state[pair]
        left[state] -= 1
        if label[state] >= 0:
            touched[label[state]] = True
        if left[state] == 0:
            dead[tail] = state
            tail += 1
    return tail


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _end_components(state_ptr, row_ptr, successor, probability, pair_state, pred_ptr, pred_pair, alive):
    """Component of each state, -1 outside; on return `alive` marks the pairs inside components."""
    n_states = len(state_ptr) - 1
    left, dead = np.zeros(n_states, np.int32), np.empty(n_states, np.int32)
    label, component = np.full(n_states, -1, np.int32), np.full(n_states, -1, np.int32)
    for pair in range(len(alive)):
        left[pair_state[pair]] += alive[pair]
    tail = 0
    for state in range(n_states):
        if left[state] == 0:
            dead[tail] = state
            tail += 1
    head, count, touched = 0, 0, np.zeros(1, np.bool_)
    work, members = np.zeros((5, n_states), np.int32), np.arange(n_states).astype(np.int32)
    while True:
        while head < tail:
            target = dead[head]
            head += 1
            for k in range(pred_ptr[target], pred_ptr[target + 1]):
                tail = _discard(pred_pair[k], pair_state, alive, left, dead, tail, label, touched)
        size = 0
        for state in members:
            if left[state] > 0 and (label[state] < 0 or touched[label[state]]):
                members[size] = state
                size += 1
        members = members[:size]
        if size == 0:
            break
        for state in members:
            component[state] = -1
            work[0, state] = 0
        first = count
        count = _tarjan(state_ptr, row_ptr, successor, probability, alive, members, component, count, work)
        for state in members:
            label[state] = component[state] - first
        touched = np.zeros(count - first, np.bool_)
        for state in members:
            for pair in range(state_ptr[state], state_ptr[state + 1]):
                for entry in range(row_ptr[pair], row_ptr[pair + 1]):
                    if probability[entry] > 0.0 and component[successor[entry]] != component[state]:
                        tail = _discard(pair, pair_state, alive, left, dead, tail, label, touched)
    for state in range(n_states):
        if left[state] == 0:
            component[state] = -1
    return component

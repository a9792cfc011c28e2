r"""Merging groups of states of a total-reward problem into one state each.

A group becomes a state with the pairs of its members that may leave it, and, where staying in it is free, a pair `stay` to a
sink worth 0.

The quotient is also the solvers' working copy. Pairs that stay in their state are gone: a row with weights w, of which w' leave
the state, becomes w / sum w' on those with reward r sum w / sum w'; the factor sum w / sum w' is the pair's `stretch`, the
number of original steps that one of its steps stands for. States are in the order in which Gauss-Seidel sweeps should meet
them: strongly connected components after those they lead to, inside one by distance from the terminal states, so that every
state has a pair that may lead to an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np

from ..mdp.criterion import TotalReward
from ..mdp.model import MDP
from ..mdp.threads import WORTH_SHARING, n_threads, run_ranges, split
from .errors import InfiniteValue, NotConverged
from .graph import Graph

_index = np.uintp


@dataclass(frozen=True, eq=False)
class Quotient:
    """A total-reward problem with its zero end components collapsed; N states, M pairs. See `collapse`.

    problem: the original, n states, m pairs. model: the quotient, an MDP without self-loops.
    place: int32 (n,), the quotient's state of each original state.
    origin: int32 (M,), the original pair of each pair; -1 for `stay`.
    stretch: float64 (M,), at least 1, original steps per step.
    inside: bool (m,), pairs of the zero end components. collapsed: whether any of these has two states or more.
    mixed: a pair of an end component with rewards of both signs, or -1.
    original: `problem`, or what that is a quotient of.
    """

    problem: MDP
    model: MDP
    place: np.ndarray
    origin: np.ndarray
    stretch: np.ndarray
    inside: np.ndarray
    collapsed: bool
    mixed: int
    original: MDP
    graph: Graph = field(repr=False)

    def lift(self, value: np.ndarray) -> np.ndarray:
        """A vector (N,) on the original states, (n,)."""
        return value[self.place]

    def settle(self, value: np.ndarray) -> np.ndarray:
        """A vector (n,) on the quotient's states, (N,), the largest of each component's."""
        settled = self.model.operator.start()
        acting = ~self.problem.terminal
        settled[np.unique(self.place[acting])] = -np.inf
        np.maximum.at(settled, self.place[acting], value[acting])
        return settled

    def lift_policy(self, policy: np.ndarray) -> np.ndarray:
        """The policy (n,) that does in every component what leads to the exit that `policy` (N,) takes there; or stays."""
        problem, model = self.problem, self.model
        kernel: Any = _lift_policy
        chosen = np.full(model.n_states, -1, dtype=np.int32)
        acting = ~model.terminal
        chosen[acting] = self.origin[(model.state_ptr[:-1] + policy)[acting]]
        if not self.collapsed and (chosen[acting] >= 0).all():
            return np.where(problem.terminal, -1, chosen[self.place] - problem.state_ptr[:-1]).astype(np.int32)
        return kernel(
            problem.state_ptr, problem.pair_state, self.graph.pred_ptr, self.graph.pred_pair, self.place, self.inside, chosen
        )

    def where(self, pair: int) -> str:
        """The state and action of an original pair, for messages."""
        return where(self.problem, pair)


def collapse(
    problem: MDP,
    graph: Graph,
    place: np.ndarray,
    component: np.ndarray,
    inside: np.ndarray,
    mixed: int,
    original: MDP,
) -> Quotient:
    """The quotient, its states in the order of `place`, (n_states,). component: of each state, -1 outside, among free ones.

    Raises InfiniteValue where a loop gains for ever, NotConverged where a way out is too rare for floats.
    """
    n_states = int(place.max()) + 1
    idle = np.zeros(n_states, dtype=np.bool_)
    idle[place[component >= 0]] = True
    sizes: Any = _sizes
    pairs, entries, fault = sizes(
        problem.state_ptr, problem.row_ptr, problem.successor, problem.probability, problem.reward, place
    )
    if fault >= 0:
        raise InfiniteValue(
            f"{where(problem, fault)}: this reward can be had again and again at no cost, so the total is infinite; discount "
            "it, or average it with AverageReward()"
        )
    state_ptr, free_pair = _offsets(pairs, place, idle)
    entry_ptr, free_entry = _offsets(entries, place, idle)
    n_pairs, n_entries = int(state_ptr[-1]), int(entry_ptr[-1])
    row_ptr, origin = np.zeros(n_pairs + 1, dtype=np.int32), np.empty(n_pairs, dtype=np.int32)
    reward, stretch = np.empty(n_pairs), np.empty(n_pairs)
    successor, probability = np.empty(n_entries, dtype=np.int32), np.empty(n_entries)
    stays, last = state_ptr[1:][idle], entry_ptr[1:][idle]
    row_ptr[stays], successor[last - 1], probability[last - 1] = last, 0, 1.0
    origin[stays - 1], reward[stays - 1], stretch[stays - 1] = -1, 0.0, 1.0
    parts = n_threads() if n_entries >= WORTH_SHARING else 1
    cuts = split(problem.row_ptr[problem.state_ptr], parts) if parts > 1 else np.array([0, problem.n_states])
    run_ranges(
        _fill, cuts, problem.state_ptr, problem.row_ptr, problem.successor, problem.probability, problem.reward, place,
        free_pair, free_entry, row_ptr, successor, probability, reward, stretch, origin,
    )  # fmt: skip
    for pair in np.flatnonzero(~(np.isfinite(reward) & np.isfinite(stretch)))[:1]:
        raise NotConverged(
            f"{where(problem, int(origin[pair]))}: the chance to leave is so small that the expected total before it happens "
            "is beyond floating point"
        )
    terminal = np.diff(state_ptr) == 0
    worth = np.zeros(len(terminal))
    worth[place[problem.terminal]] = problem.terminal_value[problem.terminal]
    model = MDP(state_ptr, row_ptr, successor, probability, reward, TotalReward(), terminal=terminal, terminal_value=worth)
    collapsed = n_states - int(idle.any()) < problem.n_states
    return Quotient(problem, model, place, origin, stretch, inside, collapsed, mixed, original, graph)


def where(problem: MDP, pair: int) -> str:
    """The state and action of a pair, for messages."""
    state = int(problem.pair_state[pair])
    action = problem.action_of(state, pair - int(problem.state_ptr[state]))
    return f"state {problem.state_of(state)}, action {action}"


def _offsets(amount: np.ndarray, place: np.ndarray, idle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the items of each position begin, int32 (N + 1,), one extra for idle ones; and where those of each state, (n,)."""
    kernel: Any = _place_items
    return kernel(amount, place, idle)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place_items(amount, place, idle):
    ptr, free = np.zeros(len(idle) + 1, np.int32), np.empty(len(place), np.int32)
    for s in range(len(place)):
        state = _index(s)
        position = _index(place[state])
        free[state] = ptr[position + _index(1)]
        ptr[position + _index(1)] += amount[state]
    for p in range(len(idle)):
        position = _index(p)
        ptr[position + _index(1)] += ptr[position] + idle[position]
    for s in range(len(place)):
        state = _index(s)
        free[state] += ptr[_index(place[state])]
    return ptr, free


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sizes(state_ptr, row_ptr, successor, probability, reward, place):
    """Of each state, the pairs that may leave its position and their entries that do, int32 (n,) each; and a pair that cannot
    leave but collects, or -1."""
    n_states = len(place)
    pairs, entries, fault = np.zeros(n_states, np.int32), np.zeros(n_states, np.int32), np.int64(-1)
    for s in range(n_states):
        state = _index(s)
        here = place[state]
        for pair in range(_index(state_ptr[state]), _index(state_ptr[state + _index(1)])):
            leaving = 0
            for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
                leaving += probability[entry] > 0.0 and place[_index(successor[entry])] != here
            pairs[state] += leaving > 0
            entries[state] += leaving
            if leaving == 0 and reward[pair] > 0.0:
                fault = np.int64(pair)
    return pairs, entries, fault


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill(
    start, stop, state_ptr, row_ptr, successor, probability, reward, place, free_pair, free_entry,
    new_row_ptr, new_successor, new_probability, new_reward, stretch, origin,
):  # fmt: skip
    """Write the rows of the original states [start, stop) where they belong."""
    for s in range(start, stop):
        state = _index(s)
        here, pair, free = place[state], _index(free_pair[state]), _index(free_entry[state])
        for old in range(_index(state_ptr[state]), _index(state_ptr[state + _index(1)])):
            total, leaving, begin = 0.0, 0.0, free
            for entry in range(_index(row_ptr[old]), _index(row_ptr[old + _index(1)])):
                weight, target = probability[entry], place[_index(successor[entry])]
                total += weight
                if weight > 0.0 and target != here:
                    leaving += weight
                    new_successor[free], new_probability[free] = target, weight
                    free += _index(1)
            if leaving == 0.0:
                continue
            if leaving != 1.0:
                for entry in range(begin, free):
                    new_probability[entry] /= leaving
            stretch[pair] = total / leaving
            new_reward[pair] = reward[old] * stretch[pair] if reward[old] != 0.0 else 0.0
            origin[pair] = old
            pair += _index(1)
            new_row_ptr[pair] = free


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lift_policy(state_ptr, pair_state, pred_ptr, pred_pair, place, inside, chosen):
    """policy (n,): the chosen original pair where it begins; elsewhere in its group, pairs inside it that lead there; any
    pair inside where the group stays."""
    n_states = len(place)
    policy, queue, tail = np.full(n_states, -1, np.int32), np.empty(n_states, np.int32), 0
    for position in range(len(chosen)):
        if chosen[position] >= 0:
            state = pair_state[chosen[position]]
            policy[state] = chosen[position] - state_ptr[state]
            queue[tail] = state
            tail += 1
    head = 0
    while head < tail:
        target = queue[head]
        head += 1
        for k in range(pred_ptr[target], pred_ptr[target + 1]):
            pair = pred_pair[k]
            state = pair_state[pair]
            if policy[state] < 0 and inside[pair] and place[state] == place[target]:
                policy[state] = pair - state_ptr[state]
                queue[tail] = state
                tail += 1
    for state in range(n_states):
        pair = state_ptr[state]
        while policy[state] < 0 and pair < state_ptr[state + 1]:
            if inside[pair]:
                policy[state] = pair - state_ptr[state]
            pair += 1
    return policy

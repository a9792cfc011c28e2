r"""Total reward without end components: the quotient on which the optimality equation has one solution.

Three kinds of end component, by the rewards inside it:

- All zero: staying for ever is worth 0 and moving about is free, so the value v is one number on the component. It becomes one
  state with the pairs that leave it and a pair `stay` to a sink worth 0: v = max(0, best way out).
- None negative, some positive: these can be collected for ever, the value is infinite.
- Some negative: it is left in the end by every policy that is worth more than minus infinity, unless rewards of both signs
  make a loop that does not lose; such a component is `mixed` and left to the proof.

Zero components inside others are maximal among the pairs of reward zero, so one decomposition of those finds them all. On the
quotient every policy that stops nowhere is worth minus infinity (mixed components apart), and the optimality equation has one
solution: it is a stochastic shortest path problem (Bertsekas and Tsitsiklis, Math. Oper. Res. 16, 1991; de Alfaro, CONCUR 1999;
Haddad and Monmege, Theor. Comput. Sci. 735, 2018; Baier, Klein, Leuschner, Parker, Wunderlich, CAV 2017).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from .collapse import Quotient, collapse, where
from .errors import InfiniteValue
from .graph import Graph, strong_components

_index = np.uintp


def quotient(problem: MDP) -> Quotient:
    """The quotient of a total-reward maximisation problem.

    Raises InfiniteValue naming a state and an action when the value is infinite, whatever the probabilities are.
    """
    graph = Graph.of(problem)
    mixed = _refuse_rewarding(problem, graph)
    zero = problem.reward == 0
    component = np.full(problem.n_states, -1, dtype=np.int32)
    inside = np.zeros(problem.n_pairs, dtype=np.bool_)
    if zero.any():
        component, inside = graph.end_components(zero)
    group = _groups(component)
    n_groups = int(group.max()) + 1
    members = np.argsort(group, kind="stable").astype(np.int32)
    first = np.searchsorted(group[members], np.arange(n_groups + 1)).astype(np.int32)
    idle = component[members[first[:-1]]] >= 0
    search: Any = _attract
    sink = int(idle.any())
    place, found = search(
        problem.pair_state, graph.pred_ptr, graph.pred_pair, group, first, members, idle, problem.terminal, sink
    )
    if found < n_groups:
        _refuse_endless(problem, place, mixed)
    if not problem.terminal.all():
        place = _topological(place, strong_components(problem), sink)
    return collapse(problem, graph, place, component, inside, mixed, problem)


def flattened(quotient: Quotient, value: np.ndarray, spread: float) -> Quotient | None:
    """A quotient of the quotient that is worth at least as much: states between which one can move for ever, free of charge and
    almost without loss, become one.

    value: (N,), near the optimum. spread: greatest difference of value, >= 0, along a pair that counts as flat. Only states of
    value >= 0 are merged. None where that merges nothing, or would let a reward be collected at no cost.
    """
    model = quotient.model
    source = np.repeat(model.pair_state, np.diff(model.row_ptr))
    uneven = np.abs(value[model.successor] - value[source]) > spread
    flat = (model.reward == 0) & (value[model.pair_state] >= 0)
    flat &= ~np.logical_or.reduceat(uneven, model.row_ptr[:-1]) if model.n_pairs else flat
    label = strong_components(model, flat)
    members = np.bincount(label)[label]
    if (members == 1).all():
        return None
    component = np.where(members > 1, label, -1).astype(np.int32)
    group = _groups(component)
    idle = np.zeros(int(group.max()) + 1, dtype=np.bool_)
    idle[group[component >= 0]] = True
    inside = np.zeros(model.n_pairs, dtype=np.bool_)
    try:
        return collapse(model, quotient.graph, group + 1, component, inside, -1, quotient.original)
    except InfiniteValue:
        return None


def _refuse_rewarding(problem: MDP, graph: Graph) -> int:
    """Raise where an end component collects without paying; else a pair of a mixed component, or -1."""
    if not (problem.reward > 0).any():
        return -1
    component, inside = graph.end_components(np.ones(problem.n_pairs, dtype=np.bool_))
    pairs = np.flatnonzero(inside)
    label, reward = component[problem.pair_state[pairs]], problem.reward[pairs]
    count = int(component.max()) + 1
    gains, pays = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    gains[label[reward > 0]] = pays[label[reward < 0]] = True
    for pair in pairs[(gains & ~pays)[label] & (reward > 0)][:1]:
        raise InfiniteValue(
            f"{where(problem, int(pair))}: this can be repeated for ever, collecting each time and never paying, so the total "
            "is infinite; discount it, or average it with AverageReward()"
        )
    return int(next(iter(pairs[(gains & pays)[label] & (reward > 0)]), -1))


def _refuse_endless(problem: MDP, place: np.ndarray, mixed: int) -> None:
    stuck = place < 0
    state = int(np.flatnonzero(stuck)[0])
    pairs = np.flatnonzero(stuck[problem.pair_state] & (problem.reward != 0))
    loop = f" (through {where(problem, int(pairs[0]))}, say)" if len(pairs) else ""
    both = ", or gain and pay in turn," if mixed >= 0 else ""
    raise InfiniteValue(
        f"state {problem.state_of(state)}: from here no terminal state and no free loop can be reached; every policy runs for "
        f"ever through loops that pay{both} at every turn{loop}, so its total is infinite or undefined; give it a way to "
        "stop, or leave the state out"
    )


def _groups(component: np.ndarray) -> np.ndarray:
    """Number 0.. of each state's group: its component, or itself alone; in the order of the groups' first states."""
    n_states = len(component)
    head = np.arange(n_states)
    inside = np.flatnonzero(component >= 0)
    if len(inside):
        _, first, label = np.unique(component[inside], return_index=True, return_inverse=True)
        head[inside] = inside[first][label]
    number = np.cumsum(head == np.arange(n_states)) - 1
    return number[head].astype(np.int32)


def _topological(place: np.ndarray, component: np.ndarray, sink: int) -> np.ndarray:
    """Positions sorted by strongly connected component, within one as they were."""
    of_position = np.empty(int(place.max()) + 1, dtype=np.int32)
    of_position[place] = component
    if (np.diff(of_position[sink:]) >= 0).all():
        return place
    position = np.arange(len(of_position), dtype=np.int32)
    position[sink + np.argsort(of_position[sink:], kind="stable")] = position[sink:]
    return position[place]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _attract(pair_state, pred_ptr, pred_pair, group, first, members, idle, terminal, sink):
    """Position of each state's group by distance from the terminal states, then from the idle groups that cannot reach one; -1
    where none of these can be reached. And how many groups were found."""
    n_groups = len(first) - 1
    place, queue = np.full(len(group), -1, np.int32), np.empty(n_groups, np.int32)
    head, tail, candidate = _index(0), _index(0), 0
    for number in range(n_groups):
        if terminal[members[first[number]]]:
            place[members[first[number]]] = np.int64(tail) + sink
            queue[tail] = number
            tail += _index(1)
    while True:
        while head == tail and candidate < n_groups:
            if idle[candidate] and place[members[first[candidate]]] < 0:
                for k in range(first[candidate], first[candidate + 1]):
                    place[members[k]] = np.int64(tail) + sink
                queue[tail] = candidate
                tail += _index(1)
            candidate += 1
        if head == tail:
            return place, np.int64(tail)
        number = _index(queue[head])
        head += _index(1)
        for k in range(_index(first[number]), _index(first[number + _index(1)])):
            state = _index(members[k])
            for j in range(_index(pred_ptr[state]), _index(pred_ptr[state + _index(1)])):
                source = _index(pair_state[_index(pred_pair[j])])
                if place[source] < 0:
                    other = _index(group[source])
                    for i in range(_index(first[other]), _index(first[other + _index(1)])):
                        place[_index(members[i])] = np.int64(tail) + sink
                    queue[tail] = other
                    tail += _index(1)

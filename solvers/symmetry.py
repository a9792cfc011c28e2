r"""Symmetries that a user knows, verified exactly and turned into classes.

A symmetry is a permutation g of the states with one of the pairs, (s, a) -> (g s, g_s a), that leaves the problem as it is:

    r(g k) = r(k),      P(g j | g k) = P(j | k),      terminal states go to terminal states worth as much.

The orbits of states and of pairs under any set of symmetries are a homomorphism: pairs of an orbit have one reward and give one
mass to each orbit of states, since g maps orbits of successors onto themselves. So they are a bisimulation with actions matched
by the symmetries, though not always the coarsest: `coarsest_bisimulation(model, actions="any")` finds what none explains.
V* and Q* are constant on orbits. Orbits are the connected components of the graph that joins each element with its images.

Ravindran and Barto, IJCAI 2003; Zinkevich and Balch, ICML 2001.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from ..mdp.model import MDP
from ..mdp.quotient import Partition
from .bisimulation_proof import exact_row, row_distances
from .errors import SolveError


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A permutation of states and of pairs, to be verified by `check_symmetry`.

    states: int (n_states,), where each state goes. pairs: int (n_pairs,), where each pair goes.
    """

    states: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, model: MDP, states: Sequence[int] | np.ndarray, actions: Sequence[int] | np.ndarray | None = None) -> Symmetry:
        """The symmetry that moves states as said, (n_states,), and every state's action a to action actions[a] of its image.

        actions: one renaming for all states, or None for none. Raises SolveError where an image has no such action.
        """
        states = _permutation("states", states, model.n_states)
        position = np.arange(model.n_pairs) - model.state_ptr[model.pair_state]
        if actions is not None:
            renaming = _permutation("actions", actions, int(np.diff(model.state_ptr).max(initial=0)))
            position = renaming[position]
        image = states[model.pair_state]
        for pair in np.flatnonzero(position >= np.diff(model.state_ptr)[image])[:1].tolist():
            raise SolveError(
                f"state {model.state_of(int(model.pair_state[pair]))} goes to state {model.state_of(int(image[pair]))}, which "
                f"has no action {position[pair]}"
            )
        return cls(states, model.state_ptr[image].astype(np.int64) + position)


def check_symmetry(model: MDP, symmetry: Symmetry) -> int:
    """Verify a symmetry in exact arithmetic, floats as stored; returns the number of rows compared.

    Raises SolveError naming the state, the action and the number where it is none.
    """
    states = _permutation("states", symmetry.states, model.n_states)
    pairs = _permutation("pairs", symmetry.pairs, model.n_pairs)
    for pair in np.flatnonzero(model.pair_state[pairs] != states[model.pair_state])[:1].tolist():
        raise SolveError(f"{_place(model, pair)} goes to an action of another state than its state does; no symmetry does that")
    moved = (model.terminal != model.terminal[states]) | (model.terminal_value != model.terminal_value[states])
    for state in np.flatnonzero(moved)[:1].tolist():
        raise SolveError(f"state {model.state_of(state)} does not end as its image {model.state_of(int(states[state]))} does")
    for pair in np.flatnonzero(model.reward != model.reward[pairs])[:1].tolist():
        here, there = float(model.reward[pair]), float(model.reward[pairs[pair]])
        raise SolveError(f"{_place(model, pair)}: reward {here!r}, but its image has {there!r}")
    row_ptr = np.concatenate((model.row_ptr[:-1].astype(np.int64), model.row_ptr + np.int64(model.n_transitions)))
    target = np.concatenate((states[model.successor], model.successor.astype(np.int64)))
    first = np.concatenate((model.n_pairs + pairs, np.arange(model.n_pairs, 2 * model.n_pairs)))
    distance, rough = row_distances(first, row_ptr, target, np.tile(model.probability, 2), model.n_states)
    faults = (distance > 0) | rough
    for pair in np.flatnonzero(faults[: model.n_pairs]).tolist():
        ours, theirs = exact_row(model, states, pair), exact_row(model, np.arange(model.n_states), int(pairs[pair]))
        for state in sorted(ours.keys() | theirs.keys()):
            if ours.get(state, 0) != theirs.get(state, 0):
                here, there = float(ours.get(state, Fraction(0))), float(theirs.get(state, Fraction(0)))
                raise SolveError(
                    f"{_place(model, pair)}: its image reaches state {model.state_of(state)} with probability {there!r}, and "
                    f"the symmetry asks for {here!r}"
                )
    return model.n_pairs


def orbits(model: MDP, symmetries: Iterable[Symmetry]) -> Partition:
    """The classes of states and pairs that the symmetries, and all that they generate, map into each other.

    Each is verified first. Raises SolveError as `check_symmetry`.
    """
    known = list(symmetries)
    for symmetry in known:
        check_symmetry(model, symmetry)
    return Partition(
        _components(model.n_states, [g.states for g in known]), _components(model.n_pairs, [g.pairs for g in known])
    )


def _components(size: int, permutations: list[np.ndarray]) -> np.ndarray:
    ends = np.concatenate([np.zeros(0, dtype=np.int64), *permutations])
    starts = np.tile(np.arange(size), len(permutations))
    graph = scipy.sparse.coo_array((np.ones(len(ends), dtype=np.int8), (starts, ends)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def _permutation(name: str, given: Any, size: int) -> np.ndarray:
    numbers = np.asarray(given)
    if numbers.shape != (size,) or numbers.dtype.kind not in "iu" or not np.array_equal(np.sort(numbers), np.arange(size)):
        raise SolveError(f"{name} must be a permutation of 0..{size - 1}; got shape {numbers.shape}, {numbers.dtype}")
    return numbers.astype(np.int64)


def _place(model: MDP, pair: int) -> str:
    state = int(model.pair_state[pair])
    return f"state {model.state_of(state)}, action {model.action_of(state, pair - int(model.state_ptr[state]))}"

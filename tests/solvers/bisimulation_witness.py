r"""Slow references for bisimulations: signatures in Fractions, enumeration of every partition, and problems with known classes.

Nothing is shared with the library but the model's arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from banach.mdp import MDP, Discounted
from hypothesis import strategies as st

from .. import witness


def signatures(problem: MDP, classes: list[int], actions: str, table: list | None = None) -> list:
    """What a state shows of itself when the classes of its successors can be seen; of a table, its actions alone."""
    shown = []
    for state, rows in enumerate(witness.rows(problem) if table is None else table):
        offers = []
        for position, (reward, row) in enumerate(rows):
            mass: dict[int, Fraction] = {}
            for j, p in row.items():
                mass[classes[j]] = mass.get(classes[j], Fraction(0)) + p
            name = {
                "position": position,
                "name": problem.action_names and problem.action_names[problem.state_ptr[state] + position],
                "any": None,
            }[actions]
            offers.append((name, reward, frozenset((c, p) for c, p in mass.items() if p)))
        labels = tuple(bool(states[state]) for states in problem.labels.values())
        if table is not None:
            shown.append(frozenset(offers))
            continue
        shown.append((bool(problem.terminal[state]), float(problem.terminal_value[state]), labels, frozenset(offers)))
    return shown


def numbered(shown: list) -> list[int]:
    """Classes of equal things in the order of their first appearance."""
    seen: dict = {}
    return [seen.setdefault(thing, len(seen)) for thing in shown]


def coarsest(problem: MDP, actions: str = "position", table: list | None = None) -> list[int]:
    """Classes of the coarsest bisimulation, by signatures from one class down."""
    classes = [0] * problem.n_states
    while True:
        finer = numbered(list(zip(classes, signatures(problem, classes, actions, table), strict=True)))
        if max(finer) == max(classes):
            return classes
        classes = finer


def partitions(n: int) -> Iterator[list[int]]:
    """Every partition of n things, as restricted growth strings."""

    def grow(prefix: list[int]) -> Iterator[list[int]]:
        if len(prefix) == n:
            yield prefix
            return
        for c in range(max(prefix, default=-1) + 2):
            yield from grow([*prefix, c])

    yield from grow([])


def is_bisimulation(problem: MDP, classes: list[int], actions: str = "position") -> bool:
    """Whether states of a class show the same when classes can be seen."""
    shown = signatures(problem, classes, actions)
    return all(len({repr_of for repr_of, c in zip(shown, classes, strict=True) if c == k}) == 1 for k in set(classes))


@st.composite
def blown_up(draw: st.DrawFn, base: st.SearchStrategy[MDP], copies: int = 3, shuffle: bool = False) -> MDP:
    """A problem whose states are copies of a smaller one's, each row's mass cut among the copies in dyadic parts.

    shuffle: the copies' actions are permuted and one is repeated, so that only actions="any" merges them.
    """
    small = draw(base)
    counts = [draw(st.integers(1, copies)) for _ in range(small.n_states)]
    of = [s for s in range(small.n_states) for _ in range(counts[s])]
    of = draw(st.permutations(of))
    members = {s: [i for i, t in enumerate(of) if t == s] for s in range(small.n_states)}
    state_ptr, row_ptr, successor, probability, reward = [0], [0], [], [], []
    for s in of:
        pairs = list(range(small.state_ptr[s], small.state_ptr[s + 1]))
        if shuffle and pairs:
            pairs = [*draw(st.permutations(pairs)), *draw(st.lists(st.sampled_from(pairs), max_size=1))]
        for k in pairs:
            for e in range(small.row_ptr[k], small.row_ptr[k + 1]):
                left, there = float(small.probability[e]), members[int(small.successor[e])]
                for j in there[:-1]:
                    part = left * draw(st.sampled_from([0.0, 0.5, 1.0]))
                    successor.append(j)
                    probability.append(part)
                    left -= part
                successor.append(there[-1])
                probability.append(left)
            row_ptr.append(len(successor))
            reward.append(float(small.reward[k]))
        state_ptr.append(len(reward))
    return MDP(
        np.array(state_ptr), np.array(row_ptr), np.array(successor, dtype=np.int32), np.array(probability),
        np.array(reward, dtype=float), small.criterion,
        terminal=small.terminal[of], terminal_value=small.terminal_value[of],
    )  # fmt: skip


def product_of_chains(chains: int, length: int = 3, discount: float = 0.9) -> MDP:
    """Independent chains 0 -> 1 -> ... -> length - 1, which stays; an action moves one of them on with probability 1/2.

    The reward is the number of chains at the end. States are the tuples of places; classes, up to the names of actions, the
    multisets of them: C(chains + length - 1, length - 1).
    """
    shape = (length,) * chains
    places = np.array(np.unravel_index(np.arange(length**chains), shape)).T
    state_ptr, row_ptr, successor, probability, reward = [0], [0], [], [], []
    for s, place in enumerate(places):
        for c in range(chains):
            on = place.copy()
            on[c] = min(on[c] + 1, length - 1)
            j = int(np.ravel_multi_index(tuple(on), shape))
            successor += [s, j] if j != s else [s]
            probability += [0.5, 0.5] if j != s else [1.0]
            row_ptr.append(len(successor))
            reward.append(float(np.sum(place == length - 1)))
        state_ptr.append(len(reward))
    return MDP(
        np.array(state_ptr),
        np.array(row_ptr),
        np.array(successor),
        np.array(probability),
        np.array(reward),
        Discounted(discount),
    )


def symmetric_grid(side: int, discount: float = 0.9) -> MDP:
    """A square room with the goal in its middle; moves slip sideways with probability 1/8 each way. Side odd.

    Up to the names of actions the classes are the orbits of the square's eight symmetries: k (k + 1) / 2 of them,
    k = (side + 1) / 2, the centre one of them.
    """
    steps = ((-1, 0), (0, 1), (1, 0), (0, -1))
    state_ptr, row_ptr, successor, probability, reward = [0], [0], [], [], []
    for y in range(side):
        for x in range(side):
            middle = (y, x) == (side // 2, side // 2)
            for a in range(0 if middle else 4):
                for turn, p in ((0, 0.75), (1, 0.125), (3, 0.125)):
                    dy, dx = steps[(a + turn) % 4]
                    ny, nx = min(max(y + dy, 0), side - 1), min(max(x + dx, 0), side - 1)
                    successor.append(ny * side + nx)
                    probability.append(p)
                row_ptr.append(len(successor))
                reward.append(-1.0)
            state_ptr.append(len(reward))
    terminal = np.zeros(side * side, dtype=bool)
    terminal[side * side // 2] = True
    return MDP(
        np.array(state_ptr), np.array(row_ptr), np.array(successor, dtype=np.int32), np.array(probability), np.array(reward),
        Discounted(discount), terminal=terminal,
    )  # fmt: skip

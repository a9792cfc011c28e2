r"""Why the classes of a partition cannot be fewer: a tree of splits, and the experiment that tells two classes apart.

Take the quotient by the partition, in fractions. Nodes are sets of its states, the root is all of them. First a node is split
by what can be seen at once: terminal or not, terminal value, labels. Then a leaf is split where its members differ in

    { (name of a, r(s, a), P(N | s, a)) : a offered by s },      N a node that was there before.

No bisimulation joins states of two children: by induction N is a union of classes of whatever bisimulation there is, so joined
states would give it the same mass. When every leaf is a single class, the partition is the coarsest, provided that it is a
bisimulation (`banach.solvers.bisimulation_proof`). `check_splitting_tree` decides every split anew, exactly, and knows nothing
of how it was found.

Cleaveland, CAV 1990, for the experiments; Fisler and Vardi, Formal Methods Syst. Des. 21, 2002, for minimality.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..mdp.model import MDP
from ..mdp.quotient import Partition
from .bisimulation import Matching
from .bisimulation_masses import simplest_fraction
from .errors import CertificateRejected, SolveError

Offer = tuple[Hashable, float, dict[int, Fraction]]


@dataclass(frozen=True)
class SplittingTree:
    """Sets of classes of states, each but the root a part of an earlier one.

    members: classes in each node. parent: node that each is a part of, -1 for the root. splitter: node N by which the parent
    was split, -1 where by what is seen at once. All tuples of the same length.
    """

    members: tuple[tuple[int, ...], ...]
    parent: tuple[int, ...]
    splitter: tuple[int, ...]

    @property
    def leaves(self) -> list[int]:
        """Nodes without parts."""
        inner = set(self.parent)
        return [node for node in range(len(self.members)) if node not in inner]

    @property
    def discrete(self) -> bool:
        """Whether every leaf is one class, so that no two can be merged."""
        return all(len(self.members[leaf]) == 1 for leaf in self.leaves)


class _Classes:
    """The quotient, exactly: what each class offers and shows."""

    def __init__(
        self, model: MDP, partition: Partition, actions: Matching, labels: Iterable[str] | None, rational: bool
    ) -> None:
        read = simplest_fraction if rational else Fraction
        self.shown: list[Hashable] = []
        self.offers: list[list[Offer]] = []
        names = list(model.labels if labels is None else labels)
        for state in np.unique(partition.states, return_index=True)[1].tolist():
            seen = tuple(bool(model.labels[name][state]) for name in names)
            self.shown.append((bool(model.terminal[state]), float(model.terminal_value[state]), seen))
            self.offers.append([])
            for pair in range(int(model.state_ptr[state]), int(model.state_ptr[state + 1])):
                name: Hashable = None
                if actions == "position":
                    name = pair - int(model.state_ptr[state])
                elif actions == "name" and model.action_names is not None:
                    name = model.action_names[pair]
                row: dict[int, Fraction] = defaultdict(Fraction)
                for e in range(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1])):
                    if model.probability[e]:
                        row[int(partition.states[model.successor[e]])] += read(float(model.probability[e]))
                self.offers[-1].append((name, float(model.reward[pair]), dict(row)))

    def look(self, state: int, node: frozenset[int]) -> frozenset[tuple[Hashable, float, Fraction]]:
        """What a class offers, when all that can be seen of its successors is whether they are in the node."""
        return frozenset(
            (name, reward, sum((p for c, p in row.items() if c in node), Fraction(0)))
            for name, reward, row in self.offers[state]
        )


def splitting_tree(
    model: MDP,
    partition: Partition,
    *,
    actions: Matching = "position",
    labels: Iterable[str] | None = None,
    rational: bool = False,
) -> SplittingTree:
    """The splits that separate a bisimulation's classes, as far as can be; the words as in `coarsest_bisimulation`.

    Time grows with the quotient's transitions times the depth of the tree. Raises SolveError for an unknown label.
    """
    classes = _read(model, partition, actions, labels, rational)
    members: list[list[int]] = [list(range(partition.n_classes))]
    parent, splitter, leaf_of = [-1], [-1], [0] * partition.n_classes
    inner: set[int] = set()
    into: list[set[int]] = [set() for _ in range(partition.n_classes)]
    for state, offers in enumerate(classes.offers):
        for _, _, row in offers:
            for c in row:
                into[c].add(state)

    def split(leaf: int, by: int, groups: Iterable[list[int]]) -> None:
        inner.add(leaf)
        for group in groups:
            for state in group:
                leaf_of[state] = len(members)
            members.append(group)
            parent.append(leaf)
            splitter.append(by)

    seen = _groups(members[0], classes.shown.__getitem__)
    if len(seen) > 1:
        split(0, -1, seen)
    node = 0
    while node < len(members):
        here = frozenset(members[node])
        touched: dict[int, list[int]] = defaultdict(list)
        if node == 0:
            for state in range(partition.n_classes):
                touched[leaf_of[state]].append(state)
        elif node not in inner:
            for state in sorted(set().union(*(into[c] for c in here))):
                touched[leaf_of[state]].append(state)
        for leaf, states in touched.items():
            rest = set(members[leaf]).difference(states)
            groups = _groups(states, lambda state, here=here: classes.look(state, here))
            if rest:
                groups.append(sorted(rest))
            if len(groups) > 1:
                split(leaf, node, groups)
        node += 1
    return SplittingTree(tuple(map(tuple, members)), tuple(parent), tuple(splitter))


def _groups(states: Iterable[int], key) -> list[list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for state in states:
        found[key(state)].append(state)
    return list(found.values())


def _read(model: MDP, partition: Partition, actions: Matching, labels: Iterable[str] | None, rational: bool) -> _Classes:
    for name in labels or ():
        if name not in model.labels:
            raise SolveError(f"the model has no label {name!r}; its labels are {', '.join(model.labels) or 'none'}")
    if actions == "name" and model.action_names is None:
        raise SolveError("the model's actions have no names; match them by 'position', or as 'any'")
    return _Classes(model, partition, actions, labels, rational)


def check_splitting_tree(
    model: MDP,
    partition: Partition,
    tree: SplittingTree,
    *,
    actions: Matching = "position",
    labels: Iterable[str] | None = None,
    rational: bool = False,
) -> int:
    """Prove that no two classes of a bisimulation can be merged; the number of splits that were decided.

    Raises CertificateRejected, naming a node or two classes, where the tree does not show it; SolveError as `splitting_tree`.
    """
    classes = _read(model, partition, actions, labels, rational)
    if not tree.members or sorted(tree.members[0]) != list(range(partition.n_classes)):
        raise CertificateRejected("the root is not the set of all classes")
    parts: dict[int, list[int]] = defaultdict(list)
    for node in range(1, len(tree.members)):
        if not (0 <= tree.parent[node] < node and -1 <= tree.splitter[node] < node):
            raise CertificateRejected(f"node {node}: its parent and its splitter must come before it")
        parts[tree.parent[node]].append(node)
    for node, children in parts.items():
        if sorted(c for child in children for c in tree.members[child]) != sorted(tree.members[node]):
            raise CertificateRejected(f"node {node}: its parts do not make it up")
        by = tree.splitter[children[0]]
        if any(tree.splitter[child] != by for child in children):
            raise CertificateRejected(f"node {node}: its parts must have one splitter")
        look = classes.shown.__getitem__ if by < 0 else _look_at(classes, tree.members[by])
        looks = [{look(c) for c in tree.members[child]} for child in children]
        if len(set().union(*looks)) < sum(map(len, looks)):
            raise CertificateRejected(f"node {node}: two of its parts look alike to node {by}")
    for leaf in tree.leaves:
        if len(tree.members[leaf]) > 1:
            first, second = tree.members[leaf][:2]
            raise CertificateRejected(f"nothing tells classes {first} and {second} apart; the partition is not the coarsest")
    return len(parts)


def _look_at(classes: _Classes, node: tuple[int, ...]):
    members = frozenset(node)
    return lambda state: classes.look(state, members)


def distinguish(
    model: MDP,
    partition: Partition,
    tree: SplittingTree,
    first: int,
    second: int,
    *,
    actions: Matching = "position",
    labels: Iterable[str] | None = None,
    rational: bool = False,
) -> list[str]:
    """What tells two states (of the model) apart, as sentences: what to do, what comes out, and how that is seen in turn.

    Raises SolveError for two states of one class.
    """
    classes = _read(model, partition, actions, labels, rational)
    states = np.unique(partition.states, return_index=True)[1]
    one, other = int(partition.states[first]), int(partition.states[second])
    if one == other:
        raise SolveError(f"states {first} and {second} are in one class; nothing tells them apart")
    said: list[str] = []
    while True:
        by = _parting(tree, one, other)
        names = f"state {model.state_of(int(states[one]))} and state {model.state_of(int(states[other]))}"
        if by < 0:
            said.append(f"{names} are seen to differ at once: {classes.shown[one]} against {classes.shown[other]}")
            return said
        node = frozenset(tree.members[by])
        mine, theirs = classes.look(one, node), classes.look(other, node)
        only, side = (mine - theirs, "first") if mine - theirs else (theirs - mine, "second")
        name, reward, mass = min(only, key=repr)
        action = "some action" if name is None else f"action {name}"
        matched = [m for n, r, m in (theirs if side == "first" else mine) if (n, r) == (name, reward)]
        if by == 0 or not matched:
            said.append(f"{names}: {action} with reward {reward:g} is offered by the {side} alone")
            return said
        found = ", ".join(map(str, sorted(matched)))
        said.append(
            f"{names}: {action} with reward {reward:g} leads to a set of {len(node)} classes with probability {mass} from the "
            f"{side}, and {found} from the other; the set holds state {model.state_of(int(states[min(node)]))}"
        )
        outside = next((c for c in tree.members[tree.parent[by]] if c not in node), None)
        if outside is None:
            return said
        one, other = min(node), outside


def _parting(tree: SplittingTree, one: int, other: int) -> int:
    """The splitter of the last node that holds both."""
    for node in range(len(tree.members)):
        if one in tree.members[node] and other not in tree.members[node]:
            return tree.splitter[node]
    raise SolveError(f"the tree does not separate classes {one} and {other}")

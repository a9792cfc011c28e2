r"""What merging states costs, in exact rationals.

v, q are the optimal values of a discounted problem, phi maps states to classes, bars are of the quotient with equal weights
(`banach.mdp.quotient`), actions matched by their position.

BISIMULATION    v = vbar(phi) for the coarsest bisimulation, actions matched by position or by what they do (Givan, Dean and
                Greig 2003).

AGGREGATION     |v - vbar(phi)| <= beta = (a + g (e/2) sp(vbar)) / (1-g),   a = max |r - rbar|,   e = max |P phi - Pbar|_1,
                since T (vbar(phi)) is within a + g (e/2) sp(vbar) of vbar(phi): a residual (Dean, Givan and Leach 1997).
                Attained by two loops.

AGGREGATION_LOSS    the quotient's optimal policy loses at most 2 beta: what it is worth is as near to vbar(phi) as v is.

IRRELEVANCE     if |q(s, a) - q(t, a)| <= d inside classes, then |q - qbar(phi)| <= d / (1-g) whatever the weights. The mean
                of q over classes is within d of q, so that Tbar moves it by at most g d, and qbar is within g d / (1-g) of it
                (Li, Walsh and Littman 2006; Abel, Hershkowitz and Littman 2016).

False: the aggregation bound holds without 1/(1-g).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import sympy
from flint import fmpq, fmpq_mat

from ..mdp.criterion import Discounted
from ..mdp.instances.rows import from_lists
from ..mdp.model import MDP
from ..mdp.quotient import Partition, Quotient, quotient
from ..solvers.bisimulation import coarsest_bisimulation
from ..solvers.bisimulation_masses import masses
from . import specimens
from .bound import Bound, Measurement
from .rational import NOTHING, RationalEvidence, rational

g, a, e, span, apart = sympy.symbols("gamma epsilon_r epsilon_p sigma delta", nonnegative=True)

NAMED = ("riverswim", "machine_replacement", "forest", "garnet:states=8,actions=2,successors=3,discount=0.9")


def problems(*own: str) -> Mapping[str, MDP]:
    """Small models of this shelf by name (two loops, twins, coin, doubled), then discounted ones for rational arithmetic."""
    models = {
        "two loops": from_lists([[(1.0, {0: 1.0})], [(0.0, {1: 1.0})]], Discounted(0.875)),
        "twins": from_lists([[(0.0, {0: 1.0}), (1.0, {0: 1.0})], [(0.0, {1: 1.0}), (1.0, {1: 1.0})]], Discounted(0.5)),
        "coin": from_lists([[(0.0, {1: 0.5, 2: 0.5})], [(1.0, {1: 1.0})], [(0.0, {2: 1.0})]], Discounted(0.5)),
    }
    twice = (1.0, {0: 0.5, 1: 0.5})
    models["doubled"] = from_lists([[twice, twice, (0.0, {1: 1.0})], [(0.0, {0: 1.0}), (0.0, {0: 1.0})]], Discounted(0.5))
    return {name: models[name] for name in own} | dict(specimens.exact()) | specimens.named(*NAMED)


def _merged(evidence: RationalEvidence, merged: Quotient) -> RationalEvidence:
    """Exact evidence of a quotient with equal weights of states, and of a state's pairs in one class."""
    model, partition = merged.original, merged.partition
    into, small = merged.quotient_pair, merged.model
    share = np.array([fmpq(1, int(c)) for c in _multiplicity(model, partition)], dtype=object)
    total = [NOTHING] * small.n_pairs
    rows, reward = fmpq_mat(small.n_pairs, small.n_states), [NOTHING] * small.n_pairs
    table = evidence.matrix.table() if model.n_pairs else []
    for pair, k in enumerate(into.tolist()):
        total[k] += share[pair]
        reward[k] += share[pair] * evidence.reward[pair]
        for state, p in enumerate(table[pair]):
            if p != 0:
                rows[k, int(partition.states[state])] += share[pair] * p
    for k in range(small.n_pairs):
        reward[k] /= total[k]
        for c in range(small.n_states):
            rows[k, c] = rows[k, c] / total[k]
    return RationalEvidence(small, small.state_ptr, rows, np.array(reward, dtype=object), evidence.discount)


def _multiplicity(model: MDP, partition: Partition) -> np.ndarray:
    """How many pairs of its own state are in each pair's class."""
    key = model.pair_state.astype(np.int64) * max(partition.n_pair_classes, 1) + partition.pairs
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    return count[place]


def _errors(evidence: RationalEvidence, small: RationalEvidence, merged: Quotient) -> tuple[fmpq, fmpq]:
    """Greatest reward difference and L1 distance of rows from the quotient's, exactly."""
    states, into = merged.partition.states, merged.quotient_pair.tolist()
    worst_reward = worst_row = NOTHING
    if not into:
        return worst_reward, worst_row
    table, theirs = evidence.matrix.table(), small.matrix.table()
    for pair, k in enumerate(into):
        worst_reward = max(worst_reward, abs(evidence.reward[pair] - small.reward[k]))
        gap = [-p for p in theirs[k]]
        for state, p in enumerate(table[pair]):
            gap[states[state]] += p
        worst_row = max(worst_row, sum(map(abs, gap), NOTHING))
    return worst_reward, worst_row


def _partitions(evidence: RationalEvidence) -> Iterator[tuple[str, Quotient]]:
    """Quotients: states of one number of actions together; of those, two and two in the order of their values."""
    model = evidence.problem
    ends = {worth: kind for kind, worth in enumerate(dict.fromkeys(model.terminal_value[model.terminal].tolist()))}
    kinds = np.diff(model.state_ptr).astype(np.int64) + len(ends)
    kinds[model.terminal] = [ends[worth] for worth in model.terminal_value[model.terminal].tolist()]
    yield "by number of actions", quotient(model, Partition.by_position(model, kinds), np.ones(model.n_states))
    value = np.array([float(v) for v in evidence.optimal()])
    order = np.argsort(value, kind="stable")
    near = np.empty(model.n_states, dtype=np.int64)
    near[order] = np.arange(model.n_states) // 2
    pairs = kinds + near * (int(kinds.max(initial=0)) + 1)
    yield "by value, two and two", quotient(model, Partition.by_position(model, pairs), np.ones(model.n_states))


def _bisimulation(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "bisimulation")
    if masses(evidence.problem, rational=False).error > 0:
        return
    for actions in ("position", "any"):
        merged = quotient(evidence.problem, coarsest_bisimulation(evidence.problem, actions=actions, labels=()))
        value = _merged(evidence, merged).optimal()[merged.partition.states]
        yield Measurement(evidence.sup(evidence.optimal() - value), {}, {"actions": actions, "classes": merged.model.n_states})


def _aggregation(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "aggregation")
    for name, merged in _partitions(evidence):
        small = _merged(evidence, merged)
        value = small.optimal()
        gap = evidence.sup(evidence.optimal() - value[merged.partition.states])
        yield Measurement(gap, _price(evidence, small, merged, value), {"classes": name})


def _price(evidence: RationalEvidence, small: RationalEvidence, merged: Quotient, value: np.ndarray) -> dict[sympy.Symbol, Any]:
    rewards, rows = _errors(evidence, small, merged)
    return {g: evidence.discount, a: rewards, e: rows, span: small.span(value)}


def _aggregation_loss(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the loss of aggregation")
    for name, merged in _partitions(evidence):
        small = _merged(evidence, merged)
        value = small.optimal()
        policy = merged.lift_policy(small.greedy(value))
        loss = evidence.sup(evidence.optimal() - evidence.policy_value(policy))
        yield Measurement(loss, _price(evidence, small, merged, value), {"classes": name})


def _irrelevance(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "irrelevance of classes for action values")
    if not len(evidence.reward):
        return
    worth = evidence.action_values(evidence.optimal())
    for name, merged in _partitions(evidence):
        small = _merged(evidence, merged)
        into = merged.quotient_pair
        theirs = small.action_values(small.optimal())[into]
        spread = [[w for w, k in zip(worth, into, strict=True) if k == pair] for pair in range(small.problem.n_pairs)]
        wide = max(max(values) - min(values) for values in spread)
        yield Measurement(max(map(abs, worth - theirs)), {g: evidence.discount, apart: wide}, {"classes": name})


_MERGE = {g: "discount", a: "largest reward error of the classes", e: "largest L1 error of their rows", span: "span of vbar"}
_BETA = (a + g * e * span / 2) / (1 - g)

BISIMULATION = Bound(
    name="bisimilar states are worth the same",
    quantity=r"\|v^* - \bar v^*\circ\phi\|_\infty",
    statement=sympy.Integer(0),
    symbols={},
    measure=_bisimulation,
    sense="equal to",
    source="Givan, Dean and Greig, Artif. Intell. 147, 2003",
    family="bisimulation",
    problems=partial(problems, "twins", "doubled"),
)

AGGREGATION = Bound(
    name="value of an aggregation",
    quantity=r"\|v^* - \bar v^*\circ\phi\|_\infty",
    statement=_BETA,
    symbols=_MERGE,
    measure=_aggregation,
    source="Dean, Givan and Leach, UAI 1997; Even-Dar and Mansour, COLT 2003",
    family="bisimulation",
    problems=partial(problems, "two loops"),
)

AGGREGATION_LOSS = Bound(
    name="loss of an aggregation's policy",
    quantity=r"\|v^* - v_{\bar\pi\circ\phi}\|_\infty",
    statement=2 * _BETA,
    symbols=_MERGE,
    measure=_aggregation_loss,
    source="Dean, Givan and Leach, UAI 1997; Even-Dar and Mansour, COLT 2003",
    family="bisimulation",
    problems=partial(problems, "twins"),
)

IRRELEVANCE = Bound(
    name="action values of an aggregation",
    quantity=r"\|q^* - \bar q^*\circ\phi\|_\infty",
    statement=apart / (1 - g),
    symbols={g: "discount", apart: "largest difference of q* inside a class"},
    measure=_irrelevance,
    source="Abel, Hershkowitz and Littman, ICML 2016",
    family="bisimulation",
    problems=partial(problems, "two loops"),
)

CATALOGUE = (BISIMULATION, AGGREGATION, AGGREGATION_LOSS, IRRELEVANCE)

BARE_AGGREGATION = dataclasses.replace(
    AGGREGATION,
    name="the error of an aggregation is at most one step's",
    statement=_BETA * (1 - g),
    source="false: 1/(1-g) is missing",
    family="false",
)

FALSEHOODS = (BARE_AGGREGATION,)

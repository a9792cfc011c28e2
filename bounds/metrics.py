r"""How far bisimulation metrics see: what they promise of values, and how they compare.

Metrics are proved brackets (`banach.solvers.metric`). A distance on the left of a comparison stands for the lower end of its
bracket, one on the right for the upper end, so that a comparison is decided exactly, and one that fails refutes the statement.

FERNS, LAX      |v(s) - v(t)| <= d(s, t) and <= L(s, t), with L <= d (Ferns, Panangaden and Precup 2004; Taylor, Precup and
                Panangaden 2008). By induction over F^k 0 and T^k 0: v is 1-Lipschitz for d, and Kantorovich's duality bounds
                |sum (P(j|s,a) - P(j|t,a)) v(j)| by W(d). Attained by two loops.

ACTION_VALUES   |q(s, a) - q(t, a)| <= d(s, t).

ON_POLICY       |v_p(s) - v_p(t)| <= d_p(s, t) <= U(s, t), the policy's metric and MICo (Castro 2020; Castro et al. 2021).

False: the policy's metric lies below Ferns'. It does where the policy does the same in all states; two copies of one state that
it treats differently are at distance zero for Ferns, and not for it. False as well: MICo vanishes on the diagonal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import sympy

from ..mdp.model import MDP
from ..solvers.metric import Metric, bisimulation_metric, lax_bisimulation_metric, policy_metric
from ..solvers.mico import mico
from .bound import Bound, Measurement
from .drawing import two_state_models
from .number import exact
from .quotients import problems
from .rational import RationalEvidence, rational

far = sympy.Symbol("d", nonnegative=True)

_WIDTH = 1e-5
"""Width of the metrics' brackets, relative to the largest distance there can be."""
_ALL_PAIRS = 6
"""States up to which every pair of them is measured."""


def _pairs(evidence: RationalEvidence, metric: Metric, gap: np.ndarray) -> Iterator[tuple[int, int]]:
    """All pairs of few states; of many, those with the greatest gap, and the greatest beside the distance."""
    n = len(gap)
    if n <= _ALL_PAIRS:
        yield from combinations(range(n), 2)
        return
    ratio = gap / np.maximum(metric.upper, 1e-300)
    np.fill_diagonal(ratio, 0.0)
    for matrix in (gap, ratio):
        s, t = np.unravel_index(int(np.argmax(matrix)), matrix.shape)
        yield int(s), int(t)


def _width(model: MDP) -> float:
    pays = [*model.reward.tolist(), *((1 - model.discount) * model.terminal_value[model.terminal]).tolist()]
    rounding = 1e-6 * max(abs(pay) for pay in pays)  # rewards that are all alike are large beside their differences
    return _WIDTH * max(max(pays) - min(pays), rounding, 1e-9) / (1 - model.discount)


def _seen(evidence: RationalEvidence, value: np.ndarray, metric: Metric, **parameters: str) -> Iterator[Measurement]:
    floats = np.array([float(v) for v in value])
    for s, t in _pairs(evidence, metric, np.abs(floats[:, None] - floats)):
        yield Measurement(abs(value[s] - value[t]), {far: exact(float(metric.upper[s, t]))}, {"s": s, "t": t, **parameters})


def _equal_counts(model: MDP) -> bool:
    return len(np.unique(np.diff(model.state_ptr)[~model.terminal])) <= 1


def _ferns(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the bisimulation metric")
    if _equal_counts(evidence.problem):
        metric = bisimulation_metric(evidence.problem, _width(evidence.problem))
        yield from _seen(evidence, evidence.optimal(), metric)


def _lax(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the lax bisimulation metric")
    yield from _seen(evidence, evidence.optimal(), lax_bisimulation_metric(evidence.problem, _width(evidence.problem)))


def _lax_below(evidence: Any) -> Iterator[Measurement]:
    model = rational(evidence, "the lax bisimulation metric").problem
    if not _equal_counts(model):
        return
    strict, lax = (metric(model, _width(model)) for metric in (bisimulation_metric, lax_bisimulation_metric))
    for s, t in _pairs(evidence, strict, lax.value):
        yield Measurement(exact(lax.lower[s, t]), {far: exact(strict.upper[s, t])}, {"s": s, "t": t})


def _action_values(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the bisimulation metric")
    model = evidence.problem
    if not _equal_counts(model) or not model.n_pairs:
        return
    metric, worth = bisimulation_metric(model, _width(model)), evidence.action_values(evidence.optimal())
    for s, t in combinations(evidence.acting.tolist()[:_ALL_PAIRS], 2):
        for action in range(int(model.state_ptr[s + 1] - model.state_ptr[s])):
            gap = abs(worth[int(model.state_ptr[s]) + action] - worth[int(model.state_ptr[t]) + action])
            yield Measurement(gap, {far: exact(float(metric.upper[s, t]))}, {"s": s, "t": t, "action": action})


def _policies(model: MDP) -> Iterator[tuple[str, np.ndarray]]:
    """The first actions; and the first in even states, the last in odd ones."""
    first = np.where(model.terminal, -1, 0).astype(np.int32)
    yield "first actions", first
    last = np.diff(model.state_ptr).astype(np.int32) - 1
    yield "first and last in turn", np.where(np.arange(model.n_states) % 2 == 0, first, last).astype(np.int32)


def _on_policy(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the on-policy metric")
    for name, policy in _policies(evidence.problem):
        metric = policy_metric(evidence.problem, policy, _width(evidence.problem))
        yield from _seen(evidence, evidence.policy_value(policy), metric, policy=name)


def _mico(evidence: Any) -> Iterator[Measurement]:
    model = rational(evidence, "MICo").problem
    for name, policy in _policies(model):
        metric, independent = policy_metric(model, policy, _width(model)), mico(model, policy, _width(model))
        for s, t in _pairs(evidence, independent, metric.value):
            yield Measurement(
                exact(metric.lower[s, t]), {far: exact(independent.upper[s, t])}, {"s": s, "t": t, "policy": name}
            )


def _on_policy_below(evidence: Any) -> Iterator[Measurement]:
    model = rational(evidence, "the on-policy metric").problem
    if not _equal_counts(model):
        return
    ferns = bisimulation_metric(model, _width(model))
    for name, policy in _policies(model):
        metric = policy_metric(model, policy, _width(model))
        for s, t in _pairs(evidence, ferns, metric.value):
            yield Measurement(exact(metric.lower[s, t]), {far: exact(ferns.upper[s, t])}, {"s": s, "t": t, "policy": name})


def _self_distance(evidence: Any) -> Iterator[Measurement]:
    model = rational(evidence, "MICo").problem
    distance = mico(model, np.where(model.terminal, -1, 0).astype(np.int32), _width(model))
    state = int(np.argmax(np.diag(distance.lower)))
    yield Measurement(exact(distance.lower[state, state]), {}, {"state": state})


FERNS = Bound(
    name="values differ by at most the bisimulation metric",
    quantity=r"|v^*(s) - v^*(t)|",
    statement=far,
    symbols={far: "Ferns' distance of s and t"},
    measure=_ferns,
    source="Ferns, Panangaden and Precup, UAI 2004; SIAM J. Comput. 40, 2011",
    family="bisimulation",
    problems=partial(problems, "two loops"),
)

LAX = dataclasses.replace(
    FERNS,
    name="values differ by at most the lax bisimulation metric",
    symbols={far: "lax distance of s and t"},
    measure=_lax,
    source="Taylor, Precup and Panangaden, NeurIPS 2008",
)

LAX_BELOW = dataclasses.replace(
    FERNS,
    name="the lax metric is below the strict one",
    quantity=r"L(s, t)",
    measure=_lax_below,
    source="Taylor, Precup and Panangaden, NeurIPS 2008",
)

ACTION_VALUES = dataclasses.replace(
    FERNS,
    name="action values differ by at most the bisimulation metric",
    quantity=r"|q^*(s,a) - q^*(t,a)|",
    measure=_action_values,
)

ON_POLICY = dataclasses.replace(
    FERNS,
    name="a policy's values differ by at most its metric",
    quantity=r"|v_\pi(s) - v_\pi(t)|",
    symbols={far: "on-policy distance of s and t"},
    measure=_on_policy,
    source="Castro, AAAI 2020",
)

MICO = dataclasses.replace(
    FERNS,
    name="a policy's metric is below MICo",
    quantity=r"d_\pi(s, t)",
    symbols={far: "MICo distance of s and t"},
    measure=_mico,
    source="Castro, Kastner, Panangaden and Rowland, NeurIPS 2021",
    problems=partial(problems, "coin"),
)

CATALOGUE = (FERNS, LAX, LAX_BELOW, ACTION_VALUES, ON_POLICY, MICO)

ON_POLICY_BELOW = dataclasses.replace(
    FERNS,
    name="a policy's metric is below the bisimulation metric",
    quantity=r"d_\pi(s, t)",
    measure=_on_policy_below,
    source="false: a policy may treat bisimilar states differently",
    family="false",
    drawn=two_state_models,
    problems=partial(problems, "twins"),
)

SELF_DISTANCE = Bound(
    name="MICo vanishes on the diagonal",
    quantity=r"U(s, s)",
    statement=sympy.Integer(0),
    symbols={},
    measure=_self_distance,
    source="false: two independent copies of one state part where chance parts them",
    family="false",
    problems=partial(problems, "coin"),
)

FALSEHOODS = (ON_POLICY_BELOW, SELF_DISTANCE)

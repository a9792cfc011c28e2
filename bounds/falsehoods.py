r"""Statements that are false, to show that the search for counterexamples finds them.

RESIDUAL_STOP     "When a sweep of value iteration changes no reachability probability by e, none is off by more than e."
                  A state that stays with probability q has error/change = q/(1-q); on Haddad and Monmege's chain (RP 2014; TCS
                  735, 2018) the answer is 0.7 when value iteration stops at 1.3e-6.
HALF_GREEDY_LOSS  Singh and Yee's bound with half its constant.
BARE_RESIDUAL     "The error is at most the residual", without 1/(1-g).
EARLY_POLICY      "The greedy policy of value iteration is optimal after 1/(1-g) sweeps."
FEW_IMPROVEMENTS  "Howard's iteration improves at most once for each state." Two states and five actions suffice to break it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy

from .bound import Bound, Measurement
from .drawing import reachability_models, two_state_models
from .number import exact
from .policies import GREEDY_LOSS
from .rates import HOWARD, n
from .rational import rational, rationals
from .residual import RESIDUAL
from .specimens import exact as exact_models
from .specimens import reachability

g, e, d = sympy.symbols("gamma epsilon delta", nonnegative=True)

STOPS = (1e-3, 1e-6)
"""Changes at which value iteration stops."""

_MOST_SWEEPS = 20_000


def _residual_stop(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the residual stop")
    operator, optimal = evidence.problem.operator, evidence.optimal()
    value = np.array(evidence.problem.terminal_value)
    following, policy = np.empty_like(value), np.empty(len(value), dtype=np.int32)
    waiting = list(STOPS)
    for sweeps in range(1, _MOST_SWEEPS):
        low, high = operator.apply(value, following, policy)
        value, following = following, value
        here = rationals(value) if max(high, -low) < waiting[0] else None
        while here is not None and waiting and evidence.sup(evidence.apply(here) - here) < exact(waiting[0]):
            stop = waiting.pop(0)
            yield Measurement(evidence.sup(optimal - here), {e: exact(stop)}, {"eps": stop, "sweeps": sweeps})
        if not waiting:
            return


def _early_policy(evidence: Any) -> Iterator[Measurement]:
    evidence = rational(evidence, "the early policy")
    value, optimal, late = evidence.zero(), evidence.optimal(), 0
    horizon = min(60, int(8 / (1 - evidence.discount)))
    for sweeps in range(horizon):
        loss = evidence.sup(evidence.apply_policy(evidence.greedy(value), optimal) - optimal)
        late = sweeps + 1 if loss > 0 else late
        value = evidence.apply(value)
    yield Measurement(late, {g: evidence.discount}, {"sweeps watched": horizon})


RESIDUAL_STOP = Bound(
    name="the residual stop is safe for reachability",
    quantity=r"\|v - v^*\|_\infty",
    statement=e,
    symbols={e: "value iteration stops when no entry changes by this much"},
    measure=_residual_stop,
    assumes="greatest reachability probabilities, value iteration from below",
    source="false: Haddad and Monmege, RP 2014; Theor. Comput. Sci. 735, 2018",
    family="false",
    problems=reachability,
    drawn=reachability_models,
)

HALF_GREEDY_LOSS = dataclasses.replace(
    GREEDY_LOSS,
    name="half the greedy loss",
    statement=GREEDY_LOSS.statement / 2,
    source="false: half the constant of Singh and Yee 1994",
    family="false",
)

BARE_RESIDUAL = dataclasses.replace(
    RESIDUAL,
    name="the error is at most the residual",
    statement=RESIDUAL.statement * (1 - g),
    source="false: 1/(1-g) is missing",
    family="false",
)

EARLY_POLICY = Bound(
    name="the policy of value iteration is optimal after 1/(1-g) sweeps",
    quantity=r"\#\{\text{sweeps until the greedy policy stays optimal}\}",
    statement=sympy.ceiling(1 / (1 - g)),
    symbols={g: "discount"},
    measure=_early_policy,
    source="false: close calls take longer, log of the gap",
    family="false",
    problems=exact_models,
)

FEW_IMPROVEMENTS = dataclasses.replace(
    HOWARD,
    name="Howard improves at most once for each state",
    statement=n,
    source="false: two states can need three improvements",
    family="false",
    problems=exact_models,
    drawn=two_state_models,
)

FALSEHOODS = (RESIDUAL_STOP, HALF_GREEDY_LOSS, BARE_RESIDUAL, EARLY_POLICY, FEW_IMPROVEMENTS)

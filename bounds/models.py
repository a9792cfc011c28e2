r"""What errors of the model cost.

Two problems on the same states and pairs differ in rewards by at most a and in rows by at most e in total variation,
e = max 1/2 |P_k - P'_k|_1. A row sees a function f up to e times its span: |(P - P') f| <= e span(f).

SIMULATION       Markov chains: |v - v'| <= (a + g e span(v')) / (1-g). Proof. v - v' = (r - r') + g P (v - v') + g (P - P') v'.
                 With span(v') <= (max r' - min r')/(1-g) it is the simulation lemma of Kearns and Singh (Machine Learning 49,
                 2002), whose reward range over (1-g)^2 this form sharpens; attained, see `leak` in `banach.bounds.extremal`.

OPTIMAL_VALUE    the same for v* and v'*: |T v'* - T' v'*| <= a + g e span(v'*) = d is a residual of T.

CERTAINTY_EQUIVALENCE   a policy p optimal in the wrong model loses |v* - v_p| <= 2 d / (1-g): v* <= v'* + d/(1-g) by the
                 residual of T, and v_p >= v'* - d/(1-g) by that of T_p, since T'_p v'* = v'*. Attained by `close_call`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import sympy

from .bound import Bound, Measurement
from .probes import by_first_and_last_actions, mistaken, tempting_rewards
from .specimens import discounted

g, a, e, span = sympy.symbols("gamma epsilon_r epsilon_p sigma", nonnegative=True)

MISTAKES = ((0.125, 0.0), (0.0, 0.125), (0.015625, 0.015625))
"""(reward error, probability of a jump) of the wrong models."""

_SYMBOLS = {g: "discount", a: "largest reward error", e: "largest total variation between rows"}


def _error(here: Any, there: Any) -> dict[sympy.Symbol, Any]:
    rewards, rows = here.distance(there)
    return {g: here.discount, a: rewards, e: rows, span: here.span(there.optimal())}


def _simulation(evidence: Any) -> Iterator[Measurement]:
    here, there = by_first_and_last_actions(evidence)
    for this, other, name in ((here, there, "first against last action"), (there, here, "last against first action")):
        yield Measurement(this.sup(this.optimal() - other.optimal()), _error(this, other), {"models": name})


def _optimal_value(evidence: Any) -> Iterator[Measurement]:
    for reward_error, jump in MISTAKES:
        there = evidence.like(mistaken(evidence.problem, reward_error, jump))
        difference = evidence.sup(evidence.optimal() - there.optimal())
        yield Measurement(difference, _error(evidence, there), {"reward error": reward_error, "jump": jump})
    for this, other in (by_first_and_last_actions(evidence),):
        yield Measurement(this.sup(this.optimal() - other.optimal()), _error(this, other), {"models": "chains"})


def _certainty_equivalence(evidence: Any) -> Iterator[Measurement]:
    wrong = [mistaken(evidence.problem, reward_error, jump) for reward_error, jump in MISTAKES]
    best = evidence.greedy(evidence.optimal())
    wrong += [tempting_rewards(evidence.problem, best, error) for error in (0.125, 0.5, 2.0)]
    for problem in wrong:
        there = evidence.like(problem)
        loss = evidence.sup(evidence.optimal() - evidence.policy_value(_worst(evidence, there)))
        values = _error(evidence, there)
        yield Measurement(loss, values, {})


def _worst(evidence: Any, there: Any) -> np.ndarray:
    """Of the optimal policies of the wrong model, where ties are exact, one that is worst in the right one."""
    if not hasattr(there, "action_values"):
        return there.greedy(there.optimal())
    believed, true = there.action_values(there.optimal()), evidence.action_values(evidence.optimal())
    policy = np.full(len(evidence.terminal), -1, dtype=np.int32)
    for state in evidence.acting.tolist():
        pairs = range(evidence.state_ptr[state], evidence.state_ptr[state + 1])
        policy[state] = max(pairs, key=lambda pair: (believed[pair], -true[pair])) - evidence.state_ptr[state]
    return policy


SIMULATION = Bound(
    name="simulation lemma",
    quantity=r"\|v - v'\|_\infty",
    statement=(a + g * e * span) / (1 - g),
    symbols=_SYMBOLS | {span: "span of v'"},
    measure=_simulation,
    assumes="two Markov chains on the same states whose rows sum to one",
    source="Kearns and Singh, Machine Learning 49, 2002, in sharp form",
    family="models",
    problems=partial(discounted, "leak"),
)

OPTIMAL_VALUE = Bound(
    name="optimal value under model error",
    quantity=r"\|v^* - v'^*\|_\infty",
    statement=(a + g * e * span) / (1 - g),
    symbols=_SYMBOLS | {span: "span of v'*"},
    measure=_optimal_value,
    assumes="two discounted problems on the same states and pairs whose rows sum to one",
    source="Kearns and Singh, Machine Learning 49, 2002, for optimal values",
    family="models",
    problems=partial(discounted, "leak"),
)

CERTAINTY_EQUIVALENCE = Bound(
    name="loss of the policy of a wrong model",
    quantity=r"\|v^* - v_{\pi'}\|_\infty",
    statement=2 * (a + g * e * span) / (1 - g),
    symbols=_SYMBOLS | {span: "span of v'*"},
    measure=_certainty_equivalence,
    assumes="two discounted problems on the same states and pairs whose rows sum to one; pi' optimal in the second",
    source="Kearns and Singh, Machine Learning 49, 2002, for certainty equivalence",
    family="models",
    problems=partial(discounted, "close call"),
)

CATALOGUE = (SIMULATION, OPTIMAL_VALUE, CERTAINTY_EQUIVALENCE)

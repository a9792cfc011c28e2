r"""How good a policy is that is greedy for something other than v*.

With p greedy for v, e = |v - v*|, d = T v - v, sup norms:

GREEDY_LOSS     |v* - v_p| <= 2g/(1-g) e. Proof. v* - v_p = T_* v* - T_p v + T_p v - v_p, where T_* v* - T_p v <= T_* v* - T_* v
                <= g e and T_p v - v_p <= g (e + |v* - v_p|) (Singh and Yee, Machine Learning 16, 1994; attained, see
                `banach.bounds.extremal`).
SPAN_LOSS       max(v* - v_p) <= g/(1-g) span(d), both values being in the MacQueen-Porteus bracket of v (Porteus 1971;
                Puterman 2005, section 6.6.3).
RESIDUAL_LOSS   |v* - v_p| <= 2g/(1-g) |d| (Williams and Baird 1993), which is SPAN_LOSS with span(d) <= 2 |d|.
IMPROVEMENT     p greedy for v_q: v_p - v_q = (I - g P_p)^{-1} (T_p v_q - v_q) >= T v_q - v_q >= 0, so that one step of policy
                iteration gains somewhere at least the largest advantage (Howard 1960).

With m the initial distribution, d_q(s) = (1-g) sum_t g^t Pr_q(s_t = s), A_q(s, p) = (T_p v_q - v_q)(s):

DIFFERENCE      m (v_p - v_q) = 1/(1-g) sum_s d_p(s) A_q(s, p)   (Kakade and Langford, ICML 2002, lemma 6.1)
CONSERVATIVE    x = (1-a) q + a p has m (v_x - v_q) >= a/(1-g) ( A - 2 a g e / (1 - g (1-a)) ),
                A = sum d_q A_q(., p), e = max |A_q(., p)|   (ibid., theorem 4.1)
                Proof. By DIFFERENCE it is a sum_t g^t E_x A_q(s_t, p). With probability (1-a)^t the first t choices are
                q's, and then s_t is distributed as under q: E_x A_q >= E_q A_q - 2 (1 - (1-a)^t) e. Sum over t.
TRUST_REGION    m (v_x - v_q) >= 1/(1-g) sum_s d_q(s) ( A_q(s, x) - 2 g e_x/(1-g) TV(x, q)(s) ), e_x = max |A_q(., x)|
                (Achiam, Held, Tamar and Abbeel, ICML 2017, arXiv:1705.10528, corollary 1)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
import sympy
from flint import fmpq

from . import specimens
from .bound import Bound, Measurement
from .probes import temptations, vectors
from .rational import rational, rationals

g, e, d, a, tv = sympy.symbols("gamma epsilon delta alpha D", nonnegative=True)
gain = sympy.Symbol("A", real=True)

SHARES = tuple(fmpq(1, 2**power) for power in (0, 1, 2, 4, 6))
"""Shares of the new policy in a mixture."""


def _greedy_loss(evidence: Any) -> Iterator[Measurement]:
    optimal = evidence.optimal()
    for name, value in chain(temptations(evidence), vectors(evidence)):
        loss = evidence.sup(optimal - evidence.policy_value(evidence.greedy(value)))
        yield Measurement(loss, {g: evidence.discount, e: evidence.sup(value - optimal)}, {"v": name})


def _span_loss(evidence: Any) -> Iterator[Measurement]:
    for name, value in chain(temptations(evidence), vectors(evidence)):
        loss = evidence.largest(evidence.optimal() - evidence.policy_value(evidence.greedy(value)))
        values = {g: evidence.discount, d: evidence.span(evidence.apply(value) - value)}
        yield Measurement(loss, values, {"v": name})


def _balanced(evidence: Any) -> Iterator[tuple[str, Any]]:
    """The tempting vectors, shifted by the constant that makes the residual smallest; greedy policies do not see it."""
    for name, value in temptations(evidence):
        change = evidence.apply(value) - value
        middle = (evidence.largest(change) + evidence.least(change)) / 2
        yield f"{name}, shifted", evidence.moved(value, np.ones(len(value)), middle / (1 - evidence.discount))


def _residual_loss(evidence: Any) -> Iterator[Measurement]:
    for name, value in chain(_balanced(evidence), vectors(evidence)):
        loss = evidence.sup(evidence.optimal() - evidence.policy_value(evidence.greedy(value)))
        values = {g: evidence.discount, d: evidence.sup(evidence.apply(value) - value)}
        yield Measurement(loss, values, {"v": name})


def _improvement(evidence: Any) -> Iterator[Measurement]:
    values = [evidence.policy_value(policy) for policy in evidence.howard()]
    for step, (before, after) in enumerate(pairwise(values), start=1):
        advantage = evidence.sup(evidence.apply(before) - before)
        yield Measurement(evidence.sup(after - before), {d: advantage}, {"step": step})


def _difference(evidence: Any) -> Iterator[Measurement]:
    policies = evidence.howard()
    value = evidence.policy_value(policies[0])
    for step, policy in enumerate(policies[1:], start=1):
        measured = evidence.mean(evidence.policy_value(policy) - value)
        advantage = evidence.apply_policy(policy, value) - value
        values = {g: evidence.discount, gain: evidence.discounted_mean(policy, advantage)}
        yield Measurement(measured, values, {"step": step})


def _mixtures(evidence: Any, bound: str) -> Iterator[tuple[Any, Any, Any, np.ndarray]]:
    """(share, advantage of the mixture, gain of the mixture, where it differs) for the first policy and its improvement."""
    evidence = rational(evidence, bound)
    before = evidence.howard()[0]
    value = evidence.policy_value(before)
    after = evidence.greedy(value)
    different = rationals((before != after).astype(float))
    for share in SHARES:
        mixture = evidence.mixture(before, after, share)
        found = evidence.mean(mixture.optimal() - value)
        yield share, mixture.apply(value) - value, found, different


def _conservative(evidence: Any) -> Iterator[Measurement]:
    first = evidence.howard()[0]
    for share, advantage, found, _ in _mixtures(evidence, "conservative policy iteration"):
        whole = advantage / share
        values = {g: evidence.discount, a: share, gain: evidence.discounted_mean(first, whole), e: evidence.sup(whole)}
        yield Measurement(found, values, {"share": float(share)})


def _trust_region(evidence: Any) -> Iterator[Measurement]:
    first = evidence.howard()[0]
    for share, advantage, found, different in _mixtures(evidence, "the trust-region bound"):
        values = {
            g: evidence.discount,
            gain: evidence.discounted_mean(first, advantage),
            e: evidence.sup(advantage),
            tv: evidence.discounted_mean(first, share * different),
        }
        yield Measurement(found, values, {"share": float(share)})


GREEDY_LOSS = Bound(
    name="greedy loss",
    quantity=r"\|v^* - v_\pi\|_\infty",
    statement=2 * g * e / (1 - g),
    symbols={g: "discount", e: "sup norm of v - v*, where pi is greedy for v"},
    measure=_greedy_loss,
    source="Singh and Yee, Machine Learning 16, 1994",
    family="policies",
    problems=partial(specimens.discounted, "temptation"),
)

SPAN_LOSS = Bound(
    name="greedy loss from the span of the change",
    quantity=r"\max(v^* - v_\pi)",
    statement=g * d / (1 - g),
    symbols={g: "discount", d: "span of T v - v, where pi is greedy for v"},
    measure=_span_loss,
    source="Porteus 1971; Puterman 2005, section 6.6.3",
    family="policies",
    problems=partial(specimens.discounted, "temptation"),
)

RESIDUAL_LOSS = Bound(
    name="greedy loss from the residual",
    quantity=r"\|v^* - v_\pi\|_\infty",
    statement=2 * g * d / (1 - g),
    symbols={g: "discount", d: "sup norm of T v - v, where pi is greedy for v"},
    measure=_residual_loss,
    source="Williams and Baird 1993",
    family="policies",
    problems=partial(specimens.discounted, "temptation"),
)

IMPROVEMENT = Bound(
    name="an improved policy gains the largest advantage",
    quantity=r"\|v_{\pi'} - v_\pi\|_\infty",
    statement=d,
    symbols={d: "largest advantage, the sup norm of T v_pi - v_pi, pi' greedy for v_pi"},
    measure=_improvement,
    sense="at least",
    source="Howard 1960; Puterman 2005, section 6.4",
    family="policies",
    axis="step",
    problems=partial(specimens.discounted, "temptation"),
)

DIFFERENCE = Bound(
    name="performance difference",
    quantity=r"\mu (v_\pi - v_{\pi'})",
    statement=gain / (1 - g),
    symbols={g: "discount", gain: "mean advantage of pi over pi' under the discounted occupancy of pi"},
    measure=_difference,
    sense="equal to",
    source="Kakade and Langford, ICML 2002, lemma 6.1",
    family="policies",
    axis="step",
    problems=partial(specimens.discounted, "temptation"),
)

CONSERVATIVE = Bound(
    name="conservative policy iteration improves",
    quantity=r"\mu (v_{(1-\alpha)\pi + \alpha\pi'} - v_\pi)",
    statement=a / (1 - g) * (gain - 2 * a * g * e / (1 - g * (1 - a))),
    symbols={
        g: "discount",
        a: "share of pi'",
        gain: "mean advantage of pi' over pi under the discounted occupancy of pi",
        e: "largest absolute advantage of pi' over pi in a state",
    },
    measure=_conservative,
    sense="at least",
    source="Kakade and Langford, ICML 2002, theorem 4.1",
    family="policies",
    axis="share",
    problems=partial(specimens.exact, "temptation"),
)

TRUST_REGION = Bound(
    name="trust-region improvement",
    quantity=r"\mu (v_{\pi'} - v_\pi)",
    statement=(gain - 2 * g * e / (1 - g) * tv) / (1 - g),
    symbols={
        g: "discount",
        gain: "mean advantage of pi' over pi under the discounted occupancy of pi",
        e: "largest absolute advantage of pi' over pi in a state",
        tv: "mean total variation between pi' and pi under the same occupancy",
    },
    measure=_trust_region,
    sense="at least",
    source="Achiam, Held, Tamar and Abbeel, ICML 2017, arXiv:1705.10528, corollary 1",
    family="policies",
    axis="share",
    problems=partial(specimens.exact, "temptation"),
)

CATALOGUE = (GREEDY_LOSS, SPAN_LOSS, RESIDUAL_LOSS, IMPROVEMENT, DIFFERENCE, CONSERVATIVE, TRUST_REGION)

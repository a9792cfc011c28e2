r"""Bounds on the long-run average reward.

For any v, with d = T v - v, T v = max_a (r + P v), and g*(s) the best gain from state s, g_p(s) that of the greedy policy p,

    min d <= g_p(s) <= g*(s) <= max d     for all s                                (GAIN_ABOVE, GREEDY_GAIN)

whatever the chain structure: sum K steps of r_p + P_p v - v = d, or of r_q + P_q v - v <= d for any q, and divide by K
(Odoni, Oper. Res. 17, 1969; Puterman 2005, section 8.5).

VANISHING_DISCOUNT   v_g(s) <= rho/(1-g) + span(h) for T h <= rho + h, since w = rho/(1-g) + h - min h has T_g w <= w
                     (Blackwell 1962; in this form Wei et al., ICML 2020, arXiv:1910.07072, lemma 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy

from .bound import Bound, Measurement
from .drawing import long_run_models
from .number import exact
from .specimens import long_run

change, rho = sympy.symbols("d rho", real=True)
g, span = sympy.symbols("gamma sigma", nonnegative=True)

_SWEEPS = (1, 2, 3, 5, 8, 13)
_SOURCE = "Odoni, Oper. Res. 17, 1969; Puterman 2005, section 8.5"
_ASSUMES = "a finite average-reward problem"


def _sweeps(evidence: Any) -> Iterator[tuple[int, Any, Any]]:
    """(sweeps, T v - v, greedy policy) along value iteration from zero."""
    value = evidence.zero()
    for sweeps in range(1, _SWEEPS[-1] + 1):
        applied, policy = evidence.apply(value)
        if sweeps in _SWEEPS:
            yield sweeps, applied - value, policy
        value = applied


def _gain_above(evidence: Any) -> Iterator[Measurement]:
    for sweeps, found, _ in _sweeps(evidence):
        yield Measurement(evidence.largest(evidence.gains()), {change: evidence.largest(found)}, {"sweeps": sweeps})


def _greedy_gain(evidence: Any) -> Iterator[Measurement]:
    for sweeps, found, policy in _sweeps(evidence):
        gain = evidence.least(evidence.policy_gains(policy))
        yield Measurement(gain, {change: evidence.least(found)}, {"sweeps": sweeps})


def _vanishing(evidence: Any) -> Iterator[Measurement]:
    for discount in (0.5, 0.75, 0.875, 0.9375, 0.96875):
        values = {rho: evidence.largest(evidence.gains()), g: exact(discount), span: evidence.span(evidence.bias())}
        discounted = evidence.discounted(discount)
        yield Measurement(discounted.largest(discounted.optimal()), values, {"discount": discount})


GAIN_ABOVE = Bound(
    name="the best gain lies below the largest change",
    quantity=r"\max_s g^*(s)",
    statement=change,
    symbols={change: "largest entry of T v - v"},
    measure=_gain_above,
    assumes=_ASSUMES,
    source=_SOURCE,
    family="average",
    axis="sweeps",
    problems=long_run,
    drawn=long_run_models,
)

GREEDY_GAIN = Bound(
    name="the greedy policy's gain lies above the least change",
    quantity=r"\min_s g_\pi(s)",
    statement=change,
    symbols={change: "least entry of T v - v"},
    measure=_greedy_gain,
    assumes=_ASSUMES,
    sense="at least",
    source=_SOURCE,
    family="average",
    axis="sweeps",
    problems=long_run,
    drawn=long_run_models,
)

VANISHING_DISCOUNT = Bound(
    name="discounted values approach the gain",
    quantity=r"\max_s v^*_\gamma(s)",
    statement=rho / (1 - g) + span,
    symbols={rho: "largest gain", g: "discount", span: "span of a bias, h with T h <= rho + h"},
    measure=_vanishing,
    assumes="a finite average-reward problem with one best gain",
    source="Blackwell 1962; Wei et al., ICML 2020, arXiv:1910.07072, lemma 2",
    family="average",
    axis="discount",
    problems=long_run,
    drawn=long_run_models,
)

CATALOGUE = (GAIN_ABOVE, GREEDY_GAIN, VANISHING_DISCOUNT)

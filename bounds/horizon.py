r"""What a shorter horizon, or another discount, costs.

TRUNCATION        |T^H 0 - v*| <= g^H R / (1-g): H decisions are worth v* but for what comes later, at most R a step. A terminal
                  value c counts in R as (1-g)|c|, so that |v*| <= R / (1-g) (Puterman 2005, section 6.3).

DISCOUNT_CHANGE   |v*_g - v*_h| <= |g - h| R / ((1-g)(1-h)): with T_h moving v*_g by at most |g - h| |v*_g|, the residual bound
                  for discount h (Petrik and Scherrer, NeurIPS 2008).

Both are attained by one state worth R a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import sympy

from .bound import Bound, Measurement
from .number import exact
from .probes import discounted_by
from .specimens import discounted, with_large

H = sympy.Symbol("H", integer=True, nonnegative=True)
g, h, size = sympy.symbols("gamma eta R", nonnegative=True)

HORIZONS = (1, 2, 5, 10, 20, 40, 80)
"""Horizons at which the truncated value is read."""

DISCOUNTS = (0.0, 0.25, 0.5, 0.75, 0.875)
"""The other discounts."""


def _truncation(evidence: Any) -> Iterator[Measurement]:
    value, optimal = evidence.zero(), evidence.optimal()
    values = {g: evidence.discount, size: evidence.reward_size()}
    for horizon in range(1, HORIZONS[-1] + 1):
        value = evidence.apply(value)
        if horizon in HORIZONS:
            yield Measurement(evidence.sup(value - optimal), values | {H: horizon}, {"horizon": horizon})


def _discount_change(evidence: Any) -> Iterator[Measurement]:
    values = {g: evidence.discount, size: evidence.reward_size()}
    for discount in DISCOUNTS:
        other = evidence.like(discounted_by(evidence.problem, discount))
        difference = evidence.sup(evidence.optimal() - other.optimal())
        yield Measurement(difference, values | {h: exact(discount)}, {"discount": discount})


TRUNCATION = Bound(
    name="horizon truncation",
    quantity=r"\|v_H - v^*\|_\infty",
    statement=size * g**H / (1 - g),
    symbols={H: "decisions", g: "discount", size: "largest absolute reward"},
    measure=_truncation,
    source="Puterman 2005, section 6.3",
    family="horizon",
    axis="horizon",
    problems=partial(with_large, "loop"),
)

DISCOUNT_CHANGE = Bound(
    name="change of discount",
    quantity=r"\|v^*_\gamma - v^*_\eta\|_\infty",
    statement=size * sympy.Abs(g - h) / ((1 - g) * (1 - h)),
    symbols={g: "discount", h: "another discount", size: "largest absolute reward"},
    measure=_discount_change,
    source="Petrik and Scherrer, NeurIPS 2008",
    family="horizon",
    axis="discount",
    problems=partial(discounted, "loop"),
)

CATALOGUE = (TRUNCATION, DISCOUNT_CHANGE)

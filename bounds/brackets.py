r"""The MacQueen-Porteus brackets.

T moves a constant c to g c. With d = T v - v, v <= T v - min d gives T v <= T^2 v - g min d and so on; summing,

    T v + g/(1-g) min d  <=  v*  <=  T v + g/(1-g) max d                              (UPPER_END, LOWER_END).

T(T v) - T v >= g min d (NESTED) makes the lower end rise and, likewise, the upper end fall, so that brackets are nested, and
their width g/(1-g) span(d) shrinks by g a sweep (WIDTH). With terminal states, where v is right and d = 0, T moves constants
by less than g, and min d <= 0 <= max d makes all four hold as they stand.

MacQueen, J. Math. Anal. Appl. 14, 1966; Porteus, Management Science 18, 1971; Puterman 2005, section 6.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import sympy

from .bound import Bound, Measurement
from .contraction import SWEEPS
from .probes import vectors
from .specimens import discounted, with_large

k = sympy.Symbol("k", integer=True, nonnegative=True)
g, span = sympy.symbols("gamma sigma", nonnegative=True)
change = sympy.Symbol("d", real=True)

_SOURCE = "MacQueen 1966; Porteus 1971; Puterman 2005, section 6.6"


def _upper(evidence: Any) -> Iterator[Measurement]:
    for name, value in vectors(evidence):
        applied = evidence.apply(value)
        values = {g: evidence.discount, change: evidence.largest(applied - value)}
        yield Measurement(evidence.largest(evidence.optimal() - applied), values, {"v": name})


def _lower(evidence: Any) -> Iterator[Measurement]:
    for name, value in vectors(evidence):
        applied = evidence.apply(value)
        values = {g: evidence.discount, change: evidence.least(applied - value)}
        yield Measurement(evidence.least(evidence.optimal() - applied), values, {"v": name})


def _nested(evidence: Any) -> Iterator[Measurement]:
    for name, value in vectors(evidence):
        applied = evidence.apply(value)
        values = {g: evidence.discount, change: evidence.least(applied - value)}
        yield Measurement(evidence.least(evidence.apply(applied) - applied), values, {"v": name})


def _width(evidence: Any) -> Iterator[Measurement]:
    value = evidence.zero()
    following = evidence.apply(value)
    values = {g: evidence.discount, span: evidence.span(following - value)}
    for sweeps in range(1, SWEEPS[-1] + 1):
        value, following = following, evidence.apply(following)
        if sweeps in SWEEPS:
            width = evidence.span(following - value) * evidence.discount / (1 - evidence.discount)
            yield Measurement(width, values | {k: sweeps}, {"sweeps": sweeps})


UPPER_END = Bound(
    name="the optimum lies below the upper end of the bracket",
    quantity=r"\max(v^* - T v)",
    statement=g * change / (1 - g),
    symbols={g: "discount", change: "largest entry of T v - v"},
    measure=_upper,
    source=_SOURCE,
    family="brackets",
    problems=partial(with_large, "loop"),
)

LOWER_END = Bound(
    name="the optimum lies above the lower end of the bracket",
    quantity=r"\min(v^* - T v)",
    statement=g * change / (1 - g),
    symbols={g: "discount", change: "least entry of T v - v"},
    measure=_lower,
    sense="at least",
    source=_SOURCE,
    family="brackets",
    problems=partial(with_large, "loop"),
)

NESTED = Bound(
    name="brackets are nested",
    quantity=r"\min(T^2 v - T v)",
    statement=g * change,
    symbols={g: "discount", change: "least entry of T v - v"},
    measure=_nested,
    sense="at least",
    source=_SOURCE,
    family="brackets",
    problems=partial(discounted, "loop"),
)

WIDTH = Bound(
    name="the bracket's width shrinks by the discount a sweep",
    quantity=r"\frac{\gamma}{1-\gamma} \operatorname{sp}(T^{k+1} v - T^k v)",
    statement=g * span / (1 - g) * g**k,
    symbols={k: "sweeps", g: "discount", span: "span of T v - v"},
    measure=_width,
    source=_SOURCE,
    family="brackets",
    axis="sweeps",
    problems=partial(discounted, "leak"),
)

CATALOGUE = (UPPER_END, LOWER_END, NESTED, WIDTH)

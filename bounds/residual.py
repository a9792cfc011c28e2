r"""What one application of T says about the distance to its fixed point.

With d = |T v - v| in the sup norm,

RESIDUAL        |v - v*| <= |v - T v| + |T v - T v*| <= d + g |v - v*|,  hence  |v - v*| <= d / (1 - g);
AFTER_A_SWEEP   |T v - v*| <= g |v - v*| <= g d / (1 - g);
AT_LEAST        d <= |T v - T v*| + |v* - v| <= (1 + g) |v - v*|,  hence  |v - v*| >= d / (1 + g).

Banach 1922; Puterman 2005, section 6.3. The first two are attained at v* plus a constant, the third on a ring of two states.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import sympy

from .bound import Bound, Measurement
from .probes import vectors
from .specimens import discounted, with_large

g, d = sympy.symbols("gamma delta", nonnegative=True)
_SYMBOLS = {g: "discount", d: "sup norm of T v - v"}


def _before(evidence: Any) -> Iterator[Measurement]:
    for name, value in vectors(evidence):
        residual = evidence.sup(evidence.apply(value) - value)
        yield Measurement(evidence.sup(value - evidence.optimal()), {g: evidence.discount, d: residual}, {"v": name})


def _after(evidence: Any) -> Iterator[Measurement]:
    for name, value in vectors(evidence):
        applied = evidence.apply(value)
        values = {g: evidence.discount, d: evidence.sup(applied - value)}
        yield Measurement(evidence.sup(applied - evidence.optimal()), values, {"v": name})


RESIDUAL = Bound(
    name="the residual bounds the error",
    quantity=r"\|v - v^*\|_\infty",
    statement=d / (1 - g),
    symbols=_SYMBOLS,
    measure=_before,
    source="Banach 1922; Puterman 2005, section 6.3",
    family="residual",
    problems=partial(with_large, "loop"),
)

AFTER_A_SWEEP = Bound(
    name="the last change bounds the error after it",
    quantity=r"\|T v - v^*\|_\infty",
    statement=g * d / (1 - g),
    symbols=_SYMBOLS,
    measure=_after,
    source="Puterman 2005, section 6.3",
    family="residual",
    problems=partial(discounted, "loop"),
)

AT_LEAST = Bound(
    name="the error is no smaller than the residual allows",
    quantity=r"\|v - v^*\|_\infty",
    statement=d / (1 + g),
    symbols=_SYMBOLS,
    measure=_before,
    sense="at least",
    source="Banach 1922",
    family="residual",
    problems=partial(discounted, "ring of two"),
)

CATALOGUE = (RESIDUAL, AFTER_A_SWEEP, AT_LEAST)

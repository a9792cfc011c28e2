r"""How fast repeated application of a contraction closes in on its fixed point.

GEOMETRIC_DECAY     |T^k v - v*| <= g^k |v - v*| in the sup norm (Banach 1922; Puterman 2005, theorem 6.2.3).

GAUSS_SEIDEL        the same for ordered sweeps: each entry of G v - v* is a mean, of mass at most g, of entries of v - v*
                    and of entries already brought below g |v - v*|; solving self-loops, (g - g p)/(1 - g p) <= g, does no
                    harm (Puterman 2005, section 6.3.3).

SPAN_STEP           span(T u - T v) <= g tau span(u - v), tau the largest total variation between two rows of the problem.
                    Proof. With p, q greedy for u and v, g Q (u - v) <= T u - T v <= g P (u - v); and a difference of two rows
                    has total variation at most tau, so it sees at most tau times the span (Dobrushin 1956; Seneta,
                    Non-negative Matrices and Markov Chains, 1981, section 3.1; Puterman 2005, section 6.6.1).

SPAN_DECAY          span(T^{k+1} v - T^k v) <= (g tau)^k span(T v - v): span stopping is faster than g where rows overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sympy

from . import specimens
from .bound import Bound, Measurement
from .probes import vectors

k = sympy.Symbol("k", integer=True, nonnegative=True)
g, tau, start, apart = sympy.symbols("gamma tau e_0 sigma", nonnegative=True)

SWEEPS = (1, 2, 3, 5, 8, 13, 21, 34)
"""Numbers of sweeps at which a decay is read."""


def _decay(evidence: Any, step: Callable[[Any], Any]) -> Iterator[Measurement]:
    value, optimal = evidence.zero(), evidence.optimal()
    values = {g: evidence.discount, start: evidence.sup(value - optimal)}
    for sweeps in range(1, SWEEPS[-1] + 1):
        value = step(value)
        if sweeps in SWEEPS:
            yield Measurement(evidence.sup(value - optimal), values | {k: sweeps}, {"sweeps": sweeps})


def _span_step(evidence: Any) -> Iterator[Measurement]:
    optimal, mixing = evidence.middle(evidence.optimal()), evidence.mixing()
    applied = evidence.apply(optimal)
    for name, value in vectors(evidence):
        values = {g: evidence.discount, tau: mixing, apart: evidence.span(optimal - value)}
        yield Measurement(evidence.span(applied - evidence.apply(value)), values, {"v": name})


def _span_decay(evidence: Any) -> Iterator[Measurement]:
    value = evidence.zero()
    following = evidence.apply(value)
    values = {g: evidence.discount, tau: evidence.mixing(), apart: evidence.span(following - value)}
    for sweeps in range(1, SWEEPS[-1] + 1):
        value, following = following, evidence.apply(following)
        if sweeps in SWEEPS:
            yield Measurement(evidence.span(following - value), values | {k: sweeps}, {"sweeps": sweeps})


GEOMETRIC_DECAY = Bound(
    name="value iteration contracts geometrically",
    quantity=r"\|T^k v - v^*\|_\infty",
    statement=start * g**k,
    symbols={k: "sweeps", g: "discount", start: "sup-norm error of the start"},
    measure=lambda evidence: _decay(evidence, evidence.apply),
    source="Banach 1922; Puterman 2005, theorem 6.2.3",
    family="contraction",
    axis="sweeps",
    problems=partial(specimens.with_large, "loop", "cycle"),
)

GAUSS_SEIDEL = Bound(
    name="Gauss-Seidel sweeps contract at least as fast",
    quantity=r"\|G^k v - v^*\|_\infty",
    statement=start * g**k,
    symbols={k: "sweeps in the order of the states, self-loops solved", g: "discount", start: "sup-norm error of the start"},
    measure=lambda evidence: _decay(evidence, evidence.sweep),
    source="Puterman 2005, section 6.3.3",
    family="contraction",
    axis="sweeps",
    problems=partial(specimens.with_large, "cycle"),
)

SPAN_STEP = Bound(
    name="a sweep shrinks spans by the ergodicity coefficient",
    quantity=r"\operatorname{sp}(T u - T v)",
    statement=g * tau * apart,
    symbols={g: "discount", tau: "largest total variation between two rows", apart: "span of u - v"},
    measure=_span_step,
    source="Dobrushin 1956; Puterman 2005, section 6.6.1",
    family="contraction",
    problems=partial(specimens.few_rows, "cycle", "shuffle"),
)

SPAN_DECAY = Bound(
    name="the span of the change decays with the ergodicity coefficient",
    quantity=r"\operatorname{sp}(T^{k+1} v - T^k v)",
    statement=apart * (g * tau) ** k,
    symbols={
        k: "sweeps",
        g: "discount",
        tau: "largest total variation between two rows",
        apart: "span of T v - v",
    },
    measure=_span_decay,
    source="Dobrushin 1956; Puterman 2005, section 6.6.1",
    family="contraction",
    axis="sweeps",
    problems=partial(specimens.few_rows, "shuffle"),
)

CATALOGUE = (GEOMETRIC_DECAY, GAUSS_SEIDEL, SPAN_STEP, SPAN_DECAY)

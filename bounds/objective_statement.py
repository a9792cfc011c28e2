"""How statements about objectives are written: gradients compared in one logit, and the words of the shelf."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from ..mdp.token import TokenProblem
from .bound import Bound, Measurement
from .drawing import drawn_token_problems
from .number import Number, ball, is_exact
from .token_evidence import ONE, PRECISION, Table, TokenEvidence
from .token_specimens import token_problems

G, k = sympy.symbols("G k", integer=True, positive=True)
p = sympy.Symbol("p", nonnegative=True)
grad, slope = sympy.symbols("dJ dF", real=True)

FINITE = "a finite token problem, a policy that gives every token a chance"
RIGHT = FINITE + "; right is what earns the most"


def in_one_logit(
    found: Table,
    promised: Table,
    symbol: sympy.Symbol,
    parameters: Mapping[str, Any],
    values: Mapping[sympy.Symbol, Number] | None = None,
) -> Measurement:
    """Two gradients (N, V) compared in the logit where they differ most, or where the second is largest if they do not.

    symbol: stands for the second in the statement. values: of the statement's other symbols.
    """
    pairs = [(f, g) for row, expected in zip(found, promised, strict=True) for f, g in zip(row, expected, strict=True)]

    def interest(pair: tuple[Any, Any]) -> tuple[float, float]:
        difference = pair[0] - pair[1]
        away = difference != 0 if is_exact(difference) else not ball(difference).contains(0)
        return (_size(difference) if away else 0.0, _size(pair[1]))

    measured, expected = max(pairs, key=interest)
    return Measurement(measured, {symbol: expected, **(values or {})}, parameters)


def _size(number: Any) -> float:
    return abs(float(number.mid() if isinstance(number, arb) else number))


def rewards(evidence: TokenEvidence) -> list[fmpq]:
    """The reward of each sequence, (S,)."""
    return [answer.reward for answer in evidence.answers]


def times(*factors: Sequence[Any]) -> list[Any]:
    """The products of some lists (S,), entry by entry."""
    with ctx.workprec(PRECISION):
        return [math.prod(entries, start=ONE) for entries in zip(*factors, strict=True)]


def of_objectives(
    name: str, quantity: str, statement: Any, symbols: dict[Any, str], measure: Any, source: str, **rest: Any
) -> Bound:
    """A statement about objectives on token problems; the rest as in `Bound`, with this shelf's own where it is left out.

    symbols: the meaning of those that are not the shelf's own.
    """
    words = {
        grad: "derivative of the expected reward",
        G: "answers a group",
        p: "success rate of the prompt",
        k: "attempts",
    }
    used = sympy.sympify(statement).free_symbols
    own: dict[str, Any] = {
        "assumes": FINITE,
        "family": "objectives",
        "sense": "equal to",
        "problems": token_problems,
        "drawn": drawn_token_problems,
    }
    return Bound(
        name=name,
        quantity=quantity,
        statement=statement,
        symbols={symbol: words[symbol] for symbol in words if symbol in used} | symbols,
        measure=measure,
        source=source,
        about=TokenProblem,
        **(own | rest),
    )

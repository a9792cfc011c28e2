r"""The numbers of a comparison, and sympy expressions evaluated in them.

Three kinds of number meet in a measurement, and say by themselves how far it can be believed:

    fmpq, Fraction, int    exact rationals: the comparison is decided
    arb                    a ball that contains the number: decided where the balls are disjoint
    float                  somebody's floating-point result: compared within rounding

A statement with rational operations only is evaluated exactly on rationals. Any other (logarithms, roots), or one that has a
ball among its values, is evaluated in ball arithmetic, every rounding included (Johansson, Arb, IEEE Trans. Computers 66,
2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import sympy
from flint import arb, ctx, fmpq, fmpz

from .errors import BoundError

Number = int | float | Fraction | fmpq | fmpz | arb

ONE = fmpq(1)

PRECISION = 128
"""Bits of ball arithmetic to begin with."""


def exact(number: Number | np.generic) -> fmpq:
    """The number as a rational; a float is the rational that it stores. Raises BoundError for a ball, NaN or infinity."""
    if isinstance(number, fmpq):
        return number
    if isinstance(number, np.generic):
        number = number.item()
    if isinstance(number, (int, fmpz)):
        return fmpq(number)
    if isinstance(number, (float, Fraction)):
        try:
            return fmpq(*number.as_integer_ratio())
        except (ValueError, OverflowError):
            raise BoundError(f"{number} is not a finite number; a measurement compares finite ones") from None
    raise BoundError(f"{number!r} is not one rational number; give an int, a float or a Fraction")


def ball(number: Number | np.generic) -> arb:
    """The number as a ball that contains it. Raises BoundError as `exact`."""
    return number if isinstance(number, arb) else arb(exact(number))


def between(lower: float, upper: float) -> arb:
    """The ball that contains [lower, upper]."""
    return arb(float(lower)).union(arb(float(upper)))


def approximate(number: Number | np.generic) -> float:
    """The nearest float, for display; the middle of a ball; infinite where the number is beyond all floats."""
    if not isinstance(number, (arb, float)):
        number = exact(number)
    try:
        return float(number.mid() if isinstance(number, arb) else number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def is_exact(number: Any) -> bool:
    """Whether the number is a rational by type, so that nothing is lost when it is compared."""
    return isinstance(number, (int, Fraction, fmpq, fmpz, np.integer))


def evaluate(expression: sympy.Expr, values: Mapping[sympy.Symbol, Number], precision: int = PRECISION) -> fmpq | arb:
    """The expression's value: a rational where all values are rational (or float) and all operations are, else a ball.

    precision: bits of ball arithmetic.
    Raises BoundError for a symbol without a value, or a function that is not known here.
    """
    if not any(isinstance(number, arb) for number in values.values()):
        try:
            return _walk(expression, {symbol: exact(number) for symbol, number in values.items()}, _RATIONAL)
        except _Irrational:
            pass
    with ctx.workprec(precision):
        return ball(_walk(expression, {symbol: ball(number) for symbol, number in values.items()}, _BALL))


class _Irrational(Exception):  # noqa: N818 - a change of arithmetic, not a fault
    """The expression leaves the rationals."""


def _walk(node: Any, values: Mapping[sympy.Symbol, Any], functions: Mapping[type, Callable[..., Any]]) -> Any:
    if isinstance(node, sympy.Symbol):
        if node not in values:
            raise BoundError(f"the statement speaks of {node}, but the measurement gives it no value")
        return values[node]
    if isinstance(node, sympy.Rational):
        return fmpq(int(node.p), int(node.q))
    if isinstance(node, (sympy.Float, sympy.NumberSymbol)):
        return functions[sympy.Float](node)
    known = next((functions[kind] for kind in type(node).__mro__ if kind in functions), None)
    if known is None:
        raise BoundError(f"{type(node).__name__} has no rigorous evaluation here; write {node} with sums, powers, logarithms")
    return known(*(_walk(argument, values, functions) for argument in node.args))


def _rational_power(base: fmpq, exponent: fmpq) -> fmpq:
    if exponent.q != 1 or abs(exponent.p) > 100_000:
        raise _Irrational
    if base == 0 and exponent < 0:
        raise BoundError("the statement divides by zero at these values")
    return base ** int(exponent.p)


def _ball_power(base: arb | fmpq, exponent: arb | fmpq) -> arb:
    if isinstance(exponent, arb) and exponent.is_exact() and exponent.is_integer():
        whole = exponent.unique_fmpz()
        exponent = exponent if whole is None else fmpq(whole)
    if isinstance(exponent, fmpq) and exponent.q == 1:
        return whole_power(ball(base), int(exponent.p))
    base = ball(base)
    if base.contains(0) and base.upper() > 0 and exponent > 0:  # a power is only written of what is not negative
        return arb(0).union(base.upper() ** ball(exponent))
    return base ** ball(exponent)


def whole_power(base: arb, exponent: int) -> arb:
    """base^exponent by multiplications: `**` of a ball that holds zero is NaN."""
    if exponent < 0:
        return 1 / whole_power(base, -exponent)
    found = arb(1)
    for bit in format(exponent, "b"):
        found = found * found * base if bit == "1" else found * found
    return found


def _leaves(*_: Any) -> Any:
    raise _Irrational


def _ball_absolute(x: arb | fmpq) -> arb:
    return abs(ball(x))


def _fold(step: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *numbers: reduce(step, numbers)


_RATIONAL: dict[type, Callable[..., Any]] = {
    sympy.Add: _fold(lambda a, b: a + b),
    sympy.Mul: _fold(lambda a, b: a * b),
    sympy.Pow: _rational_power,
    sympy.Max: max,
    sympy.Min: min,
    sympy.Abs: abs,
    sympy.ceiling: lambda x: fmpq(x.ceil()),
    sympy.floor: lambda x: fmpq(x.floor()),
    sympy.log: _leaves,
    sympy.exp: _leaves,
    sympy.Float: _leaves,
}

_BALL: dict[type, Callable[..., Any]] = {
    sympy.Add: _fold(lambda a, b: ball(a) + ball(b)),
    sympy.Mul: _fold(lambda a, b: ball(a) * ball(b)),
    sympy.Pow: _ball_power,
    sympy.Max: _fold(lambda a, b: ball(a).max(ball(b))),
    sympy.Min: _fold(lambda a, b: ball(a).min(ball(b))),
    sympy.Abs: _ball_absolute,
    sympy.ceiling: lambda x: ball(x).ceil(),
    sympy.floor: lambda x: ball(x).floor(),
    sympy.log: lambda x: ball(x).log(),
    sympy.exp: lambda x: ball(x).exp(),
    sympy.Float: lambda node: ball(sympy.Rational(node)) if isinstance(node, sympy.Rational) else arb(str(node.evalf(60))),  # pyright: ignore[reportArgumentType]
}

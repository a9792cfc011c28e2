r"""One measurement judged against its bound.

exact rationals      every number is rational: the comparison is decided. An irrational promise (a logarithm) is enclosed
                     more and more narrowly until it is.
certified brackets   balls are disjoint, so that the statement is proved, or refuted, for the exact numbers in them.
within rounding      balls overlap, or a number is somebody's float: nothing contradicts the statement, or only by more
                     than a billionth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flint import arb, ctx, fmpq

from .bound import Bound, Measurement
from .errors import BoundError
from .number import approximate, ball, evaluate, exact, is_exact

ROUNDING = 1e-9
"""Relative difference up to which floats are taken to be equal."""


class Proof(StrEnum):
    """How a comparison was decided."""

    EXACT = "exact rationals"
    BRACKETS = "certified brackets"
    ROUNDING = "within rounding"


@dataclass(frozen=True)
class Judgement:
    """What a measurement says of its bound.

    measured, promised: as floats. tightness: 1 where the bound is attained, more where it is broken, 0 where one side is zero
    or the two have opposite signs. holds: whether the statement does. proof: how that was decided.
    """

    measured: float
    promised: float
    tightness: float
    holds: bool
    proof: Proof

    @property
    def refutes(self) -> bool:
        """Whether the bound is broken beyond all numerical error."""
        return not self.holds and self.proof is not Proof.ROUNDING


def judge(bound: Bound, measurement: Measurement) -> Judgement:
    """Compare. Raises BoundError where a symbol has no value or a number is not finite."""
    numbers = [measurement.measured, *measurement.values.values()]
    believed = all(is_exact(number) or isinstance(number, arb) for number in numbers)
    measured, promised = measurement.measured, evaluate(bound.statement, measurement.values)
    for what, number in (("measured", measured), ("promised", promised)):
        if isinstance(number, arb) and not number.is_finite():
            raise BoundError(f"{bound.name}: what is {what} is {number}, {dict(measurement.parameters)}; balls must be finite")
    if isinstance(measured, arb) or isinstance(promised, arb):
        order = _order_of_balls(bound, measurement)
    else:
        order = _sign(exact(measured) - promised)
    if not believed and _near(approximate(measured), approximate(promised)):
        order = 0
    if order is None or not believed:
        proof = Proof.ROUNDING
    else:
        proof = Proof.BRACKETS if any(isinstance(number, arb) for number in numbers) else Proof.EXACT
    holds = order is None or {"at most": order <= 0, "at least": order >= 0, "equal to": order == 0}[bound.sense]
    tightness = _tightness(bound.sense, approximate(measured), approximate(promised), holds)
    if not isinstance(measured, arb) and not isinstance(promised, arb):
        tightness = _tightness(bound.sense, exact(measured), promised, holds)
    return Judgement(approximate(measured), approximate(promised), tightness, holds, proof)


def _order_of_balls(bound: Bound, measurement: Measurement) -> int | None:
    """Sign of measured - promised, or None where no precision tells."""
    for precision in (128, 512, 4096):
        with ctx.workprec(precision):
            difference = ball(measurement.measured) - ball(evaluate(bound.statement, measurement.values, precision))
        if difference > 0:
            return 1
        if difference < 0:
            return -1
        if difference.is_zero():
            return 0
    return None


def _sign(number: fmpq) -> int:
    return (number > 0) - (number < 0)


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= ROUNDING * (abs(a) + abs(b))


def _tightness(sense: str, measured: fmpq | float, promised: fmpq | float, holds: bool) -> float:
    """The part of the promise that is used: how large the smaller side is beside the larger, both of one sign."""
    if sense == "equal to" and holds:
        return 1.0
    if promised == 0 or measured == 0 or (promised > 0) != (measured > 0):
        return 0.0 if holds else float("inf")
    ratio = approximate(measured / promised)  # pyright: ignore[reportOperatorIssue]
    upward = (sense == "at least") != (promised < 0)
    if sense == "equal to":
        return max(ratio, 1 / ratio)
    return 1 / ratio if upward else ratio

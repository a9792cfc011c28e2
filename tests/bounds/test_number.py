"""Expressions are evaluated exactly on rationals and enclosed on balls."""

from fractions import Fraction

import pytest
import sympy
from banach.bounds import BoundError
from banach.bounds.number import approximate, ball, between, evaluate, exact
from flint import arb, fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

x, y = sympy.symbols("x y", positive=True)
RATIONAL = [x + y / 3, x**3 / (1 + y), sympy.Max(x, y) - sympy.Min(x, 2 * y), sympy.Abs(x - y), sympy.ceiling(x / y)]
IRRATIONAL = [
    sympy.log(x) / (1 + y),
    sympy.sqrt(x) + sympy.exp(-y),
    x**y,
    sympy.pi * x,
    sympy.ceiling(sympy.log(x + 7)),
    0.1 * x,
]
positive = st.fractions(Fraction(1, 50), 20, max_denominator=50)


@pytest.mark.parametrize("expression", RATIONAL, ids=str)
@settings(deadline=None, max_examples=30)
@given(a=positive, b=positive)
def test_a_rational_expression_is_evaluated_exactly(expression, a, b):
    found = evaluate(expression, {x: a, y: b})
    assert isinstance(found, fmpq)
    exactly = expression.subs({x: sympy.Rational(a.numerator, a.denominator), y: sympy.Rational(b.numerator, b.denominator)})
    assert Fraction(int(found.p), int(found.q)) == Fraction(int(exactly.p), int(exactly.q))


@pytest.mark.parametrize("expression", IRRATIONAL, ids=str)
@settings(deadline=None, max_examples=20)
@given(a=positive, b=positive)
def test_an_irrational_expression_is_enclosed_in_a_narrow_ball(expression, a, b):
    found = evaluate(expression, {x: a, y: b})
    near = expression.subs(
        {x: sympy.Rational(a.numerator, a.denominator), y: sympy.Rational(b.numerator, b.denominator)}
    ).evalf(25)
    assert abs(approximate(found) - float(near)) <= 1e-14 * abs(float(near))
    if isinstance(found, fmpq):  # a power with a whole exponent is rational, and exact
        return
    found = ball(found)
    assert float(found.rad()) <= 1e-25 * (1 + abs(float(near)))


def test_a_ball_among_the_values_makes_the_value_a_ball_that_contains_both_ends():
    found = evaluate(x / (1 - y), {x: between(1.0, 2.0), y: 0.5})
    assert found.contains(arb(2))
    assert found.contains(arb(4))
    assert not found.contains(arb(4.01))


def test_a_symbol_without_a_value_is_named():
    with pytest.raises(BoundError, match="speaks of y"):
        evaluate(x + y, {x: 1})


def test_an_unknown_function_is_named():
    with pytest.raises(BoundError, match="zeta has no rigorous evaluation"):
        evaluate(sympy.zeta(x), {x: 3})


def test_a_division_by_zero_is_an_error_and_no_number():
    with pytest.raises(BoundError, match="divides by zero"):
        evaluate(1 / (1 - x), {x: 1})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "1", None])
def test_what_is_no_finite_number_is_refused(number):
    with pytest.raises(BoundError):
        exact(number)


@pytest.mark.parametrize("number", [0.1, 3, Fraction(1, 3), 1e-300])
def test_numbers_of_all_kinds_become_the_rationals_that_they_are(number):
    assert Fraction(int(exact(number).p), int(exact(number).q)) == Fraction(number)
    assert ball(number).contains(exact(number))


def test_a_number_beyond_all_floats_is_shown_as_infinite():
    assert approximate(fmpq(10) ** 400) == float("inf")
    assert approximate(-(fmpq(10) ** 400)) == float("-inf")


@pytest.mark.parametrize(("expression", "low", "high"), [(x**2, 0.0, 4.0), (x**3, -1.0, 8.0), (sympy.sqrt(x), 0.0, 2**0.5)])
def test_a_power_of_a_ball_that_holds_zero_is_enclosed(expression, low, high):
    found = evaluate(expression, {x: between(-1.0, 2.0)})
    assert found.is_finite()
    assert found.lower() <= low
    assert found.upper() >= high
    assert not evaluate(1 / x, {x: between(-1.0, 2.0)}).is_finite()

"""A comparison says what it knows: decided exactly, by brackets, or within rounding."""

from fractions import Fraction

import pytest
import sympy
from banach.bounds import Bound, BoundError, Measurement, Proof, judge
from banach.bounds.number import between
from flint import arb, ctx, fmpq

x = sympy.Symbol("x")


def bound(sense="at most", statement=x) -> Bound:
    return Bound("a bound", "q", statement, {x: "a number"}, lambda evidence: [], sense=sense)


@pytest.mark.parametrize(
    ("sense", "below", "same", "above"),
    [("at most", True, True, False), ("at least", False, True, True), ("equal to", False, True, False)],
)
def test_rationals_are_compared_exactly(sense, below, same, above):
    tiny = Fraction(1, 10**40)
    for measured, holds in ((1 - tiny, below), (Fraction(1), same), (1 + tiny, above)):
        judgement = judge(bound(sense), Measurement(measured, {x: 1}))
        assert (judgement.holds, judgement.proof) == (holds, Proof.EXACT)


def test_disjoint_balls_prove_and_refute():
    assert judge(bound(), Measurement(between(1.0, 2.0), {x: between(2.5, 3.0)})).proof is Proof.BRACKETS
    broken = judge(bound(), Measurement(between(4.0, 5.0), {x: between(2.5, 3.0)}))
    assert broken.refutes
    assert broken.tightness > 1


def test_balls_that_overlap_prove_nothing_and_refute_nothing():
    judgement = judge(bound(), Measurement(between(2.0, 3.0), {x: between(2.0, 2.5)}))
    assert judgement.proof is Proof.ROUNDING
    assert judgement.holds
    assert not judgement.refutes


def test_floats_are_believed_within_rounding_only():
    assert judge(bound(), Measurement(1 + 1e-12, {x: 1.0})).holds
    broken = judge(bound(), Measurement(1.1, {x: 1.0}))
    assert not broken.holds
    assert broken.proof is Proof.ROUNDING
    assert not broken.refutes


def test_an_irrational_promise_is_enclosed_until_the_comparison_is_decided():
    near = fmpq((0.6931471805599453).as_integer_ratio()[0], (0.6931471805599453).as_integer_ratio()[1])  # log 2 as a float
    judgement = judge(bound(statement=sympy.log(x)), Measurement(near, {x: 2}))
    assert judgement.proof is Proof.EXACT
    assert judgement.holds == (sympy.log(2).evalf(60) > 0.6931471805599453)


@pytest.mark.parametrize(
    ("sense", "measured", "promised", "tightness"),
    [
        ("at most", 1, 2, 0.5),
        ("at most", 3, 2, 1.5),
        ("at least", 2, 1, 0.5),
        ("at least", -1, -2, 0.5),
        ("at most", -2, -1, 0.5),
        ("at most", 0, 0, 0.0),
        ("at most", 1, 0, float("inf")),
        ("at most", -1, 1, 0.0),
        ("equal to", 2, 2, 1.0),
        ("equal to", 1, 2, 2.0),
    ],
)
def test_tightness_is_one_where_the_bound_is_attained_and_more_where_it_is_broken(sense, measured, promised, tightness):
    assert judge(bound(sense), Measurement(measured, {x: promised})).tightness == tightness


@pytest.mark.parametrize("number", [arb("nan"), arb("inf"), arb(0, "inf")], ids=str)
def test_a_ball_that_says_nothing_does_not_hold_anything(number):
    with pytest.raises(BoundError, match=r"a bound: what is measured is .*'policy': 'sharp'.*; balls must be finite"):
        judge(bound(), Measurement(number, {x: 1}, {"policy": "sharp"}))
    with pytest.raises(BoundError, match="what is promised"):
        judge(bound(), Measurement(1, {x: number}))


def test_balls_are_told_apart_beyond_the_digits_of_floats():
    with ctx.workprec(256):
        near = arb(1) + arb(2) ** -100
    assert judge(bound("equal to"), Measurement(near, {x: 1})).refutes
    assert judge(bound("at least"), Measurement(near, {x: arb(1)})).proof is Proof.BRACKETS

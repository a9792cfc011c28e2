"""What is said in one word, and how numbers are printed."""

from fractions import Fraction

import pytest
from banach.cli.method import method_named, methods
from banach.cli.spelling import SpellingError, spelled
from banach.cli.terminal import bracket
from banach.solvers import ModifiedPolicyIteration, ValueIteration
from hypothesis import assume, given, settings
from hypothesis import strategies as st


def test_a_word_is_a_name_and_its_settings():
    assert spelled("garnet:states=1000,discount=0.99") == ("garnet", {"states": 1000, "discount": 0.99})


def test_settings_are_numbers_truths_nothing_or_text():
    read = spelled("a:b=true,c=none,d=8x8,e=-1e-3")[1]
    assert read == {"b": True, "c": None, "d": "8x8", "e": -1e-3}


@pytest.mark.parametrize("word", ["a:b", "a:=3", "a:b=1,c", "a:1b=2"])
def test_a_setting_that_cannot_be_read_is_named(word):
    with pytest.raises(SpellingError, match="is not setting=value"):
        spelled(word)


def test_a_method_is_spelled_by_its_name_and_settings():
    assert method_named("modified-policy-iteration:sweeps=50") == ModifiedPolicyIteration(sweeps=50)
    assert method_named("value-iteration") == ValueIteration()


def test_every_method_can_be_made_from_its_name_alone():
    assert {"value-iteration", "gauss-seidel", "policy-iteration", "modified-policy-iteration"} <= set(methods())
    assert all(method_named(name) == kind() for name, kind in methods().items())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("newton", "there are .*value-iteration"),
        ("value-iteration:sweeps=3", "no setting 'sweeps'; it has max_sweeps"),
        ("value-iteration:max_sweeps=many", "is not a whole number"),
        ("value-iteration:max_sweeps=true", "is not a whole number"),
    ],
)
def test_a_wrong_method_says_what_there_is(word, message):
    with pytest.raises(SpellingError, match=message):
        method_named(word)


@settings(deadline=None, max_examples=300)
@given(st.floats(-1e12, 1e12), st.floats(0, 1e3))
def test_a_printed_bracket_contains_the_bracket(lower, width):
    upper = lower + width
    assume(upper > lower)
    low, high = (Fraction(number) for number in bracket(lower, upper).strip("[]").split(", "))
    assert low <= Fraction(lower)
    assert Fraction(upper) <= high


@settings(deadline=None, max_examples=300)
@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e3))
def test_a_printed_bracket_is_little_wider_than_the_bracket(lower, width):
    upper = lower + width
    low, high = (Fraction(number) for number in bracket(lower, upper).strip("[]").split(", "))
    assert high - low <= max(1.2 * (Fraction(upper) - Fraction(lower)), Fraction(2))


def test_a_bracket_of_one_point_is_that_point():
    assert bracket(0.1, 0.1) == "0.1"

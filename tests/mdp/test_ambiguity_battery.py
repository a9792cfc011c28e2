"""One battery of properties that every ambiguity set passes by standing in the register, `ambiguity_witness.SETS`."""

import inspect
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError, ambiguity
from banach.mdp.ambiguity import AmbiguitySet, Ball
from hypothesis import given, settings
from hypothesis import strategies as st

from .ambiguity_witness import SETS, conic, fractions, free

battery = settings(deadline=None, max_examples=40)
every_set = pytest.mark.parametrize("registered", SETS, ids=lambda registered: registered.name)
ROUNDING = 1e-9
"""Computed values of size one agree to this where exact ones are equal: far above rounding, far below a fault."""


@st.composite
def rows(draw, max_entries=6):
    """A nominal row with zeros and ties, its values with ties, a seed, a support."""
    n = draw(st.integers(1, max_entries))
    counts = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n).filter(any))
    nominal = np.array(counts, dtype=float) / sum(counts)
    value = draw(
        st.one_of(
            st.lists(st.integers(-3, 3), min_size=n, max_size=n),
            st.lists(st.floats(-5, 5, width=32), min_size=n, max_size=n),
        )
    )
    return nominal, np.array(value, dtype=float), draw(st.integers(0, 10**6)), draw(st.sampled_from(["nominal", "all"]))


strengths = st.one_of(st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0]), st.floats(1e-3, 2.0))
anything = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e-300, 1e-30, 1e-17, 1e-12, 1e-6, 1e6, 1e30, 1e300]),
    st.floats(0, 3),
)


def sigma(ambiguity_set: AmbiguitySet, nominal, value) -> float:
    return ambiguity_set.worst(nominal, value).value


def size(value) -> float:
    return max(1.0, float(np.abs(value).max()))


def test_every_public_set_is_in_the_battery():
    public = [thing for _, thing in inspect.getmembers(ambiguity, inspect.isclass)]
    classes = {thing for thing in public if issubclass(thing, AmbiguitySet)} - {AmbiguitySet, Ball}
    classes -= {ambiguity.NestedVaR, ambiguity.ModelVaR}  # no sets, though monotone: see test_value_at_risk
    nominal = np.array([0.5, 0.25, 0.25])
    assert classes == {type(registered.at(0.1, nominal, 0, "nominal")) for registered in SETS}


@every_set
@battery
@given(row=rows(max_entries=5), strength=st.one_of(st.sampled_from([0.01, 0.1, 0.5]), st.floats(0.01, 2)))
def test_sigma_is_what_the_definition_says(registered, row, strength):
    nominal, value, side, support = row
    ambiguity_set = registered.at(strength, nominal, side, support)
    assert sigma(ambiguity_set, nominal, value) == pytest.approx(
        conic(registered, ambiguity_set, nominal, value), abs=3e-6 * size(value)
    )


@every_set
@battery
@given(
    row=rows(), strength=anything, scale=st.sampled_from([1.0, 1e-200, 1e-9, 1e12, 1e250]), shift=st.sampled_from([0.0, 1e9])
)
def test_the_enclosure_contains_the_exact_value(registered, row, strength, scale, shift):
    nominal, value, side, support = row
    value = value * scale + shift
    ambiguity_set = registered.at(strength, nominal, side, support)
    found = ambiguity_set.worst(nominal, value)
    below, above = registered.exact(ambiguity_set, fractions(nominal), fractions(value))
    assert Fraction(found.lower) <= below <= above <= Fraction(found.upper)
    assert found.lower <= found.value <= found.upper


@every_set
@battery
@given(row=rows(max_entries=40), strength=strengths)
def test_the_enclosure_is_narrow(registered, row, strength):
    nominal, value, side, support = row
    found = registered.at(strength, nominal, side, support).worst(nominal, value)
    assert found.upper - found.lower <= ROUNDING * size(value)


@every_set
@battery
@given(row=rows(max_entries=30), strength=anything)
def test_the_worst_row_is_feasible_and_attains_the_value(registered, row, strength):
    nominal, value, side, support = row
    ambiguity_set = registered.at(strength, nominal, side, support)
    found = ambiguity_set.worst(nominal, value)
    assert ambiguity_set.contains(nominal, found.row, tolerance=1e-9)
    assert found.row @ value == pytest.approx(found.value, abs=ROUNDING * size(value))


@every_set
@battery
@given(row=rows(), weaker=anything, stronger=anything)
def test_a_larger_set_is_no_better(registered, row, weaker, stronger):
    nominal, value, side, support = row
    weak, strong = (registered.at(s, nominal, side, support) for s in sorted((weaker, stronger)))
    assert sigma(strong, nominal, value) <= sigma(weak, nominal, value) + ROUNDING * size(value)


@every_set
@battery
@given(row=rows())
def test_strength_zero_is_the_nominal_row(registered, row):
    nominal, value, side, support = row
    found = registered.at(0.0, nominal, side, support).worst(nominal, value)
    assert found.value == pytest.approx(nominal @ value, abs=ROUNDING * size(value))
    np.testing.assert_allclose(found.row, nominal, atol=1e-12)


@every_set
@battery
@given(row=rows())
def test_the_largest_set_reaches_the_worst_entry(registered, row):
    nominal, value, side, support = row
    ambiguity_set = registered.at(registered.full, nominal, side, support)
    least = value[free(ambiguity_set, nominal)].min()
    assert sigma(ambiguity_set, nominal, value) == pytest.approx(least, abs=1e-4 * size(value))


@every_set
@battery
@given(row=rows(), strength=strengths, scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_sigma_scales_and_moves_with_the_values(registered, row, strength, scale, shift):
    nominal, value, side, support = row
    ambiguity_set = registered.at(strength, nominal, side, support)
    moved = sigma(ambiguity_set, nominal, scale * value + shift)
    assert moved == pytest.approx(
        scale * sigma(ambiguity_set, nominal, value) + shift, abs=ROUNDING * (scale * size(value) + 100)
    )


@every_set
@battery
@given(row=rows(), strength=strengths, data=st.data())
def test_sigma_is_concave_in_the_values(registered, row, strength, data):
    nominal, value, side, support = row
    other = np.array(data.draw(st.lists(st.floats(-5, 5, width=32), min_size=len(value), max_size=len(value))))
    share = data.draw(st.floats(0, 1))
    ambiguity_set = registered.at(strength, nominal, side, support)
    mixed = sigma(ambiguity_set, nominal, share * value + (1 - share) * other)
    chord = share * sigma(ambiguity_set, nominal, value) + (1 - share) * sigma(ambiguity_set, nominal, other)
    assert mixed >= chord - ROUNDING * 5


@every_set
@battery
@given(row=rows(), first=strengths, second=strengths, share=st.floats(0, 1))
def test_sigma_is_convex_in_the_strength(registered, row, first, second, share):
    nominal, value, side, support = row
    if registered.name in ("Contamination", "Scenarios"):  # the strength stops counting at one
        first, second = min(first, 1.0), min(second, 1.0)
    at = [
        sigma(registered.at(s, nominal, side, support), nominal, value)
        for s in (first, second, share * first + (1 - share) * second)
    ]
    assert at[2] <= share * at[0] + (1 - share) * at[1] + ROUNDING * size(value)


@every_set
@battery
@given(row=rows(), strength=anything)
def test_the_best_case_is_the_worst_case_of_the_negated_values(registered, row, strength):
    nominal, value, side, support = row
    ambiguity_set = registered.at(strength, nominal, side, support)
    best, worst = ambiguity_set.best(nominal, value), ambiguity_set.worst(nominal, -value)
    assert (best.value, best.lower, best.upper) == (-worst.value, -worst.upper, -worst.lower)
    assert best.upper >= ambiguity_set.worst(nominal, value).lower


@every_set
@battery
@given(strength=anything, value=st.floats(-1e6, 1e6), n=st.integers(1, 5))
def test_values_that_are_all_equal_are_their_own_worst_case(registered, strength, value, n):
    nominal = np.full(n, 1 / n)
    found = registered.at(strength, nominal, 0, "all").worst(nominal, np.full(n, value))
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.lower <= found.upper


@every_set
def test_support_all_lets_mass_reach_an_entry_that_the_nominal_row_does_not(registered):
    nominal, value = np.array([0.5, 0.5, 0.0]), np.array([1.0, 2.0, 0.0])
    reached = registered.at(0.5, nominal, 0, "all").worst(nominal, value).row[2]
    assert (reached == 0) == registered.dominated


@every_set
@pytest.mark.parametrize(
    ("nominal", "value", "fault"),
    [
        ([0.5, 0.4], [1.0, 2.0], "sums to 0.9"),
        ([1.5, -0.5], [1.0, 2.0], "entry 1 is -0.5"),
        ([0.5, 0.5], [1.0, np.nan], "entry 1 is nan"),
        ([0.5, 0.5], [1.0, 2.0, 3.0], "has 2 entries and the value 3"),
        ([0.5, 0.5], [1e308, -1.7e308], "too large"),
        ([[0.5, 0.5]], [1.0, 2.0], "give a vector"),
    ],
)
def test_what_is_no_row_or_no_value_is_refused(registered, nominal, value, fault):
    ambiguity_set = registered.at(0.1, np.array([0.5, 0.5]), 0, "nominal")
    with pytest.raises(ModelError, match=fault):
        ambiguity_set.worst(np.array(nominal), np.array(value))


@every_set
def test_an_unknown_support_is_refused(registered):
    nominal = np.array([0.5, 0.5])
    if not registered.at(0.1, nominal, 0, "nominal").contains_nominal:
        return
    with pytest.raises(ModelError, match="support"):
        registered.at(0.1, nominal, 0, "some")

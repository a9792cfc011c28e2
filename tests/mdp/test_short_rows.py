"""Short rows in place: the same set, the exact value within the stated error."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp.ambiguity.short_rows import GREEDY, SHORT, short_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from .ambiguity_witness import SETS, fractions, free
from .test_ambiguity_battery import anything, rows

NOMINAL = np.array([0.5, 0.25, 0.25])
GREEDY_SETS = [one for one in SETS if one.at(0.1, NOMINAL, 0, "nominal").family < GREEDY]


def solve(ambiguity_set, nominal, value):
    """(value, error, entries, row) of the kernel, the row in the middle of other rows' numbers."""
    keep = free(ambiguity_set, nominal)
    probability = np.concatenate(([0.7, 0.3], nominal[keep], [1.0]))
    entry = np.concatenate(([9.0], ambiguity_set.entries(nominal)[:, keep].ravel()))
    parameters = ambiguity_set.parameters()
    worth, error, p = np.full(3, 5.0), np.full(3, 6.0), np.full(len(keep) + 2, 7.0)
    short_rows(
        1, 2, np.array([8, 1, 8]), np.array([0, 2, 2 + len(keep)], dtype=np.int32), np.zeros(2 + len(keep), dtype=np.int32),
        probability, np.zeros(2), np.concatenate(([77.0, 77.0], value[keep])), 0.0, np.array([ambiguity_set.family]),
        parameters[None], entry, np.array([0, 1, len(entry)]), 1.0, np.zeros(1), worth, error, np.array([9, 1, 9]), p,
        np.full((2, SHORT), 77.0), np.empty(SHORT, dtype=np.int64),
    )  # fmt: skip
    assert worth[0] == worth[2] == 5.0
    assert error[0] == error[2] == 6.0
    assert p[0] == p[-1] == 7.0
    return float(worth[1]), float(error[1]), keep, p[1:-1]


@pytest.mark.parametrize("registered", GREEDY_SETS, ids=lambda one: one.name)
@settings(deadline=None, max_examples=150)
@given(
    row=rows(max_entries=9), strength=anything, scale=st.sampled_from([1.0, 1e-200, 1e12]), shift=st.sampled_from([0.0, 1e9])
)
def test_the_exact_value_is_within_the_error(registered, row, strength, scale, shift):
    nominal, value, side, support = row
    value = value * scale + shift
    ambiguity_set = registered.at(strength, nominal, side, support)
    found, error, keep, p = solve(ambiguity_set, nominal, value)
    below, above = registered.exact(ambiguity_set, fractions(nominal), fractions(value))
    assert Fraction(found) - Fraction(error) <= below <= above <= Fraction(found) + Fraction(error)
    assert error <= 1e-14 * (10 + len(p)) * (np.abs(value).max() + 1e-250)
    whole = np.zeros(len(nominal))
    whole[keep] = p
    assert ambiguity_set.contains(nominal, whole, tolerance=1e-12)
    assert whole @ value == pytest.approx(found, abs=1e-12 * (np.abs(value).max() + 1e-250))


@pytest.mark.parametrize("registered", GREEDY_SETS, ids=lambda one: one.name)
def test_the_longest_short_row(registered):
    rng = np.random.default_rng(3)
    nominal, value = rng.dirichlet(np.ones(SHORT)), rng.normal(size=SHORT)
    nominal /= nominal.sum()
    ambiguity_set = registered.at(0.4, nominal, 0, "nominal")
    found, error, _, _ = solve(ambiguity_set, nominal, value)
    below, above = registered.exact(ambiguity_set, fractions(nominal), fractions(value))
    assert Fraction(found) - Fraction(error) <= below <= above <= Fraction(found) + Fraction(error)


def test_every_greedy_family_is_here():
    families = {one.at(0.1, NOMINAL, 0, "nominal").family for one in GREEDY_SETS}
    assert families == set(range(GREEDY))

"""Compensated sums: within the stated error of the exact one, short or long."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp.ambiguity.rounding import LONG, UNIT_ROUNDOFF, dot, total
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0], ids=["alike", "mixed", "far apart"])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n=st.sampled_from([1, 2, LONG - 1, LONG, LONG + 1, LONG + 3, 500]))
def test_sums_of_nonnegative_terms_are_within_five_units(spread, seed, n):
    rng = np.random.default_rng(seed)
    p, d = rng.uniform(size=n) * 10.0 ** rng.uniform(-spread, spread, size=n), rng.uniform(size=n)
    whole = sum(map(Fraction, p.tolist()))
    product = sum(Fraction(a) * Fraction(b) for a, b in zip(p.tolist(), d.tolist(), strict=True))
    assert abs(Fraction(total(p)) - whole) <= 4 * Fraction(UNIT_ROUNDOFF) * whole
    assert abs(Fraction(dot(p, d)) - product) <= 5 * Fraction(UNIT_ROUNDOFF) * product


def test_what_is_not_there_sums_to_nothing():
    assert total(np.empty(0)) == dot(np.empty(0), np.empty(0)) == 0.0

"""Expected rewards are the exact mean, rounded once."""

from fractions import Fraction

import numpy as np
from banach.mdp.expectation import expected_reward
from hypothesis import given, settings
from hypothesis import strategies as st

NUMBERS = st.floats(-1e150, 1e150).filter(lambda x: x == 0 or abs(x) > 1e-100)
CHANCES = st.floats(1e-100, 1.0) | st.just(0.0)


@settings(max_examples=300)
@given(st.lists(st.tuples(CHANCES, NUMBERS), max_size=6), NUMBERS)
def test_the_mean_is_the_exact_rational_one_rounded_once(row, certain):
    probability, reward = np.array([p for p, _ in row]), np.array([r for _, r in row])
    exact = sum((Fraction(p) * Fraction(r) for p, r in row), Fraction(certain))
    found = expected_reward(np.array([0, len(row)]), probability, reward, np.array([certain]))
    assert found.tolist() == [float(exact)]


def test_cancellation_loses_nothing():
    found = expected_reward(np.array([0, 3]), np.array([0.1, 0.1, 0.8]), np.array([1e17, -1e17, 1.0]))
    assert found[0] == 0.8


def test_numbers_too_large_to_split_are_still_exact():
    found = expected_reward(np.array([0, 2]), np.array([0.5, 0.5]), np.array([1.5e308, 1.5e308]))
    assert found[0] == 1.5e308


def test_what_is_not_finite_is_left_for_the_model_to_refuse():
    rewards = np.array([np.nan, np.inf, 1e308])
    found = expected_reward(np.array([0, 1, 2, 3]), np.ones(3), rewards, np.array([0.0, 0.0, 1e308]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [np.inf, np.inf]

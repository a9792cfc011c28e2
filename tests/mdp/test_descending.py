"""Indices by decreasing value, ties and values a unit in the last place apart included."""

import numpy as np
from banach.mdp.ambiguity.descending import descend
from hypothesis import given
from hypothesis import strategies as st


def ordered(values, order=None):
    d = np.array(values, dtype=float)
    found = np.empty(len(d), dtype=np.int64) if order is None else order
    descend(d, found, np.empty(len(d), dtype=np.int64), order is not None)
    return d, found


def assert_descending(d, order):
    assert sorted(order.tolist()) == list(range(len(d)))
    assert np.all(np.diff(d[order]) <= 0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=90))
def test_any_floats_come_out_in_decreasing_order(values):
    assert_descending(*ordered(values))


@given(st.floats(-1e3, 1e3), st.lists(st.integers(-6, 6), min_size=1, max_size=90))
def test_values_that_differ_in_their_last_digits_alone_come_out_in_decreasing_order(centre, steps):
    assert_descending(*ordered([centre + step * np.spacing(centre) for step in steps]))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=90), st.randoms(use_true_random=False))
def test_an_order_that_is_right_already_is_kept_and_another_is_mended(values, random):
    right = np.argsort(-np.array(values), kind="stable")
    d, kept = ordered(values, right.copy())
    assert np.array_equal(kept, right)
    wrong = list(range(len(d)))
    random.shuffle(wrong)
    assert_descending(*ordered(values, np.array(wrong)))

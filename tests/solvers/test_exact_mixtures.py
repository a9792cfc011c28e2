"""Exact pieces of the constrained checker, against Fractions."""

from fractions import Fraction

import numpy as np
from banach.mdp import strategies
from banach.solvers.exact_mixtures import lagrangian_reward, mixture_signs, weighted
from hypothesis import given, settings
from hypothesis import strategies as st

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.sampled_from([0.1, 1e-17, -1e17, 1 / 3]))


def vectors(n):
    return st.lists(numbers, min_size=n, max_size=n).map(np.array)


@given(st.data(), st.integers(1, 6), st.sampled_from([-1, 1]))
def test_a_weighted_sum_is_rounded_to_its_side_and_by_one_float_at_most(data, n, side):
    a, b = data.draw(vectors(n)), data.draw(vectors(n))
    exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    found = weighted(a, b, side)
    assert side * (Fraction(found) - exact) >= 0
    assert side * (Fraction(float(np.nextafter(found, -side * np.inf))) - exact) < 0


@given(st.data(), st.integers(1, 5), st.integers(1, 3))
def test_the_lagrangian_reward_lies_above_the_exact_one_by_no_more_than_rounding(data, pairs, costs):
    reward, multipliers = data.draw(vectors(pairs)), np.abs(data.draw(vectors(costs)))
    cost = np.array([data.draw(vectors(pairs)) for _ in range(costs)])
    found = lagrangian_reward(reward, cost, multipliers)
    for k in range(pairs):
        parts = [Fraction(float(reward[k]))]
        parts += [-Fraction(float(x)) * Fraction(float(c)) for x, c in zip(multipliers, cost[:, k], strict=True)]
        size = sum(map(abs, parts))
        assert 0 <= Fraction(float(found[k])) - sum(parts) <= size * Fraction(40 * 2.0**-53) + Fraction(1, 10**200)


@settings(max_examples=80, deadline=None)
@given(st.data(), strategies.discounted_mdps(max_states=4))
def test_signs_of_a_mixtures_inequality_are_exact(data, model):
    weights = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 1.0, 0.1, 3.0]), min_size=model.n_pairs, max_size=model.n_pairs))
    )
    first = model.state_ptr[:-1][~model.terminal]
    weights[first[np.add.reduceat(weights, first) == 0] if len(first) else []] = 1.0
    vector, reward = data.draw(vectors(model.n_states)), data.draw(vectors(model.n_pairs))
    signs, _ = mixture_signs(model, weights, reward, vector)
    for s in range(model.n_states):
        total = Fraction(0)
        for k in range(model.state_ptr[s], model.state_ptr[s + 1]):
            row = range(model.row_ptr[k], model.row_ptr[k + 1])
            ahead = sum(Fraction(float(model.probability[e])) * Fraction(float(vector[model.successor[e]])) for e in row)
            gain = Fraction(float(reward[k])) + Fraction(model.discount) * ahead - Fraction(float(vector[s]))
            total += Fraction(float(weights[k])) * gain
        assert signs[s] == (total > 0) - (total < 0)

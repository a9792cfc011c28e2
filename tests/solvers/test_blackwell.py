"""Blackwell optimality, against sympy's rational functions of the discount, exact solves near one, and average rewards."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import sympy
from banach.mdp import MDP, AverageReward, Discounted, instances, strategies
from banach.mdp.restriction import restricted
from banach.solvers import SolveError, blackwell, exact_policies, solve
from hypothesis import given, settings

DISCOUNT = sympy.Symbol("g")


def policies(problem):
    return itertools.product(*(range(n) if n else [-1] for n in np.diff(problem.state_ptr)))


def sympy_value(problem, policy):
    """(n,) rational functions of the discount."""
    n = problem.n_states
    system, constant = sympy.eye(n), sympy.zeros(n, 1)
    for s, action in enumerate(policy):
        constant[s] = sympy.Rational(float(problem.terminal_value[s]))
        if action >= 0:
            pair = int(problem.state_ptr[s]) + action
            entries = range(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
            total = sum(sympy.Rational(float(problem.probability[e])) for e in entries)
            constant[s] = sympy.Rational(float(problem.reward[pair]))
            for e in entries:
                system[s, int(problem.successor[e])] -= DISCOUNT * sympy.Rational(float(problem.probability[e])) / total
    return system.LUsolve(constant).applyfunc(sympy.cancel)


def sign_below_one(function):
    """Of a rational function of the discount, on (1 - e, 1)."""
    numerator, denominator = sympy.fraction(sympy.together(function.subs(DISCOUNT, 1 - DISCOUNT)))
    low = [sympy.Poly(part, DISCOUNT).all_coeffs()[::-1] for part in (numerator, denominator)]
    top, bottom = (next((c for c in part if c), 0) for part in low)
    return int(sympy.sign(top) * sympy.sign(bottom))


@settings(max_examples=30, deadline=None)
@given(strategies.discounted_mdps(max_states=3))
def test_no_policy_is_better_for_discounts_near_one_and_the_named_ones_are_as_good(problem):
    optimum = blackwell(problem)
    sign = -1 if problem.criterion.minimize else 1
    best = sympy_value(problem, optimum.policy)
    for policy in itertools.islice(policies(problem), 60):
        gains = [sign_below_one(sign * (one - other)) for one, other in zip(sympy_value(problem, policy), best, strict=True)]
        assert max(gains) <= 0
        named = all(action < 0 or action in actions for action, actions in zip(policy, optimum.actions, strict=True))
        assert named == (not any(gains))


@settings(max_examples=100, deadline=None)
@given(strategies.discounted_mdps(max_states=6))
def test_the_policy_is_optimal_just_above_the_threshold_and_not_below(problem):
    problem = with_exact_rows(problem)
    optimum = blackwell(problem)
    below, above = optimum.threshold

    def optimal_at(discount):
        best = exact_policies(problem.replace(criterion=Discounted(float(discount), minimize=problem.criterion.minimize)))
        return all(action < 0 or action in actions for action, actions in zip(optimum.policy.tolist(), best, strict=True))

    assert above - below < Fraction(1, 10**15)
    for share in (Fraction(1, 10**6), Fraction(1, 2), Fraction(99, 100)):
        assert optimal_at(above + share * (1 - above))
    if below:
        assert not optimal_at(below - min(below, Fraction(1, 10**3)) / 10**6)


def with_exact_rows(problem):
    """Nearest probabilities of few bits, so that rows sum to one exactly and exact discounted solves speak of the same rows."""
    probability = np.round(problem.probability * 2**20) / 2**20
    for first, last in itertools.pairwise(problem.row_ptr):
        heaviest = first + int(np.argmax(probability[first:last]))
        probability[heaviest] += 1 - probability[first:last].sum()
    return problem.replace(probability=probability)


@settings(max_examples=40, deadline=None)
@given(strategies.average_reward_mdps(max_states=5))
def test_a_blackwell_optimal_policy_has_the_optimal_gain(problem):
    optimum = blackwell(problem)
    gain = solve(problem, eps=1e-8).value
    frozen = restricted(problem, optimum.policy)
    np.testing.assert_allclose(solve(frozen, eps=1e-8).value, gain, atol=1e-6 * (1 + np.abs(gain).max()))


def now_or_later(first=1.0, second=2.0):
    """From the start: reward `first` now, or nothing now and `second` a step later; then nothing for ever."""
    transition = np.zeros((3, 2, 3))
    transition[0, 0, 2] = transition[0, 1, 1] = 1
    transition[1:, :, 2] = 1
    reward = np.array([[first, 0.0], [second, second], [0.0, 0.0]])
    return MDP.from_dense(transition, reward, criterion=AverageReward(), layout="sas")


def test_two_later_beats_one_now_for_discounts_above_a_half():
    optimum = blackwell(now_or_later())
    assert optimum.actions[0] == [1]
    assert optimum.threshold == (Fraction(1, 2), Fraction(1, 2))
    tie = now_or_later().replace(criterion=Discounted(0.5))
    assert exact_policies(tie)[0] == [0, 1]


def test_patience_that_never_pays_has_threshold_zero():
    optimum = blackwell(now_or_later(first=3.0))
    assert (optimum.policy[0], optimum.threshold) == (0, (0, 0))


def test_an_irrational_threshold_is_enclosed():
    transition = np.zeros((4, 2, 4))
    transition[0, 0, 3] = transition[0, 1, 1] = transition[1, :, 2] = transition[2:, :, 3] = 1
    reward = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    below, above = blackwell(MDP.from_dense(transition, reward, 0.9, layout="sas")).threshold
    assert below**2 < Fraction(1, 2) < above**2
    assert above - below < Fraction(1, 10**15)


def test_what_has_no_discount_or_is_too_large_is_refused():
    with pytest.raises(SolveError, match="more than 60"):
        blackwell(instances.make("garnet:states=61"))
    with pytest.raises(SolveError, match="no discount"):
        blackwell("forest")

"""Exact rational policy iteration against Gaussian elimination in Fractions and enumeration of every policy."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, Discounted, strategies
from banach.solvers import (
    NotConverged,
    RationalPolicyIteration,
    SolveError,
    ValueIteration,
    check,
    exact_policies,
    exact_value,
    solve,
)
from banach.solvers.rational import MAX_STATES
from hypothesis import given, settings
from hypothesis import strategies as st

from ..witness import best_of_all_policies, optimal_value, policy_value

battery = settings(deadline=None, max_examples=60, derandomize=True)
problems = strategies.discounted_mdps(max_states=5, minimize=st.booleans())


def chain(discount: float, *, rewards=(0.1, 0.2), criterion=None) -> MDP:
    """Two states, each certain to go to the other."""
    return MDP(
        state_ptr=np.arange(3),
        row_ptr=np.arange(3),
        successor=np.array([1, 0]),
        probability=np.ones(2),
        reward=np.array(rewards),
        criterion=criterion or Discounted(discount),
    )


@given(problem=problems)
@battery
def test_the_exact_value_is_that_of_elimination_in_fractions(problem):
    assert exact_value(problem)[0] == optimal_value(problem)[0]


@given(problem=strategies.discounted_mdps(max_states=3, max_actions=2, minimize=st.booleans()))
@battery
def test_the_exact_value_is_the_best_over_all_policies(problem):
    assert exact_value(problem)[0] == best_of_all_policies(problem)


@given(problem=problems)
@battery
def test_the_exact_policies_are_all_the_optimal_actions(problem):
    assert exact_policies(problem) == optimal_value(problem)[1]


@given(problem=problems)
@battery
def test_the_policy_is_the_first_optimal_action_and_is_worth_the_exact_value(problem):
    value, policy = exact_value(problem)
    assert policy.tolist() == [actions[0] if actions else -1 for actions in exact_policies(problem)]
    assert policy_value(problem, policy) == value


@given(problem=problems)
@battery
def test_the_certificate_is_accepted_and_contains_the_exact_value(problem):
    certificate = solve(problem, RationalPolicyIteration(), eps=1e-6).certificate
    bounds = zip(certificate.lower.tolist(), exact_value(problem)[0], certificate.upper.tolist(), strict=True)
    assert all(Fraction(low) <= value <= Fraction(high) for low, value, high in bounds)
    assert check(problem, certificate)


@given(problem=strategies.discounted_mdps(max_states=5, discounts=strategies.discounts(0.9)))
@battery
def test_the_certificate_is_a_few_units_in_the_last_place_wide(problem):
    certificate = solve(problem, RationalPolicyIteration(), eps=1e-6).certificate
    size = np.abs(certificate.upper).max() + 2.0**-1000
    assert certificate.width <= 64 * 2.0**-53 * size / (1 - problem.discount)


def test_dyadic_values_are_bracketed_without_any_width():
    problem = chain(0.5, rewards=(3.0, 0.0))
    certificate = solve(problem, RationalPolicyIteration()).certificate
    assert certificate.width == 0
    assert certificate.lower.tolist() == [4.0, 2.0]


def blackwell(discount: float, late: float = 2.0) -> MDP:
    """A: reward 1 now. B: nothing now, `late` next. Then nothing for ever."""
    return MDP(
        state_ptr=np.array([0, 2, 3, 4]),
        row_ptr=np.arange(5),
        successor=np.array([2, 1, 2, 2]),
        probability=np.ones(4),
        reward=np.array([1.0, 0.0, late, 0.0]),
        criterion=Discounted(discount),
    )


@pytest.mark.parametrize(
    ("discount", "best"), [(0.25, [0]), (np.nextafter(0.5, 0), [0]), (0.5, [0, 1]), (np.nextafter(0.5, 1), [1]), (0.75, [1])]
)
def test_ties_are_decided_exactly_at_the_indifference_discount(discount, best):
    assert exact_policies(blackwell(discount))[0] == best


def test_rows_that_do_not_sum_to_one_are_taken_as_they_are():
    problem = MDP.from_dense(np.array([[[0.1, 0.9 + 4e-10]], [[1 / 3, 2 / 3]]]), np.array([[1.0], [0.0]]), discount=0.99)
    value = exact_value(problem)[0]
    a, b = Fraction(0.99) * Fraction(0.1), Fraction(0.99) * Fraction(0.9 + 4e-10)
    c, d = Fraction(0.99) * Fraction(1 / 3), Fraction(0.99) * Fraction(2 / 3)
    determinant = (1 - a) * (1 - d) - b * c
    assert value == [(1 - d) / determinant, c / determinant]


def test_a_discount_that_floats_cannot_tell_from_one_is_solved_exactly():
    discount = float(np.nextafter(1, 0))
    problem = chain(discount, rewards=(1.0, 0.0))
    with pytest.raises(NotConverged, match="no contraction"):
        solve(problem, ValueIteration(), eps=1e3)
    assert exact_value(problem)[0][0] == 1 / (1 - Fraction(discount) ** 2)
    certificate = solve(problem, RationalPolicyIteration(), eps=1e300).certificate
    assert check(problem, certificate)


def test_a_row_that_outweighs_the_discount_is_named():
    discount = 1 - 2e-10
    problem = MDP.from_dense(np.array([[[1.0, 0.0]], [[0.5, 0.5 + 4e-10]]]), np.ones((2, 1)), discount=discount)
    with pytest.raises(NotConverged, match="state 1, action 0: the discount times the sum of the row is at least one"):
        exact_value(problem)


def test_too_many_states_are_refused_with_the_limit():
    n_states = MAX_STATES + 1
    problem = MDP(
        state_ptr=np.arange(n_states + 1),
        row_ptr=np.arange(n_states + 1),
        successor=np.arange(n_states),
        probability=np.ones(n_states),
        reward=np.ones(n_states),
        criterion=Discounted(0.5),
    )
    for ask in (exact_value, exact_policies, lambda p: solve(p, RationalPolicyIteration())):
        with pytest.raises(SolveError, match=f"up to {MAX_STATES} states; this model has {n_states}"):
            ask(problem)


def test_other_criteria_have_no_exact_discounted_value():
    with pytest.raises(SolveError, match="AverageReward"):
        exact_value(chain(0.5, criterion=AverageReward()))


def test_values_beyond_the_largest_float_are_refused():
    with pytest.raises(NotConverged, match="largest float"):
        exact_value(chain(0.99, rewards=(1e308, 1e308)))


def test_an_eps_that_no_floats_can_meet_says_what_was_reached():
    with pytest.raises(NotConverged, match="the exact optimum is known") as caught:
        solve(chain(0.999, rewards=(1 / 3, 1 / 7)), RationalPolicyIteration(), eps=1e-300)
    assert 0 < caught.value.reached < 1e-9


def test_a_dense_problem_of_a_hundred_states_has_no_improvement_left():
    rng = np.random.default_rng(0)
    problem = MDP.from_dense(rng.dirichlet(np.ones(100), size=(100, 3)), rng.normal(size=(100, 3)), discount=0.95)
    value, policy = exact_value(problem)
    bound = solve(problem, eps=1e-8)
    assert np.array_equal(policy, bound.policy)
    assert all(
        Fraction(low) <= v <= Fraction(high)
        for low, v, high in zip(bound.certificate.lower, value, bound.certificate.upper, strict=True)
    )

"""Brackets from residuals, and the rounding bounds under them, against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, strategies
from banach.solvers import (
    InexactPolicyIteration,
    NotConverged,
    RationalPolicyIteration,
    ValueIteration,
    check,
    exact_value,
    solve,
)
from banach.solvers.bracket import inductive_bracket, macqueen_porteus
from banach.solvers.certificate import Certificate
from hypothesis import given, settings
from hypothesis import strategies as st

from ..witness import optimal_value, rows, worth

battery = settings(deadline=None, max_examples=60, derandomize=True)


def macqueen_iterates(problem: MDP, count: int):
    """(v, T v, below, above) of value iteration from zero."""
    operator, value = problem.operator, problem.operator.start()
    policy = np.empty(problem.n_states, dtype=np.int32)
    for _ in range(count):
        image = np.empty_like(value)
        below, above = macqueen_porteus(*operator.apply(value, image, policy), operator.mass)
        yield value, image, below, above
        value = image


@given(problem=strategies.discounted_mdps(max_states=5))
@battery
def test_macqueen_brackets_are_nested_and_contract_by_the_modulus(problem):
    slack = 1e-9 * (1 + np.abs(problem.reward).max(initial=1) / (1 - problem.discount))
    before = None
    for value, _, below, above in macqueen_iterates(problem, 8):
        if before is not None:
            assert np.all(value + below >= before[0] - slack)
            assert np.all(value + above <= before[1] + slack)
            assert above - below <= problem.operator.modulus * before[2] + slack
        before = value + below, value + above, above - below


@given(problem=strategies.discounted_mdps(max_states=5))
@battery
def test_every_macqueen_bracket_contains_the_exact_value(problem):
    slack = Fraction(1e-9 * (1 + np.abs(problem.reward).max(initial=1) / (1 - problem.discount)))
    exact = optimal_value(problem)[0]
    for value, _, below, above in macqueen_iterates(problem, 5):
        assert all(Fraction(v + below) - slack <= x for v, x in zip(value, exact, strict=True))
        assert all(x <= Fraction(v + above) + slack for v, x in zip(value, exact, strict=True))


@given(problem=strategies.discounted_mdps(max_states=5), value=st.lists(st.floats(-1e8, 1e8), min_size=5, max_size=5))
@battery
def test_the_bracket_of_any_vector_is_accepted_by_the_checker(problem, value):
    vector = np.where(problem.terminal, problem.terminal_value, value[: problem.n_states])
    lower, upper, policy = inductive_bracket(problem.operator, vector)
    assert check(problem, Certificate(lower, upper, policy, problem))


@pytest.mark.parametrize("level", [1.0, -1.0])
def test_rows_of_different_mass_next_to_one_are_bracketed(level):
    problem = MDP(
        state_ptr=np.arange(3),
        row_ptr=np.arange(3),
        successor=np.array([1, 0]),
        probability=np.array([1 + 9e-10, 1 - 9e-10]),
        reward=np.array([level, level]),
        criterion=Discounted(1 - 1e-8),
    )
    lower, upper, policy = inductive_bracket(problem.operator, np.zeros(2))
    assert check(problem, Certificate(lower, upper, policy, problem))


@given(problem=strategies.discounted_mdps(max_states=4, discounts=strategies.discounts(0.999)))
@battery
def test_brackets_as_narrow_as_rounding_allows_are_still_proved(problem):
    nearest = np.array([float(number) for number in exact_value(problem)[0]])
    lower, upper, policy = inductive_bracket(problem.operator, nearest)
    assert check(problem, Certificate(lower, upper, policy, problem))


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("entries", [1, 3, 20, 70])
def test_the_rounding_enclosure_contains_the_exact_rational_row_value(size, entries):
    rng = np.random.default_rng(entries)
    n_states, n_actions = 80, 4
    transition = np.zeros((n_states, n_actions, n_states))
    for s in range(n_states):
        for a in range(n_actions):
            transition[s, a, rng.choice(n_states, entries, replace=False)] = rng.dirichlet(np.full(entries, 0.3))
    transition /= transition.sum(axis=2, keepdims=True)
    problem = MDP.from_dense(transition, rng.normal(size=(n_states, n_actions)), discount=0.97)
    value = size * rng.normal(size=n_states) * 10.0 ** rng.uniform(-8, 0, size=n_states)
    lower, upper, policy = np.empty(n_states), np.empty(n_states), np.empty(n_states, dtype=np.int32)
    problem.operator.enclose(value, policy, lower, upper)
    exact = [Fraction(v) for v in value]
    for s, actions in enumerate(rows(problem)):
        q = [worth(row, Fraction(0.97), exact) for row in actions]
        assert Fraction(lower[s]) <= q[policy[s]]
        assert max(q) <= Fraction(upper[s])
        assert upper[s] - lower[s] <= 1e-13 * (1 + size)


def test_cancellation_in_a_row_does_not_escape_the_enclosure():
    probability = np.array([0.1, 0.1, 0.3, 0.5])
    problem = MDP(
        state_ptr=np.arange(5),
        row_ptr=4 * np.arange(5),
        successor=np.tile(np.arange(4, dtype=np.int32), 4),
        probability=np.tile(probability, 4),
        reward=np.array([0.1, -0.1, 1 / 3, 0.0]),
        criterion=Discounted(0.9),
    )
    value = np.array([1e16, -1e16, 1.0, -0.6])
    lower, upper, policy = np.empty(4), np.empty(4), np.empty(4, dtype=np.int32)
    problem.operator.enclose(value, policy, lower, upper)
    for s, actions in enumerate(rows(problem)):
        q = worth(actions[0], Fraction(0.9), [Fraction(v) for v in value])
        assert Fraction(lower[s]) <= q <= Fraction(upper[s])


def test_an_eps_below_rounding_is_refused_soon_with_the_reached_width():
    rng = np.random.default_rng(0)
    problem = MDP.from_dense(rng.dirichlet(np.ones(6), size=(6, 2)), rng.normal(size=(6, 2)), discount=0.999)
    with pytest.raises(NotConverged, match="rounding allows hardly less") as caught:
        solve(problem, ValueIteration(), eps=1e-15)
    assert caught.value.reached < 1e-9


def test_a_discount_next_to_one_that_floats_refuse_is_proved_in_exact_arithmetic():
    rng = np.random.default_rng(2)
    problem = MDP.from_dense(rng.dirichlet(np.ones(40), size=(40, 2)), 1e-3 * rng.normal(size=(40, 2)), discount=1 - 1e-6)
    eps = 3 * solve(problem, RationalPolicyIteration(), eps=1.0).certificate.width / 2
    with pytest.raises(NotConverged):
        solve(problem, InexactPolicyIteration(), eps)
    for method in (RationalPolicyIteration(), None):
        solution = solve(problem, method, eps)
        assert check(problem, solution.certificate).width <= eps
        assert solution.trace.method == RationalPolicyIteration()

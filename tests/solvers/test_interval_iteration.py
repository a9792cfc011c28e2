"""Iteration from below and from above: what it brackets, how long it takes, and what it needs collapsing for."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, TotalReward, instances, strategies
from banach.solvers import IntervalIteration, NotConverged, OptimisticValueIteration, check, solve
from banach.solvers.end_components import quotient
from banach.solvers.interval_iteration import bound_above, bound_below
from hypothesis import assume, given, settings

from .test_against_enumeration import best_totals, contained, few_policies

METHODS = [IntervalIteration(), OptimisticValueIteration()]


def maximal(problem):
    return problem.negated() if problem.criterion.minimize else problem


def sweeps_to_close(problem, upper, eps):
    """Jacobi sweeps until the interval between iterates from 0 and from `upper` is at most eps wide, and the interval."""
    operator, policy = problem.operator, np.empty(problem.n_states, dtype=np.int32)
    lower, spare, sweeps = operator.start(), np.empty(problem.n_states), 0
    while (upper - lower).max() > eps:
        operator.apply(lower, spare, policy)
        lower, spare = spare, lower
        operator.apply(upper, spare, policy)
        upper, spare = spare, upper
        sweeps += 1
        if sweeps == 10_000:
            break
    return sweeps, lower, upper


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_slow_chain_is_bracketed(method, n):
    problem = instances.make(f"haddad_monmege:n={n},p=0.7")
    solution = solve(problem, method, eps=1e-6)
    assert check(problem, solution.certificate)
    left, right = Fraction(0.7), Fraction(1 - 0.7)
    exact = left / (left + right)
    assert Fraction(solution.certificate.lower[n]) <= exact <= Fraction(solution.certificate.upper[n])


def test_the_interval_of_the_slow_chain_closes_after_591_sweeps():
    problem = instances.make("haddad_monmege:n=5,p=0.7")
    sweeps, lower, upper = sweeps_to_close(problem, np.where(problem.terminal, problem.terminal_value, 1.0), 1e-6)
    assert sweeps == 591
    assert lower[5] <= 0.7 <= upper[5]


def test_interval_iteration_takes_as_many_sweeps_as_by_hand():
    problem = instances.make("haddad_monmege:n=5,p=0.7")
    sweeps, _, _ = sweeps_to_close(problem, np.where(problem.terminal, problem.terminal_value, 1.0), 1e-6)
    solution = solve(problem, IntervalIteration(), eps=2e-6)  # half of eps is the method's, half the proof's
    assert solution.trace.history[-2][0] == 2 * sweeps


def test_without_collapsing_the_iteration_from_above_never_moves():
    problem = instances.make("end_component_trap")
    sweeps, _, upper = sweeps_to_close(problem, np.where(problem.terminal, problem.terminal_value, 1.0), 1e-6)
    assert sweeps == 10_000
    assert upper[0] == 1.0


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_with_collapsing_the_trap_is_worth_one_half(method):
    problem = instances.make("end_component_trap")
    np.testing.assert_allclose(solve(problem, method, eps=1e-9).value[0], 0.5, atol=1e-9)


@given(strategies.total_reward_mdps(kind="proper", max_states=4, max_actions=2))
@settings(deadline=None, max_examples=100)
def test_the_bounds_it_starts_from_contain_the_optimum(problem):
    assume(few_policies(problem))
    found, exact = quotient(maximal(problem)), best_totals(maximal(problem))
    lower, upper = found.lift(bound_below(found)), found.lift(bound_above(found))
    assert all(Fraction(low) <= x <= Fraction(high) for low, x, high in zip(lower, exact, upper, strict=True))


@given(strategies.total_reward_mdps(kind="improper", max_states=4, max_actions=3))
@settings(deadline=None, max_examples=100)
def test_the_bounds_of_costs_contain_the_optimum(problem):
    assume(few_policies(problem))
    found, exact = quotient(maximal(problem)), best_totals(maximal(problem))
    lower, upper = found.lift(bound_below(found)), found.lift(bound_above(found))
    assert all(Fraction(low) <= x <= Fraction(high) for low, x, high in zip(lower, exact, upper, strict=True))


@pytest.mark.parametrize("method", METHODS, ids=str)
@given(problem=strategies.total_reward_mdps(kind="improper", max_states=4, max_actions=3, tiny=0.1))
@settings(deadline=None, max_examples=60)
def test_totals_are_bracketed(method, problem):
    assume(few_policies(problem))
    solution = solve(problem, method, eps=1e-4)
    assert check(problem, solution.certificate)
    assert contained(solution.certificate, best_totals(problem))


@pytest.mark.parametrize("method", [IntervalIteration(max_sweeps=50), OptimisticValueIteration(max_sweeps=50)], ids=str)
def test_too_few_sweeps_are_reported(method):
    with pytest.raises(NotConverged, match="raise max_sweeps, or use PolicyIteration"):
        solve(instances.make("haddad_monmege:n=12,p=0.7"), method)


def test_rewards_without_a_known_bound_from_above_are_refused_by_name():
    problem = MDP(
        np.array([0, 2, 3, 3]), np.array([0, 1, 2, 3]), np.array([1, 2, 0]), np.ones(3), np.array([2.0, 0.0, -3.0]),
        TotalReward(), terminal=np.array([False, False, True]),
    )  # fmt: skip
    with pytest.raises(NotConverged, match=r"state \d, action \d: some policy never stops here"):
        solve(problem, IntervalIteration())
    np.testing.assert_allclose(solve(problem, OptimisticValueIteration()).value, [0.0, -3.0, 0.0], atol=1e-6)

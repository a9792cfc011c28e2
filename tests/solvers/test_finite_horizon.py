"""Finite-horizon problems, stationary and time-varying, against backward induction in rational numbers."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, FiniteHorizon, ModelError, TimeVaryingMDP, strategies
from banach.solvers import (
    BackwardInduction,
    CertificateRejected,
    InfiniteValue,
    NotConverged,
    SolveError,
    ValueIteration,
    check,
    solve,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def rational_values(stages: list[MDP], discount: float, minimize: bool, worth: np.ndarray) -> list[list[Fraction]]:
    """v_0, ..., v_H of the stored floats, exactly."""
    best = min if minimize else max
    values = [[Fraction(float(w)) for w in worth]]
    for model in reversed(stages):
        following, here = values[0], []
        for s in range(model.n_states):
            worths = [
                Fraction(float(model.reward[k]))
                + Fraction(discount)
                * sum(
                    (
                        Fraction(float(model.probability[e])) * following[model.successor[e]]
                        for e in range(model.row_ptr[k], model.row_ptr[k + 1])
                    ),
                    Fraction(0),
                )
                for k in range(model.state_ptr[s], model.state_ptr[s + 1])
            ]
            here.append(best(worths) if worths else Fraction(float(model.terminal_value[s])))
        values.insert(0, here)
    return values


def contains(solution, exact: list[list[Fraction]]) -> bool:
    lower, upper = solution.certificate.lower, solution.certificate.upper
    return all(
        Fraction(float(lower[t, s])) <= exact[t][s] <= Fraction(float(upper[t, s]))
        for t in range(len(exact))
        for s in range(len(exact[t]))
    )


@st.composite
def time_varying_mdps(draw: st.DrawFn) -> TimeVaryingMDP:
    first = draw(strategies.discounted_mdps(max_states=4))
    same_size = strategies.discounted_mdps(max_states=4).filter(lambda model: model.n_states == first.n_states)
    stages = draw(st.lists(same_size, max_size=3))
    worth = draw(st.none() | st.lists(strategies.rewards(), min_size=first.n_states, max_size=first.n_states))
    return TimeVaryingMDP((first, *stages, first), draw(st.sampled_from([1.0, 0.9, 0.0])), draw(st.booleans()), worth)


@given(strategies.finite_horizon_mdps(minimize=st.booleans()))
@settings(deadline=None, max_examples=150)
def test_the_bracket_contains_the_exact_rational_values_of_every_stage(problem):
    criterion = problem.criterion
    solution = solve(problem, eps=1e-9)
    exact = rational_values([problem] * criterion.horizon, criterion.discount, criterion.minimize, problem.terminal_value)
    assert contains(solution, exact)


@given(strategies.finite_horizon_mdps(minimize=st.booleans()))
@settings(deadline=None, max_examples=100)
def test_the_certificate_is_accepted_and_no_wider_than_eps(problem):
    solution = solve(problem, eps=1e-9)
    assert check(problem, solution.certificate).width <= 1e-9


@given(time_varying_mdps())
@settings(deadline=None, max_examples=60)
def test_time_varying_brackets_contain_the_exact_rational_values(problem):
    solution = solve(problem, eps=1e-9)
    assert contains(solution, rational_values(list(problem.stages), problem.discount, problem.minimize, problem.terminal_value))


@given(time_varying_mdps())
@settings(deadline=None, max_examples=60)
def test_time_varying_certificates_are_accepted(problem):
    assert check(problem, solve(problem, eps=1e-9).certificate)


@given(strategies.finite_horizon_mdps(max_horizon=4))
@settings(deadline=None, max_examples=60)
def test_equal_stages_give_the_stationary_answer(problem):
    horizon = problem.criterion.horizon
    if horizon == 0:
        return
    varying = TimeVaryingMDP((problem,) * horizon, problem.discount, terminal_value=problem.terminal_value)
    np.testing.assert_array_equal(solve(varying, eps=1e-8).value, solve(problem, eps=1e-8).value)


@given(strategies.finite_horizon_mdps())
@settings(deadline=None, max_examples=60)
def test_the_n_step_value_is_the_nth_iterate_of_value_iteration(problem):
    solution, operator = solve(problem, eps=1e-9), problem.operator
    value, policy = problem.terminal_value.copy(), np.empty(problem.n_states, dtype=np.int32)
    for steps_to_go in range(problem.criterion.horizon + 1):
        np.testing.assert_allclose(solution.value[problem.criterion.horizon - steps_to_go], value, rtol=1e-12, atol=1e-9)
        operator.apply(value, following := np.empty_like(value), policy)
        value = following


def small(horizon: int = 4, minimize: bool = False) -> MDP:
    rng = np.random.default_rng(5)
    transition, reward = rng.dirichlet(np.full(6, 0.3), size=(6, 3)), rng.normal(size=(6, 3))
    return MDP.from_dense(transition, reward, criterion=FiniteHorizon(horizon, 0.97, minimize))


def test_value_and_policy_have_one_row_a_stage():
    solution = solve(small(4))
    assert (solution.value.shape, solution.policy.shape) == ((5, 6), (4, 6))


def test_no_decision_left_is_worth_the_terminal_value():
    problem = small(0)
    solution = solve(problem)
    assert check(problem, solution.certificate)
    assert (solution.value == 0).all()


def test_minimising_is_maximising_the_negated_problem():
    np.testing.assert_array_equal(solve(small(minimize=True)).value, -solve(small(minimize=True).negated()).value)


@pytest.mark.parametrize("name", ["lower", "upper"])
@pytest.mark.parametrize("stage", [0, 2, 4])
def test_a_bound_moved_past_the_value_is_rejected(name, stage):
    problem = small()
    certificate = solve(problem).certificate
    moved = getattr(certificate, name).copy()
    moved[stage, 3] += 1e-7 if name == "lower" else -1e-7
    with pytest.raises(CertificateRejected):
        check(problem, dataclasses.replace(certificate, **{name: moved}))


def test_another_action_at_one_stage_is_rejected():
    problem = small()
    certificate = solve(problem).certificate
    policy = certificate.policy.copy()
    policy[1, 2] = (policy[1, 2] + 1) % 3
    with pytest.raises(CertificateRejected, match="stage 1"):
        check(problem, dataclasses.replace(certificate, policy=policy))


def test_the_same_stages_in_another_order_are_another_problem():
    first, second = small(), small().negated().replace(criterion=small().criterion)
    certificate = solve(TimeVaryingMDP((first, second))).certificate
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check(TimeVaryingMDP((second, first)), certificate)


def test_an_eps_below_rounding_says_what_was_reached():
    with pytest.raises(NotConverged, match="rounding over 4 stages") as caught:
        solve(small(), eps=1e-18)
    assert 0 < caught.value.reached < 1e-12


def test_values_beyond_floating_point_are_refused():
    problem = MDP.from_dense(np.ones((1, 1, 1)), [1e308], criterion=FiniteHorizon(3), layout="sas")
    with pytest.raises(InfiniteValue, match="stage"):
        solve(problem)


def test_a_method_of_another_criterion_is_refused():
    with pytest.raises(SolveError, match="BackwardInduction"):
        solve(small(), ValueIteration())


def test_backward_induction_sweeps_once_a_stage():
    assert solve(small(4), BackwardInduction()).trace.sweeps == 4


def test_most_rows_are_decided_without_integers():
    problem = small(50)
    verdict = check(problem, solve(problem, eps=1e-6).certificate)
    assert verdict.exact <= verdict.rows / 100


def test_wagner_whitin_lot_sizes_cost_1380():
    """Set-up 500, holding 2, demand 90, 120, 80, 70: cost-to-go 1380, 940, 640, 500 (Snyder and Shen 2019, section 3.7)."""
    demand, setup, holding = [90, 120, 80, 70], 500, 2
    top = sum(demand) // 10  # stock in tens
    stages = []
    for t, needed in enumerate(demand):
        states, rewards, successors = [0], [], []
        later = sum(demand[t:]) // 10
        for stock in range(top + 1):
            for order in range(max(0, needed // 10 - stock), max(later - stock, 0) + 1):
                left = stock + order - needed // 10
                if 0 <= left <= top:
                    rewards.append(setup * (order > 0) + holding * 10.0 * left)
                    successors.append(left)
            if len(rewards) == states[-1]:
                rewards.append(1e6)
                successors.append(stock)
            states.append(len(rewards))
        stages.append(
            MDP(
                np.array(states, dtype=np.int32),
                np.arange(len(rewards) + 1, dtype=np.int32),
                np.array(successors, dtype=np.int32),
                np.ones(len(rewards)),
                np.array(rewards),
                FiniteHorizon(1, minimize=True),
            )
        )
    solution = solve(TimeVaryingMDP(tuple(stages), minimize=True))
    np.testing.assert_allclose(solution.value[:4, 0], [1380, 940, 640, 500], atol=1e-6)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: TimeVaryingMDP(()), "at least one stage"),
        (
            lambda: TimeVaryingMDP((small(), MDP.from_dense(np.ones((1, 1, 1)), [0.0], 0.5, layout="sas"))),
            "stage 1 has 1 states",
        ),
        (lambda: TimeVaryingMDP((small(),), discount=1.5), "discount"),
        (lambda: TimeVaryingMDP((small(),), terminal_value=np.full(6, np.nan)), "6 finite numbers"),
        (lambda: TimeVaryingMDP((small(), 3)), "stage 1 is a int"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_stages_that_form_no_problem_are_refused(build, says):
    with pytest.raises(ModelError, match=says):
        build()

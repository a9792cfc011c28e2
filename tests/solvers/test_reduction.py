"""`solve(problem, reduce=...)`: the proof is of the problem itself, and holds."""

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, FiniteHorizon, RobustMDP, TotalReward, instances, quotient, strategies
from banach.mdp.ambiguity import L1
from banach.solvers import InfiniteValue, SolveError, ValueIteration, check, coarsest_bisimulation, solve
from banach.solvers.reduction import distances
from hypothesis import given, settings
from hypothesis import strategies as st

from .. import witness
from . import bisimulation_witness as slow

REWARDS = st.sampled_from([0.0, 1.0, -1.0, 0.1])
FEW = {"max_states": 3, "max_actions": 2, "rewards": REWARDS, "minimize": st.booleans()}
DISCOUNTED = slow.blown_up(strategies.discounted_mdps(tiny=0.125, discounts=st.sampled_from([0.5, 0.9]), **FEW), shuffle=True)


def inside(solution, exact, eps):
    certificate = solution.certificate
    assert all(low <= v <= high for low, v, high in zip(certificate.lower, exact, certificate.upper, strict=True))
    assert certificate.width <= eps


@given(DISCOUNTED)
@settings(max_examples=40, deadline=None)
def test_an_exact_quotient_keeps_the_promise_of_eps(problem):
    solution = solve(problem, eps=1e-7, reduce=0)
    assert check(problem, solution.certificate)
    inside(solution, witness.optimal_value(problem)[0], 1e-7)


@given(DISCOUNTED, st.sampled_from([1e-3, 0.2, 1.0]))
@settings(max_examples=40, deadline=None)
def test_an_approximate_quotient_still_brackets_the_problem(problem, reduce):
    solution = solve(problem, eps=1e-7, reduce=reduce)
    assert check(problem, solution.certificate)
    inside(solution, witness.optimal_value(problem)[0], np.inf)


@given(DISCOUNTED, st.sampled_from([0.01, 0.3]))
@settings(max_examples=30, deadline=None)
def test_the_bracket_is_no_wider_than_the_theorem_allows(problem, reduce):
    """Twice eta / (1 - g), with terminal states unmoved one g more, and the quotient's own bracket."""
    merged = quotient(problem, coarsest_bisimulation(problem, actions="any", labels=(), within=reduce))
    rewards, rows, _ = distances(merged)
    value, g = solve(merged.model, eps=1e-9).value, problem.discount
    eta = rewards + g * rows / 2 * float(np.ptp(value))
    assert solve(problem, eps=1e-9, reduce=reduce).certificate.width <= 2 * (eta + 1e-8) / (1 - g)


@given(
    slow.blown_up(
        strategies.finite_horizon_mdps(tiny=0.125, max_horizon=4, discounts=st.sampled_from([0.5, 1.0]), **FEW), shuffle=True
    ),
    st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=40, deadline=None)
def test_every_stage_of_a_finite_horizon_is_bracketed(problem, reduce):
    solution = solve(problem, eps=1e-7, reduce=reduce)
    assert check(problem, solution.certificate)
    exact = witness.finite_horizon_value(problem)
    for lower, upper, values in zip(solution.certificate.lower, solution.certificate.upper, exact, strict=True):
        assert all(low <= v <= high for low, v, high in zip(lower, values, upper, strict=True))
    assert solution.certificate.width <= 1e-7 or reduce


@given(slow.blown_up(strategies.total_reward_mdps(max_states=3, max_actions=2, tiny=0.125), shuffle=True))
@settings(max_examples=20, deadline=None)
def test_total_rewards_through_a_quotient_are_proved(problem):
    solution = solve(problem, eps=1e-5, reduce=0)
    assert check(problem, solution.certificate)
    assert solution.value == pytest.approx(solve(problem, eps=1e-5).value, abs=1e-5)


@given(
    slow.blown_up(strategies.average_reward_mdps(structure="multichain", max_states=3, max_actions=2, tiny=0.125), shuffle=True)
)
@settings(max_examples=20, deadline=None)
def test_gains_through_a_quotient_are_proved(problem):
    solution = solve(problem, eps=1e-5, reduce=0)
    assert check(problem, solution.certificate)
    assert solution.value == pytest.approx(solve(problem, eps=1e-5).value, abs=1e-5)


@pytest.mark.parametrize("criterion", [None, FiniteHorizon(30), TotalReward()], ids=str)
def test_a_symmetric_grid_is_solved_on_an_eighth_of_its_states(criterion):
    problem = slow.symmetric_grid(15)
    problem = problem if criterion is None else problem.replace(criterion=criterion)
    solution = solve(problem, eps=1e-6, reduce=0)
    assert "36 classes for 225 states" in solution.trace.reason
    assert solution.certificate.width <= 1e-6
    assert check(problem, solution.certificate)
    assert solution.value == pytest.approx(solve(problem, eps=1e-6).value, abs=1e-6)


def test_average_reward_of_copies_is_solved_on_one():
    one = instances.garnet(states=20, actions=2, successors=3)
    two = MDP(
        np.concatenate((one.state_ptr, one.state_ptr[1:] + 40)), np.concatenate((one.row_ptr, one.row_ptr[1:] + 120)),
        np.concatenate((one.successor, one.successor + 20)), np.tile(one.probability, 2), np.tile(one.reward, 2),
        AverageReward(),
    )  # fmt: skip
    solution = solve(two, reduce=0)
    assert solution.trace.reason.startswith("20 classes for 40 states")
    assert check(two, solution.certificate)


def test_a_method_and_a_start_are_passed_on():
    problem = slow.symmetric_grid(9)
    first = solve(problem, ValueIteration(), eps=1e-3, reduce=0)
    assert first.trace.method == ValueIteration()
    again = solve(problem, ValueIteration(), eps=1e-3, start=first.value, reduce=0)
    assert again.trace.sweeps < first.trace.sweeps


@pytest.mark.parametrize(
    ("problem", "words", "message"),
    [
        (slow.symmetric_grid(3), {"reduce": -1}, "number >= 0"),
        (slow.symmetric_grid(3), {"reduce": True}, "number >= 0"),
        (slow.symmetric_grid(3), {"reduce": 0, "checkpoint": "there.npz"}, "one of the two"),
        (slow.symmetric_grid(3).replace(criterion=TotalReward()), {"reduce": 0.1}, "reduce=0"),
        (RobustMDP(slow.symmetric_grid(3), L1(0.1)), {"reduce": 0}, "leave it out"),
    ],
    ids=["negative", "not a number", "checkpoint", "undiscounted", "robust"],
)
def test_impossible_reductions_are_refused(problem, words, message):
    with pytest.raises(SolveError, match=message):
        solve(problem, **words)


def test_an_infinite_value_is_told_of_the_states_as_given():
    """Four equal ways to the end, and a loop that pays: state 4 of the problem, state 1 of the quotient."""
    problem = MDP(
        np.array([0, 1, 2, 3, 4, 5, 5]), np.arange(6), np.array([5, 5, 5, 5, 4]), np.ones(5), np.array([0.0, 0, 0, 0, 1]),
        TotalReward(), terminal=np.arange(6) == 5,
    )  # fmt: skip
    with pytest.raises(InfiniteValue, match="state 4"):
        solve(problem, reduce=0)


def test_stages_of_states_that_nearly_agree_are_moved_apart_by_what_merging_costs():
    random = np.random.default_rng(2)
    base, of = instances.garnet(states=4, actions=2, successors=3, seed=6), np.repeat(np.arange(4), 3)
    rows = base.to_sparse()[0].toarray().reshape(4, 2, 4)[of][:, :, of] / 3
    reward = base.reward.reshape(4, 2)[of] + random.uniform(-0.02, 0.02, (12, 2))
    problem = MDP.from_dense(rows, reward, criterion=FiniteHorizon(6, 0.9), layout="sas")
    solution = solve(problem, reduce=0.05)
    assert solution.trace.reason.startswith("4 classes for 12 states")
    assert check(problem, solution.certificate)
    exact, (lower, upper) = witness.finite_horizon_value(problem)[0], (solution.certificate.lower, solution.certificate.upper)
    assert all(low <= v <= high for low, v, high in zip(lower[0], exact, upper[0], strict=True))
    assert 0 < solution.certificate.width < 1

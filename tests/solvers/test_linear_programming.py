"""The linear program's primal, dual and occupancy, against independent programs and the exact value."""

import numpy as np
import pytest
from banach.mdp import MDP, strategies
from banach.solvers import LinearProgramming, NotConverged, solve
from banach.solvers.linear_programming import linear_program
from hypothesis import given, settings

from ..witness import linear_programs, optimal_value

battery = settings(deadline=None, max_examples=40, derandomize=True)
modest = strategies.discounted_mdps(max_states=5, max_terminal=0, rewards=strategies.rewards(10.0), tiny=1e-3)


@given(problem=modest)
@battery
def test_primal_dual_and_exact_optimum_agree(problem):
    weights = np.arange(1.0, problem.n_states + 1)
    primal, dual, _ = linear_programs(problem, weights)
    exact = float(sum(w * v for w, v in zip(map(int, weights), optimal_value(problem)[0], strict=True)))
    value, occupancy = linear_program(problem, weights)
    ours = [weights @ value, occupancy @ problem.reward]
    assert np.allclose([primal, dual, *ours], exact, rtol=1e-6, atol=1e-5 / (1 - problem.discount))


@given(problem=modest)
@battery
def test_the_occupancy_sums_to_the_expected_discounted_time(problem):
    weights = np.full(problem.n_states, 1 / problem.n_states)
    _, _, x = linear_programs(problem, weights)
    _, occupancy = linear_program(problem, weights)
    time = 1 / (1 - problem.discount)
    assert x.sum() == pytest.approx(time, rel=1e-6)
    assert occupancy.sum() == pytest.approx(time, rel=1e-6)


@given(problem=modest)
@battery
def test_the_occupancy_lives_on_actions_that_are_optimal(problem):
    _, occupancy = linear_program(problem, np.ones(problem.n_states))
    for state, best in enumerate(optimal_value(problem)[1]):
        pairs = range(*problem.state_ptr[state : state + 2])
        assert sum(occupancy[pair] for a, pair in enumerate(pairs) if a in best) >= 0.99


def test_terminal_states_keep_their_value_and_have_no_occupancy():
    problem = MDP.from_dense(np.full((3, 2, 3), 1 / 3), np.ones((3, 2)), discount=0.5, terminal={1: 7.0})
    value, occupancy = linear_program(problem, np.ones(3))
    assert value[1] == 7.0
    assert occupancy.shape == (4,)
    assert np.allclose(value, [float(v) for v in optimal_value(problem)[0]])


def test_repairs_reach_what_the_solver_s_tolerance_does_not():
    rng = np.random.default_rng(5)
    problem = MDP.from_dense(rng.dirichlet(np.full(25, 0.2), size=(25, 4)), rng.normal(size=(25, 4)), discount=0.999)
    with pytest.raises(NotConverged, match="repaired linear program"):
        solve(problem, LinearProgramming(repairs=0), eps=1e-8)
    assert solve(problem, LinearProgramming(), eps=1e-8).certificate.width <= 1e-8

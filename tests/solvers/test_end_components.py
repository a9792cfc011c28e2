"""Free end components become one state each, and what can be collected or must be paid for ever is refused by name."""

import numpy as np
import pytest
from banach.mdp import MDP, TotalReward, strategies
from banach.solvers import InfiniteValue, NotConverged, solve
from banach.solvers.end_components import flattened, quotient
from banach.solvers.proper_policy import first_guess, pack, stops_from
from hypothesis import given, settings


def model(states, **fields):
    """states: a terminal value, or a list of actions (reward, {successor: weight})."""
    actions = [[] if isinstance(state, float) else state for state in states]
    rows = [row for choices in actions for _, row in choices]
    return MDP(
        state_ptr=np.cumsum([0, *map(len, actions)]),
        row_ptr=np.cumsum([0, *map(len, rows)]),
        successor=np.array([t for row in rows for t in row], dtype=np.int32),
        probability=np.array([p for row in rows for p in row.values()], dtype=np.float64),
        reward=np.array([reward for choices in actions for reward, _ in choices], dtype=np.float64),
        criterion=TotalReward(),
        terminal=np.array([isinstance(state, float) for state in states]),
        terminal_value=np.array([state if isinstance(state, float) else 0.0 for state in states]),
        **fields,
    )


RING = [
    [(0.0, {1: 1.0}), (-1.0, {3: 1.0})],
    [(0.0, {2: 1.0})],
    [(0.0, {0: 1.0}), (0.0, {3: 0.5, 1: 0.5})],
    2.0,
]
"""States 0 -> 1 -> 2 -> 0 for free, and ways out from 0 and 2."""


def test_a_free_ring_is_one_state():
    found = quotient(model(RING))
    assert len(set(found.place[:3].tolist())) == 1
    assert found.model.n_states == 3  # the ring, its terminal state, the sink of staying


def test_the_value_is_one_number_on_a_free_ring():
    certificate = solve(model(RING), eps=1e-9).certificate
    assert len(set(certificate.upper[:3].tolist())) == 1
    np.testing.assert_allclose(certificate.upper, 2.0, atol=1e-9)


def test_the_lifted_policy_walks_the_ring_to_the_best_exit():
    assert solve(model(RING)).policy.tolist() == [0, 0, 1, -1]


def test_staying_for_ever_beats_a_way_out_that_costs():
    problem = model([[(0.0, {0: 1.0}), (-1.0, {1: 1.0})], 0.5])
    solution = solve(problem)
    assert solution.policy.tolist() == [0, -1]
    assert solution.certificate.lower[0] == 0.0
    assert solution.certificate.upper[0] <= 1e-6


def test_free_components_inside_costly_ones_are_collapsed():
    costly = [[(0.0, {1: 1.0}), (-1.0, {2: 1.0})], [(0.0, {0: 1.0})], [(-1.0, {0: 1.0}), (-3.0, {3: 1.0})], 0.0]
    np.testing.assert_allclose(solve(model(costly), eps=1e-9).value, [0.0, 0.0, -1.0, 0.0], atol=1e-9)


def test_entries_of_probability_zero_open_no_component():
    problem = model([[(1.0, {0: 0.0, 1: 1.0})], 0.0])
    np.testing.assert_allclose(solve(problem).value, [1.0, 0.0], atol=1e-6)


def test_a_loop_that_collects_is_named():
    problem = model(
        [[(0.0, {1: 1.0})], [(0.0, {0: 1.0}), (2.0, {0: 0.5, 1: 0.5}), (-1.0, {2: 1.0})], 0.0],
        action_names=["go", "back", "collect", "leave"],
    )
    with pytest.raises(InfiniteValue, match=r"state 1, action collect.*infinite"):
        solve(problem)


def test_a_reward_inside_a_free_component_of_a_mixed_one_is_named():
    problem = model([[(0.0, {0: 1.0}), (1.0, {0: 1.0}), (-1.0, {1: 1.0})], [(-1.0, {0: 1.0}), (0.0, {2: 1.0})], 0.0])
    with pytest.raises(InfiniteValue, match="state 0, action 1"):
        solve(problem)


def test_a_state_that_can_only_pay_for_ever_is_named():
    problem = model([[(-1.0, {1: 1.0})], [(-1.0, {0: 1.0})], [(0.0, {0: 0.5, 3: 0.5}), (1.0, {3: 1.0})], 0.0])
    with pytest.raises(InfiniteValue, match=r"state 0: .*state 0, action 0"):
        solve(problem)


def test_a_cost_that_can_be_had_for_ever_is_infinite_when_it_is_maximised_by_negation():
    problem = model([[(3.0, {0: 1.0}), (1.0, {1: 1.0})], 0.0]).replace(criterion=TotalReward(minimize=True))
    np.testing.assert_allclose(solve(problem).value, [1.0, 0.0], atol=1e-6)
    with pytest.raises(InfiniteValue, match="state 0, action 0"):
        solve(problem.replace(criterion=TotalReward()))


def test_a_mixed_loop_that_gains_is_named():
    problem = model([[(3.0, {1: 1.0}), (0.0, {2: 1.0})], [(-2.0, {0: 1.0}), (0.0, {2: 1.0})], 0.0])
    with pytest.raises(InfiniteValue, match=r"state \d, action 0.*gains and costs"):
        solve(problem)


def test_a_mixed_loop_that_neither_gains_nor_loses_is_refused():
    problem = model([[(1.0, {1: 1.0}), (-9.0, {2: 1.0})], [(-1.0, {0: 1.0}), (-10.0, {2: 1.0})], 0.0])
    with pytest.raises(InfiniteValue, match="could not be proved to lose"):
        solve(problem)


def test_a_mixed_loop_that_loses_is_solved():
    problem = model([[(2.0, {1: 1.0}), (-9.0, {2: 1.0})], [(-3.0, {0: 1.0}), (-4.0, {2: 1.0})], 0.0])
    np.testing.assert_allclose(solve(problem, eps=1e-9).value, [-2.0, -4.0, 0.0], atol=1e-9)


def test_an_exit_too_rare_for_floating_point_is_refused_by_name():
    problem = model([[(1.0, {0: 1.0, 1: 5e-324})], 0.0])
    with pytest.raises(NotConverged, match="state 0, action 0: the chance to leave is so small"):
        solve(problem)


def test_self_loops_are_stretched_away():
    found = quotient(model([[(3.0, {0: 0.75, 1: 0.25})], 1.0]))
    assert found.stretch.tolist() == [4.0]
    assert found.model.reward.tolist() == [12.0]
    assert found.model.probability.tolist() == [1.0]


@given(strategies.total_reward_mdps(kind="improper", max_states=7))
@settings(deadline=None, max_examples=150)
def test_every_state_of_the_quotient_has_a_pair_that_may_lead_to_an_earlier_one(problem):
    found = quotient(problem)
    value, policy = first_guess(found.model)
    assert np.isfinite(value).all()
    assert stops_from(pack(found.model, policy)).all()


@given(strategies.reachability_mdps(max_states=7))
@settings(deadline=None, max_examples=150)
def test_no_end_component_is_left_in_the_quotient_of_a_reachability_problem(problem):
    maximal = problem.negated() if problem.criterion.minimize else problem
    found = quotient(quotient(maximal).model)
    assert (found.origin >= 0).all()  # nothing may stay


def test_flattening_merges_what_can_be_joined_without_loss():
    walk = [[(0.0, {1: 0.5, 3: 0.5})], [(0.0, {0: 0.5, 2: 0.5})], [(0.0, {1: 0.5, 4: 0.5})], 0.25, 0.25]
    found = quotient(model(walk))
    merged = flattened(found, np.full(found.model.n_states, 0.25), 1e-12)
    assert merged is not None
    assert merged.model.n_states == 4  # the walk, two terminal states, the sink of staying


def test_flattening_leaves_what_differs():
    walk = [[(0.0, {1: 0.5, 2: 0.5})], [(0.0, {0: 0.5, 3: 0.5})], 0.0, 1.0]
    found = quotient(model(walk))
    assert flattened(found, solve(model(walk)).value[np.argsort(found.place)], 1e-12) is None

"""The strategies keep their promises, reach their corners, and shrink to plain models."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from banach.mdp import MDP, AverageReward, Discounted, FiniteHorizon, TotalReward, strategies
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

PLAIN = settings(deadline=None, max_examples=60)
SEARCH = settings(deadline=None, max_examples=4000, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
FIRST = settings(SEARCH, phases=[Phase.generate])
"""Finds an example and does not shrink it."""


def rows(problem: MDP) -> list[list[tuple[int, float]]]:
    """(successor, probability) of each pair."""
    entries = list(zip(problem.successor.tolist(), problem.probability.tolist(), strict=True))
    return [entries[begin:end] for begin, end in itertools.pairwise(problem.row_ptr.tolist())]


def actions(problem: MDP, state: int) -> range:
    """Pairs of a state."""
    return range(problem.state_ptr[state], problem.state_ptr[state + 1])


def edges(problem: MDP, pairs) -> np.ndarray:
    """Boolean adjacency of the given pairs."""
    adjacency = np.zeros((problem.n_states, problem.n_states), dtype=bool)
    for pair in pairs:
        for successor, probability in rows(problem)[pair]:
            adjacency[problem.pair_state[pair], successor] |= probability > 0
    return adjacency


def recurrent_classes(adjacency: np.ndarray) -> int:
    count, component = connected_components(scipy.sparse.csr_array(adjacency), directed=True, connection="strong")
    leaving = {component[i] for i, j in np.argwhere(adjacency) if component[i] != component[j]}
    return count - len(leaving)


def policies(problem: MDP):
    return itertools.product(*(actions(problem, state) for state in range(problem.n_states)))


def sure_to_stop(problem: MDP) -> np.ndarray:
    """States from which every policy reaches a terminal state: the greatest growth of "every action may lead into the set"."""
    inside = problem.terminal.copy()
    while True:
        grown = inside | np.array(
            [
                all(any(inside[j] and p > 0 for j, p in rows(problem)[pair]) for pair in actions(problem, state))
                for state in range(problem.n_states)
            ]
        )
        if (grown == inside).all():
            return inside
        inside = grown


def may_stop(problem: MDP) -> np.ndarray:
    """States from which some policy reaches a terminal state."""
    reach, adjacency = problem.terminal.copy(), edges(problem, range(problem.n_pairs))
    for _ in range(problem.n_states):
        reach = reach | (adjacency & reach).any(axis=1)
    return reach


CORNERS = {
    "one state": lambda p: p.n_states == 1,
    "discount zero": lambda p: p.discount == 0,
    "every state terminal": lambda p: p.n_pairs == 0,
    "no state terminal": lambda p: not p.terminal.any(),
    "a terminal state worth something": lambda p: (p.terminal_value != 0).any(),
    "an absorbing state that acts": lambda p: any(
        {j for j, w in row if w > 0} == {p.pair_state[k]} for k, row in enumerate(rows(p))
    ),
    "a successor stored twice": lambda p: any(len({j for j, _ in row}) < len(row) for row in rows(p)),
    "a probability of zero": lambda p: (p.probability == 0).any(),
    "a tiny probability": lambda p: ((p.probability > 0) & (p.probability < 1e-100)).any(),
    "a row whose floats do not sum to one": lambda p: any(sum(w for _, w in row) != 1 for row in rows(p)),
    "tied actions": lambda p: any(
        rows(p)[k] == rows(p)[k - 1] and p.reward[k] == p.reward[k - 1] and p.pair_state[k] == p.pair_state[k - 1]
        for k in range(1, p.n_pairs)
    ),
    "equal rewards, different rows": lambda p: any(
        rows(p)[k] != rows(p)[k - 1] and p.reward[k] == p.reward[k - 1] and p.pair_state[k] == p.pair_state[k - 1]
        for k in range(1, p.n_pairs)
    ),
    "a state that nothing leads to": lambda p: (
        p.n_states > 1 and bool(set(range(p.n_states)) - {j for row in rows(p) for j, w in row if w > 0})
    ),
    "rewards a million apart": lambda p: (
        (p.reward != 0).sum() > 1 and np.ptp(np.log10(np.abs(p.reward[p.reward != 0]))) >= 5.9
    ),
    "different numbers of actions": lambda p: len(set(np.diff(p.state_ptr)) - {0}) > 1,
    "a terminal state between others": lambda p: p.n_states > 2 and p.terminal[1:-1].any() and not p.terminal[[0, -1]].any(),
    "as large as allowed": lambda p: p.n_states == 6 and np.diff(p.state_ptr).max() == 3 and np.diff(p.row_ptr).max() == 3,
    "an initial distribution": lambda p: p.initial is not None and p.n_states > 1 and p.initial.max() < 1,
}  # fmt: skip


@pytest.mark.parametrize("corner", CORNERS)
def test_discounted_problems_reach_the_corner(corner):
    assert CORNERS[corner](find(strategies.discounted_mdps(), CORNERS[corner], settings=FIRST))


def test_a_failing_example_shrinks_to_a_plain_model():
    smallest = find(strategies.discounted_mdps(), lambda p: p.n_pairs >= 2 and p.terminal.any(), settings=SEARCH)
    assert smallest.n_states <= 3
    assert smallest.n_pairs == smallest.n_transitions == 2
    assert not smallest.reward.any()
    assert set(smallest.probability) == {1.0}


def test_a_large_reward_shrinks_to_one_state_and_one_action():
    smallest = find(strategies.discounted_mdps(), lambda p: p.reward.max(initial=0) > 5, settings=SEARCH)
    assert (smallest.n_states, smallest.n_pairs, smallest.n_transitions) == (1, 1, 1)


ALL = {
    "discounted": (strategies.discounted_mdps(minimize=st.booleans()), Discounted),
    "finite horizon": (strategies.finite_horizon_mdps(minimize=st.booleans()), FiniteHorizon),
    "proper": (strategies.total_reward_mdps(minimize=st.booleans()), TotalReward),
    "improper": (strategies.total_reward_mdps(kind="improper", minimize=st.booleans()), TotalReward),
    "any total reward": (strategies.total_reward_mdps(kind="any", minimize=st.booleans()), TotalReward),
    "reachability": (strategies.reachability_mdps(), TotalReward),
    "unichain": (strategies.average_reward_mdps(minimize=st.booleans()), AverageReward),
    "communicating": (strategies.average_reward_mdps(structure="communicating"), AverageReward),
    "multichain": (strategies.average_reward_mdps(structure="multichain"), AverageReward),
}


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_model_has_its_criterion_in_both_senses_and_valid_rows(name):
    strategy, criterion = ALL[name]
    senses = set()

    @PLAIN
    @given(strategy)
    def holds(problem):
        assert isinstance(problem.criterion, criterion)
        assert all(abs(sum(w for _, w in row) - 1) <= 1e-9 for row in rows(problem))
        assert (np.diff(problem.state_ptr) == 0).tolist() == problem.terminal.tolist()
        senses.add(problem.criterion.minimize)

    holds()
    assert senses == ({False} if name in ("communicating", "multichain") else {False, True})


@PLAIN
@given(st.data())
def test_sizes_stay_within_what_was_asked_for(data):
    most = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    problem = data.draw(strategies.discounted_mdps(max_states=most[0], max_actions=most[1], max_successors=most[2]))
    sizes = (problem.n_states, np.diff(problem.state_ptr).max(), np.diff(problem.row_ptr).max(initial=0))
    assert all(size <= limit for size, limit in zip(sizes, most, strict=True))


@PLAIN
@given(strategies.discounted_mdps(discounts=st.just(0.25), rewards=st.just(7.0), max_terminal=0))
def test_discounts_rewards_and_terminal_states_can_be_chosen(problem):
    assert problem.discount == 0.25
    assert set(problem.reward) == {7.0}
    assert not problem.terminal.any()


@PLAIN
@given(strategies.discounts(0.3), strategies.rewards(2.0))
def test_numbers_stay_within_their_largest(discount, reward):
    assert 0 <= discount <= 0.3
    assert abs(reward) <= 2.0


@PLAIN
@given(strategies.total_reward_mdps())
def test_every_policy_of_a_proper_problem_stops(problem):
    assert sure_to_stop(problem).all()


@PLAIN
@given(strategies.total_reward_mdps(kind="improper", minimize=st.booleans()))
def test_an_improper_problem_has_a_policy_that_stops_and_no_stage_that_pays(problem):
    assert may_stop(problem).all()
    assert (problem.reward >= 0).all() if problem.criterion.minimize else (problem.reward <= 0).all()


@pytest.mark.parametrize("idle", [True, False], ids=["at no cost", "at a cost"])
def test_improper_problems_have_policies_that_never_stop(idle):
    def loops(problem: MDP) -> bool:
        stuck = [k for k, row in enumerate(rows(problem)) if {j for j, w in row if w > 0} == {problem.pair_state[k]}]
        return any((problem.reward[k] == 0) == idle for k in stuck)

    assert loops(find(strategies.total_reward_mdps(kind="improper"), loops, settings=FIRST))


def test_problems_of_any_kind_may_have_states_that_cannot_stop():
    problem = find(strategies.total_reward_mdps(kind="any"), lambda p: not may_stop(p).all(), settings=FIRST)
    assert not may_stop(problem).all()


@PLAIN
@given(strategies.reachability_mdps())
def test_reachability_is_terminal_worth_without_rewards(problem):
    assert not problem.reward.any()
    assert set(problem.terminal_value) <= {0.0, 1.0}
    assert problem.labels["goal"].tolist() == (problem.terminal & (problem.terminal_value == 1)).tolist()


def test_reachability_problems_have_end_components_without_goal():
    found = find(strategies.reachability_mdps(), lambda p: p.labels["goal"].any() and not sure_to_stop(p).all(), settings=FIRST)
    assert not sure_to_stop(found).all()


@settings(deadline=None, max_examples=40)
@given(strategies.average_reward_mdps(max_states=4))
def test_every_policy_of_a_unichain_problem_has_one_recurrent_class(problem):
    assert all(recurrent_classes(edges(problem, policy)) == 1 for policy in policies(problem))


@PLAIN
@given(strategies.average_reward_mdps(structure="communicating"))
def test_communicating_problems_lead_from_everywhere_to_everywhere(problem):
    count, _ = connected_components(
        scipy.sparse.csr_array(edges(problem, range(problem.n_pairs))), directed=True, connection="strong"
    )
    assert count == 1


def test_multichain_problems_have_policies_with_several_recurrent_classes():
    def several(problem: MDP) -> bool:
        return any(recurrent_classes(edges(problem, policy)) > 1 for policy in policies(problem))

    assert several(find(strategies.average_reward_mdps(structure="multichain", max_states=3), several, settings=FIRST))


@settings(deadline=None, max_examples=30)
@given(strategies.markov_chains(), strategies.deterministic_mdps())
def test_chains_have_one_action_and_deterministic_problems_one_successor(chain, sure):
    assert set(np.diff(chain.state_ptr)) <= {0, 1}
    assert set(np.diff(sure.row_ptr)) <= {1}


def test_horizons_and_discounts_reach_their_ends():
    for wanted in (
        lambda p: p.criterion.horizon == 0,
        lambda p: p.criterion.horizon == 5,
        lambda p: p.discount == 1,
        lambda p: p.discount == 0,
    ):
        assert wanted(find(strategies.finite_horizon_mdps(), wanted, settings=FIRST))


def test_the_package_does_not_import_hypothesis_until_strategies_are_asked_for():
    program = "import sys, banach.mdp, banach.mdp.instances; assert 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)

"""Components, end components and reachability agree with networkx and with their definitions, taken literally."""

import networkx
import numpy as np
from banach.mdp import MDP, TotalReward, strategies
from banach.solvers.graph import Graph, reaching, strong_components
from hypothesis import given, settings
from hypothesis import strategies as st

MODELS = strategies.total_reward_mdps(kind="any", max_states=7, max_actions=3)


def successors(problem, pair):
    row = slice(problem.row_ptr[pair], problem.row_ptr[pair + 1])
    return {int(t) for t, p in zip(problem.successor[row], problem.probability[row], strict=True) if p > 0}


def digraph(problem, pairs):
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(problem.n_states))
    graph.add_edges_from((int(problem.pair_state[k]), t) for k in pairs for t in successors(problem, k))
    return graph


def partition(label):
    return {frozenset(np.flatnonzero(label == number).tolist()) for number in np.unique(label)}


def end_components(problem, allowed):
    """Maximal end components by their definition: throw away pairs that leave their component until none does."""
    pairs = set(np.flatnonzero(allowed).tolist())
    while True:
        component = {}
        for members in networkx.strongly_connected_components(digraph(problem, pairs)):
            component |= dict.fromkeys(members, frozenset(members))
        leaving = {k for k in pairs if not successors(problem, k) <= component[int(problem.pair_state[k])]}
        if not leaving:
            return {component[int(problem.pair_state[k])] for k in pairs}, pairs
        pairs -= leaving


def path(n_states):
    """0 <- 1 <- ... each with a self-loop of probability zero; state 0 is terminal."""
    states = np.arange(1, n_states)
    return MDP(
        state_ptr=np.concatenate(([0], np.arange(n_states))),
        row_ptr=np.arange(0, 2 * n_states, 2),
        successor=np.stack((states - 1, states), axis=1).ravel(),
        probability=np.tile([1.0, 0.0], n_states - 1),
        reward=np.zeros(n_states - 1),
        criterion=TotalReward(),
        terminal=np.arange(n_states) == 0,
    )


@given(MODELS)
@settings(deadline=None, max_examples=200)
def test_strong_components_are_those_of_networkx(problem):
    expected = networkx.strongly_connected_components(digraph(problem, range(problem.n_pairs)))
    assert partition(strong_components(problem)) == {frozenset(members) for members in expected}


@given(MODELS)
@settings(deadline=None, max_examples=100)
def test_no_pair_leads_to_a_component_of_a_higher_number(problem):
    label = strong_components(problem)
    for pair in range(problem.n_pairs):
        assert all(label[t] <= label[problem.pair_state[pair]] for t in successors(problem, pair))


@given(MODELS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=200)
def test_end_components_are_what_is_left_when_leaving_pairs_are_removed(problem, random):
    allowed = np.array([random.random() < 0.8 for _ in range(problem.n_pairs)], dtype=np.bool_)
    label, inside = Graph.of(problem).end_components(allowed)
    expected, pairs = end_components(problem, allowed)
    assert partition(label) - {frozenset(np.flatnonzero(label < 0).tolist())} == expected
    assert set(np.flatnonzero(inside).tolist()) == pairs


@given(MODELS, st.integers(0, 6))
@settings(deadline=None, max_examples=100)
def test_a_goal_is_reached_from_its_ancestors(problem, goal):
    goal %= problem.n_states
    flags = np.arange(problem.n_states) == goal
    reached = Graph.of(problem).can_reach(flags)
    expected = networkx.ancestors(digraph(problem, range(problem.n_pairs)), goal) | {goal}
    assert set(np.flatnonzero(reached).tolist()) == expected


def test_entries_of_probability_zero_do_not_count():
    problem = path(3)
    label, inside = Graph.of(problem).end_components(np.ones(problem.n_pairs, dtype=np.bool_))
    assert (label == -1).all()
    assert not inside.any()


def test_a_chain_reaches_its_goal_only_along_positive_weights():
    pointers, column = np.array([0, 0, 1, 2], dtype=np.int32), np.array([0, 1], dtype=np.int32)
    goal = np.array([True, False, False])
    assert reaching(pointers, column, np.array([1.0, 0.5]), goal).tolist() == [True, True, True]
    assert reaching(pointers, column, np.array([1.0, 0.0]), goal).tolist() == [True, True, False]


def test_long_chains_take_neither_recursion_nor_rounds():
    problem = path(300_000)
    graph = Graph.of(problem)
    assert len(np.unique(strong_components(problem))) == problem.n_states
    assert (graph.end_components(np.ones(problem.n_pairs, dtype=np.bool_))[0] == -1).all()
    assert graph.can_reach(problem.terminal).all()

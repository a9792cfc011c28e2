"""The catalogue of instances: form, spelling, ranges, and the structure that each family promises."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from banach.mdp import MDP, AverageReward, Discounted, ModelError, instances
from hypothesis import given, settings
from hypothesis import strategies as st

CATALOGUE = instances.CATALOGUE
NUMBER = {int: "{}", float: "{!r}", str: "{}"}


def transition_matrix(problem: MDP) -> sp.csr_array:
    """(m, n), as stored."""
    return sp.csr_array((problem.probability, problem.successor, problem.row_ptr), shape=(problem.n_pairs, problem.n_states))


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_instance_has_defaults_a_source_a_small_member_and_a_first_state(name):
    instance = CATALOGUE[name]
    problem = instance.make(**instance.small)
    assert instance.name == name == instance.make.__name__
    assert getattr(instances, name) is instance.make
    assert instance.source
    assert instance.title
    assert set(instance.small) <= set(instance.defaults)
    assert all(type(default) in NUMBER for default in instance.defaults.values())
    assert problem.n_states <= 300
    assert problem.initial is not None


@pytest.mark.parametrize("name", CATALOGUE)
def test_equal_parameters_give_equal_models(name):
    instance = CATALOGUE[name]
    assert instance.make(**instance.small).fingerprint == instance.make(**instance.small).fingerprint


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_instance_can_be_spelled(name):
    instance = CATALOGUE[name]
    parameters = instance.defaults | instance.small
    spelling = name + ":" + ",".join(f"{key}={NUMBER[type(value)].format(value)}" for key, value in parameters.items())
    assert instances.make(spelling).fingerprint == instance.make(**parameters).fingerprint


def test_a_name_alone_makes_the_default_member():
    assert instances.make("forest").fingerprint == instances.forest().fingerprint


def test_whole_numbers_may_be_written_in_powers_of_ten():
    assert instances.make("garnet:states=1e2,actions=2, seed=3").n_states == 100


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("garnt", "no instance 'garnt'; did you mean garnet"),
        ("", "no instance ''; there are admission"),
        ("garnet:stats=10", "no parameter 'stats'; did you mean states"),
        ("garnet:states=ten", "states='ten' is not a whole number; the default is 1000"),
        ("garnet:states=2.5", "states='2.5' is not a whole number"),
        ("garnet:states=inf", "states='inf' is not a whole number"),
        ("garnet:discount=high", "discount='high' is not a number; the default is 0.95"),
        ("garnet:states", "'states' is not of the form key=value"),
        ("garnet:states=5,states=6", "states is given twice"),
        ("garnet:discount=nan", "discount nan is not a number in"),
        ("end_component_trap:x=1", "no parameter 'x'; it has none"),
        ("garnet:states=3,successors=4", r"successors=4 is out of range; it must be in \[1, 3\]"),
        ("knuth_yao_die:objective=seven", "objective='seven' is unknown; it must be one of flips, one"),
    ],
)
def test_a_spelling_that_is_wrong_says_where_and_what_there_is(spelling, message):
    with pytest.raises(ModelError, match=message):
        instances.make(spelling)


OUT_OF_RANGE = [
    ("garnet", {"states": 0}),
    ("garnet", {"sparsity": 1.5}),
    ("garnet", {"states": 10**9, "successors": 5}),
    ("gridworld", {"side": 1}),
    ("gridworld", {"slip": -0.1}),
    ("ssp_grid", {"walls": 2.0}),
    ("random_ice", {"holes": 0.9}),
    ("gridworld", {"side": 2, "walls": 0.4, "seed": 25}),
    ("frozen_lake", {"discount": 1.1}),
    ("russell_norvig", {"step": 0.1}),
    ("riverswim", {"states": 2}),
    ("haddad_monmege", {"p": 1.0}),
    ("haddad_monmege", {"objective": "time"}),
    ("gambler", {"fortune": 101}),
    ("rare_exit", {"exponent": 1}),
    ("combination_lock", {"p": 0.0}),
    ("forest", {"fire": 2.0}),
    ("machine_replacement", {"replacement": -1.0}),
    ("queue", {"arrival": 0.9}),
    ("queue", {"slow": 0.3, "fast": 0.2}),
    ("queue", {"discount": 1.0}),
    ("admission", {"arrival": 0.6}),
    ("inventory", {"orders": 0}),
    ("lost_sales", {"demand": "normal"}),
    ("setup_inventory", {"mean": -1.0}),
    ("consensus_coin", {"processes": 7}),
    ("herman", {"processes": 4}),
    ("zeroconf", {"loss": 0.0}),
    ("wagner_whitin", {"demand": "3/x"}),
    ("wagner_whitin", {"demand": "3/-1"}),
    ("tied_actions", {"states": 2, "actions": 3}),
    ("rare_visit", {"p": 0.0}),
    ("garnet", {"discount": float("nan")}),
    ("gridworld", {"slip": float("nan")}),
]


@pytest.mark.parametrize(("name", "parameters"), OUT_OF_RANGE, ids=str)
def test_parameters_out_of_range_are_refused(name, parameters):
    with pytest.raises(ModelError):
        CATALOGUE[name].make(**parameters)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 4), st.data())
def test_a_garnet_has_that_many_distinct_successors_with_positive_probabilities(states, actions, data):
    successors = data.draw(st.integers(1, states))
    problem = instances.garnet(states=states, actions=actions, successors=successors, seed=data.draw(st.integers(0, 9)))
    rows = problem.successor.reshape(states * actions, successors)
    assert (np.diff(rows, axis=1) > 0).all()
    assert (problem.probability > 0).all()


def test_garnet_successors_probabilities_and_rewards_have_the_promised_law():
    problem = instances.garnet(states=50, actions=100, successors=5, seed=1)
    count = np.bincount(problem.successor, minlength=50)
    assert np.abs(count / 25_000 - 1 / 50).max() <= 6 * math.sqrt(1 / 50 / 25_000)
    first = problem.probability.reshape(-1, 5)
    assert np.abs(first.mean(axis=0) - 0.2).max() <= 6 * math.sqrt(2 / 75 / 5000)  # Beta(1, 4) has variance 2/75
    assert abs(problem.reward.mean()) <= 6 / math.sqrt(5000)
    assert abs(problem.reward.std() - 1) <= 6 / math.sqrt(2 * 5000)


def test_garnet_sparsity_is_the_share_of_zero_rewards():
    problem = instances.garnet(states=1000, sparsity=0.7, seed=2)
    assert abs((problem.reward == 0).mean() - 0.7) <= 6 * math.sqrt(0.21 / 5000)


def test_different_seeds_give_different_garnets():
    assert instances.garnet(states=10, seed=1).fingerprint != instances.garnet(states=10, seed=2).fingerprint


def test_a_grid_cell_moves_slips_and_stays_as_drawn():
    problem = instances.gridworld(side=3, slip=0.2)
    rows = transition_matrix(problem).toarray().reshape(8, 4, 9)  # the goal, state 8, has no actions
    np.testing.assert_allclose(rows[4, 0], [0, 0.8, 0, 0.1, 0, 0.1, 0, 0, 0])
    np.testing.assert_allclose(rows[0, 0], [0.9, 0.1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rows[0, 1], [0.1, 0.8, 0, 0.1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rows[5, 2], [0, 0, 0, 0, 0.1, 0.1, 0, 0, 0.8])


def test_walls_leave_only_cells_from_which_the_goal_can_be_reached():
    problem = instances.ssp_grid(side=30, walls=0.35, seed=1)
    from_state = problem.pair_state.repeat(np.diff(problem.row_ptr))
    away = sp.csr_array((problem.probability, (from_state, problem.successor)), shape=(problem.n_states, problem.n_states))
    reached = problem.terminal.copy()
    for _ in range(problem.n_states):
        reached = reached | ((away @ reached) > 0)
    assert reached.all()
    assert 0.2 * 900 < problem.n_states < 0.8 * 900


def test_the_frozen_lake_is_gymnasiums():
    gymnasium = pytest.importorskip("gymnasium")
    table = gymnasium.make("FrozenLake-v1", is_slippery=True).unwrapped.P
    problem, dense = instances.frozen_lake(), transition_matrix(instances.frozen_lake()).toarray()
    turn = {0: 3, 1: 2, 2: 1, 3: 0}  # gymnasium's left, down, right, up
    for state in np.flatnonzero(~problem.terminal):
        for action in range(4):
            row = np.zeros(16)
            for p, to, _, _ in table[state][action]:
                row[to] += p
            np.testing.assert_allclose(dense[problem.state_ptr[state] + turn[action]], row)


def test_the_river_flows_as_strehl_and_littman_drew_it():
    problem = instances.riverswim(states=4)
    rows = transition_matrix(problem).toarray()
    np.testing.assert_array_equal(rows[0::2], [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(rows[1::2], [[0.7, 0.3, 0, 0], [0.1, 0.6, 0.3, 0], [0, 0.1, 0.6, 0.3], [0, 0, 0.7, 0.3]])
    assert problem.reward.tolist() == [5, 0, 0, 0, 0, 0, 0, 3000]


def test_inventory_rows_and_rewards_are_those_of_uniform_demand():
    problem = instances.inventory(states=12, orders=3, demand=5, price=2.0, unit=1.0, setup=20.0, holding=0.25)
    rows = transition_matrix(problem).toarray()
    for pair, state in enumerate(problem.pair_state.tolist()):
        level = min(state + 4 * (pair % 3), 11)
        row = np.bincount([max(level - d, 0) for d in range(6)], minlength=12) / 6
        np.testing.assert_allclose(rows[pair], row, atol=1e-15)
        sold, ordered = np.mean([min(level, d) for d in range(6)]), level - state
        assert problem.reward[pair] == pytest.approx(2 * sold - ordered - 20 * (ordered > 0) - 0.25 * state)


def test_random_ice_joins_the_start_to_the_goal():
    problem = instances.random_ice(side=12, holes=0.35, discount=1.0, seed=3)
    assert problem.terminal.sum() > 1
    reached, from_pair = problem.labels["goal"].copy(), np.repeat(np.arange(problem.n_pairs), np.diff(problem.row_ptr))
    for _ in range(problem.n_states):
        reached[problem.pair_state[from_pair[reached[problem.successor]]]] = True
    assert reached[np.flatnonzero(problem.initial)].all()


def test_the_queue_has_sixteen_transitions_a_state_but_for_its_walls():
    problem = instances.queue(capacity=99)
    assert (problem.n_states, problem.n_transitions) == (10_000, 16 * 10_000 - 12 * 100)


def test_the_shared_coin_has_the_published_numbers_of_states():
    assert instances.consensus_coin(processes=2, k=2).n_states == 272
    assert instances.consensus_coin(processes=4, k=2).n_states == 22_656


def test_no_instance_stores_successors_twice_or_probabilities_of_zero():
    for instance in CATALOGUE.values():
        problem = instance.make(**instance.small)
        assert (problem.probability > 0).all(), instance.name
        pairs = np.repeat(np.arange(problem.n_pairs), np.diff(problem.row_ptr))
        assert len(set(zip(pairs.tolist(), problem.successor.tolist(), strict=True))) == problem.n_transitions, instance.name


@pytest.mark.parametrize(
    "spelling",
    ["garnet:states=1e5", "gridworld:side=300", "gridworld:side=300,walls=0.1", "queue:capacity=150", "inventory:states=1000"],
)
def test_building_needs_little_more_memory_than_the_model(spelling):
    instances.make(spelling.split(":", maxsplit=1)[0])  # compiled kernels are loaded
    tracemalloc.start()
    try:
        problem = instances.make(spelling)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 1.6 * problem.nbytes


def test_discount_one_means_average_reward_where_both_are_offered():
    assert isinstance(instances.riverswim(discount=1.0).criterion, AverageReward)
    assert isinstance(instances.riverswim(discount=0.9).criterion, Discounted)

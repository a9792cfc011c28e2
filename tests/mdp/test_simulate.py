"""Simulation: paths obey the model, equal generators give equal paths, and mean returns estimate the exact value.

Statistical tests fail a correct program with probability below 1e-7 each (Hoeffding), and their seeds are fixed.
"""

import math
import sys

import numpy as np
import pytest
from banach.mdp import (
    MDP,
    Discounted,
    FiniteHorizon,
    ModelError,
    TotalReward,
    Trajectories,
    instances,
    returns,
    simulate,
    strategies,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FALSE_ALARM = 1e-7


def hoeffding(samples: int, spread: float) -> float:
    """Half-width that the mean of `samples` numbers in an interval of length `spread` leaves with probability FALSE_ALARM."""
    return spread * math.sqrt(math.log(2 / FALSE_ALARM) / (2 * samples))


def dense_chain(problem: MDP, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transition matrix and rewards of a policy given by pair probabilities; terminal states have zero rows."""
    matrix, reward = np.zeros((problem.n_states, problem.n_states)), np.zeros(problem.n_states)
    for pair, state in enumerate(problem.pair_state):
        entries = slice(problem.row_ptr[pair], problem.row_ptr[pair + 1])
        row = problem.probability[entries] / problem.probability[entries].sum()
        np.add.at(matrix[state], problem.successor[entries], chances[pair] * row)
        reward[state] += chances[pair] * problem.reward[pair]
    return matrix, reward


def random_policy(problem: MDP, seed: int) -> np.ndarray:
    weight = np.random.default_rng(seed).random(problem.n_pairs)
    return weight / np.bincount(problem.pair_state, weight, problem.n_states)[problem.pair_state]


def random_actions(problem: MDP, seed: int, stages: int | None = None) -> np.ndarray:
    shape = problem.n_states if stages is None else (stages, problem.n_states)
    count = np.diff(problem.state_ptr)
    return np.where(problem.terminal, -1, np.random.default_rng(seed).integers(0, np.maximum(count, 1), size=shape))


@settings(deadline=None, max_examples=60)
@given(strategies.discounted_mdps() | strategies.total_reward_mdps(kind="any"), st.integers(0, 99))
def test_every_step_of_a_path_is_one_that_the_model_allows(problem, seed):
    paths = simulate(
        problem,
        random_policy(problem, seed),
        5,
        12,
        np.random.default_rng(seed),
        np.full(problem.n_states, 1 / problem.n_states),
    )
    for episode, t in np.ndindex(paths.actions.shape):
        state, action, after = paths.states[episode, t], paths.actions[episode, t], paths.states[episode, t + 1]
        if problem.terminal[state]:
            assert (action, after, paths.rewards[episode, t]) == (-1, state, 0.0)
            continue
        pair = problem.state_ptr[state] + action
        entries = slice(problem.row_ptr[pair], problem.row_ptr[pair + 1])
        assert problem.state_ptr[state] <= pair < problem.state_ptr[state + 1]
        assert paths.rewards[episode, t] == problem.reward[pair]
        assert after in problem.successor[entries][problem.probability[entries] > 0]


@settings(deadline=None, max_examples=60)
@given(strategies.discounted_mdps(), st.integers(0, 99))
def test_returns_are_the_discounted_sums_of_the_paths_with_the_terminal_value_on_arrival(problem, seed):
    policy, steps, start = random_actions(problem, seed), 7, np.full(problem.n_states, 1 / problem.n_states)
    paths = simulate(problem, policy, 6, steps, np.random.default_rng(seed), start)
    expected = paths.rewards @ problem.discount ** np.arange(steps)
    ended = problem.terminal[paths.states]
    arrival = np.where(ended.any(axis=1), ended.argmax(axis=1), 0)
    worth = problem.terminal_value[paths.states[np.arange(6), arrival]]
    expected += problem.discount**arrival * worth
    # an episode that has ended draws no more numbers, so paths and sums agree
    got = returns(problem, policy, 6, steps, np.random.default_rng(seed), start)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_equal_generators_give_equal_paths_and_different_ones_do_not():
    problem = instances.garnet(states=30)
    policy = random_policy(problem, 0)
    first, second, other = (simulate(problem, policy, 20, 30, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.states, second.states)
    np.testing.assert_array_equal(first.actions, second.actions)
    assert (first.states != other.states).any()


def test_the_generator_moves_on_between_calls():
    problem, rng = instances.garnet(states=30), np.random.default_rng(5)
    assert (
        simulate(problem, random_policy(problem, 0), 5, 9, rng).states
        != simulate(problem, random_policy(problem, 0), 5, 9, rng).states
    ).any()


def test_the_paths_do_not_depend_on_how_the_episodes_are_cut_into_chunks(monkeypatch):
    problem = instances.garnet(states=30)
    whole = simulate(problem, random_policy(problem, 0), 20, 9, np.random.default_rng(1))
    monkeypatch.setattr(sys.modules["banach.mdp.simulate"], "_CHUNK", 25)
    np.testing.assert_array_equal(
        simulate(problem, random_policy(problem, 0), 20, 9, np.random.default_rng(1)).states, whole.states
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_return_of_a_stochastic_policy_estimates_its_exact_discounted_value(seed):
    problem, episodes, steps = instances.garnet(states=20, actions=3, successors=3, discount=0.8, seed=seed), 40_000, 100
    policy = random_policy(problem, seed)
    matrix, reward = dense_chain(problem, policy)
    value = np.linalg.solve(np.eye(20) - 0.8 * matrix, reward)
    largest = np.abs(problem.reward).max() / 0.2
    allowed = hoeffding(episodes, 2 * largest) + 0.8**steps * largest
    mean = returns(problem, policy, episodes, steps, np.random.default_rng(seed)).mean()
    assert abs(mean - problem.initial @ value) <= allowed
    assert allowed < 0.5 * largest


def test_the_mean_return_of_a_reachability_problem_estimates_the_probability():
    problem, episodes = instances.gambler(fortune=3, goal=8, p=0.45, stakes="unit"), 100_000
    mean = returns(problem, np.where(problem.terminal, -1, 0), episodes, 2000, np.random.default_rng(2)).mean()
    exact = float(instances.CATALOGUE["gambler"].answer(fortune=3, goal=8, p=0.45, stakes="unit"))
    assert abs(mean - exact) <= hoeffding(episodes, 1.0)


def test_the_mean_return_of_an_average_reward_problem_estimates_the_gain():
    problem, policy = instances.howard_taxi(), np.array([1, 1, 1])
    mean = returns(problem, policy, 20_000, 400, np.random.default_rng(3), initial=1).mean()
    start_up = 20 / 400  # the bias differs by less than 20 between states
    assert abs(mean - 1588 / 119) <= hoeffding(20_000, 15.0 - 2.75) + start_up


def test_the_mean_return_of_a_staged_policy_estimates_its_finite_horizon_value():
    problem = instances.garnet(states=10, actions=3, successors=3, seed=4).replace(criterion=FiniteHorizon(4, 0.9))
    policy, value = random_actions(problem, 7, stages=4), np.zeros(10)
    for stage in reversed(range(4)):
        chosen = np.zeros(problem.n_pairs)
        chosen[problem.state_ptr[:-1] + policy[stage]] = 1
        matrix, reward = dense_chain(problem, chosen)
        value = reward + 0.9 * matrix @ value
    mean = returns(problem, policy, 50_000, 4, np.random.default_rng(8)).mean()
    assert abs(mean - value[0]) <= hoeffding(50_000, 8 * np.abs(problem.reward).max())


def test_successors_appear_as_often_as_their_probabilities_say():
    law = np.array([0.1, 0.0, 0.25, 0.05, 0.6])
    problem = MDP(
        state_ptr=np.arange(6), row_ptr=np.arange(0, 26, 5), successor=np.tile(np.arange(5), 5), probability=np.tile(law, 5),
        reward=np.zeros(5), criterion=Discounted(0.5),
    )  # fmt: skip
    states = simulate(problem, np.zeros(5, dtype=int), 100_000, 1, np.random.default_rng(9), initial=1).states[:, 1]
    assert np.abs(np.bincount(states, minlength=5) / 100_000 - law).max() <= hoeffding(100_000, 1.0)
    assert not (states == 1).any()


def test_the_first_state_follows_the_initial_distribution():
    problem, law = instances.garnet(states=4, successors=2), np.array([0.0, 0.3, 0.7, 0.0])
    states = simulate(problem, random_policy(problem, 0), 100_000, 0, np.random.default_rng(1), law).states[:, 0]
    assert np.abs(np.bincount(states, minlength=4) / 100_000 - law).max() <= hoeffding(100_000, 1.0)
    assert set(states) == {1, 2}


def test_actions_appear_as_often_as_the_policy_says():
    problem = instances.tied_actions(states=3, actions=3)
    policy = np.tile([0.2, 0.0, 0.8], 3)
    actions = simulate(problem, policy, 1000, 100, np.random.default_rng(1)).actions
    assert np.abs(np.bincount(actions.ravel(), minlength=3) / 100_000 - [0.2, 0.0, 0.8]).max() <= hoeffding(100_000, 1.0)
    assert not (actions == 1).any()


def test_weights_below_the_rounding_of_their_neighbour_are_normalised():
    problem = instances.rare_exit(exponent=100)
    paths = simulate(problem, np.array([0, -1, -1]), 100, 100, np.random.default_rng(1))
    assert (paths.states == 0).all()


def test_no_episodes_and_no_steps_are_empty():
    problem = instances.garnet(states=5, successors=2)
    paths = simulate(problem, random_policy(problem, 0), 0, 3, np.random.default_rng(1))
    assert isinstance(paths, Trajectories)
    assert paths.states.shape == (0, 4)
    assert returns(problem, random_policy(problem, 0), 3, 0, np.random.default_rng(1)).tolist() == [0.0, 0.0, 0.0]


def test_an_episode_that_begins_in_a_terminal_state_is_worth_its_terminal_value():
    problem = instances.end_component_trap()
    assert returns(problem, np.array([0, -1, -1]), 2, 5, np.random.default_rng(1), initial=1).tolist() == [1.0, 1.0]


BAD = {
    "the policy's action 3 is not one of its 2": {"policy": np.array([0, 3, 0])},
    "action -1 is not one of its 2": {"policy": np.array([0, -1, 0])},
    "give an action for each of 3 states": {"policy": np.array([0, 0])},
    "give a probability for each of 6 pairs": {"policy": np.full(3, 0.5)},
    "must sum to 1": {"policy": np.full(6, 0.6)},
    "it must be >= 0": {"policy": np.array([1.5, -0.5, 0.5, 0.5, 0.5, 0.5])},
    "policy probability is nan": {"policy": np.full(6, np.nan)},
    "2 stages for 4 steps": {"policy": np.zeros((2, 3), dtype=int)},
    "initial state 3 is not in": {"initial": 3},
    "no distribution on 3 states": {"initial": np.array([0.5, 0.5, 0.5])},
    "episodes=-1 is not a whole number": {"episodes": -1},
    "steps=2.5 is not a whole number": {"steps": 2.5},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_say_what_is_wrong(message):
    problem = instances.garnet(states=3, actions=2, successors=2)
    request = {"policy": np.zeros(3, dtype=int), "episodes": 2, "steps": 4, "rng": np.random.default_rng(0)} | BAD[message]
    with pytest.raises(ModelError, match=message):
        simulate(problem, **request)


def test_a_problem_without_initial_distribution_asks_for_one():
    problem = instances.garnet(states=3, actions=2, successors=2).replace(initial=None)
    with pytest.raises(ModelError, match="give initial="):
        simulate(problem, np.zeros(3, dtype=int), 1, 1, np.random.default_rng(0))


def test_returns_beyond_the_horizon_are_refused():
    problem = instances.wagner_whitin()
    with pytest.raises(ModelError, match="beyond the horizon, 4"):
        returns(problem, np.where(problem.terminal, -1, 0), 1, 5, np.random.default_rng(0))


def test_total_rewards_are_not_discounted():
    problem = instances.haddad_monmege(n=1, objective="steps")
    assert isinstance(problem.criterion, TotalReward)
    assert returns(problem, np.array([-1, 0, -1]), 3, 10, np.random.default_rng(0)).tolist() == [1.0, 1.0, 1.0]

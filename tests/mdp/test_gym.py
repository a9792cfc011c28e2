"""gymnasium's tables in, environments out."""

import gymnasium
import numpy as np
import pytest
from banach.mdp import MDP, Discounted, FiniteHorizon, ModelError, TotalReward, strategies
from banach.mdp.gym import MDPEnv
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

TABLES = ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4"]


def table_value(table, discount: float, sweeps: int) -> np.ndarray:
    """`sweeps` steps of value iteration on gymnasium's own table, where terminated transitions lead to nothing."""
    value = np.zeros(len(table))
    for _ in range(sweeps):
        value = np.array(
            [
                max(sum(p * (r + discount * value[j] * (not done)) for p, j, r, done in row) for row in actions.values())
                for _, actions in sorted(table.items())
            ]
        )
    return value


def model_value(model: MDP, discount: float, sweeps: int) -> np.ndarray:
    matrix, reward, state_ptr = model.to_sparse()
    value, acting = model.terminal_value.copy(), ~model.terminal
    for _ in range(sweeps):
        value[acting] = np.maximum.reduceat(reward + discount * (matrix @ value), state_ptr[:-1][acting])
    return value


@pytest.mark.parametrize("name", TABLES)
def test_the_model_has_the_values_of_the_table(name):
    env = gymnasium.make(name)
    model, table = MDP.from_gymnasium(env, 0.95), env.unwrapped.P
    expected, found = table_value(table, 0.95, 30), model_value(model, 0.95, 30)[: len(table)]
    ends = model.terminal[: len(table)]
    assert np.allclose(found[~ends], expected[~ends], rtol=0, atol=1e-9)
    assert not found[ends].any()


@pytest.mark.parametrize(
    ("name", "n_states", "n_terminal"),
    [("FrozenLake-v1", 16, 5), ("FrozenLake8x8-v1", 64, 11), ("CliffWalking-v1", 48, 1), ("Taxi-v4", 501, 1)],
)
def test_ends_become_terminal_and_where_that_cannot_be_one_state_is_added(name, n_states, n_terminal):
    model = MDP.from_gymnasium(gymnasium.make(name), 0.9)
    assert model.n_states == n_states
    assert model.terminal.sum() == n_terminal


def test_frozen_lake_is_crossed_with_probability_14_17():
    model = MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"), criterion=TotalReward())
    assert model.initial @ model_value(model, 1.0, 3000) == pytest.approx(14 / 17, abs=1e-9)


def test_the_cliff_is_walked_in_thirteen_steps():
    model = MDP.from_gymnasium(gymnasium.make("CliffWalking-v1"), criterion=TotalReward())
    assert model.initial @ model_value(model, 1.0, 100) == -13


def test_the_initial_distribution_is_kept():
    model = MDP.from_gymnasium(gymnasium.make("Taxi-v4"), 0.9)
    assert model.initial[-1] == 0
    assert np.array_equal(model.initial[:-1], gymnasium.make("Taxi-v4").unwrapped.initial_state_distrib)


class Table(gymnasium.Env):
    """An environment that is nothing but a table."""

    def __init__(self, table, initial=None):
        self.P = table
        if initial is not None:
            self.initial_state_distrib = initial


def test_a_state_where_episodes_begin_is_not_terminal_although_others_end_there():
    table = {0: {0: [(1.0, 1, 5.0, True)]}, 1: {0: [(1.0, 0, 1.0, False)]}}
    model = MDP.from_gymnasium(Table(table, np.array([0.5, 0.5])), 0.5)
    assert model.terminal.tolist() == [False, False, True]
    assert model.successor.tolist() == [2, 0]


def test_a_row_that_ends_and_goes_on_in_one_state_keeps_both_parts():
    table = {0: {0: [(0.25, 0, 1.0, True), (0.5, 0, 2.0, False), (0.25, 0, 3.0, False)]}}
    model = MDP.from_gymnasium(Table(table), 0.5)
    assert model.to_sparse()[0].toarray().tolist() == [[0.75, 0.25]]
    assert model.reward.tolist() == [2.0]


def test_a_name_is_no_environment():
    with pytest.raises(ModelError, match="FrozenLake-v1 has no table"):
        MDP.from_gymnasium("FrozenLake-v1", 0.9)


@pytest.mark.parametrize("name", ["Blackjack-v1", "CartPole-v1"])
def test_an_environment_without_a_table_is_refused_with_the_way_out(name):
    with pytest.raises(ModelError, match=r"no table env\.unwrapped\.P .* MDP\.from_callable"):
        MDP.from_gymnasium(gymnasium.make(name), 0.9)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "has no table"),
        ({1: {0: [(1.0, 1, 0, False)]}}, r"not numbered 0\.\.0"),
        ({0: {0: [(1.0, 2, 0.0, False)]}}, r"P\[0\]\[0\]: successor 2 is not a state"),
        ({0: {0: [(1.0, -1, 0.0, False)]}}, "successor -1 is not a state"),
        ({0: {0: [(1.0, 0.5, 0.0, False)]}}, r"P\[0\]\[0\] holds \(1\.0, 0\.5"),
        ({0: {3: [(-1.0, 0, 0.0, False)]}}, r"P\[0\]\[3\]: the probability to state 0 is -1\.0"),
        ({0: {0: [(float("nan"), 0, 0.0, False)]}}, "is nan"),
        ({0: {0: [(1.0, 0, 0.0)]}}, r"P\[0\]\[0\] holds \(1\.0, 0, 0\.0\)"),
        ({0: {0: [(0.5, 0, 0.0, False)]}}, r"state 0, action 0: the probabilities sum to 0\.5"),
        ({0: {0: []}}, "state 0, action 0: no successors"),
        ({0: {}}, "state 0 has no actions"),
        ({0: {0: [(1.0, 0, float("inf"), False)]}}, "the reward is inf"),
    ],
)
def test_a_broken_table_is_refused_naming_state_and_action(table, message):
    with pytest.raises(ModelError, match=message):
        MDP.from_gymnasium(Table(table), 0.9)


def test_an_initial_distribution_of_another_size_is_refused():
    with pytest.raises(ModelError, match=r"initial_state_distrib has shape \(3,\)"):
        MDP.from_gymnasium(Table({0: {0: [(1.0, 0, 0.0, False)]}}, np.ones(3) / 3), 0.9)


def test_the_environment_passes_gymnasiums_own_checker():
    model = MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"), 0.99)
    check_env(model.to_gymnasium(), skip_render_check=True)


def corridor(criterion, **words) -> MDP:
    """State 0: stay (reward 1) or go; 1: go on. 2 is the end, worth 8."""
    arrays = (np.array([0, 2, 3, 3]), np.array([0, 1, 2, 3]), np.array([0, 1, 2]), np.ones(3), np.array([1.0, 0.0, 2.0]))
    worth = (np.array([False, False, True]), np.array([0, 0, 8.0]))
    return MDP(*arrays, criterion, *worth, **words)


def test_the_terminal_value_is_paid_on_arrival_discounted_once():
    env = corridor(Discounted(0.5), initial=np.array([0, 1.0, 0])).to_gymnasium()
    env.reset(seed=1)
    state, reward, terminated, truncated, _ = env.step(0)
    assert (state, reward, terminated, truncated) == (2, 2.0 + 0.5 * 8.0, True, False)


def test_costs_come_out_negated():
    env = corridor(TotalReward(minimize=True), initial=np.array([0, 1.0, 0])).to_gymnasium()
    env.reset(seed=1)
    assert env.step(0)[1] == -10.0


def test_a_finite_horizon_truncates():
    env = corridor(FiniteHorizon(2), initial=np.array([1.0, 0, 0])).to_gymnasium()
    env.reset(seed=1)
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_the_mask_tells_which_actions_there_are():
    env = corridor(Discounted(0.5), initial=np.array([1.0, 0, 0])).to_gymnasium()
    assert env.reset(seed=1)[1]["action_mask"].tolist() == [1, 1]
    assert env.step(1)[4]["action_mask"].tolist() == [1, 0]
    assert env.step(0)[4]["action_mask"].tolist() == [0, 0]


def test_an_action_that_the_state_has_not_is_refused():
    env = corridor(Discounted(0.5), initial=np.array([0, 1.0, 0])).to_gymnasium()
    env.reset(seed=1)
    for action in (1, -1):
        with pytest.raises(ModelError, match=rf"state 1 has no action {action}; it has 0\.\.0, see info\['action_mask'\]"):
            env.step(action)


def test_steps_outside_an_episode_ask_for_a_reset():
    env = corridor(Discounted(0.5), initial=np.array([0, 1.0, 0])).to_gymnasium()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=1)
    env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


def test_episodes_without_an_initial_distribution_begin_in_every_state_that_acts():
    env = corridor(Discounted(0.5)).to_gymnasium()
    assert {env.reset(seed=seed)[0] for seed in range(20)} == {0, 1}


@pytest.mark.parametrize("initial", [np.array([0, 0.5, 0.5]), np.array([0, 0, 1.0])])
def test_an_episode_that_would_begin_where_it_ends_is_refused(initial):
    with pytest.raises(ModelError, match="state 2 is initial and terminal"):
        MDPEnv(corridor(Discounted(0.5), initial=initial))


def test_a_model_that_is_all_ends_cannot_be_simulated():
    ends = MDP(
        np.zeros(2, int), np.zeros(1, int), np.zeros(0, int), np.zeros(0), np.zeros(0), Discounted(0.5), np.array([True])
    )
    with pytest.raises(ModelError, match="state 0 is initial and terminal"):
        ends.to_gymnasium()


def test_one_seed_gives_one_episode():
    model = MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"), 0.9)

    def episode(seed):
        env = model.to_gymnasium()
        visited = [env.reset(seed=seed)[0]]
        for action in [1, 2, 1, 2, 1, 2, 0, 1, 2, 2]:
            state, _, over, _, _ = env.step(action)
            visited.append(state)
            if over:
                break
        return visited

    assert episode(5) == episode(5)
    assert len({tuple(episode(seed)) for seed in range(10)}) > 1


@settings(deadline=None, max_examples=30)
@given(strategies.discounted_mdps(), st.integers(0, 2**31))
def test_only_possible_transitions_happen(model, seed):
    if model.terminal.all():
        return
    env, matrix = model.replace(initial=None).to_gymnasium(), model.to_sparse()[0].toarray()
    state, info = env.reset(seed=seed)
    for _ in range(20):
        action = int(env.action_space.sample(mask=info["action_mask"]))
        before = state
        state, _, over, _, info = env.step(action)
        assert matrix[model.state_ptr[before] + action, state] > 0
        if over:
            break


def test_frequencies_are_the_probabilities():
    probability = np.array([0.5, 0.0, 0.125, 0.375])
    arrays = np.array([0, 1, 1, 1, 1]), np.array([0, 4]), np.arange(4), probability, np.zeros(1)
    model = MDP(*arrays, Discounted(0.5), np.array([False, True, True, True]))
    env = model.to_gymnasium()
    env.reset(seed=3)
    counts = np.zeros(4)
    for _ in range(20_000):
        env.reset()
        counts[env.step(0)[0]] += 1
    spread = np.sqrt(20_000 * probability * (1 - probability))
    assert (np.abs(counts - 20_000 * probability) <= 5 * spread).all()

"""Dense arrays in both layouts."""

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, ModelError, TotalReward
from hypothesis import given, settings
from hypothesis import strategies as st


def random_arrays(seed: int, n_states: int, n_actions: int):
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(n_states, 0.5), size=(n_states, n_actions))
    transition *= transition > 1e-3
    return transition / transition.sum(axis=2, keepdims=True), rng.normal(size=transition.shape)


def one_step(model: MDP, value: np.ndarray) -> np.ndarray:
    """Action values by plain loops over the model's arrays."""
    out = []
    for pair in range(model.n_pairs):
        entries = range(model.row_ptr[pair], model.row_ptr[pair + 1])
        out.append(model.reward[pair] + sum(model.probability[k] * value[model.successor[k]] for k in entries))
    return np.array(out)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_one_step_agrees_with_the_dense_arrays(seed, n_states, n_actions):
    transition, reward = random_arrays(seed, n_states, n_actions)
    value = np.random.default_rng(seed).normal(size=n_states)
    model = MDP.from_dense(transition, reward, discount=0.9, layout="sas")
    expected = np.einsum("saj,saj->sa", transition, reward) + transition @ value
    assert np.allclose(one_step(model, value), expected.ravel(), rtol=0, atol=1e-12)


def test_both_layouts_give_the_same_model():
    transition, reward = random_arrays(1, 4, 3)
    states_first = MDP.from_dense(transition, reward, discount=0.9)
    actions_first = MDP.from_dense(transition.transpose(1, 0, 2), reward.transpose(1, 0, 2), discount=0.9)
    assert states_first.fingerprint == actions_first.fingerprint


def test_a_shape_that_fits_both_layouts_must_say_which():
    transition, reward = random_arrays(2, 3, 3)
    with pytest.raises(ModelError, match="fits both layouts; say layout"):
        MDP.from_dense(transition, reward[:, :, 0], discount=0.9)
    models = [
        MDP.from_dense(given, reward[:, :, 0], discount=0.9, layout=layout).fingerprint
        for given, layout in ((transition, "sas"), (transition.transpose(1, 0, 2), "ass"))
    ]
    assert models[0] == models[1]


def test_rewards_of_states_are_those_of_all_their_actions():
    transition, _ = random_arrays(3, 4, 2)
    model = MDP.from_dense(transition, np.arange(4.0), discount=0.9)
    assert model.reward.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_minus_infinity_forbids_an_action_and_names_keep_the_numbers_of_the_others():
    transition, reward = random_arrays(4, 3, 2)
    table = reward[:, :, 0].copy()
    table[1, 0] = -np.inf
    model = MDP.from_dense(transition, table, discount=0.9)
    assert np.diff(model.state_ptr).tolist() == [2, 1, 2]
    assert model.action_of(1, 0) == "1"


def test_forbidding_every_action_of_a_state_is_refused():
    transition, reward = random_arrays(5, 3, 2)
    table = reward[:, :, 0].copy()
    table[2] = -np.inf
    with pytest.raises(ModelError, match="state 2: every action is forbidden"):
        MDP.from_dense(transition, table, discount=0.9)


def test_rows_of_terminal_states_are_ignored_and_their_values_kept():
    transition, reward = random_arrays(6, 3, 2)
    transition[2] = np.nan
    model = MDP.from_dense(transition, reward, criterion=TotalReward(), terminal={2: 5.0})
    assert model.terminal.tolist() == [False, False, True]
    assert model.terminal_value.tolist() == [0, 0, 5]


def test_what_an_impossible_step_would_earn_does_not_count():
    transition = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    reward = np.array([[[2.0, np.inf]], [[np.nan, 3.0]]])
    assert MDP.from_dense(transition, reward, discount=0.5).reward.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("transition", "reward", "words", "message"),
    [
        (np.ones((2, 2)), np.zeros(2), {}, r"transition has shape \(2, 2\)"),
        (np.ones((2, 3, 4)), np.zeros(2), {}, "is not of layout sas or ass"),
        (np.full((2, 1, 2), 0.5), np.zeros(3), {}, r"reward has shape \(3,\); it must be \(2,\), \(2, 1\)"),
        (np.full((2, 1, 2), 0.5), np.zeros((2, 1)), {"layout": "ass"}, "is not of layout ass"),
        (np.full((2, 1, 2), np.nan), np.zeros(2), {}, "state 0, action 0: the probability to state 0 is nan"),
        (np.full((2, 1, 2), 0.4), np.zeros(2), {}, "state 0, action 0: the probabilities sum to 0.8"),
        (np.full((2, 1, 2), 0.5), np.array([0, np.inf]), {}, "state 1, action 0: the reward is inf"),
        (np.full((2, 1, 2), 0.5), np.zeros(2), {"terminal": [2]}, r"terminal state 2 is not in 0\.\.1"),
        (np.full((2, 1, 2), 0.5), np.zeros(2), {"initial": [0.5, 0.6]}, "the initial distribution sums to"),
        ([[1, 2], [3]], np.zeros(2), {}, "transition is no array of real numbers"),
        (np.full((2, 1, 2), 0.5), ["a", "b"], {}, "reward is no array of real numbers"),
        (np.full((2, 1, 2), 0.5j), np.zeros(2), {}, "transition is no array of real numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(transition, reward, words, message):
    with pytest.raises(ModelError, match=message):
        MDP.from_dense(transition, reward, criterion=Discounted(0.9), **words)

"""Models explored from a Python function."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, ModelError, TotalReward, strategies
from hypothesis import given, settings


def walk(state):
    """A walk on 0..4 that ends at both ends, where 4 pays 10."""
    if state in (0, 4):
        return 10.0 if state == 4 else {}
    return {"left": [(1.0, state - 1, -1.0)], "try": [(0.5, state + 1, 2.0), (0.5, state - 1, 0.0)]}


def test_states_are_found_breadth_first_and_named():
    model = MDP.from_callable(walk, [2], criterion=TotalReward())
    assert model.state_names == ("2", "1", "3", "0", "4")
    assert model.action_names == ("left", "try") * 3


def test_ends_are_terminal_with_the_value_returned():
    model = MDP.from_callable(walk, [2], criterion=TotalReward())
    assert model.terminal.tolist() == [False, False, False, True, True]
    assert model.terminal_value.tolist() == [0, 0, 0, 0, 10]


def test_rewards_are_means_over_successors():
    assert MDP.from_callable(walk, [2], criterion=TotalReward()).reward.tolist() == [-1, 1, -1, 1, -1, 1]


def test_several_initial_states_are_equally_likely_and_a_mapping_gives_their_probabilities():
    assert MDP.from_callable(walk, [1, 3, 1], 0.9).initial.tolist() == [0.5, 0.5, 0, 0, 0]
    assert MDP.from_callable(walk, {3: 0.25, 1: 0.75}, 0.9).initial.tolist() == [0.25, 0.75, 0, 0, 0]


def test_equal_successors_are_merged_and_impossible_ones_not_followed():
    def step(state):
        return {0: [(0.1, "a", 1.0), (0.2, "a", 4.0), (0.7, "b", 0.0), (0.0, "nowhere", 1e9)]}

    model = MDP.from_callable(step, ["a"], 0.9)
    assert model.state_names == ("a", "b")
    assert model.probability[:2].tolist() == [0.30000000000000004, 0.7]
    assert model.reward[0] == float(Fraction(0.1) + 4 * Fraction(0.2))


def test_states_and_actions_may_be_any_hashable_objects():
    def step(state):
        return {frozenset({1}): [(1.0, (state[0], None), 0.0)], None: [(1.0, ("x", 3.5), 0.0)]}

    model = MDP.from_callable(step, [("x", 3.5)], 0.9)
    assert model.state_names == ("('x', 3.5)", "('x', None)")
    assert model.action_names == ("frozenset({1})", "None") * 2


@settings(deadline=None, max_examples=40)
@given(strategies.discounted_mdps())
def test_exploring_a_model_from_every_state_gives_its_transition_matrix_back(model):
    def step(state):
        if model.terminal[state]:
            return model.terminal_value[state]
        actions = {}
        for pair in range(model.state_ptr[state], model.state_ptr[state + 1]):
            entries = range(model.row_ptr[pair], model.row_ptr[pair + 1])
            actions[pair] = [(model.probability[k], int(model.successor[k]), model.reward[pair]) for k in entries]
        return actions

    again = MDP.from_callable(step, range(model.n_states), criterion=model.criterion)
    assert np.allclose(again.to_sparse()[0].toarray(), model.to_sparse()[0].toarray(), rtol=1e-15, atol=0)
    assert np.allclose(again.reward, model.reward, rtol=1e-9, atol=0)
    assert np.array_equal(again.terminal_value, model.terminal_value)


def test_an_unbounded_state_space_is_cut_off_with_the_state_that_was_too_many():
    with pytest.raises(ModelError, match=r"more than 5 states can be reached, the last 5 from 4; bound .* or raise max_states"):
        MDP.from_callable(lambda s: {"on": [(1.0, s + 1, 0.0)]}, [0], 0.9, max_states=5)


def test_as_many_states_as_allowed_are_explored():
    assert MDP.from_callable(walk, [2], 0.9, max_states=5).n_states == 5


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "returned None; return a mapping"),
        (True, "returned True"),
        ([(1.0, 0, 0.0)], "return a mapping"),
        ({"a": 3}, "action 'a': 3 is no list of"),
        ({"a": "word"}, "action 'a': 'word' is no list of"),
        ({"a": [(1.0, 0)]}, r"action 'a': \(1\.0, 0\) is no \(probability, successor, reward\)"),
        ({"a": [("much", 0, 0.0)]}, "is no .probability, successor, reward."),
        ({"a": [(1.0, 0, None)]}, "is no .probability, successor, reward."),
        ({"a": [(-0.5, 0, 0.0), (1.5, 0, 0.0)]}, r"state 0, action 'a': the probability to 0 is -0\.5"),
        ({"a": [(float("nan"), 0, 0.0)]}, "the probability to 0 is nan"),
        ({"a": [(1.0, [0], 0.0)]}, r"state \[0\] cannot be a key .* use a tuple"),
        ({"a": [(0.5, 0, 0.0)]}, r"state 0 \(0\), action a: the probabilities sum to 0\.5"),
        ({"a": []}, r"state 0 \(0\), action a: no successors are given"),
        ({"a": [(1.0, 0, float("inf"))]}, r"state 0 \(0\), action a: the reward is inf"),
        (float("nan"), "terminal_value of state 0 is nan"),
    ],
)
def test_what_step_may_not_return_is_refused_naming_state_and_action(answer, message):
    with pytest.raises(ModelError, match=message):
        MDP.from_callable(lambda state: answer, [0], 0.9)


@pytest.mark.parametrize(
    ("initial", "message"),
    [([], "initial is empty"), (7, "initial is 7"), ([[1]], "initial is"), ({0: 0.5}, "the initial distribution sums to")],
)
def test_initial_states_that_are_none_are_refused(initial, message):
    with pytest.raises(ModelError, match=message):
        MDP.from_callable(lambda state: 0.0, initial, 0.9)


def test_what_step_raises_passes_through():
    def step(state):
        raise KeyError("my own")

    with pytest.raises(KeyError, match="my own"):
        MDP.from_callable(step, [0], 0.9)

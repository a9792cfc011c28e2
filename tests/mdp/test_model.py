"""What is no decision problem is refused by name and number; what is one never changes."""

import dataclasses

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, Discounted, FiniteHorizon, ModelError, TotalReward, instances, strategies
from hypothesis import given, settings


def fields(**changes):
    """Two acting states and a terminal one: state 0 with two actions, state 1 with one."""
    plain = {
        "state_ptr": np.array([0, 2, 3, 3]),
        "row_ptr": np.array([0, 2, 3, 4]),
        "successor": np.array([0, 1, 2, 0]),
        "probability": np.array([0.25, 0.75, 1.0, 1.0]),
        "reward": np.array([1.0, 2.0, 3.0]),
        "criterion": Discounted(0.9),
        "terminal": np.array([False, False, True]),
        "terminal_value": np.array([0.0, 0.0, 5.0]),
    }
    return plain | changes


def changed(name, place, number):
    array = fields()[name].copy()
    array[place] = number
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("probability", 1, np.nan), "state 0, action 0: the probability to state 1 is nan"),
        (changed("probability", 2, np.inf), "state 0, action 1: the probability to state 2 is inf"),
        (changed("probability", 0, -0.25), r"state 0, action 0: the probability to state 0 is -0\.25; it must not be negative"),
        (changed("probability", 3, 0.5), r"state 1, action 0: the probabilities sum to 0\.5; they must sum to 1 within 1e-09"),
        (changed("probability", 3, 1 + 2e-9), r"state 1, action 0: the probabilities sum to 1\.000000002"),
        (changed("reward", 2, np.nan), "state 1, action 0: the reward is nan"),
        (changed("reward", 1, -np.inf), "state 0, action 1: the reward is -inf; it must be finite"),
        (changed("successor", 2, 3), r"state 0, action 1: successor 3 is not a state; states are 0\.\.2"),
        (changed("successor", 0, -1), "state 0, action 0: successor -1 is not a state"),
        (changed("row_ptr", 2, 2), "state 0, action 1: no successors are given"),
        (changed("terminal_value", 2, np.nan), "terminal_value of state 2 is nan"),
        (changed("terminal_value", 1, 4.0), r"state 1 has terminal value 4\.0 but is not terminal"),
        (changed("terminal", 2, False), "state 2 has no actions; give it one, or declare it terminal"),
        (changed("terminal", 1, True), "state 1 is terminal but has actions"),
        (changed("state_ptr", 1, 4), r"state_ptr\[2\] is smaller than the entry before"),
        (changed("state_ptr", 0, 1), "state_ptr must begin with 0"),
        (changed("state_ptr", 3, 4), "state_ptr ends with 4, but row_ptr has rows: 3"),
        (changed("row_ptr", 3, 5), "row_ptr ends with 5, but successor has entries: 4"),
        ({"row_ptr": np.array([], dtype=int)}, "row_ptr"),
        ({"state_ptr": np.array([], dtype=int)}, "state_ptr must begin with 0"),
        ({"reward": np.zeros(2)}, "reward has 2 entries; it needs 3"),
        ({"probability": np.ones(3)}, "probability has 3 entries; it needs 4"),
        ({"reward": np.zeros((3, 1))}, r"reward has shape \(3, 1\); it must be one-dimensional"),
        ({"reward": np.array(["a", "b", "c"])}, "reward holds <U1; it must hold real numbers"),
        ({"reward": np.zeros(3, dtype=complex)}, "reward holds complex128"),
        ({"successor": np.array([0.0, 1, 2, 0])}, "successor holds float64; it must hold integers"),
        ({"successor": np.array([0, 1, 2**31, 0])}, "successor holds 2147483648, beyond"),
        ({"terminal": np.array([0, 0, 1])}, "terminal holds int64; it must hold booleans"),
        ({"terminal": np.array([True])}, r"terminal has shape \(1,\)"),
        ({"initial": np.array([0.5, 0.25, 0.0])}, r"the initial distribution sums to .*0\.75"),
        ({"initial": np.array([1.5, -0.5, 0.0])}, r"initial probability of state 1 is -0\.5"),
        ({"initial": np.array([np.nan, 0.5, 0.5])}, "initial of state 0 is nan"),
        ({"initial": np.array([1.0])}, r"initial has shape \(1,\)"),
        ({"labels": {"goal": np.array([True])}}, r"label 'goal' has shape \(1,\)"),
        ({"labels": {"goal": np.array([1, 2, 3])}}, "label 'goal' holds int64; it must hold booleans"),
        ({"state_names": ["a"]}, "state_names has 1 names for 3"),
        ({"action_names": ["a"] * 4}, "action_names has 4 names for 3"),
        ({"criterion": AverageReward()}, "state 2 is terminal, where the average reward has no meaning"),
    ],
)
def test_what_is_no_model_is_refused_by_name_and_number(changes, message):
    with pytest.raises(ModelError, match=message):
        MDP(**fields(**changes))


def test_messages_use_the_names_of_states_and_actions():
    names = {"state_names": ["home", "road", "end"], "action_names": ["stay", "leave", "walk"]}
    with pytest.raises(ModelError, match=r"state 1 \(road\), action walk: the probabilities sum to 0\.5"):
        MDP(**fields(**names, **changed("probability", 3, 0.5)))


def test_a_row_sum_within_1e_9_of_one_is_kept_as_it_is():
    model = MDP(**fields(**changed("probability", 3, 1 + 5e-10)))
    assert model.probability[3] == 1 + 5e-10


@pytest.mark.parametrize("discount", [-0.1, 1.5, np.nan, np.inf, "0.9", None, True])
@pytest.mark.parametrize("kind", [Discounted, lambda g: FiniteHorizon(3, g)])
def test_a_discount_outside_the_unit_interval_is_refused(kind, discount):
    with pytest.raises(ModelError, match=r"discount .* is not a number in \[0, 1\]"):
        kind(discount)


def test_discount_one_is_referred_to_the_criteria_that_have_a_value():
    with pytest.raises(ModelError, match=r"TotalReward\(\) or AverageReward\(\)"):
        Discounted(1.0)


@pytest.mark.parametrize("horizon", [-1, 2.5, True])
def test_a_horizon_that_counts_nothing_is_refused(horizon):
    with pytest.raises(ModelError, match=f"horizon {horizon!r} is not a number of decisions"):
        FiniteHorizon(horizon)


def test_an_integer_discount_is_the_same_criterion_as_the_float():
    assert MDP(**fields(criterion=Discounted(0))).fingerprint == MDP(**fields(criterion=Discounted(0.0))).fingerprint


def test_a_builder_wants_exactly_one_of_discount_and_criterion():
    for words in ({}, {"discount": 0.5, "criterion": TotalReward()}):
        with pytest.raises(ModelError, match="exactly one of discount"):
            MDP.from_dense(np.ones((1, 1, 1)), np.ones((1, 1)), layout="sas", **words)


@pytest.mark.parametrize("name", ["state_ptr", "row_ptr", "successor", "probability", "reward", "terminal", "terminal_value"])
def test_arrays_cannot_be_written(name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(MDP(**fields()), name)[0] = 1


def test_a_field_cannot_be_assigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MDP(**fields()).reward = np.zeros(3)


def test_labels_cannot_be_changed():
    model = MDP(**fields(labels={"goal": np.array([False, False, True])}))
    with pytest.raises(TypeError):
        model.labels["goal"] = np.ones(3, dtype=bool)
    with pytest.raises(ValueError, match="read-only"):
        model.labels["goal"][0] = True


def test_a_view_that_is_given_is_copied_so_that_its_owner_cannot_change_the_model():
    owner = np.array([9.0, 1.0, 2.0, 3.0])
    model = MDP(**fields(reward=owner[1:]))
    owner[1] = 7.0
    assert model.reward[0] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        changed("probability", 0, 0.25 + 2**-54),
        changed("successor", 2, 1),
        changed("reward", 1, np.nextafter(2.0, 3.0)),
        changed("reward", 0, -1.0),
        changed("terminal_value", 2, 5.5),
        {"row_ptr": np.array([0, 1, 3, 4]), "probability": np.array([1.0, 0.75, 0.25, 1.0])},
        {"state_ptr": np.array([0, 1, 3, 3])},
        {"criterion": Discounted(0.9, minimize=True)},
        {"criterion": Discounted(np.nextafter(0.9, 1.0))},
        {"criterion": FiniteHorizon(4, 0.9)},
        {"criterion": FiniteHorizon(5, 0.9)},
        {"criterion": TotalReward()},
    ],
)
def test_the_fingerprint_changes_with_each_number_that_the_value_depends_on(changes):
    assert MDP(**fields(**changes)).fingerprint != MDP(**fields()).fingerprint


def test_the_fingerprint_does_not_depend_on_what_the_value_does_not():
    told = fields(initial=np.array([1.0, 0, 0]), labels={"a": np.ones(3, dtype=bool)}, state_names=["x", "y", "z"])
    assert MDP(**told).fingerprint == MDP(**fields()).fingerprint


@settings(deadline=None, max_examples=30)
@given(strategies.discounted_mdps() | strategies.total_reward_mdps() | strategies.finite_horizon_mdps())
def test_negation_is_an_involution(model):
    assert model.negated().fingerprint != model.fingerprint
    assert model.negated().negated().fingerprint == model.fingerprint


def test_sizes_are_those_of_the_arrays():
    model = MDP(**fields())
    assert (model.n_states, model.n_pairs, model.n_transitions) == (3, 3, 4)
    assert model.pair_state.tolist() == [0, 0, 1]


def test_a_small_model_is_shown_in_full_and_a_large_one_by_its_size():
    small, large = instances.forest(), instances.garnet(states=50, actions=2, successors=3)
    assert repr(small).startswith("MDP(state_ptr=array([0, 2, 4, 6]")
    assert "criterion=Discounted(discount=0.9, minimize=False)" in repr(small)
    assert repr(large) == "<MDP of 50 states, 100 actions in all, 300 transitions, Discounted(discount=0.95, minimize=False)>"

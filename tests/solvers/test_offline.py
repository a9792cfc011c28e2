"""Logged episodes on histories and on their classes: stitching, closed forms, pessimism, and the price of merging."""

import numpy as np
import pytest
from banach.mdp import Trajectories, quotient, simulate
from banach.mdp.history import history_tree
from banach.mdp.instances_pomdp import noisy_chain, stitching, t_maze
from banach.mdp.pomdp import POMDP, Episodes
from banach.mdp.quotient import Partition
from banach.solvers import (
    SolveError,
    behaviour_cloning,
    classes_from_data,
    coarsest_bisimulation,
    merge_states,
    pessimistic_value_iteration,
    price_of_merging,
    solve,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def test_stitching_fails_on_histories_and_works_on_classes():
    """From the first start only failure was logged, from the second only success."""
    tree = history_tree(stitching())
    data = tree.trajectories(Episodes(np.array([[0, 2], [1, 2]]), np.array([[0, 0], [0, 1]]), np.array([[0, 0], [0, 1.0]])))
    classes, n = coarsest_bisimulation(tree.model), tree.model.n_states
    plan = pessimistic_value_iteration(data, n, 2, pessimism=0)
    merged = pessimistic_value_iteration(merge_states(data, classes), classes.n_classes, 2, pessimism=0)
    start = tree.number[(0,)]
    assert tree.value(plan.policy)[start] == tree.value(behaviour_cloning(data, n, 2))[start] == 0
    assert plan.value[0, start] == 0
    assert tree.value(merged.lift(classes))[start] == merged.value[0, classes.states[start]] == 1


@pytest.mark.parametrize(("episodes", "on_histories"), [(4, 0.004), (64, 0.061), (1024, 0.632)])
def test_the_gap_between_histories_and_classes_is_the_closed_form(episodes, on_histories):
    """512 equally likely histories, as action 0 is logged before the last decision, where both are.

    Whether the good action was seen is negatively correlated from history to history, variance <= 1/4: the mean of 40 * 512 of
    them is off by 0.02 with probability below 1e-7.
    """
    tree = history_tree(noisy_chain(8, 3))
    logged = np.where(tree.steps[tree.model.pair_state] == 2, 0.5, np.tile([1.0, 0.0], tree.model.n_pairs // 2))
    classes, n = coarsest_bisimulation(tree.model), tree.model.n_states
    closed = 1 - (1 - 1 / 1024) ** episodes
    assert closed == pytest.approx(on_histories, abs=5e-4)
    found = np.empty((40, 2))
    for i, rng in enumerate(np.random.default_rng(7).spawn(40)):
        data = simulate(tree.model, logged, episodes, 3, rng)
        plan = pessimistic_value_iteration(data, n, 2, pessimism=0)
        merged = pessimistic_value_iteration(merge_states(data, classes), classes.n_classes, 2, pessimism=0)
        found[i] = tree.worth(plan.policy), tree.worth(merged.lift(classes))
    assert found[:, 0].mean() == pytest.approx(closed, abs=0.02)
    assert found[:, 1].mean() == pytest.approx(1 - 2.0**-episodes, abs=0.2 if episodes == 4 else 1e-12)


def plain(data, n_states, n_actions, c, delta):
    """Pessimistic value iteration as it is written, cell by cell."""
    horizon = data.actions.shape[1]
    value = np.zeros((horizon + 1, n_states))
    policy = np.zeros((horizon, n_states), dtype=int)
    for h in reversed(range(horizon)):
        for z in range(n_states):
            scores = []
            for a in range(n_actions):
                targets = [
                    data.rewards[i, h] + value[h + 1, data.states[i, h + 1]]
                    for i in range(len(data.actions))
                    if data.states[i, h] == z and data.actions[i, h] == a
                ]
                n = len(targets)
                bonus = c * horizon * np.sqrt(np.log(2 * horizon * n_states * n_actions / delta) / max(n, 1))
                scores.append((min(max(sum(targets) / n - bonus, 0), horizon - h) if n else 0.0, n, -a))
            value[h, z], _, chosen = max(scores)
            policy[h, z] = -chosen
    return policy, value


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 1.0]))
def test_pessimistic_value_iteration_is_what_is_written(seed, c):
    rng = np.random.default_rng(seed)
    states, actions = rng.integers(4, size=(30, 4)), rng.integers(-1, 2, size=(30, 3))
    data = Trajectories(states, actions, rng.integers(0, 3, size=(30, 3)) / 2)
    plan = pessimistic_value_iteration(data, 4, 2, pessimism=c, delta=0.2)
    policy, value = plain(data, 4, 2, c, 0.2)
    np.testing.assert_allclose(plan.value, value, atol=1e-12)
    np.testing.assert_array_equal(plan.policy, policy)
    assert plan.count.sum() == (actions >= 0).sum()


def test_cloning_does_what_was_done_most():
    data = Trajectories(np.zeros((3, 2), dtype=int), np.array([[1], [1], [0]]), np.zeros((3, 1)))
    np.testing.assert_array_equal(behaviour_cloning(data, 2, 3), [[1, 0]])


def rows(rng, *shape):
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def drawn(seed, horizon):
    rng = np.random.default_rng(seed)
    return POMDP(rows(rng, 3, 2, 3), rng.random((3, 2)), rows(rng, 3, 2), rows(rng, 1, 3)[0], horizon)


def test_a_pessimistic_value_is_below_that_of_its_policy():
    """100 data sets of 4000 episodes, a tenth of which may fail by the choice of delta; the values are not trivial."""
    tree = history_tree(drawn(1, 2))
    n = tree.model.n_states
    start = np.asarray(tree.model.initial)
    promised, kept = np.empty(100), np.empty(100)
    for i, rng in enumerate(np.random.default_rng(2).spawn(100)):
        data = simulate(tree.model, np.full(tree.model.n_pairs, 0.5), 4000, 2, rng)
        plan = pessimistic_value_iteration(data, n, 2)
        promised[i], kept[i] = start @ plan.value[0], tree.worth(plan.policy)
    assert (promised <= kept).mean() >= 0.9
    assert promised.min() > 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_merging_costs_no_more_than_its_price(seed, classes):
    """Histories merged at random inside each decision."""
    tree = history_tree(drawn(seed, 3))
    rng = np.random.default_rng(seed)
    partition = tree.merged(zip(tree.steps[:-1].tolist(), rng.integers(classes, size=tree.model.n_states - 1), strict=True))
    merged = quotient(tree.model, partition, np.ones(tree.model.n_states))
    best, small = solve(tree.model, eps=1e-9), solve(merged.model, eps=1e-9)
    price = price_of_merging(tree, merged, small.value)[tree.steps]
    value = tree.value(best.policy)
    assert (np.abs(value - merged.lift_value(small.value)) <= price + 1e-8).all()
    assert (value - tree.value(merged.lift_policy(small.policy)) <= 2 * price + 1e-8).all()


def test_merging_bisimilar_histories_is_free_and_all_of_a_decision_is_not():
    tree = history_tree(drawn(4, 2))
    for partition, free in (
        (coarsest_bisimulation(tree.model), True),
        (tree.merged(tree.steps[:-1].tolist()), False),
    ):
        merged = quotient(tree.model, partition, np.ones(tree.model.n_states))
        price = price_of_merging(tree, merged, solve(merged.model).value)
        assert price[-1] == 0
        assert (price[0] < 1e-12) == free


def test_much_data_tell_the_classes_that_there_are_and_little_tell_nothing():
    tree = history_tree(t_maze(1))
    known, n = coarsest_bisimulation(tree.model), tree.model.n_states
    both = np.full(tree.model.n_pairs, 0.5)
    found = classes_from_data(tree, simulate(tree.model, both, 30_000, tree.horizon, np.random.default_rng(0)))
    np.testing.assert_array_equal(found.states, known.states)
    nothing = classes_from_data(tree, simulate(tree.model, both, 1, tree.horizon, np.random.default_rng(0)))
    assert nothing == tree.merged(tree.steps[:-1].tolist())
    assert known.n_classes < n


@pytest.mark.parametrize(("episodes", "delta"), [(10, 0.1), (40, 0.02)])
def test_classes_part_where_means_are_two_hoeffding_radii_apart(episodes, delta):
    """Both starts of `stitching`, then action 1 at the same place with rewards 0 after one and r after the other."""
    tree = history_tree(stitching())
    radii = 2 * np.sqrt(np.log(2 / delta) / (2 * episodes))
    for reward, parted in ((radii - 1e-9, False), (radii + 1e-9, True)):
        starts = np.repeat([0, 1], episodes)
        seen = np.stack([starts, np.full_like(starts, 2)], axis=1)
        pays = np.stack([np.zeros(2 * episodes), reward * starts], axis=1)
        data = tree.trajectories(Episodes(seen, np.tile([0, 1], (2 * episodes, 1)), pays))
        found = classes_from_data(tree, data, delta=delta).states
        assert (found[tree.number[(0, 0, 2)]] != found[tree.number[(1, 0, 2)]]) == parted
        # The starts' laws of the next class are then 2 apart, two Weissman radii of 2 classes are less where episodes are many.
        wide = 2 * np.sqrt(2 * (2 * np.log(2) + np.log(1 / delta)) / episodes)
        assert (found[tree.number[(0,)]] != found[tree.number[(1,)]]) == (parted and wide < 2)


def test_a_history_that_was_never_seen_is_in_the_largest_class_not_in_that_of_the_most_visited_history():
    """After beginnings 0 (50 episodes, reward 1), and 1 and 2 (40 each, reward 0, one class of 80); none begins with 3."""
    tree = history_tree(noisy_chain(4, 2))
    starts = np.repeat([0, 1, 2], [50, 40, 40])
    seen, done = np.stack([starts, np.zeros_like(starts)], axis=1), np.tile([0, 1], (130, 1))
    pays = np.stack([np.zeros(130), (starts == 0).astype(float)], axis=1)
    found = classes_from_data(tree, tree.trajectories(Episodes(seen, done, pays))).states
    most, one, other, never = (found[tree.number[(k, 0, 0)]] for k in range(4))
    assert most != one
    assert one == other == never


def test_what_does_not_fit_is_refused():
    data = Trajectories(np.zeros((2, 3), dtype=int), np.zeros((2, 2), dtype=int), np.zeros((2, 2)))
    for words, call in {
        "decision 1": lambda: pessimistic_value_iteration(Trajectories(data.states, data.actions, data.rewards - [0, 1]), 1, 1),
        "pessimism is -1": lambda: pessimistic_value_iteration(data, 1, 1, pessimism=-1),
        "delta 1": lambda: pessimistic_value_iteration(data, 1, 1, delta=1),
        "have shapes": lambda: behaviour_cloning(Trajectories(data.states[:, 1:], data.actions, data.rewards), 1, 1),
        "visit states 0 to 0": lambda: behaviour_cloning(data, 0, 1),
        "actions 0 to 0": lambda: behaviour_cloning(data, 1, 0),
    }.items():
        with pytest.raises(SolveError, match=words):
            call()
    tree = history_tree(stitching())
    together = quotient(tree.model, Partition.by_position(tree.model, np.array([0] * (tree.model.n_states - 1) + [1])))
    with pytest.raises(SolveError, match="different lengths"):
        price_of_merging(tree, together, np.zeros(2))
    with pytest.raises(SolveError, match="delta is 0"):
        classes_from_data(tree, data, delta=0)

"""Observation histories: their tree is the belief-state problem, equal beliefs are bisimilar, and episodes are its paths."""

import itertools
from collections import Counter

import numpy as np
import pytest
from banach.mdp import ModelError, quotient
from banach.mdp.history import history_tree
from banach.mdp.instances_pomdp import noisy_chain, stitching, t_maze
from banach.mdp.pomdp import POMDP, episodes, uniform
from banach.solvers import coarsest_bisimulation, solve, stability
from hypothesis import given, settings
from hypothesis import strategies as st


def rows(rng, *shape):
    weights = rng.integers(0, 3, size=shape) + np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
    return weights / weights.sum(axis=-1, keepdims=True)


def drawn(seed, horizon=3):
    rng = np.random.default_rng(seed)
    return POMDP(rows(rng, 3, 2, 3), rng.integers(-4, 5, size=(3, 2)) / 4, rows(rng, 3, 2), rows(rng, 3), horizon)


def with_noise_bit(problem):
    """Each observation comes with an independent fair bit."""
    seen = np.repeat(problem.observation, 2, axis=1) / 2
    return POMDP(problem.transition, problem.reward, seen, problem.initial, problem.horizon)


def optimum(problem, law, h=0):
    """Belief-state dynamic programming in floats; `law` is that of the state before it is seen, not normalised."""
    if h == problem.horizon:
        return 0.0
    parts = law * problem.observation.T
    return sum(
        max(part @ problem.reward[:, a] + optimum(problem, part @ problem.transition[:, a], h + 1) for a in range(2))
        for part in parts
        if part.any()
    )


SEEDS = st.integers(0, 10_000)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_tree_is_worth_what_belief_state_programming_finds(seed):
    problem = drawn(seed)
    tree = history_tree(problem)
    policy = solve(tree.model, eps=1e-10).policy
    assert tree.worth(policy) == pytest.approx(optimum(problem, problem.initial), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_equal_beliefs_are_bisimilar_and_classes_are_no_more_than_beliefs(seed):
    tree = history_tree(drawn(seed))
    beliefs, coarsest = tree.by_belief(), coarsest_bisimulation(tree.model)
    assert stability(tree.model, beliefs)
    assert len(set(zip(beliefs.states, coarsest.states, strict=True))) == beliefs.n_classes
    for c in range(coarsest.n_classes):
        assert len(set(tree.steps[coarsest.states == c])) == 1


def test_a_noise_bit_grows_the_tree_and_not_the_classes():
    rng = np.random.default_rng(5)
    problem = POMDP(
        rng.dirichlet(np.ones(3), (3, 2)), rng.random((3, 2)), rng.dirichlet(np.ones(2), 3), rng.dirichlet(np.ones(3)), 3
    )
    plain, noisy = history_tree(problem), history_tree(with_noise_bit(problem))
    assert [Counter(tree.steps)[h] for tree in (plain, noisy) for h in range(3)] == [2, 8, 32, 4, 32, 256]
    for partition in (noisy.by_belief(), coarsest_bisimulation(noisy.model)):
        layers = noisy.steps[np.unique(partition.states, return_index=True)[1]]
        assert [Counter(layers)[h] for h in range(3)] == [2, 8, 32]


def test_beliefs_are_sufficient_and_not_necessary():
    """A hidden coin that earns nothing splits beliefs and not classes."""
    stay, seen = np.eye(2)[:, None].repeat(2, 1), np.array([[0.75, 0.25], [0.25, 0.75]])
    tree = history_tree(POMDP(stay, np.ones((2, 2)), seen, np.full(2, 0.5), 3))
    assert coarsest_bisimulation(tree.model, rational=True).n_classes == 4 < tree.by_belief().n_classes


def test_the_noisy_chain_has_one_class_a_decision():
    tree = history_tree(noisy_chain(4, 3))
    assert Counter(tree.steps)[2] == 4**3 * 2**2
    assert coarsest_bisimulation(tree.model).n_classes == 4


def test_the_maze_is_solved_by_the_cue():
    tree = history_tree(t_maze(2))
    assert tree.worth(solve(tree.model).policy) == 1.0
    assert tree.worth(np.zeros(tree.model.n_states, dtype=int)) == 0.5
    merged = quotient(tree.model, coarsest_bisimulation(tree.model))
    assert merged.model.n_states == 2 * 4 + 1


def test_episodes_are_paths_of_the_tree_with_its_probabilities():
    """20 000 episodes, each first history within 6 standard deviations: false alarms below 1e-7."""
    problem, n = drawn(3), 20_000
    tree = history_tree(problem)
    paths = tree.trajectories(episodes(problem, uniform(problem), n, np.random.default_rng(0)))
    for h, counts in enumerate(np.bincount(paths.states[:, h], minlength=tree.model.n_states) for h in range(3)):
        probability = reached(tree)[h]
        assert (np.abs(counts - n * probability) <= 6 * np.sqrt(n * probability * (1 - probability)) + 1e-9).all()
    assert (paths.states[:, 3] == tree.model.n_states - 1).all()


def reached(tree):
    matrix, _, _ = tree.model.to_sparse()
    law, found = np.asarray(tree.model.initial), []
    for _ in range(tree.horizon):
        found.append(law)
        law = (law[tree.model.pair_state] / 2) @ matrix
    return found


def test_a_policy_is_worth_what_enumeration_says():
    problem = drawn(8, horizon=2)
    tree = history_tree(problem)
    policy = np.random.default_rng(0).integers(2, size=tree.model.n_states)
    total = 0.0
    for s, o, t, u in itertools.product(range(3), range(2), range(3), range(2)):
        first = problem.initial[s] * problem.observation[s, o]
        if not first:
            continue
        a = policy[tree.number[(o,)]]
        second = first * problem.transition[s, a, t] * problem.observation[t, u]
        if second:
            total += second * (problem.reward[s, a] + problem.reward[t, policy[tree.number[(o, a, u)]]])
    assert tree.worth(policy) == pytest.approx(total, abs=1e-12)
    assert tree.worth(np.stack([policy, policy])) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transition": np.ones((4, 2, 3))}, "transition has shape"),
        ({"transition": np.ones((4, 2, 4))}, r"transition\[0, 0\] sums to 4"),
        ({"initial": np.array([np.nan, 1, 0, 0])}, r"initial\[0\] is nan"),
        ({"observation": np.ones(4)}, "observation has shape"),
        ({"reward": np.full((4, 2), np.inf)}, "state 0, action 0 is inf"),
        ({"reward": np.zeros((0, 2))}, "at least one of each"),
        ({"horizon": 0}, "horizon is 0"),
    ],
)
def test_what_is_wrong_with_a_problem_is_said(change, words):
    given_ = {name: getattr(stitching(), name) for name in ("transition", "reward", "observation", "initial", "horizon")}
    with pytest.raises(ModelError, match=words):
        POMDP(**(given_ | change))


def test_requests_that_make_no_sense_are_refused():
    problem = stitching()
    with pytest.raises(ModelError, match="more than 4 states"):
        history_tree(problem, max_histories=3)
    with pytest.raises(ModelError, match="at decision 0 the policy gave"):
        episodes(problem, lambda seen, done, rng: np.full(len(seen), 2), 3, np.random.default_rng(0))
    with pytest.raises(ModelError, match="symbols is 0"):
        noisy_chain(0, 2)
    with pytest.raises(ModelError, match="length is"):
        t_maze(True)
    logged = episodes(noisy_chain(3, 2), uniform(problem), 5, np.random.default_rng(0))
    with pytest.raises(ModelError, match="of another problem"):
        history_tree(problem).trajectories(logged)

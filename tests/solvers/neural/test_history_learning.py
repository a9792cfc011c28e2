"""The bisimulation loss is what is written, what it can and cannot reach, and the learner that carries it."""

import numpy as np
import pytest
import torch
from banach.mdp.history import history_tree
from banach.mdp.instances_pomdp import stitching, t_maze
from banach.mdp.pomdp import Episodes, episodes, uniform
from banach.solvers import SolveError, kantorovich
from banach.solvers.neural import HistoryLearning, HistoryNetwork, bisimulation_loss
from scipy.optimize import minimize


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_what_is_written():
    rng = np.random.default_rng(0)
    phi, mean, spread = (rng.normal(size=(2, 6, 3)) for _ in range(3))
    reward, spread = rng.normal(size=(2, 6)), np.abs(spread)
    total = 0.0
    for i in range(6):
        w = np.sqrt(sum((mean[0, i, d] - mean[1, i, d]) ** 2 + (spread[0, i, d] - spread[1, i, d]) ** 2 for d in range(3)))
        total += (sum(abs(phi[0, i] - phi[1, i])) - abs(reward[0, i] - reward[1, i]) - 0.9 * w) ** 2 / 6
    found = bisimulation_loss(*(tuple(torch.from_numpy(x)) for x in (phi, reward, mean, spread)), 0.9)
    assert float(found) == pytest.approx(total, abs=1e-12)


def test_a_constant_representation_pays_the_rewards_differences():
    reward = torch.rand(2, 50, generator=seeded())
    flat = torch.ones(50, 4)
    found = bisimulation_loss((flat, flat), (reward[0], reward[1]), (flat, flat), (flat, flat), 0.9)
    assert float(found) == pytest.approx(float((reward[0] - reward[1]).square().mean()))


def test_gradients_go_to_phi_alone():
    given = [tuple(torch.rand(2, 5, 3, generator=seeded(i), requires_grad=True)) for i in range(3)]
    leaves = [torch.rand(5, 3, generator=seeded(i), requires_grad=True) for i in range(6)]
    given = [(leaves[0], leaves[1]), (leaves[2], leaves[3]), (leaves[4], leaves[5])]
    bisimulation_loss(given[0], (torch.zeros(5), torch.ones(5)), given[1], given[2], 0.9).backward()
    assert [leaf.grad is not None for leaf in leaves] == [True, True, False, False, False, False]


def test_rows_of_the_metric_embed_it_exactly_in_the_sup_norm():
    """Kuratowski: |d(x, .) - d(y, .)|_sup = d(x, y). On histories of one decision, the metric by its definition."""
    tree = history_tree(t_maze(1, symbols=1))
    d = np.zeros((tree.model.n_states, tree.model.n_states))
    for _ in range(tree.horizon):
        d = step(tree, d)
    rows = np.abs(d[:, None] - d[None]).max(axis=2)
    same = tree.steps[:, None] == tree.steps
    for h in range(tree.horizon):
        own = tree.steps == h
        np.testing.assert_allclose(np.abs(d[own][:, None][..., own] - d[own][None][..., own]).max(axis=2), d[own][:, own])
    assert rows[same].max() > 0.5


def step(tree, d):
    """One backup of max_a |r - r| + 0.9 W_1 for pairs of histories of one decision; others and the end keep 0."""
    model, out = tree.model, np.zeros_like(d)
    matrix = model.to_sparse()[0].toarray()
    for x in range(model.n_states - 1):
        for y in range(x):
            if tree.steps[x] == tree.steps[y]:
                pairs = list(zip(range(*model.state_ptr[x : x + 2]), range(*model.state_ptr[y : y + 2]), strict=True))
                far = [abs(model.reward[j] - model.reward[k]) + 0.9 * moved(matrix, d, j, k) for j, k in pairs]
                out[x, y] = out[y, x] = max(far)
    return out


def moved(matrix, d, j, k):
    left, right = np.flatnonzero(matrix[j]), np.flatnonzero(matrix[k])
    return kantorovich(matrix[j, left], matrix[k, right], d[np.ix_(left, right)]).upper


def test_a_floor_of_the_loss_does_not_mean_a_bad_representation():
    """Rewards (0,0), (1,1), (-1,1), (1,-1) over two actions, one successor: a star that no Euclidean space holds."""
    rewards = np.array([[0, 0], [1, 1], [-1, 1], [1, -1.0]])
    d = np.abs(rewards[:, None] - rewards).max(axis=2)
    np.testing.assert_array_equal(d, [[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0]])
    upper = np.triu_indices(4, 1)

    def stress(x):
        points = x.reshape(4, 3)
        return ((np.linalg.norm(points[:, None] - points, axis=2)[upper] - d[upper]) ** 2).mean()

    found = min(minimize(stress, np.random.default_rng(i).normal(size=12)).fun for i in range(8))
    assert found == pytest.approx(0.00897, abs=1e-5)


def test_one_sample_of_each_successor_overestimates_the_distance():
    """Equal laws, uniform on {0, 1}: W_1 = 0, and 1/2 on the average of independent samples."""
    law, points = np.full(2, 0.5), np.array([0.0, 1.0])
    cost = np.abs(points[:, None] - points)
    assert kantorovich(law, law, cost).upper == pytest.approx(0, abs=1e-12)
    assert law @ cost @ law == 0.5


def test_a_history_is_encoded_without_its_future():
    network = HistoryNetwork(3, 2, 8, seeded())
    seen, done = torch.randint(3, (4, 5), generator=seeded(1)), torch.randint(2, (4, 4), generator=seeded(2))
    whole = network(seen, done)
    for h in range(5):
        torch.testing.assert_close(network(seen[:, : h + 1], done[:, :h])[:, -1], whole[:, h])
    assert not torch.allclose(network(seen, 1 - done)[:, -1], whole[:, -1])


def test_without_weight_the_learner_is_the_plain_one_bit_for_bit():
    problem = t_maze(1)
    data = episodes(problem, uniform(problem), 20, np.random.default_rng(0))
    plain, other, weighed = (
        learner.learn(data, problem.n_observations, 2, seeded()).network.state_dict()
        for learner in (
            HistoryLearning(steps=5),
            HistoryLearning(steps=5, discount=0.1, matched=False),
            HistoryLearning(steps=5, weight=1.0),
        )
    )
    assert all(torch.equal(plain[name], other[name]) for name in plain)
    assert not all(torch.equal(plain[name], weighed[name]) for name in plain)


def test_the_learner_stitches_what_was_logged_apart():
    """Success was logged from the second start only. With the loss the first is worth as much; without, what failed."""
    logged = Episodes(
        np.array([[0, 2], [1, 2], [1, 2]] * 8), np.array([[0, 0], [0, 1], [1, 0]] * 8), np.array([[0, 0], [0, 1.0], [0, 0]] * 8)
    )
    for weight, expected in ((0.0, {0: 0.0, 1: 1.0}), (1.0, {0: 1.0, 1: 1.0})):
        agent = HistoryLearning(steps=200, latent=16, weight=weight).learn(logged, 4, 2, seeded())
        fresh = episodes(stitching(), agent.act(), 100, np.random.default_rng(0))
        found = dict(zip(fresh.observations[:, 0].tolist(), fresh.rewards.sum(axis=1).tolist(), strict=True))
        assert found == expected


def test_the_loss_falls_when_it_has_weight():
    problem = t_maze(1)
    data = episodes(problem, uniform(problem), 64, np.random.default_rng(0))
    losses = [
        HistoryLearning(steps=100, latent=16, weight=weight).learn(data, problem.n_observations, 2, seeded()).bisimulation
        for weight in (0.0, 1.0)
    ]
    assert losses[1] < losses[0] / 10


def test_data_that_do_not_fit_are_refused():
    data = Episodes(np.array([[0, 3]]), np.array([[0, 1]]), np.zeros((1, 2)))
    with pytest.raises(SolveError, match=r"observations of shape \(1, 2\) must be some, in \[0, 3\)"):
        HistoryLearning().learn(data, 3, 2, seeded())
    with pytest.raises(SolveError, match="actions"):
        HistoryLearning().learn(data, 4, 1, seeded())

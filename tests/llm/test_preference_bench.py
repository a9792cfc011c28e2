"""The bench of preference objectives, on a bandit or two: its parts against closed forms."""

import numpy as np
import pytest
import torch
from banach.llm.preference_bench import (
    ascent,
    least_gap,
    methods,
    offline,
    population_batch,
    random_bandit,
    regret,
    self_play,
    tempered,
)
from banach.llm.preference_catalogue import preference
from banach.llm.preference_kernel import evaluate_preference
from banach.solvers.regularised_nash import duality_gap, regularised_nash
from scipy.special import softmax

TAU = 0.2


@pytest.fixture(scope="module")
def cyclic():
    return random_bandit(np.random.default_rng(1), TAU, cyclic=True)


@pytest.fixture(scope="module")
def with_reward():
    return random_bandit(np.random.default_rng(2), TAU, cyclic=False)


@pytest.mark.parametrize("name", ["dpo", "ipo", "orpo", "nca", "rpo", "nash_md"])
def test_the_gathered_score_weights_are_the_gradient_by_the_logits(cyclic, name):
    logits = torch.tensor(np.linspace(-1, 1, cyclic.game.n_responses), requires_grad=True)
    policy = softmax(logits.detach().numpy())
    batch = population_batch(logits, cyclic.game.oracle, cyclic.weights, cyclic.game.reference)
    push = ascent(preference(name), policy, batch)
    (descent,) = torch.autograd.grad(evaluate_preference(preference(name), batch).loss, logits)
    np.testing.assert_allclose(push - policy * push.sum(), -descent, atol=1e-13)


def test_dpo_and_the_two_stages_are_the_bradley_terry_projection_of_any_preferences(cyclic):
    trained = methods(TAU, 1)
    one, other = trained["dpo"](cyclic), trained["bradley_terry + copg"](cyclic)
    np.testing.assert_allclose(one, other, rtol=1e-7)


def test_offline_ipo_is_the_policy_of_its_linear_system(cyclic):
    weights = cyclic.weights + cyclic.weights.T
    np.fill_diagonal(weights, 0)
    laplacian = np.diag(weights.sum(1)) - weights
    right = (weights * (cyclic.game.oracle.matrix - 0.5)).sum(1) / TAU
    score = np.linalg.lstsq(laplacian, right, rcond=None)[0]
    expected = softmax(np.log(cyclic.game.reference) + score)
    np.testing.assert_allclose(offline(preference("ipo", temperature=TAU), cyclic), expected, rtol=1e-9)


def test_inpo_online_ipo_and_nash_md_in_self_play_are_one_iteration_on_a_table_the_mirror_step(cyclic):
    eta, steps = 30 * TAU, 5
    trained = methods(TAU, steps)
    score, game = np.zeros(cyclic.game.n_responses), cyclic.game
    for _ in range(steps):
        policy = softmax(np.log(game.reference) + score)
        score = (1 - TAU / eta) * score + game.oracle.matrix @ policy / eta
    expected = softmax(np.log(game.reference) + score)
    for name in ("inpo", "online_ipo", "nash_md, self-play"):
        np.testing.assert_allclose(trained[name](cyclic), expected, rtol=1e-12)


def test_a_best_response_iteration_cycles_where_smaller_steps_converge():
    """eta = tau oscillates on rock, paper, scissors; eta = 30 tau goes to the Nash policy."""
    matrix = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
    bandit = random_bandit(np.random.default_rng(0), 0.1, cyclic=True)
    game = type(bandit.game)(type(bandit.game.oracle)(matrix), np.array([0.5, 0.3, 0.2]), 0.1)
    bandit = type(bandit)(game, np.ones((3, 3)), None)
    jumpy = self_play(preference("inpo", inverse_step=0.1, temperature=0.1), bandit, 0.25, 200)
    calm = self_play(preference("inpo", inverse_step=3.0, temperature=0.1), bandit, 0.25, 350)
    assert duality_gap(game, jumpy) > 0.1
    assert duality_gap(game, calm) < 1e-9


def test_regret_is_zero_on_the_path_of_the_reward_and_positive_off_it(with_reward):
    reference, reward = with_reward.game.reference, with_reward.reward
    assert regret(with_reward, softmax(np.log(reference) + 3 * reward)) == pytest.approx(0, abs=1e-12)
    assert regret(with_reward, softmax(np.log(reference) - reward)) > 0.05


def test_regret_is_what_a_fifth_of_a_nat_of_divergence_buys(with_reward):
    reference, reward = with_reward.game.reference, with_reward.reward
    policy = softmax(np.log(reference) - reward)
    bought = []
    for path in (softmax(np.log(reference) + reward), policy):
        moved = [tempered(path, reference, share) for share in np.linspace(0, 4, 40_001)]
        cost = [float(p @ np.log(p / reference)) for p in moved]
        assert max(cost) > 0.4
        bought.append(moved[int(np.searchsorted(cost, 0.2))] @ reward)
    assert regret(with_reward, policy) == pytest.approx(bought[0] - bought[1], abs=1e-3)


def test_the_least_gap_is_found_on_the_path(cyclic):
    policy = offline(preference("dpo", temperature=TAU), cyclic)
    found = least_gap(cyclic.game, policy)
    assert found <= duality_gap(cyclic.game, policy)
    others = [duality_gap(cyclic.game, tempered(policy, cyclic.game.reference, share)) for share in np.linspace(0, 4, 50)]
    assert found <= min(others)
    nash = regularised_nash(cyclic.game).policy
    assert least_gap(cyclic.game, tempered(nash, cyclic.game.reference, 0.5)) < 1e-9


def test_a_random_reward_is_read_back_from_the_preferences_it_makes(with_reward):
    policy = offline(preference("dpo", temperature=TAU), with_reward)
    reward = TAU * np.log(policy / with_reward.game.reference)
    np.testing.assert_allclose(reward - reward.mean(), with_reward.reward - with_reward.reward.mean(), atol=1e-6)

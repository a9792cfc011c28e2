"""On a finite set of responses the gradient of a preference loss over all pairs vanishes exactly where theory says.

The optima come from `banach.solvers` (BT likelihood, Laplacian systems, linear programs, scalar roots), from closed forms, and
from convex programs that share no code with the kernel.
"""

import numpy as np
import pytest
import torch
from banach.llm.pair_batch import SingleBatch
from banach.llm.preference_catalogue import preference
from banach.llm.preference_kernel import evaluate_preference
from banach.mdp.preference import PreferenceOracle
from banach.solvers.preference_losses import CDPO, DPO, IPO, KTO, ORPO, RLHF, SPPO, Hinge, RobustDPO, SimPO
from banach.solvers.preference_optimum import population_optimum
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from .preference_population import as_logits, every_pair, gibbs, regularised_nash

battery = settings(deadline=None, max_examples=8, derandomize=True)
seeds = st.integers(0, 10_000)


def draw(seed: int, cyclic: bool = True):
    """Preference (n, n), reference (n,), weights (n, n), generator."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    if cyclic:
        upper = np.triu(rng.uniform(0.1, 0.9, (n, n)), 1)
        matrix = upper + np.tril(1 - upper.T, -1) + np.eye(n) / 2
    else:
        reward = rng.normal(size=n)
        matrix = expit(reward[:, None] - reward[None, :])
    return matrix, rng.dirichlet(np.full(n, 3.0)), rng.uniform(0.1, 1, (n, n)), rng


def slope(name: str, policy: np.ndarray, *arguments, constants: dict | None = None, **more) -> float:
    """The largest entry of the gradient by the logits."""
    logits = as_logits(policy)
    evaluation = evaluate_preference(preference(name, **(constants or {})), every_pair(logits, *arguments, **more))
    return float(torch.autograd.grad(evaluation.loss, logits)[0].abs().max())


def largest_slope(name: str, policy: np.ndarray, *arguments, constants: dict | None = None, **more) -> float:
    """The slope at the policy, in units of the slope a little further on."""
    further = gibbs(policy, 0.3 * np.arange(len(policy)))
    return slope(name, policy, *arguments, constants=constants, **more) / slope(
        name, further, *arguments, constants=constants, **more
    )


SOLVED = [
    pytest.param("dpo", {"temperature": 0.4}, DPO(0.4), id="dpo"),
    pytest.param("dpo", {"temperature": 0.4}, RLHF(0.4), id="dpo is reward modelling and then reinforcement learning"),
    pytest.param("cdpo", {"temperature": 0.4, "noise": 0.2}, CDPO(0.4, 0.2), id="cdpo"),
    pytest.param("ipo", {"temperature": 0.3}, IPO(0.3), id="ipo"),
    pytest.param("orpo", {"weight": 0.7, "normalised": False}, ORPO(0.7), id="orpo"),
]


@pytest.mark.parametrize(("name", "constants", "loss"), SOLVED)
@given(seed=seeds)
@battery
def test_gradient_vanishes_at_the_population_optimum(name, constants, loss, seed):
    matrix, reference, weights, _ = draw(seed)
    policy = population_optimum(PreferenceOracle(matrix), weights, reference, loss).policy
    assert largest_slope(name, policy, matrix, weights, reference, constants=constants) < 1e-7


@given(seed=seeds)
@battery
def test_robust_dpo_on_flipped_labels_is_dpo_on_clean_ones_at_every_policy(seed):
    matrix, reference, weights, rng = draw(seed)
    flipped, policy = 0.6 * matrix + 0.2, rng.dirichlet(np.ones(len(reference)))
    noisy, clean = (
        evaluate_preference(
            preference(name, temperature=0.4, **more), every_pair(as_logits(policy), labels, weights, reference)
        )
        for name, labels, more in (("robust_dpo", flipped, {"noise": 0.2}), ("dpo", matrix, {}))
    )
    torch.testing.assert_close(noisy.loss, clean.loss, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(noisy.weight_chosen_B, clean.weight_chosen_B, rtol=1e-11, atol=1e-13)
    optimum = population_optimum(PreferenceOracle(flipped), weights, reference, RobustDPO(0.4, 0.2)).policy
    settings_ = {"temperature": 0.4, "noise": 0.2}
    assert largest_slope("robust_dpo", optimum, flipped, weights, reference, constants=settings_) < 1e-7


@given(seed=seeds)
@battery
def test_simpo_with_lengths_that_differ(seed):
    matrix, reference, weights, rng = draw(seed)
    lengths = rng.integers(1, 6, len(reference))
    policy = population_optimum(PreferenceOracle(matrix), weights, reference, SimPO(2.0, 0.5), lengths=lengths).policy
    constants = {"scale": 2.0, "margin": 0.5}
    assert largest_slope("simpo", policy, matrix, weights, reference, lengths=lengths, constants=constants) < 1e-7


@given(seed=seeds)
@battery
def test_the_hinge_is_least_where_the_linear_program_says_and_nowhere_less(seed):
    matrix, reference, weights, rng = draw(seed)
    optimum = population_optimum(PreferenceOracle(matrix), weights, reference, Hinge(0.4))
    spec = preference("hinge", temperature=0.4)
    for policy in optimum.policies:
        found = evaluate_preference(spec, every_pair(as_logits(policy), matrix, weights, reference)).loss
        assert found.item() == pytest.approx(optimum.value, abs=1e-8)
    for policy in rng.dirichlet(np.full(len(reference), 0.3), size=20).clip(1e-12):
        found = evaluate_preference(spec, every_pair(as_logits(policy / policy.sum()), matrix, weights, reference)).loss
        assert found.item() >= optimum.value - 1e-9


@given(seed=seeds)
@battery
def test_kto_rests_at_its_fixed_point_when_every_response_is_desirable_on_balance(seed):
    matrix, reference, weights, _ = draw(seed)
    policy = population_optimum(PreferenceOracle(matrix), weights, reference, KTO(0.3, 20.0, 1.0)).policy
    divergence = float(policy @ np.log(policy / reference))
    constants = {"temperature": 0.3, "desirable": 20.0, "undesirable": 1.0, "centre": "mismatched"}
    assert largest_slope("kto", policy, matrix, weights, reference, divergence=divergence, constants=constants) < 1e-7


@given(seed=seeds)
@battery
def test_kto_moves_a_score_by_the_sign_of_its_weighted_verdicts(seed):
    matrix, reference, weights, rng = draw(seed)
    spec = preference("kto", temperature=0.5, desirable=1.2, undesirable=0.9)
    policy = rng.dirichlet(np.ones(len(reference)))
    batch = every_pair(as_logits(policy), matrix, weights, reference)
    evaluation = evaluate_preference(spec, batch)
    np.fill_diagonal(weights, 0)
    first, second = np.nonzero(weights)
    push = np.bincount(first, evaluation.weight_chosen_B, len(policy)) + np.bincount(
        second, evaluation.weight_rejected_B, len(policy)
    )
    wins = (weights + weights.T) * matrix
    np.testing.assert_array_equal(np.sign(push), np.sign(1.2 * wins.sum(1) - 0.9 * wins.sum(0)))


@given(seed=seeds)
@battery
def test_sppo_regresses_on_win_rates(seed):
    matrix, reference, _, _ = draw(seed)
    policy = population_optimum(PreferenceOracle(matrix), None, reference, SPPO(1.5)).policy
    logits, n = as_logits(policy), len(reference)
    rows = np.ones((n, n)) - np.eye(n)
    side = every_pair(logits, matrix, rows, reference).chosen
    once = torch.tensor([np.flatnonzero(np.nonzero(rows)[0] == y)[0] for y in range(n)])
    win = torch.tensor(matrix @ reference)
    alone = type(side)(**{**vars(side.rows(once)), "win_B": win})
    batch = SingleBatch(alone, torch.ones(n, dtype=torch.float64), torch.tensor(reference))
    (descent,) = torch.autograd.grad(evaluate_preference(preference("sppo", rate=1.5), batch).loss, logits)
    assert descent.abs().max() < 1e-8


@given(seed=seeds)
@battery
def test_both_stages_of_reinforcement_learning_from_preferences_reach_the_dpo_policy(seed):
    """bradley_terry fits the reward, copg follows it from pairs of any connected weights: together they are dpo
    (2305.18290).
    """
    matrix, reference, weights, rng = draw(seed)
    policy = population_optimum(PreferenceOracle(matrix), weights, reference, DPO(0.4)).policy
    reward = 0.4 * np.log(policy / reference) + 1.7
    scores = torch.tensor(reward, requires_grad=True)
    pairs = every_pair(as_logits(policy), matrix, weights, reference)
    np.fill_diagonal(weights, 0)
    rows = [torch.tensor(rows) for rows in np.nonzero(weights)]
    judged = type(pairs)(*(type(pairs.chosen)(scores[row]) for row in rows), pairs.label_B, pairs.weight_B)
    (descent,) = torch.autograd.grad(evaluate_preference(preference("bradley_terry"), judged).loss, scores)
    assert descent.abs().max() < 1e-9
    other = rng.uniform(0.1, 1, weights.shape)
    assert largest_slope("copg", policy, matrix, other, reference, reward=reward, constants={"temperature": 0.4}) < 1e-9


@given(seed=seeds)
@battery
def test_copg_and_rebel_reach_gibbs_policies_of_the_reward_from_any_connected_pairs(seed):
    matrix, reference, weights, rng = draw(seed)
    reward, previous = rng.normal(size=len(reference)), rng.dirichlet(np.full(len(reference), 3.0))
    for name, constants, policy in (
        ("copg", {"temperature": 0.7}, gibbs(reference, reward / 0.7)),
        ("rebel", {"rate": 1.3}, gibbs(previous, 1.3 * reward)),
    ):
        spec = preference(name, **constants)
        batch = every_pair(as_logits(policy), matrix, weights, reference, previous=previous, reward=reward)
        evaluation = evaluate_preference(spec, batch)
        assert evaluation.loss.item() < 1e-25
        assert evaluation.weight_chosen_B.abs().max() < 1e-13


@given(seed=seeds, ratio=st.sampled_from([0.0, 0.3, 1.0]))
@battery
def test_inpo_fits_the_mirror_step_of_the_preference_game(seed, ratio):
    """pi_t^(1 - tau/eta) q^(tau/eta) e^(P(y > pi_t)/eta), for pairs drawn from pi_t x pi_t (2407.00617)."""
    matrix, reference, _, rng = draw(seed)
    eta, previous = 0.4, rng.dirichlet(np.full(len(reference), 3.0))
    step = gibbs(np.ones_like(reference), (1 - ratio) * np.log(previous) + ratio * np.log(reference) + matrix @ previous / eta)
    found = largest_slope(
        "inpo",
        step,
        matrix,
        np.outer(previous, previous),
        reference,
        previous=previous,
        constants={"inverse_step": eta, "temperature": ratio * eta},
    )
    assert found < 1e-10


@pytest.mark.parametrize("name", ["online_ipo", "nash_md"])
@given(seed=seeds)
@battery
def test_self_play_rests_at_the_regularised_nash_policy(name, seed):
    matrix, reference, _, _ = draw(seed)
    policy = regularised_nash(matrix, reference, 0.3)
    logits = as_logits(policy)
    # the sampling distribution, the policy itself, is held constant; equal pairs have a score too, and a gradient of mean zero
    batch = every_pair(logits, matrix, np.outer(policy, policy), reference)
    if name == "nash_md":
        descent = nash_md_slope(policy, policy, matrix, reference, 0.3)
    else:
        (descent,) = torch.autograd.grad(evaluate_preference(preference(name, temperature=0.3), batch).loss, logits)
    assert float(descent.abs().max()) < 1e-10


def nash_md_slope(policy, opponent, matrix, reference, temperature):
    """Expected gradient of Nash-MD by the logits, y from the policy, y' from the opponent, equal responses included."""
    n, logits = len(policy), as_logits(policy)
    first, second = np.divmod(np.arange(n * n), n)
    logp = torch.log_softmax(logits, 0)
    sides = [{"logp_B": logp[torch.tensor(rows)], "ref_B": torch.tensor(np.log(reference)[rows])} for rows in (first, second)]
    pairs = every_pair(logits, matrix, np.ones((n, n)), reference)
    batch = type(pairs)(
        *(type(pairs.chosen)(**side) for side in sides),
        torch.tensor(matrix[first, second]),
        torch.tensor(policy[first] * opponent[second]),
    )
    return torch.autograd.grad(evaluate_preference(preference("nash_md", temperature=temperature), batch).loss, logits)[0]


@given(seed=seeds, mixing=st.sampled_from([0.0, 0.25, 1.0]))
@battery
def test_nash_md_gradient_is_that_of_its_regularised_game(seed, mixing):
    """d/d logits of <pi, P opponent> - tau KL(pi | q): zero at q e^{P opponent / tau}, the best response to the mixture."""
    matrix, reference, _, rng = draw(seed)
    policy = rng.dirichlet(np.full(len(reference), 3.0))
    opponent = gibbs(np.ones_like(policy), (1 - mixing) * np.log(policy) + mixing * np.log(reference))
    logits = as_logits(policy)
    pi = torch.softmax(logits, 0)
    gain = pi @ torch.tensor(matrix @ opponent) - 0.3 * (pi * (pi.log() - torch.tensor(np.log(reference)))).sum()
    (ascent,) = torch.autograd.grad(gain, logits)
    torch.testing.assert_close(-nash_md_slope(policy, opponent, matrix, reference, 0.3), ascent, rtol=1e-10, atol=1e-13)


def test_nash_md_with_a_mixed_opponent_does_not_rest_at_the_regularised_nash_policy():
    matrix, reference = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.8], [0.8, 0.2, 0.5]]), np.array([0.5, 0.3, 0.2])
    nash = regularised_nash(matrix, reference, 0.3)
    mixed = gibbs(np.ones(3), 0.75 * np.log(nash) + 0.25 * np.log(reference))
    assert nash_md_slope(nash, nash, matrix, reference, 0.3).abs().max() < 1e-12
    assert nash_md_slope(nash, mixed, matrix, reference, 0.3).abs().max() > 1e-3


@given(seed=seeds)
@battery
def test_online_dpo_rests_at_the_gibbs_policy_of_a_bradley_terry_reward(seed):
    matrix, reference, _, _ = draw(seed, cyclic=False)
    reward = np.log(matrix[:, 0] / matrix[0, :])
    policy = gibbs(reference, reward / 0.4)
    constants = {"temperature": 0.4}
    assert largest_slope("online_dpo", policy, matrix, np.outer(policy, policy), reference, constants=constants) < 1e-9


@given(seed=seeds)
@battery
def test_rpo_reaches_the_policy_of_the_adversarial_reward(seed):
    """Its minimax form, convex in the reward: eta (beta log E_q e^{r/beta} - E_b r) + L_D(r), b the chosen responses
    (2405.16436).
    """
    matrix, reference, weights, _ = draw(seed)
    beta, eta = 0.5, 0.4
    np.fill_diagonal(weights, 0)
    wins = (weights + weights.T) * matrix
    wins /= wins.sum()
    chosen = wins.sum(1)

    def adversary(r):
        value = eta * (beta * logsumexp(np.log(reference) + r / beta) - chosen @ r)
        margin = r[:, None] - r[None, :]
        pull = wins * expit(-margin)
        slope = eta * (gibbs(reference, r / beta) - chosen) - pull.sum(1) + pull.sum(0)
        return value + (wins * np.logaddexp(0, -margin)).sum(), slope

    found = minimize(adversary, np.zeros(len(reference)), jac=True, method="BFGS", options={"gtol": 1e-11})
    policy = gibbs(reference, found.x / beta)
    assert largest_slope("rpo", policy, matrix, weights, reference, constants={"temperature": beta, "sft": eta}) < 1e-6


def test_a_certain_label_has_an_optimum_under_ipo_cdpo_and_exo_but_none_under_dpo():
    reference, matrix = np.array([0.5, 0.5]), np.array([[0.5, 1.0], [0.0, 0.5]])
    margins = {
        ("ipo", 0.3, None): 1 / 0.6,
        ("cdpo", 0.3, 0.1): np.log(9) / 0.3,
        ("exo", 0.3, 0.1): np.log(9) / 0.3,
    }
    for (name, temperature, noise), margin in margins.items():
        constants = {"temperature": temperature} | ({} if noise is None else {"noise": noise})
        at, off = (gibbs(reference, np.array([m, 0.0])) for m in (margin, margin + 0.1))
        logits = as_logits(at)
        loss = evaluate_preference(preference(name, **constants), every_pair(logits, matrix, np.ones((2, 2)), reference)).loss
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-12
        assert largest_slope(name, off, matrix, np.ones((2, 2)), reference, constants=constants) > 1e-3
    gone = [
        every_pair(as_logits(gibbs(reference, np.array([m, 0.0]))), matrix, np.ones((2, 2)), reference) for m in (0, 10, 30)
    ]
    losses = [evaluate_preference(preference("dpo"), batch).loss.item() for batch in gone]
    assert losses[0] > losses[1] > losses[2] > 0

"""LOOP: leave-one-out, levels, the environment's mask, filters and early stopping, by enumeration."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from banach.llm.aggregation import Aggregation
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, SpecError
from banach.llm.mask import AdvantageFilter
from banach.llm.objective import evaluate
from banach.llm.plan import plan
from banach.llm.surrogate import ClippedRatio, ImportanceWeighted
from banach.llm.systems.loop import LOOP, collected, loop, loop_with_std
from banach.llm.testbeds.policies import TablePolicy
from banach.llm.testbeds.training import Recipe, TableCritic, train
from banach.mdp import token_policy
from banach.mdp.instances_testbeds import mini_repl
from banach.mdp.instances_token import tool_turns
from banach.mdp.token import TokenProblem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from .exact_gradient import expected_gradient, gradient_of, log_probability, rows, tuples
from .objective_batches import random_batch, rebuilt

few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 10**6)
TOOL = tool_turns(horizon=3)


def logits_of(problem, seed):
    return np.random.default_rng(seed).normal(size=(problem.n_nodes, problem.vocabulary_size))


@pytest.mark.parametrize("size", [2, 3])
@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_trajectories_on_the_policy_climb_the_reward_exactly(size, seed):
    problem = TOOL if size == 2 else TokenProblem.bandit(np.array([[0.0, 0.2, 1.0]]))
    logits = logits_of(problem, seed)
    exact = token_policy.expected_reward_gradient(problem, logits)
    found = expected_gradient(loop("trajectory", threshold=0.0), problem, logits, size=size)
    assert np.allclose(found, exact, atol=1e-10)
    shrunk = dataclasses.replace(loop("trajectory", threshold=0.0), advantage=objective("dr_grpo", budget=1).advantage)
    assert np.allclose(expected_gradient(shrunk, problem, logits, size=size), (size - 1) / size * exact, atol=1e-10)


def test_three_rollouts_with_an_environment_between_tokens_climb_the_reward_exactly():
    problem = environment_problem()
    logits = logits_of(problem, 3)
    found = expected_gradient(loop("trajectory", threshold=0.0), problem, logits, size=3)
    assert found == pytest.approx(token_policy.expected_reward_gradient(problem, logits), abs=1e-12)


def test_off_the_policy_without_a_clip_only_the_ratio_of_whole_trajectories_is_right():
    problem = environment_problem()
    logits, old = logits_of(problem, 1), logits_of(problem, 2)
    exact = token_policy.expected_reward_gradient(problem, logits)
    for level in ("token", "turn", "trajectory"):
        spec = dataclasses.replace(loop(level, threshold=0.0), surrogate=ImportanceWeighted())
        found = expected_gradient(spec, problem, logits, old, size=2)
        cosine = float((found * exact).sum() / np.linalg.norm(found) / np.linalg.norm(exact))
        if level == "trajectory":
            assert found == pytest.approx(exact, abs=1e-12)
        else:
            assert cosine < 0.95


@given(ratio=st.floats(0, 10), A=st.floats(-3, 3), e=st.floats(0.01, 0.99))
@few
def test_the_two_ways_to_write_the_clip_agree(ratio, A, e):
    rho, advantage = (torch.tensor(x, dtype=torch.float64) for x in (ratio, A))
    found = ClippedRatio(e, e).value(rho, rho.log(), advantage).item()
    assert found == pytest.approx(min(ratio * A, A + e * abs(A)), abs=1e-12)
    assert found == pytest.approx(min(ratio * A, min(max(ratio, 1 - e), 1 + e) * A), abs=1e-12)


def environment_problem():
    """One token, an environment's answer, one token; the environment's second reply pays, whatever the policy does."""

    def environment(_, tokens):
        return np.array([0.3, 0.7]) if len(tokens) == 1 else None

    return TokenProblem.build(2, 3, 1, lambda _, t: float(t[1] == 1) + 0.5 * (t[0] == t[2]), environment=environment)


def test_modelling_the_environment_gets_a_gradient_from_rewards_that_follow_it_unless_masked():
    problem = environment_problem()
    assert not problem.mask[:, 1].any()
    logits = logits_of(problem, 1)
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # models the environment's token and nothing else
    chance = token_policy.sequence_probability(problem, logits)
    said = theta.log_softmax(0)[torch.tensor(problem.token[:, 1]).long()]
    centred = torch.tensor(problem.reward - chance @ problem.reward)
    [biased] = torch.autograd.grad((torch.tensor(chance) * centred * said).sum(), theta)
    assert biased.abs().max() > 0.1
    pairs, weights = zip(*tuples(problem, logits, 2), strict=True)
    batch = rows(problem, np.concatenate(pairs), np.repeat(np.arange(len(pairs)), 2), torch.tensor(logits), logits)
    said = theta.log_softmax(0)[torch.tensor(problem.token[np.concatenate(pairs), 1]).long()]
    logp_BT = torch.stack([batch.logp_BT[:, 0], said, batch.logp_BT[:, 2]], 1)
    unmasked = dataclasses.replace(batch, logp_BT=logp_BT, logp_old_BT=logp_BT.detach(), mask_BT=torch.ones_like(batch.mask_BT))
    weight_B = evaluate(loop("trajectory", threshold=0.0), unmasked).weight_BT[:, 1] * len(pairs)
    [by_library] = torch.autograd.grad((torch.tensor(weights).repeat_interleave(2) * weight_B * said).sum(), theta)
    assert torch.allclose(by_library, biased, atol=1e-12)
    assert (evaluate(loop("trajectory", threshold=0.0), batch).weight_BT[:, 1] == 0).all()
    exact = token_policy.expected_reward_gradient(problem, logits)
    found = expected_gradient(loop("trajectory", threshold=0.0), problem, logits, size=2)
    assert np.allclose(found, exact, atol=1e-12)


@given(seed=seeds)
@few
def test_the_environment_cancels_in_the_ratio_of_laws(seed):
    problem = environment_problem()
    logits, old = logits_of(problem, seed), logits_of(problem, seed + 1)
    batch = rows(problem, range(problem.n_sequences), range(problem.n_sequences), torch.tensor(logits), old)
    ratio = loop("trajectory").ratio(torch.where(batch.mask_BT, batch.logp_BT, 0.0), batch).ratio_BT[:, 0].numpy()
    law, psi = (token_policy.sequence_probability(problem, z) for z in (logits, old))
    assert ratio == pytest.approx(law / psi)
    assert psi @ ratio == pytest.approx(1.0)
    assert psi @ (ratio * problem.reward) == pytest.approx(token_policy.expected_reward(problem, logits))


def stop_or_go():
    """Stop for .2, or go on to a bit: 0 or 1."""
    return TokenProblem.build(3, 2, 1, lambda _, t: {(2,): 0.2, (0, 1): 1.0, (1, 1): 1.0}.get(t, 0.0), eos=2)


def test_the_token_loss_points_elsewhere_when_lengths_differ_and_baselines_bias_it():
    """First token stop (s) or continue (c), a sigmoid each; second a bit; rewards .2, 0, 1; by hand at zero logits."""
    paths = {("s",): (0.5, 0.2, np.array([-0.5, 0.0]), 1), ("c", 0): (0.25, 0.0, np.array([0.5, -0.5]), 2)}
    paths["c", 1] = (0.25, 1.0, np.array([0.5, 0.5]), 2)  # scores by the logits of "continue" and of the bit
    plain = sum(p * R * s for p, R, s, _ in paths.values())
    by_token = sum(p * R * s / n for p, R, s, n in paths.values())
    assert plain == pytest.approx([0.075, 0.125])
    baseline_free = sum(p * s / n for p, _, s, n in paths.values())
    assert baseline_free == pytest.approx([-0.125, 0.0])
    assert by_token == pytest.approx([0.0125, 0.0625])
    mean = sum(p * R for p, R, _, _ in paths.values())
    assert by_token - mean * baseline_free == pytest.approx([0.05625, 0.0625])  # with the baseline: the published comparison
    rewards = {(0,): 0.2, (1, 1): 1.0}
    problem = TokenProblem.build(2, 2, 1, lambda _, t: rewards.get(t, 0.0), eos=0)
    logits = np.zeros((problem.n_nodes, 2))
    found, exact = (expected_gradient(spec, problem, logits, size=2) for spec in (loop(threshold=0.0), objective("rloo")))
    assert found == pytest.approx(np.array([[-0.05625, 0.05625], [-0.0625, 0.0625]]))
    assert exact == pytest.approx(np.array([[-0.075, 0.075], [-0.125, 0.125]]))
    assert exact == pytest.approx(token_policy.expected_reward_gradient(problem, logits))
    problem = stop_or_go()
    logits = np.zeros((problem.n_nodes, 3))
    raw, length = token_policy.sequence_probability(problem, logits), torch.tensor(problem.length)
    found = expected_gradient(loop(threshold=0.0), problem, logits, size=2)
    leave_one_out = torch.tensor(raw * (problem.reward - raw @ problem.reward)) / length
    expected = gradient_of(lambda z: leave_one_out @ log_probability(problem, z).sum(1), logits)
    assert np.allclose(found, expected, atol=1e-12)
    exact = token_policy.expected_reward_gradient(problem, logits)
    cosine = (found * exact).sum() / np.linalg.norm(found) / np.linalg.norm(exact)
    assert cosine < 0.999


@given(seed=seeds)
@few
def test_a_turn_that_is_one_token_or_all_of_them_is_the_other_level(seed):
    batch = random_batch(seed, drift=1.5)
    each = rebuilt(batch, turn_BT=torch.arange(batch.mask_BT.shape[1]).expand_as(batch.mask_BT))
    assert torch.allclose(evaluate(loop("turn"), each).weight_BT, evaluate(loop(), each).weight_BT)
    assert torch.allclose(evaluate(loop("turn"), each).loss, evaluate(loop(), each).loss)
    one = rebuilt(batch, turn_BT=torch.zeros_like(batch.turn_BT))
    assert torch.allclose(evaluate(loop("turn"), one).weight_BT, evaluate(loop("trajectory"), one).weight_BT)
    assert torch.allclose(evaluate(loop("turn"), one).loss, evaluate(loop("trajectory"), one).loss)


def test_one_token_outside_the_clip_costs_a_trajectory_all_its_tokens_a_turn_its_own_and_a_token_itself():
    batch = random_batch(1, groups=1, size=2, horizon=4, edges=False)
    mask = torch.zeros_like(batch.mask_BT)
    mask[:, :4] = True
    old = torch.full_like(batch.logp_old_BT, -1.0)
    moved = old.clone()
    moved[0, 2] += 0.5  # outside 1.2, for a positive advantage
    batch = rebuilt(
        batch,
        mask_BT=mask,
        logp_old_BT=old,
        logp_BT=moved,
        reward_B=torch.tensor([1.0, 0.0]).double(),
        turn_BT=torch.tensor([[0, 0, 1, 1, 2]] * 2),
    )
    lost = {level: int((evaluate(loop(level), batch).weight_BT[0, :4] == 0).sum()) for level in ("token", "turn", "trajectory")}
    assert lost == {"token": 1, "turn": 2, "trajectory": 4}


@pytest.mark.parametrize("level", ["token", "turn", "trajectory"])
@given(threshold=st.sampled_from([0.01, 0.3, 0.6]), seed=seeds)
@few
def test_the_filter_takes_the_small_advantages_out_of_the_gradient_and_nothing_else(level, threshold, seed):
    """On the policy, B sequences: a token of |A| < threshold loses A/B, over its sequence's n tokens or turns, so at most
    threshold/(n B); the others keep their weight to the bit.
    """
    batch = rebuilt(random_batch(seed, size=4), reward_B=torch.tensor(np.random.default_rng(seed).random(8)))
    batch = rebuilt(batch, logp_BT=batch.logp_old_BT)
    every, some = (evaluate(loop(level, threshold=t), batch).weight_BT for t in (0.0, threshold))
    reward, group = batch.reward_B, batch.group_B
    A = torch.stack([r - (reward[group == g].sum() - r) / 3 for r, g in zip(reward, group, strict=True)])
    units = [
        {"token": len(turn[kept]), "turn": len(set(turn[kept].tolist())), "trajectory": 1}[level]
        for turn, kept in zip(batch.turn_BT, batch.mask_BT, strict=True)
    ]
    lost = torch.where(A.abs() < threshold, A, 0.0) / torch.tensor(units) / 8
    assert torch.allclose(every - some, torch.where(batch.mask_BT, lost[:, None], 0.0), atol=1e-15)
    assert (lost.abs() <= threshold / torch.tensor(units) / 8).all()
    assert torch.equal(some[A.abs() >= threshold], every[A.abs() >= threshold])


def test_at_six_binary_answers_a_hundredth_removes_the_equal_groups_and_nothing_else():
    least = 2.0
    for right in range(7):
        reward = torch.tensor([1.0] * right + [0.0] * (6 - right), dtype=torch.float64)
        batch = rebuilt(random_batch(0, groups=1, size=6, horizon=1, edges=False), reward_B=reward)
        planned = plan(loop(), batch)
        assert bool(planned.mask_BT.any()) == (0 < right < 6)
        if 0 < right < 6:
            assert planned.mask_BT[:, 0].all()
            least = min(least, float(planned.advantage_BT[:, 0].abs().min()))
    assert least == pytest.approx(0.2)


@given(seed=seeds, least=st.integers(1, 4), share=st.sampled_from([0.1, 0.5, 0.9, 1.0]))
@settings(max_examples=50, deadline=None)
def test_a_collection_stops_at_the_first_moment_at_which_every_task_and_enough_of_all_have_ended(seed, least, share):
    rng = np.random.default_rng(seed)
    task = rng.permutation(np.repeat([3, 8, 5], rng.integers(4, 7, 3)))
    duration = rng.integers(1, 8, len(task)).astype(float)
    clock = 0.0
    while True:
        clock += 1
        ended = duration <= clock
        if min(ended[task == name].sum() for name in (3, 5, 8)) >= least and ended.sum() >= share * len(task):
            break
    found = collected(torch.tensor(duration), torch.tensor(task), least, share)
    assert found.tolist() == ended.tolist()


BOTH = {0: {1: 0.5, 2: 0.5}, 1: {1: 0.5, 2: 0.5}, 2: {1: 0.5, 2: 0.5}}


@pytest.mark.parametrize(
    ("durations", "rate", "gradient"),
    [
        (BOTH, 2 / 3, (1 / 9, 1 / 9, -2 / 9)),  # of nothing: unbiased
        ({0: {2: 1.0}, 1: {2: 1.0}, 2: {1: 1.0}}, 16 / 27, (2 / 27, 2 / 27, -4 / 27)),  # of the reward
        ({0: {2: 1.0}, 1: {1: 1.0}, 2: {1: 0.5, 2: 0.5}}, 2 / 3, (1 / 12, 5 / 36, -2 / 9)),  # of the answer alone
    ],
)
def test_stopping_early_is_unbiased_only_if_durations_know_nothing_of_rewards_and_of_answers(durations, rate, gradient):
    """Three answers, rewards 1, 1, 0, a uniform policy; three rollouts, stopped once two have ended; by enumeration."""
    problem = TokenProblem.bandit(np.array([[1.0, 1.0, 0.0]]))
    logits = np.zeros((1, 3))
    assert token_policy.expected_reward_gradient(problem, logits) == pytest.approx(np.array([[1 / 9, 1 / 9, -2 / 9]]))
    outcomes = [(y, d, p / 3) for y, law in durations.items() for d, p in law.items()]
    success, found = 0.0, np.zeros(3)
    for group in itertools.product(outcomes, repeat=3):
        answers, ends, chances = zip(*group, strict=True)
        batch = rows(problem, answers, [0] * 3, torch.tensor(logits), logits)
        batch = batch.select(collected(torch.tensor(ends).double(), batch.group_B, 2, 0.5))
        success += np.prod(chances) * float(batch.reward_B.mean())
        weight = evaluate(loop("trajectory", threshold=0.0), batch).weight_BT[:, 0]
        kept = [y for y, d in zip(answers, ends, strict=True) if d <= sorted(ends)[1]]
        for y, w in zip(kept, weight.tolist(), strict=True):
            found += np.prod(chances) * w * (np.eye(3)[y] - 1 / 3)
    assert success == pytest.approx(rate)
    assert found == pytest.approx(gradient)


@pytest.mark.parametrize(
    ("durations", "settings_of", "error", "word"),
    [
        ([1.0, 2.0, 3.0], {"least": 2}, BatchError, "group 1 has 1 rollouts and never 2"),
        ([1.0, float("nan"), 3.0], {"least": 1}, BatchError, "duration of rollout 1 is nan"),
        ([1.0, 2.0, 0.0], {"least": 1}, BatchError, "duration of rollout 2 is 0"),
        ([1.0, 2.0, 3.0], {"least": 0}, SpecError, "least=0"),
        ([1.0, 2.0, 3.0], {"share": 0.0}, SpecError, "share=0"),
    ],
)
def test_collections_that_never_stop_are_refused(durations, settings_of, error, word):
    with pytest.raises(error, match=word):
        collected(torch.tensor(durations), torch.tensor([0, 0, 1]) if "least" in settings_of else torch.zeros(3), **settings_of)


def test_one_answer_a_prompt_and_unknown_levels_are_refused():
    batch = random_batch(1, groups=3, size=1)
    with pytest.raises(BatchError, match="leave-one-out needs two sequences"):
        evaluate(loop(), batch)
    with pytest.raises(SpecError, match="level='call'"):
        loop("call")
    with pytest.raises(BatchError, match="turn_BT"):
        evaluate(loop("turn"), rebuilt(random_batch(1), turn_BT=None))
    assert loop_with_std().advantage.scale == "group-std"
    assert loop().filters == (AdvantageFilter(0.01),)
    assert loop("turn").aggregation == Aggregation("sequence-mean-turn-mean", over="policy")


def test_looking_the_name_up_is_worth_it_when_two_calls_are_asked_for():
    problem = mini_repl()
    best = problem.mdp()
    from banach.solvers import solve

    solution = solve(best, eps=1e-9)
    assert float(best.initial @ solution.value) == pytest.approx((1.0 + 1.0) / 2, abs=1e-8)
    looked_up = {
        tuple(row[:2].tolist()) for row, r in zip(problem.token, problem.reward, strict=True) if r == 1 and row[0] == 4
    }
    assert len(looked_up) == 3
    guess = np.full((problem.n_nodes, 8), -40.0)
    for s in range(problem.n_sequences):
        for t in range(problem.horizon):
            if problem.mask[s, t]:
                guess[problem.node[s, t], 3 if t == 0 or not problem.mask[s, t - 1] else 0] = 0.0
    assert token_policy.prompt_reward(problem, guess) == pytest.approx([1 / 3, 1 / 3])


def test_a_critic_learns_the_value_of_the_policy_that_it_watches():
    """With a policy that stands still, regression on whole returns ends at the value of each node that is visited."""
    problem = mini_repl()
    critic, policy = TableCritic(problem), TablePolicy(problem)
    recipe = Recipe(tokens=16_000, prompts=16, group=8, rate=0.0, critic_rate=0.02)
    train(problem, policy, objective("ppo", value_clip=None, trace=1.0), recipe, 0, critic=critic)
    logits = policy.logits.detach().numpy()
    assert not logits.any()
    chance = problem.prompt_probability[problem.prompt] * token_policy.sequence_probability(problem, logits)
    visits = np.zeros(problem.n_nodes)
    np.add.at(visits, problem.node[problem.mask], np.broadcast_to(chance[:, None], problem.mask.shape)[problem.mask])
    often = visits > 0.02
    assert often.sum() > 5
    assert np.abs(critic.value.detach().numpy() - token_policy.value(problem, logits))[often].max() < 0.1


@given(seed=seeds)
@few
def test_with_the_group_s_deviation_it_is_grpo(seed):
    batch = random_batch(seed, groups=2, size=4, drift=1.0, rewards=(0.0, 0.5, 1.0))
    ours = dataclasses.replace(loop_with_std(), filters=())
    one, other = (evaluate(spec, batch) for spec in (ours, objective("grpo", beta=0.0, aggregation=ours.aggregation)))
    assert torch.allclose(one.weight_BT, other.weight_BT, atol=1e-12)


def test_the_kept_runs_do_not_tell_the_levels_apart_and_rejection_fine_tuning_is_behind():
    """What the entry says of them, in its figures: paired differences with their intervals."""
    kept = LOOP.results()

    def paired(one, other, where):
        pairs = zip(kept.numbers[one][f"reward, {where}"], kept.numbers[other][f"reward, {where}"], strict=True)
        gaps = np.array([a - b for a, b in pairs])
        return gaps.mean(), student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))

    for where in ("on the policy", "8 minibatches", "8 minibatches, slow"):
        for one, other in itertools.combinations([f"LOOP, {level}" for level in ("token", "turn", "trajectory")], 2):
            gap, half = paired(one, other, where)
            assert abs(gap) < half
        gap, half = paired("LOOP, token", "GRPO", where)
        assert abs(gap) < half
    told = [paired("LOOP, token", "LOOP, trajectory", where) for where in ("on the policy", "8 minibatches")]
    assert f"are {told[0][0]:.3f} +- {told[0][1]:.3f} on the policy and {told[1][0]:+.3f} +- {told[1][1]:.3f}" in LOOP.measured
    for where in ("on the policy", "8 minibatches", "on the policy, slow", "8 minibatches, slow"):
        gap, half = kept.difference("RFT", f"reward, {where}")
        assert gap + half < 0
    asks = {method: kept.mean(method, "asks first, on the policy, slow")[0] for method in kept.numbers}
    assert asks.pop("at the start") == pytest.approx(1 / 8)
    assert asks.pop("RFT") > 0.05
    assert max(asks.values()) < 0.02

"""ASPO: what shaping may do to an advantage, why rewards are not shaped, and what is true of supports."""

import dataclasses
import re
from itertools import accumulate

import numpy as np
import pytest
import torch
from banach.bounds.rlvr_tools import STRENGTH, shaping
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.audit import audit
from banach.llm.catalogue import objective
from banach.llm.environments import ToolSums
from banach.llm.errors import BatchError, SpecError
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.policy.tokenizer import CharacterTokenizer
from banach.llm.shaping import PRESETS, EarlyCalls, RewardedCalls, first_calls
from banach.llm.systems import system
from banach.llm.systems.aspo import aspo, union_support
from banach.llm.testbeds.rollout import batch_of
from banach.mdp import token_policy
from banach.mdp.errors import ModelError
from banach.mdp.instances_testbeds import free_call, oracle_call
from banach.mdp.instances_token import tiny_enum, tool_turns
from banach.mdp.token import TokenProblem
from banach.mdp.token_support import cheapest, empirical_support, feasible, support
from banach.solvers.token_optimum import regularised_optimum
from flint import fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import random_batch, rebuilt
from .sandbox import with_tool

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)
BASE = GroupAdvantage("group-mean", "group-std", 0)
FREE = free_call((2, 4), 3)


def a_group(rewards, calls, lengths=None):
    n = len(rewards)
    batch = random_batch(groups=1, size=n, horizon=8, edges=False)
    lengths = [8] * n if lengths is None else lengths
    mask = torch.arange(batch.mask_BT.shape[1])[None, :] < torch.tensor(lengths)[:, None]
    return rebuilt(
        batch,
        mask_BT=mask,
        reward_B=torch.tensor(rewards, dtype=torch.float64),
        first_call_B=torch.tensor(calls),
        group_B=torch.zeros(n, dtype=torch.int64),
    )


@given(seed=seeds, preset=st.sampled_from(sorted(PRESETS)))
@few
def test_an_eligible_answer_keeps_its_sign_and_most_of_its_size_and_others_are_untouched(seed, preset):
    batch = random_batch(seed, groups=3, size=4)
    out, share = outcome(batch), PRESETS[preset][1]
    before, part = BASE(out), aspo(preset).advantage
    after = dataclasses.replace(part, part=BASE)(out)
    eligible = (batch.reward_B >= 1) & (batch.first_call_B >= 0)
    assert torch.equal(after[~eligible], before[~eligible])
    assert ((after - before).abs() <= share * before.abs() + 1e-12).all()
    assert (after.sign() == before.sign()).all()


def test_a_group_that_is_all_right_learns_nothing_about_style():
    out = outcome(a_group([1.0] * 4, [1, 2, 3, 4]))
    assert not EarlyCalls(BASE)(out).any()


@pytest.mark.parametrize("strength", [-0.01, -0.2, -5.0])
def test_reward_shaping_there_is_as_strong_whatever_its_strength_and_pushes_right_answers_down(strength):
    batch = a_group([1.0] * 8, [1, 2, 3, 4, 5, 6, 7, 8])
    A = BASE(outcome(batch, (RewardedCalls(strength, limit=10.0),)))[:, 0]
    reference = BASE(outcome(batch, (RewardedCalls(-1.0, limit=10.0),)))[:, 0]
    assert torch.allclose(A, reference)
    assert (A < 0).sum() == 4


def test_with_one_wrong_answer_the_latest_right_one_is_still_pushed_down_by_reward_shaping():
    bonus = 0.2 * np.array([-1, -0.5, 0, 0.3, 0.5, 0.7, 1.0])
    rewards = np.append(1 + bonus, 0.0)
    A = (rewards - rewards.mean()) / rewards.std()
    assert A[0] == pytest.approx(-0.277, abs=1e-3)
    batch = a_group(rewards.tolist(), [-1] * 8)
    assert BASE(outcome(batch))[:, 0].numpy() == pytest.approx(A)


@given(seed=seeds)
@few
def test_biases_sum_to_zero_and_earlier_calls_are_never_worse(seed):
    rng = np.random.default_rng(seed)
    rewards = rng.choice([0.0, 1.0], 6)
    calls, lengths = rng.integers(-1, 7, 6), rng.integers(1, 8, 6)
    out = outcome(a_group(rewards.tolist(), calls.tolist(), lengths.tolist()))
    part = EarlyCalls(BASE, -1.0, 0.7)
    bias, A = part.bias(out), part(out)[:, 0]
    assert float(bias.sum()) == pytest.approx(0, abs=1e-12)
    eligible = np.flatnonzero((rewards == 1) & (calls >= 0))
    for i in eligible:
        for j in eligible:
            if calls[i] < calls[j]:
                assert bias[i] > bias[j]
                assert A[i] >= A[j]


@given(seed=seeds)
@few
def test_what_the_bound_on_the_gradient_is_measured_with_is_the_objective_s_own_shaping(seed):
    """Exact rationals, against the part, on centred advantages."""
    rng = np.random.default_rng(seed)
    rewards, calls, lengths = rng.choice([0.0, 1.0], 5), rng.integers(0, 7, 5), rng.integers(1, 8, 5)
    group = a_group(rewards.tolist(), np.where(calls > 0, calls, -1).tolist(), lengths.tolist())
    base = GroupAdvantage("group-mean")
    moved = EarlyCalls(base, float(STRENGTH), 0.7)(outcome(group)) - base(outcome(group))
    kinds = [(fmpq(int(r)), r == 1, int(call), int(n)) for r, call, n in zip(rewards, calls, lengths, strict=True)]
    assert moved[:, 0].tolist() == pytest.approx([float(x) for x in shaping(kinds, fmpq(7, 10))], abs=1e-12)


@given(seed=seeds)
@few
def test_stretching_all_positions_and_lengths_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    rewards, calls, lengths = rng.choice([0.0, 1.0], 5), rng.integers(0, 3, 5), rng.integers(1, 4, 5)
    one, two = (outcome(a_group(rewards.tolist(), (k * calls).tolist(), (k * lengths).tolist())) for k in (1, 2))
    assert torch.allclose(EarlyCalls(BASE).bias(one), EarlyCalls(BASE).bias(two))


@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
def test_with_at_most_one_eligible_answer_it_is_the_base(rewards):
    out = outcome(a_group(rewards, [2, 1, 3]))
    assert torch.equal(EarlyCalls(BASE)(out), BASE(out))


def test_a_right_answer_with_a_negative_base_is_not_inverted():
    batch = rebuilt(a_group([1.0, 1.0, 0.0], [1, 5, 0]), advantage_BT=torch.full((3, 9), -0.5, dtype=torch.float64))
    A = EarlyCalls(Given(), -2.0, 0.7)(outcome(batch))
    assert A[0, 0] == pytest.approx(-0.5 + 0.35)
    assert A[1, 0] == pytest.approx(-0.5 - 0.35)


def test_first_calls_are_those_that_were_answered():
    problem = oracle_call()
    call = first_calls(torch.tensor(problem.mask), torch.tensor(problem.turn.astype(np.int64))).tolist()
    words = [problem.text(i)[1] for i in range(problem.n_sequences)]
    assert call[words.index((3, 1, 1, 5, 6))] == 1
    assert call[words.index((4, 3, 2, 2, 5, 6))] == 2
    assert call[words.index((0, 5, 6))] == -1
    assert call[words.index((6,))] == -1


def test_the_tool_solves_what_text_guesses():
    problem = oracle_call()
    sure = np.full((problem.n_nodes, 7), -40.0)
    for s in range(problem.n_sequences):
        for t in range(problem.horizon):
            if problem.mask[s, t]:
                before = problem.token[s, :t].tolist()
                sure[problem.node[s, t], before[1] if before[:1] == [3] and len(before) > 1 else 3] = 0.0
    assert token_policy.expected_reward(problem, sure) == pytest.approx(1.0)
    guess = np.full((problem.n_nodes, 7), -40.0)
    guess[:, 0] = 0.0
    assert token_policy.expected_reward(problem, guess) == pytest.approx(1 / 3)


ANSWER = (1, 0, 1, 1)


def oracle(bits, environment="tool"):
    """The answer is m bits. Token 2 calls, and then the environment writes the answer ("tool"), or tosses fair bits ("coins");
    without an environment (None) the policy goes on by itself."""
    answer = ANSWER[:bits]

    def speak(_, tokens):
        if tokens and tokens[0] == 2 and len(tokens) <= bits:
            return np.eye(3)[answer[len(tokens) - 1]] if environment == "tool" else np.array([0.5, 0.5, 0.0])
        return None

    def right(_, tokens):
        return float(tokens[:bits] == answer or tokens == (2, *answer) or (environment == "tool" and tokens[0] == 2))

    return TokenProblem.build(3, bits + 1, 1, right, environment=speak if environment else None)


def calling(problem, p):
    """Fair bits, and a call with probability p."""
    logits = np.zeros((problem.n_nodes, 3))
    logits[:, 2] = -800.0
    logits[problem.node[0, 0], 2] = np.log(2 * p / (1 - p))
    return logits


def strings(problem, inside):
    return {problem.text(y)[1] for y in np.flatnonzero(inside)}


@pytest.mark.parametrize("p", [0.4, 0.05])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_text_that_guesses_what_the_tool_reads_has_2_to_the_minus_m_of_it_and_inclusion_is_strict_exactly_in_the_band(bits, p):
    """Below the band the guesses that are wrong are in text's support and in no tool's; above it the two agree."""
    tool, coins, alone = oracle(bits), oracle(bits, "coins"), oracle(bits, None)
    assert tool.n_nodes == coins.n_nodes
    target, q = (2, *ANSWER[:bits]), p / 2**bits
    found = {}
    for name, problem in (("tool", tool), ("coins", coins), ("alone", alone)):
        chance = token_policy.sequence_probability(problem, calling(problem, p))
        [place] = [y for y in range(problem.n_sequences) if problem.text(y)[1] == target]
        found[name] = chance[place]
    assert found["tool"] == pytest.approx(p, rel=1e-12)
    assert found["coins"] == pytest.approx(q, rel=1e-12)  # the environment tosses
    assert found["alone"] == pytest.approx(q, rel=1e-12)  # the policy writes the bits itself
    for e, by_text, by_tool in (
        (q, True, True),
        (q * (1 + 1e-9), False, True),
        (p, False, True),
        (p * (1 + 1e-9), False, False),
    ):
        text, with_tool = (strings(x, empirical_support(x, calling(x, p), e)) for x in (coins, tool))
        assert (target in text, target in with_tool) == (by_text, by_tool)
        assert (text < with_tool) == (q < e <= p)
        assert (text == with_tool) == (e > p)


def test_text_that_guesses_at_once_may_lie_in_the_band():
    """m = 2, p = .4, e = .2: the theorem's text has .1, another text .25."""
    coins, alone = oracle(2, "coins"), oracle(2, None)
    answer = (alone.token[:, :2] == (1, 0)).all(1)
    guess = np.zeros((alone.n_nodes, 3))
    guess[:, 2] = -800.0
    guess[alone.node[:, 2], :] = (0.0, -800.0, -800.0)  # what follows the bits is of no matter
    assert token_policy.sequence_probability(alone, guess)[answer].sum() == pytest.approx(0.25)
    assert empirical_support(alone, guess, 0.2)[answer].any()
    assert (2, 1, 0) not in strings(coins, empirical_support(coins, calling(coins, 0.4), 0.2))


def _binomial(n, k, p):
    from math import comb

    return comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("c", [0.0, 1e-6, 0.1, 0.2, 0.5, 0.9])
def test_the_printed_inclusion_fails_for_one_fixed_tool_model_that_calls_at_all_and_holds_a_little_lower(c):
    """Text has a sequence at exactly e; the tool model spends c on calls and gives it (1 - c) e."""
    problem = TokenProblem.bandit(np.array([[1.0, 0.0, 0.0]]))  # two texts and a call
    e = 0.25
    text, tool = np.log([[e, 1 - e, 1e-300]]), np.log([[(1 - c) * e, (1 - c) * (1 - e), max(c, 1e-300)]])
    by_text, by_tool = empirical_support(problem, text, e), empirical_support(problem, tool, e)
    assert by_text[0]
    assert by_tool[0] == (c == 0)
    assert (by_text <= by_tool).all() == (c == 0)
    assert (by_text <= empirical_support(problem, tool, (1 - c) * e)).all()


@pytest.mark.parametrize("e", [0.01, 0.25, 0.5, 1.0])
def test_over_the_policies_of_a_class_text_is_included_and_the_union_is_what_the_best_policies_attain(e):
    """One policy for each sequence, which walks along it, against the environment's probability alone."""
    problem = oracle(2, "coins")
    tool = np.ones((problem.n_nodes, 3), dtype=bool)
    text = tool & (np.arange(3) != 2)
    found = {}
    for name, allowed in (("text", text), ("tool", tool)):
        attained = np.zeros(problem.n_sequences, dtype=bool)
        for y in np.flatnonzero(support(problem, allowed)):
            walk = np.where(allowed, 0.0, -800.0)
            mine = problem.mask[y]
            walk[problem.node[y, mine], problem.token[y, mine]] = 800.0
            attained |= empirical_support(problem, walk, e)
        found[name] = union_support(problem, allowed, e)
        assert (found[name] == attained).all()
    assert (found["text"] <= found["tool"]).all()
    called = problem.token[:, 0] == 2  # a reading has a chance of a quarter
    assert not found["text"][called].any()
    assert found["tool"][called].all() == found["tool"][called].any() == (e <= 0.25)
    with pytest.raises(ModelError, match="epsilon is 0"):
        union_support(problem, tool, 0)


@given(seed=seeds, e=st.floats(1e-3, 1))
@few
def test_no_policy_shows_more_than_the_union_of_its_class(seed, e):
    problem = tool_turns()
    logits = np.random.default_rng(seed).normal(0, 3, (problem.n_nodes, problem.vocabulary_size))
    everything = np.ones(logits.shape, dtype=bool)
    assert (empirical_support(problem, logits, e) <= union_support(problem, everything, e)).all()


@given(seed=seeds, beta=st.floats(0.1, 2))
@few
def test_the_regularised_optimum_has_the_support_of_the_reference(seed, beta):
    """Soft backward induction, and q e^(R/b) / Z on whole answers; a logit of -800 is a probability of zero."""
    problem, rng = tiny_enum(), np.random.default_rng(seed)
    reference = rng.normal(size=(problem.n_nodes, 3))
    reference[rng.random(reference.shape) < 0.3] = -800.0
    reference[:, 0] = rng.normal(size=problem.n_nodes)  # something is left everywhere, and something is missing
    reference[0, 1] = -800.0
    q = token_policy.sequence_probability(problem, reference)
    best = token_policy.sequence_probability(problem, regularised_optimum(problem, reference, beta).logits)
    assert ((best > 0) == (q > 0)).all()
    heavy = q * np.exp(problem.reward / beta)
    assert best == pytest.approx(heavy / np.bincount(problem.prompt, heavy)[problem.prompt], abs=1e-12)
    assert (q == 0).any()


def grpo_step(problem, log_policy_NV, sequences, parameter):
    """GRPO's gradient on a group of these answers, on the policy, by the parameter; and the score weights (B, T)."""
    batch = batch_of(problem, np.array(sequences), np.zeros(len(sequences)), log_policy_NV, log_policy_NV)
    found = evaluate(objective("grpo", beta=0.0), batch)
    [slope] = torch.autograd.grad(-found.loss, parameter)
    return slope, found.weight_BT


def test_grpo_moves_the_logit_of_an_answer_that_was_never_sampled_by_nothing_and_its_probability_by_normalisation():
    problem = TokenProblem.bandit(np.array([[1.0, 0.0, 1.0, 0.0]]))
    logits = torch.tensor([[0.3, -0.4, 0.9, 0.1]], dtype=torch.float64, requires_grad=True)
    slope, _ = grpo_step(problem, logits.log_softmax(1), [0, 1, 1, 0, 0], logits)
    assert slope[0, 0] > 0.1
    assert slope[0, 1] < -0.1
    assert slope[0, 2:].abs().max() < 1e-15  # right or wrong
    before, after = logits.softmax(1)[0], (logits + 0.5 * slope).softmax(1)[0]
    assert (after[2] / after[3]).item() == pytest.approx((before[2] / before[3]).item(), rel=1e-12)
    assert abs((after[2] - before[2]).item()) > 1e-4


@given(seed=seeds)
@few
def test_grpo_on_a_table_leaves_what_was_never_visited_and_scales_what_was_never_chosen(seed):
    """At a node that was visited, a token never chosen moves by -pi(a) times what the chosen ones weigh in sum."""
    problem, rng = tiny_enum(), np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(problem.n_nodes, 3)), requires_grad=True)
    of_one = np.flatnonzero(problem.prompt == problem.prompt[rng.integers(problem.n_sequences)])
    sequences = rng.choice(of_one, 5)
    slope, weight = grpo_step(problem, logits.log_softmax(1), sequences, logits)
    node, token, mask = (x[sequences] for x in (problem.node, problem.token, problem.mask))
    policy = logits.detach().softmax(1)
    for n in range(problem.n_nodes):
        here = mask & (node == n)
        total = float(weight[torch.tensor(here)].sum())
        for a in set(range(3)) - set(token[here].tolist()):
            assert float(slope[n, a]) == pytest.approx(-float(policy[n, a]) * total, abs=1e-12)
    assert not slope[sorted(set(range(problem.n_nodes)) - set(node[mask].tolist()))].any()


def test_grpo_on_shared_features_raises_an_answer_that_was_never_sampled():
    """Two answers share a feature; GRPO on a group with the one raises the other, which had probability one in 10^5."""
    problem = TokenProblem.bandit(np.array([[1.0, 1.0, 0.0]]))
    features = torch.tensor([[1.0, 0.0], [1.0, -12.0], [-1.0, 0.0]], dtype=torch.float64)
    theta = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    log_policy = (features @ theta).log_softmax(0)[None]
    slope, _ = grpo_step(problem, log_policy, [0, 0, 2, 2], theta)
    before, after = log_policy[0].exp(), (features @ (theta + 0.5 * slope)).softmax(0)
    assert before[1] < 1e-5
    assert after[1] > 1.2 * before[1]


def unary(n, a, b):
    """The answer to n: as text, a then b ones for each of n; by a program, one call that the environment answers."""
    long = a + b * n

    def environment(_, tokens):
        if not tokens:
            return None
        if tokens[0] == 1:
            return np.eye(3)[2]
        return None if len(tokens) < long else np.eye(3)[2]

    return TokenProblem.build(
        3, long + 1, 1, lambda _, tokens: float(set(tokens[:long]) <= {0} or tokens[0] == 1), eos=2, environment=environment
    )


@pytest.mark.parametrize("c0", [3, 9])
@pytest.mark.parametrize("budget", [2, 4, 5, 8])
def test_a_budget_separates_text_and_program_exactly_from_some_size_on(c0, budget):
    """a + b n tokens of text against c_0 of a program: strict iff n > (B - a)/b and c_0 <= B, over enumerated sequences."""
    a, b = 1, 1
    for n in range(1, 7):
        problem = unary(n, a, b)
        called = problem.token[:, 0] == 1
        cost = np.where(called, c0, (problem.token == 0).sum(1))
        right = ["right" if r else "wrong" for r in problem.reward]
        with_tool = np.ones((problem.n_nodes, 3), dtype=bool)
        by_text = with_tool & (np.arange(3) != 1)
        found = {
            name: "right" in feasible(problem, x, cost, right, budget) for name, x in (("text", by_text), ("tool", with_tool))
        }
        assert found["text"] == (a + b * n <= budget)
        assert found["tool"] >= found["text"]
        assert (found["tool"] and not found["text"]) == (n > (budget - a) / b and c0 <= budget)


def test_the_tool_model_s_support_contains_the_text_model_s_strictly_and_a_softmax_leaves_nothing_out():
    """supp at e = 0: sequences of allowed tokens, however improbable; supp_e of the same policy is smaller."""
    problem = oracle(3)
    tool = np.ones((problem.n_nodes, 3), dtype=bool)
    text = tool & (np.arange(3) != 2)
    by_text, by_tool = support(problem, text), support(problem, tool)
    called = np.array([bool(((row == 2) & mask).any()) for row, mask in zip(problem.token, problem.mask, strict=True)])
    assert (by_text == ~called).all()
    assert (by_text <= by_tool).all()
    assert by_tool.all()
    assert not by_text.all()
    logits = np.where(text, 0.0, -500.0)  # a call has probability e^-500, which is not 0
    assert not empirical_support(problem, logits, 1e-9)[called].any()
    assert (empirical_support(problem, logits, 1e-9) <= by_tool).all()
    with pytest.raises(ModelError, match="allowed is float64"):
        support(problem, logits)


def test_the_cheapest_member_of_a_class_decides_what_a_budget_allows():
    problem = oracle_call()
    right = [int(r) for r in problem.reward]
    length = (problem.token >= 0).sum(1)
    allowed = np.ones((problem.n_nodes, 7), dtype=bool)
    least = cheapest(problem, allowed, length, right)
    assert least == {0: 1.0, 1: 3.0}  # ending at once; an accepted guess
    assert set(length[problem.reward == 1]) >= {3, 5}
    for budget in (0.5, 1, 2.5, 3):
        assert feasible(problem, allowed, length, right, budget) == {name for name, price in least.items() if price <= budget}


def test_the_bias_does_not_depend_on_the_deviation_of_rewards_and_reward_shaping_does():
    """One right answer among wrong ones more: the bias before the clip stays; what reward shaping adds to A changes."""
    calls, part, shaped = [1, 2, 5], EarlyCalls(BASE, -2.0, 0.7), (RewardedCalls(-0.2),)
    biases, gaps = [], []
    for wrong in (0, 1, 12):
        group = a_group([1.0] * 3 + [0.0] * wrong, calls + [3] * wrong)
        biases.append(part.bias(outcome(group))[:3])
        A = BASE(outcome(group, shaped))[:3, 0]
        gaps.append(float(A[0] - A[2]))
        after = part(outcome(group))[:3, 0]
        assert float((after - BASE(outcome(group))[:3, 0]).abs().max()) <= 0.7 * float(BASE(outcome(group)).abs().max())
    assert torch.allclose(biases[0], biases[1])
    assert torch.allclose(biases[0], biases[2])
    assert gaps[0] > 2 * gaps[1]


def test_a_mean_length_forgives_small_differences_of_position_that_a_deviation_of_positions_amplifies():
    """Calls one token apart and four apart: the bonus over the deviation is the same, the bias a quarter."""
    near, far = (a_group([1.0, 1.0, 0.0], [2, 2 + k, 0]) for k in (1, 4))
    bias = [EarlyCalls(BASE).bias(outcome(group)) for group in (near, far)]
    assert torch.allclose(4 * bias[0], bias[1])
    bonus = [outcome(group, (RewardedCalls(-0.2),)).reward_B for group in (near, far)]
    assert torch.allclose(bonus[0], bonus[1])
    assert float(bonus[0][0] - bonus[0][1]) == pytest.approx(0.4)


@pytest.mark.parametrize("bits", [2, 4])
def test_pass_at_k_of_the_text_oracle_is_that_of_a_guess_and_its_estimator_is_unbiased(bits):
    problem, q = oracle(bits, None), 2.0**-bits
    right = np.zeros((problem.n_nodes, 3))
    right[:, 2] = -800.0
    for k in (1, 4, 16, 256):
        assert token_policy.pass_at_k(problem, right, k) == pytest.approx(1 - (1 - q) ** k, rel=1e-9)
    for k in (1, 3, 8):
        mean = sum(_binomial(8, c, q) * float(token_policy.pass_at_k_estimate(8, float(c), k)) for c in range(9))
        assert mean == pytest.approx(1 - (1 - q) ** k)
    tool, p = oracle(bits), 0.4
    for k in (1, 4, 16):
        assert token_policy.pass_at_k(tool, calling(tool, p), k) == pytest.approx(1 - (1 - p - (1 - p) * q) ** k)


@with_tool
@pytest.mark.parametrize(("terms", "pays"), [(3, False), (10, True)])
def test_a_program_costs_less_than_running_sums_where_there_are_many_terms_and_never_less_than_the_answer_alone(terms, pays):
    """All tokens count: prompt, policy, and what the sandbox printed. One class adds up, by hand or by program; one guesses."""
    posed, letters = ToolSums(terms=terms, shots=0), CharacterTokenizer()
    problem = posed.problem(0)
    numbers = [int(x) for x in re.findall(r"\d+", problem.prompt)]
    partial = list(accumulate(numbers))
    steps = "".join(f"{s} + {x} = {s + x}\n" for s, x in zip(partial, numbers[1:], strict=False))
    call, last = problem.turns[0], problem.turns[-1]
    said = letters.decode(posed.environment(letters)(0, letters.encode(call)))
    answers = [last, steps + last, call + said + f"Answer: {re.findall(r'[0-9]+', said)[0]}"]
    assert [posed.score(problem, posed.parse(answer)) for answer in answers] == [1.0, 1.0, 1.0]
    cost = np.array([len(letters.encode(problem.prompt + answer)) for answer in answers], dtype=float)
    assert cost[0] < cost[2]
    assert (cost[2] < cost[1]) == pays
    choice, classes = TokenProblem.bandit(np.ones((1, 3))), ["guess", "add", "add"]
    tool, text = np.ones((1, 3), dtype=bool), np.array([[True, True, False]])
    for budget in sorted({*cost, *(cost - 1)}):
        by_text, by_tool = (feasible(choice, allowed, cost, classes, budget) for allowed in (text, tool))
        assert by_text <= by_tool
        assert (by_text < by_tool) == (cost[2] <= budget < cost[1])


@with_tool
def test_pass_at_k_of_text_and_tool_on_sums_with_a_sandbox():
    """Text guesses a sum in its range, the tool's policy calls with probability .1: from every k on the tool's is higher."""
    posed, letters, c = ToolSums(shots=0), CharacterTokenizer(), 0.1
    problem = posed.problem(1)
    said = letters.decode(posed.environment(letters)(0, letters.encode(problem.turns[0])))
    copied = posed.score(problem, re.findall(r"\d+", said)[0])
    scores = np.array([posed.score(problem, str(guess)) for guess in range(200, 1999)])
    q, p = scores.mean(), c * copied + (1 - c) * scores.mean()
    assert q == pytest.approx(1 / 1799)
    bandit = TokenProblem.bandit(np.array([[1.0, 0.0]]))
    for k in (1, 16, 256):
        text, tool = (token_policy.pass_at_k(bandit, np.log([[x, 1 - x]]), k) for x in (q, p))
        assert text == pytest.approx(1 - (1 - q) ** k)
        assert float(token_policy.pass_at_k_estimate(1799, scores.sum(), k)) == pytest.approx(k / 1799)
        assert tool == pytest.approx(1 - (1 - p) ** k)
        assert tool > text + 0.09


@given(seed=seeds)
@few
def test_where_a_call_stands_is_free_of_reward(seed):
    """Every policy: its worth from its guesses alone, and the success of answers by the position of their first call."""
    problem = FREE
    logits = np.random.default_rng(seed).normal(0, 2, (problem.n_nodes, 3))
    chance = token_policy.sequence_probability(problem, logits)
    guess = np.exp(token_policy.log_policy(problem, logits))[problem.node[:, 0], 0]
    worth = np.where(problem.prompt == 0, 0.25, 1 / 16)
    for m in (0, 1):
        mine = problem.prompt == m
        g = guess[mine][0]
        assert chance[mine] @ problem.reward[mine] == pytest.approx(g * worth[mine][0] + (1 - g) * 0.9)
    call = first_calls(torch.tensor(problem.mask), torch.tensor(problem.turn.astype(np.int64))).numpy()
    assert sorted(set(call)) == [-1, 1, 2, 3, 4]
    for place in (1, 2, 3, 4):
        here = call == place
        assert chance[here] @ problem.reward[here] == pytest.approx(0.9 * chance[here].sum())


def test_where_thinking_helps_a_later_call_is_worth_a_little_more_and_a_short_horizon_makes_it_worth_nothing():
    helps = free_call((2,), 3, 1, 0.6, 0.1)
    uniform = token_policy.sequence_probability(helps, np.zeros((helps.n_nodes, 3)))
    call = first_calls(torch.tensor(helps.mask), torch.tensor(helps.turn.astype(np.int64))).numpy()
    worth = [uniform[call == k] @ helps.reward[call == k] / uniform[call == k].sum() for k in (1, 2, 3, 4)]
    assert worth == pytest.approx([0.6, 0.7, 0.8, 0.9])
    cut = oracle_call()
    chance = token_policy.sequence_probability(cut, np.zeros((cut.n_nodes, 7)))
    call = first_calls(torch.tensor(cut.mask), torch.tensor(cut.turn.astype(np.int64))).numpy()
    worth = [chance[call == k] @ cut.reward[call == k] / chance[call == k].sum() for k in (1, 2, 3, 4)]
    assert sorted(worth, reverse=True) == worth
    assert worth[0] > worth[2] > worth[3] == 0
    for wrong in ({"bits": ()}, {"thoughts": 0}, {"calls": 0}, {"reliability": 1.0}, {"thinking": 0.1}):
        with pytest.raises(ModelError, match=f"{next(iter(wrong))}.*must be"):
            free_call(**wrong)


@pytest.mark.slow
def test_the_entry_says_what_the_audit_says():
    found, base = audit(objective("aspo")), audit(objective("dapo"))
    assert found["scalar"].verdict == base["scalar"].verdict
    assert "cosine 0.99192" in found["scalar"].verdict
    verdicts = [finding.verdict for finding in found.findings]
    assert [v for v in verdicts if "antisymmetric" in v] == [
        f"The field is no scalar's gradient: {share} % of its Jacobian is antisymmetric." for share in (12, 11)
    ]
    assert any("nearest is J" in v and "cosine 0.98711" in v for v in verdicts)
    for words in ("no scalar", "12 %", "11 %", "0.992", "0.987"):
        assert words in system("aspo").optimizes


def test_without_calls_in_the_batch_and_with_settings_that_are_none_it_refuses():
    with pytest.raises(BatchError, match="first_call_B"):
        evaluate(aspo(), rebuilt(random_batch(1), first_call_B=None))
    with pytest.raises(SpecError, match=r"share=1\.0"):
        EarlyCalls(BASE, -2.0, 1.0)
    with pytest.raises(SpecError, match="limit=0"):
        RewardedCalls(limit=0.0)
    with pytest.raises(SpecError, match="strength=nan"):
        RewardedCalls(strength=float("nan"))
    with pytest.raises(SpecError, match="threshold=nan"):
        EarlyCalls(BASE, -2.0, 0.5, threshold=float("nan"))
    for wrong, said in (
        ({"preset": "bold"}, "preset='bold'; there are 'conservative'"),
        ({"preset": ["aggressive"]}, "preset="),
        ({"strength": float("nan")}, "strength=nan"),
        ({"share": float("nan")}, "share=nan"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"ddof": 2}, "ddof=2"),
    ):
        with pytest.raises(SpecError, match=said):
            aspo(**wrong)
    assert plan(aspo(strength=0.0), random_batch(1)).advantage_BT.equal(
        plan(objective("dapo", overlong=None), random_batch(1)).advantage_BT
    )

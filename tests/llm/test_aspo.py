"""ASPO: what shaping may do to an advantage, why rewards are not shaped, and what is true of supports."""

import dataclasses

import numpy as np
import pytest
import torch
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, SpecError
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.shaping import PRESETS, EarlyCalls, RewardedCalls, first_calls
from banach.llm.systems.aspo import aspo
from banach.mdp import token_policy
from banach.mdp.errors import ModelError
from banach.mdp.instances_testbeds import oracle_call
from banach.mdp.token import TokenProblem
from banach.mdp.token_support import cheapest, empirical_support, feasible, support
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import random_batch, rebuilt

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)
BASE = GroupAdvantage("group-mean", "group-std", 0)


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


def oracle(bits, tool):
    """The answer is m bits. As text the policy writes them; with the tool, token 2 makes the environment write them."""
    answer = (1, 0, 1, 1)[:bits]

    def environment(_, tokens):
        if tokens and tokens[0] == 2 and len(tokens) <= bits:
            return np.eye(3)[answer[len(tokens) - 1]]
        return None

    def right(_, tokens):
        return float(tokens[:bits] == answer or tokens[0] == 2)

    return TokenProblem.build(3, bits + 1, 1, right, environment=environment if tool else None)


@pytest.mark.parametrize("bits", [2, 4])
def test_an_oracle_of_m_bits_and_the_band_in_which_only_the_tool_model_has_support(bits):
    problem, p = oracle(bits, True), 0.4
    logits = np.zeros((problem.n_nodes, 3))
    logits[:, 2] = -60.0  # bits are fair
    logits[problem.node[0, 0], 2] = np.log(2 * p / (1 - p))  # the first token calls with probability p
    chance = token_policy.sequence_probability(problem, logits)
    called = problem.token[:, 0] == 2
    assert chance[called].sum() == pytest.approx(p)
    written = np.array([tuple(row[:bits]) == (1, 0, 1, 1)[:bits] for row in problem.token.tolist()])
    assert chance[written].sum() == pytest.approx((1 - p) * 2.0**-bits)
    inside = empirical_support(problem, logits, p / 2)
    assert inside[called & (chance > 0.01)].any()
    assert not inside[written].any()


def _binomial(n, k, p):
    from math import comb

    return comb(n, k) * p**k * (1 - p) ** (n - k)


def test_the_printed_inclusion_fails_for_one_fixed_tool_model_and_holds_a_little_lower():
    """Text has a sequence at exactly e; the tool model spends c on calls and gives it (1 - c) e."""
    problem = TokenProblem.bandit(np.array([[1.0, 0.0, 0.0]]))  # two texts and a call
    e, c = 0.25, 0.2
    text, tool = np.log([[e, 1 - e, 1e-300]]), np.log([[(1 - c) * e, (1 - c) * (1 - e), c]])
    by_text, by_tool = empirical_support(problem, text, e), empirical_support(problem, tool, e)
    assert by_text[0]
    assert not by_tool[0]
    assert not (by_text <= by_tool).all()
    assert (by_text[:2] <= empirical_support(problem, tool, (1 - c) * e)[:2]).all()
    assert (by_text <= (by_tool | by_text)).all()  # the union over policies of the class contains both


@given(seed=seeds, beta=st.floats(0.1, 2))
@few
def test_the_regularised_optimum_has_the_support_of_the_base(seed, beta):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(5)) * rng.choice([0.0, 1.0], 5, p=[0.3, 0.7])
    if q.sum() > 0:
        q /= q.sum()
        best = q * np.exp(rng.choice([0.0, 1.0], 5) / beta)
        assert ((best / best.sum() > 0) == (q > 0)).all()


def test_shared_features_raise_answers_that_were_never_sampled():
    """Two answers share a feature; a policy gradient on the one raises the other, which had probability one in a million."""
    features = torch.tensor([[1.0, 0.0], [1.0, -12.0], [-1.0, 0.0]], dtype=torch.float64)
    theta = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    logp = (features @ theta).log_softmax(0)
    [slope] = torch.autograd.grad(logp[0], theta)
    after = (features @ (theta + 0.5 * slope).detach()).softmax(0)
    assert logp[1].exp() < 1e-5
    assert after[1] > 1.2 * logp[1].exp()


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
    problem = oracle(3, True)
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
    problem, q = oracle(bits, False), 2.0**-bits
    right = np.zeros((problem.n_nodes, 3))
    right[:, 2] = -800.0
    for k in (1, 4, 16, 256):
        assert token_policy.pass_at_k(problem, right, k) == pytest.approx(1 - (1 - q) ** k, rel=1e-9)
    for k in (1, 3, 8):
        mean = sum(_binomial(8, c, q) * float(token_policy.pass_at_k_estimate(8, float(c), k)) for c in range(9))
        assert mean == pytest.approx(1 - (1 - q) ** k)
    tool, p = oracle(bits, True), 0.4
    logits = np.zeros((tool.n_nodes, 3))
    logits[:, 2] = -800.0
    logits[tool.node[0, 0], 2] = np.log(2 * p / (1 - p))
    for k in (1, 4, 16):
        assert token_policy.pass_at_k(tool, logits, k) == pytest.approx(1 - (1 - p - (1 - p) * q) ** k)


def test_without_calls_in_the_batch_and_with_settings_that_are_none_it_refuses():
    with pytest.raises(BatchError, match="first_call_B"):
        evaluate(aspo(), rebuilt(random_batch(1), first_call_B=None))
    with pytest.raises(SpecError, match=r"share=1\.0"):
        EarlyCalls(BASE, -2.0, 1.0)
    with pytest.raises(SpecError, match="limit=0"):
        RewardedCalls(limit=0.0)
    assert plan(aspo(strength=0.0), random_batch(1)).advantage_BT.equal(
        plan(objective("dapo", overlong=None), random_batch(1)).advantage_BT
    )

"""Lite PPO: what its batch deviation does to steps and directions, where it equals GRPO, where it amplifies."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.audit import batching
from banach.llm.audit.loss_audit import default_problem
from banach.llm.audit.on_policy import OnPolicy, direction
from banach.llm.audit.stand_ins import loss_of_spec
from banach.llm.audit.subject import Subject
from banach.llm.catalogue import objective
from banach.llm.errors import SpecError
from banach.llm.objective import ObjectiveSpec, evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.surrogate import ImportanceWeighted, PolicyGradient
from banach.llm.systems.lite_ppo import DATA, GRPO, LITE, LITE_PPO, cells, group_tail, implicit_step, prompt_weights
from banach.mdp import token_policy
from banach.mdp.token import TokenProblem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, ttest_rel

from .exact_gradient import expected_gradient, gradient_of, success
from .objective_batches import random_batch, rebuilt

few = settings(max_examples=15, deadline=None)
rewards = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=8, max_size=8), min_size=2, max_size=4)


def advantages(table, **settings):
    """(N, K) advantages of rewards (N, K)."""
    table = torch.tensor(table, dtype=torch.float64)
    n, k = table.shape
    batch = random_batch(groups=n, size=k, horizon=1, edges=False)
    batch = rebuilt(batch, reward_B=table.reshape(-1), group_B=torch.arange(n).repeat_interleave(k))
    part = GroupAdvantage(**({"baseline": "group-mean", "scale": "batch-std", "ddof": 0} | settings))
    return part(outcome(batch))[:, 0].reshape(n, k).numpy()


@given(table=rewards)
@few
def test_the_mean_square_of_its_advantages_is_the_share_of_the_variance_within_prompts(table):
    A, R = advantages(table), np.array(table)
    if R.var() == 0:
        assert not A.any()
        return
    expected = R.var(axis=1).mean() / (R.var(axis=1).mean() + R.mean(axis=1).var())
    assert (A**2).mean() == pytest.approx(expected, abs=1e-12)
    assert (advantages(table, ddof=1) ** 2).mean() == pytest.approx(expected * (1 - 1 / R.size), abs=1e-12)
    assert implicit_step(R.var(axis=1), R.mean(axis=1)) == pytest.approx(expected, abs=1e-12)
    assert math.isclose(expected, 1.0) == (len(set(R.mean(axis=1))) == 1)


def test_a_group_without_spread_has_no_advantage_whatever_the_other_groups():
    A = advantages([[0.7] * 8, [0.0] * 7 + [1.0]])
    assert not A[0].any()
    assert A[1].any()


def test_the_one_wrong_answer_of_eight_is_amplified_by_grpo_and_not_by_the_batch():
    table = [[1.0] * 7 + [0.0], [0.0] * 7 + [1.0]]
    lite, grpo = advantages(table), advantages(table, scale="group-std")
    assert grpo[0, 7] == pytest.approx(-math.sqrt(7))
    assert np.std(table) == 0.5
    assert lite[0, 7] == pytest.approx(-1.75)
    assert grpo / lite == pytest.approx(np.full((2, 8), 0.5 / np.std(table[0])))


def test_groups_of_equal_means_and_variances_are_treated_as_grpo_treats_them():
    table = [[0.0, 1, 0, 1], [1.0, 1, 0, 0], [0.0, 0, 1, 1]]
    assert advantages(table) == pytest.approx(advantages(table, scale="group-std"), abs=1e-14)
    batch = rebuilt(random_batch(groups=3, size=4), reward_B=torch.tensor(table, dtype=torch.float64).reshape(-1))
    mean = Aggregation("token-mean")
    lite, grpo = objective("lite_ppo", ddof=0), objective("grpo", beta=0.0, ddof=0, aggregation=mean)
    assert torch.allclose(evaluate(lite, batch).weight_BT, evaluate(grpo, batch).weight_BT, rtol=1e-13, atol=0)
    apart = rebuilt(batch, reward_B=torch.tensor([*table[0], *table[1], 0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
    assert not torch.allclose(evaluate(lite, apart).weight_BT, evaluate(grpo, apart).weight_BT, rtol=1e-3)


THREE = TokenProblem.bandit(np.eye(2)[[0, 0, 0]])
"""Three prompts with two answers, the first right."""


def test_with_a_frozen_deviation_it_keeps_the_direction_of_success_and_grpo_does_not():
    logits = np.stack([np.log([0.02, 0.5, 0.98]), np.log([0.98, 0.5, 0.02])], 1)
    plain = token_policy.expected_reward_gradient(THREE, logits)
    p = np.array([0.02, 0.5, 0.98])
    pooled = math.sqrt(p.mean() * (1 - p.mean()))
    arcsine = gradient_of(lambda z: (2 * success(THREE, z).sqrt().arcsin()).mean(), logits)
    lite = large_batch(logits, np.full(3, pooled))
    grpo = large_batch(logits, np.sqrt(p * (1 - p)))
    assert lite == pytest.approx(plain / pooled, abs=1e-12)
    assert grpo == pytest.approx(arcsine, abs=1e-12)
    assert cosine(lite, plain) == pytest.approx(1.0, abs=1e-12)
    assert f"{cosine(grpo, plain):.3f}" == "0.965"
    assert "0.965" in LITE_PPO.findings[0]


def large_batch(logits, deviation):
    """The expected gradient where mean and deviation of a prompt, (P,) each, are those of the population."""
    p = success(THREE, torch.tensor(logits)).numpy()
    advantage = ((THREE.reward - p[THREE.prompt]) / deviation[THREE.prompt])[:, None]
    spec = ObjectiveSpec("limit", Given(), PolicyGradient(), aggregation=Aggregation("sequence-mean-token-sum"))
    return expected_gradient(spec, THREE, logits, advantage_BT=advantage)


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("size", [2, 3])
def test_frozen_in_the_library_the_expected_gradient_of_all_groups_is_that_of_success(size):
    """(K - 1)/K / c of it, c = .4, on two tokens a prompt; over every group of two and three answers."""
    problem = TokenProblem.build(2, 2, 2, lambda prompt, tokens: float(sum(tokens) == prompt + 1))
    logits = np.random.default_rng(size).normal(size=(problem.n_nodes, 2))
    plain = token_policy.expected_reward_gradient(problem, logits)
    spec = objective("lite_ppo", deviation=0.4, aggregation=Aggregation("sequence-mean-token-sum"))
    assert expected_gradient(spec, problem, logits, size=size) == pytest.approx((1 - 1 / size) / 0.4 * plain, abs=1e-12)


def test_with_two_answers_a_prompt_the_audit_s_field_is_all_but_the_gradient_of_reward():
    """At the random policies of `audit(..., group_size=2)`, whose generator other questions have drawn from before."""
    subject, generator = Subject(loss_of_spec(objective("lite_ppo"))), np.random.default_rng(0)
    draw = batching.Draw(default_problem(), 2, generator)
    assert batching.determinism(subject, draw) is None
    exchangeable = batching.permutation(subject, draw)[1]
    cosine = direction(OnPolicy(subject, default_problem(), 2, exchangeable, generator)).details["cosine"]
    assert f"{cosine:.3f}" == "0.994"
    assert "cosine 0.994" in LITE_PPO.optimizes


def all_tables(p, answers):
    """Every table of rewards (N, K), its chance, and R - p, for prompts of success rates p, (N,)."""
    for found in product([0.0, 1.0], repeat=len(p) * answers):
        R = np.array(found).reshape(len(p), answers)
        yield R, np.prod(np.where(R == 1, p[:, None], 1 - p[:, None])), R - p[:, None]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"ddof": 0}, [1.077, 1.127]), ({"ddof": 1}, [0.933, 0.976]), ({"ddof": None, "deviation": 0.4}, [1.25, 1.25])],
)
def test_the_deviation_of_a_small_batch_leans_on_its_own_rewards_and_a_frozen_one_cannot(settings, expected):
    """N = 2, K = 2, success .1 and .5: the expected gradient over p (1 - p)."""
    p = np.array([0.1, 0.5])
    found = sum(chance * (advantages(R, **settings) * score).mean(1) for R, chance, score in all_tables(p, 2))
    assert found / (p * (1 - p)) == pytest.approx(expected, abs=5e-4)
    if settings["ddof"] is not None:
        assert prompt_weights(p, 2, settings["ddof"]) == pytest.approx(found / (p * (1 - p)), abs=1e-12)


def test_the_weights_of_prompts_are_those_of_all_tables_of_three():
    p = np.array([0.02, 0.5, 0.9])
    found = sum(chance * (advantages(R) * score).mean(1) for R, chance, score in all_tables(p, 2))
    assert prompt_weights(p, 2) == pytest.approx(found / (p * (1 - p)), abs=1e-12)


def test_as_the_batch_grows_its_prompts_come_to_weigh_alike_but_not_at_once():
    """Half of the prompts at .1, half at .5, two answers: the second kind's weight over the first's. As 1/N in the end."""
    weights = [prompt_weights(np.array([0.1, 0.5] * n), 2) for n in (1, 2, 4, 8, 16)]
    ratios = [w[1] / w[0] for w in weights]
    assert ratios == pytest.approx([1.046, 1.075, 1.047, 1.024, 1.012], abs=5e-4)
    assert "1.046, 1.075, 1.047, 1.024 and 1.012" in " ".join(LITE_PPO.findings)
    assert (ratios[-1] - 1) / (ratios[-2] - 1) == pytest.approx(0.5, abs=0.01)
    assert weights[-1] == pytest.approx(np.full(32, 0.5 / math.sqrt(0.3 * 0.7)), rel=0.011)


@given(table=rewards, deviation=st.floats(0.05, 5))
@few
def test_a_frozen_deviation_divides_and_does_nothing_else(table, deviation):
    R = np.array(table)
    found = advantages(table, ddof=None, deviation=deviation)
    assert found == pytest.approx((R - R.mean(1, keepdims=True)) / deviation, abs=1e-12)
    assert not found[R.var(1) == 0].any()
    bare = advantages(table, baseline="none", ddof=None, deviation=deviation, epsilon=0.5)
    assert bare == pytest.approx(R / (deviation + 0.5), abs=1e-12)


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.inf, math.nan])
def test_a_frozen_deviation_that_divides_nothing_is_refused(deviation):
    with pytest.raises(SpecError, match=r"deviation=.* give a positive number"):
        objective("lite_ppo", deviation=deviation)
    for scale in ("group-std", "none"):
        with pytest.raises(SpecError, match=f"scale='{scale}'.*in place of batch-std only"):
            GroupAdvantage("group-mean", scale, 1, deviation=0.4)


@given(p=st.floats(0.01, 0.99), answers=st.integers(2, 16))
@few
def test_a_group_s_own_deviation_never_has_the_heavier_tail(p, answers):
    assert group_tail(p, answers, "group-std") <= group_tail(p, answers, "batch-std") * (1 + 1e-12)


def test_the_tail_of_a_group_s_gradient_is_that_of_its_advantages_over_all_tables():
    p = np.array([0.8])
    for scale, more in (("group-std", {}), ("batch-std", {"ddof": None, "deviation": 0.4})):
        moments = np.zeros(2)
        for R, chance, _ in all_tables(p, 4):
            moments += chance * (advantages(R, scale=scale, **more) * R).mean() ** np.array([2, 4])
        assert group_tail(0.8, 4, scale) == pytest.approx(moments[1] / moments[0] ** 2, rel=1e-12)
    easy = [group_tail(0.98, 8, scale) for scale in ("group-std", "batch-std")]
    assert "6.9 and 8.1" in " ".join(LITE_PPO.findings)
    assert [f"{tail:.1f}" for tail in easy] == ["6.9", "8.1"]
    assert group_tail(1e-6, 8, "group-std") * 8e-6 == pytest.approx(1, abs=1e-3)
    assert group_tail(1e-6, 8, "batch-std") * 8e-6 == pytest.approx(1, abs=1e-3)


@given(right=st.lists(st.integers(0, 8), min_size=2, max_size=4))
@few
def test_the_mean_of_the_batch_is_a_baseline_too_but_a_noisier_one(right):
    """Second moment of R - b over a prompt's answers: its variance, and (mean - mean of all)^2 on top with the batch's mean."""
    table = [[1.0] * m + [0.0] * (8 - m) for m in right]
    p = np.array(right) / 8
    for baseline, more in (("group-mean", 0.0), ("batch-mean", (p - p.mean()) ** 2)):
        moment = (advantages(table, baseline=baseline, scale="none", ddof=None) ** 2).mean(1)
        assert moment == pytest.approx(p * (1 - p) + more, abs=1e-12)


def test_a_group_that_is_all_right_is_pushed_up_by_the_batch_s_mean_and_left_alone_by_its_own():
    table = [[1.0] * 4, [0.0, 0.0, 0.0, 1.0]]
    assert (advantages(table, baseline="batch-mean")[0] > 0).all()
    assert not advantages(table)[0].any()


def test_the_batch_mean_is_unbiased_but_for_the_reward_that_stands_in_it():
    """Enumeration of N = K = 2: the expected gradient is (1 - 1/(N K)) of the gradient."""
    p, found = np.array([0.3, 0.8]), np.zeros(2)
    for answers in product([0.0, 1.0], repeat=4):
        R = np.array(answers).reshape(2, 2)
        chance = np.prod(np.where(R == 1, p[:, None], 1 - p[:, None]))
        A = advantages(R, baseline="batch-mean", scale="none", ddof=None)
        found += chance * (A * (R - p[:, None])).mean(1)
    assert found == pytest.approx(0.75 * p * (1 - p), abs=1e-12)


@given(seed=st.integers(0, 10**6))
@few
def test_the_token_mean_weighs_a_sequence_by_its_length(seed):
    batch = random_batch(seed, groups=1, size=4)
    token, sequence = (
        plan(objective("lite_ppo", aggregation=Aggregation(kind)), batch).coefficient_BT
        for kind in ("token-mean", "sequence-mean-token-mean")
    )
    length = batch.mask_BT.sum(1)
    ratio = token.sum(1) / sequence.sum(1)
    assert torch.allclose(ratio, 4 * length.double() / length.sum())


def test_doubling_the_length_of_one_of_n_sequences_raises_its_weight_from_1_to_2_in_n_plus_1():
    batch = random_batch(groups=1, size=5, horizon=4, edges=False)
    mask = torch.zeros_like(batch.mask_BT)
    mask[:, 0] = mask[0, 1] = True
    share = plan(objective("lite_ppo"), rebuilt(batch, mask_BT=mask)).coefficient_BT.sum(1)
    assert share[0].item() == pytest.approx(2 / 6)
    assert share[1].item() == pytest.approx(1 / 6)


@given(seed=st.integers(0, 10**6))
@few
def test_without_a_clip_and_on_the_policy_it_is_the_score_function_with_its_advantages(seed):
    batch = random_batch(seed, drift=0.0)
    batch = rebuilt(batch, logp_BT=batch.logp_old_BT)
    planned = plan(objective("lite_ppo", surrogate=ImportanceWeighted()), batch)
    assert torch.allclose(planned.evaluate().weight_BT, planned.coefficient_BT * planned.advantage_BT)
    assert torch.allclose(evaluate(objective("lite_ppo"), batch).weight_BT, planned.evaluate().weight_BT)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
@few
def test_rewards_may_be_moved_and_stretched_which_dr_grpo_feels(seed, scale, shift):
    R = np.random.default_rng(seed).normal(size=(2, 3))
    kinds = (("batch-std", "group-mean", 1.0), ("group-std", "group-mean", 1.0), ("none", "group-mean", scale))
    for kind, baseline, factor in (*kinds, ("batch-std", "batch-mean", 1.0)):
        ddof = None if kind == "none" else 0
        before, after = (advantages(x, scale=kind, ddof=ddof, baseline=baseline) for x in (R, scale * R + shift))
        assert after == pytest.approx(factor * before, rel=1e-9, abs=1e-9)


def test_where_the_whole_batch_is_easy_the_rare_wrong_answer_is_amplified_and_only_epsilon_bounds_it():
    for groups in (2, 8, 32):
        table = [[1.0] * 8 for _ in range(groups)]
        table[0][0] = 0.0
        deviation = np.std(table)
        assert advantages(table)[0, 0] == pytest.approx(-(1 - 1 / 8) / deviation)
        assert advantages(table, epsilon=0.25)[0, 0] > -(1 - 1 / 8) / 0.25
        assert advantages(table, scale="none", ddof=None)[0, 0] == pytest.approx(-7 / 8)
    assert advantages(table)[0, 0] < -13


def test_the_factorial_is_whole_and_its_corners_are_the_objectives_they_are_called_after():
    found = cells()
    assert len(found) == 18
    assert len({(spec.advantage, spec.aggregation) for spec in found.values()}) == 18
    assert set(LITE_PPO.results().numbers) == {*found, "DAPO", "Lite PPO, upper clip 0.28"}
    batch = random_batch()
    for name, spec in (
        ("GRPO: group mean, group deviation, sequences", objective("grpo", beta=0.0)),
        ("Lite PPO: group mean, batch deviation, tokens", objective("lite_ppo")),
    ):
        assert torch.equal(evaluate(found[name], batch).weight_BT, evaluate(spec, batch).weight_BT)


def test_without_a_baseline_the_mean_of_sequences_empties_the_policy_of_its_entropy():
    """The kept experiment: every seed, both starts."""
    numbers = {name: row for name, row in LITE_PPO.results().numbers.items() if "entropy, base" in row}
    emptied = [f"no baseline, {deviation}, sequences" for deviation in ("batch deviation", "no deviation")]
    for start in ("base", "tuned"):
        assert max(max(numbers[name][f"entropy, {start}"]) for name in emptied) < 0.06
        assert all(14 < np.mean(numbers[name][f"gradient tail, {start}"]) < 21 for name in emptied)
        others = [row for name, row in numbers.items() if name not in emptied]
        assert min(np.mean(row[f"entropy, {start}"]) for row in others) > 0.105
        assert max(np.mean(row[f"gradient tail, {start}"]) for row in others) < 9
    ends = [np.mean(numbers[name][f"entropy, {start}"]) for name in emptied for start in ("base", "tuned")]
    assert 0.015 < min(ends) < max(ends) < 0.03


def test_on_reward_the_kept_runs_are_what_chance_makes_of_eighteen_cells_that_do_not_differ():
    """34 paired comparisons with GRPO at 95 %: one outside, which chance reaches in most such tables, and none with the level
    divided by their number. Paired tests by scipy.
    """
    kept = LITE_PPO.results()
    found = {
        (name, measure): ttest_rel(kept.numbers[name][measure], kept.numbers[kept.baseline][measure]).pvalue
        for name in cells()
        if name != kept.baseline
        for measure in ("reward, base", "reward, tuned")
    }
    assert len(found) == 34
    outside = {key for key, chance in found.items() if chance < 0.05}
    assert outside == {(n, m) for n, m in found if abs(kept.difference(n, m)[0]) > kept.difference(n, m)[1]}
    assert len(outside) == 1
    assert "in two starts one differs" in LITE_PPO.measured
    assert binom.sf(len(outside) - 1, len(found), 0.05) > 0.5
    assert min(found.values()) > 0.05 / len(found)


def test_the_words_on_reward_are_the_kept_numbers_and_their_paired_intervals():
    """Intervals by scipy's paired test, not by `Comparison`."""
    numbers, said = LITE_PPO.results().numbers, LITE_PPO.measured

    def gap(one, other, measure, words):
        test = ttest_rel(numbers[one][measure], numbers[other][measure])
        mean = np.mean(numbers[one][measure]) - np.mean(numbers[other][measure])
        half = (test.confidence_interval(0.95).high - test.confidence_interval(0.95).low) / 2
        assert f"{mean:.3f} +- {half:.3f}".replace("-0.000", "0.000") in said.partition(words)[2][:160], (one, other, measure)

    often = "reward, base, repeated"
    lite, grpo, dapo = (f"{np.mean(numbers[name][often]):.3f}" for name in (LITE, GRPO, "DAPO"))
    assert f"Lite PPO ends at {lite}, GRPO at {grpo}, DAPO at {dapo}" in said
    gap(LITE, GRPO, often, "Lite PPO less GRPO is")
    gap("DAPO", GRPO, often, "DAPO less GRPO")
    gap(LITE, "DAPO", often, "Lite PPO less DAPO")
    gap(LITE, GRPO, "reward, tuned", "from the tuned start:")
    for data in DATA:
        gap(LITE, GRPO, f"reward, {data}", "By data of one success rate")
    gap("group mean, no deviation, tokens", LITE, "reward, easy data", "without a deviation")
    higher = "Lite PPO, upper clip 0.28"
    for measure in ("reward, base", "reward, tuned", "entropy, tuned"):
        gap(higher, LITE, f"{measure}, 8 minibatches", "changes reward by")
    for start in ("base", "tuned"):
        gap("group mean, group deviation, tokens", GRPO, f"reward, {start}", "Tokens in place of sequences")
    tails = {
        (name, data): f"{np.mean(numbers[name][f'gradient tail, {data}']):.1f}"
        for name in (LITE, GRPO, "REINFORCE++: batch mean, batch deviation, tokens")
        for data in ("easy data", "hard data")
    }
    assert tails[LITE, "easy data"] == tails[GRPO, "easy data"] == "4.4"
    assert list(tails.values())[1::2] == ["2.0", "2.2", "2.1"]

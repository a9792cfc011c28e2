"""Lite PPO: what its batch deviation does to steps and directions, where it equals GRPO, where it amplifies."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.catalogue import objective
from banach.llm.objective import ObjectiveSpec, evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.surrogate import ImportanceWeighted, PolicyGradient
from banach.llm.systems.lite_ppo import LITE_PPO, cells, implicit_step
from banach.mdp import token_policy
from banach.mdp.token import TokenProblem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, ttest_rel

from .exact_gradient import expected_gradient, gradient_of, success
from .objective_batches import random_batch, rebuilt

few = settings(max_examples=25, deadline=None)
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
    assert cosine(grpo, plain) < 0.97


def large_batch(logits, deviation):
    """The expected gradient where mean and deviation of a prompt, (P,) each, are those of the population."""
    p = success(THREE, torch.tensor(logits)).numpy()
    advantage = ((THREE.reward - p[THREE.prompt]) / deviation[THREE.prompt])[:, None]
    spec = ObjectiveSpec("limit", Given(), PolicyGradient(), aggregation=Aggregation("sequence-mean-token-sum"))
    return expected_gradient(spec, THREE, logits, advantage_BT=advantage)


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_deviation_of_a_small_batch_leans_on_its_own_rewards():
    """N = 2, K = 2, success .1 and .5: the expected gradient over p (1 - p) is 1.077 and 1.127, with .4 frozen 1.25 twice."""
    p, live, frozen = np.array([0.1, 0.5]), np.zeros(2), np.zeros(2)
    for answers in product([0.0, 1.0], repeat=4):
        R = np.array(answers).reshape(2, 2)
        chance = np.prod(np.where(R == 1, p[:, None], 1 - p[:, None]))
        score = R - p[:, None]
        live += chance * (advantages(R) * score).mean(1)
        frozen += chance * ((R - R.mean(1, keepdims=True)) / 0.4 * score).mean(1)
    assert live / (p * (1 - p)) == pytest.approx([1.077, 1.127], abs=5e-4)
    assert frozen / (p * (1 - p)) == pytest.approx([1.25, 1.25], abs=1e-12)


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
    for kind, factor in (("batch-std", 1.0), ("group-std", 1.0), ("none", scale)):
        ddof = None if kind == "none" else 0
        before, after = (advantages(x, scale=kind, ddof=ddof) for x in (R, scale * R + shift))
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
    assert set(LITE_PPO.results().numbers) == set(found)
    batch = random_batch()
    for name, spec in (
        ("GRPO: group mean, group deviation, sequences", objective("grpo", beta=0.0)),
        ("Lite PPO: group mean, batch deviation, tokens", objective("lite_ppo")),
    ):
        assert torch.equal(evaluate(found[name], batch).weight_BT, evaluate(spec, batch).weight_BT)


def test_without_a_baseline_the_mean_of_sequences_empties_the_policy_of_its_entropy():
    """The kept experiment: every seed, both starts."""
    numbers = LITE_PPO.results().numbers
    for start in ("base", "tuned"):
        for deviation in ("batch deviation", "no deviation"):
            assert max(numbers[f"no baseline, {deviation}, sequences"][f"entropy, {start}"]) < 0.05
            assert min(numbers[f"no baseline, {deviation}, sequences"][f"gradient tail, {start}"]) > 5
        rest = [numbers[name][f"entropy, {start}"] for name in numbers if not name.startswith("no baseline")]
        assert min(map(np.mean, rest)) > 0.05


def test_on_reward_the_kept_runs_are_what_chance_makes_of_eighteen_cells_that_do_not_differ():
    """34 paired comparisons with GRPO at 95 %: two outside, which chance reaches in half of such tables, and none
    with the level divided by their number. Paired tests by scipy.
    """
    kept = LITE_PPO.results()
    measures = ("reward, base", "reward, tuned")
    found = {
        (name, measure): ttest_rel(row[measure], kept.numbers[kept.baseline][measure]).pvalue
        for name, row in kept.numbers.items()
        if name != kept.baseline
        for measure in measures
    }
    assert len(found) == 34
    outside = {key for key, chance in found.items() if chance < 0.05}
    assert outside == {(n, m) for n, m in found if abs(kept.difference(n, m)[0]) > kept.difference(n, m)[1]}
    assert len(outside) == 2
    assert "two differ" in LITE_PPO.measured
    assert binom.sf(len(outside) - 1, len(found), 0.05) > 0.5
    assert min(found.values()) > 0.05 / len(found)
    lite, grpo = (
        " and ".join(f"{kept.mean(name, measure)[0]:.3f}" for measure in measures)
        for name in ("Lite PPO: group mean, batch deviation, tokens", kept.baseline)
    )
    assert f"Lite PPO ends at {lite} against {grpo}" in LITE_PPO.measured

"""The parts one by one: identities, edges, corners, and what the diagnostics count."""

import dataclasses
import math

import mpmath
import pytest
import torch
from banach.llm.advantage import GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.batch import TokenBatch
from banach.llm.catalogue import objective
from banach.llm.critic import GeneralisedAdvantage, ValueLoss
from banach.llm.divergence import Divergence, estimate, full_derivative, full_divergence
from banach.llm.mask import AdvantageFilter, OverlongFilter
from banach.llm.objective import ObjectiveSpec, evaluate
from banach.llm.outcome import Overlong, outcome
from banach.llm.plan import plan
from banach.llm.ratio import Ratio, TruncatedImportance
from banach.llm.surrogate import ClippedRatio, ClippedWeight, ImportanceWeighted, PolicyGradient
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import REAL, batches, random_batch, rebuilt, tensors

few = settings(max_examples=20, deadline=None)
SUM = Aggregation("sequence-mean-token-sum")


def one(x):
    return torch.tensor([[x]], dtype=torch.float64)


def same(a, b, tolerance=1e-12):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def weights(spec, batch):
    return evaluate(spec, batch).weight_BT


@given(ratio=st.floats(0, 10), A=st.floats(-5, 5), e=st.floats(0.01, 0.99))
def test_the_clip_is_a_bound_on_the_gain(ratio, A, e):
    value = ClippedRatio(e, e).value(one(ratio), one(0.0), one(A))
    assert float(value) == pytest.approx(min(ratio * A, A + e * abs(A)), abs=1e-12)


def test_the_defaults_are_the_published_numbers():
    """Written down once more, from the papers: the battery's witness reads the settings, and would follow a slip."""
    clip = {"ppo": (0.2, 0.2), "grpo": (0.2, 0.2), "dr_grpo": (0.2, 0.2), "dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4)}
    specs = {name: objective(name, **({"budget": 4} if name == "dr_grpo" else {})) for name in [*clip, "cispo", "rloo"]}
    assert {name: (specs[name].surrogate.low, specs[name].surrogate.high) for name in clip} == clip
    assert all(specs[name].surrogate.dual is None for name in clip)
    assert specs["cispo"].surrogate == ClippedWeight(cap=5.0, floor=0.0)
    assert specs["grpo"].divergence == Divergence(0.04, "k3", "loss", "ref")
    assert all(specs[name].divergence is None for name in specs if name != "grpo")
    assert specs["ppo"].advantage == GeneralisedAdvantage(discount=1.0, trace=0.95)
    assert specs["ppo"].critic == ValueLoss(GeneralisedAdvantage(discount=1.0, trace=0.95), clip=0.2)
    assert specs["dapo"].rewards == (Overlong(20480, 4096),)


def test_a_critic_learns_from_unwhitened_targets_of_the_policys_own_estimator():
    settings = {"discount": 0.9, "trace": 0.5, "bootstrap": "given"}
    spec = objective("ppo", whiten=True, **settings)
    assert spec.advantage == GeneralisedAdvantage(**settings, whiten=True)
    assert spec.critic.target == GeneralisedAdvantage(**settings)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize(("edge", "outward"), [(1.28, 1), (0.8, -1), (3.0, 1)])
def test_a_token_learns_up_to_the_edge_of_the_clip_and_not_beyond(advantage, edge, outward):
    part = ClippedRatio(0.2, 0.28, dual=3.0)
    edge = {1.28: 1 + part.high, 0.8: 1 - part.low, 3.0: 3.0}[edge]
    beyond = math.nextafter(edge, outward * math.inf)
    learns_beyond = (advantage > 0) == (outward < 0) if edge < 3 else False
    learns_on = learns_beyond or edge <= 1.28 or advantage < 0
    for ratio, learns in ((edge, learns_on and not (advantage > 0 and edge == 3.0)), (beyond, learns_beyond)):
        expected = ratio * advantage if learns else 0.0
        assert float(part.weight(one(ratio), one(0.0), one(advantage))) == expected
        leaf = one(ratio).requires_grad_()
        (slope,) = torch.autograd.grad(part.value(leaf, one(0.0), one(advantage)), leaf)
        assert float(slope) * ratio == pytest.approx(expected)


@given(ratio=st.floats(0, 20), A=st.floats(-5, -0.01), c=st.floats(1.01, 5))
def test_the_dual_clip_bounds_the_loss_of_a_bad_token(ratio, A, c):
    plain, dual = (float(ClippedRatio(dual=d).value(one(ratio), one(0.0), one(A))) for d in (None, c))
    assert dual == pytest.approx(max(plain, c * A), abs=1e-12)


@given(batch=batches(drift=1e-3, edges=False))
@few
def test_clipping_a_sequence_is_all_or_nothing_and_its_ratio_to_the_length_is_the_product(batch):
    spec = dataclasses.replace(objective("gspo"), aggregation=SUM)
    found = weights(spec, batch)
    ratio = Ratio("sequence-geometric")(torch.where(batch.mask_BT, batch.logp_BT, 0.0), batch).ratio_BT.detach()
    product = Ratio("sequence")(torch.where(batch.mask_BT, batch.logp_BT, 0.0), batch).ratio_BT.detach()
    for i, on in enumerate(batch.mask_BT):
        assert len({float(x) for x in found[i][on]}) <= 1
        assert same(ratio[i][on] ** on.sum(), product[i][on])


@given(batch=batches(horizon=1, drift=0.03))
@few
def test_of_single_tokens_every_level_of_the_ratio_is_the_same(batch):
    base = objective("gspo", low=0.02, high=0.04)
    for level in ("token", "turn", "sequence"):
        assert same(weights(dataclasses.replace(base, ratio=Ratio(level)), batch), weights(base, batch))


@given(batch=batches(drift=1.5, rewards=REAL))
@few
def test_an_infinite_cap_is_token_importance_sampling(batch):
    capped = objective("cispo", cap=1e30)
    corrected = dataclasses.replace(capped, surrogate=ImportanceWeighted())
    assert same(weights(capped, batch), weights(corrected, batch))


@given(batch=batches(drift=1.5, rewards=REAL))
@few
def test_the_clipped_weight_never_silences_a_token(batch):
    spec = objective("cispo", cap=1.2)
    planned = plan(spec, batch)
    assert torch.equal(planned.evaluate().weight_BT != 0, (planned.advantage_BT != 0) & batch.mask_BT)


@given(batch=batches(edges=False), length=st.integers(1, 4))
@few
def test_with_equal_lengths_the_mean_over_tokens_is_the_mean_of_means(batch, length):
    even = rebuilt(batch, mask_BT=(torch.arange(batch.mask_BT.shape[1]) < length).expand_as(batch.mask_BT))
    by_token, by_sequence = (
        weights(objective("grpo", aggregation=Aggregation(kind)), even) for kind in ("token-mean", "sequence-mean-token-mean")
    )
    assert same(by_token, by_sequence)


@given(batch=batches(groups=1, rewards=REAL))
@few
def test_of_one_group_the_batch_deviation_is_the_group_deviation(batch):
    scales = (GroupAdvantage("group-mean", scale, 1) for scale in ("group-std", "batch-std"))
    a, b = (weights(objective("grpo", advantage=part), batch) for part in scales)
    assert same(a, b)


@given(batch=batches())
@few
def test_dapo_with_equal_clips_and_means_of_means_is_grpo_without_divergence(batch):
    dapo = objective("dapo", high=0.2, overlong=None, dynamic_sampling=False, aggregation=objective("grpo").aggregation)
    assert same(weights(dapo, batch), weights(objective("grpo", beta=0.0), batch))


@given(batch=batches(rewards=REAL))
@few
def test_leave_one_out_is_the_centred_reward_times_g_over_g_minus_one(batch):
    out = outcome(batch)
    loo, centred = (GroupAdvantage(b)(out) for b in ("leave-one-out", "group-mean"))
    G = out.group_size_B[:, None]
    assert same(loo, G / (G - 1) * centred)


@given(p=st.floats(-30, 0), q=st.floats(-30, 0))
def test_k3_is_never_negative_and_zero_only_at_equality(p, q):
    value = float(estimate("k3", one(p), one(q)))
    assert value >= 0
    assert (value > 0) or abs(p - q) < 1e-7
    assert float(estimate("k1", one(p), one(q))) == p - q


@pytest.mark.parametrize("estimator", ["k3", "k3+"])
@given(p=st.floats(-30, 0, width=32), gap=st.floats(-6, 0), sign=st.sampled_from([-1, 1]))
def test_k3_of_a_small_step_keeps_its_digits_in_single_precision(estimator, p, gap, sign):
    """A step of 1e-4 nats costs 5e-9, which is not 0; the error is a rounding of d, not of 1."""
    logp, ref = (torch.tensor([[x]], dtype=torch.float32) for x in (p, min(p + sign * 10**gap, 0.0)))
    d = float(ref.double() - logp.double())
    with mpmath.workdps(40):
        exact = float(mpmath.expm1(d) - d)
    rounding = torch.finfo(torch.float32).eps * abs(d)
    assert float(estimate(estimator, logp, ref)) == pytest.approx(exact, abs=4 * rounding)


@pytest.mark.parametrize("reference", [math.log(0.5), -math.inf])
def test_a_token_of_probability_zero_adds_nothing_to_the_full_divergence(reference):
    """0 log 0 = 0, and no gradient, whether or not the reference has the token."""
    rest = 0.5 if math.isfinite(reference) else 1.0
    policy = torch.tensor([[[math.log(0.75), math.log(0.25), -math.inf]]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[[math.log(0.5 * rest), math.log(0.5 * rest), reference]]], dtype=torch.float64)
    found = full_divergence(policy, other)
    expected = 0.75 * math.log(0.75 / (0.5 * rest)) + 0.25 * math.log(0.25 / (0.5 * rest))
    assert found.item() == pytest.approx(expected, rel=1e-14)
    (slope,) = torch.autograd.grad(found.sum(), policy)
    assert slope[0, 0, 2] == 0
    assert same(slope, full_derivative(policy.detach(), other))


@pytest.mark.parametrize("level", ["token", "turn", "sequence", "sequence-geometric"])
def test_a_clamped_ratio_has_no_gradient_and_is_counted(level):
    batch = random_batch(0, drift=0.0, horizon=3)
    far = batch.logp_old_BT.clone()
    far[0] = -400.0
    batch = rebuilt(batch, logp_old_BT=far, turn_BT=torch.zeros_like(batch.turn_BT))
    spec = ObjectiveSpec("far", GroupAdvantage("none"), ImportanceWeighted(), Ratio(level), SUM)
    batch = rebuilt(batch, reward_B=torch.ones_like(batch.reward_B))
    found = evaluate(spec, batch)
    (slope,) = torch.autograd.grad(-found.loss, batch.logp_BT)
    assert same(slope, found.weight_BT)
    assert not found.weight_BT[0].any()
    assert found.weight_BT[1:].any()
    assert found.diagnostics["clamped"] == batch.mask_BT[0].sum()
    assert math.isfinite(float(found.loss.detach()))


def test_a_token_that_the_policy_has_given_up_does_not_explode_the_divergence():
    batch = random_batch(0)
    batch = rebuilt(batch, logp_BT=torch.full_like(batch.logp_BT, -90.0), logp_old_BT=torch.full_like(batch.logp_BT, -90.0))
    batch = rebuilt(batch, logp_ref_BT=torch.zeros_like(batch.logp_BT))
    found, plain = evaluate(objective("grpo"), batch), evaluate(objective("grpo", beta=0.0), batch)
    assert math.isfinite(float(found.loss.detach()))
    (slope,) = torch.autograd.grad(-found.loss, batch.logp_BT)
    assert same(slope, plain.weight_BT)
    assert same(found.weight_BT, plain.weight_BT)
    assert found.diagnostics["divergence_clamped"] == batch.mask_BT.sum()


@pytest.mark.parametrize(("where", "policy"), [("loss", "logp_BT"), ("reward", "logp_old_BT")])
def test_the_clamp_of_a_divergence_is_counted_for_the_policy_whose_divergence_it_is(where, policy):
    """In the loss that is the trained policy, in the reward the old one."""
    for far in ("logp_BT", "logp_old_BT"):
        given = {"logp_BT": -1.0, "logp_old_BT": -1.0, "logp_ref_BT": -1.0, far: -90.0}
        batch = rebuilt(random_batch(0), **{name: torch.full((6, 5), x, dtype=torch.float64) for name, x in given.items()})
        found = evaluate(objective("reinforce", divergence=Divergence(0.1, "k3", where)), batch)
        assert found.diagnostics["divergence_clamped"] == (batch.mask_BT.sum() if far == policy else 0)


def test_the_rounding_of_a_mean_is_no_advantage():
    """Eight rewards of 0.7 in single precision: the plain formula gives each of them 0.056, or 0.81 with epsilon 1e-8."""
    reward = torch.full((8,), 0.7)
    for epsilon, advantage in ((1e-6, 0.056), (1e-8, 0.81)):
        plain = (reward - reward.mean()) / (reward.std() + epsilon)
        assert plain.abs().max().item() == pytest.approx(advantage, rel=0.1)
    batch = random_batch(0, groups=1, size=8, dtype=torch.float32)
    reward[0] = torch.nextafter(reward[0], torch.tensor(1.0))
    batch = rebuilt(batch, reward_B=reward, step_reward_BT=None)
    for baseline in ("group-mean", "leave-one-out", "batch-mean"):
        for scale, ddof in (("none", None), ("group-std", 1), ("batch-std", 0)):
            assert not GroupAdvantage(baseline, scale, ddof)(outcome(batch)).any()


def test_the_rounding_of_a_charge_is_no_advantage():
    """Both sequences are charged log(e^-1); in single precision the two differences of log-probabilities are not the same."""
    old, ref = torch.tensor([[-1.1], [-2.1]]), torch.tensor([[-0.1], [-1.1]])
    reward, group = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    batch = TokenBatch(old, old, torch.ones(2, 1, dtype=torch.bool), reward, group, logp_ref_BT=ref)
    out = outcome(batch, charge_BT=Divergence(1.0, "k1", "reward").charge(batch))
    assert 0 < (out.reward_B[0] - out.reward_B[1]).abs() < 1e-6
    assert not GroupAdvantage("group-mean", "group-std", 1)(out).any()


def test_epsilon_is_added_to_the_deviation():
    batch = rebuilt(random_batch(0, groups=1, size=2), reward_B=torch.tensor([1.0, 0.0]), step_reward_BT=None)
    for ddof, deviation in ((0, 0.5), (1, math.sqrt(0.5))):
        found = GroupAdvantage("group-mean", "group-std", ddof, epsilon=0.25)(outcome(batch))[:, 0]
        assert found.tolist() == pytest.approx([0.5 / (deviation + 0.25), -0.5 / (deviation + 0.25)])


def test_real_differences_of_half_precision_rewards_are_kept():
    batch = rebuilt(random_batch(0, groups=1, size=2), reward_B=torch.tensor([1.0, 0.9921875], dtype=torch.bfloat16))
    assert GroupAdvantage("group-mean", "group-std", 0)(outcome(batch))[:, 0].tolist() == pytest.approx([1, -1])


@pytest.mark.parametrize(("length", "penalty"), [(1, 0), (6, 0), (7, -0.25), (9, -0.75), (10, -1), (12, -1)])
def test_overlong_answers_are_charged_softly(length, penalty):
    logp = torch.full((1, 12), -1.0)
    batch = TokenBatch(logp, logp, (torch.arange(12) < length)[None], torch.ones(1), torch.zeros(1, dtype=torch.int64))
    out = outcome(batch, (Overlong(maximum=10, cache=4),))
    assert out.reward_B.item() == 1 + penalty
    assert out.token_reward_BT[0, length - 1] == 1 + penalty


def test_dynamic_sampling_looks_at_the_reward_before_it_is_shaped():
    """Four right answers of different lengths differ after shaping, but were all right: the group is dropped."""
    logp = torch.full((4, 4), -1.0)
    mask = torch.arange(4) < torch.tensor([1, 2, 3, 4])[:, None]
    batch = TokenBatch(logp, logp, mask, torch.ones(4), torch.zeros(4, dtype=torch.int64))
    spec = objective("dapo", overlong=Overlong(4, 3))
    assert plan(spec, batch).mask_BT.sum() == 0
    assert plan(dataclasses.replace(spec, filters=()), batch).advantage_BT.any()


def test_filters_see_cut_sequences_and_small_advantages():
    batch = random_batch(6, groups=2, size=4)
    cut = plan(objective("dapo", dynamic_sampling=False, overlong_filter=True), batch).mask_BT
    assert torch.equal(cut, batch.mask_BT & ~batch.truncated_B[:, None])
    big = objective("dr_grpo", budget=4, filters=(AdvantageFilter(0.4),))
    planned = plan(big, batch)
    assert torch.equal(planned.mask_BT, batch.mask_BT & (planned.advantage_BT.abs() >= 0.4))
    both = plan(objective("dapo", filters=(OverlongFilter(), AdvantageFilter(0.4))), batch).mask_BT
    assert not (both & ~cut).any()


def test_normalisers_can_count_what_the_filters_dropped():
    batch = random_batch(6)
    for over, tokens in (("kept", "tokens_kept"), ("policy", "tokens")):
        planned = plan(objective("dapo", aggregation=Aggregation("token-mean", over=over), overlong_filter=True), batch)
        largest = float(planned.coefficient_BT.max())
        assert largest == pytest.approx(1 / planned.statistics[tokens])


def test_whitened_advantages_have_mean_zero_and_deviation_one():
    batch = random_batch(3)
    white = GeneralisedAdvantage(whiten=True)(outcome(batch))[batch.mask_BT]
    assert white.mean().item() == pytest.approx(0, abs=1e-12)
    assert white.std().item() == pytest.approx(1)


def test_a_cut_window_whose_last_value_is_repeated_has_no_error_at_its_end():
    batch = random_batch(3)
    cut = rebuilt(batch, truncated_B=torch.ones_like(batch.truncated_B), reward_B=torch.zeros(6), step_reward_BT=None)
    A = GeneralisedAdvantage(1.0, 0.9, bootstrap="repeat")(outcome(cut))
    last = torch.where(cut.mask_BT, torch.arange(cut.mask_BT.shape[1]), -1).amax(1)
    assert same(A.gather(1, last[:, None]), torch.zeros(6, 1, dtype=torch.float64))


@given(batch=batches(), cap=st.floats(1, 3), level=st.sampled_from(["token", "sequence"]))
@few
def test_the_correction_for_the_sampler_multiplies_the_policy_term_and_neither_divergence_nor_entropy(batch, cap, level):
    part = TruncatedImportance(cap, level)
    plain, corrected = objective("grpo"), objective("grpo", behaviour=part)
    factor, _ = part(batch)
    penalty = weights(plain, batch) - weights(objective("grpo", beta=0.0), batch)
    expected = factor * weights(objective("grpo", beta=0.0), batch) + penalty
    assert same(weights(corrected, batch), expected)
    assert factor.max() <= cap
    bonus = [evaluate(dataclasses.replace(spec, entropy=0.5), batch).weight_entropy_BT for spec in (plain, corrected)]
    assert torch.equal(*bonus)


def test_beyond_the_cap_a_token_is_truncated_or_dropped():
    batch = random_batch(0)
    batch = rebuilt(batch, logp_sampler_BT=batch.logp_old_BT - 5.0)
    for beyond, factor in (("truncate", 2.0), ("drop", 0.0)):
        found, capped = TruncatedImportance(2.0, beyond=beyond)(batch)
        assert (found[batch.mask_BT] == factor).all()
        assert torch.equal(capped, batch.mask_BT)
    counted = evaluate(objective("grpo", behaviour=TruncatedImportance()), batch).diagnostics
    assert counted["sampler_capped_share"] == 1
    assert counted["sampler_weight_mean"] == 2


def test_a_divergence_from_the_previous_iterate_is_zero_on_the_policy():
    batch = rebuilt(random_batch(0), logp_ref_BT=None)
    batch = rebuilt(batch, logp_old_BT=batch.logp_BT)
    spec = objective("grpo", divergence=Divergence(0.1, reference="old"))
    assert same(weights(spec, batch), weights(objective("grpo", beta=0.0), batch))


def test_the_diagnostics_count_what_they_say():
    logp = torch.tensor([[-1.0, -2.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    old = logp - torch.tensor([[0.5, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 0]])
    reward = torch.tensor([1.0, 0.0, 1.0, 9.0], dtype=torch.float64)
    batch = TokenBatch(logp, old, mask, reward, torch.tensor([1, 1, 2, 2]), truncated_B=torch.tensor([1, 0, 0, 1]))
    seen = evaluate(objective("dr_grpo", budget=2, advantage=GroupAdvantage("none")), batch).diagnostics
    w = math.exp(0.5)
    expected = {
        "sequences": 3,
        "groups": 2,
        "tokens": 5,
        "tokens_kept": 5,
        "reward_mean": 2 / 3,
        "reward_std": math.sqrt(2) / 3,
        "zero_variance_share": 1 / 2,
        "truncated_share": 1 / 3,
        "clip_share": 1 / 5,
        "ratio_mean": (w + 4) / 5,
        "clamped": 0,
        "old_kl_k1": -0.1,
        "old_kl_k3": (w - 1.5) / 5,
        "effective_sample_size": (w + 2) ** 2 / (w**2 + 2) / 3,
        "gradient_scale": 3 / 6,
    }
    assert seen == pytest.approx(expected)


def test_groups_without_spread_are_counted_by_groups_and_not_by_sequences():
    batch = random_batch(0, groups=3, size=2)
    even = (batch.group_B == batch.group_B[0]) | (batch.group_B == batch.group_B[2])
    reward = torch.where(even, 1.0, torch.tensor([0.0, 1.0]).repeat(3))
    found = evaluate(objective("dr_grpo", budget=4), rebuilt(batch, reward_B=reward)).diagnostics
    assert found["zero_variance_share"] == pytest.approx(2 / 3)


def test_the_entropy_bonus_pays_for_entropy():
    batch = random_batch(0)
    plain, paid = (evaluate(objective("grpo", entropy=c), batch) for c in (0.0, 0.5))
    bonus = 0.5 * (plan(objective("grpo"), batch).regulariser_BT * batch.entropy_BT).sum()
    assert same((plain.loss - paid.loss).detach(), bonus.detach())
    assert paid.diagnostics["entropy_mean"] == pytest.approx(batch.entropy_BT[batch.mask_BT].mean().item())


def test_an_objective_may_have_parts_of_the_users_own():
    """A new advantage, filter, reward and surrogate are plain callables and objects; nothing is registered or subclassed."""

    def signs(out):
        return out.reward_B.sign()[:, None].expand(out.batch.mask_BT.shape)

    class Squared(PolicyGradient):
        def value(self, ratio_BT, logp_BT, advantage_BT):
            return -advantage_BT * logp_BT.square() / 2

        def weight(self, ratio_BT, logp_BT, advantage_BT):
            return -advantage_BT * logp_BT

    spec = ObjectiveSpec(
        "own",
        signs,
        Squared(),
        aggregation=SUM,
        rewards=(lambda reward_B, batch: reward_B - 0.5,),
        filters=(lambda out, advantage_BT: advantage_BT > 0,),
    )
    batch = random_batch(0)
    found = evaluate(spec, batch)
    (slope,) = torch.autograd.grad(-found.loss, batch.logp_BT)
    assert same(slope, found.weight_BT)
    assert torch.equal(found.weight_BT != 0, batch.mask_BT & (batch.reward_B > 0.5)[:, None])


def test_the_floor_and_the_cap_bound_the_weight():
    part = ClippedWeight(cap=2.0, floor=0.5)
    for ratio, weight in ((0.1, 0.5), (1.0, 1.0), (7.0, 2.0)):
        assert float(part.weight(one(ratio), one(-1.0), one(3.0))) == 3 * weight
        assert bool(part.clipped(one(ratio), one(3.0))) == (ratio != 1.0)


def test_a_batch_keeps_its_own_tensors_apart_from_selections():
    batch = random_batch(0)
    part = batch.select(torch.tensor([2, 0]))
    assert torch.equal(part.reward_B, batch.reward_B[[2, 0]])
    part.logp_BT.sum().backward()
    assert batch.logp_BT.grad is not None
    assert set(tensors(part)) == set(tensors(batch))

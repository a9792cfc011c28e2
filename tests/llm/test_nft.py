"""NFT: the split and its optimum, what it equals on the policy, its weights off it, where the token loss goes astray."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, ClipRangeError, SpecError
from banach.llm.implicit_policy import ImplicitNegative, SuccessWeighted, prompt_weight
from banach.llm.mask import DynamicSampling
from banach.llm.objective import ObjectiveSpec, evaluate
from banach.llm.ratio import Ratio
from banach.llm.surrogate import ImportanceWeighted
from banach.llm.systems.nft import NFT, SplitWatch, nft
from banach.mdp.instances_token import tiny_enum
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .exact_gradient import expected_gradient, gradient_of, success
from .objective_batches import BINARY, random_batch, rebuilt

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 10**6)
TINY = tiny_enum()


def drawn(seed, n=5):
    """Old policy and probabilities of being right."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n)), rng.uniform(0.05, 0.95, n)


def population_loss(z, old, s, parts=(1.0, 1.0), part=None):
    """-E[r log R + (1 - r) log x], by the library's surrogate with w = 1: advantages 1 and -r_q / (1 - r_q)."""
    old, s = torch.tensor(old), torch.tensor(s)
    rate = float((old * s).sum())
    R = z.log_softmax(-1).exp() / old
    part = ImplicitNegative("one", 1e-9) if part is None else part
    right = part.value(R, R.log(), torch.ones_like(R))
    wrong = part.value(R, R.log(), torch.full_like(R, -rate / (1 - rate)))
    return -(old * (parts[0] * s * right + parts[1] * (1 - s) * wrong)).sum()


@given(seed=seeds)
@few
def test_the_old_policy_splits_and_the_implicit_one_sums_to_one(seed):
    old, s = drawn(seed)
    rate = old @ s
    plus, minus = old * s / rate, old * (1 - s) / (1 - rate)
    assert rate * plus + (1 - rate) * minus == pytest.approx(old)
    any_policy, _ = drawn(seed + 1)
    implied = (old - rate * any_policy) / (1 - rate)
    assert implied.sum() == pytest.approx(1.0)
    assert (implied.min() >= 0) == bool((any_policy / old <= 1 / rate).all())


@pytest.mark.parametrize("parts", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
@given(seed=seeds)
@few
def test_right_answers_wrong_answers_and_both_have_their_optimum_at_the_conditional_policy(parts, seed):
    old, s = drawn(seed)
    best = torch.tensor(np.log(old * s), requires_grad=True)
    loss = population_loss(best, old, s, parts)
    assert torch.autograd.grad(loss, best)[0].abs().max() < 1e-10
    rng = np.random.default_rng(seed)
    for _ in range(3):
        moved = best.detach() + 0.05 * torch.tensor(rng.normal(size=len(old)))
        assert population_loss(moved, old, s, parts) > loss - 1e-12


@pytest.mark.parametrize("by", ["centred", "std", "one"])
@given(seed=seeds)
@few
def test_on_the_policy_it_ascends_success_or_its_arcsine_or_the_logarithm_of_failure(by, seed):
    """Infinite groups: the gradient of the population loss at the old policy, against finite formulas of J."""
    logits = np.random.default_rng(seed).normal(size=(TINY.n_nodes, TINY.vocabulary_size))
    p = success(TINY, torch.tensor(logits)).numpy()[TINY.prompt]
    w = {"centred": 1 - p, "std": np.sqrt((1 - p) / p), "one": np.ones_like(p)}[by]
    advantage = np.where(TINY.reward == 1, w, -w * p / (1 - p))[:, None].repeat(TINY.horizon, 1)
    spec = ObjectiveSpec("limit", Given(), ImplicitNegative(by), Ratio("token"), Aggregation("sequence-mean-token-sum"))
    found = expected_gradient(spec, TINY, logits, advantage_BT=advantage)
    rho = torch.tensor(TINY.prompt_probability)
    of_success = {"centred": lambda p: p, "std": lambda p: 2 * p.sqrt().arcsin(), "one": lambda p: -(1 - p).log()}[by]
    assert np.allclose(found, gradient_of(lambda z: rho @ of_success(success(TINY, z)), logits), atol=1e-10)


@given(seed=seeds)
@few
def test_the_odds_of_failure_as_prompt_weight_ascend_the_logarithm_of_success_and_not_grpo_s_arcsine(seed):
    """w = (1 - r)/r, as an excerpt prints it for GRPO: right answers (1 - r)/r, wrong ones -1."""
    logits = np.random.default_rng(seed).normal(size=(TINY.n_nodes, TINY.vocabulary_size))
    p = success(TINY, torch.tensor(logits)).numpy()[TINY.prompt]
    advantage = np.where(TINY.reward == 1, (1 - p) / p, -1.0)[:, None].repeat(TINY.horizon, 1)
    spec = ObjectiveSpec("limit", Given(), ImplicitNegative("one"), Ratio("token"), Aggregation("sequence-mean-token-sum"))
    found = expected_gradient(spec, TINY, logits, advantage_BT=advantage)
    rho = torch.tensor(TINY.prompt_probability)
    log, arcsine = (
        gradient_of(lambda z, f=f: rho @ f(success(TINY, z)), logits) for f in (torch.log, lambda p: 2 * p.sqrt().arcsin())
    )
    assert np.allclose(found, log, atol=1e-10)
    cosine = (found * arcsine).sum() / np.linalg.norm(found) / np.linalg.norm(arcsine)
    assert cosine < 1 - 1e-6


def on_groups(by):
    """The policy gradient that a prompt weight stands for, with plain ratios: GRPO's, or Dr. GRPO's."""
    advantage = GroupAdvantage("group-mean", "group-std", 0) if by == "std" else GroupAdvantage("group-mean")
    return ObjectiveSpec(
        "plain", advantage, ImportanceWeighted(), Ratio("token"), Aggregation("token-mean"), filters=(DynamicSampling(),)
    )


@pytest.mark.parametrize("by", ["centred", "std"])
@given(seed=seeds, epsilon=st.sampled_from([0.01, 0.3, 1.0]))
@few
def test_off_the_policy_it_differs_in_what_stands_for_the_ratio_alone(by, seed, epsilon):
    """GRPO's weights with R replaced by 1 in a right answer and by R / max(x, eps) in a wrong one (Proposition 4.1)."""
    batch = random_batch(seed, groups=3, size=4, drift=1.0)
    ours, theirs = (evaluate(spec, batch).weight_BT for spec in (nft(by, epsilon=epsilon, least=0.0), on_groups(by)))
    R_BT = (batch.logp_BT.detach() - batch.logp_old_BT).exp()
    reward, group = batch.reward_B, batch.group_B
    rate_B = torch.stack([reward[group == g].mean() for g in group]).clamp(max=1 - 1e-9)
    x_BT = (1 - rate_B[:, None] * R_BT) / (1 - rate_B[:, None])
    instead_BT = torch.where(reward[:, None] == 1, 1.0, R_BT / x_BT.clamp(min=epsilon))
    assert torch.allclose(ours, torch.where(batch.mask_BT, theirs * instead_BT / R_BT, 0.0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by", ["centred", "std"])
@pytest.mark.parametrize("epsilon", [1e-6, 0.3, 1.0])
def test_on_the_policy_no_floor_up_to_one_is_seen(by, epsilon):
    """Proposition 4.2; a floor above one would shrink what wrong answers weigh, and is refused."""
    batch = random_batch(5, groups=4, size=4)
    batch = rebuilt(batch, logp_BT=batch.logp_old_BT)
    ours, theirs = (evaluate(spec, batch).weight_BT for spec in (nft(by, epsilon=epsilon, least=0.0), on_groups(by)))
    assert (theirs < 0).any()
    assert (theirs > 0).any()
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-15)
    with pytest.raises(ClipRangeError, match=r"epsilon=1\.01"):
        nft(by, epsilon=1.01)


@given(seed=seeds)
@few
def test_descending_the_loss_ends_at_the_conditional_policy_and_rounds_of_it_multiply_its_odds(seed):
    """Theorem 3.1 by the library's loss and an optimiser that knows nothing of pi+; each round gains Var(s)/r."""
    old, s = drawn(seed, 4)
    policy = old
    for n in (1, 2):
        rate = policy @ s
        z = torch.tensor(np.log(policy), requires_grad=True)
        descent = torch.optim.LBFGS([z], max_iter=300, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe")

        def loss(z=z, policy=policy, descent=descent):
            descent.zero_grad()
            found = population_loss(z, policy, s)
            found.backward()
            return found

        descent.step(loss)
        gain = policy @ (s - rate) ** 2 / rate
        policy = z.detach().softmax(-1).numpy()
        assert policy == pytest.approx(old * s**n / (old @ s**n), abs=1e-5)
        assert policy @ s == pytest.approx(rate + gain, abs=1e-5)


def test_with_bessel_s_deviation_the_factor_is_root_of_k_minus_one_over_k():
    batch = rebuilt(random_batch(3, rewards=BINARY), reward_B=torch.tensor([1.0, 0, 0, 1, 1, 0], dtype=torch.float64))
    batch = rebuilt(batch, logp_BT=batch.logp_old_BT)
    grpo = objective("grpo", beta=0.0, ddof=1, aggregation=Aggregation("token-mean"))
    ours, theirs = evaluate(nft(by="std"), batch).weight_BT, evaluate(grpo, batch).weight_BT
    assert torch.allclose(ours * math.sqrt(2 / 3), theirs)


@given(seed=seeds)
@few
def test_an_exact_step_gains_the_variance_over_the_mean_and_repeated_ones_concentrate_geometrically(seed):
    old, s = drawn(seed)
    rate = old @ s
    plus = old * s / rate
    assert plus @ s == pytest.approx(rate + (old @ (s - rate) ** 2) / rate)
    policy = old
    for _ in range(4):
        policy = policy * s / (policy @ s)
    assert policy == pytest.approx(old * s**4 / (old @ s**4))


@given(seed=seeds)
@few
def test_an_exact_step_gains_nothing_exactly_where_the_verifier_treats_all_answers_alike(seed):
    old, s = drawn(seed)
    old[0] = 0.0  # an answer outside the support does not count
    old /= old.sum()
    same = np.where(np.arange(len(s)) == 0, s, s[1])
    for verdicts, gains in ((s, True), (same, False)):
        rate = old @ verdicts
        assert ((old * verdicts / rate) @ verdicts > rate + 1e-9) == gains


@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_with_a_verifier_that_is_sure_descending_the_loss_makes_every_answer_right(seed):
    rng = np.random.default_rng(seed)
    old, s = rng.dirichlet(np.full(5, 3.0)), rng.permutation([1.0, 1.0, 0.0, 0.0, float(seed % 2)])
    z = torch.tensor(np.log(old), requires_grad=True)
    for _ in range(150):
        slope = torch.autograd.grad(population_loss(z, old, s), z)[0]
        z = (z - 4 * slope).detach().requires_grad_()
    policy = z.detach().softmax(-1).numpy()
    assert policy @ s == pytest.approx(1.0, abs=0.01)
    assert policy == pytest.approx(old * s / (old @ s), abs=0.02)


@given(rate=st.floats(0.05, 0.9), by=st.sampled_from(["centred", "std", "one"]))
@few
def test_the_weight_of_a_wrong_answer_grows_with_its_ratio_without_a_clip(rate, by):
    part = ImplicitNegative(by)
    w = float(prompt_weight(by, torch.tensor(rate, dtype=torch.float64)))
    A = torch.tensor(-w * rate / (1 - rate), dtype=torch.float64)
    assert float(part.rate(A)) == pytest.approx(rate)
    ratios = torch.tensor([0.01, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0], dtype=torch.float64)
    size = -part.weight(ratios, ratios.log(), A.expand(7)) / w
    for R, found in zip(ratios.tolist(), size.tolist(), strict=True):
        expected = rate * R / (1 - rate) if R > 1 else rate * R / (1 - rate * R)
        assert found == pytest.approx(expected)
    assert (size.diff() > 0).all()
    ppo = objective("grpo").surrogate
    clipped = ppo.weight(ratios, ratios.log(), A.expand(7))
    assert (clipped[:2] == 0).all()
    assert (size[:2] > 0).all()
    assert size[0] < 0.02 * rate / (1 - rate) / 0.9 + 0.02


@given(rate=st.floats(0.2, 0.8))
@few
def test_the_floor_keeps_the_gradient_and_a_plain_maximum_does_not(rate):
    part, R = ImplicitNegative(), torch.tensor([1.01], dtype=torch.float64, requires_grad=True)
    A = torch.tensor([-rate], dtype=torch.float64)
    value = part.value(R, R.log(), A)
    assert value.item() == pytest.approx(0.0)  # log of the floor, times w
    slope = torch.autograd.grad(value.sum(), R)[0]
    assert slope.item() == pytest.approx(-(1 - rate) * rate / (1 - rate))
    x = (1 - rate * R) / (1 - rate)
    plain = (1 - rate) * x.clamp(min=1.0).log()
    assert torch.autograd.grad(plain.sum(), R)[0].item() == 0
    assert part.clipped(R.detach(), A).all()


def two_tokens():
    """Behaviour uniform on two tokens; probabilities of being right by both."""
    return np.array([[0.3, 0.2], [0.1, 0.9]])


def fitted(rates):
    """Token losses minimised by gradient descent: first-token and second-token probabilities; rates of each token's factor."""
    s = torch.tensor(two_tokens())
    z = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([z], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    part = ImplicitNegative("one", 1e-9)

    def closure():
        optimiser.zero_grad()
        p = z.log_softmax(-1).exp() / 0.5
        loss = 0
        for a, b in itertools.product(range(2), repeat=2):
            for R, rate in ((p[0, a], rates[0]), (p[1 + a, b], rates[1 + a])):
                A = torch.tensor(-rate / (1 - rate), dtype=torch.float64)
                right = part.value(R, R.log(), torch.ones((), dtype=torch.float64))
                loss = loss - 0.25 * (s[a, b] * right + (1 - s[a, b]) * part.value(R, R.log(), A))
        loss.backward()
        return loss

    optimiser.step(closure)
    return z.detach().softmax(-1)


def test_the_token_loss_with_the_prompt_s_rate_misses_the_conditional_policy():
    s = two_tokens()
    truth = s / s.sum(1, keepdims=True)
    assert truth[:, 1] == pytest.approx([0.40, 0.90])
    by_prompt = fitted([0.375] * 3)
    assert by_prompt[0, 1].item() == pytest.approx(2 / 3, abs=1e-4)
    assert by_prompt[1:, 1].tolist() == pytest.approx([0.423, 0.930], abs=1e-3)
    by_prefix = fitted([0.375, 0.25, 0.5])
    assert by_prefix[0, 1].item() == pytest.approx(2 / 3, abs=1e-4)
    assert by_prefix[1:, 1].tolist() == pytest.approx(truth[:, 1].tolist(), abs=1e-4)


@given(seed=seeds)
@few
def test_parametrising_the_negative_policy_instead_gives_the_same_loss(seed):
    old, s = drawn(seed)
    rate = old @ s
    plus = 0.05 * old + 0.95 * old * s / rate  # with its implied negative policy in range
    minus = (old - rate * plus) / (1 - rate)
    assume((minus > 1e-6).all())
    one = population_loss(torch.tensor(np.log(plus)), old, s)
    other = population_loss(torch.tensor(np.log(minus)), old, 1 - s)
    assert float(one) == pytest.approx(float(other), rel=1e-9, abs=1e-12)


def test_rewards_that_are_no_verdicts_are_refused_and_settings_too():
    batch = rebuilt(random_batch(1), reward_B=torch.tensor([1.0, 0, -1, 0, 1, 0], dtype=torch.float64))
    with pytest.raises(BatchError, match=r"reward of sequence 2 is -1, neither 0 nor 1"):
        evaluate(nft(), batch)
    assert torch.isfinite(evaluate(nft(threshold=1.0), batch).weight_BT).all()
    with pytest.raises(ClipRangeError, match=r"epsilon=1\.5"):
        ImplicitNegative(epsilon=1.5)
    with pytest.raises(SpecError, match="by='mean'"):
        ImplicitNegative("mean")
    with pytest.raises(SpecError, match="by='mean'"):
        SuccessWeighted("mean")
    with pytest.raises(SpecError, match=r"least=0\.5"):
        SuccessWeighted(least=0.5)
    for threshold in (float("nan"), float("inf")):
        with pytest.raises(SpecError, match=f"threshold={threshold}: no reward"):
            nft(threshold=threshold)
    with pytest.raises(SpecError, match="negative=inf"):
        nft(negative=float("inf"))
    with pytest.raises(SpecError, match="level is 'none'"):
        ObjectiveSpec("nft", SuccessWeighted(), ImplicitNegative())


def test_the_rate_is_held_away_from_its_ends():
    reward = torch.zeros(100, dtype=torch.float64)
    reward[0] = 1
    batch = rebuilt(random_batch(0, groups=1, size=100, horizon=1, edges=False), reward_B=reward)
    from banach.llm.outcome import outcome

    out = outcome(batch)
    assert SuccessWeighted()(out)[0, 0].item() == pytest.approx(0.98)
    assert SuccessWeighted(least=0.0)(out)[0, 0].item() == pytest.approx(0.99)


def test_a_right_answer_far_below_the_old_policy_still_teaches_and_one_far_above_is_held():
    """Group (right, wrong) of one token; old log-probability -1, now -13: the weight of the right one is w / 2 tokens."""
    batch = rebuilt(
        random_batch(groups=1, size=2, horizon=1, edges=False),
        mask_BT=torch.tensor([[True, False]] * 2),
        reward_B=torch.tensor([1.0, 0.0], dtype=torch.float64),
        logp_old_BT=torch.full((2, 2), -1.0, dtype=torch.float64),
        logp_BT=torch.full((2, 2), -13.0, dtype=torch.float64),
    )
    assert evaluate(nft(), batch).weight_BT[0, 0].item() == pytest.approx(0.25)
    above = rebuilt(batch, logp_old_BT=torch.full((2, 2), -12.0, dtype=torch.float64), logp_BT=-torch.ones(2, 2).double())
    assert (evaluate(nft(), above).weight_BT == 0).all()


@given(seed=seeds)
@few
def test_the_library_s_negative_policy_is_the_old_one_less_the_rate_times_the_new(seed):
    old, s = drawn(seed)
    rng = np.random.default_rng(seed)
    rate = float(old @ s)
    new = 0.9 * old + 0.1 * rng.dirichlet(np.ones(len(old))) if seed % 2 else rng.dirichlet(np.full(len(old), 0.3))
    R, A = torch.tensor(new / old), torch.full((len(old),), -rate / (1 - rate), dtype=torch.float64)
    part = ImplicitNegative("one", 1e-12)
    inside = new / old < 1 / rate
    negative = old * part.value(R, R.log(), A).exp().numpy()
    found, meant = negative[inside], (old - rate * new)[inside] / (1 - rate)
    assert found == pytest.approx(meant, rel=1e-6, abs=1e-9)
    assert bool(part.clipped(R, A).any()) == bool((~inside).any())


def test_a_watch_notes_the_largest_ratio_of_a_wrong_answer_and_how_many_leave_the_split_and_changes_nothing():
    batch = random_batch(3, groups=4, size=4, drift=2.0)
    spec = nft(least=0.0)
    watch = SplitWatch(spec.surrogate)
    found, plain = (evaluate(x, batch) for x in (dataclasses.replace(spec, surrogate=watch), spec))
    assert torch.equal(found.weight_BT, plain.weight_BT)
    assert found.loss == plain.loss
    wrong, outside, largest = 0, 0, 0.0
    for i, t in batch.mask_BT.nonzero().tolist():
        mates = batch.reward_B[batch.group_B == batch.group_B[i]]
        if batch.reward_B[i] == 0 and mates.any():
            R = math.exp((batch.logp_BT.detach() - batch.logp_old_BT)[i, t])
            wrong, outside, largest = wrong + 1, outside + int(R * mates.mean() > 1), max(largest, R)
    assert 0 < outside < wrong
    assert (watch.wrong, watch.outside, watch.largest) == (wrong, outside, pytest.approx(largest))


def paired(kept, first, second, measure):
    """Mean and half width of the first arm's number less the second's."""
    return dataclasses.replace(kept, baseline=second).difference(first, measure)


@pytest.mark.parametrize(("by", "arm"), [("centred", "NFT"), ("std", "NFT, std")])
def test_in_the_kept_runs_nft_and_its_twin_go_the_same_way_on_the_policy(by, arm):
    kept = NFT.results()
    for measure in ("reward", "area", "entropy"):
        rows = [kept.numbers[name][f"{measure}, on the policy"] for name in (arm, f"twin of NFT, {by}")]
        gaps = np.abs(np.subtract(*rows))
        assert (gaps < 5e-5).sum() >= 19  # rounding decides a draw once
        assert gaps.max() < 0.02
    others = np.abs(np.subtract(rows[0], kept.numbers["Dr. GRPO"]["entropy, on the policy"]))
    assert (others > 1e-3).sum() > 10  # unfiltered, averaged otherwise, it is another run


def test_the_words_of_the_entry_are_the_kept_runs():
    kept, words, off, on = NFT.results(), NFT.measured, "reward, 16 minibatches", "reward, on the policy"

    def points(first, second, measure, signed=True):
        gap, half = paired(kept, first, second, measure)
        return f"{100 * gap:{'+' if signed else ''}.1f} ± {100 * half:.1f}"

    assert f"ends {points('NFT', 'NFT, one', on, False)} lower on the policy" in words
    assert f"and {points('NFT', 'NFT, one', off, False)} lower with sixteen" in words
    stuck = sum(x < 0.55 for x in kept.numbers["NFT, one"][on])
    assert f"{stuck} of {kept.seeds} runs do not learn" in words
    for other in ("Dr. GRPO", "DAPO", "RFT"):
        assert f"{other} {'is ' if other == 'Dr. GRPO' else ''}{points('NFT', other, off)}" in words
        assert all(abs(gap) < half for gap, half in (paired(kept, "NFT", other, measure) for measure in (on, off)))
    assert f"floor of 0.01 costs {points('NFT', 'NFT, floor 0.01', off, False)} points" in words
    assert f"one of 0.1 costs {points('NFT', 'NFT, floor 0.1', off, False)}." in words
    half_weight = "NFT, half the negatives"
    assert f"wrong answers costs {points('NFT', half_weight, off, False)} and" in words
    gap, half = paired(kept, half_weight, "NFT", "entropy, 16 minibatches")
    assert f"{gap:.2f} ± {half:.2f} nats" in words
    assert gap > half
    entropy = {arm: kept.mean(arm, "entropy, 16 minibatches")[0] for arm in ("at the start", "NFT", "RFT")}
    start, ours, rejection = (f"{entropy[arm]:.2f}" for arm in entropy)
    assert f"from {start} to {ours} with NFT and {rejection} with RFT" in words
    gap, half = paired(kept, "NFT", "RFT", "entropy, 16 minibatches")
    assert abs(gap) < half
    for arm, row in kept.numbers.items():
        assert arm == "at the start" or all(
            np.mean(x) < entropy["at the start"] for name, x in row.items() if "entropy" in name
        )
    assert f"{100 * kept.mean('at the start', on)[0]:.1f} at the start" in words
    largest = kept.numbers["NFT"]["largest ratio, 16 minibatches"]
    assert f"reaches {min(largest):.1f} to {max(largest):.1f}" in words
    assert set(kept.numbers["NFT"]["largest ratio, on the policy"]) == {1.0}
    assert kept.mean("NFT", "outside, 16 minibatches")[0] == pytest.approx(0.01, abs=0.004)


def test_the_kept_runs_confirm_that_the_prompt_weight_matters():
    kept = NFT.results()
    for where in ("on the policy", "16 minibatches"):
        for arm in ("NFT", "NFT, std"):
            gap, half = paired(kept, arm, "NFT, one", f"reward, {where}")
            assert gap > half
        gap, half = paired(kept, "NFT", "NFT, std", f"reward, {where}")
        assert abs(gap) < half

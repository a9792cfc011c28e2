"""RiskPO: the functional against a linear program and finite differences, bundles, trackers, entropy, what is printed
wrongly.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from banach.llm.aggregation import Aggregation
from banach.llm.bundles import MixedRisk, QuantileTracker, bundle_scores, bundled
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, SpecError
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.ratio import Ratio
from banach.llm.surrogate import ClippedRatio
from banach.llm.systems.risk_po import RISK_PO, risk_po, risk_po_released
from banach.llm.testbeds.bench import digit_run, odds_policies
from banach.llm.testbeds.policies import TablePolicy
from banach.llm.testbeds.training import Recipe, measures, train
from banach.mdp import token_policy
from banach.mdp.errors import ModelError
from banach.mdp.instances_testbeds import one_answer
from banach.mdp.tail_risk import mixed_risk_weight, mixed_value_at_risk, quantile, tail_integral
from banach.mdp.token import TokenProblem
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from .exact_gradient import expected_gradient, gradient_of, probability
from .objective_batches import random_batch, rebuilt

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)
WEIGHTS = st.sampled_from([-1.0, 0.0, 0.5, 2.0])


def drawn(seed, n=5, ties=True):
    rng = np.random.default_rng(seed)
    values = rng.choice([0.0, 1.0, 1.0, 2.0, 3.5], n) if ties else rng.permutation(n).astype(float)
    return values, rng.dirichlet(np.ones(n)), rng


def softmax(z):
    weight = np.exp(z - z.max())
    return weight / weight.sum()


def advantages_at(values, p, low, high, weight):
    return mixed_risk_weight(values, quantile(values, p, low), quantile(values, p, high), weight)


@given(seed=seeds, level=st.floats(0, 1))
@few
def test_the_tail_integral_solves_its_linear_program_and_its_dual(seed, level):
    values, p, _ = drawn(seed)
    found = linprog(values, A_eq=[np.ones(len(p))], b_eq=[level], bounds=[(0, x) for x in p])
    assert tail_integral(values, p, level) == pytest.approx(found.fun, abs=1e-6)  # the solver's own tolerance
    dual = max(x * level - p @ np.maximum(x - values, 0) for x in values)
    assert tail_integral(values, p, level) == pytest.approx(dual, abs=1e-9)


@given(seed=seeds, weight=st.sampled_from([0.0, 0.5, 2.0]), share=st.floats(0, 1))
@few
def test_the_mixed_value_at_risk_is_convex_so_no_mixture_beats_the_better_policy(seed, weight, share):
    values, p, rng = drawn(seed)
    q = rng.dirichlet(np.ones(len(p)))
    one, other, mixed = (mixed_value_at_risk(values, x, 0.2, 0.8, weight) for x in (p, q, share * p + (1 - share) * q))
    assert mixed <= share * one + (1 - share) * other + 1e-12
    assert mixed <= max(one, other) + 1e-12


@given(seed=seeds, weight=WEIGHTS)
@few
def test_the_score_function_gives_the_gradient_with_atoms_too(seed, weight):
    values, p, rng = drawn(seed)
    low, high = sorted(rng.uniform(0.05, 0.95, 2))
    z = np.log(p)
    A = advantages_at(values, p, low, high, weight)
    gradient = p * (A - p @ A)
    numeric = [
        (
            mixed_value_at_risk(values, softmax(z + d), low, high, weight)
            - mixed_value_at_risk(values, softmax(z - d), low, high, weight)
        )
        / 2e-6
        for d in 1e-6 * np.eye(len(z))
    ]
    assert gradient == pytest.approx(numeric, abs=1e-6)


@given(seed=seeds, weight=st.sampled_from([0.0, 0.5, 2.0]))
@few
def test_at_a_jump_it_is_a_subgradient(seed, weight):
    """Levels at the jumps of F: left derivative <= formula <= right derivative in every direction of the simplex."""
    rng = np.random.default_rng(seed)
    values, p = np.arange(4.0), np.array([0.2, 0.3, 0.3, 0.2])
    d = rng.normal(size=4)
    d -= d.mean()
    A = advantages_at(values, p, 0.2, 0.8, weight)
    t = 1e-6

    def risk(q):
        return mixed_value_at_risk(values, q, 0.2, 0.8, weight)

    right, left = (risk(p + t * d) - risk(p)) / t, (risk(p) - risk(p - t * d)) / t
    assert left - 1e-8 <= A @ d <= right + 1e-8


@given(seed=seeds)
@few
def test_what_it_reduces_to(seed):
    values, p, _ = drawn(seed, ties=False)
    mean = float(p @ values)
    assert mixed_value_at_risk(values, p, 0.2, 1.0, 0.0) == pytest.approx(mean)
    assert advantages_at(values, p, 1e-9, 1.0, 0.0) == pytest.approx(values - values.max())
    assert mixed_value_at_risk(values, p, 0.2, 0.7, 0.0) == pytest.approx(tail_integral(values, p, 0.7))
    ranged = tail_integral(values, p, 0.7) - tail_integral(values, p, 0.2)
    assert mixed_value_at_risk(values, p, 0.2, 0.7, -1.0) == pytest.approx(ranged)


@given(seed=seeds)
@few
def test_two_bundled_questions_share_the_gradient_of_the_risk_of_their_sum(seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, 3))
    values = rng.normal(size=(2, 3))
    low, high, weight = 0.23, 0.81, 0.5

    def law(x):
        p = [softmax(row) for row in x]
        sums = [values[0][i] + values[1][j] for i, j in itertools.product(range(3), repeat=2)]
        return np.array(sums), np.array([p[0][i] * p[1][j] for i, j in itertools.product(range(3), repeat=2)])

    sums, chance = law(z)
    A = advantages_at(sums, chance, low, high, weight)
    found = np.zeros((2, 3))
    for (i, j), a, p in zip(itertools.product(range(3), repeat=2), A, chance, strict=True):
        for question, answer in enumerate((i, j)):
            found[question] += p * a * (np.eye(3)[answer] - softmax(z[question]))
    leaf = torch.tensor(z, requires_grad=True)
    one, other = leaf.softmax(1)
    whole = (one[:, None] * other[None, :]).flatten()
    order = torch.tensor(np.argsort(sums, kind="stable"))
    before = whole[order].cumsum(0) - whole[order]

    def tail(level):  # the mass up to a level, outcome by outcome
        taken = torch.minimum((level - before).clamp(min=0), whole[order])
        return (taken * torch.tensor(sums)[order]).sum()

    (wanted,) = torch.autograd.grad(weight * tail(low) + tail(high), leaf)
    assert found == pytest.approx(wanted.numpy(), abs=1e-10)


def bandit_or_texts(seed, lengths):
    """One prompt with random rewards: answers of one token, or of one to four."""
    rng = np.random.default_rng(seed)
    if not lengths:
        return TokenProblem.bandit([rng.choice([0.0, 1.0, 2.0, 3.5], 5)]), rng
    paid = {}
    return TokenProblem.build(3, 4, 1, lambda _, tokens: paid.setdefault(tokens, float(rng.integers(0, 10))), eos=2), rng


def exact_risk(problem, logits, spec, constant=0.0):
    """(gradient of the mixed value at risk of the reward, the objective's expected gradient with the law's quantiles).

    constant: added to each advantage.
    """
    law = token_policy.sequence_probability(problem, torch.tensor(logits).log_softmax(-1).numpy())
    risk = spec.advantage
    at = tuple(quantile(problem.reward, law, level) for level in (risk.low, risk.high))
    A = mixed_risk_weight(problem.reward, *at, risk.weight)
    wanted = gradient_of(lambda leaf: (probability(problem, leaf.log_softmax(-1)) * torch.tensor(A)).sum(), logits)
    fixed = dataclasses.replace(risk, quantiles=at)
    tracked = dataclasses.replace(spec, advantage=fixed if not constant else lambda out: fixed(out) + constant)
    names = np.arange(problem.n_sequences)
    return wanted, expected_gradient(tracked, problem, logits, bundle_B=names)


def cosine(one, other):
    return float((one * other).sum() / math.sqrt((one**2).sum() * (other**2).sum()))


@given(seed=seeds, weight=st.sampled_from([0.0, 0.5, 2.0]))
@few
def test_the_objective_ascends_the_risk_where_answers_are_equally_long(seed, weight):
    problem, rng = bandit_or_texts(seed, lengths=False)
    wanted, found = exact_risk(problem, rng.normal(size=(problem.n_nodes, problem.vocabulary_size)), risk_po(weight=weight))
    assert found == pytest.approx(wanted, abs=1e-10)


def test_where_lengths_differ_it_does_not_and_a_constant_turns_it():
    """An answer's mean over its tokens weighs it by 1/|y|, and what is weighed is at most 0; sums of tokens ascend the risk."""
    sums = Aggregation("sequence-mean-token-sum")
    summed = dataclasses.replace(risk_po(), surrogate=ClippedRatio(0.2, 0.2), ratio=Ratio("token"), aggregation=sums)
    straight, lifted = [], []
    for seed in range(4):
        problem, rng = bandit_or_texts(seed, lengths=True)
        logits = rng.normal(size=(problem.n_nodes, problem.vocabulary_size))
        straight.append(cosine(*exact_risk(problem, logits, risk_po())))
        lifted.append(cosine(*exact_risk(problem, logits, risk_po(), 5.0)))
        for constant in (0.0, 5.0):
            assert cosine(*exact_risk(problem, logits, summed, constant)) == pytest.approx(1.0, abs=1e-10)
    assert max(straight) < 0.995
    assert min(straight) < 0.92
    assert max(abs(x - y) for x, y in zip(straight, lifted, strict=True)) > 0.1


@given(seed=seeds)
@few
def test_no_advantage_is_positive_and_it_is_zero_from_the_upper_quantile_on(seed):
    batch = random_batch(seed, groups=2, size=4)
    out = outcome(batch)
    A, scores = MixedRisk()(out), bundle_scores(out)
    assert (A <= 0).all()
    top = quantile(scores, np.full(len(scores), 1 / len(scores)), MixedRisk().high)
    names = batch.bundle_B.unique()  # scores are in the order of the bundles' names
    for name, score in zip(names, scores, strict=True):
        assert ((A[batch.bundle_B == name, 0] == 0) == bool(score >= top)).all()


@given(seed=seeds)
@few
def test_it_learns_from_answers_that_were_not_yet_pushed_down_and_lifted_above_zero_from_those_not_yet_pushed_up(seed):
    """With s the geometric ratio: where A < 0 alone, exactly the answers of s >= 1 - low keep their weight c s A; a constant
    that makes every A positive keeps exactly those of s <= 1 + high.
    """
    batch = random_batch(seed, groups=2, size=4, drift=0.3)
    low, high = 0.04, 0.05
    drift_BT = torch.where(batch.mask_BT, batch.logp_BT - batch.logp_old_BT, 0.0).detach()
    s_B = (drift_BT.sum(1) / batch.mask_BT.sum(1)).exp()
    A_BT = MixedRisk()(outcome(batch))
    assume(((A_BT[:, 0] < 0) & (s_B > 1 + high)).any())  # learns now, not when lifted
    assume((s_B < 1 - low).any())  # and the other way round
    lift = 1.0 - A_BT.min().item()
    spec = risk_po(clip_low=low, clip_high=high)
    lifted = dataclasses.replace(spec, advantage=lambda out: MixedRisk()(out) + lift)
    for made, advantage_BT, kept_B in ((spec, A_BT, s_B >= 1 - low), (lifted, A_BT + lift, s_B <= 1 + high)):
        planned = plan(made, batch)
        found = planned.evaluate()
        expected_BT = planned.coefficient_BT * (s_B * kept_B)[:, None] * advantage_BT
        assert torch.allclose(found.weight_BT, expected_BT, atol=1e-12)
        bound_B = torch.where(kept_B, s_B, 1 - low if made is spec else 1 + high)
        loss = -(planned.coefficient_BT * bound_B[:, None] * advantage_BT).sum()
        assert found.loss.item() == pytest.approx(loss.item(), abs=1e-12)


@given(seed=seeds, weight=WEIGHTS)
@few
def test_the_advantage_of_a_bundle_is_the_weight_of_its_score(seed, weight):
    out = outcome(random_batch(seed, groups=3, size=4, rewards=(0.0, 0.5, 1.0)))
    bundle = out.batch.bundle_B.numpy()
    total = {b: out.reward_B.numpy()[bundle == b].sum() for b in set(bundle.tolist())}
    scores = np.array(list(total.values()))
    law = np.full(len(scores), 1 / len(scores))
    expected = advantages_at(scores, law, 0.3, 0.7, weight)
    found = MixedRisk(0.3, 0.7, weight)(out)[:, 0].numpy()
    for b, A in zip(total, expected, strict=True):
        assert found[bundle == b] == pytest.approx(A)


def test_a_constant_leaves_the_exact_gradient_and_opens_the_other_side_of_the_clip():
    p, values = np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 2.0])
    A = advantages_at(values, p, 0.2, 0.8, 0.5)
    for shift in (0.0, 1.0):
        moved = A + shift
        assert p * (moved - p @ moved) == pytest.approx(p * (A - p @ A))
    ratio = np.array([1.5, 1.5, 1.5])
    clipped = [np.minimum(ratio * (A + c), np.clip(ratio, 0.8, 1.2) * (A + c)) for c in (0.0, 3.0)]
    assert clipped[0] == pytest.approx(ratio * A)
    assert (clipped[1] < ratio * (A + 3.0)).all()


@pytest.mark.parametrize(("p", "size", "live"), [(0.1, 1, False), (0.1, 5, True), (0.85, 1, True), (0.5, 1, True)])
def test_single_hard_questions_teach_nothing_and_bundles_do(p, size, live):
    values = np.arange(size + 1.0)
    chance = np.array([math.comb(size, k) * p**k * (1 - p) ** (size - k) for k in range(size + 1)])
    A = advantages_at(values, chance, 0.2, 0.8, 0.5)
    assert bool((A != 0).any()) == live
    if size == 5:
        assert quantile(values, chance, 0.8) == 1
        assert set(np.round(A, 12)) == {-1.0 if quantile(values, chance, 0.2) == 0 else -2.5, 0.0}


@pytest.mark.parametrize(("p", "size", "expected"), [(0.1, 1, 0.5905), (0.1, 5, 0.0756), (0.5, 1, 0.0625), (0.5, 5, 0.0061)])
def test_how_often_five_answers_or_bundles_score_alike(p, size, expected):
    chance = [math.comb(size, k) * p**k * (1 - p) ** (size - k) for k in range(size + 1)]
    assert sum(x**5 for x in chance) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("size", "expected"), [(1, 0.5905), (5, 0.0756)])
def test_sets_drawn_and_bundled_are_without_signal_that_often(size, expected):
    """2,000 sets of five bundles, p = .1; six standard deviations are a false alarm below 1e-8."""
    rng, silent, n = np.random.default_rng(size), 0, 2000
    group = torch.arange(size).repeat_interleave(5)
    for _ in range(n):
        bundle = bundled(group, size, rng).numpy()
        silent += len(set(np.bincount(bundle, rng.random(5 * size) < 0.1).tolist())) == 1
    assert silent / n == pytest.approx(expected, abs=6 * math.sqrt(expected * (1 - expected) / n))


@given(seed=seeds)
@few
def test_entropy_moves_by_minus_the_covariance_of_log_probability_and_advantage(seed):
    values, p, _ = drawn(seed)
    A, z = advantages_at(values, p, 0.2, 0.8, 0.5), np.log(p)

    def entropy(eta):
        q = softmax(z + eta * A)
        return -float(q @ np.log(q))

    covariance = p @ (z * A) - (p @ z) * (p @ A)
    assert (entropy(1e-5) - entropy(-1e-5)) / 2e-5 == pytest.approx(-covariance, abs=1e-7)


def covariance(p, A):
    return float(p @ (np.log(p) * A) - (p @ np.log(p)) * (p @ A))


@given(seed=seeds)
@few
def test_entropy_falls_more_slowly_where_likely_answers_are_better_and_faster_where_they_are_worse(seed):
    values, p, _ = drawn(seed, ties=False)
    rising, falling = np.sort(p)[values.argsort().argsort()], np.sort(p)[::-1][values.argsort().argsort()]
    with_rise = covariance(rising, advantages_at(values, rising, 0.2, 0.8, 0.0)) - covariance(rising, values)
    with_fall = covariance(falling, advantages_at(values, falling, 0.2, 0.8, 0.0)) - covariance(falling, values)
    assert with_rise <= 1e-12
    assert with_fall >= -1e-12  # the printed inequality, reversed


def test_at_the_published_weight_a_rising_likelihood_is_not_enough():
    """Two outcomes; and over random rising laws of five the inequality fails every time at w = .5 and never at w = 0."""
    values, p = np.array([0.0, 1.0]), np.array([0.15, 0.85])
    assert covariance(p, advantages_at(values, p, 0.2, 0.8, 0.5)) == pytest.approx(0.3317, abs=1e-4)
    assert covariance(p, values) == pytest.approx(0.2212, abs=1e-4)
    rng, faster = np.random.default_rng(0), {0.0: 0, 0.5: 0}
    for _ in range(100):
        law = np.sort(rng.dirichlet(np.ones(5)))
        for weight in faster:
            risky = covariance(law, advantages_at(np.arange(5.0), law, 0.2, 0.8, weight))
            faster[weight] += risky > covariance(law, np.arange(5.0)) + 1e-12
    assert faster == {0.0: 0, 0.5: 100}


@given(seed=seeds, weight=st.sampled_from([0.0, 0.5, 2.0]))
@settings(max_examples=50, deadline=None)
def test_the_second_sufficient_condition_outcomes_in_the_tails_are_likelier_than_average(seed, weight):
    values = np.arange(6.0)
    p = np.array([0.19, *(0.62 * np.random.default_rng(seed).dirichlet(np.full(4, 1.5))), 0.19])
    low, high = quantile(values, p, 0.2), quantile(values, p, 0.8)
    tails = (values < low) | (values > high)
    assert tails.any()
    assume((np.log(p)[tails] >= p @ np.log(p)).all())
    assert covariance(p, advantages_at(values, p, 0.2, 0.8, weight)) <= covariance(p, values) + 1e-12


def test_the_tracker_drifts_to_the_quantile_and_stays_within_its_rate_where_batches_are_the_law():
    tracker, entered = QuantileTracker((0.3,), (4.0,), rate=0.1), False
    for _ in range(700):
        tracker = tracker.updated(np.arange(6.0))  # every value once: the law itself
        inside = abs(tracker.values[0] - 1) <= 0.1 + 1e-12
        assert inside or not entered
        entered |= inside
    assert entered


@pytest.mark.parametrize("seed", range(3))
def test_on_samples_the_tracker_fluctuates_about_the_quantile(seed):
    rng = np.random.default_rng(seed)
    tracker, gaps = QuantileTracker((0.3,), (4.0,), rate=0.1), []
    for _ in range(5000):
        tracker = tracker.updated(rng.integers(0, 6, 8).astype(float))
        gaps.append(abs(tracker.values[0] - 1))
    late = np.array(gaps[500:])
    assert late.max() > 0.1
    assert late.max() < 0.4
    assert (late <= 0.1).mean() > 0.85


def test_the_tracker_with_falling_rates_finds_the_quantiles_of_a_density():
    """Standard deviation of q after n batches of 64 is below 0.01 here: six of them is a false alarm below 1e-8."""
    rng = np.random.default_rng(0)
    tracker = QuantileTracker.started((0.2, 0.8), rng.random(8), rate=None)
    for _ in range(1500):
        tracker = tracker.updated(rng.random(64))
    assert tracker.values == pytest.approx((0.2, 0.8), abs=0.06)
    assert tracker.count == 1500
    assert tracker.updated(np.zeros(0)) == tracker


def test_a_step_of_the_tracker_counts_what_lies_strictly_below():
    tracker = QuantileTracker((0.2, 0.8), (1.0, 2.0), rate=0.1).updated(np.array([0.0, 1.0, 1.0, 2.0]))
    assert tracker.values == pytest.approx((1 + 0.1 * (0.2 - 0.25), 2 + 0.1 * (0.8 - 0.75)))


@given(seed=seeds)
@few
def test_each_answer_is_in_one_bundle_with_one_answer_to_each_prompt_of_its_set(seed):
    rng = np.random.default_rng(seed)
    group = torch.tensor(rng.permutation(np.repeat([5, 9, 2, 7], 3)))
    bundle = bundled(group, 2, rng)
    order = list(dict.fromkeys(group.tolist()))
    sets = [set(order[:2]), set(order[2:])]
    for name in set(bundle.tolist()):
        assert set(group[bundle == name].tolist()) in sets
        assert (bundle == name).sum() == 2
    assert len(set(bundle.tolist())) == 6


def test_relabelling_the_answers_of_a_prompt_changes_nothing_on_average_over_permutations():
    """All matchings of 3 + 3 answers: the mean advantage of each answer is that of its reward, wherever it stood."""
    rewards = np.array([0.0, 1.0, 3.0, 2.0, 0.5, 1.0])

    def mean_advantage(r):
        found = np.zeros(6)
        for order in itertools.permutations(range(3)):
            bundle = torch.tensor([0, 1, 2, *order])
            batch = rebuilt(
                random_batch(groups=2, size=3, horizon=1, edges=False),
                reward_B=torch.tensor(r),
                group_B=torch.tensor([0] * 3 + [1] * 3),
                bundle_B=bundle,
            )
            found += MixedRisk()(outcome(batch))[:, 0].numpy() / 6
        return found

    moved = np.array([1, 2, 0, 4, 5, 3])
    assert mean_advantage(rewards[moved]) == pytest.approx(mean_advantage(rewards)[moved])


def test_the_released_code_is_the_functional_with_three_times_the_weight():
    """m = 1.5, a = .2, b = .8: 1 + w = 4.5 where the paper has 1.5; for b = .9 it is 5.25."""
    assert risk_po_released().advantage.weight + 1 == pytest.approx(4.5)
    assert risk_po_released(high=0.9).advantage.weight + 1 == pytest.approx(5.25)
    values, p, m, a, b = np.arange(6.0), np.array([0.1, 0.2, 0.3, 0.2, 0.15, 0.05]), 1.5, 0.2, 0.8
    low, high = quantile(values, p, a), quantile(values, p, b)
    tail, ranged = -np.maximum(low - values, 0) / a, (np.clip(values, low, high) - high) / (b - a)
    part = risk_po_released().advantage
    ours = part.factor * mixed_risk_weight(values, low, high, part.weight)
    assert ours == pytest.approx((m * tail + ranged) / (m + 1))


def two_prompts(one, other, bundles=None):
    """A batch of answers of one token to two prompts with these rewards; j-th answers are bundled, or as told."""
    n = len(one)
    return rebuilt(
        random_batch(groups=2, size=n, horizon=1, edges=False),
        reward_B=torch.tensor([*one, *other], dtype=torch.float64),
        group_B=torch.tensor([0] * n + [1] * n),
        bundle_B=torch.tensor([*range(n), *(bundles or range(n))]),
    )


def test_the_published_credit_of_hard_data_pushes_a_right_answer_down_and_a_wrong_one_up():
    """.8 above its prompt's mean and .75 below its own: as shares of their sum the bundle's minus counts 16 and -15 times."""
    batch = two_prompts([1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0, 0.75])
    share = MixedRisk(credit="sum-mean")._share(outcome(batch), batch.bundle_B, 5)
    assert share[[0, 5]].tolist() == pytest.approx([16.0, -15.0])
    A = MixedRisk(credit="sum-mean", quantiles=(1.5, 2.0))(outcome(batch))[:, 0]
    assert A[0] < 0 < A[5]
    assert batch.reward_B[[0, 5]].tolist() == [1.0, 0.0]


def test_the_released_code_looks_at_each_set_of_prompts_alone():
    """Its steps once more for two sets: interpolated quantiles, the sample deviation, credit, with and without the constant."""
    rng = np.random.default_rng(4)
    reward = rng.choice([0.0, 1.0], (4, 6), p=[0.4, 0.6])  # prompts, answers; two sets of two
    group, bundle = np.repeat(np.arange(4), 6), np.concatenate([np.arange(6), np.arange(6), 6 + np.arange(6), 6 + np.arange(6)])
    batch = rebuilt(
        random_batch(groups=4, size=6, horizon=1, edges=False),
        reward_B=torch.tensor(reward.flatten()), group_B=torch.tensor(group), bundle_B=torch.tensor(bundle),
    )  # fmt: skip
    for constant, credit in itertools.product((False, True), ("sum-mean", "std", "score", "uniform")):
        wanted = np.zeros((4, 6))
        for mine in ((0, 1), (2, 3)):
            papers = reward[list(mine)].sum(0)
            down, up = np.quantile(papers, 0.2), np.quantile(papers, 0.8)
            for j, R in enumerate(papers):
                A = max(R - down, 0) - max(R - up, 0) + (down - up if constant else 0)
                A = (1.5 * -max(down - R, 0) / 0.2 + A / 0.6) / 2.5 / papers.std(ddof=1)
                parts = reward[list(mine), j] - reward[list(mine)].mean(1)
                for k, prompt in enumerate(mine):
                    spread = reward[prompt].std(ddof=1)
                    even = abs(parts.sum()) <= 1e-6
                    share = {
                        "uniform": 1.0,
                        "score": 0.5 if reward[prompt, j] > 0 else 1.5,
                        "std": 1 / spread if spread > 1e-3 else 1.0,
                        "sum-mean": 0.5 if even else parts[k] / (1.0 if even else parts.sum()),
                    }[credit]
                    wanted[prompt, j] = A * share
        found = risk_po_released(credit=credit, constant=constant).advantage(outcome(batch))[:, 0]
        assert found.numpy() == pytest.approx(wanted.flatten(), abs=1e-12)


def test_in_a_bad_bundle_a_right_answer_is_pushed_down_with_uniform_credit():
    reward = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    batch = rebuilt(
        random_batch(groups=2, size=4, horizon=1, edges=False),
        reward_B=reward,
        group_B=torch.tensor([0] * 4 + [1] * 4),
        bundle_B=torch.tensor([0, 1, 2, 3, 1, 0, 2, 3]),
    )
    assert bundle_scores(outcome(batch)).tolist() == [1.0, 1.0, 1.0, 1.0]
    batch = rebuilt(
        batch, bundle_B=torch.tensor([0, 1, 2, 3, 1, 0, 2, 3]), reward_B=reward.index_fill(0, torch.tensor([1]), 1.0)
    )
    A = MixedRisk()(outcome(batch))[:, 0]
    assert A[0] < 0
    assert reward[0] == 1


@pytest.mark.parametrize(
    ("wrong", "error", "word"),
    [
        (lambda: MixedRisk(low=0.8, high=0.2), SpecError, "low=0.8"),
        (lambda: MixedRisk(low=0.0), SpecError, "low=0.0"),
        (lambda: MixedRisk(weight=-2.0), SpecError, "weight=-2.0"),
        (lambda: risk_po(weight=math.nan), SpecError, "weight=nan"),
        (lambda: MixedRisk(factor=math.nan), SpecError, "factor=nan"),
        (lambda: MixedRisk(pool="group"), SpecError, "pool='group'"),
        (lambda: risk_po_released(low=0.0), SpecError, "low=0.0"),
        (lambda: risk_po_released(low=0.8), SpecError, "low=0.8"),
        (lambda: risk_po_released(mix=-1.0), SpecError, "mix=-1.0"),
        (lambda: QuantileTracker((0.2,), (math.nan,)), SpecError, "values"),
        (lambda: QuantileTracker((0.2,), (1.0,)).updated(np.array([0.0, math.nan])), BatchError, "score 1 is nan"),
        (lambda: bundled(torch.tensor([0, 1]), 0, np.random.default_rng(0)), BatchError, "size=0"),
        (lambda: MixedRisk(quantiles=(2.0, 1.0)), SpecError, "quantiles"),
        (lambda: MixedRisk(credit="fair"), SpecError, "credit='fair'"),
        (lambda: QuantileTracker((0.2,), (1.0, 2.0)), SpecError, "one value for each level"),
        (lambda: QuantileTracker((0.2,), (1.0,), rate=0.0), SpecError, "rate=0"),
        (lambda: bundled(torch.tensor([0, 0, 1, 1, 2, 2]), 2, np.random.default_rng(0)), BatchError, "multiple of 2"),
        (lambda: bundled(torch.tensor([0, 0, 1]), 2, np.random.default_rng(0)), BatchError, "each prompt as many"),
        (lambda: rebuilt(random_batch(1), reward_B=torch.full((6,), float("nan"))), BatchError, "reward_B is nan"),
        (lambda: quantile(np.ones(2), np.array([0.5, 0.6]), 0.5), ModelError, "sums to 1.1"),
        (lambda: quantile(np.ones(2), np.array([0.5, 0.5]), 0.0), ModelError, "level is 0"),
        (lambda: tail_integral(np.ones(2), np.ones(3) / 3, 0.5), ModelError, "shape"),
        (lambda: mixed_value_at_risk(np.ones(1), np.ones(1), 0.5, 0.5, 0.0), ModelError, "low=0.5"),
        (lambda: mixed_risk_weight(np.ones(1), 1.0, 0.0, 0.0), ModelError, "above"),
        (lambda: tail_integral(np.array([np.inf]), np.ones(1), 0.5), ModelError, "value 0 is not finite|finite"),
    ],
)
def test_settings_and_batches_that_are_none_are_refused(wrong, error, word):
    with pytest.raises(error, match=word):
        wrong()


def test_the_kept_runs_of_bundles_have_less_entropy_where_rewards_are_equal():
    """What the entry says of them, in its figures; beyond the interval, or within it, of differences seed by seed."""
    kept, ten, five = RISK_PO.results(), "RiskPO, paper, B = 10", "RiskPO, paper, B = 5"

    def differs(method, measure):
        gap, half = kept.difference(method, measure)
        return 0 if abs(gap) <= half else math.copysign(1, gap)

    def both(method, measure):
        found = [f"{kept.mean(method, f'{measure}, {testbed}')[0]:.2f}" for testbed in ("odds", "digits")]
        return " and ".join(found)

    told = {
        f"bundles of ten keep {both(ten, 'entropy')} nats (GRPO {both('GRPO', 'entropy')})",
        f"end at reward {both(ten, 'reward')} ({both('GRPO', 'reward')})",
        f"bundles of five have {both(five, 'entropy where equal')} nats, GRPO {both('GRPO', 'entropy where equal')}",
    }
    assert [words for words in told if words not in RISK_PO.measured] == []
    for testbed in ("odds", "digits"):
        assert differs(ten, f"entropy, {testbed}") == 1
        assert differs(five, f"entropy where equal, {testbed}") == differs(ten, f"entropy where equal, {testbed}") == -1
        assert differs(five, f"reward, {testbed}") == differs(ten, f"reward, {testbed}") == -1
        for method in kept.numbers:
            for measure in ("worst", "pass@16"):
                if method != "GRPO":
                    assert differs(method, f"{measure} where equal, {testbed}") <= 0
        assert differs("RiskPO, paper, B = 1", f"reward, {testbed}") == 0
        assert differs("RiskPO, released, B = 5", f"reward, {testbed}") == differs("DAPO", f"reward, {testbed}") == 0
        assert all(differs(method, f"reward, {testbed}") <= 0 for method in kept.numbers if method != "GRPO")
    assert differs("RiskPO, paper, B = 1", "entropy where equal, digits") == -1
    for size in (1, 5):
        assert differs(f"RiskPO, sums of tokens, B = {size}", "entropy where equal, digits") == 0
    assert [round(10 * (1 - kept.mean(method, "reached, digits")[0])) for method in (five, ten)] == [1, 2]


def test_each_prompt_has_one_answer_and_a_fitted_policy_starts_at_its_odds():
    problem = one_answer()
    assert (problem.n_prompts, problem.n_sequences, problem.n_nodes) == (20, 800, 260)
    assert np.bincount(problem.prompt, problem.reward).tolist() == [1.0] * 20
    uniform = token_policy.expected_reward(problem, np.full((260, 4), -math.log(4)))
    assert uniform == pytest.approx(4.0**-3)
    policy = odds_policies(1)(0)
    chance = token_policy.sequence_probability(problem, policy.log_policy().detach().double().numpy())
    assert np.bincount(problem.prompt, chance * problem.reward) == pytest.approx(np.linspace(0.02, 0.98, 20), abs=0.05)


@pytest.mark.parametrize("level", [0.2, 2.0])
def test_a_level_is_seen_when_the_reward_first_reaches_it(level):
    """By a run that is made twice: the second is stopped where the first said, and measured then; or it is never reached."""
    problem, trail = one_answer(3, 2, 1), []
    recipe, spec = Recipe(tokens=1500, prompts=6, group=6, rate=0.1), objective("dr_grpo", budget=4)

    def note(step, reward):
        trail.append((reward, measures(problem, step.old_NV)))

    train(problem, TablePolicy(problem), spec, recipe, 0, log=note)
    run = digit_run(lambda seed: TablePolicy(problem), spec, 1500, problem=problem, level=level, prompts=6, group=6, rate=0.1)
    found = run(0)
    first = next((here for reward, here in trail if reward >= level), None)
    assert trail[0][0] < 0.2
    assert found["reached"] == (first is not None) == (level < 1)
    for name in ("entropy", "worst", "pass@16"):
        assert found[f"{name} at {level:g}"] == pytest.approx(found[name] if first is None else first[name], abs=1e-12)

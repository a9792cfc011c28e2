"""Likelihood over-optimisation: what losses of margins cannot see, the signs, the path on which gold turns, the rule."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, SpecError
from banach.llm.over_optimisation import (
    OverOptimisationWatch,
    Stop,
    expectation_adjusted_distinct,
    over_optimisation_signals,
    top_k_signals,
    win_probability,
)
from banach.llm.pair_batch import PairBatch, Sequences
from banach.llm.preference_catalogue import preference, slic_smoothed
from banach.llm.preference_kernel import evaluate_preference
from banach.llm.preference_spec import PreferenceSpec
from banach.llm.systems.daa import DAA, LogLinearBandit, with_likelihood
from banach.llm.testbeds.policies import TablePolicy
from banach.llm.testbeds.training import Recipe, train
from banach.mdp.instances_token import digit_chain
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, softmax

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)


def entropy(p):
    p = np.asarray(p)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def signals(p, k):
    with np.errstate(divide="ignore"):
        return top_k_signals(torch.tensor(np.log(p)), k)


@few
@given(seed=seeds, t=st.floats(0.01, 0.99), name=st.sampled_from(["dpo", "ipo", "hinge", "exo", "cdpo"]))
def test_mass_on_answers_never_compared_changes_no_loss_of_margins_but_every_likelihood(seed, t, name):
    """Answers 0..3 are compared, 4 and 5 never: they hold the mass t in all, and a gold reward follows it in a line."""
    rng = np.random.default_rng(seed)
    inside, outside, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(2)), rng.dirichlet(np.full(6, 3.0))
    gold = rng.normal(size=6)
    pairs = [torch.tensor(x) for x in ([0, 1, 2, 3], [1, 2, 3, 0])]

    def at(t):
        policy = np.concatenate([(1 - t) * inside, t * outside])
        logp, ref = torch.tensor(np.log(policy)), torch.tensor(np.log(q))
        batch = PairBatch(*(Sequences(logp[rows], ref_B=ref[rows]) for rows in pairs))
        spec = preference(name)
        losses = [float(evaluate_preference(s, batch).loss) for s in (spec, with_likelihood(spec, 0.3))]
        return losses, logp[:4].numpy(), float(policy @ gold)

    (before, dear), low, start = at(0.005)
    (after, dearer), high, end = at(t)
    assert after == pytest.approx(before, rel=1e-9)
    assert dearer > dear
    assert high - low == pytest.approx(np.full(4, np.log((1 - t) / 0.995)), abs=1e-9)
    assert end - start == pytest.approx((t - 0.005) * (outside @ gold[4:] - inside @ gold[:4]), abs=1e-9)


@few
@given(seed=seeds, t=st.floats(0.02, 0.99), alpha=st.floats(0.01, 2), width=st.floats(0.1, 4))
def test_the_hinge_without_a_reference_is_as_blind_and_its_anchor_is_not(seed, t, alpha, width):
    """max(0, width - log pi_w/pi_l) stays to the last digit as mass leaves; alpha log(1 + e^(1 - log pi_w/q_w)) rises."""
    rng = np.random.default_rng(seed)
    inside, outside, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(2)), rng.dirichlet(np.full(6, 3.0))
    won, lost = np.array([0, 1, 2, 3]), np.array([1, 2, 3, 0])
    spec = slic_smoothed(width, alpha)
    bare = PreferenceSpec("its contrast", spec.terms[:1], "")

    def at(t):
        p = np.concatenate([(1 - t) * inside, t * outside])
        one = torch.ones(4, dtype=torch.float64)
        batch = PairBatch(*(Sequences(torch.tensor(np.log(p[y])), one, torch.tensor(np.log(q[y]))) for y in (won, lost)))
        anchor = np.logaddexp(0, 1 - np.log(p[won] / q[won])).mean()
        contrast = np.maximum(0, width - np.log(inside[won] / inside[lost])).mean()
        found, whole = (float(evaluate_preference(s, batch).loss) for s in (bare, spec))
        assert found == pytest.approx(contrast, rel=1e-9, abs=1e-12)
        assert whole == pytest.approx(contrast + alpha * anchor, rel=1e-9)
        return whole

    totals = [at(x) for x in (0.0, t / 4, t / 2, t)]
    assert all(b > a for a, b in pairwise(totals))


@few
@given(seed=seeds, n=st.integers(2, 12), zeros=st.integers(0, 3))
def test_the_top_k_signals_are_parts_of_the_entropy(seed, n, zeros):
    rng = np.random.default_rng(seed)
    p = np.concatenate([rng.dirichlet(np.full(n, 0.7)), np.zeros(zeros)])
    p /= p.sum()
    order = np.sort(p)[::-1]
    for k in range(1, len(p) + 1):
        found, mass = signals(rng.permutation(p), k), order[:k].sum()
        renormalised, raw = float(found.entropy), float(found.raw_entropy)
        assert renormalised == pytest.approx(entropy(order[:k] / mass), abs=1e-9)
        assert raw == pytest.approx(mass * (renormalised - math.log(mass)), abs=1e-9)
        assert -1e-12 <= renormalised <= math.log(k) + 1e-9
        if k == len(p):
            assert found.mass is None
            assert renormalised == pytest.approx(entropy(p), abs=1e-9)
            continue
        assert float(found.mass) == pytest.approx(mass, abs=1e-12)
        assert mass >= k / len(p) - 1e-12
        rest = entropy(order[k:] / (1 - mass)) if mass < 1 - 1e-12 else 0.0
        coin = entropy([mass, 1 - mass])
        assert entropy(p) == pytest.approx(coin + mass * renormalised + (1 - mass) * rest, abs=1e-8)


def test_raw_entropy_may_rise_while_the_renormalised_falls_because_mass_leaves():
    before, after = signals([0.5, 0.49, 0.01, 0.0], 2), signals([0.37, 0.25, 0.19, 0.19], 2)
    assert after.raw_entropy > before.raw_entropy + 0.01
    assert after.entropy < before.entropy - 0.01
    assert after.mass < before.mass


def test_signals_are_means_over_the_positions_that_count_with_their_unit_in_the_name():
    p = np.array([[0.5, 0.25, 0.25, 0.0], [0.25] * 4, [1.0, 0.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        table = torch.tensor(np.log(p))[None]
    found = over_optimisation_signals(table, torch.tensor([[True, True, False]]), 2)
    assert found == {
        "top_2_entropy_nats": pytest.approx((entropy([2 / 3, 1 / 3]) + math.log(2)) / 2),
        "top_2_raw_entropy_nats": pytest.approx((-0.5 * math.log(0.5) - 0.25 * math.log(0.25) + 0.5 * math.log(4)) / 2),
        "top_2_mass": pytest.approx((0.75 + 0.5) / 2),
    }
    assert "top_10_mass" not in over_optimisation_signals(table, torch.tensor([[True, False, False]]))


def along(q, r, length):
    return softmax(np.log(q) + length * r)


def test_gold_has_a_hump_where_the_proxy_s_best_arm_is_bad_and_turns_at_a_root_of_the_covariance():
    q, proxy, gold = np.full(3, 1 / 3), np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.6])

    def covariance(length):
        p = along(q, proxy, length)
        return p @ (gold * proxy) - (p @ gold) * (p @ proxy)

    root = brentq(covariance, 0.0, 20.0)
    top = minimize_scalar(lambda x: -along(q, proxy, x) @ gold, bounds=(0, 20), method="bounded", options={"xatol": 1e-10})
    assert root == pytest.approx(top.x, abs=1e-5)
    assert along(q, proxy, root) @ gold > max(q @ gold, gold[2]) + 1e-3
    assert covariance(root - 0.1) > 0 > covariance(root + 0.1)


@few
@given(seed=seeds, c=st.floats(0.3, 2.0))
def test_entropy_rises_before_it_falls_where_the_proxy_likes_the_unlikely(seed, c):
    rng = np.random.default_rng(seed)
    q = softmax(2 * rng.normal(size=8))
    r = -c * np.log(q) + 0.01 * rng.normal(size=8)
    slope = -(q @ (r * np.log(q)) - (q @ r) * (q @ np.log(q)))
    assert slope > 0
    path = [entropy(along(q, r, x)) for x in (0.0, 1e-3, 2000.0)]
    assert path[1] > path[0] > path[2]
    uniform = np.full(8, 1 / 8)
    falls = [entropy(along(uniform, r, x)) for x in np.linspace(0, 5, 20)]
    assert all(a > b for a, b in pairwise(falls))
    for start, sloped in ((q, None), (uniform, lambda x, p: -x * (p @ r**2 - (p @ r) ** 2))):
        for x in (0.3, 1.0, 2.5):
            p = along(start, r, x)
            covariance = p @ (r * np.log(p)) - (p @ r) * (p @ np.log(p))
            change = (entropy(along(start, r, x + 1e-5)) - entropy(along(start, r, x - 1e-5))) / 2e-5
            assert change == pytest.approx(-covariance, rel=1e-5, abs=1e-8)
            if sloped is not None:
                assert -covariance == pytest.approx(sloped(x, p), rel=1e-9)


def pair_at(margin, name, **settings):
    leaf = torch.tensor([margin - 2.0 if margin < 0 else -1.0], dtype=torch.float64, requires_grad=True)
    other = leaf.detach() - margin
    same = torch.tensor([0.0], dtype=torch.float64)
    batch = PairBatch(Sequences(leaf, ref_B=same), Sequences(other, ref_B=same))
    found = evaluate_preference(preference(name, **settings), batch)
    return float(found.loss.detach()), float(found.weight_chosen_B)


@few
@given(beta=st.floats(0.02, 2.0), margin=st.floats(-5, 300))
def test_a_certain_label_has_no_best_margin_under_dpo_one_under_ipo_and_a_flat_set_under_the_hinge(beta, margin):
    loss, pull = pair_at(margin, "dpo", temperature=beta)
    further, _ = pair_at(margin + 1, "dpo", temperature=beta)
    assert pull > 0
    assert 0 <= further < loss
    assert pair_at(2000 / beta, "dpo", temperature=beta)[0] < 1e-300
    rest = 1 / (2 * beta)
    assert pair_at(rest, "ipo", temperature=beta)[1] == pytest.approx(0, abs=1e-12)
    _, toward = pair_at(margin, "ipo", temperature=beta)
    assert toward * (rest - margin) >= 0
    flat = pair_at(margin, "hinge", temperature=beta)[1]
    assert (flat == 0) == (beta * margin >= 1)


@few
@given(width=st.floats(0.1, 4), margin=st.floats(-5, 8), reference=st.floats(-6, -0.1))
def test_the_published_hinge_is_flat_beyond_its_width_wherever_the_reference_is_but_for_its_anchor(width, margin, reference):
    assume(abs(margin - width) > 1e-9)
    one = torch.ones(1, dtype=torch.float64)
    logp, ref = torch.tensor([-6.0], dtype=torch.float64), torch.tensor([reference], dtype=torch.float64)
    batch = PairBatch(Sequences(logp, one, ref), Sequences(logp - margin, one, torch.zeros_like(ref)))
    spec = slic_smoothed(width, 0.3)
    bare = evaluate_preference(PreferenceSpec("its contrast", spec.terms[:1], ""), batch)
    pull = 1.0 if margin < width else 0.0
    assert (float(bare.weight_chosen_B), float(bare.weight_rejected_B)) == (pull, -pull)
    whole = evaluate_preference(spec, batch)
    assert float(whole.weight_chosen_B) == pytest.approx(pull + 0.3 * expit(1 - (-6.0 - reference)), rel=1e-12)
    assert float(whole.weight_rejected_B) == -pull


@few
@given(seed=seeds)
def test_winning_against_the_reference_rises_with_every_nat_if_the_judge_s_reward_is_followed(seed):
    rng = np.random.default_rng(seed)
    q, r = rng.dirichlet(np.ones(5)), rng.normal(size=5)
    table = expit(r[:, None] - r[None, :])
    wins = [along(q, r, x) @ table @ q for x in np.linspace(0, 8, 30)]
    assert all(b >= a - 1e-12 for a, b in pairwise(wins))


def test_winning_has_a_hump_if_another_reward_is_followed():
    q, proxy, judge = np.full(3, 1 / 3), np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.6])
    table = expit(judge[:, None] - judge[None, :])
    wins = [along(q, proxy, x) @ table @ q for x in (0.0, 1.0, 20.0)]
    assert wins[1] > max(wins[0], wins[2]) + 1e-3


def test_the_judge_s_mean():
    one, other = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.0, 2.0, 1.0])
    assert win_probability(one, other) == pytest.approx(float(expit([0.0, -1.0, 2.0]).mean()))
    with pytest.raises(BatchError, match="finite, one a prompt"):
        win_probability(one, other[:2])


@few
@given(seed=seeds, vocabulary=st.integers(1, 6))
def test_distinct_n_grams_over_those_expected(seed, vocabulary):
    rng = np.random.default_rng(seed)
    outputs = [rng.integers(0, vocabulary, rng.integers(1, 8)).tolist() for _ in range(4)]
    found = expectation_adjusted_distinct(outputs, vocabulary, (1, 2))
    ratios = []
    for n in (1, 2):
        grams = Counter(tuple(o[i : i + n]) for o in outputs for i in range(len(o) - n + 1))
        if grams:
            expected = vocabulary**n * (1 - ((vocabulary**n - 1) / vocabulary**n) ** sum(grams.values()))
            ratios.append(len(grams) / expected)
    assert found == pytest.approx(np.mean(ratios), rel=1e-9)
    assert expectation_adjusted_distinct([outputs[i] for i in rng.permutation(4)], vocabulary, (1, 2)) == pytest.approx(found)


def test_one_n_gram_is_one_and_all_different_are_at_least_one():
    assert expectation_adjusted_distinct([[3]], 7) == pytest.approx(1.0)
    assert expectation_adjusted_distinct([[0, 1, 2, 3]], 5, (1,)) == pytest.approx(4 / (5 * (1 - 0.8**4)))
    assert expectation_adjusted_distinct([[0, 1, 2, 3]], 5, (1,)) > 1
    assert expectation_adjusted_distinct([list(range(200))], 50_000) == pytest.approx(1.0, abs=1e-2)
    for outputs, told in (([[]], "as long as 1 tokens"), ([[9]], "a token outside 0..6")):
        with pytest.raises(BatchError, match=told):
            expectation_adjusted_distinct(outputs, 7)
    with pytest.raises(SpecError, match="at least one token"):
        expectation_adjusted_distinct([[1]], 7, (0,))


def watched(entropies, masses=None, **settings):
    watch = OverOptimisationWatch(**settings)
    for t, number in enumerate(entropies):
        watch.record(number, None if masses is None else masses[t])
    return watch.stop


def test_the_rule_tells_a_peak_and_nothing_else():
    rise = np.linspace(1.0, 2.0, 20)
    assert watched(rise) is None
    assert watched(np.full(50, 1.3)) is None
    peak = [*np.linspace(1.0, 2.0, 11), *np.linspace(1.9, 1.0, 10)]
    stop = watched(peak)
    assert (stop.signal, stop.best) == ("entropy", 10)
    assert 12 < stop.at < 18
    assert watched(rise, [*np.linspace(0.9, 0.95, 8), *np.linspace(0.9, 0.4, 12)]).signal == "mass"
    assert watched(peak, drop=0.9) is None
    assert watched(peak[:14], patience=20) is None
    assert watched([1.0, 0.9, 0.8, 0.7, 2.0, 3.0], smoothing=0.0) == Stop("entropy", 3, 0)  # later rises do not undo it


def test_a_dip_shorter_than_the_patience_stops_nothing():
    assert watched([1.0, 0.9, 0.9, 1.0, 0.9, 0.9, 1.0], smoothing=0.0) is None
    assert watched([1.0, 0.9, 0.9, 0.9, 1.0], smoothing=0.0) == Stop("entropy", 3, 0)
    assert watched([1.0, 0.981, 0.981, 0.981], smoothing=0.0) is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.1])
def test_a_signal_that_is_no_number_is_refused(number):
    watch = OverOptimisationWatch()
    watch.record(1.0)
    with pytest.raises(BatchError, match=r"entropy is .* at evaluation 1"):
        watch.record(number)


def test_what_holds_no_distributions_and_settings_out_of_range_are_refused():
    with pytest.raises(BatchError, match="add up to"):
        top_k_signals(torch.zeros(3))
    with pytest.raises(BatchError, match="must be log-probabilities"):
        top_k_signals(torch.tensor([float("nan"), 0.0]))
    with pytest.raises(SpecError, match="k = 0 tokens"):
        top_k_signals(torch.tensor([0.0]), 0)
    with pytest.raises(BatchError, match="marks some position"):
        over_optimisation_signals(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool))
    for settings_ in ({"drop": 0.0}, {"patience": 0}, {"smoothing": 1.0}):
        with pytest.raises(SpecError, match="give drop in"):
            OverOptimisationWatch(**settings_)


def test_any_run_can_log_the_signals():
    """A run of policy gradients, its policy read before each step on the answers that it generated."""
    problem, watch, lines = digit_chain(2, 3), OverOptimisationWatch(), []

    def log(step, reward):
        nodes = torch.tensor(np.maximum(problem.node[step.sequences], 0).astype(np.int64))
        found = over_optimisation_signals(step.old_NV[nodes], torch.tensor(problem.mask[step.sequences]), 2)
        watch.record(found["top_2_entropy_nats"], found["top_2_mass"])
        lines.append(found | {"reward": reward})

    train(problem, TablePolicy(problem), objective("dr_grpo", budget=2), Recipe(tokens=20_000, rate=0.1), 0, log=log)
    assert lines[0]["top_2_entropy_nats"] == pytest.approx(math.log(2))
    assert lines[-1]["top_2_entropy_nats"] < 0.5
    assert lines[-1]["reward"] > lines[0]["reward"] + 0.2
    assert watch.stop.best == 0  # concentration is what learning one right answer is: a sign, and no verdict


@few
@given(
    seed=st.integers(0, 50),
    weight=st.sampled_from([None, 0.3]),
    name=st.sampled_from(["dpo", "ipo", "hinge", "slic", "slic_smoothed", "simpo", "cpo", "rpo"]),
)
def test_the_bandit_s_ascent_is_autograd_s(seed, weight, name):
    bandit = LogLinearBandit.drawn(seed, 3.0 * (seed % 2), pairs=12)
    spec = preference(name) if weight is None else with_likelihood(preference(name), weight)
    theta = torch.tensor(np.random.default_rng(seed).normal(size=bandit.features.shape[-1]), requires_grad=True)
    log_p = bandit.log_policy(theta)
    sides = [
        Sequences(log_p[bandit.context, y], torch.ones(12, dtype=torch.float64), bandit.reference[bandit.context, y])
        for y in (bandit.chosen, bandit.rejected)
    ]
    (slope,) = torch.autograd.grad(-evaluate_preference(spec, PairBatch(*sides)).loss, theta)
    torch.testing.assert_close(bandit.ascent(spec, theta.detach()), slope)


@pytest.mark.parametrize("name", ["orpo", "nca", "kto", "cdpo", "robust_dpo", "copg", "rebel", "sppo", "nash_md"])
def test_the_bandit_refuses_what_it_cannot_follow(name):
    bandit = LogLinearBandit.drawn(0)
    with pytest.raises(SpecError, match=f"{name} has the term"):
        bandit.ascent(preference(name), torch.zeros(24, dtype=torch.float64))


@pytest.mark.parametrize(("unlikely", "less"), [(False, 0.21), (True, 0.24)])
def test_over_the_ends_of_all_kept_runs_a_parabola_in_the_chosens_likelihood_fits_better_and_opens_downwards(unlikely, less):
    kept = DAA.results()
    rows = [row for name, row in kept.numbers.items() if ("unlikely" in name) == unlikely]
    x, y = (np.concatenate([row[measure] for row in rows]) for measure in ("chosen, last", "last gain"))
    missed = [np.sqrt(np.mean((np.polyval(np.polyfit(x, y, degree), x) - y) ** 2)) for degree in (1, 2)]
    assert 1 - missed[1] / missed[0] == pytest.approx(less, abs=0.005)
    curve = np.polyfit(x, y, 2)
    assert curve[0] < 0
    assert x.min() < -curve[1] / (2 * curve[0]) < x.max()


def test_the_peaks_of_the_kept_runs_are_told_seed_by_seed():
    kept = DAA.results().numbers
    plain, added = kept["DPO, 0.1"], kept["DPO, 0.1, likelihood 0.005"]
    drop = np.subtract(plain["best gain"], plain["last gain"])
    assert sorted(np.round(drop, 2))[-3:] == [0.13, 0.27, 0.36]
    assert sorted(drop)[-4] < 0.04
    assert (np.subtract(added["best gain"], plain["best gain"]) < 0).all()

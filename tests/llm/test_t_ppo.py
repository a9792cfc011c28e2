"""T-PPO: truncation's error, what it leaves unbiased, windows and their clock, critics of finished answers."""

import numpy as np
import pytest
import torch
from banach.llm.catalogue import objective
from banach.llm.critic import GeneralisedAdvantage
from banach.llm.errors import BatchError, ObjectiveWarning, SpecError
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.systems.t_ppo import FinishedReward, WindowedRun, t_ppo
from banach.llm.windows import FreshTokens, Windows, speed_limit
from banach.mdp import token_policy
from banach.mdp.instances_testbeds import step_tree
from banach.mdp.instances_token import digit_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import random_batch, rebuilt

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)
TREE = step_tree(2, 4, 3)


def batch_of_values(values, reward, cut, ends=None):
    """One row a sequence, all policy tokens."""
    B, T = values.shape
    batch = random_batch(groups=1, size=B, horizon=T - 1, edges=False)
    return rebuilt(
        batch,
        mask_BT=torch.ones(B, T, dtype=torch.bool),
        value_BT=torch.tensor(values),
        value_old_BT=torch.tensor(values),
        reward_B=torch.tensor(reward),
        step_reward_BT=torch.zeros(B, T, dtype=torch.float64),
        truncated_B=torch.tensor(cut),
        fresh_BT=torch.ones(B, T, dtype=torch.bool),
        value_end_B=torch.tensor(np.zeros(B) if ends is None else ends),
    )


@given(seed=seeds, trace=st.sampled_from([0.0, 0.7, 1.0]), discount=st.sampled_from([1.0, 0.9]), cut=st.integers(2, 4))
@few
def test_the_error_of_a_cut_is_known_exactly(seed, trace, discount, cut):
    rng = np.random.default_rng(seed)
    values, reward = rng.normal(size=(3, 5)), rng.normal(size=3)
    full = GeneralisedAdvantage(discount, trace)(outcome(batch_of_values(values, reward, [False] * 3))).numpy()
    part = batch_of_values(values[:, :cut], np.zeros(3), [True] * 3)
    short = GeneralisedAdvantage(discount, trace, "repeat")(outcome(part)).numpy()
    decay = (discount * trace) ** np.arange(cut - 1, -1, -1)
    missing = full[:, cut - 1] - (discount - 1) * values[:, cut - 1]
    assert full[:, :cut] - short == pytest.approx(decay * missing[:, None], abs=1e-12)
    if trace == discount == 1.0:
        assert short == pytest.approx(values[:, cut - 1 : cut] - values[:, :cut], abs=1e-12)


@given(seed=seeds)
@few
def test_windows_as_long_as_the_answers_are_ppo(seed):
    batch = random_batch(seed)
    whole = rebuilt(batch, truncated_B=torch.zeros_like(batch.truncated_B), fresh_BT=torch.ones_like(batch.fresh_BT))
    ours, theirs = evaluate(t_ppo(trace=0.7), whole), evaluate(objective("ppo", high=0.28, trace=0.7), whole)
    assert torch.allclose(ours.weight_BT, theirs.weight_BT)


def conditional_means(cut, bootstrap, discount=1.0, trace=0.7):
    """E[A'_t | node, token] on the tree with exact values, cut after so many tokens, and the true advantages."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(TREE.n_nodes, 2))
    value = token_policy.value(TREE, logits)
    chance = token_policy.sequence_probability(TREE, logits)
    v = value[TREE.node] * discount ** np.arange(3, -1, -1)  # all answers have four tokens
    batch = batch_of_values(v[:, :cut], np.zeros(len(v)), [True] * len(v), v[:, cut] if cut < 4 else None)
    A = GeneralisedAdvantage(discount, trace, bootstrap)(outcome(batch)).numpy()
    total, mass = np.zeros((2, TREE.n_nodes, 2))
    for t in range(cut):
        np.add.at(total, (TREE.node[:, t], TREE.token[:, t]), chance * A[:, t])
        np.add.at(mass, (TREE.node[:, t], TREE.token[:, t]), chance)
    reached = mass.sum(1) > 0
    return total[reached] / mass[reached], token_policy.advantage(TREE, logits)[reached], TREE.node[:, cut - 1], value


@pytest.mark.parametrize("cut", [2, 3])
def test_with_an_exact_critic_truncation_is_unbiased_but_for_the_last_token_which_says_nothing(cut):
    mean, truth, last_nodes, _ = conditional_means(cut, "repeat")
    last = np.unique(last_nodes)
    before = np.setdiff1d(np.arange(len(mean)), last)
    assert mean[before] == pytest.approx(truth[before], abs=1e-12)
    assert mean[last] == pytest.approx(np.zeros((len(last), 2)), abs=1e-12)
    assert np.abs(truth[last]).max() > 0.01
    mean, truth, _, _ = conditional_means(cut, "given")
    assert mean == pytest.approx(truth, abs=1e-12)


def test_below_discount_one_everything_before_the_cut_is_pushed_down():
    cut, discount, trace = 3, 0.9, 0.7
    with_cut, _, last_nodes, _ = conditional_means(cut, "repeat", discount, trace)
    sound, _, _, _ = conditional_means(cut, "given", discount, trace)
    bias = np.delete(with_cut - sound, np.unique(last_nodes), axis=0)
    assert (bias <= 1e-12).all()
    assert bias.min() < -0.01
    assert (bias[0] < -1e-3).all()  # both first tokens, two tokens away from the cut
    with pytest.warns(ObjectiveWarning, match="pushed down"):
        t_ppo(discount=0.9)


def test_with_a_critic_of_zero_cut_windows_teach_nothing_at_all():
    batch = batch_of_values(np.zeros((4, 3)), np.zeros(4), [True] * 4)
    found = evaluate(t_ppo(), batch)
    assert not found.weight_BT.any()
    assert found.value_loss == 0
    assert not found.weight_value_BT.any()


def test_a_reward_is_never_paid_for_an_unfinished_answer():
    batch = batch_of_values(np.zeros((2, 3)), np.ones(2), [True, False])
    A = plan(t_ppo(drop_last=0, trace=1.0), batch).advantage_BT
    assert not A[0].any()
    assert A[1].tolist() == [1.0, 1.0, 1.0]
    paid = rebuilt(batch, step_reward_BT=torch.full((2, 3), 0.1, dtype=torch.float64))
    assert FinishedReward()(paid.reward_B, paid).tolist() == pytest.approx([0.3, 1.0])


@given(seed=seeds, window=st.integers(1, 7), slots=st.integers(1, 6))
@few
def test_every_token_is_fresh_once_and_every_finished_answer_is_learnt_from_once(seed, window, slots):
    lengths = np.random.default_rng(seed).integers(1, 15, 20).tolist()
    queue, windows = list(enumerate(lengths)), Windows(slots, window)
    fresh, finished, clock = {k: [] for k in range(20)}, [], 0
    while queue or windows.running:
        report = windows.advance(queue)
        assert len(report) <= slots
        clock += max(stop - start for _, start, stop, _ in report)
        for answer, start, stop, done in report:
            fresh[answer] += range(start, stop)
            finished += [answer] * done
    assert fresh == {k: list(range(n)) for k, n in enumerate(lengths)}
    assert sorted(finished) == list(range(20))
    assert windows.clock == clock


def test_the_critic_learns_from_finished_answers_alone_stale_tokens_included():
    batch = batch_of_values(np.full((2, 3), 0.3), np.ones(2), [True, False])
    stale = rebuilt(batch, fresh_BT=torch.zeros(2, 3, dtype=torch.bool))
    found = evaluate(t_ppo(value_clip=None), stale)
    assert not found.weight_value_BT[0].any()
    assert found.weight_value_BT[1].tolist() == pytest.approx([0.7 / 3] * 3)
    assert not found.weight_BT.any()
    everyone = evaluate(objective("ppo", value_clip=None), stale).weight_value_BT
    assert everyone[0].all()


def test_the_last_fresh_tokens_before_a_cut_are_left_out_and_no_others():
    batch = batch_of_values(np.zeros((2, 4)), np.ones(2), [True, False])
    fresh = torch.tensor([[False, True, True, True], [True] * 4])
    out = outcome(rebuilt(batch, fresh_BT=fresh))
    for dropped in (0, 1, 2):
        kept = FreshTokens(dropped)(out, out.token_reward_BT)
        assert kept[0].tolist() == [False, True, dropped < 2, dropped < 1]
        assert kept[1].all()


def test_prefix_tokens_have_no_gradient_and_the_first_ratio_on_fresh_ones_is_one():
    batch = random_batch(4)
    batch = rebuilt(batch, logp_BT=torch.where(batch.fresh_BT, batch.logp_old_BT, batch.logp_old_BT - 0.7))
    planned = plan(t_ppo(), batch)
    found = planned.evaluate()
    assert not found.weight_BT[~batch.fresh_BT].any()
    kept = planned.mask_BT
    ratio = planned.spec.ratio(torch.where(batch.mask_BT, batch.logp_BT, 0.0), batch).ratio_BT
    assert torch.allclose(ratio[kept], torch.ones_like(ratio[kept]))
    assert kept.any()


def test_no_windowing_is_faster_than_the_longest_of_n_over_the_mean():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(8.0, 0.8, 200_000), 24576)
    assert 1 / speed_limit(lengths, 512) == pytest.approx(0.167, abs=0.002)
    assert speed_limit(np.full(9, 7.0), 100) == pytest.approx(1.0)
    for window in (1, 3, 10):
        sample = rng.integers(1, 30, 400)
        queue, busy = list(enumerate(sample.tolist())), Windows(16, window)
        while len(queue) > 16:
            busy.advance(queue)
        done = sum(sample) - sum(n for _, n in queue) - sum(length - written for _, written, length in busy.running)
        waiting = sum(max(sample[k : k + 16]) for k in range(0, 400, 16)) / sum(sample)  # time a token, whole answers
        assert waiting / (busy.clock / done) <= speed_limit(sample, 16) * 1.1


def test_short_answers_finish_first_so_an_early_critic_is_low_where_long_ones_are_right():
    """Half the answers take 1 token and are wrong, half take 6 and are right: after 3 steps of window 1 only wrong ones
    are in.
    """
    lengths, right = [1, 6] * 40, [0.0, 1.0] * 40
    queue, windows, seen, late = list(enumerate(lengths)), Windows(8, 1), [], []
    for step in range(40):
        for answer, _, _, done in windows.advance(queue):
            if done:
                (seen if step < 3 else late).append(right[answer])
    assert np.mean(seen) == 0.0
    assert np.mean(seen + late) == pytest.approx(0.5, abs=0.15)


def test_a_run_on_windows_counts_each_fresh_token_once_and_learns():
    run = WindowedRun(digit_chain(2, 2, scratchpad=True), 1, 0, slots=8)
    before = run.measures()["reward"]
    for _ in range(60):
        run.step()
    assert run.policy_set == 60 * 8
    assert run.clock == 60
    assert 0 < run.value_set <= run.policy_set
    whole = WindowedRun(digit_chain(2, 2, scratchpad=True), 3, 0, slots=8)
    for _ in range(60):
        whole.step()
    assert whole.measures()["reward"] > before + 0.1
    assert whole.policy_set == whole.value_set  # nothing is ever cut
    assert whole.clock > 60


def test_settings_and_batches_that_are_none_are_refused():
    with pytest.raises(SpecError, match="drop_last=-1"):
        FreshTokens(-1)
    with pytest.raises(SpecError, match="slots=0"):
        Windows(0, 1)
    with pytest.raises(SpecError, match="positive"):
        speed_limit(np.array([0.0]), 2)
    with pytest.raises(BatchError, match="fresh_BT"):
        evaluate(t_ppo(), rebuilt(random_batch(1), fresh_BT=None))

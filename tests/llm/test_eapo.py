"""EAPO: discounted rounds, the update that is no gradient, stopping, all-right groups, subsets, workspaces."""

import itertools

import numpy as np
import pytest
import torch
from banach.llm.batch import TokenBatch
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, SpecError
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.rounds import RoundDiscount, SpreadGroups, downsampled
from banach.llm.systems.eapo import eapo, report_states, round_batch
from banach.llm.workspace import Workspace
from banach.mdp.instances_testbeds import lookup_research
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import random_batch, rebuilt

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


def advantages(runs, rewards, discount, ddof=0):
    """(rounds,) advantages of trajectories of these lengths and outcomes, round by round."""
    left = [T - 1 - t for T in runs for t in range(T)]
    reward = [r for T, r in zip(runs, rewards, strict=True) for _ in range(T)]
    batch = random_batch(groups=1, size=len(left), horizon=1, edges=False)
    batch = rebuilt(batch, reward_B=torch.tensor(reward, dtype=torch.float64), rounds_left_B=torch.tensor(left))
    return plan(eapo(discount, ddof=ddof), batch).advantage_BT[:, 0].numpy()


def update_field(z, p, discount, extra):
    """Expected REINFORCE update of two rounds that stop with probability sigmoid(z_t), success p_t; a third round must stop."""
    stop = 1 / (1 + np.exp(-z))
    found = np.zeros(2)
    for T in (1, 2, 3):
        chance = np.prod(1 - stop[: T - 1]) * (stop[T - 1] if T < 3 else 1.0)
        for t in range(min(T, 2)):
            score = (1 - stop[t]) if t == T - 1 else -stop[t]
            weight = discount ** (T - 1 - t) * (discount**t if extra else 1.0)
            found[t] += chance * p[T - 1] * weight * score
    return found


def jacobian(function, z):
    return np.array([(function(z + d) - function(z - d)) / 2e-6 for d in 1e-6 * np.eye(2)]).T


def test_the_published_update_is_no_gradient_and_with_the_missing_factor_it_is():
    z, p, g = np.array([0.3, -0.4]), np.array([0.2, 0.5, 0.9]), 0.7
    published = jacobian(lambda x: update_field(x, p, g, False), z)
    repaired = jacobian(lambda x: update_field(x, p, g, True), z)
    plain = jacobian(lambda x: update_field(x, p, 1.0, False), z)
    assert abs(published[0, 1] - published[1, 0]) > 1e-3
    assert abs(repaired[0, 1] - repaired[1, 0]) < 1e-8
    assert abs(plain[0, 1] - plain[1, 0]) < 1e-8

    def discounted(x):
        stop = 1 / (1 + np.exp(-x))
        laws = [stop[0], (1 - stop[0]) * stop[1], (1 - stop[0]) * (1 - stop[1])]
        return sum(law * p[T] * g**T for T, law in enumerate(laws))

    numeric = [(discounted(z + d) - discounted(z - d)) / 2e-6 for d in 1e-6 * np.eye(2)]
    assert update_field(z, p, g, True) == pytest.approx(numeric, abs=1e-8)
    assert update_field(z, p, g, False) != pytest.approx(numeric, abs=1e-3)


@given(seed=seeds)
@few
def test_undiscounted_rounds_share_an_advantage_against_a_mean_weighted_by_lengths(seed):
    rng = np.random.default_rng(seed)
    runs, rewards = rng.integers(1, 5, 4), rng.choice([0.0, 1.0], 4)
    A = advantages(runs, rewards, 1.0)
    mean = (runs * rewards).sum() / runs.sum()
    spread = np.sqrt((runs * (rewards - mean) ** 2).sum() / runs.sum())
    expected = np.repeat((rewards - mean) / spread if spread else np.zeros(4), runs)
    assert pytest.approx(expected) == A


def test_a_later_success_earns_less_at_the_same_round_and_more_in_all():
    g = 0.9
    part = RoundDiscount(g)
    batch = rebuilt(random_batch(groups=1, size=2, horizon=1, edges=False), rounds_left_B=torch.tensor([2, 5]))
    short, long = part(torch.ones(2, dtype=torch.float64), batch).tolist()
    assert short > long
    total = [(1 - g**T) / (1 - g) for T in (3, 6)]
    assert total == pytest.approx([sum(g**k for k in range(T)) for T in (3, 6)])
    assert total[0] < total[1]
    assert pytest.approx(0.990, abs=5e-4) == 0.995**2
    assert pytest.approx(0.918, abs=5e-4) == 0.995**17


P = (0.2, 0.5, 0.7, 0.9)


def stops_at(discount, p=P):
    """The optimal round by dynamic programming: stop where p_t is no less than what going on is worth."""
    worth, first = p[-1], len(p)
    for t in reversed(range(len(p) - 1)):
        go = discount * worth
        if p[t] >= go:
            first = t + 1
        worth = max(p[t], go)
    return first


@pytest.mark.parametrize(("discount", "expected"), [(0.3, 1), (0.5, 2), (0.72, 3), (0.78, 4)])
def test_how_long_a_research_pays(discount, expected):
    rule = next(t + 1 for t in range(4) if P[t] >= max((discount**k * P[t + k] for k in range(1, 4 - t)), default=0.0))
    assert stops_at(discount) == rule == expected


@given(seed=seeds)
@few
def test_research_goes_on_no_shorter_as_the_discount_rises(seed):
    p = tuple(np.random.default_rng(seed).random(5))
    stops = [stops_at(g, p) for g in np.linspace(0.05, 1.0, 40)]
    assert stops == sorted(stops)
    for one, two in itertools.pairwise(stops):
        assert p[two - 1] >= p[one - 1] - 1e-12


@pytest.mark.parametrize(
    ("discount", "largest", "smallest"), [(0.8, 1.213, -1.774), (0.995, 1.096, -2.024), (1 - 1e-7, 1.093, -2.030)]
)
def test_a_group_that_is_all_right_pushes_early_rounds_of_long_runs_down_at_full_strength(discount, largest, smallest):
    A = advantages([2, 3, 5], [1.0] * 3, discount)
    assert A.sum() == pytest.approx(0, abs=1e-6)
    assert (A.max(), A.min()) == pytest.approx((largest, smallest), abs=1e-3)
    assert A.argmin() == 5  # the first round of the longest


def test_undiscounted_or_all_wrong_it_teaches_nothing_and_mean_alone_fades_linearly():
    assert not advantages([2, 3, 5], [1.0] * 3, 1.0).any()
    assert not advantages([2, 3, 5], [0.0] * 3, 0.8).any()
    size = [np.abs(_centred([2, 3, 5], g)).max() / (1 - g) for g in (0.999, 0.9999)]
    assert size[0] == pytest.approx(size[1], rel=0.01)


def _centred(runs, discount):
    reward = np.array([discount ** (T - 1 - t) for T in runs for t in range(T)])
    return reward - reward.mean()


def test_uniform_subsets_keep_every_mean_and_the_tail_does_not():
    batch = rebuilt(random_batch(3, groups=1, size=7, horizon=1, edges=False), rounds_left_B=torch.arange(7))
    planned = plan(eapo(0.8), batch)
    whole = planned.evaluate().weight_BT.sum()
    sums = {}
    for seed in range(400):
        part = downsampled(planned, 5, np.random.default_rng(seed))
        assert len(part.batch.reward_B) == 5
        sums[tuple(part.batch.rounds_left_B.tolist())] = float(part.evaluate().weight_BT.sum())
    assert len(sums) == 21  # every subset of five
    assert np.mean(list(sums.values())) == pytest.approx(float(whole), abs=1e-12)
    late = rebuilt(batch, rounds_left_B=torch.arange(6, -1, -1))
    earned = RoundDiscount(0.8)(torch.ones(7, dtype=torch.float64), late)
    assert earned[:5].mean() < earned.mean()  # the tail, which is dropped, earns the most
    assert float(planned.evaluate().weight_BT[:5].sum() * 7 / 5) != pytest.approx(float(whole), abs=1e-3)
    assert downsampled(planned, 7, np.random.default_rng(0)).coefficient_BT.equal(planned.coefficient_BT)


@given(seed=seeds)
@few
def test_a_workspace_stays_small_and_says_what_it_cut(seed):
    rng = np.random.default_rng(seed)
    space, history = Workspace((1, 2, 3), 4, 2, 3), 3
    for _ in range(10):
        pieces = [tuple(rng.integers(0, 9, rng.integers(0, 7)).tolist()) for _ in range(3)]
        before = space.overflowed
        space = space.next(*pieces)
        history += len(pieces[1]) + len(pieces[2])
        assert len(space.tokens) <= space.longest == 12
        assert space.overflowed - before == sum(len(x) > c for x, c in zip(pieces, (4, 2, 3), strict=True))
        assert space.tokens[:3] == (1, 2, 3)
        assert space.report == pieces[0][:4]


@pytest.mark.parametrize(("capacity", "success"), [(0, 0.5), (1, 1.0)])
def test_a_bit_shown_first_is_recalled_last_through_a_report_that_can_hold_it(capacity, success):
    """All deterministic policies: what to write when the bit is read, what to answer on what the workspace then holds."""
    best = 0.0
    for write in itertools.product(range(2), repeat=2):
        for answer in itertools.product(range(2), repeat=3):
            right = 0
            for bit in range(2):
                space = Workspace((7,), capacity, 1, 1).next((), (0,), (bit,))
                space = space.next((write[space.result[0]],), (0,), (9,))
                space = space.next(space.report, (0,), (9,))
                right += answer[2 if not space.report else space.report[0]] == bit
            best = max(best, right / 2)
    assert best == success


def test_rounds_are_rows_and_states_are_what_a_report_tells():
    problem = lookup_research((1, 2), rounds=3)
    table = torch.zeros(problem.n_nodes, problem.vocabulary_size, dtype=torch.float64).log_softmax(-1)
    at = np.array([int(np.flatnonzero(problem.length == 3)[0])])
    batch = round_batch(problem, at, np.array([5]), table, table)
    assert batch.rounds_left_B.tolist() == [2, 1, 0]
    assert batch.group_B.tolist() == [5] * 3
    states, narrow = report_states(problem), report_states(problem, window=1)
    assert len(set(states.tolist())) == 5 or len(set(states.tolist())) == 6
    assert len(set(narrow.tolist())) == 3  # two questions, and lost


@given(seed=seeds)
@few
def test_one_round_each_is_gspo(seed):
    batch = random_batch(seed)
    last = rebuilt(batch, rounds_left_B=torch.zeros_like(batch.rounds_left_B))
    spread = objective("gspo", filters=(SpreadGroups(),))
    assert torch.equal(evaluate(eapo(0.5), last).weight_BT, evaluate(spread, last).weight_BT)


def test_groups_that_all_failed_are_dropped_from_the_mean_and_from_the_subset():
    """The loss is the mean over rounds of the other groups; a group that is all right stays at a discount below 1."""
    rng = np.random.default_rng(2)
    logp, old = (torch.tensor(np.log(rng.uniform(0.2, 0.9, (12, 1)))) for _ in range(2))
    group, left = torch.arange(3).repeat_interleave(4), torch.tensor([0, 1, 2, 0] * 3)
    reward = torch.tensor([0.0] * 4 + [1.0] * 4 + [1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    batch = TokenBatch(logp, old, torch.ones(12, 1, dtype=torch.bool), reward, group, rounds_left_B=left)
    for discount, kept in ((0.5, {1, 2}), (1.0, {2})):
        planned = plan(eapo(discount, low=0.5, high=0.5, unusual_clip=True), batch)
        terms = []
        for g in kept:
            earned = (reward * discount**left)[group == g]
            A = (earned - earned.mean()) / earned.std()
            ratio = (batch.logp_BT - batch.logp_old_BT)[group == g, 0].detach().exp()
            terms += torch.minimum(ratio * A, ratio.clamp(0.5, 1.5) * A).tolist()
        assert float(planned.evaluate().loss) == pytest.approx(-np.mean(terms), abs=1e-12)
        rows = downsampled(planned, 3, np.random.default_rng(0)).batch.group_B
        assert set(rows.tolist()) <= kept
        assert len(rows) == 4 * len(kept) // 3 * 3


def test_bad_input_is_refused():
    with pytest.raises(SpecError, match=r"discount=0\.0"):
        RoundDiscount(0.0)
    batch = random_batch(1)
    with pytest.raises(BatchError, match=r"rounds_left_B is -1 at sequence 2"):
        outcome(rebuilt(batch, rounds_left_B=torch.tensor([0, 0, -1, 0, 0, 0])), (RoundDiscount(),))
    planned = plan(eapo(), rebuilt(batch, reward_B=torch.tensor([0.0, 1, 2] * 2)))
    with pytest.raises(SpecError, match="6 rows make no batch of 7"):
        downsampled(planned, 7, np.random.default_rng(0))
    with pytest.raises(SpecError, match="multiple=0"):
        downsampled(planned, 0, np.random.default_rng(0))
    with pytest.raises(SpecError, match="below zero"):
        Workspace((), -1, 0, 0)

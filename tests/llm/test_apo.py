"""APO: where the router ends up, which biases its charge has, what is masked, and what cost of a pass hides."""

import dataclasses
import itertools
from math import comb

import numpy as np
import pytest
import torch
from banach.llm.advantage import GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.batch import TokenBatch
from banach.llm.catalogue import objective
from banach.llm.errors import BatchError, SpecError
from banach.llm.modes import (
    LeaveOneOutModes,
    ModeCost,
    adaptive_factor,
    best_mode,
    cost_of_pass,
    silent_groups,
    unbiased_square,
    without_tags,
)
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.systems.apo import apo
from banach.mdp.errors import ModelError
from banach.mdp.instances_modes import answer_modes, hybrid_tasks
from banach.mdp.instances_token import tiny_enum
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from .objective_batches import random_batch, rebuilt

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("heavy", "alpha", "expected"),
    [((1, 1), 1, 0.25), ((1, 1), 2, 0.3739), ((1, 1), 3, 0.4532), ((1, 0), 1, 0.5), ((1, 0), 2, 0.6847), ((1, 0), 3, 0.7882)],
)
def test_the_router_s_switch_point(heavy, alpha, expected):
    root = brentq(lambda a: a - max(heavy) * adaptive_factor((a + sum(heavy)) / 3, alpha), 0, 1)
    assert root == pytest.approx(expected, abs=5e-5)
    if alpha == 2 and heavy == (1, 1):
        assert root == pytest.approx((np.sqrt(189) - 13) / 2)
    assert best_mode(np.array([root + 1e-6, *heavy]), alpha) == 0
    assert best_mode(np.array([root - 1e-6, *heavy]), alpha) == 1
    assert best_mode(np.array([0.9, 0.91, 0.1]), alpha, easy=False) == 1


@pytest.mark.parametrize(("alpha", "expected"), [(1, 0.5), (2, 0.6180), (3, 0.6823)])
def test_the_switch_point_with_the_instant_rate(alpha, expected):
    root = brentq(lambda a: a - adaptive_factor(a, alpha), 0, 1)
    assert root == pytest.approx(expected, abs=5e-5)
    assert best_mode(np.array([root + 1e-6, 1, 1]), alpha, source="instant") == 0
    assert best_mode(np.array([root - 1e-6, 1, 1]), alpha, source="instant") == 1


def test_a_frozen_rate_moves_the_switch_point_to_its_factor():
    for p in (0.3, 0.6, 0.9):
        switch = 1 - p**2
        assert best_mode(np.array([switch + 1e-6, 1, 0.2]), 2.0, source=p) == 0
        assert best_mode(np.array([switch - 1e-6, 1, 0.2]), 2.0, source=p) == 1
    with pytest.raises(SpecError, match="source='teacher'"):
        best_mode(np.ones(3), 2.0, source="teacher")


def test_without_the_gate_heavy_modes_are_charged_where_the_cheapest_never_works():
    assert adaptive_factor(2 / 3, 2) == pytest.approx(0.556, abs=5e-4)
    right, mode = torch.tensor([0.0, 1, 1]), torch.tensor([0, 1, 2])
    assert ModeCost(0.5, gate=False).factor(right, mode) == pytest.approx(5 / 9)
    assert ModeCost(0.5).factor(right, mode) == 1.0


def test_a_tabular_router_converges_to_the_rule():
    for accuracy in ([0.5, 1.0, 1.0], [0.3, 1.0, 1.0], [0.9, 0.2, 0.4]):
        a = np.array(accuracy)
        worth = torch.tensor(np.r_[a[0], a[1:] * adaptive_factor(a.mean(), 2.0)])
        z = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        for _ in range(60):
            [slope] = torch.autograd.grad(z.softmax(0) @ worth, z)
            z = (z.detach() + 0.3 * slope / slope.abs().max()).requires_grad_()
        route = z.detach().softmax(0)
        chosen = best_mode(a, 2.0)
        ties = [m for m in range(3) if worth[m] == worth[chosen]]
        assert route[ties].sum() > 0.95


@pytest.mark.parametrize("source", ["all-forced", "instant", 0.5])
@pytest.mark.parametrize("accuracy", [(0.3, 0.9, 0.5), (0.7, 0.9, 0.2), (0.2, 0.25, 0.3), (0.5, 0.6, 0.95)])
def test_a_router_that_ascends_the_library_s_exact_gradient_ends_at_the_rule(accuracy, source):
    """All groups enumerated; at alpha 1 a rate is unbiased, so that a group of any size has the rule of a large one."""
    a, z = np.array(accuracy), np.zeros(3)
    for _ in range(30):
        route = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        batch, chance, n = every_group(a, 1, route)
        found = advantages(CENTRED, (ModeCost(0.5, 1.0, source, gate=False),), batch, n)[:, -1]
        gradient = (chance * found) @ (np.eye(3)[batch.mode_B.reshape(-1, n)[:, -1].numpy()] - route)
        z += gradient / max(np.abs(gradient).max(), 1e-12) * 0.5
    assert int(np.argmax(z)) == best_mode(a, 1.0, source=source)
    assert route.max() > 0.9


@pytest.mark.parametrize(("alpha", "p", "expected"), [(2.0, 0.0, 1.0), (2.0, 1.0, 0.0), (500.0, 0.9, 1.0), (1e-9, 0.5, 0.0)])
def test_limits_of_the_factor(alpha, p, expected):
    assert adaptive_factor(p, alpha) == pytest.approx(expected, abs=1e-6)


@given(seed=seeds)
@few
def test_a_tau_of_one_is_accuracy_alone(seed):
    batch = rebuilt(random_batch(seed), mode_B=torch.randint(0, 3, (6,), generator=torch.Generator().manual_seed(seed)))
    plain = objective("grpo", beta=0.0, aggregation=Aggregation("token-mean"))
    assert torch.equal(evaluate(apo(1.0), batch).weight_BT, evaluate(plain, batch).weight_BT)


@given(a=st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3), rho=st.integers(2, 3))
@few
def test_the_square_of_a_rate_is_too_large_by_its_variance_and_can_be_repaired(a, rho):
    square, repaired, mean = 0.0, 0.0, 0.0
    for k in itertools.product(range(rho + 1), repeat=3):
        chance = np.prod([comb(rho, x) * p**x * (1 - p) ** (rho - x) for x, p in zip(k, a, strict=True)])
        rate = sum(k) / (3 * rho)
        square, mean = square + chance * rate**2, mean + chance * rate
        repaired += chance * unbiased_square(np.array(k), rho)
    p = np.mean(a)
    assert mean == pytest.approx(p)
    assert square == pytest.approx(p**2 + sum(x * (1 - x) for x in a) / (9 * rho))
    assert repaired == pytest.approx(p**2)


def expected_factor(a, rho, cost):
    """E of `ModeCost.factor` over all outcomes of rho forced rollouts in each mode."""
    mode, total = torch.arange(len(a)).repeat_interleave(rho), 0.0
    for outcomes in itertools.product([0, 1], repeat=len(mode)):
        chance = np.prod([a[m] if r else 1 - a[m] for m, r in zip(mode.tolist(), outcomes, strict=True)])
        total += chance * cost.factor(torch.tensor(outcomes, dtype=torch.float64), mode)
    return total


@given(a=st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3))
@few
def test_at_alpha_one_the_charge_is_unbiased_and_the_gate_adds_the_chance_of_an_easy_group(a):
    rho, p = 2, np.mean(a)
    assert expected_factor(a, rho, ModeCost(0.5, 1.0, gate=False)) == pytest.approx(1 - p)
    assert expected_factor(a, rho, ModeCost(0.5, 1.0, "instant", gate=False)) == pytest.approx(1 - a[0])
    easy = a[0] ** 2  # both instant rollouts right, the only rate above 1/2
    assert expected_factor(a, rho, ModeCost(0.5, source=1.0)) == pytest.approx(1 - easy)
    right = (2 + 2 * a[1] + 2 * a[2]) / 6  # E p where the gate is open, alpha 1
    assert expected_factor(a, rho, ModeCost(0.5, 1.0)) == pytest.approx(1 - easy * right)


COSTS = [ModeCost(0.5), ModeCost(0.5, 1.0, gate=False), ModeCost(0.0, 3.0, "instant"), ModeCost(1 / 3, 2.0, 0.7)]


@given(a=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=3), rho=st.integers(1, 2), cost=st.sampled_from(COSTS))
@few
def test_the_mean_factor_is_that_of_every_outcome_of_the_forced_rollouts(a, rho, cost):
    assert cost.mean_factor(a, rho) == pytest.approx(expected_factor(a, rho, cost), abs=1e-12)


def test_a_gate_of_few_rollouts_turns_a_hard_query_to_the_instant_mode():
    """Accuracies .45, .5, .3: not easy, the most accurate mode by the rule; charged for lucky groups at rho 3 and 1."""
    a, cost = [0.45, 0.5, 0.3], ModeCost(0.5)
    assert best_mode(a, 2.0, tau=0.5) == 1
    assert 0.5 * cost.mean_factor(a, 3) == pytest.approx(0.4400, abs=5e-5)
    assert 0.5 * cost.mean_factor(a, 1) == pytest.approx(0.4075, abs=5e-5)
    assert best_mode(a, 2.0, rho=3, tau=0.5) == best_mode(a, 2.0, rho=1, tau=0.5) == 0
    assert best_mode(a, 2.0, rho=60, tau=0.5) == 1  # in groups that are large enough the rule is back
    assert 0.5 * cost.mean_factor([0.4, 0.5, 0.5], 1) == pytest.approx(0.4)  # a tie, which goes to the cheapest
    assert best_mode([0.4, 0.5, 0.5], 2.0, rho=1, tau=0.5) == 0
    assert best_mode([0.4, 0.5, 0.5], 2.0, rho=3, tau=0.5) == 1
    # an easy one is spared: by the rule instant, at rho 3 heavy
    assert best_mode([0.52, 0.98, 0.98], 2.0, tau=0.5) == 0
    assert best_mode([0.52, 0.98, 0.98], 2.0, rho=3, tau=0.5) == 1
    assert best_mode(a, 2.0, easy=False, rho=1, tau=0.5) == 1


def test_there_the_library_s_exact_gradient_leads_to_the_instant_mode_too():
    a, cost = np.array([0.45, 0.5, 0.3]), ModeCost(0.5)
    route = np.array([0.3, 0.4, 0.3])
    batch, chance, n = every_group(a, 1, route)
    found = advantages(CENTRED, (cost,), batch, n)[:, -1]
    gradient = (chance * found) @ (np.eye(3)[batch.mode_B.reshape(-1, n)[:, -1].numpy()] - route)
    worth = np.r_[a[0], a[1:] * cost.mean_factor(a, 1)]
    assert gradient == pytest.approx((n - 1) / n * route * (worth - route @ worth), abs=1e-12)
    assert np.argmax(gradient / route) == 0 != np.argmax(a)


def test_how_much_at_one_half():
    for source, expected in (("all-forced", 0.0278), ("instant", 0.0833)):
        found = 1 - expected_factor([0.5] * 3, 3, ModeCost(0.5, source=source, gate=False))
        assert found - 0.25 == pytest.approx(expected, abs=5e-5)


def every_group(a, rho, route=None):
    """One batch of all groups: forced outcomes, one adaptive rollout's mode and outcome if any; with their probabilities."""
    forced = np.repeat(np.arange(len(a)), rho)
    rows, chances = [], []
    free = [([], [], 1.0)]
    if route is not None:
        free = [([m], [r], route[m] * (a[m] if r else 1 - a[m])) for m, r in itertools.product(range(len(a)), [0, 1])]
    for outcomes in itertools.product([0, 1], repeat=len(forced)):
        p = np.prod([a[m] if r else 1 - a[m] for m, r in zip(forced, outcomes, strict=True)])
        for mode, r, q in free:
            rows.append(([*forced, *mode], [*outcomes, *r]))
            chances.append(p * q)
    n = len(rows[0][0])
    mode = torch.tensor([m for modes, _ in rows for m in modes])
    reward = torch.tensor([float(r) for _, rewards in rows for r in rewards], dtype=torch.float64)
    old = torch.full((len(mode), 1), -1.0, dtype=torch.float64)
    batch = TokenBatch(
        logp_BT=old,
        logp_old_BT=old,
        mask_BT=torch.ones(len(mode), 1, dtype=torch.bool),
        reward_B=reward,
        group_B=torch.arange(len(rows)).repeat_interleave(n),
        mode_B=mode,
        forced_B=(torch.arange(n) < len(forced)).repeat(len(rows)),
    )
    return batch, np.array(chances), n


def advantages(part, rewards, batch, n):
    return part(outcome(batch, rewards))[:, 0].reshape(-1, n).numpy()


A, RHO, ROUTE = np.array([0.4, 0.7, 0.8]), 1, np.array([0.2, 0.5, 0.3])
CENTRED = GroupAdvantage("group-mean")


@pytest.mark.parametrize("gate", [False, True])
def test_an_adaptive_rollout_gives_the_router_its_exact_gradient_with_centred_advantages(gate):
    batch, chance, n = every_group(A, RHO, ROUTE)
    cost = ModeCost(0.5, gate=gate)
    found = advantages(CENTRED, (cost,), batch, n)[:, -1]
    mode = batch.mode_B.reshape(-1, n)[:, -1].numpy()
    score = np.eye(3)[mode] - ROUTE
    gradient = (chance * found) @ score
    right = batch.reward_B.reshape(-1, n)[:, :-1].numpy()
    factors = np.array([cost.factor(torch.tensor(row), batch.mode_B[: n - 1]) for row in right])
    mean = chance @ factors
    worth = np.r_[A[0], A[1:] * mean]
    assert gradient == pytest.approx((n - 1) / n * ROUTE * (worth - ROUTE @ worth), abs=1e-12)


def test_with_a_deviation_it_is_not_exact():
    batch, chance, n = every_group(A, RHO, ROUTE)
    scaled = advantages(GroupAdvantage("group-mean", "group-std", 1), (ModeCost(0.5, gate=False),), batch, n)[:, -1]
    plain = advantages(CENTRED, (ModeCost(0.5, gate=False),), batch, n)[:, -1]
    score = np.eye(3)[batch.mode_B.reshape(-1, n)[:, -1].numpy()] - ROUTE
    one, two = (chance * scaled) @ score, (chance * plain) @ score
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) < 1 - 1e-6


def test_nor_where_the_rate_counts_adaptive_rollouts_too():
    batch, chance, n = every_group(A, RHO, ROUTE)
    cost = ModeCost(0.5, gate=False)
    score = np.eye(3)[batch.mode_B.reshape(-1, n)[:, -1].numpy()] - ROUTE
    exact = (chance * advantages(CENTRED, (cost,), batch, n)[:, -1]) @ score
    counted = rebuilt(batch, forced_B=torch.ones_like(batch.forced_B))
    gradient = (chance * advantages(CENTRED, (cost,), counted, n)[:, -1]) @ score
    factors = np.array(
        [
            cost.factor(rewards, modes)
            for rewards, modes in zip(batch.reward_B.reshape(-1, n), batch.mode_B.reshape(-1, n), strict=True)
        ]
    )
    mode, right = (x.reshape(-1, n)[:, -1].numpy() for x in (batch.mode_B, batch.reward_B))
    worth = np.array([(chance * (mode == m) * right * (factors if m else 1)).sum() / ROUTE[m] for m in range(3)])
    own = (n - 1) / n * ROUTE * (worth - ROUTE @ worth)  # of the charge that the adaptive rollout itself moves
    assert gradient[0] > 2 * exact[0] > 0
    assert np.abs(gradient - own).max() > 1e-3


def forced_gradients(part, rewards, a=A, rho=2, route=ROUTE):
    """E[A (R - a)] of the first forced rollout in each mode, the logit gradient of its answer policy."""
    batch, chance, n = every_group(a, rho, route)
    found, reward = advantages(part, rewards, batch, n), batch.reward_B.reshape(-1, n).numpy()
    return np.array([chance @ (found[:, rho * m] * (reward[:, rho * m] - p)) for m, p in enumerate(a)])


@pytest.mark.parametrize(
    ("a", "rho", "route", "gate", "excess"),
    [
        ((0.5, 0.5), 1, None, False, (0.375, -0.4)),
        ((0.5, 0.5), 1, (0.5, 0.5), False, (0.25, -0.3)),
        ((0.9, 0.9, 0.9), 2, (1 / 3, 1 / 3, 1 / 3), False, (0.198, 0.729, 0.729)),
        ((0.3, 0.3, 0.3), 1, (1 / 3, 1 / 3, 1 / 3), False, (0.096, -0.137, -0.137)),
        ((0.9, 0.95, 0.95), 2, (0.4, 0.3, 0.3), True, (0.624, 0.529, 0.529)),
        ((0.7, 0.9, 0.9), 2, (0.4, 0.3, 0.3), True, (0.438, 0.112, 0.112)),
    ],
)
def test_the_bias_of_forced_gradients_has_either_sign_and_is_not_small(a, rho, route, gate, excess):
    """Against a charge of the same mean that no outcome moves; leaving one out is exact, by a formula of its own."""
    cost, a = ModeCost(0.5, gate=gate), np.array(a)
    own = forced_gradients(CENTRED, (cost,), a, rho, route)
    n = len(a) * rho + (route is not None)
    still = np.r_[1.0, np.full(len(a) - 1, expected_factor(a, rho, cost))]
    assert own / ((n - 1) / n * a * (1 - a) * still) - 1 == pytest.approx(excess, abs=1e-3)
    if n == 2:
        assert own == pytest.approx([11 / 64, 3 / 64])
    batch, chance, n = every_group(a, rho, route)
    right, mode = batch.reward_B.reshape(-1, n)[:, : rho * len(a)], np.repeat(np.arange(len(a)), rho)
    for m, found in enumerate(forced_gradients(LeaveOneOutModes(cost), (), a, rho, route)):
        rest = np.delete(np.arange(rho * len(a)), rho * m)
        factor = chance @ [cost.factor(row[rest], torch.tensor(mode[rest])) for row in right] if m else 1.0
        assert found == pytest.approx((n - 1) / n * a[m] * (1 - a[m]) * factor, abs=1e-12)


def router_gradient(spec, lengths):
    """Expected ascent of the router's logits over all groups, each a batch, and N; tags, then answers of a mode's length."""
    batch, chance, n = every_group(A, 1, ROUTE)
    columns = 1 + max(lengths)
    mask = torch.arange(columns) < 1 + torch.tensor(lengths)[batch.mode_B][:, None]
    old = torch.full(mask.shape, -1.0, dtype=torch.float64)
    whole = rebuilt(batch, logp_BT=old, logp_old_BT=old, mask_BT=without_tags(mask, batch.forced_B, 1))
    total = np.zeros(3)
    for group, p in enumerate(chance):
        mine = whole.select(slice(group * n, group * n + n))
        weight = float(evaluate(spec, mine).weight_BT[-1, 0])
        total += p * weight * (np.eye(3)[int(mine.mode_B[-1])] - ROUTE)
    return total, n


def test_the_mean_over_tokens_costs_the_router_its_exactness_where_lengths_differ_and_a_sum_keeps_it():
    """No charge: only the number of tokens, which moves with the mode that the router chose, is at work."""
    truth = ROUTE * (A - ROUTE @ A)
    for lengths, shares in (((2, 2, 2), (1 / 12,) * 3), ((1, 1, 1), (0.15,) * 3), ((1, 6, 10), (0.036, 0.051, 0.030))):
        found, n = router_gradient(apo(1.0, leave_one_out=True), lengths)
        assert found / truth == pytest.approx(shares, abs=5e-4 if len(set(lengths)) > 1 else 1e-9)
        if len(set(lengths)) > 1:
            assert found @ truth / np.linalg.norm(found) / np.linalg.norm(truth) == pytest.approx(0.991, abs=5e-4)
        summed = apo(1.0, leave_one_out=True, aggregation=Aggregation("sequence-mean-token-sum"))
        assert router_gradient(summed, lengths)[0] == pytest.approx((n - 1) / n * truth / n, abs=1e-12)


def test_the_charge_of_one_s_own_group_biases_forced_rollouts_and_leaving_one_out_does_not():
    own = forced_gradients(CENTRED, (ModeCost(0.5, gate=False),))
    assert own == pytest.approx([0.2338, 0.1091, 0.0853], abs=5e-5)
    p = A.mean()
    frozen = forced_gradients(CENTRED, (ModeCost(0.5, gate=False, source=float(np.sqrt(p**2 + (A * (1 - A)).sum() / 18))),))
    assert frozen == pytest.approx([0.2057, 0.1017, 0.0775], abs=5e-5)
    assert own / frozen - 1 == pytest.approx([0.137, 0.073, 0.101], abs=2e-3)
    instant = forced_gradients(CENTRED, (ModeCost(0.5, gate=False, source="instant"),))
    assert instant[0] == pytest.approx(0.2611, abs=5e-5)
    still = 1 - (A[0] ** 2 + A[0] * (1 - A[0]) / 2)  # a heavy rollout's outcome does not move the instant rate: no bias
    assert instant[1:] == pytest.approx(6 / 7 * A[1:] * (1 - A[1:]) * still, abs=1e-12)
    one_out = forced_gradients(LeaveOneOutModes(ModeCost(0.5, gate=False)), ())
    batch, chance, n = every_group(A, 2, ROUTE)
    reward = batch.reward_B.reshape(-1, n)[:, :6].numpy()
    for m in range(3):
        rest = np.delete(reward, 2 * m, axis=1).mean(1)
        factor = 1.0 if m == 0 else float(chance @ (1 - rest**2))
        assert one_out[m] == pytest.approx(6 / 7 * A[m] * (1 - A[m]) * factor, abs=1e-12)


def test_a_frozen_rate_is_exact_for_forced_rollouts():
    frozen = forced_gradients(CENTRED, (ModeCost(0.5, gate=False, source=0.6),))
    assert frozen == pytest.approx(6 / 7 * A * (1 - A) * np.r_[1.0, 1 - 0.36, 1 - 0.36], abs=1e-12)


def test_tags_of_forced_rollouts_have_no_gradient_and_unmasked_they_imitate_every_mode():
    mask = torch.tensor([[False, True, True, True], [True, True, False, True], [True, True, True, False]])
    forced = torch.tensor([True, False, True])
    kept = without_tags(mask, forced, 1)
    assert kept.tolist() == [[False, False, True, True], [True, True, False, True], [False, True, True, False]]
    assert torch.equal(without_tags(mask, forced, 0), mask)
    # a collapsed router; one forced, wrong, agentic rollout among right ones: with its tag it is pushed down, masked it is not
    table = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    logp = table.log_softmax(0)
    for masked, moved in ((True, False), (False, True)):
        both = torch.ones(4, 2, dtype=torch.bool)
        batch = TokenBatch(
            logp_BT=torch.stack([logp, torch.full((3,), -0.5, dtype=torch.float64)], 1)[[0, 1, 2, 2]],
            logp_old_BT=torch.stack([logp.detach(), torch.full((3,), -0.5, dtype=torch.float64)], 1)[[0, 1, 2, 2]],
            mask_BT=without_tags(both, torch.ones(4, dtype=torch.bool), 1) if masked else both,
            reward_B=torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64),
            group_B=torch.zeros(4, dtype=torch.int64),
            mode_B=torch.tensor([0, 1, 2, 2]),
            forced_B=torch.ones(4, dtype=torch.bool),
        )
        [slope] = torch.autograd.grad(evaluate(apo(1.0), batch).loss, table, retain_graph=True)
        assert bool(slope.abs().max() > 1e-6) == moved


def test_without_the_mask_forced_rollouts_pull_the_router_to_a_mode_that_it_should_leave():
    """Reasoning is worse than the router's habit and better than the mean over modes, which is what forced rollouts see."""
    route, a = np.array([0.9, 0.05, 0.05]), np.array([0.9, 0.8, 0.2])
    batch, chance, n = every_group(a, 1, route)
    found = advantages(CENTRED, (ModeCost(1.0),), batch, n)
    score = np.eye(3)[batch.mode_B.reshape(-1, n).numpy()] - route
    masked = (chance * found[:, -1]) @ score[:, -1]
    whole = np.einsum("g,gi,gim->m", chance, found, score)
    assert masked == pytest.approx((n - 1) / n * route * (a - route @ a))
    assert masked[0] > 0 > masked[1]
    assert whole[1] > 0 > whole[2]


def test_with_no_charge_and_nothing_forced_it_is_grpo():
    batch = rebuilt(random_batch(3), mode_B=torch.zeros(6, dtype=torch.int64), forced_B=torch.zeros(6, dtype=torch.bool))
    plain = objective("grpo", beta=0.0, aggregation=Aggregation("token-mean"))
    assert torch.equal(evaluate(apo(1.0), batch).weight_BT, evaluate(plain, batch).weight_BT)
    centred = dataclasses.replace(plain, advantage=CENTRED)
    left_out = evaluate(apo(1.0, leave_one_out=True), batch).weight_BT
    assert torch.allclose(left_out, evaluate(centred, batch).weight_BT, rtol=1e-12)
    with pytest.raises(BatchError, match="no forced"):
        evaluate(apo(0.99), batch)


@given(seed=seeds, gate=st.booleans(), alpha=st.sampled_from([0.5, 2.0]))
@few
def test_a_wrong_or_ill_formed_answer_earns_nothing_and_no_reward_leaves_the_unit_interval(seed, gate, alpha):
    batch = random_batch(seed, groups=3, size=4)
    out = outcome(batch, (ModeCost(0.3, alpha, gate=gate),)).reward_B
    assert ((out >= 0) & (out <= 1)).all()
    assert not out[batch.reward_B == 0].any()
    assert not out[batch.mode_B < 0].any()


def test_a_router_s_cost_of_a_pass_lies_between_its_modes_on_one_query_and_beats_both_on_two():
    for share in np.linspace(0, 1, 11):
        mixed = cost_of_pass(share * 1 + (1 - share) * 2.5, share * 0.5 + (1 - share) * 0.9)
        assert 2.0 - 1e-12 <= mixed <= 2.5 / 0.9 + 1e-12
    adaptive = cost_of_pass((1 + 2.5) / 2, 1.0)
    assert (cost_of_pass(1, 0.5), cost_of_pass(2.5, 1.0), adaptive) == (2.0, 2.5, 1.75)
    assert cost_of_pass((1 + 10) / 2, 1.0) == 5.5  # twice the accuracy of instant, whose cost of a pass is 2
    assert cost_of_pass(1.0, 0.0) == float("inf")


def test_forced_rollouts_do_not_repair_a_collapsed_router():
    for mass in (0.1, 1e-3):
        route = np.array([1 - 2 * mass, mass, mass])
        batch, chance, n = every_group(np.array([0.2, 0.9, 0.9]), 1, route)
        found = advantages(CENTRED, (ModeCost(0.5),), batch, n)[:, -1]
        score = np.eye(3)[batch.mode_B.reshape(-1, n)[:, -1].numpy()] - route
        gradient = (chance * found) @ score
        assert 0 < gradient[2] < mass
        forced = advantages(CENTRED, (ModeCost(0.5),), batch, n)[:, 2]
        reward = batch.reward_B.reshape(-1, n)[:, 2].numpy()
        assert chance @ (forced * (reward - 0.9)) > 0.05  # its answers go on improving


@pytest.mark.parametrize("mass", [0.1, 1e-3])
def test_with_nothing_forced_no_word_of_a_collapsed_mode_arrives(mass):
    """Two free rollouts, no charge: the gradient of agentic answers is scaled by the router, which forced rollouts are not."""
    a, route = np.array([0.2, 0.9, 0.9]), np.array([1 - 2 * mass, mass, mass])
    total = 0.0
    for (m, r), (o, s) in itertools.product(itertools.product(range(3), [0, 1]), repeat=2):
        chance = route[m] * route[o] * (a[m] if r else 1 - a[m]) * (a[o] if s else 1 - a[o])
        batch = TokenBatch(
            logp_BT=torch.full((2, 1), -1.0, dtype=torch.float64),
            logp_old_BT=torch.full((2, 1), -1.0, dtype=torch.float64),
            mask_BT=torch.ones(2, 1, dtype=torch.bool),
            reward_B=torch.tensor([r, s], dtype=torch.float64),
            group_B=torch.zeros(2, dtype=torch.int64),
            mode_B=torch.tensor([m, o]),
            forced_B=torch.zeros(2, dtype=torch.bool),
        )
        found = advantages(CENTRED, (ModeCost(1.0),), batch, 2)[0, 0]
        total += chance * found * (r - a[m]) * (m == 2)
    assert total == pytest.approx(mass * 0.9 * 0.1 / 2)
    assert forced_gradients(CENTRED, (ModeCost(1.0),), a, 1, route)[2] == pytest.approx(3 / 4 * 0.9 * 0.1)


@pytest.mark.parametrize("forced", [0, 1])
def test_a_mode_that_nobody_chose_moves_only_where_forced_rollouts_leave_the_free_ones_a_sum(forced):
    """Free rollouts in the first two modes, one right; a forced one, right, in the third, whose tag is masked."""
    logits = torch.tensor([0.0, 0.0, -8.0], dtype=torch.float64, requires_grad=True)
    mode = torch.tensor([0, 1, 0, 2][: 3 + forced])
    imposed = torch.arange(len(mode)) == 3
    logp = torch.stack([logits.log_softmax(0)[mode], torch.full((len(mode),), -1.0, dtype=torch.float64)], 1)
    batch = TokenBatch(
        logp_BT=logp,
        logp_old_BT=logp.detach(),
        mask_BT=without_tags(torch.ones_like(logp, dtype=torch.bool), imposed, 1),
        reward_B=torch.tensor([0.0, 1, 0, 1], dtype=torch.float64)[: len(mode)],
        group_B=torch.zeros(len(mode), dtype=torch.int64),
        mode_B=mode,
        forced_B=imposed,
    )
    [slope] = torch.autograd.grad(-evaluate(apo(1.0), batch).loss, logits)
    advantage = advantages(GroupAdvantage("group-mean", "group-std", 1), (ModeCost(1.0),), batch, len(mode))[0, :3]
    chance = float(logits.detach().softmax(0)[2])
    assert slope[2] == pytest.approx(-chance * advantage.sum() / int(batch.mask_BT.sum()), abs=1e-15)
    assert slope[2] > 1e-6 if forced else abs(slope[2]) < 1e-15


def test_a_rate_a_group_is_each_group_s_own():
    batch = random_batch(5, groups=2, size=4)
    one, two = torch.unique(batch.group_B).tolist()
    both = outcome(batch, (ModeCost(0.0, source={one: 0.3, two: 0.9}, gate=False),)).reward_B
    for group, rate in ((one, 0.3), (two, 0.9)):
        mine = batch.group_B == group
        assert torch.equal(both[mine], outcome(batch, (ModeCost(0.0, source=rate, gate=False),)).reward_B[mine])
    with pytest.raises(BatchError, match=f"no success rate of the group {two}"):
        outcome(batch, (ModeCost(0.0, source={one: 0.3}, gate=False),))


def test_the_hybrid_tasks_need_the_modes_that_they_need():
    """Best accuracies by mode and kind, by a policy that copies, adds or knows, and of one that guesses, in closed form."""
    n, tool, calculator = 3, 0.8, 0.5
    problem = hybrid_tasks(n, 2, tool, calculator)
    mode = answer_modes(problem)
    assert not problem.reward[mode < 0].any()

    def wise(prompt, tokens):
        """The word to say, after these tokens."""
        kind, word = prompt
        seen = tokens[1:][:: 2 if tokens[0] == n + 1 else 1]
        return word if kind == "fact" else sum(seen) % n if seen else 0

    chance = np.zeros((2, problem.n_sequences))
    for row in range(problem.n_sequences):
        prompt, tokens = problem.text(row)
        said = [t for t in range(1, len(tokens)) if problem.mask[row, t]]
        chance[0, row] = problem.environment_probability[row] * all(tokens[t] == wise(prompt, tokens[:t]) for t in said)
        chance[1, row] = problem.environment_probability[row] * all(tokens[t] < n for t in said) / n ** len(said)
    best = {"fact": (1, 1, 1), "chain": (1 / n, 1, calculator), "hidden key": (1 / n, 1 / n, tool)}
    for p, (kind, _) in enumerate(problem.prompts):
        for m in range(3):
            mine = (problem.prompt == p) & (mode == m)
            assert chance[:, mine].sum(1) == pytest.approx([1.0, 1.0])
            assert chance[:, mine] @ problem.reward[mine] == pytest.approx([best[kind][m], 1 / n])
    share = {
        kind: sum(q for (k, _), q in zip(problem.prompts, problem.prompt_probability, strict=True) if k == kind)
        for kind in best
    }
    assert list(share.values()) == pytest.approx([1 / 3] * 3)


def test_groups_without_an_advantage_are_counted_by_cause():
    mode = torch.tensor([0, 1, 2, 0, 0, 0, 0, 1, 2, 0, 1, 2, 0, 1, 2])
    reward = torch.tensor([0.0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1], dtype=torch.float64)
    batch = TokenBatch(
        logp_BT=torch.full((15, 1), -1.0, dtype=torch.float64),
        logp_old_BT=torch.full((15, 1), -1.0, dtype=torch.float64),
        mask_BT=torch.ones(15, 1, dtype=torch.bool),
        reward_B=reward,
        group_B=torch.arange(5).repeat_interleave(3),
        mode_B=mode,
        forced_B=torch.ones(15, dtype=torch.bool),
    )
    counted = {"nothing right": 1, "cheapest mode": 1, "not charged": 0, "charged alike": 0}
    assert silent_groups(ModeCost(0.5), batch) == counted
    assert silent_groups(ModeCost(1.0), batch) == counted | {"not charged": 1}
    assert silent_groups(ModeCost(0.5, source=1.0, gate=False), rebuilt(batch, reward_B=(mode > 0).double())) == {
        "nothing right": 1,
        "cheapest mode": 0,
        "not charged": 0,
        "charged alike": 4,
    }
    for cost in (ModeCost(0.5), ModeCost(1.0)):
        quiet = ~advantages(CENTRED, (cost,), batch, 3).any(1)
        assert sum(silent_groups(cost, batch).values()) == quiet.sum()


@pytest.mark.parametrize(
    ("wrong", "error", "word"),
    [
        (lambda: ModeCost(0.5, alpha=0.0), SpecError, "alpha=0"),
        (lambda: ModeCost(-0.1), SpecError, "tau=-0.1"),
        (lambda: ModeCost(0.5, source=1.5), SpecError, "source=1.5"),
        (lambda: ModeCost(0.5, source="teacher"), SpecError, "source='teacher'"),
        (lambda: adaptive_factor(1.1, 2.0), SpecError, "p=1.1"),
        (lambda: hybrid_tasks(words=1), ModelError, "words=1"),
        (lambda: hybrid_tasks(tool=0.2), ModelError, "tool=0.2"),
        (lambda: answer_modes(tiny_enum()), ModelError, "three tags"),
        (lambda: ModeCost("half"), SpecError, "tau=half"),
        (lambda: ModeCost(0.5, source=[0.5]), SpecError, "source="),
        (lambda: ModeCost(0.5, source={0: 1.5}), SpecError, "source="),
        (lambda: ModeCost(0.5, threshold=float("nan")), SpecError, "threshold=nan"),
        (lambda: ModeCost(0.5).mean_factor([0.5, 0.5], 0), SpecError, "rho=0"),
        (lambda: ModeCost(0.5, source={0: 0.5}).mean_factor([0.5, 0.5], 1), SpecError, "one rate"),
        (lambda: best_mode([], 2.0), SpecError, "accuracy="),
        (lambda: best_mode([1.4, 0.5], 2.0), SpecError, "accuracy="),
        (lambda: best_mode([float("nan"), 0.5], 2.0), SpecError, "accuracy="),
        (lambda: best_mode([0.5, 0.5], 2.0, source=None), SpecError, "source=None"),
        (lambda: best_mode([0.5, 0.5], 2.0, source={0: 0.5}), SpecError, "a rate a group"),
        (lambda: cost_of_pass(-1, 0.5), SpecError, "cost=-1"),
        (lambda: cost_of_pass(1, 1.5), SpecError, "success=1.5"),
        (lambda: cost_of_pass(1, float("nan")), SpecError, "success=nan"),
        (lambda: unbiased_square(np.array([5, 1, 1]), 3), SpecError, "among 3 rollouts"),
        (lambda: unbiased_square(np.ones(0), 3), SpecError, "among 3 rollouts"),
        (lambda: without_tags(torch.ones(1, 2, dtype=torch.bool), torch.ones(1, dtype=torch.bool), -1), SpecError, "tags=-1"),
        (lambda: unbiased_square(np.ones(3), 1), SpecError, "rollouts=1"),
        (lambda: plan(apo(0.5), rebuilt(random_batch(1), mode_B=torch.ones(6, dtype=torch.int64))), BatchError, "nobody knows"),
        (
            lambda: plan(
                apo(0.5, source="instant", gate=False, leave_one_out=True),
                rebuilt(random_batch(1), mode_B=torch.ones(6, dtype=torch.int64)),
            ),
            BatchError,
            "nobody knows",
        ),
        (lambda: plan(apo(0.5), rebuilt(random_batch(1), forced_B=torch.zeros(6, dtype=torch.bool))), BatchError, "no forced"),
        (
            lambda: plan(apo(0.5, leave_one_out=True), rebuilt(random_batch(1), forced_B=torch.zeros(6, dtype=torch.bool))),
            BatchError,
            "no forced",
        ),
        (lambda: plan(apo(0.5), rebuilt(random_batch(1), mode_B=None)), BatchError, "mode_B"),
    ],
)
def test_settings_and_batches_that_are_none_are_refused(wrong, error, word):
    with pytest.raises(error, match=word):
        wrong()


def test_the_left_out_objective_charges_no_reward_twice():
    spec = apo(0.5, leave_one_out=True)
    assert spec.rewards == ()
    assert dataclasses.replace(spec).advantage == LeaveOneOutModes(ModeCost(0.5))

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
    unbiased_square,
    without_tags,
)
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.systems.apo import apo
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
        optimiser = torch.optim.Adam([z], lr=0.1)
        for _ in range(400):
            optimiser.zero_grad()
            (-(z.softmax(0) @ worth)).backward()
            optimiser.step()
        route = z.detach().softmax(0)
        chosen = best_mode(a, 2.0)
        ties = [m for m in range(3) if worth[m] == worth[chosen]]
        assert route[ties].sum() > 0.95


@pytest.mark.parametrize("source", ["all-forced", "instant", 0.5])
@pytest.mark.parametrize("accuracy", [(0.3, 0.9, 0.5), (0.7, 0.9, 0.2), (0.2, 0.25, 0.3), (0.5, 0.6, 0.95)])
def test_a_router_that_ascends_the_library_s_exact_gradient_ends_at_the_rule(accuracy, source):
    """All groups enumerated; at alpha 1 a rate is unbiased, so that a group of any size has the rule of a large one."""
    a, z = np.array(accuracy), np.zeros(3)
    for _ in range(150):
        route = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        batch, chance, n = every_group(a, 1, route)
        found = advantages(CENTRED, (ModeCost(0.5, 1.0, source, gate=False),), batch, n)[:, -1]
        gradient = (chance * found) @ (np.eye(3)[batch.mode_B.reshape(-1, n)[:, -1].numpy()] - route)
        z += gradient / max(np.abs(gradient).max(), 1e-12) * 0.1
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
    """E of `ModeCost.factor` over all outcomes of rho forced rollouts in each of three modes."""
    mode, total = torch.arange(3).repeat_interleave(rho), 0.0
    for outcomes in itertools.product([0, 1], repeat=3 * rho):
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


def test_how_much_at_one_half():
    for source, expected in (("all-forced", 0.0278), ("instant", 0.0833)):
        found = 1 - expected_factor([0.5] * 3, 3, ModeCost(0.5, source=source, gate=False))
        assert found - 0.25 == pytest.approx(expected, abs=5e-5)


def every_group(a, rho, route):
    """One batch of all groups: forced outcomes, one adaptive rollout's mode and outcome; with their probabilities."""
    forced = np.repeat(np.arange(3), rho)
    rows, chances = [], []
    for outcomes in itertools.product([0, 1], repeat=3 * rho):
        p = np.prod([a[m] if r else 1 - a[m] for m, r in zip(forced, outcomes, strict=True)])
        for mode, r in itertools.product(range(3), [0, 1]):
            rows.append(([*forced, mode], [*outcomes, r]))
            chances.append(p * route[mode] * (a[mode] if r else 1 - a[mode]))
    n = 3 * rho + 1
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
        forced_B=(torch.arange(n) < n - 1).repeat(len(rows)),
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


def forced_gradients(part, rewards):
    """E[A (R - a)] of the first forced rollout in each mode, the logit gradient of its answer policy."""
    batch, chance, n = every_group(A, 2, ROUTE)
    found, reward = advantages(part, rewards, batch, n), batch.reward_B.reshape(-1, n).numpy()
    return np.array([chance @ (found[:, 2 * m] * (reward[:, 2 * m] - A[m])) for m in range(3)])


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


@pytest.mark.parametrize(
    ("wrong", "error", "word"),
    [
        (lambda: ModeCost(0.5, alpha=0.0), SpecError, "alpha=0"),
        (lambda: ModeCost(-0.1), SpecError, "tau=-0.1"),
        (lambda: ModeCost(0.5, source=1.5), SpecError, "source=1.5"),
        (lambda: ModeCost(0.5, source="teacher"), SpecError, "source='teacher'"),
        (lambda: adaptive_factor(1.1, 2.0), SpecError, "p=1.1"),
        (lambda: unbiased_square(np.ones(3), 1), SpecError, "rollouts=1"),
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

"""Direct Advantage Policy Optimization: lemma, closed form, trees, coverage, wrong critics, and steps of several tokens."""

import itertools
import re

import numpy as np
import pytest
import torch
from banach.llm.aggregation import Aggregation
from banach.llm.batch import TokenBatch
from banach.llm.catalogue import objective
from banach.llm.critic import completion_loss
from banach.llm.errors import BatchError, SpecError
from banach.llm.log_ratio import GapFilter, LogRatioRegression, Tempered
from banach.llm.objective import evaluate
from banach.llm.plan import plan
from banach.llm.ratio import Ratio
from banach.llm.systems.dapo_direct import (
    DAPO_DIRECT,
    _direct,
    _outcome,
    _pairs,
    dapo_direct,
    improve,
    prefer_pairs,
    step_batch,
    step_numbers,
    unique_steps,
    verdicts,
)
from banach.llm.testbeds.policies import TablePolicy
from banach.llm.testbeds.training import Recipe, train
from banach.mdp import token_policy
from banach.mdp.errors import ModelError
from banach.mdp.instances_testbeds import step_tree
from banach.solvers.direct_advantage import direct_advantage_step, exploratory_optimum
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from .objective_batches import random_batch, rebuilt

RNG = np.random.default_rng(0)
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


def drawn(seed, n=4):
    rng = np.random.default_rng(seed)
    q, nu, A = rng.dirichlet(np.full(n, 2.0)), rng.dirichlet(np.full(n, 2.0)), rng.normal(size=n)
    return q, nu, A - q @ A, rng


def improvement(pi, q, A, beta):
    return float(pi @ (A - beta * np.log(pi / q)))


def softmax(z):
    w = np.exp(z - z.max())
    return w / w.sum()


@given(seed=seeds, beta=st.sampled_from([0.2, 1.0]))
@few
def test_where_steps_are_drawn_from_the_policy_the_loss_descends_the_improvement(seed, beta):
    """The lemma: grad I = -b grad H with actions drawn from pi_k, at pi_k; H by the library's surrogate."""
    q, _, A, rng = drawn(seed)
    z = rng.normal(size=4)
    drawn_from, leaf = torch.tensor(softmax(z)), torch.tensor(z, requires_grad=True)
    R = leaf.log_softmax(-1).exp() / torch.tensor(q)
    H = -(drawn_from * LogRatioRegression().value(R, R.log(), torch.tensor(A / beta))).sum()
    slope = torch.autograd.grad(H, leaf)[0].numpy()
    numeric = [
        (improvement(softmax(z + d), q, A, beta) - improvement(softmax(z - d), q, A, beta)) / 2e-6 for d in 1e-6 * np.eye(4)
    ]
    assert numeric == pytest.approx(-beta * slope, abs=1e-6)


@given(seed=seeds, beta=st.sampled_from([0.05, 0.3, 2.0]))
@few
def test_the_closed_form_is_the_minimiser_and_says_the_improvement(seed, beta):
    q, nu, A, _rng = drawn(seed)
    pi, multiplier = exploratory_optimum(q, A, beta, nu)

    def loss(z):
        return 0.5 * nu @ (A / beta - np.log(softmax(z) / q)) ** 2

    assert pi.sum() == pytest.approx(1.0)
    assert multiplier >= 0
    found = minimize(loss, np.log(q), method="BFGS", options={"gtol": 1e-10})
    assert loss(np.log(pi)) <= found.fun + 1e-9
    assert softmax(found.x) == pytest.approx(pi, abs=1e-4)
    I = improvement(pi, q, A, beta)  # noqa: E741 - the paper's letter
    assert pytest.approx(beta * multiplier * (pi**2 / nu).sum(), abs=1e-9) == I
    assert I >= -1e-12
    best = q * np.exp(A / beta)
    assert improvement(best / best.sum(), q, A, beta) == pytest.approx(beta * np.log(best.sum()))
    assert improvement(best / best.sum(), q, A, beta) >= I - 1e-12


@given(seed=seeds, beta=st.sampled_from([0.2, 1.0]))
@few
def test_exploring_with_the_reference_makes_the_multiplier_a_divergence(seed, beta):
    q, _, A, _ = drawn(seed)
    pi, multiplier = exploratory_optimum(q, A, beta, q)
    divergence = q @ np.log(q / pi)
    assert multiplier == pytest.approx(divergence, abs=1e-9)
    chi = (pi**2 / q).sum() - 1
    assert improvement(pi, q, A, beta) == pytest.approx(beta * divergence * (1 + chi), abs=1e-9)


def test_at_high_temperature_both_optima_are_advantages_over_the_temperature():
    q, nu, A, _ = drawn(3)
    for beta in (50.0, 500.0):
        best = q * np.exp(A / beta)
        for pi in (exploratory_optimum(q, A, beta, nu)[0], best / best.sum()):
            assert np.abs(np.log(pi / q) - A / beta).max() < 5 / beta**2


def regularised_value(problem, pi, q, beta, node_values=None):
    """V_beta at every node by enumeration of what follows: rewards less beta times the log-ratios of the steps taken."""
    steps = {}
    log_pi, log_q = np.log(pi), np.log(q)
    for s in range(problem.n_sequences):
        nodes, tokens = problem.node[s], problem.token[s]
        for start in range(problem.horizon):
            tail = range(start, problem.horizon)
            chance = np.exp(sum(log_pi[nodes[t], tokens[t]] for t in tail))
            paid = problem.reward[s] - beta * sum(log_pi[nodes[t], tokens[t]] - log_q[nodes[t], tokens[t]] for t in tail)
            steps[nodes[start]] = steps.get(nodes[start], 0.0) + chance * paid
    return np.array([steps[n] for n in range(problem.n_nodes)])


@pytest.mark.parametrize("exploration", ["reference", "uniform"])
@given(seed=st.integers(0, 30))
@settings(max_examples=5, deadline=None)
def test_on_a_tree_every_state_improves_regularised_or_not(exploration, seed):
    problem, beta = step_tree(3, 3, seed), 0.3
    logits = np.random.default_rng(seed).normal(size=(problem.n_nodes, 3))
    q = np.exp(token_policy.log_policy(problem, logits))
    after = direct_advantage_step(problem, logits, beta, exploration)
    pi = np.exp(token_policy.log_policy(problem, after))
    plain = regularised_value(problem, q, q, beta)
    assert plain == pytest.approx(token_policy.value(problem, logits))
    assert (regularised_value(problem, pi, q, beta) >= plain - 1e-9).all()
    assert (token_policy.value(problem, after) >= plain - 1e-9).all()


def test_twelve_rounds_find_the_right_leaf():
    problem = step_tree(3, 3, 1)
    logits = np.zeros((problem.n_nodes, 3))
    curve = [token_policy.expected_reward(problem, logits)]
    for _ in range(12):
        logits = direct_advantage_step(problem, logits, 0.1)
        curve.append(token_policy.expected_reward(problem, logits))
    assert (np.diff(curve) >= -1e-9).all()
    assert curve[0] < 0.5
    assert curve[-1] > 0.999


def test_actions_of_equal_value_and_an_optimal_reference_stay_as_they_are():
    q, nu, _, _ = drawn(1)
    pi, multiplier = exploratory_optimum(q, np.zeros(4), 0.1, nu)
    assert pi == pytest.approx(q)
    assert multiplier == 0
    problem = step_tree(2, 2, 0).replace(step_reward=np.zeros((4, 2)))
    logits = np.random.default_rng(0).normal(size=(3, 2))
    after = direct_advantage_step(problem, logits, 0.1)
    assert np.exp(token_policy.log_policy(problem, after)) == pytest.approx(np.exp(token_policy.log_policy(problem, logits)))


def test_what_is_not_explored_may_swallow_the_improvement():
    q, Q, beta = np.array([0.3, 0.3, 0.3, 0.1]), np.array([0.0, 0.0, -0.5, 2.0]), 0.5
    A = Q - q @ Q
    covered = q * np.exp(A / beta)
    leftover = 1 - covered[:2].sum()
    assert leftover == pytest.approx(0.457, abs=1e-3)
    nu = np.array([0.5, 0.5, 0.0, 0.0])
    gains = []
    for share in (1 - 1e-12, 0.5, 1e-12):  # of the leftover on the third action
        pi = np.array([*covered[:2], share * leftover, (1 - share) * leftover])
        assert nu @ (A / beta - np.log(pi / q)) ** 2 == pytest.approx(0, abs=1e-24)  # each of them is a minimiser
        gains.append(improvement(pi, q, A, beta))
    assert gains[0] == pytest.approx(-0.348, abs=1e-3)
    assert gains[-1] > 0


@pytest.mark.parametrize("steps", [2, 3])
@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_the_mean_of_m_steps_shrinks_advantages_and_deduplication_biases_them(steps, seed):
    q, _, A, _ = drawn(seed, 3)
    spec = dapo_direct(beta=1.0, gap=0.0)
    mean, weight, unique = np.zeros(3), np.zeros(3), np.zeros(3)
    for group in itertools.product(range(3), repeat=steps):
        chance = np.prod(q[list(group)])
        found = _advantages(spec, A[list(group)])
        assert found.sum() == pytest.approx(0, abs=1e-12)
        alone = _advantages(spec, A[list(group)], group)
        for a, x in zip(group, found, strict=True):
            mean[a] += chance * x
            weight[a] += chance
            unique[a] += chance * alone.get(a, 0.0)
    assert mean / weight == pytest.approx((steps - 1) / steps * A, abs=1e-12)
    bias = np.abs(unique / weight - (steps - 1) / steps * A).max()
    assert (bias > 1e-5) == (steps > 2)  # of two steps that are one, both estimators make nothing


def _advantages(spec, values, steps=None):
    """Of one state's steps of one token, (M,); of the distinct ones, by name, where the steps are given."""
    batch = random_batch(groups=1, size=len(values), horizon=1, edges=False)
    batch = rebuilt(batch, reward_B=torch.tensor(values))
    if steps is None:
        return plan(spec, batch).advantage_BT[:, 0].numpy()
    batch = rebuilt(batch, token_BT=torch.tensor(steps)[:, None].expand_as(batch.mask_BT))
    batch = batch.select(unique_steps(batch))
    return dict(zip(batch.token_BT[:, 0].tolist(), plan(spec, batch).advantage_BT[:, 0].tolist(), strict=True))


@given(text=st.text("ab\n", min_size=1, max_size=9), hidden=st.sets(st.integers(0, 8)))
@settings(max_examples=200, deadline=None)
def test_steps_end_at_their_newlines_and_none_is_empty(text, hidden):
    """Against a regular expression on what the policy wrote; other tokens, newlines too, stand between and are not read."""
    mask = torch.tensor([[t not in hidden for t in range(len(text))]])
    written = "".join(c for t, c in enumerate(text) if t not in hidden)
    expected = [k for k, step in enumerate(re.findall(r"^\n+$|(?:^\n*)?[ab]+\n*", written)) for _ in step]
    tokens = torch.tensor([["ab\n".index(c) for c in text]])
    found = step_numbers(tokens, mask, 2)
    assert found[mask].tolist() == expected
    assert (found[~mask] == 0).all()


@given(seed=seeds)
@few
def test_of_equal_steps_of_a_state_the_first_is_kept_and_states_with_one_step_are_left_out(seed):
    batch = random_batch(seed, groups=3, size=4, horizon=2)
    rows = [(g, tuple(x[m].tolist())) for g, x, m in zip(batch.group_B.tolist(), batch.token_BT, batch.mask_BT, strict=True)]
    expected = [
        row not in rows[:k] and len({step for group, step in rows if group == row[0]}) > 1 for k, row in enumerate(rows)
    ]
    assert unique_steps(batch).tolist() == expected
    alike = rebuilt(batch, token_BT=torch.zeros_like(batch.token_BT), mask_BT=torch.ones_like(batch.mask_BT))
    assert not unique_steps(alike).any()


def test_steps_without_tokens_or_of_two_shapes_are_refused():
    with pytest.raises(BatchError, match="reads token_BT"):
        unique_steps(rebuilt(random_batch(1), token_BT=None))
    with pytest.raises(BatchError, match=r"token_BT is of shape \(2, 3\), mask_BT of \(2, 4\)"):
        step_numbers(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 4, dtype=torch.bool), 0)


@given(seed=seeds, factor=st.sampled_from([0.2, 1.0, 1.8, -0.5]))
@few
def test_a_critic_that_keeps_the_order_of_two_actions_improves_and_one_that_reverses_it_does_not(seed, factor):
    q, nu, A, _ = drawn(seed, 2)
    pi, _ = exploratory_optimum(q, factor * A, 0.5, nu)
    assert np.sign(pi @ A) in (np.sign(factor), 0)
    if 0 < factor <= 1:
        assert improvement(pi, q, A, 0.5) >= -1e-12


def test_an_exaggerated_gap_can_cost_more_divergence_than_it_gains():
    q, A = np.array([0.5, 0.5]), np.array([0.2, -0.2])
    assert improvement(exploratory_optimum(q, A, 0.5, q)[0], q, A, 0.5) > 0
    assert improvement(exploratory_optimum(q, 8 * A, 0.5, q)[0], q, A, 0.5) < 0


def test_a_gap_half_as_large_again_is_enough_where_exploration_differs_from_the_reference():
    q, nu, A, b = np.array([0.04, 0.96]), np.array([0.93, 0.07]), np.array([0.96, -0.04]), 0.5
    found = {}
    for factor in (0.5, 1.0, 1.2, 1.5, 1.8, 3.0):
        pi, _ = exploratory_optimum(q, factor * A, b, nu)
        found[factor] = improvement(pi, q, A, b)
        believed = improvement(pi, q, factor * A, b)
        assert found[factor] == pytest.approx(believed + (1 - factor) * (A[0] - A[1]) * (pi[0] - q[0]))
        assert pi @ A > 0
    assert found == pytest.approx({0.5: 0.0454, 1.0: 0.0721, 1.2: 0.0429, 1.5: -0.1079, 1.8: -0.2887, 3.0: -0.4894}, abs=1e-4)


@given(seed=seeds, n=st.integers(2, 6), beta=st.sampled_from([0.02, 0.3]))
@few
def test_a_critic_that_keeps_the_order_does_no_harm_where_exploration_is_the_reference(seed, n, beta):
    """u + l e^u = A'/b makes pi+/q increase with the believed A', so that pi+/q and A are alike in order."""
    q, _, A, rng = drawn(seed, n)
    believed = np.empty(n)
    believed[A.argsort()] = np.sort(rng.normal(size=n)) * rng.choice([0.01, 1.0, 10.0])
    pi, multiplier = exploratory_optimum(q, believed - q @ believed, beta, q)
    assert (np.diff((pi / q)[A.argsort()]) >= -1e-12).all()
    assert pi @ A >= -1e-12
    covariance = q @ ((believed - q @ believed) * A)
    least = (pi / q).min()
    assert pi @ A >= least * covariance / (beta * (1 + multiplier * least)) - 1e-9


def test_with_three_actions_a_critic_that_keeps_the_order_can_lower_the_reward_under_uniform_exploration():
    q, believed, true = np.array([0.2, 0.1, 0.7]), np.array([0.0, 0.72, 0.73]), np.array([0.0, 0.01, 1.0])
    uniform = np.full(3, 1 / 3)
    pi, _ = exploratory_optimum(q, believed - q @ believed, 0.02, uniform)
    assert pi == pytest.approx([0, 0.418, 0.582], abs=1e-3)
    assert pi @ true - q @ true == pytest.approx(-0.115, abs=1e-3)
    assert exploratory_optimum(q, true - q @ true, 0.02, uniform)[0] @ true > q @ true
    assert exploratory_optimum(q, believed - q @ believed, 0.02, q)[0] @ true > q @ true


@given(seed=seeds, share=st.floats(0.0, 1.4), beta=st.sampled_from([0.02, 0.5]))
@few
def test_an_error_below_half_the_gap_keeps_the_order_of_two_actions_and_a_larger_one_may_reverse_it(seed, share, beta):
    q, nu, A, rng = drawn(seed, 2)
    better = A.argmax()
    error = share * np.ptp(A) / 2 * np.where(np.arange(2) == better, -1, 1)  # the worst of its size
    for wrong in (error, error * rng.uniform(-1, 1, 2)):
        believed = A + wrong
        pi, _ = exploratory_optimum(q, believed - q @ believed, beta, nu)
        if share < 0.99:
            assert pi @ A > -1e-12
        elif wrong is error and share > 1.01:
            assert pi @ A < 1e-12


def test_the_regularised_improvement_of_an_exaggerated_gap_fails_seldom_below_two_and_often_above():
    rng, failed = np.random.default_rng(0), []
    for low, high in ((0, 1), (1, 1.5), (1.5, 2), (2, 4), (4, 8)):
        bad = 0
        for _ in range(200):
            q, nu, A = rng.dirichlet([2, 2]), rng.dirichlet([2, 2]), rng.normal(size=2)
            A = A - q @ A
            bad += improvement(exploratory_optimum(q, rng.uniform(low, high) * A, 0.5, nu)[0], q, A, 0.5) < -1e-12
        failed.append(bad / 200)
    assert failed[0] == 0
    assert failed[1] < 0.03
    assert failed[2] < 0.1
    assert 0.12 < failed[3] < 0.4
    assert 0.25 < failed[4] < 0.55


@given(seed=seeds)
@few
def test_the_tilted_policy_is_found_where_it_explores_itself_and_beats_every_other_exploration(seed):
    q, nu, A, _ = drawn(seed)
    b = 0.5
    tilted = q * np.exp(A / b)
    best = b * np.log(tilted.sum())
    pi, multiplier = exploratory_optimum(q, A, b, tilted / tilted.sum())
    assert pi == pytest.approx(tilted / tilted.sum(), abs=1e-9)
    assert multiplier == pytest.approx(best / b, abs=1e-8)
    other, _ = exploratory_optimum(q, A, b, nu)
    assert 0 < improvement(other, q, A, b) < best - 1e-9
    assert abs(other - q).max() > 1e-6


@given(seed=seeds)
@few
def test_the_regularised_gain_is_the_sum_of_local_improvements_over_the_nodes_visited(seed):
    problem, rng, b = step_tree(3, 3, seed=seed % 1000), np.random.default_rng(seed), 0.3
    reference, new = (0.7 * rng.normal(size=(problem.n_nodes, 3)) for _ in range(2))
    q, pi = (np.exp(x - x.max(-1, keepdims=True)) for x in (reference, new))
    q, pi = q / q.sum(-1, keepdims=True), pi / pi.sum(-1, keepdims=True)
    local = (pi * (token_policy.advantage(problem, reference) - b * np.log(pi / q))).sum(-1)
    visits = token_policy.occupancy(problem, new)
    price = (visits * (pi * np.log(pi / q)).sum(-1)).sum()
    gain = token_policy.expected_reward(problem, new) - token_policy.expected_reward(problem, reference)
    assert gain - b * price == pytest.approx((visits * local).sum(), abs=1e-10)


def test_a_critic_of_completions_ends_at_their_mean_and_still_learns_where_it_is_sure_and_wrong():
    right, n = torch.tensor([0.0, 1.0, 3.0, 16.0]), torch.tensor([4, 4, 4, 16])
    logit = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for _ in range(300):
        slope = torch.autograd.grad(completion_loss(logit, right, n).sum(), logit)[0]
        logit = (logit - 4 * slope).detach().requires_grad_()
    assert logit.detach().sigmoid().tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0], abs=2e-3)
    sure = torch.tensor([-8.0], requires_grad=True)
    of_square = torch.autograd.grad((0.5 * (sure.sigmoid() - 1) ** 2).sum(), sure)[0]
    of_entropy = torch.autograd.grad(completion_loss(sure, torch.tensor([4.0]), 4).sum(), sure)[0]
    assert abs(of_square) < 1e-3
    assert abs(of_entropy) > 0.99


@given(z=st.floats(-8, 8), right=st.integers(0, 7))
@few
def test_the_slope_of_a_critic_of_completions_is_its_error(z, right):
    logit = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    loss = completion_loss(logit, torch.tensor([right]), 7)
    s = 1 / (1 + np.exp(-z))
    assert loss.item() == pytest.approx(-(right * np.log(s) + (7 - right) * np.log1p(-s)) / 7)
    assert torch.autograd.grad(loss.sum(), logit)[0].item() == pytest.approx(s - right / 7, abs=1e-12)


def test_only_the_sum_of_a_step_s_tokens_is_its_log_probability():
    """A step of two tokens whose log-ratio is its target: nothing pulls on the sum, the mean wants it to be twice as large."""
    batch = random_batch(groups=1, size=2, horizon=2, edges=False)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    old = torch.full((2, 3), -2.0, dtype=torch.float64)
    target = 0.5  # both steps, advantages +-0.5
    moved = old + torch.tensor([[0.3, 0.2, 0.0], [-0.5, 0.0, 0.0]], dtype=torch.float64)
    batch = rebuilt(batch, mask_BT=mask, logp_old_BT=old, logp_BT=moved, reward_B=torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert evaluate(dapo_direct(beta=1.0), batch).weight_BT.abs().max() < 1e-12
    mean = evaluate(objective("dapo_direct", beta=1.0, ratio=Ratio("sequence-geometric")), batch).weight_BT
    assert mean[0, :2].tolist() == pytest.approx([(target - target / 2) / 2] * 2)
    assert abs(mean[1, 0]) < 1e-12


def fitted_steps(spec, values):
    """The loss minimised over logits of tokens: probabilities of five steps, (5,), one of one token, four of three, each of
    probability 1/5 at first."""
    start = [torch.tensor([0.2, 0.8]).double().log(), *(torch.zeros(2).double() for _ in range(3))]
    tokens = [x.clone().requires_grad_() for x in start]

    def logp():
        first, second, *third = (x.log_softmax(-1) for x in tokens)
        none = torch.zeros((), dtype=torch.float64)
        rows = [[first[0], none, none], *([first[1], second[i], third[i][j]] for i in range(2) for j in range(2))]
        return torch.stack([torch.stack(row) for row in rows])

    old = logp().detach()
    mask = torch.tensor([[True, False, False], *[[True] * 3] * 4])
    batch = TokenBatch(logp(), old, mask, torch.tensor(values, dtype=torch.float64), torch.zeros(5, dtype=torch.int64))
    planned = plan(spec, batch)
    descent = torch.optim.LBFGS(tokens, max_iter=25, tolerance_grad=1e-8, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss():
        descent.zero_grad()
        found = planned.evaluate(logp()).loss
        found.backward()
        return found

    descent.step(loss)
    return logp().detach().sum(1).exp().numpy()


def test_a_mean_over_a_step_s_tokens_lowers_the_value_where_the_sum_raises_it():
    """Exact advantages: the mean makes three times the advantage of a step of three tokens, explored a ninth as much."""
    values, q, b = [0.2, 0.25, 0.1, 0.65, 0.0], np.full(5, 0.2), 1.0
    A = np.array(values) - q @ values
    of_sum = fitted_steps(dapo_direct(beta=b, gap=0.0), values)
    assert of_sum == pytest.approx(exploratory_optimum(q, A, b, q)[0], abs=1e-6)
    mean = Aggregation("sequence-mean-token-mean")
    of_mean = fitted_steps(
        objective("dapo_direct", beta=b, gap=0.0, ratio=Ratio("sequence-geometric"), aggregation=mean), values
    )
    length = np.array([1.0, 3, 3, 3, 3])
    assert of_mean == pytest.approx(exploratory_optimum(q, length * A, b, length**-2 / (length**-2).sum())[0], abs=1e-6)
    assert improvement(of_sum, q, A, b) > 0.02
    assert improvement(of_mean, q, A, b) < -0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("nats", [-200.0, -81.0, -79.0, 0.0, 79.0, 81.0, 200.0])
def test_a_step_that_has_gone_far_is_pulled_back(nats, dtype):
    moved = torch.tensor([[-1 + min(nats, 0.0)], [-1.0]], dtype=dtype, requires_grad=True)
    old = torch.tensor([[-1 - max(nats, 0.0)], [-1.0]], dtype=dtype)
    batch = TokenBatch(moved, old, torch.ones(2, 1, dtype=torch.bool), torch.tensor([1.0, 0.0]), torch.tensor([0, 0]))
    found = evaluate(dapo_direct(beta=1.0), batch)
    expected = (0.5 - np.clip(nats, -80, 80)) / 2
    assert found.weight_BT[0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert -torch.autograd.grad(found.loss, moved)[0][0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_groups_whose_values_hardly_differ_are_left_out_and_terminal_steps_are_worth_their_reward():
    problem = step_tree(3, 2, 0)
    values = np.tile([[0.5, 0.45, 0.55], [0.0, 0.05, 0.3], [0.0, 0.1, 0.05], [1.0, 1.0, 1.0]], (1, 1))
    uniform = torch.full((4, 3), -np.log(3.0), dtype=torch.float64)
    planned = plan(dapo_direct(), step_batch(problem, np.arange(4), values, uniform, uniform))
    assert planned.mask_BT.reshape(4, 3).all(1).tolist() == [True, True, True, False]
    logits, cost = improve(problem, np.zeros((4, 3)), 4, 6, 0.1, 0.1, np.random.default_rng(0))
    assert cost >= 12
    last = np.flatnonzero(problem.node[:, 1] >= 0)
    for s in last:  # leaves are known exactly, so no wrong one is ever preferred to a right one at its node
        node = problem.node[s, 1]
        mates = [r for r in last if problem.node[r, 1] == node]
        if problem.reward[s] == 1 and any(logits[node]):
            assert all(logits[node, problem.token[s, 1]] >= logits[node, problem.token[r, 1]] - 1e-6 for r in mates)


def test_a_round_s_tokens_by_hand():
    """Depth 3, two tokens, one rollout: 3 tokens of it, 6 next steps at 3 states, and 2 completions of 2 tokens after each step
    at the root, of 1 at the next state, of none where steps end the answer."""
    _, cost = improve(step_tree(2, 3, 0), np.zeros((7, 2)), 2, 1, 0.1, 0.1, np.random.default_rng(0))
    assert cost == 3 + 6 + 2 * (2 * 2 + 2 * 1 + 2 * 0)


def test_verdicts_of_a_step_that_ends_are_read_once_and_wrong_ones_mislead():
    assert verdicts(np.array([0.0, 1.0]), 0.0, None).tolist() == [0, 1]
    read = verdicts(np.tile([0.0, 1.0], 5000), 0.2, np.random.default_rng(0))
    assert read[::2].mean() == pytest.approx(0.2, abs=0.02)
    assert read[1::2].mean() == pytest.approx(0.8, abs=0.02)
    problem = step_tree(3, 1, 0)
    ends = []
    for flip in (0.0, 0.4):
        for seed in range(5):
            logits, cost = improve(problem, np.zeros((1, 3)), 50, 1, 0.1, 0.1, np.random.default_rng(seed), flip)
            assert cost == 1 + 3
            ends.append(token_policy.expected_reward(problem, logits))
    assert min(ends[:5]) > 0.99
    assert min(ends[5:]) < 0.6


@pytest.mark.parametrize(
    ("wrong", "error", "word"),
    [
        (
            lambda: exploratory_optimum(np.ones(2) / 2, np.array([np.nan, 0]), 1.0, np.ones(2) / 2),
            ModelError,
            r"advantages \[nan, 0\.0\] are not all finite",
        ),
        (lambda: direct_advantage_step(step_tree(2, 1), np.zeros((1, 2)), 1.0, "bogus"), ModelError, "exploration='bogus'"),
        (lambda: improve(step_tree(2, 1), np.zeros((1, 2)), 0, 1, 0.1, 0.1, RNG), SpecError, "completions=0"),
        (lambda: improve(step_tree(2, 1), np.zeros((1, 2)), -1, 1, 0.1, 0.1, RNG), SpecError, "completions=-1"),
        (lambda: improve(step_tree(2, 1), np.zeros((1, 2)), 1, 0, 0.1, 0.1, RNG), SpecError, "rollouts=0"),
        (lambda: improve(step_tree(2, 1), np.zeros((1, 2)), 1, 1, 0.1, 0.1, RNG, 0.5), SpecError, r"flip=0\.5"),
        (lambda: completion_loss(torch.zeros(2), torch.zeros(3), 4), BatchError, r"shape \(2,\), right_S of \(3,\)"),
        (lambda: completion_loss(torch.zeros(2), torch.tensor([1, 5]), 4), BatchError, "prefix 1 has 5 right of 4"),
        (lambda: exploratory_optimum(np.ones(2) / 2, np.zeros(2), 0.0, np.ones(2) / 2), ModelError, "temperature is 0"),
        (
            lambda: exploratory_optimum(np.array([1.0, 0.0]), np.zeros(2), 1.0, np.ones(2) / 2),
            ModelError,
            r"reference\[1\] is 0",
        ),
        (
            lambda: exploratory_optimum(np.ones(3) / 3, np.zeros(3), 1.0, np.array([0.5, 0, 0.5])),
            ModelError,
            r"exploration\[1\] is 0",
        ),
        (
            lambda: exploratory_optimum(np.ones(2) / 2, np.zeros(2), 1.0, np.array([1.5, -0.5])),
            ModelError,
            r"exploration\[1\] is -0",
        ),
        (lambda: exploratory_optimum(np.ones(2), np.zeros(2), 1.0, np.ones(2) / 2), ModelError, "reference has .* sums to 2"),
        (lambda: exploratory_optimum(np.ones(2) / 2, np.zeros(2), 1.0, np.ones(3) / 3), ModelError, "exploration"),
        (lambda: exploratory_optimum(np.ones(2) / 2, -np.ones(2), 1.0, np.ones(2) / 2), ModelError, "subtract their mean"),
        (lambda: dapo_direct(beta=0.0), SpecError, "temperature=0"),
        (lambda: GapFilter(-1.0), SpecError, "gap=-1"),
        (lambda: Tempered(None, 1.0, limit=0.0), SpecError, "limit=0"),
        (lambda: step_batch(step_tree(2, 1), np.array([3]), np.zeros((1, 2)), None, None), ModelError, "there are 1"),
    ],
)
def test_settings_that_are_none_are_refused(wrong, error, word):
    with pytest.raises(error, match=word):
        wrong()


def test_it_is_a_sum_over_tokens_by_default():
    assert dapo_direct().aggregation == Aggregation("sequence-mean-token-sum")
    batch = random_batch(2)
    assert torch.isfinite(evaluate(dapo_direct(), batch).weight_BT).all()


def test_pairs_drawn_on_the_way_improve_the_policy_and_keep_to_the_reference_at_a_high_temperature():
    problem = step_tree(3, 2, 0)
    ends = {}
    for beta in (0.1, 50.0):
        logits, curve = prefer_pairs(problem, 3000, 16, beta, 0.1, np.random.default_rng(0))
        assert curve[0] == pytest.approx(token_policy.expected_reward(problem, np.zeros_like(logits)))
        ends[beta] = token_policy.expected_reward(problem, logits)
        assert ends[beta] > curve[0]
    assert ends[0.1] > ends[50.0] + 0.1


def test_the_words_of_the_entry_are_the_kept_runs():
    kept, words = DAPO_DIRECT.results(), DAPO_DIRECT.measured

    def tokens(arm, bed):
        return round(1000 * kept.mean(arm, f"thousand tokens to 0.9, {bed}")[0])

    one, four, beds = "direct advantage, n = 1", "direct advantage, n = 4", ("depth 3", "depth 6", "wrong verdicts")
    a, b, c = (tokens("GRPO", bed) for bed in beds)
    assert f"GRPO {a} at depth 3, {b} at depth 6 and {c} there with a fifth" in words
    for arm, word in ((one, "one completion a step"), (four, "4")):
        a, b, c = (tokens(arm, bed) for bed in beds)
        assert f"{a}, {b} and {c} " in words
        assert f"with {word}" in words
    assert f"{tokens('GRPO', 'few right')} against {tokens(one, 'few right')} and {tokens(four, 'few right')}" in words
    for arm in (one, four):
        gap, half = kept.difference(arm, "thousand tokens to 0.9, few right")
        assert abs(gap) < half
    a, b = (tokens("GRPO, untuned", bed) / tokens(four, bed) for bed in beds[:2])
    assert f"a factor of {a:.1f} at depth 3 and {b:.1f} at depth 6" in words
    assert f"reference of {kept.mean('b = 1', 'reward, reference')[0]:.2f}," in words
    right = {b: kept.mean(f"b = {b}", "reward after a round, 0 wrong")[0] for b in ("0.002", "0.02", "3")}
    assert f"{right['0.002']:.2f} at b = .002 and .02, then falling to {right['3']:.2f} at 3" in words
    assert f"{right['0.02']:.2f}" == f"{right['0.002']:.2f}"
    gain = np.subtract(kept.numbers["b = 1"]["reward after a round, 0.35 wrong"], kept.numbers["b = 1"]["reward, reference"])
    assert f"best at 1, {gain.mean():+.3f}" in words
    assert gain.min() > 0 or gain.mean() > 2.3 * gain.std(ddof=1) / np.sqrt(len(gain))
    for arm, by_bed in kept.settings["mean tokens by setting"].items():  # chosen on other trees, so no better than the best
        for bed, by_setting in by_bed.items():
            low, high = min(by_setting.values()), max(by_setting.values())
            assert low - 0.1 <= 1000 * kept.mean(arm, f"thousand tokens to 0.9, {bed}")[0] <= high + 0.1


@pytest.mark.parametrize("flip", [0.0, 0.2])
def test_tokens_to_the_level_are_those_before_it_is_first_seen_and_the_budget_where_it_is_not(flip):
    problem, level, budget = step_tree(3, 2, 0), 0.9, 4000
    _, curve = prefer_pairs(problem, budget, 8, 0.1, 0.3, np.random.default_rng(0), flip)
    first = next(k for k, reward in enumerate(curve) if reward >= level)
    assert _pairs(problem, budget, flip, 0, 0.3, 8) == first * 8 * 2
    assert _pairs(problem, 64, flip, 0, 0.3, 8) == 64
    curve = []
    spec = objective("grpo", beta=0.0)
    if not flip:
        recipe = Recipe(tokens=budget, prompts=1, group=8, rate=0.3)
        train(problem, TablePolicy(problem), spec, recipe, 0, log=lambda _, reward: curve.append(reward))
        assert _outcome(spec, problem, budget, flip, 0, 0.3, 8) == next(k for k, x in enumerate(curve) if x >= level) * 16
    assert _outcome(spec, problem, 64, flip, 0, 0.3, 8) == 64
    assert 64 < _outcome(spec, problem, budget, flip, 0, 0.3, 8) < budget
    logits, spent, rng = np.zeros((4, 3)), 0, np.random.default_rng(0)
    while token_policy.expected_reward(problem, logits) < level:
        logits, cost = improve(problem, logits, 1, 2, 0.1, 0.1, rng, flip)
        spent += cost
    assert _direct(1, problem, budget, flip, 0, 0.1, 2) == spent
    assert _direct(1, problem, 5, flip, 0, 0.1, 2) == 5

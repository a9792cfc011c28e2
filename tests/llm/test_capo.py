"""CAPO: predicted shifts against definitions, the exact Hessian and the true change; what its theorem promises and what not."""

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from banach.bounds import evidence_of
from banach.bounds.rlvr_steps import CERTIFICATE, SURROGATE
from banach.bounds.token_specimens import bandits
from banach.llm.advantage import GroupAdvantage
from banach.llm.catalogue import objective
from banach.llm.curvature import (
    AdamStep,
    CurvatureFilter,
    Moments,
    SGDStep,
    last_layer_gradient,
    predicted,
    quantiles,
    rejected,
    shifts,
)
from banach.llm.errors import BatchError, ObjectiveWarning, SpecError
from banach.llm.objective import evaluate
from banach.llm.outcome import outcome
from banach.llm.plan import plan
from banach.llm.systems.capo import CAPO, Calibrated, capo
from banach.llm.testbeds import bench
from banach.llm.testbeds.bench import ShiftWatch, curvature_fields, digits, stability_run
from banach.llm.testbeds.policies import TransformerPolicy
from banach.llm.testbeds.training import measures
from banach.mdp import token_policy
from banach.mdp.instances_token import tiny_enum
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch.autograd.functional import hessian

from .objective_batches import random_batch, rebuilt

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)


def drawn(seed, arms=4, width=3):
    """Log-policy, hidden state, unembedding, advantages of every action."""
    rng = np.random.default_rng(seed)
    h, W = torch.tensor(rng.normal(size=width)), torch.tensor(rng.normal(size=(arms, width)))
    return (W @ h).log_softmax(-1), h, W, torch.tensor(rng.normal(size=arms))


def shifts_of_all(step, log_policy, h, advantage):
    n = len(log_policy)
    return predicted(step, log_policy.expand(n, n), torch.arange(n), h.expand(n, -1), advantage)


@given(seed=seeds, rate=st.floats(0.01, 1))
@few
def test_the_shifts_are_what_the_matrices_say(seed, rate):
    """Built with whole V D x V D matrices: <g, Delta> + Delta' H Delta / 2, H = A (v v' - F) x h h', and the Fisher form."""
    log_policy, h, _, A = drawn(seed)
    found_H, found_F = shifts_of_all(SGDStep(rate), log_policy, h, A)
    pi = log_policy.exp()
    F = torch.diag(pi) - torch.outer(pi, pi)
    for a in range(4):
        v = torch.eye(4, dtype=torch.float64)[a] - pi
        g = A[a] * torch.outer(v, h).reshape(-1)
        H = A[a] * torch.kron(torch.outer(v, v) - F, torch.outer(h, h))
        fisher = torch.kron(torch.outer(v, v), torch.outer(h, h))
        D = rate * g
        assert found_H[a].item() == pytest.approx(float(g @ D + D @ H @ D / 2), rel=1e-9, abs=1e-12)
        assert found_F[a].item() == pytest.approx(float(D @ fisher @ D / 2), rel=1e-9, abs=1e-12)


@given(seed=seeds, rate=st.floats(0.01, 1))
@few
def test_the_closed_form_for_sgd(seed, rate):
    log_policy, h, _, A = drawn(seed)
    m_H, m_F = shifts_of_all(SGDStep(rate), log_policy, h, A)
    pi = log_policy.exp()
    v = torch.eye(4, dtype=torch.float64) - pi
    n, c = v.square().sum(1), h.square().sum()
    spread = (pi * v.square()).sum(1) - (pi * v).sum(1).square()
    assert torch.allclose(m_H, rate * A**2 * n * c + rate**2 * A**3 * c**2 * (n**2 - spread) / 2)
    assert torch.allclose(m_F, rate**2 * A**2 * n**2 * c**2 / 2)


def test_the_token_that_was_least_likely_is_rejected_first():
    log_policy = torch.tensor([0.9, 0.08, 0.02], dtype=torch.float64).log()
    _, m_F = shifts_of_all(SGDStep(0.1), log_policy, torch.ones(2), torch.ones(3))
    assert m_F.argsort().tolist() == [0, 1, 2]


@given(seed=seeds)
@few
def test_the_mean_shift_over_actions_is_half_a_variance_and_the_divergence_to_third_order(seed):
    log_policy, _, _, _ = drawn(seed)
    rng = np.random.default_rng(seed)
    u, pi = torch.tensor(rng.normal(size=4)), log_policy.exp()
    v = torch.eye(4, dtype=torch.float64) - pi
    half_variance = float(((pi * u**2).sum() - (pi * u).sum() ** 2) / 2)
    assert float((pi * (v @ u) ** 2).sum() / 2) == pytest.approx(half_variance, abs=1e-12)
    moved = (log_policy + u).log_softmax(-1)
    divergence = float((pi * (log_policy - moved)).sum())
    assert abs(divergence - half_variance) <= float(u.max() - u.min()) ** 3 / 24


@given(seed=seeds, baseline=st.floats(-2, 2))
@few
def test_at_horizon_one_the_population_hessian_is_exact_for_any_baseline(seed, baseline):
    log_policy, h, W, reward = drawn(seed, arms=3, width=2)
    pi = log_policy.exp()
    F = torch.diag(pi) - torch.outer(pi, pi)
    model = torch.zeros(6, 6, dtype=torch.float64)
    for a in range(3):
        v = torch.eye(3, dtype=torch.float64)[a] - pi
        model += pi[a] * (reward[a] - baseline) * torch.kron(torch.outer(v, v) - F, torch.outer(h, h))
    exact = hessian(lambda w: (w.reshape(3, 2) @ h).softmax(-1) @ reward, W.reshape(-1))
    assert torch.allclose(model, exact, atol=1e-12)


def test_over_two_steps_the_model_misses_the_blocks_between_them():
    """Reward one iff two independent actions are right: d^2 J / dx1 dx2 = 1/16 at zero; the model's cross block is zero."""
    exact = hessian(lambda x: x.sigmoid().prod(), torch.zeros(2, dtype=torch.float64))
    assert exact[0, 1].item() == pytest.approx(1 / 16)
    half = torch.full((2, 2), 0.5, dtype=torch.float64).log()

    def predicted_gain(d):
        """Mean over the four outcomes of m_H, summed over both tokens, where token i's logit moves by d[i]."""
        u = torch.tensor([[d[0], 0.0], [d[1], 0.0]], dtype=torch.float64)
        total = 0.0
        for tokens in itertools.product(range(2), repeat=2):
            A = torch.full((2,), float(tokens == (0, 0)) - 0.25, dtype=torch.float64)
            step = lambda v, h, A: (A * (v * u).sum(-1), u)  # noqa: E731
            total += predicted(step, half, torch.tensor(tokens), torch.ones(2, 1), A)[0].sum().item() / 4
        return total

    def gain(d):
        return torch.tensor(d, dtype=torch.float64).sigmoid().prod().item()

    d = 0.1

    def crossed(f):
        return f((d, d)) - f((d, 0.0)) - f((0.0, d)) + f((0.0, 0.0))

    assert crossed(predicted_gain) == pytest.approx(0, abs=1e-15)
    assert crossed(gain) / d**2 == pytest.approx(1 / 16, rel=0.01)
    assert predicted_gain((d, 0.0)) == pytest.approx(gain((d, 0.0)) - 0.25, rel=0.05)


@given(seed=seeds, parts=st.integers(2, 5))
@few
def test_averaging_steps_loses_no_more_than_half_the_curvature_times_the_radius_squared(seed, parts):
    rng = np.random.default_rng(seed)
    g, H, D = rng.normal(size=3), rng.normal(size=(3, 3)), rng.normal(size=(parts, 3))
    H = (H + H.T) / 2
    M, r = np.abs(np.linalg.eigvalsh(H)).max(), np.linalg.norm(D, axis=1).max()

    def shift(d):
        return g @ d + d @ H @ d / 2

    assert np.mean([shift(d) for d in D]) - shift(D.mean(0)) <= M * r**2 / 2 + 1e-12
    fisher = [d @ (H @ H) @ d / 2 for d in D]
    assert D.mean(0) @ (H @ H) @ D.mean(0) / 2 <= max(fisher) + 1e-12


def test_without_that_slack_two_good_steps_average_to_none():
    M, D = 2.0, np.array([0.3, -0.1])
    both = [M * d @ d / 2 for d in (D, -D)]
    assert min(both) > 0
    assert M * (D - D) @ (D - D) / 2 == 0
    assert both[0] == pytest.approx(M * (D @ D) / 2)


def test_the_printed_theorem_fails_for_a_large_step_and_its_replacement_does_not():
    x, M, step = math.log(2 - math.sqrt(3)), 1 / (6 * math.sqrt(3)), 10.0

    def J(z):  # noqa: N802
        return 1 / (1 + math.exp(-z))

    p = J(x)
    slope, curvature = p * (1 - p), p * (1 - p) * (1 - 2 * p)
    assert curvature == pytest.approx(M)  # the largest curvature of a sigmoid
    m_H = slope * step + curvature * step**2 / 2
    gain = J(x + step) - p
    assert m_H == pytest.approx(6.478, abs=1e-3)
    assert gain == pytest.approx(0.7885, abs=1e-4)
    printed, sound = m_H - M * step**2 / 2, m_H - M * step**2
    assert printed == pytest.approx(1.667, abs=1e-3)
    assert gain < printed
    assert sound < -3.1 < gain


def test_the_mean_of_steps_gains_their_least_modelled_gain_less_the_curvature_on_the_ball():
    """J a sigmoid of w x, whose Hessian is below |w|^2 / (6 sqrt 3); the slack that is printed, half as much, fails."""
    rng, misses = np.random.default_rng(0), 0
    for _ in range(400):
        w, x, parts = rng.normal(size=2), rng.uniform(-3, 1), rng.integers(1, 5)
        D = rng.uniform(0, 10) * (w + 0.2 * rng.normal(size=(parts, 2)))
        M, r, p = w @ w / (6 * math.sqrt(3)), np.linalg.norm(D, axis=1).max(), 1 / (1 + math.exp(-x))
        slope, bend = p * (1 - p), p * (1 - p) * (1 - 2 * p)
        least = min(slope * (w @ d) + bend * (w @ d) ** 2 / 2 for d in D)
        gain = 1 / (1 + math.exp(-x - w @ D.mean(0))) - p
        sound = CERTIFICATE.evaluate(dict(zip(CERTIFICATE.symbols, (float(least), float(M), float(r)), strict=True)))
        assert gain >= sound - 1e-12
        misses += parts > 1 and gain < least - M * r**2 / 2 - 1e-6
    assert misses >= 5


def test_no_smaller_multiple_of_the_curvature_would_do():
    """J bends by M up to d and by -M from there on: the gain falls to m_H - M r^2 as d goes to zero."""
    M, r, slope = 0.7, 1.3, 2.0
    m_H, gaps = slope * r + M * r**2 / 2, []
    for d in (0.1, 0.01, 0.001):
        gain = slope * r + M * d**2 / 2 + M * d * (r - d) - M * (r - d) ** 2 / 2
        assert gain >= m_H - M * r**2
        gaps.append(gain - (m_H - M * r**2))
    assert gaps[2] < 0.01 * M * r**2
    assert gaps == sorted(gaps, reverse=True)


@given(seed=seeds, arms=st.integers(2, 5))
@few
def test_a_bandit_bends_by_no_more_than_its_span_over_three_roots_of_three(seed, arms):
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(40):
        pi = rng.dirichlet(np.full(arms, rng.choice([0.2, 1, 5])))
        reward = rng.choice([rng.uniform(-3, 2, arms), rng.integers(0, 2, arms).astype(float)])
        hessian_of_J = np.einsum("k,ki,kj->ij", pi * (reward - pi @ reward), np.eye(arms) - pi, np.eye(arms) - pi)
        span = np.ptp(reward)
        if span > 0:
            worst = max(worst, np.abs(np.linalg.eigvalsh(hessian_of_J)).max() / span)
    assert 0.02 < worst <= 1 / (3 * math.sqrt(3)) + 1e-12


def test_the_certificate_measures_the_gain_and_the_second_order_model_of_a_bandit():
    problem = bandits()["gains and losses"]
    evidence, reward = evidence_of(problem), torch.tensor(problem.reward)
    logits = {name: torch.tensor([float(p) for p in table[0]]).double().log() for name, table in evidence.policies.items()}
    checked = 0
    for measurement in CERTIFICATE.measure(evidence):
        where, (m_H, M, r) = measurement.parameters, (float(measurement.values[x].mid()) for x in CERTIFICATE.symbols)
        z = logits[where["policy"]]
        ways = [float(Fraction(where["share of the way"])) * (x - z) for x in logits.values() if not torch.equal(x, z)]
        D = {"one": ways[:1], "there and back": [ways[0], -ways[0]], "several": ways}[where["steps"]]
        J = lambda x: x.softmax(-1) @ reward  # noqa: E731
        slope, bend = torch.autograd.functional.jacobian(J, z), hessian(J, z)
        assert m_H == pytest.approx(min(float(slope @ d + d @ bend @ d / 2) for d in D), abs=1e-6)
        assert float(measurement.measured.mid()) == pytest.approx(float(J(z + sum(D) / len(D)) - J(z)), abs=1e-6)
        assert pytest.approx((3 / (3 * math.sqrt(3)), max(float(d.norm()) for d in D)), rel=1e-6) == (M, r)
        checked += 1
    assert checked == 24


def test_two_arms_bend_exactly_that_far():
    x = torch.tensor([math.log(2 - math.sqrt(3)), 0.0], dtype=torch.float64)
    reward = torch.tensor([3.0, 1.0], dtype=torch.float64)
    found = torch.linalg.eigvalsh(hessian(lambda z: z.softmax(-1) @ reward, x)).abs().max()
    assert found.item() == pytest.approx(2 / (3 * math.sqrt(3)), rel=1e-12)


def drawn_chain(rng):
    """A 3 x 3 problem, two policies, a discount up to .95 and a start."""
    mixing, discount, start = rng.choice([0.1, 0.5, 1.0]), rng.uniform(0, 0.95), rng.dirichlet(np.ones(3))
    old, other = rng.dirichlet(np.full(3, mixing), size=3) + 1e-9, rng.dirichlet(np.full(3, mixing), size=3) + 1e-9
    old, other = old / old.sum(1, keepdims=True), other / other.sum(1, keepdims=True)
    t = rng.uniform()
    transition = rng.dirichlet(np.full(3, mixing), size=(3, 3))
    return transition, rng.uniform(-1, 1, (3, 3)), old, (1 - t) * old + t * other, discount, start


def by_series(chain, start, discount):
    """sum_t gamma^t x M^t, by repeated squaring: 2^10 terms."""
    total, power, factor = np.eye(3), chain.copy(), discount
    for _ in range(10):
        total, power, factor = total + factor * total @ power, power @ power, factor**2
    return start @ total


@given(seed=seeds)
@few
def test_the_exact_surrogate_bounds_the_gain_with_half_of_the_printed_constant_and_with_it(seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        P, reward, old, new, discount, start = drawn_chain(rng)
        chains = [np.einsum("sa,sat->st", policy, P) for policy in (old, new)]
        paid = [(policy * reward).sum(1) for policy in (old, new)]
        value = np.array([by_series(chains[0], np.eye(3)[s], discount) @ paid[0] for s in range(3)])
        gain = by_series(chains[1], start, discount) @ paid[1] - start @ value
        advantage, visits = reward + discount * P @ value - value[:, None], by_series(chains[0], start, discount)
        surrogate, size = visits @ (new * advantage).sum(1), np.abs(advantage).max()
        apart = max(0.0, (1 - discount) * visits @ (old * np.log(old / new)).sum(1))
        half = SURROGATE.evaluate(dict(zip(SURROGATE.symbols, map(float, (surrogate, discount, size, apart)), strict=True)))
        printed = surrogate - 2 * discount * size * math.sqrt(2) / (1 - discount) ** 2 * math.sqrt(apart)
        assert gain >= half - 1e-9 >= printed - 2e-9
        assert half - printed == pytest.approx(surrogate - half, rel=1e-6, abs=1e-9)


@given(seed=seeds)
@few
def test_adam_s_step_is_the_step_that_torch_would_take(seed):
    log_policy, h, W, A = drawn(seed)
    pi, a, rate = log_policy.exp(), seed % 4, 0.01
    rng = np.random.default_rng(seed)
    weight = torch.nn.Parameter(W.clone())
    optimiser, moments = torch.optim.Adam([weight], lr=rate), Moments()
    for _ in range(3):
        gradient = torch.tensor(rng.normal(size=W.shape))
        weight.grad = -gradient
        optimiser.step()
        moments.update(gradient)
    v = torch.eye(4, dtype=torch.float64)[a] - pi
    weight.grad = -A[a] * torch.outer(v, h)
    before = weight.detach().clone()
    optimiser.step()
    moved = weight.detach() - before
    frozen = moments.first.clone()
    inner, u = AdamStep(rate, moments)(v[None], h[None], A[a : a + 1])
    assert torch.allclose(u[0], moved @ h, atol=1e-9)
    assert inner.item() == pytest.approx(float((A[a] * torch.outer(v, h) * moved).sum()), rel=1e-6, abs=1e-12)
    assert torch.equal(moments.first, frozen)


@given(seed=seeds)
@few
def test_open_thresholds_are_the_base_bit_for_bit_and_closed_ones_are_nothing(seed):
    batch = random_batch(seed)
    open_spec = capo(SGDStep(0.2), float("inf"), float("inf"))
    base = objective("grpo", beta=0.0)
    assert torch.equal(evaluate(open_spec, batch).loss, evaluate(base, batch).loss)
    assert torch.equal(evaluate(open_spec, batch).weight_BT, evaluate(base, batch).weight_BT)
    closed = evaluate(capo(SGDStep(0.2), 0.0, 0.0), batch)
    assert closed.loss == 0
    assert not closed.weight_BT.any()


@given(seed=seeds)
@few
def test_rejection_grows_as_each_threshold_falls(seed):
    batch = random_batch(seed)
    for name in ("curvature", "shift"):
        settings_of = {"curvature": float("inf"), "shift": float("inf")}
        kept = [int(plan(capo(SGDStep(0.2), **(settings_of | {name: x})), batch).mask_BT.sum()) for x in (0, 1e-3, 0.03, 1, 30)]
        assert kept == sorted(kept)
        assert kept[0] == 0


@pytest.mark.parametrize(("base", "twice"), [("grpo", 2), ("dr_grpo", 1)])
@given(seed=seeds)
@few
def test_the_mask_moves_a_sequence_s_weights_by_twice_its_rejected_share_of_the_advantage(base, twice, seed):
    """On the policy: k of n tokens kept, sum |c' A - c A| = 2 (1 - k/n) |A| / B, and |A| / B where k = 0; with the constant
    divisor (n - k) |A| / (B budget).
    """
    batch = random_batch(seed, groups=2, size=4)
    batch = rebuilt(batch, logp_BT=batch.logp_old_BT)
    budget = None if base == "grpo" else 4
    spec = capo(SGDStep(0.2), 0.3, 0.05, base=base, budget=budget)
    free = capo(SGDStep(0.2), float("inf"), float("inf"), base=base, budget=budget)
    masked, whole = plan(spec, batch), plan(free, batch)
    moved_B = (masked.evaluate().weight_BT - whole.evaluate().weight_BT).abs().sum(1)
    assume(moved_B.any())
    n_B, k_B = batch.mask_BT.sum(1), masked.mask_BT.sum(1)
    A_B = torch.where(batch.mask_BT, whole.advantage_BT, 0.0).abs().amax(1)
    share_B = (n_B - k_B) / (n_B if base == "grpo" else 4)
    factor_B = torch.where((k_B == 0) | (A_B == 0), 1, twice)
    assert torch.allclose(moved_B, factor_B * share_B * A_B / 8, atol=1e-12)


def drifted(problem, seed, size):
    """Log-policies (N, V) that wander."""
    rng = np.random.default_rng(seed)
    z = [rng.normal(size=(problem.n_nodes, problem.vocabulary_size))]
    for scale in (size, 3 * size, size):
        z.append(z[-1] + scale * rng.normal(size=z[0].shape))
    return [torch.tensor(token_policy.log_policy(problem, x)) for x in z]


def test_the_spike_of_a_run_is_the_largest_divergence_between_laws_of_whole_answers():
    """The chain rule against a sum over all answers."""
    problem = tiny_enum()
    tables, watch = drifted(problem, 0, 0.3), ShiftWatch()
    laws = [token_policy.sequence_probability(problem, t.numpy()) for t in tables]
    moves = []
    for k, table in enumerate(tables):
        watch.see(problem, table)
        if k:
            weight = problem.prompt_probability[problem.prompt] * laws[k - 1]
            moves.append(float(weight @ np.log(laws[k - 1] / laws[k])))
            assert watch.numbers() == {"spike": pytest.approx(max(moves), rel=1e-9), "spike at": moves.index(max(moves))}
    assert moves[1] > 2 * moves[2]


def test_the_rank_correlation_is_scipys_and_of_steps_that_were_predicted_alone():
    problem = tiny_enum()
    tables, watch, expected = drifted(problem, 1, 0.3), ShiftWatch(), []
    rng = np.random.default_rng(0)
    for k, table in enumerate(tables):
        watch.see(problem, table)
        if k in (0, 2):
            nodes, shift = rng.integers(0, problem.n_nodes, 12), rng.random(12).round(1)
            watch.predict(nodes, shift)
            move = (table.exp() * (table - tables[k + 1])).sum(-1).numpy()
            expected.append(spearmanr(shift, move[nodes]).statistic)
    assert watch.ranks == pytest.approx(expected)
    assert watch.numbers()["rank"] == pytest.approx(np.mean(expected))


def untrained(seed):
    return TransformerPolicy(digits(), 1, 8, seed=seed)


def test_dry_batches_teach_moments_and_move_nothing():
    spec, more = objective("grpo", beta=0.0), {"rate": 0.05, "prompts": 2}
    start = measures(digits(), untrained(3).log_policy())
    dry = stability_run(untrained, spec, 60, dry=1000, **more)(3)
    wet = stability_run(untrained, spec, 60, dry=1, **more)(3)
    assert dry["spike"] == dry["collapsed"] == 0
    assert dry["reward"] == start["reward"] != wet["reward"]
    assert wet["spike at"] >= 1


def test_a_run_that_recovers_has_collapsed_and_is_not_lost(monkeypatch):
    def told(rewards):
        def train(problem, policy, spec, recipe, seed, dress, log, replan):
            step = SimpleNamespace(problem=problem, old_NV=policy.log_policy().detach())
            for reward in rewards[:-1]:
                log(step, reward)
            return {"reward": rewards[-1]}

        monkeypatch.setattr(bench, "train", train)
        found = stability_run(untrained, objective("grpo", beta=0.0), 1)(0)
        return found["collapsed"], found["lost"]

    assert told([0.3, 0.6, 0.29, 0.5]) == (1, 0)
    assert told([0.3, 0.6, 0.31, 0.29]) == (1, 1)
    assert told([0.3, 0.6, 0.31, 0.4]) == (0, 0)


def test_a_step_s_hidden_states_are_those_of_its_nodes():
    policy, rows = untrained(1), np.array([5, 200, 31])
    table = policy.log_policy().detach()
    found = curvature_fields(SimpleNamespace(problem=digits(), policy=policy, sequences=rows, old_NV=table))
    for i, t in zip(*(digits().node[rows] >= 0).nonzero(), strict=True):
        node = digits().node[rows[i], t]
        assert torch.allclose(found["hidden_BTD"][i, t], policy.hidden()[node], atol=1e-6)
        assert torch.equal(found["log_policy_BTV"][i, t], table[node])


def test_a_token_s_predicted_shift_ranks_with_the_divergence_that_its_own_step_makes():
    """One step of SGD on the last layer for each token alone, against the true KL; m_F is a sample of half its square."""
    rng = np.random.default_rng(4)
    foretold, realised = [], []
    for _ in range(60):
        log_policy, h, W, A = drawn(int(rng.integers(10**6)))
        a = int(rng.integers(4))
        v = torch.eye(4, dtype=torch.float64)[a] - log_policy.exp()
        u = 0.05 * A[a] * v * h.square().sum()
        _, m_F = predicted(SGDStep(0.05), log_policy[None], torch.tensor([a]), h[None], A[a : a + 1])
        moved = (W @ h + u).log_softmax(-1)
        foretold.append(m_F.item())
        realised.append(float(log_policy.exp() @ (log_policy - moved)))
    assert spearmanr(foretold, realised).statistic > 0.8


@pytest.mark.parametrize("adam", [False, True])
def test_the_kept_set_follows_its_tokens_wherever_they_stand(adam):
    moments = Moments()
    moments.update(torch.ones(3, 2))
    step = AdamStep(0.05, moments) if adam else SGDStep(0.2)
    batch = random_batch(7, groups=3, size=4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = batch.select(order)
    spec = capo(step, 0.05, 0.002)
    kept = plan(spec, batch).mask_BT
    assert torch.equal(plan(spec, shuffled).mask_BT, kept[order])
    assert 0 < kept.sum() < batch.mask_BT.sum()


def test_a_sequence_that_is_emptied_counts_as_a_term_of_zero():
    batch = rebuilt(random_batch(3, groups=1, size=3), reward_B=torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    table = torch.full_like(batch.log_policy_BTV, -math.log(3))
    hidden = torch.ones_like(batch.hidden_BTD)
    hidden[0] *= 10
    batch = rebuilt(batch, hidden_BTD=hidden, log_policy_BTV=table)
    planned = plan(capo(SGDStep(0.1), float("inf"), 0.1), batch)
    assert not planned.mask_BT[0].any()
    assert planned.coefficient_BT.sum(1).tolist() == pytest.approx([0, 1 / 3, 1 / 3])


def test_a_token_without_advantage_is_neutral_even_under_a_positive_lower_bound():
    batch = rebuilt(random_batch(3), reward_B=torch.ones(6))
    assert torch.equal(plan(capo(SGDStep(0.1), least=0.005), batch).mask_BT, batch.mask_BT)


def test_without_moments_nothing_is_masked():
    batch = random_batch(3)
    spec = capo(AdamStep(0.1, Moments()), 0.0, 0.0)
    assert torch.equal(plan(spec, batch).mask_BT, batch.mask_BT)


def test_the_moments_follow_the_mean_over_the_tokens_whose_support_holds_a_row():
    batch = random_batch(5)
    table = batch.log_policy_BTV.detach().clone()
    first = tuple(batch.mask_BT.nonzero()[0].tolist())
    token = (int(batch.token_BT[first]) + 1) % 3
    table[first][token] = -math.inf
    table[first] = table[first].log_softmax(-1)
    planned = plan(objective("grpo", beta=0.0), rebuilt(batch, log_policy_BTV=table))
    found, mask = last_layer_gradient(planned), batch.mask_BT
    total, seen = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3)
    for i, t in mask.nonzero().tolist():
        pi = table[i, t].exp()
        v = -pi
        v[batch.token_BT[i, t]] += 1
        total += planned.advantage_BT[i, t] * torch.outer(v, batch.hidden_BTD[i, t])
        seen += pi > 0
    assert torch.allclose(found, total / seen[:, None])
    assert seen.min() < seen.max()


def test_quantiles_keep_the_share_that_was_asked_for():
    out = outcome(random_batch(5, groups=20, size=4))
    A = GroupAdvantage("group-mean", "group-std", 1)(out)
    high, wide = quantiles(SGDStep(0.1), out, A, 0.9)
    m_H, m_F = shifts(SGDStep(0.1), out, A)
    live = A[out.batch.mask_BT] != 0
    assert (m_H.abs() <= high)[live].double().mean() == pytest.approx(0.9, abs=0.02)
    assert (m_F <= wide)[live].double().mean() == pytest.approx(0.9, abs=0.02)


def test_a_calibrated_run_masks_nothing_first_and_about_its_share_afterwards():
    run, masked = Calibrated(0.01, 0.9, warm=3), []
    for number in range(12):
        batch = random_batch(number, groups=8, size=4)
        planned = run.plan(plan(run.spec(), batch))
        masked.append(1 - float(planned.mask_BT.sum() / batch.mask_BT.sum()))
    assert masked[:4] == [0.0] * 4
    assert 0.02 < np.mean(masked[4:]) < 0.4
    assert run.moments.count == 12


def live_batches(count):
    """Batches in which every token has an advantage."""
    for number in range(count):
        batch = random_batch(number, groups=8, size=4)
        yield rebuilt(batch, reward_B=torch.arange(len(batch.reward_B), dtype=torch.float64))


@pytest.mark.parametrize("model", ["adam", "sgd"])
def test_a_calibrated_run_counts_what_it_rejects_of_the_tokens_that_had_something_to_say(model):
    run, shares = Calibrated(0.01, 0.9, warm=2, model=model), []
    for batch in live_batches(6):
        masking = run.masking
        planned = run.plan(plan(run.spec(), batch))
        lost = float((batch.mask_BT & ~planned.mask_BT).sum() / batch.mask_BT.sum())
        assert planned.statistics["rejected_share"] == pytest.approx(lost)
        shares += [lost] if masking else []
    assert len(shares) == len(run.masked) == (3 if model == "adam" else 4)
    assert [lost / live for lost, live in run.masked] == pytest.approx(shares)
    assert run.share(slice(1)) == pytest.approx(shares[0])


def test_thresholds_that_reject_a_fifth_or_nothing_are_told_of():
    run = Calibrated(0.01)
    assert run.finding() is None
    assert run.share() == 0
    run.masked = [(3, 10), (2, 10)]
    assert run.finding().startswith("rejected: 25% of the tokens of 2 steps")
    run.masked = [(2, 10)]
    assert run.finding() is None
    run.masked = [(9, 10)] + [(0, 10)] * 20
    assert "no token in 20 steps" in run.finding()


def test_a_mask_that_leaves_nothing_to_learn_warns():
    batch = next(live_batches(1))
    with pytest.warns(ObjectiveWarning, match="tokens with an advantage are rejected: nothing is learnt"):
        found = plan(capo(SGDStep(50.0)), batch)
    lost, live = rejected(found)
    assert lost == live == int((batch.mask_BT & (found.advantage_BT != 0)).sum()) > 0


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda: SGDStep(0.0), "rate=0"),
        (lambda: AdamStep(-1.0, Moments()), "rate=-1"),
        (lambda: Moments(betas=(1.0, 0.9)), "betas"),
        (lambda: Moments(betas=(0.9,)), "betas"),
        (lambda: CurvatureFilter(SGDStep(0.1), curvature=-1.0), "curvature=-1"),
        (lambda: CurvatureFilter(SGDStep(0.1), least=math.nan), "least=nan"),
        (lambda: CurvatureFilter(SGDStep(0.1), least=0.5), "least=0.5, curvature=0.01"),
        (lambda: capo(SGDStep(0.1), budget=5), "budget=5"),
        (lambda: Calibrated(0.1, level=1.0), "level=1"),
        (lambda: Calibrated(0.1, warm=0), "warm=0"),
        (lambda: Calibrated(0.1, model="lion"), "model='lion'"),
        (lambda: capo(SGDStep(0.1), base="dr_grpo"), "budget"),
        (lambda: capo(SGDStep(0.1), base="rloo"), "base='rloo'"),
    ],
)
def test_settings_that_are_none_are_refused(wrong, word):
    with pytest.raises(SpecError, match=word):
        wrong()


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("log_policy", lambda x: x - 0.5, "miss 1 by"),
        ("log_policy", lambda x: torch.full_like(x, math.nan), "miss 1 by nan"),
        ("log_policy", lambda x: torch.tensor([[-math.inf, 0.0, -math.inf]]).expand_as(x), "probability 0"),
        ("token", lambda x: x + 3, "tokens lie in 0 ... 2"),
        ("h", lambda x: x * math.nan, "not finite"),
        ("advantage", lambda x: x / 0, "not finite"),
        ("h", lambda x: x[:1], "shapes"),
    ],
)
def test_tokens_whose_shift_has_no_meaning_are_refused(name, change, word):
    right = {
        "log_policy": torch.full((2, 3), 1 / 3, dtype=torch.float64).log(),
        "token": torch.tensor([0, 2]),
        "h": torch.ones(2, 2),
        "advantage": torch.ones(2),
    }
    predicted(SGDStep(0.1), *right.values())
    with pytest.raises(BatchError, match=word):
        predicted(SGDStep(0.1), *(right | {name: change(right[name])}).values())


def test_moments_of_another_layer_are_refused():
    moments, tokens = Moments(), (torch.ones(2, 3), torch.ones(2, 2), torch.ones(2))
    with pytest.raises(BatchError, match="needs moments"):
        AdamStep(0.1, moments)(*tokens)
    moments.update(torch.ones(4, 2))
    with pytest.raises(BatchError, match=r"shape \(4, 2\), the tokens' last layer of \(3, 2\)"):
        AdamStep(0.1, moments)(*tokens)
    with pytest.raises(BatchError, match=r"\(3, 2\) after \(4, 2\)"):
        moments.update(torch.ones(3, 2))
    with pytest.raises(BatchError, match="finite"):
        moments.update(torch.full((4, 2), math.nan))


def test_the_betas_of_a_step_are_those_of_its_moments():
    tokens, found = (torch.ones(1, 2).double(), torch.ones(1, 2).double(), torch.ones(1).double()), []
    for betas in ((0.9, 0.999), (0.5, 0.9)):
        moments = Moments(betas)
        moments.update(2 * torch.ones(2, 2))
        first = (betas[0] * (1 - betas[0]) * 2 + (1 - betas[0])) / (1 - betas[0] ** 2)
        second = (betas[1] * (1 - betas[1]) * 4 + (1 - betas[1])) / (1 - betas[1] ** 2)
        inner, _ = AdamStep(0.1, moments)(*tokens)
        assert inner.item() == pytest.approx(4 * 0.1 * first / math.sqrt(second), rel=1e-6)
        found.append(inner.item())
    assert found[0] != pytest.approx(found[1])


def test_hidden_states_that_are_no_numbers_are_refused():
    batch = random_batch(1)
    hidden = batch.hidden_BTD.clone()
    row, column = batch.mask_BT.nonzero()[0].tolist()
    hidden[row, column, 1] = float("nan")
    with pytest.raises(BatchError, match=rf"hidden_BTD is nan at sequence {row}, position {column}"):
        rebuilt(batch, hidden_BTD=hidden)


def test_the_kept_runs_say_what_the_entry_says():
    kept = CAPO.results()
    for method, twenty, corner in (("GRPO", (5, 6), 9), ("CAPO", (3, 6), 5)):
        for where in ("1x", "1x, small"):
            assert kept.mean(method, f"collapsed, {where}")[0] == 0
        found = tuple(round(sum(kept.numbers[method][f"collapsed, {where}"])) for where in ("20x", "20x, small"))
        assert found == twenty
        assert round(4 * sum(kept.numbers[method]["collapsed, 5x, small"])) == corner
        assert round(4 * sum(kept.numbers[method]["lost, 5x, small"])) == 3
    for where in ("1x", "5x", "20x", "1x, small", "5x, small", "20x, small"):
        assert set(kept.numbers["CAPO"][f"masked at the spike, {where}"]) == {1.0}
        gap, half = kept.difference("CAPO", f"spike, {where}")
        assert (gap + half < 0) == (where == "5x, small")
        assert 0.07 < kept.mean("CAPO", f"rejected, {where}")[0] < 0.1
        assert 0.04 < kept.mean("CAPO", f"rejected early, {where}")[0] < 0.07
        assert 0.09 < kept.mean("CAPO", f"rejected late, {where}")[0] < 0.15
        assert 0.4 < kept.mean("GRPO", f"rank, {where}")[0] < 0.65
        assert 0.41 < kept.mean("CAPO", f"rank, {where}")[0] < 0.49
        assert 0.004 < kept.mean("CAPO", f"overhead, {where}")[0] < 0.065
    for where in ("5x", "1x, small"):
        gap, half = kept.difference("CAPO", f"reward, {where}")
        assert gap + half < 0
    rein = [a - b for a, b in zip(*(kept.numbers[m]["reward, 20x"] for m in ("ReinCAPO", "REINFORCE")), strict=True)]
    assert np.mean(rein) == pytest.approx(-0.24, abs=0.01)
    assert sum(kept.numbers["ReinCAPO"]["told, 20x"]) == 4
    assert sum(kept.numbers["CAPO, SGD step"]["collapsed, 5x, small"]) == 7
    assert sum(kept.numbers["GRPO, KL to the start 1"]["collapsed, 5x, small"]) == 0

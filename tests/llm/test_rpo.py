"""RPO's loss by the kernel is the maximin game's on tables, and its testbed is what its words say."""

import math

import numpy as np
import pytest
import torch
from banach.llm.pair_batch import PairBatch, Sequences
from banach.llm.preference_catalogue import dpo, rpo
from banach.llm.preference_kernel import evaluate_preference
from banach.llm.systems.rpo import SHOWN, DrawnLabels, spurious_tail, theorem_bound, theorem_eta
from banach.solvers import RegularizedPO, SolveError, rpo_optimum
from hypothesis import given, settings
from hypothesis import strategies as st

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 10**6)


def labelled(seed, pairs=12, n=4):
    """Pairs of n responses, chosen and rejected, and a reference."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, n, pairs)
    rejected = (chosen + rng.integers(1, n, pairs)) % n
    return chosen, rejected, rng.dirichlet(np.full(n, 2.0))


def batch(log_p, chosen, rejected, log_q):
    def side(y):
        return Sequences(log_p[y], torch.ones(len(y), dtype=torch.float64), log_q[y])

    return PairBatch(side(chosen), side(rejected))


def game(chosen, rejected, reference, eta, beta):
    """The maximin problem of these labels, whose baseline is the law of the chosen."""
    n = len(reference)
    wins = np.zeros((n, n))
    np.add.at(wins, (chosen, rejected), 1.0)
    return RegularizedPO(wins, reference, np.bincount(chosen, minlength=n) / len(chosen), eta, beta)


@few
@given(seed=seeds, eta=st.floats(0.05, 2), beta=st.floats(0.1, 2))
def test_the_kernels_loss_and_gradient_are_the_games(seed, eta, beta):
    chosen, rejected, reference = labelled(seed)
    problem = game(chosen, rejected, reference, eta, beta)
    logits = torch.tensor(np.random.default_rng(seed + 1).normal(size=4), requires_grad=True)
    log_p, log_q = logits.log_softmax(0), torch.tensor(np.log(reference))
    found = evaluate_preference(rpo(beta, eta), batch(log_p, chosen, rejected, log_q)).loss
    reward = beta * (log_p.detach() - log_q).numpy()
    wanted = problem.loss(reward) - eta * beta * float(problem.baseline @ log_p.detach().numpy())
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-10)
    (slope,) = torch.autograd.grad(found, logits)
    policy = log_p.detach().exp().numpy()
    rest = beta * problem.loss_slope(reward) + eta * beta * (policy - problem.baseline)
    assert slope.numpy() == pytest.approx(rest, abs=1e-10)


def test_gradient_descent_on_the_kernels_loss_ends_at_the_maximin_policy():
    chosen, rejected, reference = labelled(5, pairs=40)
    problem, log_q = game(chosen, rejected, reference, 0.4, 0.5), torch.tensor(np.log(reference))
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = evaluate_preference(rpo(0.5, 0.4), batch(logits.log_softmax(0), chosen, rejected, log_q)).loss
        loss.backward()
        return loss

    optimiser.step(closure)
    assert logits.detach().softmax(0).numpy() == pytest.approx(rpo_optimum(problem), abs=1e-6)


def test_the_tail_is_never_shown_bad_and_unlikely():
    bandit = spurious_tail(3)
    assert int(torch.cat([bandit.chosen, bandit.rejected]).max()) < SHOWN
    assert (bandit.chosen != bandit.rejected).all()
    assert float(bandit.gold[:, SHOWN:].max()) < -0.3
    assert float(bandit.gold[:, SHOWN:].mean()) == pytest.approx(-1.5, abs=0.1)
    gap = bandit.reference[:, 0] - bandit.reference[:, SHOWN]
    assert torch.allclose(gap, torch.full_like(gap, 2.0))
    assert torch.equal(bandit.features, spurious_tail(3).features)
    assert not torch.equal(bandit.features, spurious_tail(4).features)


@few
@given(seed=seeds)
def test_the_bandits_ascent_is_the_gradient_of_the_loss(seed):
    bandit, spec = spurious_tail(seed), rpo(0.3, 0.5)
    theta = (0.3 * torch.randn(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).requires_grad_()
    log_p = bandit.log_policy(theta)
    sides = [
        Sequences(log_p[bandit.context, y], torch.ones(240, dtype=torch.float64), bandit.reference[bandit.context, y])
        for y in (bandit.chosen, bandit.rejected)
    ]
    (slope,) = torch.autograd.grad(evaluate_preference(spec, PairBatch(*sides)).loss, theta)
    assert torch.allclose(bandit.ascent(spec, theta.detach()), -slope, atol=1e-10)


def test_without_weight_it_is_dpo():
    chosen, rejected, reference = labelled(2)
    log_p, log_q = torch.randn(4, dtype=torch.float64).log_softmax(0), torch.tensor(np.log(reference))
    pairs = batch(log_p, chosen, rejected, log_q)
    near, plain = (float(evaluate_preference(spec, pairs).loss) for spec in (rpo(0.2, 1e-12), dpo(0.2)))
    assert near == pytest.approx(plain, abs=1e-10)


def test_the_theorems_weight_is_written_out_once_by_hand():
    balls = math.ceil(3 * 2.0 * (1 + math.e**2) * 40) ** 3
    assert theorem_eta(40, 3, 2.0, 0.05) == pytest.approx((1 + math.e**2) ** -2 * math.sqrt(24 * math.log(balls / 0.05) / 40))


def test_the_theorems_right_side_is_written_out_once_by_hand():
    balls = math.ceil(3 * 2.0 * (1 + math.e**2) * 40) ** 3
    wanted = (math.sqrt(6) * (1 + math.e**2) ** 2 * (1.3**2 + 1) * math.sqrt(math.log(balls / 0.05)) + 4 * 0.7) / 4
    assert theorem_bound(40, 3, 1.3, 0.7, 2.0, 0.05) == pytest.approx(wanted / math.sqrt(40))


def test_an_arm_that_nobody_showed_stays_with_dpo_and_leaves_with_rpo():
    """With 50,000 labels rewards are known: what DPO lacks is the reference's tail at the mean reward, by Gibbs's law."""
    table, reward, beta = DrawnLabels.drawn(50_000, 0), np.linspace(0, 1, 20), 0.1
    weight = 0.1 / 20 * np.exp(reward / beta)
    tail = 0.9 * math.exp(reward.mean() / beta)
    left = 1 - float(weight @ reward) / (weight.sum() + tail)
    assert table.lacking(table.dpo(beta)) == pytest.approx(left, abs=0.08)
    assert table.lacking(table.likeliest(beta)) == pytest.approx(left, abs=0.08)
    guarded = 1 - float(weight @ reward) / (weight.sum() + 0.9)
    assert table.lacking(table.rpo(1e-4, beta)) == pytest.approx(guarded, abs=0.03)
    with pytest.raises(SolveError, match="no one optimal policy"):
        DrawnLabels.drawn(50, 0).dpo(beta)


def test_descent_on_dpos_loss_leaves_the_unshown_arm_where_it_is():
    """Where `DrawnLabels.dpo` puts it: its logit does not move, and those of the others sum to what they did."""
    table, beta = DrawnLabels.drawn(2000, 1), 0.5
    logits = torch.tensor(np.log(table.reference), requires_grad=True)
    wins, log_q = torch.tensor(table.wins / table.wins.sum()), torch.tensor(np.log(table.reference))
    for _ in range(1500):
        margin = beta * (logits - log_q)
        (slope,) = torch.autograd.grad(
            -(wins * torch.nn.functional.logsigmoid(margin[:, None] - margin[None, :])).sum(), logits
        )
        logits = (logits - 40.0 * slope).detach().requires_grad_()
    assert float(logits[-1].detach()) == pytest.approx(math.log(0.9))
    assert logits.detach().softmax(0).numpy() == pytest.approx(table.dpo(beta), abs=1e-5)

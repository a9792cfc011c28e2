"""Whether the chosen sequence becomes more likely: the rate along the gradient flow, against finite steps and closed forms."""

import numpy as np
import pytest
import torch
from banach.llm.errors import BatchError
from banach.llm.likelihood_displacement import likelihood_displacement
from banach.llm.pair_batch import PairBatch, Sequences
from banach.llm.preference_catalogue import preference
from banach.llm.preference_kernel import evaluate_preference
from hypothesis import given, settings
from hypothesis import strategies as st

battery = settings(deadline=None, max_examples=25, derandomize=True)


def pair(theta, phi, winner=0, loser=1):
    """One pair of responses of the log-linear policy softmax(phi theta), with itself for a reference."""
    logp = torch.log_softmax(phi @ theta, 0)
    sides = [Sequences(logp[[y]], ref_B=logp[[y]].detach(), length_B=torch.ones(1)) for y in (winner, loser)]
    return logp, PairBatch(*sides)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(["dpo", "ipo", "rpo", "orpo", "simpo"]))
@battery
def test_the_rate_is_that_of_a_small_step(seed, name):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    theta = torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
    logp, batch = pair(theta, phi)
    evaluation = evaluate_preference(preference(name), batch)
    rate = likelihood_displacement(evaluation, batch.chosen.logp_B, batch.rejected.logp_B, [theta])
    (descent,) = torch.autograd.grad(evaluation.loss, theta)
    ahead, back = (torch.log_softmax(phi @ (theta.detach() - h * descent), 0)[0] for h in (1e-6, -1e-6))
    assert rate.item() == pytest.approx(((ahead - back) / 2e-6).item(), rel=1e-5, abs=1e-7)
    assert logp.requires_grad


@given(seed=st.integers(0, 10_000))
@battery
def test_the_rate_of_a_log_linear_policy_has_the_sign_of_the_inner_product_of_features(seed):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    logp, batch = pair(theta, phi)
    evaluation = evaluate_preference(preference("dpo"), batch)
    rate = likelihood_displacement(evaluation, batch.chosen.logp_B, batch.rejected.logp_B, [theta])
    mean = logp.detach().exp() @ phi
    assert rate.item() == pytest.approx(0.05 * ((phi[0] - mean) @ (phi[0] - phi[1])).item(), abs=1e-12)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(["dpo", "ipo", "hinge"]))
@battery
def test_anywhere_on_the_path_from_any_reference_a_finite_step_has_the_sign_of_the_inner_product(seed, name):
    """pi of q e^(theta phi): the rate is the pull times (phi_w - E phi).(phi_w - phi_l), E under pi and not under q."""
    rng = np.random.default_rng(seed)
    phi, theta, log_q = rng.normal(size=(5, 3)), 0.3 * rng.normal(size=3), np.log(rng.dirichlet(np.ones(5)))

    def log_policy(theta):
        level = log_q + phi @ theta
        return level - np.log(np.exp(level - level.max()).sum()) - level.max()

    leaf = torch.tensor(theta, requires_grad=True)
    logp = torch.log_softmax(torch.tensor(log_q) + torch.tensor(phi) @ leaf, 0)
    batch = PairBatch(*(Sequences(logp[[y]], ref_B=torch.tensor(log_q[[y]])) for y in (0, 1)))
    evaluation = evaluate_preference(preference(name), batch)
    rate = likelihood_displacement(evaluation, batch.chosen.logp_B, batch.rejected.logp_B, [leaf]).item()
    apart = phi[0] - phi[1]
    pull = float(evaluation.weight_chosen_B)
    inner = (phi[0] - np.exp(log_policy(theta)) @ phi) @ apart
    assert rate == pytest.approx(pull * inner, rel=1e-10, abs=1e-12)
    step = 1e-6 * pull * apart
    change = log_policy(theta + step)[0] - log_policy(theta - step)[0]
    assert change / 2e-6 == pytest.approx(pull * inner, rel=1e-4, abs=1e-7)
    assert abs(inner * pull) < 1e-4 or np.sign(change) == np.sign(rate) == np.sign(inner) * np.sign(pull)


def test_both_sides_of_a_pair_fall_when_a_third_response_is_what_they_have_in_common():
    phi = torch.tensor([[1, 0.1], [1, 0], [3, 2]], dtype=torch.float64)
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    _, batch = pair(theta, phi)
    evaluation = evaluate_preference(preference("dpo"), batch)
    assert evaluation.diagnostics["chosen_raised"] == 1
    assert evaluation.diagnostics["net_weight"] == pytest.approx(0, abs=1e-15)
    c, r = batch.chosen.logp_B, batch.rejected.logp_B
    chosen = likelihood_displacement(evaluation, c, r, [theta]).item()
    _, mirror = pair(theta, phi)
    (descent,) = torch.autograd.grad(evaluation.loss, theta, retain_graph=True)
    (toward,) = torch.autograd.grad(mirror.rejected.logp_B.sum(), theta)
    rejected = -(toward @ descent).item()
    assert chosen / 0.05 == pytest.approx(-0.06, abs=1e-9)
    assert rejected / 0.05 == pytest.approx(-0.07, abs=1e-9)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(["dpo", "hinge", "ipo"]))
@battery
def test_a_table_always_raises_the_chosen_response(seed, name):
    rng = np.random.default_rng(seed)
    theta = torch.tensor(rng.normal(size=4), requires_grad=True)
    logp, batch = pair(theta, torch.eye(4, dtype=torch.float64))
    evaluation = evaluate_preference(preference(name), batch)
    rate = likelihood_displacement(evaluation, batch.chosen.logp_B, batch.rejected.logp_B, [theta])
    p = logp.detach().exp()
    assert rate.item() == pytest.approx((evaluation.weight_chosen_B * (1 - p[0] + p[1])).item(), rel=1e-12)


def test_a_network_with_a_parameter_that_plays_no_part():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5)).double()
    unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    inputs = torch.randn(4, 3, dtype=torch.float64)
    rows = torch.arange(4)

    def log_policy():
        return torch.log_softmax(net(inputs), 1)

    logp = log_policy()
    sides = [Sequences(logp[rows, y], ref_B=logp[rows, y].detach() - 0.1) for y in ([0, 1, 2, 3], [1, 2, 3, 4])]
    evaluation = evaluate_preference(preference("dpo"), PairBatch(*sides))
    rate_B = likelihood_displacement(evaluation, sides[0].logp_B, sides[1].logp_B, [*net.parameters(), unused])
    step = torch.autograd.grad(evaluation.loss, list(net.parameters()))
    ends = []
    for h in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, descent in zip(net.parameters(), step, strict=True):
                parameter.sub_(h * descent)
            ends.append(log_policy()[rows, torch.arange(4)])
    torch.testing.assert_close(rate_B, (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-8)


def test_a_log_probability_without_its_graph_is_refused():
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    _, batch = pair(theta, torch.eye(2, dtype=torch.float64))
    evaluation = evaluate_preference(preference("dpo"), batch)
    with pytest.raises(BatchError, match=r"logp_rejected_B must be .* with their graph"):
        likelihood_displacement(evaluation, batch.chosen.logp_B, batch.rejected.logp_B.detach(), [theta])

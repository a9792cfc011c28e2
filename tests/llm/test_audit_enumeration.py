"""The audit's expectations against brute force: every ordered group, autograd through a softmax table."""

import itertools

import numpy as np
import pytest
import torch
from banach.llm.audit import AuditError, audit
from banach.llm.audit.enumeration import Setting, blind_table, enumerated_field, group_gradients, tuples_of
from banach.llm.audit.prompt_weight import bernstein_coefficients, implied_weight
from banach.llm.audit.scalars import divergence_fields, reward_fields
from banach.llm.audit.subject import Subject
from banach.mdp import instances_token, token_strategies
from banach.mdp.token import TokenProblem
from hypothesis import given, settings
from hypothesis import strategies as st

from .plain_losses import policy_loss

FEW = settings(max_examples=10, deadline=None)


def token_logps(problem, logits):
    """(S, T) by torch, zero off the mask; differentiable in logits (N, V)."""
    table = torch.log_softmax(logits, 1)
    node, token = (torch.tensor(np.where(problem.mask, array, 0), dtype=torch.int64) for array in (problem.node, problem.token))
    return torch.where(torch.tensor(problem.mask), table[node, token], 0.0)


def brute_force(loss, problem, logits, old, ref, group_size):
    """E[-grad loss] over all ordered groups of every prompt, and E|grad|^2 of each prompt."""
    leaf = torch.tensor(logits, requires_grad=True)
    logp = token_logps(problem, leaf)
    old_logp, ref_logp = (token_logps(problem, torch.tensor(table)) for table in (old, ref))
    chance = torch.tensor(problem.environment_probability) * old_logp.sum(1).exp()
    reward, mask, total = torch.tensor(problem.reward), torch.tensor(problem.mask), np.zeros(logits.shape)
    squares = []
    for prompt, rho in enumerate(problem.prompt_probability):
        own, square = np.flatnonzero(problem.prompt == prompt).tolist(), 0.0
        for group in itertools.product(own, repeat=group_size):
            rows = list(group)
            value = loss(
                logp[rows], old_logp[rows], ref_logp[rows], mask[rows], reward[rows], torch.zeros(len(rows), dtype=torch.int64)
            )
            (slope,) = torch.autograd.grad(value, leaf, retain_graph=True)
            weight = float(chance[rows].prod())
            total -= rho * weight * slope.numpy()
            square += weight * float(slope.square().sum())
        squares.append(square)
    return total, squares


@FEW
@given(
    problem=token_strategies.token_problems(max_tokens=2, max_horizon=2),
    seed=st.integers(0, 2**31),
    words=st.sampled_from(
        [
            {"kind": "mean", "surrogate": "clip", "penalty": "k3"},
            {"kind": "bessel", "aggregate": "token-mean", "surrogate": "cispo", "penalty": "k2"},
            {"kind": "loo", "aggregate": "sequence-mean", "surrogate": "sequence"},
        ]
    ),
)
def test_the_enumerated_field_is_the_expectation_over_all_ordered_groups(problem, seed, words):
    generator = np.random.default_rng(seed)
    logits, old, ref = generator.normal(size=(3, problem.n_nodes, problem.vocabulary_size))
    old, loss = logits + 0.3 * old, policy_loss(**words)
    found = enumerated_field(Subject(loss), problem, Setting(logits, old=old, ref=ref), 2)
    wanted, _ = brute_force(loss, problem, logits, old, ref, 2)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * (1 + np.abs(wanted).max()))


@pytest.mark.parametrize("kind", ["loo", "std", "raw"])
def test_the_table_over_lengths_and_rewards_gives_mean_and_variance_of_all_groups(kind):
    problem = TokenProblem.build(2, 2, 2, lambda prompt, tokens: float(sum(tokens) == prompt + 1), eos=0)
    logits = np.random.default_rng(3).normal(size=(problem.n_nodes, 2))
    loss = policy_loss(kind, "sequence-mean")
    table = blind_table(Subject(loss), problem, 3, np.random.default_rng(0))
    wanted, squares = brute_force(loss, problem, logits, logits, logits, 3)
    np.testing.assert_allclose(table.field(logits), wanted, atol=1e-12)
    for prompt, square in enumerate(squares):
        probability, gradient = group_gradients(table, logits, prompt)
        assert probability.sum() == pytest.approx(1, abs=1e-12)
        assert probability @ (gradient**2).sum(1) == pytest.approx(square, abs=1e-12)


def test_a_loss_that_minds_the_order_is_enumerated_in_order():
    problem = TokenProblem.bandit(np.array([1.0, 0.0, 0.5]))
    logits = np.random.default_rng(5).normal(size=(1, 3))

    def loss(logp, old, ref, mask, rewards, groups):
        return -(torch.arange(len(rewards)) * rewards * logp[:, 0]).sum()

    wanted, _ = brute_force(loss, problem, logits, logits, logits, 2)
    found = enumerated_field(Subject(loss), problem, Setting(logits), 2, exchangeable=False)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert not np.allclose(enumerated_field(Subject(loss), problem, Setting(logits), 2, exchangeable=True), wanted)


def test_weights_that_move_with_the_policy_have_no_table():
    problem = instances_token.tiny_enum()
    entropy_bonus = lambda logp, old, ref, mask, rewards, groups: (logp**2).sum()  # noqa: E731
    assert blind_table(Subject(entropy_bonus), problem, 2, np.random.default_rng(0)) is None


def test_the_candidate_fields_are_the_gradients_that_autograd_finds():
    problem = instances_token.tiny_enum()
    logits, ref = np.random.default_rng(1).normal(size=(2, problem.n_nodes, 3))
    leaf = torch.tensor(logits, requires_grad=True)
    logp, ref_logp = token_logps(problem, leaf).sum(1), token_logps(problem, torch.tensor(ref)).sum(1)
    chance, reward, length = logp.exp(), torch.tensor(problem.reward), torch.tensor(problem.length)
    rho, prompt = torch.tensor(problem.prompt_probability), torch.tensor(problem.prompt, dtype=torch.int64)
    p = torch.zeros(2, dtype=torch.float64).index_add(0, prompt, chance * reward)
    scalars = {
        "J, the expected reward": rho @ p,
        "the mean over prompts of 2 arcsin sqrt(p), p the success rate": rho @ (2 * p.sqrt().arcsin()),
        "the mean over prompts of log p, p the success rate": rho @ p.log(),
        "pass@8": rho @ (1 - (1 - p) ** 8),
        "the entropy of the policy": -(rho[prompt] * chance * logp).sum(),
        "E|y|, long answers": (rho[prompt] * chance * length).sum(),
        "E[1/|y|], short answers": (rho[prompt] * chance / length).sum(),
        "E[R/|y|], reward per token": (rho[prompt] * chance * reward / length).sum(),
    }
    fields = reward_fields(problem, logits, 3)
    for name, scalar in scalars.items():
        (wanted,) = torch.autograd.grad(scalar, leaf, retain_graph=True)
        np.testing.assert_allclose(fields[name], wanted, atol=1e-12, err_msg=name)
    divergences = {
        "KL(pi || ref)": (rho[prompt] * chance * (logp - ref_logp)).sum(),
        "KL(ref || pi)": (rho[prompt] * ref_logp.exp() * (ref_logp - logp)).sum(),
    }
    fields = divergence_fields(problem, logits, ref, 2)
    for name, scalar in divergences.items():
        (wanted,) = torch.autograd.grad(scalar, leaf, retain_graph=True)
        np.testing.assert_allclose(fields[name], wanted, atol=1e-12, err_msg=name)


@FEW
@given(
    kind=st.sampled_from(["raw", "mean", "loo", "std", "bessel"]),
    group_size=st.integers(2, 5),
    seed=st.integers(0, 2**31),
)
def test_the_implied_weight_of_a_prompt_is_its_share_of_the_gradient(kind, group_size, seed):
    """g = w(p) grad p on a bandit, with w read off the Bernstein coefficients and g enumerated."""
    bandit = TokenProblem.bandit(np.array([1.0, 1.0, 0.0, 0.0]))
    logits = np.random.default_rng(seed).normal(size=(1, 4))
    subject = Subject(policy_loss(kind))
    field = blind_table(subject, bandit, group_size, np.random.default_rng(0)).field(logits)
    policy = np.exp(logits) / np.exp(logits).sum()
    p = policy[0, :2].sum()
    gradient = policy * (np.array([1.0, 1.0, 0.0, 0.0]) - p)
    weight = implied_weight(bernstein_coefficients(subject, group_size, 1), np.array([p]))
    np.testing.assert_allclose(field, weight * gradient, atol=1e-12)


def test_a_loss_that_torch_cannot_vectorise_gets_the_same_audit():
    def branching(logp, old, ref, mask, rewards, groups):
        if rewards.std(correction=0) == 0:
            return 0.0 * logp.sum()
        return policy_loss("loo")(logp, old, ref, mask, rewards, groups)

    problem = instances_token.tiny_enum()
    logits, ref = np.random.default_rng(2).normal(size=(2, problem.n_nodes, 3))
    slow, fast = Subject(branching), Subject(policy_loss("loo"))
    for subject in (slow, fast):
        subject.found = enumerated_field(subject, problem, Setting(logits, ref=ref), 2)
    assert slow._vectorised is False
    assert fast._vectorised is True
    np.testing.assert_allclose(slow.found, fast.found, atol=1e-12)


def test_a_problem_too_large_to_enumerate_is_refused_with_the_remedy():
    with pytest.raises(AuditError, match="smaller problem or a smaller group_size"):
        tuples_of(1000, 3, True)
    with pytest.raises(AuditError, match="group_size 0"):
        audit(policy_loss(), group_size=0)

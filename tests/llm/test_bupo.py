"""BuPO: products of experts, locality, a first phase without fixed point, ratios, entropies, switching."""

import itertools
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from banach.llm.catalogue import objective
from banach.llm.errors import SpecError
from banach.llm.internal import (
    BottomUp,
    LayerPolicy,
    entropy,
    entropy_flow,
    internal_log_policy,
    last_exploring_layer,
)
from banach.llm.objective import evaluate
from banach.llm.plan import plan
from banach.llm.ratio import Ratio
from banach.llm.surrogate import ClippedRatio, ImportanceWeighted
from banach.llm.systems.bupo import BUPO, bupo, with_head
from banach.llm.testbeds import Recipe, TransformerPolicy, batch_of, draw, train
from banach.mdp import token_policy
from banach.mdp.instances_token import digit_chain
from banach.mdp.token import TokenProblem
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from .exact_gradient import expected_gradient

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10**6)
PROBLEM = digit_chain(1, 2, scratchpad=False)


def drawn(seed, layers=3, width=4, size=5):
    rng = np.random.default_rng(seed)
    streams = [torch.tensor(rng.normal(size=(2, width)))]
    writes = []
    for _ in range(layers):
        writes.append(tuple(torch.tensor(rng.normal(size=(2, width))) for _ in range(2)))
        streams.append(streams[-1] + sum(writes[-1]))
    return streams, writes, torch.tensor(rng.normal(size=(size, width)))


def normalised(log_weights):
    return log_weights - log_weights.logsumexp(-1, keepdim=True)


@given(seed=seeds)
@few
def test_the_final_policy_is_a_product_of_experts(seed):
    streams, writes, U = drawn(seed)
    final = internal_log_policy(streams[-1], U)
    later = internal_log_policy(sum(sum(w) for w in writes[1:]), U)
    assert torch.allclose(final, normalised(internal_log_policy(streams[1], U) + later))
    modules = [internal_log_policy(x, U) for pair in writes for x in pair]
    assert torch.allclose(final, normalised(internal_log_policy(streams[0], U) + sum(modules)))
    gain = torch.rand(4, dtype=torch.float64)

    def norm(x):
        return x / x.square().mean(-1, keepdim=True).sqrt() * gain

    scale = gain / streams[-1].square().mean(-1, keepdim=True).sqrt()
    scaled = [internal_log_policy(scale * x, U) for x in (streams[0], *(x for pair in writes for x in pair))]
    assert torch.allclose(internal_log_policy(streams[-1], U, norm), normalised(sum(scaled)))


def a_batch(policy, head, seed=0, group=6, **more):
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        final, own = policy.log_policy(), head.log_policy()
    prompts = np.repeat(np.arange(PROBLEM.n_prompts), group)
    sequences = draw(PROBLEM, final, prompts, rng)
    groups = np.repeat(np.arange(PROBLEM.n_prompts), group)
    return batch_of(PROBLEM, sequences, groups, head.log_policy(), own, **more)


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_above_get_exactly_no_gradient_and_those_below_get_some(layer):
    policy = TransformerPolicy(PROBLEM, layers=3, width=8, seed=1)
    loss = evaluate(bupo(), a_batch(policy, LayerPolicy(policy, layer), seed=3)).loss
    loss.backward()
    for k, block in enumerate(policy.blocks):
        sizes = [0.0 if p.grad is None else float(p.grad.abs().max()) for p in block.parameters()]
        assert (max(sizes) == 0) == (k > layer)
    assert policy.unembedding.weight.grad.abs().max() > 0
    assert policy.embedding.weight.grad.abs().max() > 0
    assert policy.final_norm.gain.grad is None


def test_a_tied_unembedding_reaches_the_embeddings_too():
    table = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    stream = table[torch.tensor([0])] + 0.1
    logp = internal_log_policy(stream, table)[0, 1]
    [whole] = torch.autograd.grad(logp, table)
    through_reading = torch.autograd.grad(internal_log_policy(stream.detach(), table)[0, 1], table)[0]
    assert (whole - through_reading)[0].abs().max() > 0.1
    assert not (whole - through_reading)[1:].any()


def gradients(policy, spec, head):
    """Loss and gradient by every parameter's name, zeros where there is none; after a step, so that ratios differ from 1."""
    batch = a_batch(policy, head, seed=5)
    drift = 0.3 * torch.randn(batch.logp_BT.shape, generator=torch.Generator().manual_seed(0))
    batch = batch.renewed(logp_old_BT=torch.minimum(batch.logp_old_BT + drift, torch.zeros(())))
    loss = evaluate(spec, batch).loss
    names, leaves = zip(*policy.named_parameters(), strict=True)
    slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
    return loss, {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, leaves, slopes, strict=True)}


def test_the_last_layer_read_through_the_final_norm_is_grpo():
    policy = TransformerPolicy(PROBLEM, layers=2, width=8, seed=2)
    grpo = objective("grpo", beta=0.0, aggregation=bupo().aggregation)
    loss, slopes = gradients(policy, grpo, policy)
    inner_loss, inner = gradients(policy, bupo(dual=None), LayerPolicy(policy, 1, normed=True))
    assert torch.allclose(inner_loss, loss, rtol=1e-6)
    for name, slope in slopes.items():
        assert slope.abs().max() > 1e-4, name  # every parameter is reached, the final gain included
        assert torch.allclose(inner[name], slope, rtol=1e-5, atol=1e-7), name
    _, raw = gradients(policy, bupo(dual=None), LayerPolicy(policy, 1))  # without the norm it is another policy
    assert not raw["final_norm.gain"].any()
    for name in ("unembedding.weight", "embedding.weight", "blocks.0.write.weight", "blocks.1.down.weight"):
        assert (raw[name] - slopes[name]).norm() > 0.1 * slopes[name].norm(), name


def bandit(seed, size=4):
    rng = np.random.default_rng(seed)
    pi = torch.tensor(rng.dirichlet(np.ones(size)))
    A = torch.tensor(rng.normal(size=size))
    return pi, A - pi @ A, torch.tensor(rng.normal(size=size))


def population_gradient(z, pi, A, denominator):
    """E_{a ~ pi} of the library's ratio surrogate at its first step, by the layer's logits."""
    leaf = z.clone().requires_grad_()
    inner = leaf.log_softmax(-1)
    old = inner.detach() if denominator == "self" else pi.log()
    value = ImportanceWeighted().value((inner - old).exp(), inner, A)
    return torch.autograd.grad((pi * value).sum(), leaf)[0]


@given(seed=seeds)
@few
def test_the_first_step_is_the_same_whatever_the_layer_s_policy(seed):
    pi, A, z = bandit(seed)
    assert torch.allclose(population_gradient(z, pi, A, "self"), pi * A)
    assert torch.allclose(population_gradient(pi.log(), pi, A, "self"), pi * A)  # GRPO's, by the final logits
    shifted = population_gradient(z, pi, A + 1.0, "self") - pi * (A + 1.0)
    inner = z.softmax(-1)
    assert torch.allclose(shifted, -inner)  # not centred: -E_pi[A] times pi^l, against pi for the final head


def test_with_the_sampler_held_fixed_the_layer_runs_into_a_corner():
    pi, A, z = bandit(3)
    steps = [z]
    for _ in range(400):
        steps.append(steps[-1] + 0.5 * population_gradient(steps[-1], pi, A, "self"))
    assert torch.allclose(steps[-1] - z, 400 * 0.5 * pi * A)
    assert steps[-1].softmax(-1).argmax() == (pi * A).argmax()
    assert steps[-1].softmax(-1).max() > 0.99


@given(seed=seeds)
@few
def test_it_is_no_policy_gradient_of_the_layer_unless_the_ratio_is_to_the_behaviour(seed):
    pi, A, z = bandit(seed)
    leaf = z.clone().requires_grad_()
    [true] = torch.autograd.grad(leaf.softmax(-1) @ A, leaf)
    assert torch.allclose(population_gradient(z, pi, A, "behaviour"), true)
    assert (population_gradient(z, pi, A, "self") - true).abs().max() > 1e-6
    assert torch.allclose(population_gradient(pi.log(), pi, A, "behaviour"), population_gradient(pi.log(), pi, A, "self"))


def test_both_denominators_are_a_choice_of_old_log_probabilities():
    policy = TransformerPolicy(PROBLEM, layers=2, width=8, seed=2)
    batch = a_batch(policy, policy, seed=1)
    inner = a_batch(policy, LayerPolicy(policy, 0), seed=1)
    own = with_head(batch, inner.logp_BT, inner.logp_old_BT)
    assert torch.equal(own.logp_old_BT, inner.logp_old_BT)
    behaviour = with_head(batch, inner.logp_BT, inner.logp_old_BT, "behaviour")
    assert torch.equal(behaviour.logp_old_BT, batch.logp_old_BT)
    assert torch.equal(behaviour.logp_BT, inner.logp_BT)


@given(seed=seeds, scale=st.floats(1.1, 5))
@few
def test_entropies_lie_between_zero_and_log_v_ignore_constants_and_fall_as_the_stream_grows(seed, scale):
    streams, _, U = drawn(seed)
    plain = entropy(internal_log_policy(streams[1], U))
    assert (plain >= 0).all()
    assert (plain <= math.log(5) + 1e-12).all()
    logits = streams[1] @ U.T
    assert torch.allclose(entropy((logits + 7.0).log_softmax(-1)), plain)
    assert (entropy(internal_log_policy(scale * streams[1], U)) < plain).all()
    assert torch.allclose(
        entropy(internal_log_policy(streams[1], U, temperature=scale)), entropy((logits / scale).log_softmax(-1))
    )
    assert entropy(torch.zeros(1, 8).log_softmax(-1)).item() == pytest.approx(math.log(8))


def test_a_flow_tells_growth_from_convergence():
    U = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    streams = [start * 2**k for k in range(4)]  # the same word, ever louder
    writes = [(torch.zeros_like(start), streams[k + 1] - streams[k]) for k in range(3)]

    def norm(x):
        return x / x.square().mean(-1, keepdim=True).sqrt()

    flow = entropy_flow(streams, writes, U, norm)
    assert list(flow.stream) == sorted(flow.stream, reverse=True)
    assert flow.normed == pytest.approx([flow.normed[0]] * 4)
    assert flow.size == pytest.approx([flow.size[0] * 2**k for k in range(4)])
    assert len(flow.attention) == len(flow.mlp) == len(flow.before_mlp) == 3
    assert flow.attention == pytest.approx([math.log(6)] * 3)
    expected = [k for k in range(3) if flow.mlp[k] > flow.before_mlp[k]]
    assert last_exploring_layer(flow) == max(expected, default=0)


def test_the_head_and_its_old_log_probabilities_switch_together():
    policy = TransformerPolicy(PROBLEM, layers=2, width=8, seed=4)
    schedule = BottomUp(0, 3)
    heads = [schedule.head(policy, number) for number in range(5)]
    assert [isinstance(head, LayerPolicy) for head in heads] == [True] * 3 + [False] * 2
    assert heads[3] is policy
    for head in (heads[0], heads[3]):
        batch = a_batch(policy, head)
        ratio = bupo().ratio(torch.where(batch.mask_BT, batch.logp_BT, 0.0), batch).ratio_BT
        assert (ratio - 1).abs().max() < 1e-6
    mixed = with_head(a_batch(policy, policy), a_batch(policy, heads[0]).logp_BT, a_batch(policy, policy).logp_old_BT)
    ratio = bupo().ratio(torch.where(mixed.mask_BT, mixed.logp_BT, 0.0), mixed).ratio_BT
    assert (ratio - 1).abs().max() > 1e-3


@dataclass(frozen=True)
class Watched(Ratio):
    """The ratio of the published loss, which keeps what it was of tokens that learn."""

    seen: list = field(default_factory=list)

    def __call__(self, logp_BT, batch):
        found = super().__call__(logp_BT, batch)
        if logp_BT.requires_grad:
            self.seen.append(found.ratio_BT.detach()[batch.mask_BT])
        return found


@pytest.mark.parametrize("switch", [0, 3, 6])
def test_on_a_run_each_step_s_first_ratios_are_one_and_later_layers_wait_for_the_switch(switch):
    policy = TransformerPolicy(PROBLEM, layers=2, width=8, seed=4)
    schedule, watched, later = BottomUp(0, switch), Watched("token"), []

    def log(step, _):
        later.append([p.detach().clone() for p in (*policy.blocks[1].parameters(), policy.final_norm.gain)])

    recipe = Recipe(tokens=8 * 16 * 2, prompts=2, group=8, minibatches=2, rate=0.01)
    spec = replace(bupo(), ratio=watched)
    train(PROBLEM, policy, spec, recipe, 1, None, log, head=lambda step: schedule.head(policy, step.number))
    assert len(later) >= 8
    assert len(watched.seen) == 2 * len(later)
    for first in watched.seen[::2]:
        assert (first - 1).abs().max() < 1e-6
    assert max(float((second - 1).abs().max()) for second in watched.seen[1::2]) > 1e-3  # by then the policy has moved
    moved = [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in pairwise(later)]
    assert not any(moved[:switch])
    assert moved[switch]


def test_no_first_phase_is_grpo_bit_for_bit():
    found = []
    for head in (None, lambda step: BottomUp(0, 0).head(step.policy, step.number)):
        policy = TransformerPolicy(PROBLEM, layers=2, width=8, seed=5)
        train(PROBLEM, policy, bupo(), Recipe(tokens=200, prompts=2, group=4), 0, head=head)
        found.append(policy.log_policy())
    assert torch.equal(*found)
    spec = objective("grpo", beta=0.0, dual=10.0, aggregation=bupo().aggregation)
    batch = a_batch(policy, policy)
    assert torch.equal(plan(spec, batch).evaluate().weight_BT, plan(bupo(), batch).evaluate().weight_BT)


@pytest.mark.parametrize("left_out", [True, False])
def test_decay_moves_later_layers_unless_the_optimiser_leaves_them_out(left_out):
    policy = TransformerPolicy(PROBLEM, layers=3, width=8, seed=6)
    head = LayerPolicy(policy, 0)
    optimiser = torch.optim.AdamW(head.parameters() if left_out else policy.parameters(), lr=0.01, weight_decay=0.1)
    before = [p.detach().clone() for p in policy.blocks[2].parameters()]
    for p in policy.parameters():  # as a framework that fills gradients with zeros does
        p.grad = torch.zeros_like(p)
    evaluate(bupo(), a_batch(policy, head)).loss.backward()
    optimiser.step()
    moved = any(not torch.equal(a, b) for a, b in zip(before, policy.blocks[2].parameters(), strict=True))
    assert moved != left_out
    assert any(p is policy.unembedding.weight for p in head.parameters())
    assert not any(p is policy.final_norm.gain for p in head.parameters())
    assert any(p is policy.final_norm.gain for p in LayerPolicy(policy, 0, normed=True).parameters())


def test_settings_that_are_none_are_refused():
    policy = TransformerPolicy(PROBLEM, layers=2, width=8)
    for layer in (-1, 2):
        with pytest.raises(SpecError, match=rf"layer={layer}; the model has layers 0 to 1"):
            LayerPolicy(policy, layer)
    with pytest.raises(SpecError, match="switch=-1"):
        BottomUp(0, -1)
    with pytest.raises(SpecError, match="temperature=0"):
        internal_log_policy(torch.zeros(1, 2), torch.zeros(3, 2), temperature=0.0)
    assert isinstance(policy, nn.Module)


def test_where_later_writes_are_added_the_first_phases_field_is_the_final_policys_gradient_and_comes_to_rest():
    """z = z_l + d: pi A is dJ/dz_l exactly; followed with a sampler that moves along, it ends at the best answer."""
    rng = np.random.default_rng(5)
    reward, d = torch.tensor([1.0, 0.2, 0.0, 0.5], dtype=torch.float64), torch.tensor(rng.normal(size=4))
    z = torch.tensor(rng.normal(size=4), requires_grad=True)
    for step in range(3000):
        policy = (z + d).softmax(0)
        mean = policy @ reward
        (slope,) = torch.autograd.grad(mean, z)
        field = (policy * (reward - mean)).detach()
        if step % 500 == 0:
            torch.testing.assert_close(slope, field, rtol=0, atol=1e-15)
        z = (z + 4.0 * field).detach().requires_grad_()
    assert float(mean.detach()) > 0.999
    assert float(field.abs().max()) < 1e-3


def test_the_behaviour_in_the_ratio_is_enough_for_one_token_without_a_clip_and_for_no_more():
    """Against the enumerated gradient of the head's expected reward, the head and the sampler drawn apart."""
    bandit = TokenProblem.bandit(np.array([[0.0, 1.0, 0.4, 0.2]]))
    texts = TokenProblem.build(2, 2, 1, lambda _, t: {(0, 0): 1.0, (1, 1): 0.5, (0, 1): 0.2}.get(t, 0.0))
    turned = {}
    for seed, (name, problem) in itertools.product(range(4), (("bandit", bandit), ("texts", texts))):
        rng = np.random.default_rng(seed)
        head, final = (1.5 * rng.normal(size=(problem.n_nodes, problem.vocabulary_size)) for _ in range(2))
        exact = token_policy.expected_reward_gradient(problem, head)

        whole = objective("reinforce", surrogate=ImportanceWeighted(), ratio=Ratio("sequence"))
        assert expected_gradient(whole, problem, head, final) == pytest.approx(exact, abs=1e-12)
        for clip, surrogate in ((False, ImportanceWeighted()), (True, ClippedRatio(0.2, 0.2, 10.0))):
            got = expected_gradient(objective("reinforce", surrogate=surrogate, ratio=Ratio("token")), problem, head, final)
            cosine = float((got * exact).sum() / (np.linalg.norm(got) * np.linalg.norm(exact)))
            turned[name, clip] = min(turned.get((name, clip), 1.0), cosine)
    assert turned["bandit", False] == pytest.approx(1.0, abs=1e-12)
    assert turned["texts", False] < 0.98
    assert turned["bandit", True] < 0.9
    assert turned["texts", True] < 0.98


def test_the_kept_runs_of_first_phases_are_worse_as_often_as_the_entry_says():
    kept = BUPO.results()
    plain = np.array(kept.numbers["GRPO"]["reward"])
    assert sorted(plain)[0] == pytest.approx(0.28, abs=0.005)
    assert np.median(plain) == pytest.approx(0.79, abs=0.005)
    for method, row in kept.numbers.items():
        if method != "GRPO":
            reward = np.array(row["reward"])
            assert 0.705 < np.median(reward) < 0.795
            assert 3 <= int((reward < plain - 1e-3).sum()) <= 5
            assert 1 <= int((reward > plain + 1e-3).sum()) <= 3

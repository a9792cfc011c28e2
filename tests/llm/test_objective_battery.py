"""What every registered objective satisfies. A new one is tested by being registered, and so are its variants."""

import dataclasses
import functools
import math
import random

import pytest
import torch
from banach.llm.catalogue import OBJECTIVES, objective
from banach.llm.critic import GeneralisedAdvantage
from banach.llm.errors import BatchError
from banach.llm.objective import as_loss, evaluate
from banach.llm.plan import plan
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import REAL, batches, random_batch, rebuilt, tensors
from .objective_witness import Witness

RELATIVE = ("group-mean", "leave-one-out")
POINTS = [
    pytest.param(entry, objective(name, **{**entry.example, **more}), id=f"{name} {variant}".strip())
    for name, entry in OBJECTIVES.items()
    for variant, more in {"": {}, **entry.variants}.items()
]
every_objective = pytest.mark.parametrize(("entry", "spec"), POINTS)
compared_in_groups = pytest.mark.parametrize(
    ("entry", "spec"), [point for point in POINTS if getattr(point.values[1].advantage, "baseline", None) in RELATIVE]
)
with_a_law_of_scale = pytest.mark.parametrize(
    ("entry", "spec"), [point for point in POINTS if point.values[0].reward_degree is not None]
)
with_a_law_of_shift = pytest.mark.parametrize(
    ("entry", "spec"), [point for point in POINTS if point.values[0].shift_invariant is not None]
)
battery = settings(max_examples=10, deadline=None)
slow_battery = settings(max_examples=5, deadline=None)

WEIGHTS = {"weight_BT": "logp_BT", "weight_BTV": "log_policy_BTV", "weight_entropy_BT": "entropy_BT"}


def gradients(batch, loss):
    """Of minus the loss, by autograd, for each tensor that carries a gradient."""
    found = {}
    for name in ("logp_BT", "log_policy_BTV", "entropy_BT", "value_BT"):
        slope = torch.autograd.grad(loss, getattr(batch, name), retain_graph=True, allow_unused=True)[0]
        found[name] = torch.zeros_like(getattr(batch, name)) if slope is None else -slope
    return found


def close(a, b, tolerance=1e-12):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def policy_term(spec):
    """The spec without what does not depend on advantages."""
    return dataclasses.replace(spec, divergence=None, entropy=0.0, rewards=())


@every_objective
@given(batch=batches())
@battery
def test_autograd_equals_the_score_weights(entry, spec, batch):
    found = evaluate(spec, batch)
    slopes = gradients(batch, found.loss)
    for weight, name in WEIGHTS.items():
        expected = getattr(found, weight)
        assert close(slopes[name], torch.zeros_like(slopes[name]) if expected is None else expected)
    assert not slopes["value_BT"].any()
    if found.value_loss is not None:
        assert close(gradients(batch, found.value_loss)["value_BT"], found.weight_value_BT)


@every_objective
@given(batch=batches())
@battery
def test_the_loss_agrees_with_the_textbook(entry, spec, batch):
    found, witness = evaluate(spec, batch), Witness(spec, batch)
    assert close(found.loss.detach(), witness.loss(batch.logp_BT.tolist()), 1e-11)
    if found.value_loss is not None:
        assert close(found.value_loss.detach(), witness.value_loss(), 1e-11)


@every_objective
@given(batch=batches(horizon=3, size=2))
@slow_battery
def test_the_score_weights_agree_with_finite_differences_of_the_textbook(entry, spec, batch):
    assert close(evaluate(spec, batch).weight_BT, Witness(spec, batch).gradient(), 1e-8)


@every_objective
@given(batch=batches(), seed=st.integers(0, 10**6))
@battery
def test_microbatches_and_shards_sum_to_the_batch(entry, spec, batch, seed):
    rng = random.Random(seed)
    whole, planned = evaluate(spec, batch), plan(spec, batch)
    parts = rng.randint(1, len(batch.reward_B))
    shard = torch.tensor([rng.randrange(parts) for _ in batch.reward_B])
    found = [planned.select((shard == k).nonzero()[:, 0]).evaluate() for k in range(parts)]
    loss = torch.stack([part.loss for part in found]).sum()
    assert close(loss.detach(), whole.loss.detach())
    assert close(gradients(batch, loss)["logp_BT"], whole.weight_BT)
    for k in range(parts):
        assert torch.equal(found[k].weight_BT, whole.weight_BT[shard == k])
    if whole.value_loss is not None:
        assert close(torch.stack([part.value_loss for part in found]).sum().detach(), whole.value_loss.detach())


@every_objective
@given(batch=batches())
@battery
def test_a_plan_made_before_the_update_serves_fresh_log_probabilities(entry, spec, batch):
    stale = rebuilt(batch, logp_BT=batch.logp_old_BT)
    planned = plan(spec, stale)
    rows = slice(0, 1), slice(1, None)
    found = [planned.select(r).evaluate(batch.logp_BT[r]).weight_BT for r in rows]
    assert torch.equal(torch.cat(found), evaluate(spec, batch).weight_BT)


@every_objective
@given(batch=batches(), columns=st.integers(0, 3), rows=st.integers(0, 2), left=st.booleans())
@battery
def test_padding_of_any_content_changes_nothing(entry, spec, batch, columns, rows, left):
    B, T = batch.mask_BT.shape
    padded = {}
    for name, x in tensors(batch).items():
        garbage = float("nan") if x.is_floating_point() else 5 if x.dtype == torch.int64 else 0
        if name == "step_reward_BT":
            garbage = 0.0
        shape = [B + rows, *([T + columns] if x.ndim > 1 else []), *x.shape[2:]]
        wide = torch.full(shape, garbage, dtype=x.dtype)
        start = columns if left else 0
        wide[(slice(0, B), slice(start, start + T)) if x.ndim > 1 else slice(0, B)] = x
        padded[name] = wide
    wide, narrow = evaluate(spec, rebuilt(batch, **padded)), evaluate(spec, batch)
    start = columns if left else 0
    assert close(wide.loss.detach(), narrow.loss.detach())
    assert close(wide.weight_BT[:B, start : start + T], narrow.weight_BT)
    assert wide.weight_BT.count_nonzero() == narrow.weight_BT.count_nonzero()
    assert {k: v for k, v in wide.diagnostics.items() if "tokens" in k or k in ("sequences", "groups")} == {
        k: v for k, v in narrow.diagnostics.items() if "tokens" in k or k in ("sequences", "groups")
    }


@every_objective
@given(batch=batches(), seed=st.integers(0, 10**6))
@battery
def test_the_order_of_sequences_within_and_across_groups_does_not_matter(entry, spec, batch, seed):
    order = torch.randperm(len(batch.reward_B), generator=torch.Generator().manual_seed(seed))
    shuffled = rebuilt(batch, **{name: x[order] for name, x in tensors(batch).items()})
    before, after = evaluate(spec, batch), evaluate(spec, shuffled)
    assert close(after.loss.detach(), before.loss.detach())
    assert close(after.weight_BT, before.weight_BT[order])


@every_objective
@given(batch=batches())
@battery
def test_the_name_of_a_group_does_not_matter(entry, spec, batch):
    renamed = rebuilt(batch, group_B=1000 - 3 * batch.group_B)
    assert torch.equal(evaluate(spec, renamed).weight_BT, evaluate(spec, batch).weight_BT)


@every_objective
@given(batch=batches())
@battery
def test_masked_tokens_have_exactly_no_gradient_whatever_stands_there(entry, spec, batch):
    dirty = {name: x for name, x in tensors(batch).items() if x.is_floating_point() and x.ndim > 1}
    for name, x in dirty.items():
        if name != "step_reward_BT":
            x[~batch.mask_BT] = float("nan")
    found = rebuilt(batch, **dirty)
    result = evaluate(spec, found)
    slopes = gradients(found, result.loss)
    for name, slope in slopes.items():
        assert not slope[~batch.mask_BT].any(), name
    assert not result.weight_BT[~batch.mask_BT].any()
    assert close(slopes["logp_BT"], evaluate(spec, batch).weight_BT)


@compared_in_groups
@given(batch=batches(), number=st.sampled_from([0.1, 1 / 3, 0.7, 1e-8, 12345.6]), precision=st.sampled_from(["32", "64"]))
@battery
def test_groups_without_spread_have_exactly_no_policy_gradient(entry, spec, batch, number, precision):
    dtype = torch.float32 if precision == "32" else torch.float64
    first = batch.group_B == batch.group_B[0]
    reward = batch.reward_B.to(dtype).clone()
    reward[first] = torch.tensor(number, dtype=dtype)
    reward[first.nonzero()[0]] = torch.nextafter(torch.tensor(number, dtype=dtype), torch.tensor(torch.inf, dtype=dtype))
    found = evaluate(policy_term(spec), rebuilt(batch, reward_B=reward))
    assert not found.weight_BT[first].any()
    assert found.diagnostics["zero_variance_share"] > 0


@with_a_law_of_scale
@given(batch=batches(drift=0.3, rewards=REAL), scale=st.sampled_from([1e-3, 0.5, 8.0, 1e4]))
@battery
def test_rewards_are_scaled_as_the_catalogue_says(entry, spec, batch, scale):
    spec = policy_term(spec)
    names = ["reward_B", "step_reward_BT"]
    if isinstance(spec.advantage, GeneralisedAdvantage):
        names += ["value_BT", "value_old_BT", "value_end_B"]
    scaled = rebuilt(batch, **{name: scale * getattr(batch, name) for name in names})
    expected = scale**entry.reward_degree * evaluate(spec, batch).weight_BT
    assert close(evaluate(spec, scaled).weight_BT / scale**entry.reward_degree, expected / scale**entry.reward_degree, 1e-9)


@with_a_law_of_shift
@given(batch=batches(drift=0.3, rewards=REAL))
@battery
def test_rewards_are_shifted_as_the_catalogue_says(entry, spec, batch):
    spec = policy_term(spec)
    before = evaluate(spec, batch).weight_BT
    after = evaluate(spec, rebuilt(batch, reward_B=batch.reward_B + 3.0)).weight_BT
    assert close(before, after, 1e-9) == entry.shift_invariant


@every_objective
@given(batch=batches(drift=0.0))
@battery
def test_on_the_policy_every_ratio_level_is_the_score_function_with_its_advantages(entry, spec, batch):
    spec = dataclasses.replace(policy_term(spec), behaviour=None)
    planned = plan(spec, rebuilt(batch, logp_BT=batch.logp_old_BT))
    assert close(planned.evaluate().weight_BT, planned.coefficient_BT * planned.advantage_BT)


@every_objective
@given(batch=batches())
@battery
def test_a_sampler_that_agrees_with_the_old_policy_is_not_corrected(entry, spec, batch):
    agreed = rebuilt(batch, logp_sampler_BT=batch.logp_old_BT)
    plain = dataclasses.replace(spec, behaviour=None)
    assert close(evaluate(spec, agreed).weight_BT, evaluate(plain, agreed).weight_BT)


@every_objective
@given(seed=st.integers(0, 10**6), drift=st.sampled_from([0.0, 0.3]))
@battery
def test_single_precision_agrees_with_double(entry, spec, seed, drift):
    double = random_batch(seed, drift=drift)
    halves = {n: x.float() for n, x in tensors(double).items() if x.is_floating_point()}
    single = evaluate(spec, rebuilt(double, **halves))
    assert single.weight_BT.dtype == torch.float32
    assert close(
        single.weight_BT.double(), evaluate(spec, rebuilt(double, **{n: x.double() for n, x in halves.items()})).weight_BT, 1e-4
    )


@every_objective
def test_half_precision_is_evaluated_in_single(entry, spec):
    batch = random_batch(3)
    floats = {n: x for n, x in tensors(batch).items() if x.is_floating_point()}
    half = rebuilt(batch, **{n: x.float() if n.endswith("BTV") else x.bfloat16() for n, x in floats.items()})
    found = evaluate(spec, half)
    assert found.loss.dtype == torch.float32
    assert torch.isfinite(gradients(half, found.loss)["logp_BT"]).all()


@every_objective
def test_a_batch_of_nothing_but_padding_has_no_loss_and_no_gradient(entry, spec):
    batch = random_batch(1)
    empty = rebuilt(batch, mask_BT=torch.zeros_like(batch.mask_BT))
    found = evaluate(spec, empty)
    assert found.loss == 0
    assert not gradients(empty, found.loss)["logp_BT"].any()
    assert all(math.isfinite(value) for value in found.diagnostics.values())


@every_objective
def test_evaluation_repeats_bit_for_bit_and_leaves_the_batch_alone(entry, spec):
    batch = random_batch(2)
    before = tensors(batch)
    first, second = evaluate(spec, batch), evaluate(spec, batch)
    assert torch.equal(first.weight_BT, second.weight_BT)
    assert first.loss == second.loss
    assert all(torch.equal(before[name], x) for name, x in tensors(batch).items())
    assert not first.weight_BT.requires_grad


@every_objective
def test_what_the_objective_reads_is_what_it_says_it_needs(entry, spec):
    batch = random_batch(4)
    obligatory = ("logp_BT", "logp_old_BT", "mask_BT", "reward_B", "group_B")
    least = {name: None for name in tensors(batch) if name not in obligatory and name not in spec.needs}
    found = evaluate(spec, rebuilt(batch, **least))
    assert torch.isfinite(found.weight_BT).all()
    for name in spec.needs:
        with pytest.raises(BatchError, match=name):
            evaluate(spec, rebuilt(batch, **{name: None}))


def _whatever_the_mask(tensor, mask_BT):
    return tensor


@every_objective
def test_the_plain_function_is_the_loss(entry, spec):
    batch = random_batch(5)
    extra = {name: getattr(batch, name) for name in spec.needs if name != "logp_ref_BT"}
    plain = rebuilt(batch, **{name: None for name in tensors(batch) if name.startswith(("step", "value_old", "value_end"))})
    plain = rebuilt(plain, **{name: x.detach() for name, x in extra.items()})
    loss = as_loss(spec, **{name: functools.partial(_whatever_the_mask, getattr(plain, name)) for name in extra})
    given = (plain.logp_BT, plain.logp_old_BT, plain.logp_ref_BT, plain.mask_BT, plain.reward_B, plain.group_B)
    assert loss(*given) == evaluate(spec, plain).loss


@every_objective
def test_an_objective_is_a_frozen_value(entry, spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "another"
    assert dataclasses.replace(spec) == spec
    assert hash(dataclasses.replace(spec)) == hash(spec)

"""One battery that every preference objective passes by standing in the catalogue."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from banach.llm.pair_batch import PairBatch, Sequences, SingleBatch
from banach.llm.preference_catalogue import PREFERENCES, preference
from banach.llm.preference_kernel import as_preference_loss, evaluate_preference, per_token
from banach.llm.preference_plan import plan_preference
from hypothesis import given, settings
from hypothesis import strategies as st

from . import preference_witness as witness
from .preference_witness import random_pairs

SETTINGS: dict[str, list[dict]] = {
    "dpo": [{"temperature": 0.1, "normalised": False}, {"temperature": 1.5, "normalised": True}],
    "cdpo": [{"temperature": 0.7, "noise": 0.0}, {"temperature": 0.3, "noise": 0.2}],
    "robust_dpo": [{"temperature": 0.3, "noise": 0.2}],
    "ipo": [{"temperature": 0.1}],
    "ipo_token_mean": [{"temperature": 0.4}],
    "hinge": [{"temperature": 0.3}],
    "slic": [
        {"width": 1.0, "regulariser": 0.1, "normalised": False},
        {"width": 2.0, "regulariser": 0.3, "normalised": True},
    ],
    "slic_smoothed": [{"width": 1.0, "regulariser": 0.2}],
    "exo": [{"temperature": 0.5, "noise": 0.05}],
    "nca": [{"temperature": 0.3}],
    "apo_zero": [{"temperature": 0.3}],
    "kto": [
        {"temperature": 0.3, "desirable": 1.0, "undesirable": 1.0, "centre": centre}
        for centre in ("zero", "batch", "mismatched")
    ]
    + [{"temperature": 1.0, "desirable": 1.3, "undesirable": 0.0, "centre": "batch"}],
    "simpo": [{"scale": 2.0, "margin": 1.0, "noise": 0.0}, {"scale": 0.5, "margin": 0.3, "noise": 0.1}],
    "cpo": [{"scale": 0.2, "sft": 1.0, "noise": 0.1, "average": average} for average in ("pairs", "tokens")],
    "orpo": [
        {"weight": 0.1, "normalised": True, "average": "pairs"},
        {"weight": 2.0, "normalised": True, "average": "tokens"},
        {"weight": 0.5, "normalised": False, "average": "pairs"},
    ],
    "rpo": [{"temperature": 0.5, "sft": 0.3}],
    "bradley_terry": [{}],
    "copg": [{"temperature": 0.4}],
    "rebel": [{"rate": 0.7}],
    "sppo": [{"rate": 3.0}],
    "sppo_hard": [{"rate": 3.0}],
    "online_dpo": [{"temperature": 0.4}],
    "online_ipo": [{"temperature": 0.4}],
    "inpo": [{"inverse_step": 0.4, "temperature": 0.1}, {"inverse_step": 0.4, "temperature": 0.0}],
    "nash_md": [{"temperature": 0.2}],
}


def is_contrast_of_sums(name: str, choice: dict) -> bool:
    spec = preference(name, **choice)
    return spec.contrastive and not any(term.score.normalised for term in spec.terms)


CASES = [pytest.param(name, choice, id=f"{name}{list(choice.values())}") for name, many in SETTINGS.items() for choice in many]
every_objective = pytest.mark.parametrize(("name", "choice"), CASES)
# where the sides are the policy and its opponent, as in Nash-MD, they cannot change places
of_one_owner = pytest.mark.parametrize(
    ("name", "choice"), [case for case in CASES if preference(case.values[0]).pairs != "mixture"]
)
contrasts_of_sums = pytest.mark.parametrize(("name", "choice"), [case for case in CASES if is_contrast_of_sums(*case.values)])
battery = settings(deadline=None, max_examples=6, derandomize=True)
batches = st.builds(
    random_pairs,
    seed=st.integers(0, 10_000),
    n_pairs=st.integers(1, 6),
    spread=st.sampled_from([0.01, 1.0, 4.0]),
    soft=st.booleans(),
    weighted=st.booleans(),
)


def close(found, expected, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=rtol, atol=atol, check_dtype=False)


def gradient(evaluation, batch: PairBatch) -> list[torch.Tensor]:
    """Minus the gradient of the loss by each log-probability, by autograd."""
    leaves = [side.logp_B for side in batch.sides]
    found = torch.autograd.grad(evaluation.loss, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if value is None else -value for leaf, value in zip(leaves, found, strict=True)]


def swapped(batch: PairBatch) -> PairBatch:
    return dataclasses.replace(batch, chosen=batch.rejected, rejected=batch.chosen, label_B=1 - batch.verdicts[0])


def test_every_objective_of_the_catalogue_is_in_the_battery():
    assert set(SETTINGS) == set(PREFERENCES)
    assert set(witness.LOSS) | {"nash_md"} == set(PREFERENCES)


@every_objective
@given(batch=batches)
@battery
def test_autograd_of_the_loss_is_the_score_weight(name, choice, batch):
    evaluation = evaluate_preference(preference(name, **choice), batch)
    chosen, rejected = gradient(evaluation, batch)
    close(evaluation.weight_chosen_B, chosen)
    close(evaluation.weight_rejected_B, rejected)


@every_objective
@given(batch=batches)
@battery
def test_loss_and_weights_are_those_of_the_table(name, choice, batch):
    evaluation, x = evaluate_preference(preference(name, **choice), batch), witness.read(batch)
    if name != "nash_md":
        close(evaluation.loss.detach(), witness.loss(name, choice, x).real, rtol=1e-9)
    chosen, rejected = witness.score_weights(name, choice, x)
    close(evaluation.weight_chosen_B, chosen, rtol=1e-9, atol=1e-11)
    close(evaluation.weight_rejected_B, rejected, rtol=1e-9, atol=1e-11)


@every_objective
@given(batch=batches, cut=st.integers(0, 6), shuffle=st.randoms(use_true_random=False))
@battery
def test_microbatches_of_a_plan_add_up_to_the_whole_however_it_is_cut(name, choice, batch, cut, shuffle):
    spec = preference(name, **choice)
    whole, plan = evaluate_preference(spec, batch), plan_preference(spec, batch)
    rows = list(range(len(plan.share_B)))
    shuffle.shuffle(rows)
    parts = [torch.tensor(part) for part in (rows[:cut], rows[cut:]) if part]
    pieces = [evaluate_preference(spec, batch.rows(part), plan.rows(part)) for part in parts]
    close(sum(piece.loss for piece in pieces), whole.loss)
    order = torch.cat(parts)
    close(torch.cat([piece.weight_chosen_B for piece in pieces]), whole.weight_chosen_B[order])
    close(torch.cat([piece.weight_rejected_B for piece in pieces]), whole.weight_rejected_B[order])
    for key in set(whole.diagnostics) - {"centre"}:
        close(sum(piece.diagnostics[key] for piece in pieces), whole.diagnostics[key])


@every_objective
@given(batch=batches, shuffle=st.randoms(use_true_random=False))
@battery
def test_the_order_of_pairs_does_not_matter(name, choice, batch, shuffle):
    spec, rows = preference(name, **choice), list(range(len(batch.chosen.logp_B)))
    shuffle.shuffle(rows)
    order = torch.tensor(rows)
    whole, other = evaluate_preference(spec, batch), evaluate_preference(spec, batch.rows(order))
    close(other.loss, whole.loss)
    close(other.weight_chosen_B, whole.weight_chosen_B[order])


@of_one_owner
@given(batch=batches)
@battery
def test_swapping_the_sides_with_the_label_changes_nothing(name, choice, batch):
    spec = preference(name, **choice)
    straight, crossed = evaluate_preference(spec, batch), evaluate_preference(spec, swapped(batch))
    close(crossed.loss, straight.loss)
    close(crossed.weight_chosen_B, straight.weight_rejected_B)
    close(crossed.weight_rejected_B, straight.weight_chosen_B)
    close(crossed.diagnostics["accuracy"], straight.diagnostics["accuracy"])
    close(crossed.diagnostics["margin"], straight.diagnostics["margin"])


@every_objective
@given(seed=st.integers(0, 1000), factor=st.sampled_from([1e-6, 0.3, 7.0]))
@battery
def test_a_pair_of_weight_two_is_the_pair_twice_and_the_unit_of_weights_is_free(name, choice, seed, factor):
    spec, batch = preference(name, **choice), random_pairs(seed, n_pairs=3)
    twice = evaluate_preference(spec, dataclasses.replace(batch.rows(torch.tensor([0, 1, 2, 2])), weight_B=None))
    heavy = dataclasses.replace(batch, weight_B=factor * torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))
    once = evaluate_preference(spec, heavy)
    close(once.loss, twice.loss)
    close(once.weight_chosen_B[:2], twice.weight_chosen_B[:2])
    close(once.weight_chosen_B[2], twice.weight_chosen_B[2:].sum())


@every_objective
@given(seed=st.integers(0, 1000))
@battery
def test_single_precision_agrees_with_double(name, choice, seed):
    spec = preference(name, **choice)
    double = random_pairs(seed)
    single = evaluate_preference(spec, random_pairs(seed, dtype=torch.float32))
    whole = evaluate_preference(spec, double)
    assert single.loss.dtype == single.weight_chosen_B.dtype == torch.float32
    # the constants of a squared loss reach 1/(2 tau)^2, of which float32 keeps seven digits
    close(single.loss, whole.loss, rtol=2e-5, atol=1e-5)
    close(single.weight_chosen_B, whole.weight_chosen_B, rtol=2e-5, atol=1e-5)
    close(single.weight_rejected_B, whole.weight_rejected_B, rtol=2e-5, atol=1e-5)


@every_objective
def test_half_precision_is_widened_before_anything_is_subtracted(name, choice):
    spec, batch = preference(name, **choice), random_pairs(3, dtype=torch.bfloat16)
    found = evaluate_preference(spec, batch)
    wide = [
        Sequences(**{name: x.float() if x.is_floating_point() else x for name, x in vars(side).items()}) for side in batch.sides
    ]
    others = {name: getattr(batch, name).float() for name in ("label_B", "weight_B", "log_ratio_mismatched_M")}
    expected = evaluate_preference(spec, PairBatch(*wide, **others))
    assert found.loss.dtype == torch.float32
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.weight_chosen_B, expected.weight_chosen_B)


@every_objective
def test_gradient_reaches_the_policy_alone(name, choice):
    sides = []
    leaves = []
    for side in random_pairs(5).sides:
        rows = {
            field: getattr(side, field).clone().requires_grad_()
            for field in ("ref_B", "previous_B", "win_B", "reward_B", "length_B")
        }
        leaves += rows.values()
        sides.append(Sequences(side.logp_B, **rows))
    apart = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
    evaluation = evaluate_preference(
        preference(name, **choice), PairBatch(*sides, log_ratio_mismatched_M=apart, label_B=None, weight_B=None)
    )
    assert all(found is None for found in torch.autograd.grad(evaluation.loss, [*leaves, apart], allow_unused=True))
    assert not evaluation.weight_chosen_B.requires_grad
    assert all(isinstance(value, float) for value in evaluation.diagnostics.values())


@every_objective
@given(seed=st.integers(0, 1000))
@battery
def test_every_token_of_a_sequence_carries_its_weight_and_padding_none(name, choice, seed):
    rows = random_pairs(seed, soft=False)
    rng, spec = np.random.default_rng(seed), preference(name, **choice)
    leaves, sides = [], []
    for side in rows.sides:
        mask = side.mask_BT
        tokens = [torch.tensor(np.where(mask, -0.05 - rng.random(mask.shape), np.nan)) for _ in range(3)]
        leaves.append(tokens[0].requires_grad_())
        sides.append(Sequences.from_tokens(tokens[0], mask, tokens[1], tokens[2], win_B=side.win_B, reward_B=side.reward_B))
    batch = PairBatch(*sides, log_ratio_mismatched_M=rows.log_ratio_mismatched_M)
    evaluation = evaluate_preference(spec, batch)
    found = torch.autograd.grad(evaluation.loss, leaves, allow_unused=True)
    for side, weight_B, by_token in zip(sides, (evaluation.weight_chosen_B, evaluation.weight_rejected_B), found, strict=True):
        expected = torch.zeros_like(side.mask_BT, dtype=torch.float64) if by_token is None else -by_token
        close(per_token(weight_B, side.mask_BT), expected)


@every_objective
def test_the_bare_loss_is_the_kernel_with_one_reference_or_says_what_it_lacks(name, choice):
    spec, batch = preference(name, **choice), random_pairs(8, soft=False, weighted=False)
    c, r = batch.sides
    arguments = (c.logp_B, r.logp_B, c.ref_B, r.ref_B, c.length_B, r.length_B)
    if spec.uses & {"win", "reward", "mismatched"}:
        with pytest.raises(ValueError, match=r"use a PairBatch"):
            as_preference_loss(spec)
        return
    same = [dataclasses.replace(side, previous_B=side.ref_B) for side in batch.sides]
    close(as_preference_loss(spec)(*arguments), evaluate_preference(spec, PairBatch(*same)).loss)


@pytest.mark.parametrize("name", ["kto", "apo_zero", "nca", "sppo"])
@given(seed=st.integers(0, 1000), soft=st.booleans())
@battery
def test_pairs_are_single_sequences_to_an_objective_that_judges_each_alone(name, seed, soft):
    spec, batch = preference(name), random_pairs(seed, soft=soft)
    fields = [field.name for field in dataclasses.fields(Sequences) if field.name != "mask_BT"]
    alone = Sequences(**{field: torch.cat([getattr(side, field) for side in batch.sides]) for field in fields})
    single = SingleBatch(alone, torch.cat(batch.verdicts), batch.weight_B.repeat(2), batch.log_ratio_mismatched_M)
    whole, found = evaluate_preference(spec, batch), evaluate_preference(spec, single)
    # a mean over pairs adds the two sides, a mean over sequences halves them
    factor = 1 if name == "kto" else 2
    close(factor * found.loss, whole.loss)
    close(factor * found.weight_chosen_B, torch.cat([whole.weight_chosen_B, whole.weight_rejected_B]))
    assert found.weight_rejected_B is None


@contrasts_of_sums
@given(seed=st.integers(0, 1000), moved=st.floats(0.05, 0.95))
@battery
def test_a_contrast_of_sums_is_blind_to_mass_moved_to_responses_never_compared(name, choice, seed, moved):
    """Moving mass t off the compared responses scales each of their probabilities by 1 - t: all margins stay (2410.11676)."""
    spec, batch = preference(name, **choice), random_pairs(seed)
    shift = float(np.log1p(-moved))
    thinner = PairBatch(
        *(dataclasses.replace(side, logp_B=side.logp_B + shift) for side in batch.sides), batch.label_B, batch.weight_B
    )
    before, after = evaluate_preference(spec, batch), evaluate_preference(spec, thinner)
    close(after.loss, before.loss, rtol=1e-9)
    close(after.weight_chosen_B, before.weight_chosen_B, rtol=1e-9)
    close(before.diagnostics["net_weight"], 0.0)


@pytest.mark.parametrize("name", ["rpo", "slic", "slic_smoothed", "cpo", "orpo"])
def test_an_anchor_makes_mass_moved_off_the_chosen_sequences_costly(name):
    spec, batch = preference(name), random_pairs(4, soft=False)
    # one shift for every length, so that token means keep their margins too
    batch = dataclasses.replace(
        batch,
        **{
            k: dataclasses.replace(getattr(batch, k), length_B=None, mask_BT=torch.ones(5, 1).bool())
            for k in ("chosen", "rejected")
        },
    )
    losses = [
        evaluate_preference(
            spec,
            PairBatch(*(dataclasses.replace(side, logp_B=side.logp_B - shift) for side in batch.sides), None, batch.weight_B),
        ).loss
        for shift in (0.0, 0.5, 1.0, 2.0)
    ]
    assert all(later > earlier for earlier, later in itertools.pairwise(losses))

"""Every entry of the catalogue of systems: its reductions executed, its names, its numbers."""

import dataclasses
import re

import pytest
import torch
from banach import llm, solvers
from banach.bounds import statements
from banach.llm.catalogue import OBJECTIVES
from banach.llm.errors import BatchError, SpecError
from banach.llm.objective import evaluate
from banach.llm.pair_batch import PairBatch, Sequences
from banach.llm.preference_catalogue import PREFERENCES
from banach.llm.preference_kernel import evaluate_preference
from banach.llm.preference_spec import PreferenceSpec
from banach.llm.systems import SYSTEMS, Reduction, system
from banach.llm.systems.system import CONDITIONS, add
from hypothesis import given, settings
from hypothesis import strategies as st

from .objective_batches import BINARY, REAL, random_batch, rebuilt

REDUCTIONS = [
    pytest.param(reduction, id=f"{name}: {reduction.at}, {reduction.to}")
    for name, entry in SYSTEMS.items()
    for reduction in entry.reductions
]
every_system = pytest.mark.parametrize("entry", SYSTEMS.values(), ids=SYSTEMS)


def batch_under(conditions, seed):
    """A batch that meets these conditions, and no more than these."""
    fixed = {"rewards": BINARY if "binary rewards" in conditions else REAL, "drift": 0.3, "groups": 2, "size": 3}
    if "one group" in conditions:
        fixed["groups"] = 1
    if "one token" in conditions:
        fixed |= {"horizon": 1, "edges": False}
    batch = random_batch(seed, **fixed)
    changes = {}
    if "equal lengths" in conditions:
        mask = torch.zeros_like(batch.mask_BT)
        mask[:, 1:3] = True
        changes["mask_BT"] = mask
    if "on the policy" in conditions:
        changes["logp_BT"] = batch.logp_old_BT
    if "one turn" in conditions:
        changes["turn_BT"] = torch.zeros_like(batch.turn_BT)
    if "whole windows" in conditions:
        changes |= {"fresh_BT": torch.ones_like(batch.fresh_BT), "truncated_B": torch.zeros_like(batch.truncated_B)}
    if "no call" in conditions:
        changes["first_call_B"] = torch.full_like(batch.first_call_B, -1)
    if "last rounds" in conditions:
        changes["rounds_left_B"] = torch.zeros_like(batch.rounds_left_B)
    if "cheapest mode" in conditions:
        changes["mode_B"] = torch.zeros_like(batch.mode_B)
    if "singleton bundles" in conditions:
        changes["bundle_B"] = torch.arange(len(batch.bundle_B))
    return rebuilt(batch, **changes)


def pairs_under(conditions, seed):
    """Pairs with all that an objective may look at, soft labels and unlike lengths, which meet these conditions."""
    generator = torch.Generator().manual_seed(seed)

    def rows(low=0.0, high=1.0):
        return low + (high - low) * torch.rand(6, generator=generator, dtype=torch.float64)

    def side():
        ref = rows(-6.0, -1.0)
        previous = ref if "first iterate" in conditions else rows(-6.0, -1.0)
        return Sequences(rows(-6.0, -1.0), torch.ceil(rows(0.5, 5.0)), ref, previous, rows(), rows(-2.0, 2.0))

    chosen, rejected, label = side(), side(), rows()
    if "rewards a half apart" in conditions:
        rejected = dataclasses.replace(rejected, reward_B=chosen.reward_B - 0.5)
    return PairBatch(chosen, rejected, torch.ones_like(label) if "hard labels" in conditions else label, rows(0.1))


def both_weights(reduction, conditions, seed):
    """Score weights of the two specs on one batch that meets these conditions, each in one row."""
    if isinstance(reduction.ours, PreferenceSpec):
        pairs = pairs_under(conditions, seed)
        found = [evaluate_preference(spec, pairs) for spec in (reduction.ours, reduction.theirs)]
        return [torch.cat([one.weight_chosen_B, one.weight_rejected_B]) for one in found]
    batch = batch_under(conditions, seed)
    return [evaluate(spec, batch).weight_BT for spec in (reduction.ours, reduction.theirs)]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_declared_reduction_is_an_identity(reduction, seed):
    ours, theirs = both_weights(reduction, reduction.when, seed)
    assert torch.allclose(ours, reduction.factor * theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", [param for param in REDUCTIONS if param.values[0].when])
def test_no_condition_of_a_reduction_is_idle(reduction):
    """Without each of its conditions the identity fails on some batch."""
    for left_out in reduction.when:
        rest = tuple(condition for condition in reduction.when if condition != left_out)
        apart = []
        for seed in range(40):
            try:
                ours, theirs = both_weights(reduction, rest, seed)
            except BatchError:  # such a batch is refused
                apart.append(True)
                continue
            apart.append(not torch.allclose(ours, reduction.factor * theirs, rtol=1e-6, atol=1e-9))
        assert any(apart), left_out


@every_system
def test_an_entry_names_what_there_is(entry):
    assert system(entry.name) is entry
    assert re.fullmatch(r"\d{4}\.\d{5}", entry.arxiv)
    assert entry.objective is None or entry.objective in OBJECTIVES or entry.objective in PREFERENCES
    for name in entry.parts:
        assert any(hasattr(room, re.match(r"\w+", name).group()) for room in (llm, solvers)), name
    for name in entry.bounds:
        assert len(statements(name)) == 1
    if entry.objective in PREFERENCES:
        assert entry.arxiv in PREFERENCES[entry.objective]().source
    elif entry.objective is not None:
        assert entry.arxiv in OBJECTIVES[entry.objective].source


@every_system
def test_an_entry_has_numbers_of_at_least_five_seeds_against_its_baseline(entry):
    results = entry.results()
    assert results.seeds >= 5
    assert results.baseline in results.numbers
    assert all(len(numbers) == results.seeds for row in results.numbers.values() for numbers in row.values())
    assert results.command == f"python -m banach.llm.systems {entry.name}"
    assert entry.measured
    assert entry.document()["results"]["numbers"]


def test_a_name_that_is_taken_or_unknown_is_refused():
    entry = next(iter(SYSTEMS.values()))
    with pytest.raises(SpecError, match="in the catalogue already"):
        add(dataclasses.replace(entry))
    with pytest.raises(SpecError, match=r"there are .*lite-ppo"):
        system("liteppo")
    spec = llm.objective("rloo")
    with pytest.raises(SpecError, match=CONDITIONS[0]):
        Reduction("somewhere", "rloo", spec, spec, ("at noon",))
    with pytest.raises(SpecError, match="two kinds"):
        Reduction("somewhere", "dpo", spec, llm.preference("dpo"))

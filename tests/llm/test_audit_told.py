"""What an objective does where its own part speaks: the probes of the catalogue, held against formulas written apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from banach.llm import objective
from banach.llm.audit import audit
from banach.llm.audit.enumeration import blind_table
from banach.llm.audit.loss_audit import default_problem
from banach.llm.audit.on_policy import OnPolicy
from banach.llm.audit.stand_ins import loss_of_spec, probe_of
from banach.llm.audit.subject import Subject
from banach.llm.audit.told import told
from banach.llm.batch import TokenBatch
from banach.llm.catalogue import OBJECTIVES, example_objective

PROBLEM = default_problem()
TRACE = 0.95


def weights(loss, group_size=3):
    """The weights of every group of lengths and rewards, on the policy."""
    table = blind_table(Subject(loss), PROBLEM, group_size, np.random.default_rng(0), exchangeable=False, draws=1)
    assert table is not None
    assert table.failed == 0
    return table.table


def sampled(reward, groups):
    """(R - mean)/std of one group, the deviation with n - 1, and zeros where all are alike."""
    centred = reward - reward.mean()
    return centred / reward.std(correction=1) if centred.abs().max() > 1e-12 else torch.zeros_like(centred)


def told_plainly(name):
    """Each told objective as a loss of one group: advantages (B, T), times what divides tokens."""

    def loss(logp, old, ref, mask, reward, groups):
        length = mask.sum(1).double()
        steps_left = (length[:, None] - 1 - torch.arange(mask.shape[1])).clamp(min=0)
        gain = {"token": 1 / length.sum(), "sequence": 1 / (len(reward) * length[:, None])}
        if name == "aspo":
            A, by = aspo(reward, length, groups)[:, None], gain["token"]
        elif name == "apo":
            cheap = length <= 2
            easy = bool(cheap.any()) and float(reward[cheap].mean()) > 0.5
            paid = torch.where(cheap | torch.tensor(not easy), reward, reward * (1 - reward.mean() ** 2))
            A, by = sampled(paid, groups)[:, None], gain["token"]
        elif name == "eapo":
            A, by = sampled(reward * 0.995 ** (length - 1), groups)[:, None], gain["sequence"]
        elif name == "ppo":
            A, by = TRACE**steps_left * (reward - 0.5)[:, None], gain["token"]
        elif name == "t_ppo":
            cut = length > 2
            A = torch.where(cut[:, None], 0.0, TRACE**steps_left * (reward - 0.5)[:, None])
            by = 1 / (length - cut.double()).sum()
        else:
            score = reward + (torch.arange(len(reward)) % 2 == 0)
            ordered = score.sort().values
            low, high = (ordered[int(np.ceil(level * len(score))) - 1] for level in (0.2, 0.8))
            A = -1.5 * (low - score).clamp(min=0) + torch.minimum(torch.maximum(score, low), high) - high
            A, by = A[:, None], gain["sequence"] / 2
        return -torch.where(mask, by * A * logp, 0.0).sum()

    return loss


def aspo(reward, length, groups):
    """The published clipped bias, with calls before the last token, on one group's advantages."""
    base, right = sampled(reward, groups), reward == 1
    if not right.any():
        return base
    bias = -2.0 * (length - length[right].mean()) / length[right].mean()
    shaped = base + torch.minimum(torch.maximum(bias, -0.7 * base.abs()), 0.7 * base.abs())
    return torch.where(right, shaped, base)


@pytest.mark.parametrize("name", ["aspo", "apo", "eapo", "ppo", "t_ppo", "risk_po"])
def test_what_is_told_is_what_the_formula_makes_of_it(name):
    spec = example_objective(name)
    found, wanted = weights(loss_of_spec(spec, probe_of(spec))), weights(told_plainly(name))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if set(example_objective(name).needs) - {"logp_ref_BT"}])
def test_every_objective_that_reads_more_is_told_something_that_moves_it(name):
    spec = example_objective(name)
    probe = probe_of(spec)
    assert probe is not None
    generator = torch.Generator().manual_seed(0)
    logp = -0.05 - 3 * torch.rand(6, 4, dtype=torch.float64, generator=generator)
    mask = torch.arange(4) < torch.tensor([2, 3, 2, 1, 4, 2])[:, None]
    found = []
    for loss in (loss_of_spec(spec), loss_of_spec(spec, probe)):
        x = logp.clone().requires_grad_()
        reward, group = torch.tensor([1.0, 1, 1, 1, 0, 0], dtype=torch.float64), torch.zeros(6, dtype=torch.int64)
        found.append(torch.autograd.grad(loss(x, logp, logp, mask, reward, group), x)[0])
    assert torch.isfinite(found[1]).all()
    assert (found[0] - found[1]).abs().max() > 1e-6


def test_an_audit_says_what_happens_there_beside_what_happens_untold():
    found = audit(objective("eapo"), group_size=2)
    assert "Where an answer of n tokens is a round with n - 1 more to come: Biased" in found["told"].verdict
    assert 0 < found["told"].details["untold"]["cosine"] < 1
    assert found["told"].value < found["direction"].value
    assert found["told_curl"].value > 0.01
    assert found["told_fixed_point"].grade == "good"
    assert "told" not in audit(objective("gspo"), group_size=2)


def test_a_discount_of_one_is_told_and_changes_nothing():
    found = audit(objective("eapo", discount=1.0), group_size=2)
    assert "what is told changes nothing" in found["told"].verdict


def test_a_told_loss_that_is_the_untold_one_scaled_is_said_to_be_that():
    untold = loss_of_spec(objective("rloo"))
    ground = OnPolicy(Subject(untold), PROBLEM, 3, True, np.random.default_rng(0))
    for factor, words in ((3.0, "It is 3 times what it does untold."), (1.0, "what is told changes nothing")):
        spoken = Subject(lambda *batch, factor=factor: factor * untold(*batch))
        beside = told(ground, spoken, OBJECTIVES["eapo"].probe, np.random.default_rng(1))[0]
        assert words in beside.verdict
        assert beside.details["untold"]["factor"] == pytest.approx(factor)


def test_an_objective_that_no_longer_reads_the_field_is_not_probed():
    assert probe_of(objective("ppo", advantage=objective("rloo").advantage, critic=None)) is None
    assert probe_of(objective("ppo")).fields == ("value_BT",)
    assert probe_of(replace(objective("ppo"), name="eapo")) is None  # reads more, but not what it would be told


def test_a_question_without_a_meaning_is_moot_and_no_fault():
    from banach.llm.audit.finding import GRADES

    found = audit(objective("nft"), group_size=2)
    moot = [finding for finding in found.findings if finding.grade == "moot"]
    assert all(finding.grade in GRADES for finding in found.findings)
    assert all(finding.verdict.startswith("Not asked: ") and finding.value is None for finding in moot)
    assert "shift" in [finding.key for finding in moot]
    assert "it refuses such a batch: the reward of sequence" in found["shift"].verdict


def test_a_probe_leaves_the_batch_valid_and_its_own_rows_first():
    logp = torch.full((3, 2), -1.0, dtype=torch.float64)
    batch = TokenBatch(logp, logp, torch.ones(3, 2), torch.tensor([1.0, 0, 1], dtype=torch.float64), torch.zeros(3).long())
    for name in OBJECTIVES:
        probe = OBJECTIVES[name].probe
        if probe is not None and name != "capo":
            dressed = probe.dress(batch)
            assert torch.equal(dressed.reward_B[:3], batch.reward_B)
            assert all(getattr(dressed, field) is not None for field in probe.fields)

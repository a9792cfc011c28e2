"""Every objective of the catalogue is audited; where it reads more than log-probabilities the audit says at which setting."""

import pytest
import torch
from banach.llm import objective
from banach.llm.audit import audit
from banach.llm.audit.stand_ins import STAND_INS, loss_of_spec
from banach.llm.batch import TokenBatch
from banach.llm.catalogue import OBJECTIVES, example_objective, example_settings
from banach.llm.errors import SpecError


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logp = -torch.rand(6, 4, dtype=torch.float64, generator=generator) - 0.05
    mask = torch.arange(4) < torch.tensor([4, 3, 1, 2, 4, 4])[:, None]
    reward = torch.tensor([1.0, 0, 0, 1, 1, 0], dtype=torch.float64)
    old = logp + 0.01 * torch.rand(6, 4, dtype=torch.float64, generator=generator)
    return logp, old.clamp(max=-1e-3), logp - 0.1, mask, reward, torch.arange(6) // 3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_of_the_catalogue_reads_what_has_no_stand_in(name):
    spec = example_objective(name)
    assert set(spec.needs) <= set(STAND_INS) | {"logp_ref_BT"}
    logp, _, *rest = batch()
    logp.requires_grad_()
    loss = loss_of_spec(spec)(logp, logp.detach(), *rest)
    assert torch.isfinite(loss)
    (weight,) = torch.autograd.grad(loss, logp)
    assert torch.isfinite(weight).all()
    assert weight.abs().max() > 0


@pytest.mark.parametrize("name", STAND_INS)
def test_a_stand_in_is_a_valid_field(name):
    logp, old, _, mask, reward, group = batch()
    field = STAND_INS[name][1](old, mask)
    more = {name: field}
    if name == "log_policy_BTV":
        more["token_BT"] = STAND_INS["token_BT"][1](old, mask)
        torch.testing.assert_close(field.exp().sum(2), torch.ones_like(logp), rtol=0, atol=1e-12)
        torch.testing.assert_close(field[..., 0][mask], old[mask])
    TokenBatch(logp, old, mask, reward, group, **more)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("aspo", objective("grpo", beta=0.0, aggregation=objective("aspo").aggregation)),
        ("eapo", objective("gspo")),
        ("capo", objective("grpo", beta=0.0)),
        ("t_ppo", objective("ppo")),
        ("apo", objective("lite_ppo", advantage=objective("grpo").advantage)),
    ],
)
def test_where_they_say_nothing_systems_are_what_they_were_made_from(name, other):
    """On the policy; clip ranges may differ."""
    logp, _, ref, mask, reward, group = batch()
    weights = []
    for spec in (example_objective(name), other):
        x = logp.clone().requires_grad_()
        weights.append(torch.autograd.grad(loss_of_spec(spec)(x, logp, ref, mask, reward, group), x)[0])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-12)


def test_the_audit_says_what_it_was_given_before_anything_else():
    found = audit(objective("t_ppo"), group_size=2)
    first = found.findings[0]
    assert first.key == "assumed"
    assert first.details["fields"] == ["value_BT", "truncated_B", "fresh_BT"]
    assert "a critic that says 0; no answer is cut; all tokens are new" in first.verdict
    assert found["runs"].grade == "good"
    assert "direction" in found
    assert "assumed" not in audit(objective("rloo"), group_size=2)


def test_what_has_no_stand_in_is_told_as_the_fault_it_is():
    found = audit(objective("reinforce", entropy=0.01), group_size=2)
    assert "entropy_BT" in found["runs"].verdict
    assert found["runs"].grade == "bad"


def test_examples_fill_in_what_has_no_default_and_nothing_else():
    assert example_settings("apo") == {"tau": 0.5}
    assert example_settings("apo", tau=0.25, gate=False) == {"tau": 0.25, "gate": False}
    assert example_settings("grpo", beta=0.0) == {"beta": 0.0}
    with pytest.raises(SpecError, match="no objective is called 'gropo'"):
        example_settings("gropo")

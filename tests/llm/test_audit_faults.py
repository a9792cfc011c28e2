"""Losses broken on purpose, each in one way, and the finding that catches it."""

import numpy as np
import pytest
import torch
from banach.llm.audit import AuditError, audit, resolve

from .plain_losses import advantages, policy_loss

RLOO = policy_loss("loo")


def raises(logp, old, ref, mask, rewards, groups):
    raise RuntimeError("shapes do not match\nsecond line")


def nan(logp, old, ref, mask, rewards, groups):
    return RLOO(logp, old, ref, mask, rewards, groups) * float("nan")


def pair(*arguments):
    return RLOO(*arguments), {"clip fraction": 0.0}


def vector(logp, old, ref, mask, rewards, groups):
    return (logp * rewards[:, None]).sum(1)


def number(*arguments):
    return float(RLOO(*arguments))


def detached(*arguments):
    return RLOO(*arguments).detach()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (raises, "it raised RuntimeError: shapes do not match"),
        (nan, "NaN or infinite on an ordinary group"),
        (pair, "returned a tuple of 2 instead of one scalar tensor"),
        (vector, r"returned a tensor of shape \(3,\) instead of a scalar"),
        (number, "returned float instead of a scalar tensor"),
        (detached, "no gradient in logp"),
    ],
)
def test_what_cannot_be_audited_is_a_finding_and_no_traceback(loss, words):
    answer = audit(loss)
    assert len(answer.findings) == 1
    assert answer.faults == answer.findings
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(answer["runs"].verdict)


def test_a_sign_error_is_caught():
    answer = audit(lambda *arguments: -RLOO(*arguments))
    assert answer["direction"].grade == "bad"
    assert "sign is wrong" in answer["direction"].verdict
    assert answer["direction"].value == pytest.approx(-1)
    assert answer["fixed_point"].grade == "bad"
    assert answer["prompt_weight"].grade == "bad"


def test_a_loss_that_counts_padding_is_caught_with_its_factor():
    answer = audit(policy_loss("loo", "padded"))
    assert answer["padding"].grade == "bad"
    assert "factor 0.5" in answer["padding"].verdict  # three tokens and three columns more


def test_training_on_masked_tokens_is_caught():
    def loss(logp, old, ref, mask, rewards, groups):
        return -(advantages(rewards, groups, "loo")[:, None] * logp).sum(1).mean()

    answer = audit(loss)
    assert answer["padding"].grade == "bad"
    assert "Masked tokens are trained" in answer["padding"].verdict


def test_values_under_the_mask_that_leak_are_caught():
    def loss(logp, old, ref, mask, rewards, groups):
        drift = (logp - old).detach().sum(1, keepdim=True).exp()
        return -(torch.where(mask, drift * logp, 0) * advantages(rewards, groups, "loo")[:, None]).sum(1).mean()

    answer = audit(loss)
    assert answer["padding"].grade == "bad"
    assert "leaks" in answer["padding"].verdict


def test_a_weight_that_grows_with_the_length_is_said_to_rise():
    def loss(logp, old, ref, mask, rewards, groups):
        return -(mask.sum(1) * advantages(rewards, groups, "loo") * torch.where(mask, logp, 0).sum(1)).mean()

    finding = audit(loss, group_size=2)["length"]
    assert finding.value == pytest.approx(1, abs=1e-6)
    assert "rises" in finding.verdict
    assert "falls" not in finding.verdict
    assert "long wrong answers are punished more" in finding.verdict


def test_a_loss_that_computes_in_single_precision_gets_the_verdicts_of_double():
    def single(*arguments):
        return penalised(*(part.float() if part.is_floating_point() else part for part in arguments)).double()

    penalised = policy_loss("loo", "sequence-mean", "clip", "k3")
    answer, wanted = audit(single), audit(penalised)
    for finding in wanted.findings:
        assert answer[finding.key].grade == finding.grade, finding.key
    assert answer.setting["rounding"] > wanted.setting["rounding"]
    assert answer["response"].verdict == wanted["response"].verdict
    assert answer["fixed_point"].verdict.split(" (")[0] == wanted["fixed_point"].verdict.split(" (")[0]
    for key in ("scalar", "divergence"):
        assert answer[key].verdict.split(", ")[0] == wanted[key].verdict.split(", ")[0]


def test_weights_by_position_in_the_group_are_caught():
    def loss(logp, old, ref, mask, rewards, groups):
        first = torch.where(torch.arange(len(rewards)) == 0, 2.0, 1.0)[:, None]
        return -(first * advantages(rewards, groups, "loo")[:, None] * torch.where(mask, logp, 0)).sum(1).mean()

    answer = audit(loss, group_size=2)
    assert answer["order"].grade == "bad"


def test_a_baseline_over_the_whole_batch_is_caught_as_coupling_between_groups():
    def loss(logp, old, ref, mask, rewards, groups):
        return RLOO(logp, old, ref, mask, rewards - rewards.mean(), torch.zeros_like(groups)) * 1.0

    assert audit(loss)["microbatch"].grade == "bad"


def test_a_standard_deviation_without_protection_is_caught():
    def loss(logp, old, ref, mask, rewards, groups):
        A = (rewards - rewards.mean()) / rewards.std(correction=0)
        return -(A[:, None] * torch.where(mask, logp, 0)).sum(1).mean()

    answer = audit(loss)
    assert answer["finite"].grade == "bad"
    assert 0 < answer["finite"].value < 1
    assert answer["zero_variance"].grade == "bad"
    assert "NaN" in answer["zero_variance"].verdict
    assert answer["single"].grade == "bad"


def test_a_loss_that_draws_at_random_is_caught():
    def loss(logp, old, ref, mask, rewards, groups):
        return RLOO(logp, old, ref, mask, rewards, groups) * torch.rand(())

    assert audit(loss, group_size=2)["determinism"].grade == "bad"


def test_a_penalty_of_the_wrong_sign_repels_from_the_reference():
    answer = audit(policy_loss("loo", penalty="k2", beta=-0.1), group_size=2)
    term = answer["divergence"]
    assert term.details["all"]["KL(pi || ref) token by token"]["scale"] == pytest.approx(-0.1)
    assert term.grade == "bad"


def test_a_loss_that_works_in_single_precision_only_is_audited_there():
    def loss(logp, old, ref, mask, rewards, groups):
        if logp.dtype != torch.float32:
            raise TypeError("expected float32")
        return RLOO(logp, old, ref, mask, rewards, groups)

    answer = audit(loss, group_size=2)
    assert answer.setting["dtype"] == "float32"
    assert answer["direction"].grade == "good"
    assert "audited in float32" in answer["precision"].verdict


def test_a_failure_in_one_question_leaves_the_others_answered():
    def loss(logp, old, ref, mask, rewards, groups):
        if groups.max() > 0:
            raise ValueError("one group at a time, please")
        return RLOO(logp, old, ref, mask, rewards, groups)

    answer = audit(loss)
    assert "one group at a time" in answer["microbatch"].verdict
    assert answer["microbatch"].grade == "bad"
    assert answer["direction"].grade == "good"


def test_no_gradient_from_anything_is_caught():
    answer = audit(lambda logp, old, ref, mask, rewards, groups: 0.0 * logp.sum())
    assert answer["direction"].grade == "bad"
    assert "zero at every policy" in answer["direction"].verdict


def test_a_loss_that_changes_its_inputs_does_not_change_the_audit():
    def loss(logp, old, ref, mask, rewards, groups):
        A = advantages(rewards, groups, "loo")[:, None]
        rewards.zero_()
        return -(A * torch.where(mask, logp, 0)).sum(1).mean()

    assert audit(loss, group_size=2)["direction"].value == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torch.nn", "package.module:function"),
        ("no.such.module:f", "cannot import"),
        ("torch.nn.functional:no_such", "is missing"),
        ("torch:pi", "not a function"),
    ],
)
def test_a_name_that_leads_nowhere_says_where_it_broke_off(name, words):
    with pytest.raises(AuditError, match=words):
        resolve(name)


def test_a_name_is_as_good_as_a_function():
    assert resolve("torch.nn.functional:logsigmoid") is torch.nn.functional.logsigmoid


def test_what_is_no_loss_is_refused():
    with pytest.raises(AuditError, match="int is no loss"):
        audit(3)


def test_gradients_on_an_environments_tokens_are_caught():
    """In a problem with turns the tool's tokens stand in the middle of an answer, off the mask."""
    from banach.mdp import instances_token

    problem = instances_token.tool_turns(horizon=3)
    assert (~problem.mask & (problem.token >= 0)).any()
    good = audit(RLOO, problem, group_size=2)
    assert good["direction"].grade == "good"
    assert np.isfinite(good["fixed_point"].value)


@pytest.mark.parametrize("average", ["sum", "mean"])
def test_a_likelihood_that_never_looks_at_the_reward_is_audited_without_rounding_for_signal(average):
    """Supervised fine-tuning: right and wrong weigh alike, but for the last bits where the mean is over many tokens."""

    def loss(logp, old, ref, mask, rewards, groups):
        total = torch.where(mask, logp, 0).sum()
        return -total / (mask.sum() if average == "mean" else 3)

    answer = audit(loss, group_size=2)
    assert answer["prompt_weight"].grade == "bad"
    assert "no prompt teaches" in answer["prompt_weight"].verdict

"""What is known of the losses of the literature, found out by the audit from the callable alone."""

import numpy as np
import pytest
import torch
from banach.llm.audit import audit
from banach.llm.audit.fixed_point import forward_optimum, gibbs
from banach.llm.audit.prompt_weight import bernstein_coefficients, prompt_weight
from banach.llm.audit.subject import Subject
from banach.llm.catalogue import objective
from banach.mdp import instances_token
from scipy import optimize

from .plain_losses import policy_loss

LOSSES = {
    "reinforce": policy_loss("raw"),
    "rloo": policy_loss("loo"),
    "dr_grpo": policy_loss("mean", surrogate="clip"),
    "grpo": policy_loss("std", "sequence-mean", "clip", "k3", beta=0.04),
    "arcsine": policy_loss("std"),
    "length": policy_loss("mean", "sequence-mean"),
    "dapo": policy_loss("bessel", "token-mean", "clip", high=0.28),
    "cispo_at_0.2": policy_loss("bessel", "token-mean", "cispo", high=0.2),
    "cispo_at_5": policy_loss("bessel", "token-mean", "cispo", high=5.0),
    "k1": policy_loss("loo", penalty="k1"),
    "k1_mean": policy_loss("loo", "sequence-mean", penalty="k1"),
    "k2": policy_loss("loo", penalty="k2"),
    "k3": policy_loss("loo", penalty="k3", beta=0.3),
    "k3_token": policy_loss("loo", "token-mean", penalty="k3"),
    "sequence_is": policy_loss("raw", surrogate="sequence"),
    "token_is": policy_loss("raw", surrogate="ratio"),
}
_FOUND = {}


def found(name):
    """The audit of a loss of the table, made once."""
    if name not in _FOUND:
        _FOUND[name] = audit(LOSSES[name], name=name)
    return _FOUND[name]


@pytest.mark.parametrize(("name", "factor"), [("reinforce", 1), ("rloo", 1), ("dr_grpo", 2 / 3), ("k2", 1), ("token_is", 1)])
def test_the_expected_gradient_is_that_of_the_reward_up_to_the_known_factor(name, factor):
    """Leave-one-out is unbiased; the group mean without rescaling loses (G-1)/G, here with G = 3."""
    direction = found(name)["direction"]
    assert direction.grade == "good"
    assert direction.details["residual"] < 1e-12
    assert direction.value == pytest.approx(factor, abs=1e-12)
    assert found(name)["curl"].value < 1e-6


@pytest.mark.parametrize("name", ["grpo", "length"])
def test_a_mean_over_the_answers_tokens_ascends_reward_over_length_with_a_frozen_baseline(name):
    scalar = found(name)["scalar"]
    assert "E[(R - b)/|y|]" in scalar.verdict
    assert scalar.value < 1e-9
    assert found(name)["curl"].value > 0.01
    assert found(name)["direction"].grade == "note"
    assert found(name)["length"].grade == "bad"
    assert found(name)["length"].value == pytest.approx(-1, abs=1e-6)


def test_a_sum_over_tokens_has_no_length_bias_and_a_token_mean_some():
    assert found("rloo")["length"].grade == "good"
    assert -1 < found("dapo")["length"].value < -0.1


def test_group_standard_deviations_weigh_prompts_by_the_arcsines_slope_and_small_groups_by_none():
    weight = found("arcsine")["prompt_weight"]
    assert "2 arcsin sqrt p" in weight.verdict
    assert weight.value < 0.02
    curve = np.array(weight.details["weight"]["64"])
    p = weight.details["p"]
    inner = (p > 0.1) & (p < 0.9)
    shape = 1 / np.sqrt(p * (1 - p))
    np.testing.assert_allclose((curve / curve[49])[inner], (shape / shape[49])[inner], rtol=0.02)
    np.testing.assert_allclose(weight.details["weight"]["3"], 1, atol=1e-6)
    assert "constant: exactly J" in weight.verdict


def over_the_batch(kind):
    """Rewards less their group's mean, over the batch's deviation; or rewards over their sum in the batch."""

    def loss(logp, old, ref, mask, rewards, groups):
        total, size = (torch.zeros(len(mask)).double().index_add(0, groups, x) for x in (rewards, torch.ones_like(rewards)))
        centred = rewards - (total / size)[groups]
        weight = centred / rewards.std(correction=0) if kind == "deviation" else rewards / rewards.sum()
        return -(torch.where(rewards.std() > 0, weight, 0.0)[:, None] * torch.where(mask, logp, 0)).sum()

    return loss


@pytest.mark.parametrize(("kind", "alone"), [("deviation", "2 arcsin sqrt p"), ("accepted", "F(p) = log p")])
def test_a_statistic_of_the_batch_weighs_many_prompts_alike_and_a_lone_one_as_its_group_would(kind, alone):
    weight = prompt_weight(Subject(over_the_batch(kind)), 3, 2)
    assert weight.grade == "note"
    many, _, lone = weight.verdict.partition("Alone in its batch: ")
    assert "act on each other" in many
    assert "1: every prompt alike" in many
    assert alone in lone
    plain = prompt_weight(Subject(policy_loss("std")), 3, 2)
    assert "act on each other" not in plain.verdict
    assert "alone" not in plain.details


def test_beside_others_the_deviation_is_that_of_all_the_rewards():
    """c_j = G (A right of j + 1 less A wrong of j), both from numpy's deviation of all 4 * 4 rewards."""
    beside = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]], dtype=bool)
    found = bernstein_coefficients(Subject(over_the_batch("deviation")), 4, 1, beside)
    deviation = [np.std([*beside.reshape(-1), *[1] * k, *[0] * (4 - k)]) for k in range(5)]
    wanted = [4 * ((1 - (j + 1) / 4) / deviation[j + 1] + j / 4 / deviation[j]) for j in range(4)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_leave_one_out_weighs_every_prompt_alike_at_every_group_size():
    weight = found("rloo")["prompt_weight"]
    assert weight.grade == "good"
    for curve in weight.details["weight"].values():
        np.testing.assert_allclose(curve, 1, atol=1e-9)


def test_four_answers_a_group_with_a_standard_deviation_have_a_scalar_of_success_rates():
    """At G = 4 the weight is no constant any more, so the field is no multiple of grad J, yet still a gradient."""
    answer = audit(LOSSES["arcsine"], group_size=4)
    assert answer["direction"].grade == "note"
    assert answer["curl"].value < 1e-6
    assert "F(p_q)" in answer["scalar"].verdict


def test_a_constant_added_to_the_rewards_matters_to_a_length_mean_without_a_baseline_only():
    bare = audit(policy_loss("raw", "sequence-mean"))
    assert bare["shift"].grade == "bad"
    assert bare["shift"].value > 0.1
    for name in ("reinforce", "rloo", "grpo", "dapo"):
        assert found(name)["shift"].grade == "good", name


def test_doubled_rewards_double_the_gradient_unless_they_are_normalised():
    assert found("rloo")["scale"].value == pytest.approx(2, abs=1e-9)
    assert found("arcsine")["scale"].value == pytest.approx(1, abs=1e-5)


def test_the_noise_of_leave_one_out_is_its_own_and_reinforce_has_more():
    assert found("rloo")["variance"].value == pytest.approx(1, abs=1e-9)
    noise = found("reinforce")["variance"].details["noise"]
    assert noise["this loss"] == pytest.approx(noise["REINFORCE"], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "divergence", "coefficient"),
    [
        ("k2", "KL(pi || ref) token by token", 0.1),
        ("k3", "KL(ref || pi) token by token", 0.3),
        ("grpo", "KL(ref || pi) token by token, over the answer's length", 0.04),
        ("k3_token", "KL(ref || pi) token by token, over the group's tokens", None),
    ],
)
def test_each_estimator_in_the_loss_descends_its_own_divergence(name, divergence, coefficient):
    term = found(name)["divergence"]
    assert term.details["name"] == divergence
    assert term.details["all"][divergence]["residual"] < 1e-9
    if coefficient is not None:
        assert term.value == pytest.approx(coefficient, abs=1e-9)


def test_on_a_bandit_k2_descends_the_reverse_divergence_and_k3_the_forward_one():
    bandit = instances_token.softmax_bandit(arms=3, contexts=2)
    for penalty, whole in (("k2", "KL(pi || ref)"), ("k3", "KL(ref || pi)")):
        term = audit(policy_loss("loo", penalty=penalty), bandit, group_size=2)["divergence"]
        assert term.details["all"][whole]["residual"] < 1e-9
        assert term.details["all"][whole]["scale"] == pytest.approx(0.1, abs=1e-9)


def test_k1_in_the_loss_regularises_nothing_and_averaged_over_tokens_pushes_on_length():
    assert found("k1")["divergence"].grade == "bad"
    assert found("k1")["direction"].grade == "good"
    assert "no gradient" in found("k1")["divergence"].verdict
    assert found("k1_mean")["direction"].grade == "note"


def test_k1_taken_off_the_rewards_descends_the_divergence_of_whole_answers():
    def loss(logp, old, ref, mask, rewards, groups):
        rewards = rewards - 0.2 * torch.where(mask, logp - ref, 0).sum(1).detach()
        return policy_loss("loo")(logp, old, ref, mask, rewards, groups)

    term = audit(loss)["divergence"]
    assert term.details["name"] == "KL(pi || ref)"
    assert term.value == pytest.approx(0.2, abs=1e-9)


def test_a_loss_without_a_reference_says_so():
    assert found("dapo")["divergence"].verdict == "None: the loss does not look at the reference."


def test_the_rest_of_k2_is_the_gibbs_policy_and_that_of_k3_the_forward_optimum():
    k2, k3 = found("k2")["fixed_point"], found("k3")["fixed_point"]
    assert (k2.grade, k3.grade) == ("good", "good")
    ref = np.array(k2.details["reference"])
    wanted = ref * np.exp(np.array([1.0, 0, 0]) / 0.1)
    np.testing.assert_allclose(k2.details["policy"], wanted / wanted.sum(), atol=1e-8)
    objective = lambda u: -(np.exp(u[0]) / np.exp(u).sum() - 0.3 * ref @ np.log(ref / (np.exp(u) / np.exp(u).sum())))  # noqa: E731
    best = optimize.minimize(objective, np.zeros(3), tol=1e-14).x
    np.testing.assert_allclose(k3.details["policy"], np.exp(best) / np.exp(best).sum(), atol=1e-5)


def test_the_closed_forms_are_stationary_points_of_what_they_maximise():
    reward, ref = np.array([0.3, 1.0, -0.5]), np.array([0.2, 0.3, 0.5])
    for beta in (0.05, 0.4, 3.0):
        p, q = gibbs(reward, ref, beta), forward_optimum(reward, ref, beta)
        slopes = reward - beta * np.log(p / ref), reward + beta * ref / q
        for policy, slope in zip((p, q), slopes, strict=True):
            assert policy.sum() == pytest.approx(1, abs=1e-12)
            np.testing.assert_allclose(slope, slope[0], atol=1e-9)


@pytest.mark.parametrize("name", ["rloo", "dapo", "arcsine"])
def test_without_a_reference_it_ends_at_a_best_policy(name):
    assert found(name)["fixed_point"].grade == "good"
    assert found(name)["fixed_point"].details["best"] == pytest.approx(1)


def test_full_importance_weights_are_unbiased_off_policy_and_tokenwise_ones_are_not():
    full = found("sequence_is")["off_policy"]
    assert full.grade == "good"
    assert full.value < 1e-9
    assert found("token_is")["off_policy"].grade == "note"
    assert found("token_is")["off_policy"].details["staleness"][-1]["residual"] > 0.01


@pytest.mark.parametrize(("name", "above", "below"), [("dr_grpo", 1.2, 0.8), ("dapo", 1.28, 0.8)])
def test_the_clip_edges_are_found_where_they_are(name, above, below):
    edges = found(name)["response"].details["edges"]
    assert edges["right"]["above"]["ratio"] == pytest.approx(above, abs=1e-4)
    assert edges["right"]["above"]["weight_beyond"] == pytest.approx(0, abs=1e-12)
    assert edges["wrong"]["below"]["ratio"] == pytest.approx(below, abs=1e-4)
    assert "below" not in edges["right"]
    assert "above" not in edges["wrong"]
    assert found(name)["response"].details["level"] == "token"


def test_a_clip_range_of_a_ten_thousandth_does_not_hide_at_what_level_the_ratio_enters():
    response = audit(objective("gspo"), group_size=2)["response"]
    assert response.details["level"] == "sequence, each token's ratio to the power 0.25"
    assert response.details["edges"]["right"]["above"]["ratio"] == pytest.approx(1 + 4e-4, abs=5e-6)
    assert response.details["edges"]["wrong"]["below"]["ratio"] == pytest.approx(1 - 3e-4, abs=5e-6)


def test_a_cap_below_one_takes_four_fifths_of_every_on_policy_token():
    share = found("cispo_at_0.2")["on_policy_share"]
    assert share.grade == "bad"
    assert share.value == pytest.approx(0.2, abs=1e-9)
    assert found("cispo_at_5")["on_policy_share"].grade == "good"
    assert found("cispo_at_5")["response"].details["edges"]["right"]["above"]["ratio"] == pytest.approx(5, abs=1e-3)
    assert found("dr_grpo")["on_policy_share"].value == pytest.approx(1, abs=1e-9)


def test_a_token_mean_cannot_be_accumulated_and_means_and_sums_over_sequences_can():
    assert found("dapo")["microbatch"].grade == "bad"
    assert found("rloo")["microbatch"].grade == "good"
    assert audit(policy_loss("loo", "total"), group_size=2)["microbatch"].grade == "note"


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_sound_losses_run_in_any_order_and_ignore_padding(name):
    for key in ("runs", "order", "padding"):
        assert found(name)[key].grade == "good", key


def test_groups_without_variance_teach_nothing_where_a_group_baseline_is():
    assert found("rloo")["zero_variance"].grade == "good"
    assert found("reinforce")["zero_variance"].grade == "note"
    assert found("arcsine")["zero_variance"].details["all right"] < 1e-9


def test_a_residue_of_rounding_over_a_tiny_standard_deviation_is_found():
    """Equal rewards of 0.1 in float32: their mean is not 0.1, their standard deviation is the residue."""
    finding = found("arcsine")["zero_variance"]
    assert finding.grade == "bad"
    assert finding.details["all 0.1 in float32"] > 0.01

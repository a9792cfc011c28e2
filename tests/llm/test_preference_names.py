"""What other people call the same thing: parameter maps, executed against TRL's own trainers and against formulas of papers."""

import numpy as np
import pytest
import torch
from banach.llm.errors import SpecError
from banach.llm.pair_batch import PairBatch
from banach.llm.peers import trl
from banach.llm.preference_catalogue import preference
from banach.llm.preference_kernel import as_preference_loss, evaluate_preference

from .preference_witness import random_pairs

BETA = 0.3


def arguments(seed: int, n_pairs: int = 4, one_token: bool = False):
    """Hard-labelled pairs as the six tensors of a bare loss; no token is certain, lengths are those of the table's rows."""
    c, r = random_pairs(seed, n_pairs, soft=False, weighted=False).sides
    lengths = [torch.ones_like(side.logp_B) if one_token else side.length_B for side in (c, r)]
    leaves = [side.logp_B.detach().clone().requires_grad_() for side in (c, r)]
    return leaves[0], leaves[1], c.ref_B, r.ref_B, *(length.long() for length in lengths)


def same_loss(one, other, given, factor: float = 1.0, rtol: float = 1e-9) -> None:
    """Equal values and gradients by the log-probabilities, after the second is multiplied by `factor`."""
    first, second = one(*given), factor * other(*given)
    torch.testing.assert_close(first.double(), second.double(), rtol=rtol, atol=rtol)
    leaves = given[:2]
    for a, b in zip(torch.autograd.grad(first, leaves), torch.autograd.grad(second, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


TRL = {
    "sigmoid": (lambda: trl.dpo("sigmoid", beta=BETA), ("dpo", {"temperature": BETA})),
    "sigmoid, whose label_smoothing is not read": (
        lambda: trl.dpo("sigmoid", beta=BETA, label_smoothing=0.1),
        ("dpo", {"temperature": BETA}),
    ),
    "sigmoid_norm": (lambda: trl.dpo("sigmoid_norm", beta=BETA), ("dpo", {"temperature": BETA, "normalised": True})),
    "robust": (
        lambda: trl.dpo("robust", beta=BETA, label_smoothing=0.1),
        ("robust_dpo", {"temperature": BETA, "noise": 0.1}),
    ),
    "ipo": (lambda: trl.dpo("ipo", beta=BETA), ("ipo_token_mean", {"temperature": BETA})),
    "hinge": (lambda: trl.dpo("hinge", beta=BETA), ("hinge", {"temperature": BETA})),
    "exo_pair": (
        lambda: trl.dpo("exo_pair", beta=BETA, label_smoothing=0.05),
        ("exo", {"temperature": BETA, "noise": 0.05}),
    ),
    "nca_pair": (lambda: trl.dpo("nca_pair", beta=BETA), ("nca", {"temperature": BETA})),
    "sppo_hard": (lambda: trl.dpo("sppo_hard", beta=BETA), ("sppo_hard", {"rate": 1 / BETA})),
    "apo_zero": (lambda: trl.dpo("apo_zero", beta=BETA), ("apo_zero", {"temperature": BETA})),
    "kto": (
        lambda: trl.kto(beta=BETA, desirable_weight=1.3, undesirable_weight=0.7),
        ("kto", {"temperature": BETA, "desirable": 1.3, "undesirable": 0.7, "centre": "batch"}),
    ),
    "cpo": (
        lambda: trl.cpo("sigmoid", beta=BETA, cpo_alpha=0.7, label_smoothing=0.1),
        ("cpo", {"scale": BETA, "sft": 0.7, "noise": 0.1, "average": "tokens"}),
    ),
    "simpo": (
        lambda: trl.cpo("simpo", beta=2.0, simpo_gamma=0.5, cpo_alpha=0.0),
        ("simpo", {"scale": 2.0, "margin": 0.5}),
    ),
    "orpo": (lambda: trl.orpo(beta=BETA), ("orpo", {"weight": BETA, "average": "tokens"})),
}


@pytest.mark.parametrize("name", TRL)
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_of_trl_is_one_of_the_catalogue(name, seed):
    theirs, (ours, settings) = TRL[name]
    # TRL's ORPO and CPO trainers compute in single precision
    rtol = 2e-5 if name in {"orpo", "cpo", "simpo"} else 1e-6
    same_loss(as_preference_loss(preference(ours, **settings)), theirs(), arguments(seed), rtol=rtol)


def test_trls_hinge_of_cpo_is_the_reference_free_one_in_other_units():
    """max(0, 1 - beta m) = beta max(0, 1/beta - m), and nothing of a reference in it."""
    given = arguments(1, one_token=True)
    free = as_preference_loss(preference("slic", width=1 / BETA, regulariser=0.5 / BETA))
    same_loss(trl.cpo("hinge", beta=BETA, cpo_alpha=0.5), free, given, factor=BETA, rtol=2e-5)


def test_the_two_hinges_agree_where_the_reference_is_indifferent_and_nowhere_else():
    c, r, ref_c, _, n_c, n_r = arguments(2)
    relative = as_preference_loss(preference("hinge", temperature=1.0))
    free = as_preference_loss(preference("slic", regulariser=1e-30))
    same_loss(relative, free, (c, r, ref_c, ref_c, n_c, n_r))
    assert abs(relative(c, r, ref_c, ref_c + 1, n_c, n_r) - free(c, r, ref_c, ref_c + 1, n_c, n_r)) > 0.1


def test_trls_smoothing_of_simpo_turns_the_margin_with_the_label_and_ours_does_not():
    """Expected over flipped labels the mirrored term is f(-m), whose target margin is gamma still; TRL's has -gamma."""
    given = arguments(3)
    spec = preference("simpo", scale=2.0, margin=0.5, noise=0.1)
    theirs = trl.cpo("simpo", beta=2.0, simpo_gamma=0.5, cpo_alpha=0.0, label_smoothing=0.1)
    assert abs(as_preference_loss(spec)(*given) - theirs(*given)) > 1e-3
    flat = preference("simpo", scale=2.0, margin=0.0, noise=0.1)
    same_loss(
        as_preference_loss(flat),
        trl.cpo("simpo", beta=2.0, simpo_gamma=0.0, cpo_alpha=0.0, label_smoothing=0.1),
        given,
        rtol=2e-5,
    )


def margin(c, r, ref_c, ref_r, *_):
    return c - r - ref_c + ref_r


FORMULAS = {
    "GPO's (u - 1)^2 with u = beta m is beta^2 times IPO of temperature beta/2": (
        lambda *x: (BETA * margin(*x) - 1).square().mean(),
        ("ipo", {"temperature": BETA / 2}),
        BETA**2,
    ),
    "(tau m - 1/2)^2 is tau^2 times IPO of temperature tau": (
        lambda *x: (BETA * margin(*x) - 0.5).square().mean(),
        ("ipo", {"temperature": BETA}),
        BETA**2,
    ),
    "RPO weighs the likelihood by eta beta": (
        lambda *x: (torch.nn.functional.softplus(-BETA * margin(*x)) - 0.2 * BETA * x[0]).mean(),
        ("rpo", {"temperature": BETA, "sft": 0.2}),
        1.0,
    ),
    "INPO's first iteration is IPO of temperature eta, whatever tau": (
        lambda *x: (margin(*x) - 1 / (2 * BETA)).square().mean(),
        ("inpo", {"inverse_step": BETA, "temperature": 0.1}),
        1.0,
    ),
    "KTO around zero is half of APO-zero, being a mean over sequences": (
        as_preference_loss(preference("apo_zero", temperature=BETA)),
        ("kto", {"temperature": BETA, "centre": "zero"}),
        2.0,
    ),
    "cDPO without noise is DPO": (as_preference_loss(preference("dpo")), ("cdpo", {"noise": 0.0}), 1.0),
    "robust DPO without noise is DPO": (as_preference_loss(preference("dpo")), ("robust_dpo", {"noise": 0.0}), 1.0),
    "online DPO is DPO on other pairs": (as_preference_loss(preference("dpo")), ("online_dpo", {}), 1.0),
    "online IPO is IPO on other pairs": (as_preference_loss(preference("ipo")), ("online_ipo", {}), 1.0),
}


@pytest.mark.parametrize("claim", FORMULAS)
def test_parameter_map(claim):
    formula, (name, settings), factor = FORMULAS[claim]
    same_loss(formula, as_preference_loss(preference(name, **settings)), arguments(5), factor)


def paired(seed: int, **rows) -> PairBatch:
    batch = random_pairs(seed, soft=False, weighted=False)
    sides = []
    for position, side in enumerate(batch.sides):
        changed = {name: torch.full_like(side.logp_B.detach(), value[position]) for name, value in rows.items()}
        sides.append(type(side)(**{**vars(side), **changed}))
    return PairBatch(*sides)


def same_weights(one, other, batch: PairBatch, factor: float = 1.0) -> None:
    first, second = evaluate_preference(one, batch), evaluate_preference(other, batch)
    torch.testing.assert_close(first.loss, factor * second.loss)
    torch.testing.assert_close(first.weight_chosen_B, factor * second.weight_chosen_B)
    torch.testing.assert_close(first.weight_rejected_B, factor * second.weight_rejected_B)


def test_copg_with_rewards_one_apart_is_ipo_of_half_its_temperature():
    one, other = preference("copg", temperature=BETA), preference("ipo", temperature=BETA / 2)
    same_weights(one, other, paired(6, reward_B=(0.7, -0.3)), BETA / 2)


def test_copg_with_rewards_plus_and_minus_a_quarter_is_ipo_of_its_temperature():
    one, other = preference("copg", temperature=BETA), preference("ipo", temperature=BETA)
    same_weights(one, other, paired(6, reward_B=(0.25, -0.25)), BETA / 2)


def test_hard_sppo_is_sppo_whose_winner_always_wins():
    same_weights(preference("sppo", rate=3.0), preference("sppo_hard", rate=3.0), paired(7, win_B=(1.0, 0.0)))


def test_rebel_of_one_rate_is_copg_around_the_previous_policy():
    """(m_t / eta - dR)^2 = (2 / eta) (dR - m_t / eta)^2 / (2 / eta): CoPG of temperature 1/eta with pi_t for its reference."""
    batch = random_pairs(8, weighted=False)
    around = PairBatch(*(type(side)(**{**vars(side), "ref_B": side.previous_B}) for side in batch.sides))
    same_weights(preference("rebel", rate=0.7), preference("copg", temperature=1 / 0.7), around, 2 / 0.7)


def test_soft_labels_of_a_quadratic_are_its_square_around_the_expected_target_up_to_a_constant():
    """p (m - c)^2 + (1 - p) (m + c)^2 = (m - (2p - 1) c)^2 + 4 p (1 - p) c^2."""
    batch = random_pairs(9)
    c, r = batch.sides
    p, target = batch.label_B, 1 / (2 * BETA)
    around = (margin(c.logp_B, r.logp_B, c.ref_B, r.ref_B) - (2 * p - 1) * target).square() + 4 * p * (1 - p) * target**2
    share = batch.weight_B / batch.weight_B.sum()
    torch.testing.assert_close(evaluate_preference(preference("ipo", temperature=BETA), batch).loss, (share * around).sum())


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("dpo", {"temperature": 0.1}),
        ("robust_dpo", {"temperature": 0.1, "noise": 0.1}),
        ("sppo", {"rate": 1000.0}),
        ("sppo_hard", {"rate": 1000.0}),
        ("inpo", {"inverse_step": 0.0075, "temperature": 0.0025}),
        ("orpo", {"weight": 0.1, "normalised": True}),
    ],
)
def test_the_defaults_are_the_published_numbers(name, published):
    assert preference(name) == preference(name, **published)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("ddpo", {}, "no preference objective is called 'ddpo'; there are apo_zero"),
        ("dpo", {"beta": 0.1}, "dpo has no setting beta; it has temperature, normalised"),
        ("dpo", {"temperature": 0.0}, "temperature 0.0 is not a positive"),
        ("simpo", {"scale": float("nan")}, "scale nan is not a positive"),
        ("dpo", {"temperature": -0.1}, "temperature -0.1 is not a positive"),
        ("ipo", {"temperature": 0.0}, "temperature 0.0 is not a positive"),
        ("cdpo", {"noise": 0.5}, r"label noise 0.5 is outside \[0, 1/2\)"),
        ("robust_dpo", {"noise": -0.1}, r"label noise -0.1 is outside"),
        ("robust_dpo", {"noise": 0.5}, r"label noise 0.5 is outside"),
        ("exo", {"noise": 0.0}, "noise 0.0 leaves EXO's target without both outcomes"),
        ("hinge", {"temperature": np.inf}, "scale inf is not a positive"),
        ("slic", {"regulariser": 0.0}, "a term of weight 0.0"),
        ("kto", {"desirable": 0.0, "undesirable": 0.0}, "not both 0"),
        ("kto", {"centre": "median"}, "centre 'median'"),
        ("cpo", {"average": "words"}, "average 'words'"),
        ("simpo", {"margin": np.nan}, "shift nan"),
        ("inpo", {"inverse_step": 0.1, "temperature": 0.2}, "take smaller steps"),
        ("inpo", {"inverse_step": 0.0}, "inverse_step 0.0 is not a positive"),
        ("nash_md", {"temperature": 0.0}, "temperature 0.0 is not a positive"),
        ("copg", {"temperature": True}, "temperature True is not a positive"),
    ],
)
def test_settings_that_make_no_objective_are_refused_in_words(name, settings, told):
    with pytest.raises(SpecError, match=told):
        preference(name, **settings)

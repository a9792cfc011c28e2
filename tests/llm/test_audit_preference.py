"""Preference losses by the audit: minimisers, noise, lengths, displacement, against closed forms written here."""

import numpy as np
import pytest
import torch
from banach.llm.audit import AuditError, audit_preference
from banach.llm.audit.pair_rest import minimiser
from banach.llm.audit.pairs import Population, population_slope, population_value
from banach.llm.audit.preference_audit import ANNOTATORS
from banach.llm.audit.subject import Subject
from banach.llm.preference_catalogue import preference, rpo
from banach.llm.preference_kernel import as_preference_loss
from banach.mdp.preference import PreferenceOracle
from banach.solvers import RegularizedPO, rpo_optimum
from scipy import optimize
from torch.nn.functional import logsigmoid

from .plain_losses import cdpo, dpo, hinge, ipo, margin, orpo, simpo

LOSSES = {
    "dpo": dpo(0.1),
    "cdpo": cdpo(0.5, 0.1),
    "ipo": ipo(0.3),
    "hinge": hinge(0.5),
    "simpo": simpo(2.0, 0.5),
    "orpo": orpo(0.5),
}
_FOUND = {}


def found(name):
    """The audit of a loss of the table, made once."""
    if name not in _FOUND:
        _FOUND[name] = audit_preference(LOSSES[name], name=name)
    return _FOUND[name]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dpo", {"beta": 0.1}),
        ("cdpo", {"beta": 0.5, "flip": 0.1}),
        ("ipo", {"tau": 0.3}),
        ("hinge", {"beta": 0.5}),
        ("simpo", {"beta": 2.0, "gamma": 0.5}),
    ],
)
def test_the_curve_of_the_margin_names_the_loss_and_its_parameters(name, parameters):
    assert found(name)["margin"].details["parameters"] == pytest.approx(parameters, rel=1e-6)


@pytest.mark.parametrize("name", ["dpo", "cdpo", "ipo", "simpo"])
def test_the_minimiser_is_the_closed_form_optimum(name):
    assert found(name)["optimum"].grade == "good"
    assert found(name)["optimum"].value < 1e-8


def test_dpo_asks_for_the_gibbs_policy_of_a_bradley_terry_reward():
    reward = np.array([1.0, -0.4, 0.3])
    answer = audit_preference(dpo(0.5), PreferenceOracle.bradley_terry(reward))["optimum"]
    ref = np.array(answer.details["reference"])
    wanted = ref * np.exp(reward / 0.5)
    np.testing.assert_allclose(answer.details["policy"], wanted / wanted.sum(), atol=1e-9)


@pytest.mark.parametrize(("beta", "eta"), [(0.01, 0.005), (0.5, 0.3)])
def test_a_minimiser_is_found_however_far_a_small_beta_puts_it(beta, eta):
    """RPO's, by the Newton steps of its game; at the published beta log-probabilities are dozens of nats apart."""
    rng = np.random.default_rng(0)
    oracle, reference = PreferenceOracle.population(ANNOTATORS, np.array([0.4, 0.35, 0.25])), rng.dirichlet(np.full(4, 4.0))
    population = Population(oracle, reference, rng.uniform(0.5, 2.0, (4, 4)))
    found = minimiser(Subject(as_preference_loss(rpo(beta, eta))), population)
    wanted = rpo_optimum(RegularizedPO(population.wins, reference, population.wins.sum(1), eta, beta))
    assert found.status == "found"
    assert found.policy == pytest.approx(wanted, abs=1e-6)
    if beta == 0.01:
        assert np.ptp(found.score) > 60
    assert found.score - found.score[0] == pytest.approx(np.log(wanted / wanted[0]), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("beta", [0.01, 1.0])
def test_a_loss_without_a_minimiser_is_said_to_have_none_at_any_beta(beta):
    sure = PreferenceOracle(np.array([[0.5, 1.0, 1.0], [0.0, 0.5, 0.7], [0.0, 0.3, 0.5]]))
    population = Population(sure, np.full(3, 1 / 3), np.ones((3, 3)))
    assert minimiser(Subject(dpo(beta)), population).status == "unbounded"


def test_orpos_minimiser_is_recognised_though_it_looks_at_more_than_the_margin():
    answer = found("orpo")
    assert "More than the margin" in answer["margin"].verdict
    assert "Exactly the optimum of ORPO of weight 0.5" in answer["optimum"].verdict
    assert answer["displacement"].value > 0


def test_the_hinge_asks_for_a_vertex_of_its_linear_program():
    assert "linear program" in found("hinge")["optimum"].verdict
    assert found("hinge")["optimum"].value < 1e-9


@pytest.mark.parametrize(("name", "law", "scale"), [("dpo", "logit p", 10), ("ipo", "2p - 1", 1 / 0.6), ("hinge", "a step", 2)])
def test_the_margin_follows_the_losss_own_law_of_the_preference(name, law, scale):
    found_law = found(name)["noise"].details["law"]
    assert found_law["name"] == law
    assert found_law["scale"] == pytest.approx(scale, rel=1e-6)


def test_a_preference_without_noise_has_a_finite_margin_under_cdpo_ipo_and_hinge_only():
    assert found("dpo")["noise"].value == float("inf")
    assert found("cdpo")["noise"].value == pytest.approx(np.log(0.9 / 0.1) / 0.5, rel=1e-9)
    assert found("ipo")["noise"].value == pytest.approx(1 / 0.6, rel=1e-9)
    assert found("hinge")["noise"].value == pytest.approx(2, rel=1e-9)


@pytest.mark.parametrize("name", ["dpo", "cdpo", "ipo", "hinge"])
def test_what_sees_the_margin_alone_holds_no_likelihood(name):
    answer = found(name)
    assert answer["displacement"].value == 0
    assert answer["swap"].grade == "good"
    assert answer["reference"].grade == "good"
    assert answer["length"].grade == "good"


def test_a_mean_over_tokens_depends_on_lengths_as_trls_ipo_does():
    def averaged(c, r, a, b, lc, lr):
        return ((c - a) / lc - (r - b) / lr - 1 / 0.6).square().mean()

    answer = audit_preference(averaged)
    assert answer["length"].grade == "note"
    assert answer["length"].value > 0.1
    assert found("simpo")["length"].value > 0.1
    assert found("simpo")["reference"].value == 0


def test_a_sign_error_is_caught():
    answer = audit_preference(lambda *a: -dpo(0.5)(*a))
    assert answer["direction"].grade == "bad"
    swapped = audit_preference(lambda c, r, a, b, *_: -logsigmoid(0.5 * margin(r, c, b, a)).mean())
    assert swapped["direction"].grade == "bad"
    assert "wrong way round" in swapped["optimum"].verdict
    assert swapped["noise"].value == float("-inf")


def test_pairs_that_act_on_each_other_are_caught():
    def coupled(c, r, a, b, *_):
        m = margin(c, r, a, b)
        return -logsigmoid(m - 0.5 * m.mean().detach()).mean()

    answer = audit_preference(coupled)
    assert answer["microbatch"].grade == "bad"


def discopop(beta=0.1, temperature=0.05):
    """DiscoPOP as its authors published it (Lu et al. 2024, arXiv 2406.08414)."""

    def loss(c, r, a, b, *_):
        m = beta * margin(c, r, a, b)
        gate = torch.sigmoid(m / temperature)
        return ((1 - gate) * -logsigmoid(m) + gate * torch.exp(-m)).mean()

    return loss


def test_a_sure_preference_that_rests_with_the_rejected_response_ahead_is_a_fault():
    answer = audit_preference(discopop())

    def value(m):
        return float(discopop()(*torch.tensor([m, 0.0, 0.0, 0.0], dtype=torch.float64)))

    rest = optimize.minimize_scalar(value, bounds=(-5, 0), method="bounded", options={"xatol": 1e-10}).x
    assert answer["noise"].value == pytest.approx(rest, abs=1e-5)
    assert answer["noise"].grade == "bad"
    assert "rejected" in answer["noise"].verdict


def test_a_loss_that_lowers_the_chosen_response_where_policy_and_reference_agree_is_a_fault():
    assert audit_preference(discopop())["direction"].grade == "bad"
    assert found("ipo")["direction"].grade == "note"


def single(loss):
    """The loss computed in float32, whatever it is given."""
    return lambda *arguments: loss(*(part.float() if part.is_floating_point() else part for part in arguments)).double()


@pytest.mark.parametrize("name", ["dpo", "cdpo", "ipo", "hinge", "simpo"])
def test_a_loss_that_computes_in_single_precision_gets_the_verdicts_of_double(name):
    answer, wanted = audit_preference(single(LOSSES[name])), found(name)
    for finding in wanted.findings:
        assert answer[finding.key].grade == finding.grade, finding.key
    assert answer["margin"].details["parameters"] == pytest.approx(wanted["margin"].details["parameters"], rel=1e-4)
    for key in ("swap", "displacement", "length", "reference"):
        if wanted[key].grade == "good":
            assert answer[key].verdict == wanted[key].verdict


def test_a_label_that_is_ignored_is_caught():
    answer = audit_preference(lambda c, r, a, b, *_: -(c + r).mean())
    assert answer["swap"].grade == "bad"


def apo_zero(c, r, a, b, *_):
    """A slope that is even in each log-ratio (D'Oosterlinck et al. 2024, arXiv 2408.06266)."""
    return (1 - torch.sigmoid(0.5 * (c - a)) + torch.sigmoid(0.5 * (r - b))).mean()


def test_an_even_slope_is_not_taken_for_a_label_that_is_ignored():
    assert "ignored" not in audit_preference(apo_zero)["swap"].verdict


@pytest.mark.parametrize(("weights", "grade"), [((1, 1), "note"), ((2, 1), "good"), ((1, 2), "bad"), ((1, 1.01), "note")])
def test_the_net_weight_on_a_pairs_likelihood_grades_its_displacement(weights, grade):
    up, down = weights
    finding = audit_preference(lambda c, r, a, b, *_: (down * r - up * c).mean())["displacement"]
    assert finding.grade == grade
    assert finding.value == pytest.approx((up - down) / (up + down), abs=1e-12)


def test_a_loss_that_lowers_even_the_chosen_response_is_said_to():
    finding = audit_preference(lambda c, r, a, b, *_: (c + 3 * r).mean())["displacement"]
    assert "even the chosen" in finding.verdict
    assert finding.value == -1


def test_an_overflow_is_caught():
    answer = audit_preference(lambda c, r, a, b, *_: torch.log1p(torch.exp(-0.1 * margin(c, r, a, b))).mean())
    assert answer["extremes"].grade == "bad"
    assert found("dpo")["extremes"].grade == "good"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda *a: (dpo(0.1)(*a), 1, 2), "tuple of 3"),
        (lambda c, r, a, b, *_: margin(c, r, a, b), "shape"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
        (lambda *a: dpo(0.1)(*a).detach(), "no gradient"),
        (lambda *a: dpo(0.1)(*a) * float("nan"), "NaN"),
    ],
)
def test_what_cannot_be_audited_is_a_finding(loss, words):
    answer = audit_preference(loss)
    assert len(answer.findings) == 1
    assert words in answer["runs"].verdict
    assert answer["runs"].grade == "bad"


def test_the_population_slope_is_the_derivative_of_the_population_value():
    generator = np.random.default_rng(0)
    population = Population(
        PreferenceOracle.population(generator.normal(size=(3, 4))),
        generator.dirichlet(np.ones(4)),
        generator.uniform(size=(4, 4)),
    )
    for name in ("cdpo", "orpo"):
        subject = Subject(LOSSES[name])
        score = generator.normal(size=4)
        slope = optimize.approx_fprime(score, lambda u, subject=subject: population_value(subject, population, u), 1e-7)
        np.testing.assert_allclose(population_slope(subject, population, score), slope, atol=1e-5)


def test_one_response_is_refused():
    with pytest.raises(AuditError, match="two or more"):
        audit_preference(dpo(0.1), PreferenceOracle(np.array([[0.5]])))


@pytest.mark.parametrize(("name", "settings_of", "tau"), [("copg", {"temperature": 0.06}, 0.03), ("rebel", {"rate": 1.0}, 0.5)])
def test_what_regresses_on_rewards_is_audited_with_one_and_zero_and_is_then_ipo(name, settings_of, tau):
    audited = audit_preference(preference(name, **settings_of))
    assert audited["given"].details["rewards"] == (1.0, 0.0)
    assert "as IPO does" in audited["margin"].verdict
    assert audited["margin"].details["parameters"]["tau"] == pytest.approx(tau)

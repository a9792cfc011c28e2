"""Margins of thousands of nats, probabilities next to one, single precision: the kernel keeps its digits or says why not."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from banach.llm.errors import BatchError
from banach.llm.pair_batch import PairBatch, Sequences
from banach.llm.preference_catalogue import PREFERENCES, preference
from banach.llm.preference_kernel import evaluate_preference
from banach.llm.preference_link import Hinge, Linear, Logistic, ReverseKL, Sigmoid, Squared
from banach.llm.preference_plan import log1mexp
from hypothesis import given, settings
from hypothesis import strategies as st

LINKS = [Linear(), Logistic(0.3), Logistic(-2.0, 0.5), Squared(1.5, 0.7), Hinge(0.3, 1.2), Sigmoid(0.8), ReverseKL(0.5, 0.01)]
every_link = pytest.mark.parametrize("link", LINKS, ids=str)
battery = settings(deadline=None, max_examples=40, derandomize=True)


def batch_of(chosen: float, rejected: float, dtype=torch.float64) -> PairBatch:
    sides = []
    for logp in (chosen, rejected):
        one, ref = torch.tensor([logp], dtype=dtype, requires_grad=True), torch.tensor([-1.0], dtype=dtype)
        some = torch.tensor([0.5], dtype=dtype)
        sides.append(Sequences(one, torch.ones(1), ref, ref, win_B=some, reward_B=some))
    return PairBatch(*sides, log_ratio_mismatched_M=torch.tensor([0.1], dtype=dtype))


@every_link
@given(margin=st.floats(-50, 50))
@battery
def test_the_slope_of_a_link_is_the_derivative_of_its_value(link, margin):
    m = torch.tensor(margin, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(link.value(m), m)
    torch.testing.assert_close(link.slope(m.detach()), slope, rtol=1e-9, atol=1e-13)


@every_link
def test_no_slope_exceeds_the_reach_of_its_link_and_some_comes_close(link):
    if math.isinf(link.reach):
        return
    steepest = link.slope(torch.linspace(-100, 100, 200_001, dtype=torch.float64)).abs().max().item()
    assert 0.999 * link.reach <= steepest <= 1.000_01 * link.reach


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("margin", [0.0, 1e-30, 1.0, 50.0, 1e3, 1e4, -1e-30, -1.0, -50.0, -1e3, -1e4])
def test_the_logistic_link_keeps_both_tails(margin, dtype):
    """Against 50 digits; a value below the smallest float is zero and no error."""
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    x = torch.tensor(margin, dtype=dtype)
    with mpmath.workdps(50):
        value = float(mpmath.log1p(mpmath.exp(-mpmath.mpf(x.item()))))
        slope = float(-1 / (1 + mpmath.exp(mpmath.mpf(x.item()))))
    link = Logistic(1.0)
    assert link.value(x).item() == pytest.approx(value, rel=8 * eps, abs=tiny)
    assert link.slope(x).item() == pytest.approx(slope, rel=8 * eps, abs=tiny)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("x", [-1e-30, -1e-10, -1e-3, -0.5, -0.693, -0.694, -1.0, -20.0, -80.0])
def test_log1mexp_and_its_derivative_keep_their_digits(x, dtype):
    eps = torch.finfo(dtype).eps
    t = torch.tensor(x, dtype=dtype, requires_grad=True)
    with mpmath.workdps(60):
        exact = mpmath.mpf(t.item())
        value, slope = float(mpmath.log(-mpmath.expm1(exact))), float(1 / -mpmath.expm1(-exact))
    found = log1mexp(t)
    (derivative,) = torch.autograd.grad(found, t)
    assert found.item() == pytest.approx(value, rel=8 * eps)
    assert derivative.item() == pytest.approx(slope, rel=8 * eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", PREFERENCES)
@pytest.mark.parametrize("ends", [(-1.0, -1e4), (-1e4, -1.0), (-1e4, -1e4), (-1e-7, -1e4), (-1e4, -1e-5)], ids=str)
def test_extreme_log_probabilities_give_finite_losses_and_weights_that_autograd_confirms(name, ends, dtype):
    batch = batch_of(*ends, dtype)
    evaluation = evaluate_preference(preference(name), batch)
    leaves = [side.logp_B for side in batch.sides]
    found = torch.autograd.grad(evaluation.loss, leaves, allow_unused=True)
    assert evaluation.loss.isfinite()
    eps = torch.finfo(dtype).eps
    for weight_B, slope in zip((evaluation.weight_chosen_B, evaluation.weight_rejected_B), found, strict=True):
        expected = torch.zeros_like(weight_B) if slope is None else -slope
        assert weight_B.isfinite().all()
        torch.testing.assert_close(weight_B, expected, rtol=64 * eps, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("chosen", [0.0, -1e-12, -1e-9, -1e-5])
@pytest.mark.parametrize("rejected", [-0.1, -2.0, -30.0])
def test_the_odds_ratio_stays_finite_as_the_chosen_sequence_becomes_certain(chosen, rejected, dtype):
    """With o the odds of the rejected one, the weight on the chosen one is  1 + lambda o / (o (1 - p) + p)."""
    evaluation = evaluate_preference(preference("orpo", weight=0.5), batch_of(chosen, rejected, dtype))
    p = math.exp(chosen)
    odds = math.exp(rejected) / -math.expm1(rejected)
    expected = 1 + 0.5 * odds / (odds * -math.expm1(chosen) + p)
    tolerance = 32 * torch.finfo(dtype).eps * (1 + odds)  # 1 - p is known to machine precision only
    assert evaluation.weight_chosen_B.item() == pytest.approx(expected, rel=tolerance)
    assert evaluation.loss.item() >= 0


def test_a_losing_sequence_of_probability_one_is_refused_under_odds():
    with pytest.raises(BatchError, match="probability one that should lose has infinite log-odds; remove the pair"):
        evaluate_preference(preference("orpo"), batch_of(-1.0, 0.0))


def test_the_published_target_of_inpo_survives_single_precision():
    """1/(2 eta) = 66.7 nats on sums of 3000: the margin is a difference of large numbers, exact to their rounding."""
    spec = preference("inpo")
    assert spec.terms[0].link.target == pytest.approx(200 / 3)
    single, double = (evaluate_preference(spec, batch_of(-3000.25, -3001.5, dtype)) for dtype in (torch.float32, torch.float64))
    assert single.loss.item() == pytest.approx(double.loss.item(), rel=1e-5)


@pytest.mark.parametrize(("name", "margin"), [("dpo", 46.0), ("hinge", 10.0), ("kto", 60.0)])
def test_a_pair_is_called_saturated_when_it_hardly_pulls(name, margin):
    constants = {"centre": "zero"} if name == "kto" else {}
    spec = preference(name, **constants)
    shares = [
        evaluate_preference(spec, batch_of(-1.0 - 0.01, -1.0 - 0.01 - m)).diagnostics["saturated"]
        for m in (0.5, margin - 1, margin + 1)
    ]
    assert shares[:2] == [0, 0]
    assert shares[2] in {0.5, 1.0}  # of KTO's two sequences one has moved


def test_a_pair_beyond_the_hinge_raises_nothing():
    spec = preference("hinge", temperature=1.0)
    near, beyond = (evaluate_preference(spec, batch_of(-1.0, -1.0 - m)).diagnostics["chosen_raised"] for m in (0.9, 1.1))
    assert (near, beyond) == (1, 0)


def test_a_quadratic_never_saturates():
    assert evaluate_preference(preference("ipo"), batch_of(-1.0, -1e6)).diagnostics["saturated"] == 0


def test_diagnostics_of_a_batch_that_can_be_counted_by_hand():
    logp = torch.tensor([[-1.0, -2.0, -3.0, -4.0], [-2.0, -1.0, -3.0, -6.0]], dtype=torch.float64)
    ref = torch.full((4,), -2.0, dtype=torch.float64)
    batch = PairBatch(Sequences(logp[0], ref_B=ref), Sequences(logp[1], ref_B=ref))
    found = evaluate_preference(preference("dpo", temperature=1.0), batch).diagnostics
    assert found["accuracy"] == pytest.approx(float(Fraction(5, 8)))  # two right, one wrong, one tie
    assert found["margin"] == pytest.approx(0.5)
    assert found["chosen_logp"] == pytest.approx(-2.5)
    assert found["rejected_log_ratio"] == pytest.approx(-1.0)
    assert found["chosen_raised"] == 1.0
    assert found["net_weight"] == pytest.approx(0.0, abs=1e-15)

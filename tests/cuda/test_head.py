"""The chunked head equals autograd of the naive formula."""

import subprocess
import sys

import pytest
import torch
from banach.cuda import head_chunked
from banach.cuda.head import linear_log_prob
from hypothesis import given, settings
from hypothesis import strategies as st

from .head_naive import gradients, inputs, naive


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 10**6),
    st.integers(1, 10),
    st.sampled_from([1.0, 0.7, 1.5]),
    st.sampled_from([0.1, 1.0, 5.0]),
)
def test_values_and_gradients_are_those_of_the_naive_formula(n, v, d, seed, piece, temperature, spread):
    given_ = inputs(n, v, d, seed, spread=spread)
    top = v // 2
    wanted, wanted_gradients = gradients(naive, *given_, temperature=temperature, top=top)
    found, found_gradients = gradients(linear_log_prob, *given_, temperature=temperature, top=top, piece=piece)
    for x, y in zip((*wanted[:2], *wanted_gradients), (*found[:2], *found_gradients), strict=True):
        torch.testing.assert_close(y, x, rtol=1e-10, atol=1e-11)
    if top:
        torch.testing.assert_close(found.top_mass_N, wanted[2].detach(), rtol=1e-12, atol=1e-12)
    else:
        assert found.top_mass_N is None


def test_the_gradient_passes_finite_differences():
    hidden, weight, target, *_ = inputs(4, 6, 3)
    hidden.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, w: linear_log_prob(h, w, target, temperature=0.8, piece=3)[:2], (hidden, weight))


def test_without_entropy_the_log_probabilities_and_their_gradients_are_the_same():
    given_ = inputs(7, 11, 4)
    given_[-1].zero_()
    with_entropy, first = gradients(linear_log_prob, *given_, piece=3)
    without, second = gradients(linear_log_prob, *given_, entropy=False, piece=3)
    assert without.entropy_N is None
    assert torch.equal(with_entropy.logp_N, without.logp_N)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_rows_without_weight_are_never_formed_again(monkeypatch):
    hidden, weight, target, up_logp, up_entropy = inputs(9, 7, 4)
    live = (up_logp != 0) | (up_entropy != 0)
    assert 0 < live.sum() < 9
    leaf, formed, plain = hidden.clone().requires_grad_(), [], head_chunked._logits
    values = linear_log_prob(leaf, weight, target, piece=4)
    monkeypatch.setattr(head_chunked, "_logits", lambda h, *rest: formed.append(h) or plain(h, *rest))
    gradient = torch.autograd.grad((up_logp * values.logp_N + up_entropy * values.entropy_N).sum(), leaf)[0]
    assert torch.equal(torch.cat(formed), hidden[live])
    assert (gradient[~live] == 0).all()
    assert (gradient[live] != 0).any(1).all()


def test_dead_rows_may_hold_anything():
    hidden, weight, target, up_logp, up_entropy = inputs(9, 7, 4)
    dead = (up_logp == 0) & (up_entropy == 0)
    hidden[dead] = 1e200
    leaf = weight.clone().requires_grad_()
    values = linear_log_prob(hidden, leaf, target)
    live = ~dead
    loss = (up_logp[live] * values.logp_N[live]).sum()
    assert torch.autograd.grad(loss, leaf)[0].isfinite().all()


def test_half_precision_sums_in_single_precision():
    """8000 tokens of one direction: a bfloat16 sum of their gradients would stop at 256 times the first."""
    n = 8000
    hidden = torch.ones(n, 2, dtype=torch.bfloat16)
    weight = torch.zeros(3, 2, dtype=torch.bfloat16).requires_grad_()
    values = linear_log_prob(hidden, weight, torch.zeros(n, dtype=torch.int64), piece=64)
    assert values.logp_N.dtype == torch.float32
    gradient = torch.autograd.grad(values.logp_N.sum(), weight)[0].float()
    torch.testing.assert_close(gradient[0], torch.full((2,), n * 2 / 3), rtol=4e-3, atol=0.0)


def test_a_common_level_of_the_logits_costs_no_digits():
    hidden, weight, target, *_ = inputs(5, 30, 4, dtype=torch.float32, level=1000.0)
    found = linear_log_prob(hidden, weight, target, top=3)
    wanted = naive(hidden.double(), weight.double(), target, top=3)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=0.0, atol=3e-3)


def test_no_tokens_are_no_trouble():
    weight = torch.ones(3, 2, requires_grad=True)
    values = linear_log_prob(torch.empty(0, 2), weight, torch.empty(0, dtype=torch.int64), top=2)
    assert [len(x) for x in values] == [0, 0, 0]
    assert (torch.autograd.grad(values.logp_N.sum(), weight)[0] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_ND": torch.ones(2, 4)}, r"\(2, 4\) and weight_VD \(5, 3\)"),
        ({"hidden_ND": torch.ones(2, 3, dtype=torch.float64)}, "one floating-point type"),
        ({"target_N": torch.tensor([0, 5])}, r"outside \[0, 5\)"),
        ({"target_N": torch.tensor([0])}, r"int64 of shape \(2,\)"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"top": 6}, "top=6 of a vocabulary of 5"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given_ = {"hidden_ND": torch.ones(2, 3), "weight_VD": torch.ones(5, 3), "target_N": torch.tensor([0, 1])} | change
    with pytest.raises(ValueError, match=message):
        linear_log_prob(**given_)


def test_the_room_imports_without_triton():
    program = "import sys; sys.modules['triton'] = None; import banach.cuda.head"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

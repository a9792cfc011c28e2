r"""What one token's own optimiser step would do, predicted from the last layer alone.

A token a at hidden state h in R^D, logits z = W h, pi = softmax(z), v = e_a - pi, advantage A. The last layer's ascent gradient
is g = A v h^T. For a candidate step Delta of W, u = Delta h is what it does to the logits, and with F = diag(pi) - pi pi^T

    m_H = <g, Delta> + A/2 ((v.u)^2 - u^T F u),     change of A log pi(a) weighted by the ratio, to second order,
    m_F = (v.u)^2 / 2,                               a sample of KL(pi_z, pi_{z+u}):  E_{a ~ pi} m_F = u^T F u / 2,

and |KL - u^T F u / 2| <= (max u - min u)^3 / 24. u^T F u is a variance, sum pi u^2 - (sum pi u)^2; no V x V matrix is formed.
The step is that of ONE token with its full gradient, not divided by the batch: thresholds on m_H and m_F scale like the rate
squared, A squared and |h|^4, and do not carry over from one model to another; `quantiles` calibrates them.

| step | Delta |
|---|---|
| `SGDStep` | rate g; then with n = v.v, c = h.h: m_H = rate A^2 n c + rate^2 A^3 c^2 (n^2 - v'F v)/2, m_F = (rate A n c)^2/2 |
| `AdamStep` | rate m' / (sqrt(n') + eps), bias corrected, with moments that are read and not moved |

Melo, Abate and Gal 2025, arXiv 2510.00819.

Shape suffixes: B sequences, T token positions, V vocabulary, D width, M tokens that are looked at.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import BatchError, ObjectiveWarning, SpecError
from .outcome import Outcome
from .plan import Plan

_TOKENS_AT_ONCE = 4096

_MANY = 32
"""From how many tokens with an advantage on it is no accident that all of them are rejected."""

_NORMALISED = 1e-3
"""How far from 1 the probabilities of a log-policy in short floats may sum."""


class StepModel(Protocol):
    """A model of the optimiser's step on the last layer."""

    def ready(self) -> bool:
        """Whether a step can be predicted."""
        ...

    def __call__(self, v_MV: Tensor, h_MD: Tensor, advantage_M: Tensor, /) -> tuple[Tensor, Tensor]:
        """<g, Delta>, (M,), and u = Delta h, (M, V)."""
        ...


@dataclass(frozen=True)
class SGDStep:
    """Delta = rate g. Raises SpecError for a rate that is not positive."""

    rate: float

    def __post_init__(self) -> None:
        _positive("rate", self.rate)

    def ready(self) -> bool:
        """Always."""
        return True

    def __call__(self, v_MV: Tensor, h_MD: Tensor, advantage_M: Tensor) -> tuple[Tensor, Tensor]:
        """<g, Delta>, (M,), and u, (M, V)."""
        size_M = h_MD.square().sum(-1)
        inner_M = self.rate * advantage_M.square() * v_MV.square().sum(-1) * size_M
        return inner_M, (self.rate * advantage_M * size_M)[:, None] * v_MV


class Moments:
    """Adam's moments of the unembedding, (V, D) each, none before the first update.

    betas: of the optimiser, in [0, 1); `AdamStep` reads them here. Raises SpecError for others.
    """

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise SpecError(f"betas={betas}: two numbers in [0, 1)")
        self.betas = betas
        self.first: Tensor | None = None
        self.second: Tensor | None = None
        self.count = 0

    def update(self, gradient_VD: Tensor) -> None:
        """Take in one gradient, (V, D). Raises BatchError for one of another shape than the last, or that is not finite."""
        gradient_VD = gradient_VD.detach().double()
        if self.first is not None and gradient_VD.shape != self.first.shape:
            shapes = f"{tuple(gradient_VD.shape)} after {tuple(self.first.shape)}"
            raise BatchError(f"a gradient of shape {shapes}: moments are those of one layer, (V, D)")
        if gradient_VD.ndim != 2 or not gradient_VD.isfinite().all():
            raise BatchError(f"a gradient of shape {tuple(gradient_VD.shape)}; give finite numbers of shape (V, D)")
        first = torch.zeros_like(gradient_VD) if self.first is None else self.first
        second = torch.zeros_like(gradient_VD) if self.second is None else self.second
        self.first = self.betas[0] * first + (1 - self.betas[0]) * gradient_VD
        self.second = self.betas[1] * second + (1 - self.betas[1]) * gradient_VD.square()
        self.count += 1


@dataclass(frozen=True)
class AdamStep:
    """Adam's next step if the token's gradient came next. Raises SpecError for settings out of range.

    rate, epsilon: of the optimiser. moments: shared with the run, which updates them; here they, and their betas, are only
    read. Before the first update nothing can be predicted, for Adam's first step is a sign, and every token is kept.
    """

    rate: float
    moments: Moments
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _positive("rate", self.rate)
        _positive("epsilon", self.epsilon)

    def ready(self) -> bool:
        """Whether there are moments."""
        return self.moments.count > 0

    def __call__(self, v_MV: Tensor, h_MD: Tensor, advantage_M: Tensor) -> tuple[Tensor, Tensor]:
        """<g, Delta>, (M,), and u, (M, V). Raises BatchError before the first update, and for moments of another layer."""
        if self.moments.first is None or self.moments.second is None:
            raise BatchError("Adam's step needs moments; update them with a first gradient, or ask `ready`")
        count, (b1, b2) = self.moments.count + 1, self.moments.betas
        layer = (v_MV.shape[1], h_MD.shape[1])
        if tuple(self.moments.first.shape) != layer:
            found = tuple(self.moments.first.shape)
            raise BatchError(f"the moments are of shape {found}, the tokens' last layer of {layer}; share those of this layer")
        gradient = (advantage_M[:, None] * v_MV)[:, :, None] * h_MD[:, None, :]
        first = (b1 * self.moments.first + (1 - b1) * gradient) / (1 - b1**count)
        second = (b2 * self.moments.second + (1 - b2) * gradient.square()) / (1 - b2**count)
        step = self.rate * first / (second.sqrt() + self.epsilon)
        return (gradient * step).sum((1, 2)), (step @ h_MD[:, :, None])[..., 0]


def predicted(
    step: StepModel, log_policy_MV: Tensor, token_M: Tensor, h_MD: Tensor, advantage_M: Tensor
) -> tuple[Tensor, Tensor]:
    """m_H and m_F, (M,) each, float64, of tokens (M,) with log-policies (M, V), hidden states (M, D) and advantages (M,).

    The log-policies sum to one on the support that is sampled: those of a truncated support are renormalised on it first, with
    -inf elsewhere. Raises BatchError where they do not, where a token is outside its support, and for numbers that are not
    finite.
    """
    count = len(token_M)
    if log_policy_MV.ndim != 2 or h_MD.ndim != 2 or not len(log_policy_MV) == len(h_MD) == len(advantage_M) == count:
        shapes = ", ".join(str(tuple(x.shape)) for x in (log_policy_MV, token_M, h_MD, advantage_M))
        raise BatchError(f"log-policies, tokens, states and advantages of shapes {shapes}; give (M, V), (M,), (M, D), (M,)")
    if count and not 0 <= int(token_M.min()) <= int(token_M.max()) < log_policy_MV.shape[1]:
        raise BatchError(f"tokens lie in 0 ... {log_policy_MV.shape[1] - 1}, the width of the log-policies")
    parts = []
    for rows in torch.arange(count).split(_TOKENS_AT_ONCE):
        pi_MV, h, A_M = (x[rows].detach().double() for x in (log_policy_MV, h_MD, advantage_M))
        pi_MV = pi_MV.exp()
        here = (torch.arange(len(rows)), token_M[rows])
        _check(pi_MV, pi_MV[here], h, A_M)
        v_MV = -pi_MV
        v_MV[here] += 1
        inner_M, u_MV = step(v_MV, h, A_M)
        along_M = (v_MV * u_MV).sum(-1).square()
        spread_M = (pi_MV * u_MV.square()).sum(-1) - (pi_MV * u_MV).sum(-1).square()
        parts.append((inner_M + A_M / 2 * (along_M - spread_M), along_M / 2))
    if not parts:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _check(pi_MV: Tensor, chance_M: Tensor, h_MD: Tensor, advantage_M: Tensor) -> None:
    """Raises BatchError for policies, chances of the tokens, hidden states and advantages that no token can have."""
    if not (h_MD.isfinite().all() and advantage_M.isfinite().all()):
        raise BatchError("a hidden state or an advantage is not finite; the shift of its token cannot be predicted")
    worst = (pi_MV.sum(1) - 1).abs().amax() if len(pi_MV) else pi_MV.new_zeros(())
    if not worst <= _NORMALISED:
        raise BatchError(f"probabilities miss 1 by {worst:.2g}; renormalise the log-policies on the support that is sampled")
    if not (chance_M > 0).all():
        raise BatchError("a token has probability 0 under its log-policy; give the policy, and the support, that sampled it")


@dataclass(frozen=True)
class CurvatureFilter:
    """Keeps the tokens whose predicted shifts are small: |m_H| < curvature and m_F < shift.

    step: model of the optimiser. curvature, shift: thresholds, infinity to leave one out, 0 to reject everything. least: if
    given, the lower bound on m_H instead of -curvature, below curvature (0: published as an option; the paper's theorem asks
    for a positive one); tokens without an advantage are neutral and stay. Published: 1e-2 and 1e-4 for GRPO, 5e-4 and 1e-3 for
    Dr. GRPO. Where each of 32 or more tokens with an advantage is rejected, an ObjectiveWarning says so. Raises SpecError
    for negative thresholds and for a lower bound that leaves nothing.
    """

    step: StepModel
    curvature: float = 1e-2
    shift: float = 1e-4
    least: float | None = None

    needs = ("token_BT", "hidden_BTD", "log_policy_BTV")

    def __post_init__(self) -> None:
        if not (self.curvature >= 0 and self.shift >= 0):
            raise SpecError(f"curvature={self.curvature}, shift={self.shift}: thresholds of absolute values; give 0 or more")
        if self.least is not None and not self.least < self.curvature:
            raise SpecError(f"least={self.least}, curvature={self.curvature}: no m_H is between; give a least below curvature")

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, T), bool. Raises BatchError where the batch lacks tokens, hidden states or log-policies."""
        keep_BT = torch.ones_like(out.batch.mask_BT)
        if not self.step.ready():
            return keep_BT
        m_H, m_F = shifts(self.step, out, advantage_BT)
        low = -self.curvature if self.least is None else self.least
        above = m_H > low if self.least is None else m_H >= low
        live, asked = advantage_BT[out.batch.mask_BT] != 0, self.curvature > 0 and self.shift > 0
        small = above & (m_H < self.curvature) & (m_F < self.shift)
        if asked and int(live.sum()) >= _MANY and not small[live].any():
            text = f"all {int(live.sum())} tokens with an advantage are rejected: nothing is learnt; calibrate with `quantiles`"
            warnings.warn(text, ObjectiveWarning, stacklevel=2)
        keep_BT[out.batch.mask_BT] = small | ~live if asked else small
        return keep_BT


def shifts(step: StepModel, out: Outcome, advantage_BT: Tensor) -> tuple[Tensor, Tensor]:
    """m_H and m_F of the policy tokens in reading order, (M,) each; advantages (B, T). Raises BatchError as
    `CurvatureFilter`.
    """
    batch, mask_BT = out.batch, out.batch.mask_BT
    if batch.token_BT is None or batch.hidden_BTD is None or batch.log_policy_BTV is None:
        raise BatchError("the predicted shifts read token_BT, hidden_BTD and log_policy_BTV, which the batch lacks")
    where = (batch.log_policy_BTV[mask_BT], batch.token_BT[mask_BT], batch.hidden_BTD[mask_BT], advantage_BT[mask_BT])
    return predicted(step, *where)


def quantiles(step: StepModel, out: Outcome, advantage_BT: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Thresholds (curvature, shift) that each keep this share of the tokens that have an advantage; advantages (B, T)."""
    m_H, m_F = shifts(step, out, advantage_BT)
    counts = advantage_BT[out.batch.mask_BT] != 0
    if not counts.any():
        return float("inf"), float("inf")
    return float(m_H[counts].abs().quantile(level)), float(m_F[counts].quantile(level))


def rejected(plan: Plan) -> tuple[int, int]:
    """How many of the policy tokens that have an advantage a plan leaves out, and how many there are."""
    live_BT = plan.batch.mask_BT & (plan.advantage_BT != 0)
    return int((live_BT & ~plan.mask_BT).sum()), int(live_BT.sum())


def last_layer_gradient(plan: Plan) -> Tensor:
    """The mean ascent gradient of the unembedding over the tokens that a plan keeps, (V, D), float64.

    Each row is the mean over the tokens in whose support it is. Raises BatchError where the batch lacks tokens, hidden states
    or log-policies.
    """
    batch, mask_BT = plan.batch, plan.mask_BT
    if batch.token_BT is None or batch.hidden_BTD is None or batch.log_policy_BTV is None:
        raise BatchError("the last layer's gradient reads token_BT, hidden_BTD and log_policy_BTV, which the batch lacks")
    pi_MV = batch.log_policy_BTV[mask_BT].detach().double().exp()
    v_MV = -pi_MV
    v_MV[torch.arange(len(v_MV)), batch.token_BT[mask_BT]] += 1
    pull_MV = plan.advantage_BT[mask_BT].double()[:, None] * v_MV
    seen_V = (pi_MV > 0).sum(0).clamp(min=1)
    return pull_MV.T @ batch.hidden_BTD[mask_BT].detach().double() / seen_V[:, None]


def _positive(name: str, number: float) -> None:
    if not 0 < number < float("inf"):
        raise SpecError(f"{name}={number} of the step model; give a positive number")

r"""Divergence from a reference policy: estimators a token, with their derivatives.

With d = logp_ref - logp at a sampled token (Schulman 2020, "Approximating KL divergence"),

| estimator | value | derivative by logp | expectation under the policy | expected derivative, samples held fixed |
|---|---|---|---|---|
| k1 | -d | 1 | KL(policy, reference) | 0: as a loss it does nothing |
| k2 | d^2 / 2 | -d | not the KL | gradient of KL(policy, reference) |
| k3 | exp(d) - d - 1, >= 0 | 1 - exp(d) | KL(policy, reference) | gradient of KL(reference, policy), the *forward* divergence |
| k3+ | that of k3 | that of k2 | KL(policy, reference) | gradient of KL(policy, reference) |
| full | sum_v p_v (log p_v - log q_v) | p_v (log p_v - log q_v + 1) by log p_v | exact | exact at each prefix |

So "+ beta k3 in the loss" regularises the forward divergence at the current policy. With `importance` the estimator is
multiplied by the token's ratio, through which the gradient passes too: r (k + k'), whose expectation under the old policy is
the gradient of KL(policy, reference) at each prefix for k1 and k3. In the reward, k1 of the old policy is a charge, and its
policy gradient is that of KL(policy, reference).

exp(d) explodes where the policy has all but given up a token of the reference: d is clamped from above, the derivative is
0 beyond, and such tokens are counted.

Shape suffixes: B sequences, T token positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .batch import TokenBatch
from .errors import BatchError, SpecError
from .ratio import masked

ESTIMATORS = ("k1", "k2", "k3", "k3+", "full")


@dataclass(frozen=True)
class Divergence:
    """A penalty on the distance to a reference. Raises SpecError for settings that contradict each other; its methods raise
    BatchError where the batch lacks the reference.

    coefficient: beta > 0, in units of reward a nat.
    estimator: k1 | k2 | k3 | k3+ | full.
    where: loss (added a token) or reward (charged to each token, from the old policy).
    reference: ref (`logp_ref_BT`) or old (`logp_old_BT`: the previous iterate).
    importance: multiply by the token's ratio, gradient included (in the loss, not for full).
    clamp: d is clamped at this many nats from above.
    """

    coefficient: float
    estimator: Literal["k1", "k2", "k3", "k3+", "full"] = "k3"
    where: Literal["loss", "reward"] = "loss"
    reference: Literal["ref", "old"] = "ref"
    importance: bool = False
    clamp: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.coefficient < float("inf"):
            raise SpecError(f"coefficient={self.coefficient} of a divergence; give a positive number, or no divergence at all")
        if self.estimator not in ESTIMATORS or self.where not in ("loss", "reward") or self.reference not in ("ref", "old"):
            raise SpecError(
                f"estimator={self.estimator!r}, where={self.where!r}, reference={self.reference!r}; give one of "
                f"{', '.join(ESTIMATORS)}; loss or reward; ref or old"
            )
        if not 0 < self.clamp <= 80:
            raise SpecError(f"clamp={self.clamp} nats; give a number in (0, 80]: exp overflows float32 beyond 88")
        if self.where == "reward" and (self.importance or self.reference == "old"):
            raise SpecError(
                "a charge on the reward is a number of the old policy against the reference: no importance, not 'old'"
            )
        if self.estimator == "full" and (self.importance or self.where == "reward" or self.reference == "old"):
            raise SpecError(
                "estimator 'full' is summed over the tables of the batch: in the loss, without importance, to 'ref'"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read beyond the obligatory ones."""
        if self.estimator == "full":
            return ("log_policy_BTV", "log_reference_BTV")
        return ("logp_ref_BT",) if self.reference == "ref" else ()

    def charge(self, batch: TokenBatch) -> Tensor:
        """beta times the estimate for the old policy, shape (B, T), float64: what is taken from each token's reward."""
        old_BT = masked(batch.logp_old_BT, batch.mask_BT).detach().double()
        return self.coefficient * estimate(self.estimator, old_BT, self._reference(batch, old_BT), self.clamp)

    def value(self, logp_BT: Tensor, ratio_BT: Tensor, batch: TokenBatch) -> Tensor:
        """The estimate a token, shape (B, T), differentiable, without beta; log-probabilities (B, T) are 0 off the mask."""
        if self.estimator == "full":
            return full_divergence(*tables(batch))
        value_BT = estimate(self.estimator, logp_BT, self._reference(batch, logp_BT), self.clamp)
        return ratio_BT * value_BT if self.importance else value_BT

    def weight(self, logp_BT: Tensor, ratio_BT: Tensor, live_BT: Tensor, batch: TokenBatch) -> Tensor:
        """Its derivative by the token's log-probability, shape (B, T); 0 for full. Arguments (B, T), detached."""
        if self.estimator == "full":
            return torch.zeros_like(logp_BT)
        reference_BT = self._reference(batch, logp_BT)
        slope_BT = derivative(self.estimator, logp_BT, reference_BT, self.clamp)
        if not self.importance:
            return slope_BT
        return ratio_BT * (torch.where(live_BT, estimate(self.estimator, logp_BT, reference_BT, self.clamp), 0.0) + slope_BT)

    def clamped(self, logp_BT: Tensor, batch: TokenBatch) -> Tensor:
        """Where d met the clamp, shape (B, T), bool: d of the log-probabilities given, (B, T), or of the old policy's if it is
        charged to the reward.
        """
        if self.estimator not in ("k3", "k3+"):
            return torch.zeros_like(batch.mask_BT)
        if self.where == "reward":
            logp_BT = masked(batch.logp_old_BT, batch.mask_BT).to(logp_BT.dtype)
        return batch.mask_BT & (self._reference(batch, logp_BT) - logp_BT > self.clamp)

    def _reference(self, batch: TokenBatch, like: Tensor) -> Tensor:
        reference_BT = batch.logp_ref_BT if self.reference == "ref" else batch.logp_old_BT
        if reference_BT is None:
            raise BatchError("a divergence reads logp_ref_BT, which the batch lacks")
        return masked(reference_BT, batch.mask_BT).detach().to(like.dtype)


def estimate(estimator: str, logp_BT: Tensor, logp_ref_BT: Tensor, clamp: float = 20.0) -> Tensor:
    """k1, k2, k3 or k3+ at sampled tokens, shape (B, T), differentiable in logp_BT. Arguments (B, T)."""
    gap_BT = logp_ref_BT - logp_BT
    if estimator == "k1":
        return -gap_BT
    if estimator == "k2":
        return gap_BT.square() / 2
    if estimator == "k3":
        gap_BT = torch.where(gap_BT.detach() > clamp, gap_BT.detach().clamp(max=clamp), gap_BT)
        # exp(d) - 1 - d in single precision has no digit left of d^2 / 2 below d = 1e-4
        return torch.expm1(gap_BT) - gap_BT
    straight_BT = gap_BT.square() / 2
    return estimate("k3", logp_BT.detach(), logp_ref_BT, clamp) + straight_BT - straight_BT.detach()


def derivative(estimator: str, logp_BT: Tensor, logp_ref_BT: Tensor, clamp: float = 20.0) -> Tensor:
    """Derivative of the estimate by logp_BT, shape (B, T). Arguments (B, T)."""
    gap_BT = logp_ref_BT - logp_BT
    if estimator == "k1":
        return torch.ones_like(gap_BT)
    if estimator in ("k2", "k3+"):
        return -gap_BT
    return torch.where(gap_BT > clamp, 0.0, -torch.expm1(gap_BT.clamp(max=clamp)))


def full_divergence(log_policy_BTV: Tensor, log_reference_BTV: Tensor) -> Tensor:
    """sum_v p_v (log p_v - log q_v), shape (B, T), of tables (B, T, V); tokens of probability 0 contribute 0."""
    support = log_policy_BTV > -torch.inf
    log_policy_BTV = torch.where(support, log_policy_BTV, 0.0)
    return torch.where(support, log_policy_BTV.exp() * (log_policy_BTV - log_reference_BTV), 0.0).sum(-1)


def full_derivative(log_policy_BTV: Tensor, log_reference_BTV: Tensor) -> Tensor:
    """p_v (log p_v - log q_v + 1), shape (B, T, V), of tables (B, T, V); 0 on tokens of probability 0."""
    support = log_policy_BTV > -torch.inf
    log_policy_BTV = torch.where(support, log_policy_BTV, 0.0)
    return torch.where(support, log_policy_BTV.exp() * (log_policy_BTV - log_reference_BTV + 1), 0.0)


def tables(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Log-probability tables of policy and reference, each (B, T, V), 0 off the mask. Raises BatchError if one is missing."""
    if batch.log_policy_BTV is None or batch.log_reference_BTV is None:
        raise BatchError("the full divergence reads log_policy_BTV and log_reference_BTV, of which the batch lacks one")
    mask_BT1 = batch.mask_BT[..., None]
    return torch.where(mask_BT1, batch.log_policy_BTV, 0.0), torch.where(mask_BT1, batch.log_reference_BTV.detach(), 0.0)

r"""Advantages and losses of a critic.

Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438), over policy tokens t = 1 ... n of a sequence:

    delta_t = r_t + g V_{t+1} - V_t,      A_t = delta_t + g lambda A_{t+1},      target_t = A_t + V_t,

with V_{n+1} = 0 at a true end. The environment's tokens are no decisions: (A, V) are carried through them unchanged, and a
reward paid on one counts for the policy token before it. At a cut (`truncated_B`) the value after the last token is 0, or
repeats the last one (T-PPO, Fan et al. 2025, arXiv 2506.15050: A_n = (g - 1) V_n + r_n), or is given as `value_end_B`.

The value loss is 1/2 (V_t - target_t)^2, or with a clip c the larger of that and 1/2 (V_old + clip(V - V_old, -c, c) -
target)^2 (Schulman et al. 2017, reference code), averaged over the policy tokens of the whole batch.

A critic of prefixes, fitted to n completions of each (Liu et al. 2024, arXiv 2412.18279), has the cross-entropy of sigmoid(z)
to the share y of right ones; its slope in z is sigmoid(z) - y, where that of half a square is (sigmoid(z) - y) s (1 - s),
s = sigmoid(z), which vanishes where the critic is sure and wrong.

Shape suffixes: B sequences, T token positions, S prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .batch import TokenBatch
from .errors import BatchError, SpecError
from .outcome import Outcome


@dataclass(frozen=True)
class GeneralisedAdvantage:
    """Generalised advantage estimation. Raises SpecError for parameters outside [0, 1].

    discount: g, a policy token. trace: lambda; 1 is the return minus the value, 0 the one-step error.
    bootstrap: the value after a cut: zero | repeat | given (`value_end_B`).
    whiten: subtract the mean over policy tokens and divide by their standard deviation (Bessel); 0 if that is 0.
    """

    discount: float = 1.0
    trace: float = 0.95
    bootstrap: Literal["zero", "repeat", "given"] = "zero"
    whiten: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.discount <= 1 and 0 <= self.trace <= 1):
            raise SpecError(f"discount={self.discount}, trace={self.trace}: both lie in [0, 1]")
        if self.bootstrap not in ("zero", "repeat", "given"):
            raise SpecError(f"bootstrap={self.bootstrap!r}; give zero, repeat or given")

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read."""
        return ("value_BT",) if self.bootstrap == "zero" else ("value_BT", "truncated_B", "value_end_B")[: 2 + self._given]

    @property
    def _given(self) -> bool:
        return self.bootstrap == "given"

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64, 0 off the mask. Raises BatchError without values."""
        advantage_BT = self.raw(out)
        return _whitened(advantage_BT, out.batch.mask_BT) if self.whiten else advantage_BT

    def raw(self, out: Outcome) -> Tensor:
        """(B, T), float64: A_t before whitening, 0 off the mask. Raises BatchError without values."""
        mask_BT, value_BT = out.batch.mask_BT, old_value(out.batch)
        following_B = self._after_the_end(out.batch, value_BT)
        advantage_B, pending_B = torch.zeros_like(following_B), torch.zeros_like(following_B)
        advantages = []
        for t in reversed(range(mask_BT.shape[1])):
            acts_B = mask_BT[:, t]
            pending_B = pending_B + out.token_reward_BT[:, t]
            delta_B = pending_B + self.discount * following_B - value_BT[:, t]
            advantage_B = torch.where(acts_B, delta_B + self.discount * self.trace * advantage_B, advantage_B)
            following_B = torch.where(acts_B, value_BT[:, t], following_B)
            pending_B = torch.where(acts_B, 0.0, pending_B)
            advantages.append(torch.where(acts_B, advantage_B, 0.0))
        return torch.stack(advantages[::-1], 1) if advantages else torch.zeros_like(value_BT)

    def _after_the_end(self, batch: TokenBatch, value_BT: Tensor) -> Tensor:
        """(B,): the value after the last policy token."""
        zero_B = torch.zeros(len(value_BT), dtype=torch.float64, device=value_BT.device)
        if self.bootstrap == "zero" or batch.truncated_B is None:
            return zero_B
        if self._given:
            if batch.value_end_B is None:
                raise BatchError("bootstrap='given' reads value_end_B, which the batch lacks")
            end_B = batch.value_end_B.detach().double()
        else:
            position_T = torch.arange(value_BT.shape[1], device=value_BT.device)
            last_B = torch.where(batch.mask_BT, position_T, 0).amax(1)
            end_B = value_BT.gather(1, last_B[:, None])[:, 0]
        return torch.where(batch.truncated_B, end_B, zero_B)


@dataclass(frozen=True)
class ValueLoss:
    """The critic's loss. Raises SpecError for a clip that is not positive.

    target: the estimator whose A_t + V_t is regressed on; its trace may differ from the policy's (1 is the Monte-Carlo return).
    clip: half-width of the value clip, in units of the value; None leaves it out. finished_only: learn from sequences that were
    not cut alone, whose returns are known.
    """

    target: GeneralisedAdvantage = GeneralisedAdvantage()
    clip: float | None = 0.2
    finished_only: bool = False

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise SpecError(f"clip={self.clip} for the value loss; give a positive number, or None for no clip")

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read."""
        return (*self.target.needs, *(("truncated_B",) if self.finished_only else ()))

    def learns(self, batch: TokenBatch) -> Tensor:
        """The tokens that the critic learns from, (B, T), bool. Raises BatchError where it must know what was cut."""
        if not self.finished_only:
            return batch.mask_BT
        if batch.truncated_B is None:
            raise BatchError("a critic of finished sequences reads truncated_B, which the batch lacks")
        return batch.mask_BT & ~batch.truncated_B[:, None]

    def targets(self, out: Outcome) -> Tensor:
        """(B, T), float64: A_t + V_t with the values at collection, 0 off the mask."""
        return torch.where(out.batch.mask_BT, self.target.raw(out) + old_value(out.batch), 0.0)

    def value(self, value_BT: Tensor, old_BT: Tensor, target_BT: Tensor) -> Tensor:
        """The loss a token, shape (B, T); all arguments (B, T)."""
        loss_BT = (value_BT - target_BT).square() / 2
        if self.clip is None:
            return loss_BT
        clipped_BT = (old_BT + (value_BT - old_BT).clamp(-self.clip, self.clip) - target_BT).square() / 2
        return torch.where(clipped_BT > loss_BT, clipped_BT, loss_BT)

    def weight(self, value_BT: Tensor, old_BT: Tensor, target_BT: Tensor) -> Tensor:
        """Minus the derivative of the loss a token by the value, shape (B, T); all arguments (B, T)."""
        error_BT = target_BT - value_BT
        if self.clip is None:
            return error_BT
        step_BT = value_BT - old_BT
        held_BT = target_BT - old_BT - step_BT.clamp(-self.clip, self.clip)
        beyond_BT = step_BT.abs() > self.clip
        return torch.where(held_BT.square() > error_BT.square(), torch.where(beyond_BT, 0.0, held_BT), error_BT)


def completion_loss(logit_S: Tensor, right_S: Tensor, completions: int | Tensor) -> Tensor:
    """Cross-entropy of a critic's sigmoid(logit) to the mean verdict of a prefix's completions, (S,), nats.

    logit_S: differentiable. right_S: how many completions are right. completions: how many there are, one number or (S,).
    Raises BatchError for shapes that differ, and counts outside [0, completions].
    """
    if logit_S.shape != right_S.shape or logit_S.ndim != 1:
        raise BatchError(f"logit_S is of shape {tuple(logit_S.shape)}, right_S of {tuple(right_S.shape)}; give both (S,)")
    all_S = torch.as_tensor(completions, device=right_S.device).expand_as(right_S)
    wrong_S = ~((all_S >= 1) & (right_S >= 0) & (right_S <= all_S))
    if wrong_S.any():
        row = int(wrong_S.nonzero()[0])
        raise BatchError(f"prefix {row} has {right_S[row]:g} right of {all_S[row]:g} completions; give a count of at least one")
    return binary_cross_entropy_with_logits(logit_S, right_S.to(logit_S.dtype) / all_S, reduction="none")


def old_value(batch: TokenBatch) -> Tensor:
    """The critic's values at collection, shape (B, T), float64, 0 off the mask. Raises BatchError if the batch has none."""
    value_BT = batch.value_BT if batch.value_old_BT is None else batch.value_old_BT
    if value_BT is None:
        raise BatchError("a critic's values are read, but the batch has no value_BT: give it, or an advantage without a critic")
    return torch.where(batch.mask_BT, value_BT.detach().double(), 0.0)


def _whitened(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    x_N = x_BT[mask_BT]
    if len(x_N) < 2 or x_N.max() == x_N.min():
        return torch.zeros_like(x_BT)
    return torch.where(mask_BT, (x_BT - x_N.mean()) / x_N.std(correction=1), 0.0)

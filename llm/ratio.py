# ruff: noqa: N815 - names carry their shapes
r"""Importance ratios of the trained policy to the old one, at the level at which they are clipped.

With d_t = logp_t - logp_old_t on policy tokens,

| level | ratio seen by token t | derivative by logp_t |
|---|---|---|
| none | 1 | 0 |
| token | exp(d_t) | ratio |
| turn | exp(sum of d over the tokens of t's turn) | ratio |
| sequence | exp(sum of d over the sequence) | ratio |
| sequence-geometric | s = exp(mean of d over the sequence) | ratio (GSPO, Zheng et al. 2025, arXiv 2507.18071) |

Above the token the ratio is formed as sg(ratio) * exp(logp_t - sg(logp_t)), sg = stop-gradient, so that each token keeps its
own advantage. A term of the turn or sequence level stands for one decision of n tokens: its derivative by each of them is
whole, its value is counted once. `Ratios.share_BT` is that 1/n (1 at the other levels, whose derivative is already 1/n of the
unit's).

Log-ratios are clamped before exp; a clamped ratio has no gradient, and is counted in the diagnostics.

Truncated importance weights correct for an engine that samples from another distribution than the old policy's
log-probabilities say: min(exp(logp_old - logp_sampler), cap), a constant factor of the policy term (Ionides 2008; Yao et al.
2025).

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .batch import TokenBatch
from .errors import BatchError, SpecError

LEVELS = ("none", "token", "turn", "sequence", "sequence-geometric")
Level = Literal["none", "token", "turn", "sequence", "sequence-geometric"]


@dataclass(frozen=True, eq=False)
class Ratios:
    """Ratios of a batch.

    ratio_BT: (B, T), differentiable; 1 off the mask.
    live_BT: (B, T), bool: the log-ratio was not clamped.
    share_BT: (B, T), what part of its unit's value a token stands for.
    """

    ratio_BT: Tensor
    live_BT: Tensor
    share_BT: Tensor | None = None


@dataclass(frozen=True)
class Ratio:
    """At which level the importance ratio is taken. Raises SpecError for an unknown level or a clamp that is not positive.

    level: none | token | turn | sequence | sequence-geometric.
    clamp: log-ratios above clamp (nats) are clamped. floor: so are those below -floor; the clamp, unless given.
    """

    level: Level = "none"
    clamp: float = 20.0
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise SpecError(f"ratio level {self.level!r}; give one of {', '.join(LEVELS)}")
        if not 0 < self.clamp <= 80:
            raise SpecError(f"clamp={self.clamp} nats; give a number in (0, 80]: exp overflows float32 beyond 88")
        if self.floor is not None and not 0 < self.floor <= 80:
            raise SpecError(f"floor={self.floor} nats; give a number in (0, 80]: exp vanishes in float32 below -88")

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read beyond the obligatory ones."""
        return ("turn_BT",) if self.level == "turn" else ()

    def __call__(self, logp_BT: Tensor, batch: TokenBatch) -> Ratios:
        """Ratios of log-probabilities of shape (B, T), already zero off the mask."""
        mask_BT = batch.mask_BT
        if self.level == "none":
            return Ratios(torch.ones_like(logp_BT), torch.ones_like(mask_BT))
        old_BT = masked(batch.logp_old_BT, mask_BT).to(logp_BT.dtype)
        if self.level == "token":
            log_ratio_BT = logp_BT - old_BT
            bound_BT = self._bound(log_ratio_BT.detach())
            live_BT = bound_BT == log_ratio_BT.detach()
            return Ratios(torch.where(live_BT, log_ratio_BT, bound_BT).exp(), live_BT)
        log_ratio_BT, count_BT = unit_sum(logp_BT.detach() - old_BT, batch, self.level)
        if self.level == "sequence-geometric":
            log_ratio_BT = log_ratio_BT / count_BT
        bound_BT = self._bound(log_ratio_BT)
        live_BT = bound_BT == log_ratio_BT
        unit_BT = bound_BT.exp()
        own_BT = torch.where(live_BT, logp_BT - logp_BT.detach(), 0.0).exp()
        share_BT = None if self.level == "sequence-geometric" else 1 / count_BT
        return Ratios(unit_BT * own_BT, live_BT, share_BT)

    def _bound(self, log_ratio_BT: Tensor) -> Tensor:
        return log_ratio_BT.clamp(-(self.clamp if self.floor is None else self.floor), self.clamp)


@dataclass(frozen=True)
class TruncatedImportance:
    """Constant weights of the old policy against the sampler. Raises SpecError for a cap below 1 or an unknown level.

    cap: largest weight (1 or more; 2 is common).
    level: token | sequence (product over the sequence).
    beyond: truncate (weight = cap) or drop (weight = 0) what exceeds the cap.
    """

    cap: float = 2.0
    level: Literal["token", "sequence"] = "token"
    beyond: Literal["truncate", "drop"] = "truncate"

    needs = ("logp_sampler_BT",)

    def __post_init__(self) -> None:
        if not self.cap >= 1:
            raise SpecError(f"cap={self.cap}: a cap below 1 shrinks tokens on which sampler and trainer agree; give 1 or more")
        if self.level not in ("token", "sequence") or self.beyond not in ("truncate", "drop"):
            raise SpecError(f"level={self.level!r}, beyond={self.beyond!r}; give token or sequence, truncate or drop")

    def __call__(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Weights, shape (B, T), float64, 1 off the mask, and where they met the cap, shape (B, T), bool. Raises BatchError
        where the batch lacks the sampler's log-probabilities."""
        if batch.logp_sampler_BT is None:
            raise BatchError("truncated importance weights read logp_sampler_BT, which the batch lacks")
        old_BT = masked(batch.logp_old_BT, batch.mask_BT).detach().double()
        gap_BT = old_BT - masked(batch.logp_sampler_BT, batch.mask_BT).detach().double()
        if self.level == "sequence":
            gap_BT = torch.where(batch.mask_BT, gap_BT.sum(1, keepdim=True), 0.0)
        capped_BT = gap_BT > torch.tensor(self.cap, dtype=torch.float64).log().item()
        weight_BT = gap_BT.clamp(max=50.0).exp().clamp(max=self.cap)
        return torch.where(capped_BT & (self.beyond == "drop"), 0.0, weight_BT), capped_BT


def masked(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """x, shape (B, T), with 0 off the mask, whatever stood there; no gradient passes there."""
    return torch.where(mask_BT, x_BT, 0.0)


def unit_sum(x_BT: Tensor, batch: TokenBatch, level: str) -> tuple[Tensor, Tensor]:
    """Sum of x over the policy tokens of each token's unit (turn or sequence), and their number, both (B, T).

    Off the mask they are 0 and 1. Raises BatchError where turns are asked for and the batch has none.
    """
    mask_BT = batch.mask_BT
    x_BT = masked(x_BT, mask_BT)
    if level != "turn":
        sum_BT, count_BT = x_BT.sum(1, keepdim=True), mask_BT.sum(1, keepdim=True).to(x_BT.dtype)
        return masked(sum_BT.expand_as(x_BT), mask_BT), torch.where(mask_BT, count_BT, 1.0)
    if batch.turn_BT is None:
        raise BatchError("a ratio at the turn level reads turn_BT, which the batch lacks")
    _, turn_BT = torch.unique(torch.where(mask_BT, batch.turn_BT, -1), return_inverse=True)
    empty = x_BT.new_zeros(len(x_BT), int(turn_BT.max()) + 1 if turn_BT.numel() else 1)
    sum_BT = empty.scatter_add(1, turn_BT, x_BT).gather(1, turn_BT)
    count_BT = empty.scatter_add(1, turn_BT, mask_BT.to(x_BT.dtype)).gather(1, turn_BT)
    return masked(sum_BT, mask_BT), torch.where(mask_BT, count_BT, 1.0)

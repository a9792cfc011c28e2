r"""Shaping the advantage, not the reward: a clipped bias for answers that are right, after the group was compared.

With base advantages A_i, eligible answers E (right, and with a tool call that was executed), p_i the policy tokens before the
first call, L_i the policy tokens in all, means over E,

    A'_i = A_i + clip(d (p_i - mean p) / mean L, -k |A_i|, k |A_i|)   for i in E,        A'_i = A_i   otherwise.

d < 0 rewards early calls. For 0 < k < 1 the sign of A_i is kept and |A_i| changes by at most its k-th part; a group that is all
right has A = 0 and learns nothing about style. The printed bound is k A_i, which for A_i < 0 would be an empty interval;
|A_i| is the same where it is not.

Lin and Xu 2025, ASPO, arXiv 2508.19201.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .advantage import Advantage
from .batch import TokenBatch
from .errors import BatchError, SpecError
from .outcome import Outcome


@dataclass(frozen=True)
class EarlyCalls:
    """Another part's advantages, shaped towards early tool calls. Raises SpecError for a share outside [0, 1).

    part: the base advantage. strength: d (published -2.0 or -2.5; the figures print 1.5 or 2). share: k (0.7 or 0.9).
    threshold: smallest reward of a right answer.
    """

    part: Advantage
    strength: float = -2.0
    share: float = 0.7
    threshold: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or not abs(self.strength) < float("inf"):
            raise SpecError(f"strength={self.strength}, share={self.share}: give a finite strength and a share in [0, 1)")
        if not abs(self.threshold) < float("inf"):
            raise SpecError(f"threshold={self.threshold}: give the smallest reward of a right answer, a finite number")

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read."""
        return (*getattr(self.part, "needs", ()), "first_call_B")

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64. Raises BatchError where the batch says no calls."""
        advantage_BT = self.part(out)
        bias_B = self.bias(out)
        bound_BT = self.share * advantage_BT.abs()
        return advantage_BT + torch.minimum(torch.maximum(bias_B[:, None], -bound_BT), bound_BT)

    def bias(self, out: Outcome) -> Tensor:
        """(B,), float64: before the clip, 0 for answers that are not eligible; sums to zero over a group. Raises BatchError."""
        call_B = _call(out.batch)
        eligible_B = out.row_B & (out.reward_B >= self.threshold) & (call_B >= 0)
        many_B = out.group_sum(eligible_B.double()).clamp(min=1)
        place_B = torch.where(eligible_B, call_B.double(), 0.0)
        length_B = torch.where(eligible_B, out.batch.length_B.double(), 0.0)
        centred_B = place_B - out.group_sum(place_B) / many_B
        return torch.where(eligible_B, self.strength * centred_B / (out.group_sum(length_B) / many_B).clamp(min=1e-300), 0.0)


@dataclass(frozen=True)
class RewardedCalls:
    """The rejected alternative, on the reward: 1 + d clip((p_i - mean p) / std p, -c, c) for eligible answers, before groups.

    strength: d, below 0 for early calls. limit: c > 0. threshold: as in `EarlyCalls`. Group normalisation then amplifies it
    without regard to d where all answers are right. Raises SpecError for a limit that is not positive.
    """

    strength: float = -0.2
    limit: float = 1.0
    threshold: float = 1.0

    needs = ("first_call_B",)

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise SpecError(f"limit={self.limit}: the shaped reward is clipped to within it; give a positive number")
        if not (abs(self.strength) < float("inf") and abs(self.threshold) < float("inf")):
            raise SpecError(f"strength={self.strength}, threshold={self.threshold}: give finite numbers")

    def __call__(self, reward_B: Tensor, batch: TokenBatch) -> Tensor:
        call_B, shaped_B = _call(batch), reward_B.clone()
        eligible_B = batch.mask_BT.any(1) & (reward_B >= self.threshold) & (call_B >= 0)
        for group in torch.unique(batch.group_B[eligible_B]).tolist():
            mine_B = eligible_B & (batch.group_B == group)
            place = call_B[mine_B].double()
            deviation = place.std(correction=0)
            if deviation > 0:
                bonus = ((place - place.mean()) / deviation).clamp(-self.limit, self.limit)
                shaped_B[mine_B] = reward_B[mine_B] + self.strength * bonus
        return shaped_B


def first_calls(mask_BT: Tensor, turn_BT: Tensor) -> Tensor:
    """Policy tokens before the first executed call, (B,), of masks and turns (B, T): the length of the first turn where the
    environment answered it and the policy went on, -1 where there is one turn."""
    turn = torch.where(mask_BT, turn_BT, -1)
    first = torch.where(mask_BT, turn_BT, turn_BT.max() + 1).amin(1, keepdim=True)
    answered = (turn.amax(1) > first[:, 0]) & mask_BT.any(1)
    return torch.where(answered, (mask_BT & (turn_BT == first)).sum(1), -1)


def _call(batch: TokenBatch) -> Tensor:
    if batch.first_call_B is None:
        raise BatchError("shaping by calls reads first_call_B, which the batch lacks: see banach.llm.first_calls")
    return batch.first_call_B


Preset = Literal["conservative", "aggressive", "conservative, figure", "aggressive, figure"]

PRESETS: dict[Preset, tuple[float, float]] = {
    "conservative": (-2.0, 0.7),
    "aggressive": (-2.5, 0.9),
    "conservative, figure": (-1.5, 0.7),
    "aggressive, figure": (-2.0, 0.9),
}
"""Strength and share, as the text and the figures' legends print them; they disagree."""

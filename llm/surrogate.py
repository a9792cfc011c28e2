r"""Surrogates: what is maximised a token, as a function of its ratio r, its log-probability l and its advantage A.

| part | value | score weight (derivative by l) |
|---|---|---|
| `PolicyGradient` | A l | A |
| `ImportanceWeighted` | r A | r A |
| `ClippedRatio` (PPO, Schulman et al. 2017, arXiv 1707.06347) | min(r A, clip(r, 1-low, 1+high) A) | r A, 0 where clipped |
| with dual clip c (Ye et al. 2020, arXiv 1912.09729) | for A < 0 the larger of that and c A | r A, 0 where r > c too |
| `ClippedWeight` (CISPO, MiniMax 2025, arXiv 2506.13585) | sg(clip(r, floor, cap)) A l | clip(r, floor, cap) A, never 0 |

Clipped means (A > 0 and r > 1 + high) or (A < 0 and r < 1 - low); on the edge itself a token still learns. With high = low = e,
min(r A, clip(r) A) = min(r A, A + e |A|).

The parametrisation of CISPO is by the cap itself, min(r, cap). A cap of 0.2, which a shared `epsilon` default makes of it in
places, multiplies every on-policy token by 0.2.

A surrogate is an object with `value`, `weight`, `clipped` and the flag `through_ratio`: whether its gradient passes through r
(and stops where the log-ratio was clamped) or through l. `check(level)` refuses ranges that do not fit the level of the
ratio.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import ClipRangeError, SpecError

WIDEST_GEOMETRIC = 0.05
"""Geometric-mean ratios move by 1e-4 to 1e-2 in a step; a clip wider than this never binds (published: 3e-4, 4e-4)."""

NARROWEST_TOKEN = 0.01
"""Token ratios move by tenths; a clip narrower than this stops nearly every token after one step (published: 0.2)."""


class Surrogate(Protocol):
    """A scalar function of ratio, log-probability and advantage, with its derivative."""

    @property
    def through_ratio(self) -> bool:
        """Whether the gradient passes through the ratio."""
        ...

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """What is maximised a token; all of shape (B, T), differentiable."""
        ...

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Its derivative by the token's log-probability; all of shape (B, T), detached."""
        ...

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Where the clip binds, shape (B, T), bool."""
        ...

    def check(self, level: str) -> None:
        """Raises ClipRangeError if the settings do not do what they are for at this level of the ratio."""
        ...


@dataclass(frozen=True)
class PolicyGradient:
    """A l: the score function estimator, and weighted likelihood."""

    through_ratio = False

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """A l, shape (B, T)."""
        return advantage_BT * logp_BT

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """A, shape (B, T)."""
        return advantage_BT

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Nowhere, shape (B, T)."""
        return torch.zeros_like(ratio_BT, dtype=torch.bool)

    def check(self, level: str) -> None:
        """Raises SpecError where a ratio is asked for that this surrogate does not read."""
        if level != "none":
            raise SpecError(
                f"PolicyGradient reads no ratio, but its level is {level!r}; use ImportanceWeighted(), or level 'none'"
            )


@dataclass(frozen=True)
class ImportanceWeighted:
    """r A: the score function estimator corrected for the old policy, without a clip."""

    through_ratio = True

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """r A, shape (B, T)."""
        return ratio_BT * advantage_BT

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """r A, shape (B, T)."""
        return ratio_BT * advantage_BT

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Nowhere, shape (B, T)."""
        return torch.zeros_like(ratio_BT, dtype=torch.bool)

    def check(self, level: str) -> None:
        """Raises SpecError without a ratio."""
        require_ratio(self, level)


@dataclass(frozen=True)
class ClippedRatio:
    """The pessimistic clipped surrogate of PPO. Raises ClipRangeError for low outside (0, 1), high <= 0 or dual <= 1.

    low, high: the ratio is clipped to [1 - low, 1 + high].
    dual: c > 1, a floor c A under negative advantages; None leaves it out.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    through_ratio = True

    def __post_init__(self) -> None:
        if not 0 < self.low < 1:
            raise ClipRangeError(f"low={self.low}: the ratio is clipped to [1 - low, 1 + high]; give 0 < low < 1")
        if not 0 < self.high < float("inf"):
            raise ClipRangeError(f"high={self.high}: the ratio is clipped to [1 - low, 1 + high]; give a positive number")
        if self.dual is not None and not self.dual > 1:
            raise ClipRangeError(
                f"dual={self.dual}: a dual clip at or below 1 stops on-policy tokens; give more than 1 (3 is usual)"
            )

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """min(r A, clip(r) A), with the dual clip under negative A; shape (B, T)."""
        # torch.where of two numbers is single precision, in which 1 + 4e-4 is not the clip that was asked for
        bound_BT = torch.full_like(ratio_BT, 1 - self.low).masked_fill(advantage_BT > 0, 1 + self.high)
        if self.dual is not None:
            bound_BT = bound_BT.masked_fill((advantage_BT < 0) & (ratio_BT.detach() > self.dual), self.dual)
        return torch.where(self.clipped(ratio_BT.detach(), advantage_BT), bound_BT, ratio_BT) * advantage_BT

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """r A where the clip does not bind, else 0; shape (B, T)."""
        return torch.where(self.clipped(ratio_BT, advantage_BT), 0.0, ratio_BT * advantage_BT)

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Where the clip binds, shape (B, T), bool."""
        above, below = (advantage_BT > 0) & (ratio_BT > 1 + self.high), (advantage_BT < 0) & (ratio_BT < 1 - self.low)
        if self.dual is None:
            return above | below
        return above | below | ((advantage_BT < 0) & (ratio_BT > self.dual))

    def check(self, level: str) -> None:
        """Raises ClipRangeError where the range cannot bind, or always does, at this level; SpecError without a ratio."""
        require_ratio(self, level)
        widest, narrowest = max(self.low, self.high), min(self.low, self.high)
        if level == "sequence-geometric" and widest > WIDEST_GEOMETRIC:
            raise ClipRangeError(
                f"clip [1 - {self.low}, 1 + {self.high}] of a geometric-mean ratio hardly ever binds, since that ratio moves "
                "by 1e-4 to 1e-2: the published range is low=3e-4, high=4e-4; unusual_clip=True insists"
            )
        if level in ("token", "turn", "sequence") and narrowest < NARROWEST_TOKEN:
            raise ClipRangeError(
                f"clip [1 - {self.low}, 1 + {self.high}] of a {level} ratio stops nearly every token after one step: 0.2 is "
                "usual, 3e-4 belongs to level 'sequence-geometric'; unusual_clip=True insists"
            )


@dataclass(frozen=True)
class ClippedWeight:
    """The clipped importance weight of CISPO: every token keeps its gradient. Raises ClipRangeError for floor >= 1 or cap <= 0.

    cap: largest weight min(r, cap). floor: smallest weight; 0 for none, as published.
    """

    cap: float = 5.0
    floor: float = 0.0

    through_ratio = False

    def __post_init__(self) -> None:
        if not (0 <= self.floor < 1 and self.cap > 0 and self.floor < self.cap):
            raise ClipRangeError(f"floor={self.floor}, cap={self.cap}: give 0 <= floor < 1 and a positive cap above the floor")

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """sg(clip(r, floor, cap)) A l, shape (B, T)."""
        return ratio_BT.detach().clamp(self.floor, self.cap) * advantage_BT * logp_BT

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """clip(r, floor, cap) A, shape (B, T)."""
        return ratio_BT.clamp(self.floor, self.cap) * advantage_BT

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Where the weight is not the ratio, shape (B, T), bool."""
        return (ratio_BT > self.cap) | (ratio_BT < self.floor)

    def check(self, level: str) -> None:
        """Raises ClipRangeError for a cap below 1, which rescales on-policy tokens; SpecError without a ratio."""
        require_ratio(self, level)
        if self.cap < 1:
            raise ClipRangeError(
                f"cap={self.cap} multiplies every on-policy token, whose ratio is 1, by {self.cap}: the cap is the largest "
                f"weight itself, not its distance from 1 (did you mean cap={1 + self.cap:g}?); unusual_clip=True insists"
            )


def require_ratio(surrogate: object, level: str) -> None:
    """Raises SpecError where a surrogate of the ratio is given none."""
    if level == "none":
        raise SpecError(f"{type(surrogate).__name__} is a function of the ratio, but the ratio's level is 'none'; give one")

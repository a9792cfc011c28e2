r"""Learning from wrong answers by likelihood: the implicit negative policy.

For a prompt with success rate r under the old policy, the old policy splits into what it does when right and when wrong,
r pi+ + (1 - r) pi- = pi_old. Train pi for pi+, let pi- = (pi_old - r pi)/(1 - r) follow from it, and maximise the likelihood of
right answers under the one and of wrong answers under the other. With R = pi / pi_old and x = (1 - r R)/(1 - r),

    right: w log R,   score weight w;       wrong: w log max_v(x, eps),   score weight -w r R / ((1 - r) max(x, eps)),

max_v(x, eps) = sg(max(x, eps) - x) + x: the value is held at eps or above, the gradient of x stays. At R = 1 the weights are

| prompt weight w | A when right | A when wrong | on the policy |
|---|---|---|---|
| centred, 1 - r | 1 - r | -r | Dr. GRPO |
| std, sqrt((1 - r)/r) | sqrt((1 - r)/r) | -sqrt(r/(1 - r)) | GRPO, population deviation |
| one, 1 | 1 | -r/(1 - r) | |

so `SuccessWeighted` makes advantages of them, from which `ImplicitNegative` reads r back; nothing else has to be carried.

Chen, Zheng et al. 2025, NFT, arXiv 2505.18116.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .errors import BatchError, ClipRangeError, SpecError
from .outcome import Outcome
from .surrogate import require_ratio

PROMPT_WEIGHTS = ("centred", "std", "one")
PromptWeight = Literal["centred", "std", "one"]


@dataclass(frozen=True)
class SuccessWeighted:
    """Advantages of right and wrong answers by the prompt's success rate. Raises SpecError for settings out of range.

    by: the prompt weight w, by its name above. threshold: smallest reward of a right answer; None takes 0 and 1 and refuses
    others. least: the rate is held within [least, 1 - least], which moves the gradient of groups above 1/least answers.
    negative: factor of the wrong answers; 0 leaves rejection fine-tuning.
    """

    by: PromptWeight = "centred"
    threshold: float | None = None
    least: float = 0.02
    negative: float = 1.0

    def __post_init__(self) -> None:
        if self.by not in PROMPT_WEIGHTS:
            raise SpecError(f"by={self.by!r}; give one of {', '.join(PROMPT_WEIGHTS)}")
        if not 0 <= self.least < 0.5 or not 0 <= self.negative < float("inf"):
            raise SpecError(f"least={self.least}, negative={self.negative}: give 0 <= least < 0.5 and negative of 0 or more")
        if self.threshold is not None and not abs(self.threshold) < float("inf"):
            raise SpecError(f"threshold={self.threshold}: no reward is compared with it; give a number, or None for 0 and 1")

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64; 0 in groups that are all right or all wrong. Raises BatchError for rewards that are neither."""
        right_B = self._right(out)
        rate_B = out.group_mean(right_B).clamp(self.least, 1 - self.least)
        w_B = prompt_weight(self.by, rate_B.clamp(1e-12, 1 - 1e-12))
        advantage_B = torch.where(right_B > 0, w_B, -self.negative * w_B * rate_B / (1 - rate_B).clamp(min=1e-12))
        advantage_B = torch.where(out.uniform(right_B) | ~out.row_B, 0.0, advantage_B)
        return advantage_B[:, None].expand(out.batch.mask_BT.shape)

    def _right(self, out: Outcome) -> Tensor:
        """(B,), 0 or 1."""
        if self.threshold is not None:
            return (out.row_B & (out.reward_B >= self.threshold)).double()
        wrong = out.row_B & (out.reward_B != 0) & (out.reward_B != 1)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise BatchError(
                f"the reward of sequence {row} is {float(out.reward_B[row]):g}, neither 0 nor 1: give a verifier's verdicts "
                "(upstream's -1 and 1 are (r + 1)/2), or a threshold"
            )
        return out.reward_B


def prompt_weight(by: PromptWeight, rate: Tensor) -> Tensor:
    """w of success rates of any shape, inside (0, 1)."""
    if by == "centred":
        return 1 - rate
    return ((1 - rate) / rate).sqrt() if by == "std" else torch.ones_like(rate)


@dataclass(frozen=True)
class ImplicitNegative:
    """The likelihood of right answers under pi and of wrong ones under the implicit pi-; reads advantages of `SuccessWeighted`.

    by, negative: as there. epsilon: floor of x, in (0, 1]; a floor above 1 would change on-policy tokens. Raises SpecError
    for settings out of range, ClipRangeError for the floor.
    """

    by: PromptWeight = "centred"
    epsilon: float = 1.0
    negative: float = 1.0

    through_ratio = True

    def __post_init__(self) -> None:
        if self.by not in PROMPT_WEIGHTS or not 0 <= self.negative < float("inf"):
            raise SpecError(f"by={self.by!r}, negative={self.negative}; give one of {', '.join(PROMPT_WEIGHTS)}, 0 or more")
        if not 0 < self.epsilon <= 1:
            raise ClipRangeError(f"epsilon={self.epsilon}: the floor of x lies in (0, 1], for x is 1 on the policy")

    def rate(self, advantage: Tensor) -> Tensor:
        """The success rate behind negative advantages of any shape; 0 where the advantage is not negative."""
        size = torch.where(advantage < 0, -advantage, 0.0) / (self.negative or 1.0)
        if self.by == "centred":
            return size
        return size.square() / (1 + size.square()) if self.by == "std" else size / (1 + size)

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """What is maximised a token, shape (B, T)."""
        rate_BT = self.rate(advantage_BT)
        x_BT = (1 - rate_BT * ratio_BT) / (1 - rate_BT)
        held_BT = (x_BT.detach().clamp(min=self.epsilon) - x_BT.detach()) + x_BT
        factor_BT = self.negative * prompt_weight(self.by, rate_BT.clamp(1e-12, 1 - 1e-12))
        wrong_BT = advantage_BT < 0
        right_BT = advantage_BT * torch.where(wrong_BT, 1.0, ratio_BT).log()
        return torch.where(wrong_BT, factor_BT * torch.where(wrong_BT, held_BT, 1.0).log(), right_BT)

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Its derivative by the token's log-probability, shape (B, T)."""
        rate_BT = self.rate(advantage_BT)
        x_BT = ((1 - rate_BT * ratio_BT) / (1 - rate_BT)).clamp(min=self.epsilon)
        return torch.where(advantage_BT < 0, advantage_BT * ratio_BT / x_BT, advantage_BT)

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Where x lies below its floor, shape (B, T), bool; such tokens keep a gradient."""
        rate_BT = self.rate(advantage_BT)
        return (advantage_BT < 0) & ((1 - rate_BT * ratio_BT) / (1 - rate_BT) < self.epsilon)

    def check(self, level: str) -> None:
        """Raises SpecError without a ratio."""
        require_ratio(self, level)

r"""Regressing log-ratios on advantages: half the squared error between A/b and log pi/pi_ref of a whole step.

    maximised: -1/2 (A - log r)^2,      score weight A - log r,      r the step's ratio to the old (reference) policy,

A given in units of the temperature, which `Tempered` sees to. Where the ratio is clamped log r is the clamp, and the weight
stays: a step that has gone too far is pulled back. Only the sum of a step's log-probabilities makes this a statement
about steps: a mean over its tokens is another objective as soon as steps differ in length.

Liu et al. 2024, Direct Advantage Policy Optimization, arXiv 2412.18279.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .advantage import Advantage
from .errors import SpecError
from .outcome import Outcome
from .surrogate import require_ratio


@dataclass(frozen=True)
class LogRatioRegression:
    """-1/2 (A - log r)^2: its weight pulls back as the ratio grows, and no clip is needed."""

    through_ratio = False

    def value(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """What is maximised a token, shape (B, T); its gradient passes through the log-probability, also where r is clamped."""
        log_ratio_BT = ratio_BT.detach().log() + (logp_BT - logp_BT.detach())
        return -(advantage_BT - log_ratio_BT).square() / 2

    def weight(self, ratio_BT: Tensor, logp_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """A - log r, shape (B, T)."""
        return advantage_BT - ratio_BT.log()

    def clipped(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Nowhere, shape (B, T)."""
        return torch.zeros_like(ratio_BT, dtype=torch.bool)

    def check(self, level: str) -> None:
        """Raises SpecError without a ratio."""
        require_ratio(self, level)


@dataclass(frozen=True)
class Tempered:
    """Another part's advantages over a temperature. Raises SpecError for one that is not positive, or a limit that is not.

    part: the advantage. temperature: b, in units of the reward. limit: largest |A/b|, None for none; small temperatures magnify
    a critic's errors.
    """

    part: Advantage
    temperature: float
    limit: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf") or (self.limit is not None and not self.limit > 0):
            raise SpecError(f"temperature={self.temperature}, limit={self.limit}: give positive numbers")

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read."""
        return getattr(self.part, "needs", ())

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64."""
        advantage_BT = self.part(out) / self.temperature
        return advantage_BT if self.limit is None else advantage_BT.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class GapFilter:
    """Keeps the groups whose largest and smallest rewards are at least `gap` apart. Raises SpecError for a negative gap.

    What a critic tells apart by less is noise to it: with two actions and a wrong order, improvement turns into its opposite.
    """

    gap: float = 0.1

    def __post_init__(self) -> None:
        if not self.gap >= 0:
            raise SpecError(f"gap={self.gap} between rewards; give 0 or more")

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, 1), bool."""
        empty = out.reward_B.new_zeros(out.n_groups + 1)
        high = empty.scatter_reduce(0, out.group_B, out.reward_B, "amax", include_self=False)
        low = empty.scatter_reduce(0, out.group_B, out.reward_B, "amin", include_self=False)
        return ((high - low) >= self.gap * (1 - 1e-12))[out.group_B][:, None]

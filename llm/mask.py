r"""Filters: which policy tokens take part in the loss.

The effective mask is the product of the batch's mask and of all filters. Filters see the shaped rewards and the advantages,
so that a sequence that is filtered out still counted in its group's baseline. A filter is any callable (outcome,
advantage_BT) -> bool tensor that broadcasts to (B, T).

| filter | keeps |
|---|---|
| `DynamicSampling` | groups whose rewards differ (DAPO, arXiv 2503.14476); the sampler would resample the others |
| `OverlongFilter` | sequences that were not cut (same paper, section 3.4) |
| `AdvantageFilter` | tokens with abs(A) >= threshold (LOOP, arXiv 2502.01600: 0.01) |
| `AcceptedOnly` | sequences whose reward reaches a threshold |

Where every group without signal has zero gradient, dropping it only rescales: the expected gradient of the kept groups is the
expected gradient over the probability of being kept. A divergence or entropy term breaks that identity.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .errors import BatchError, SpecError
from .outcome import Outcome, raw_reward

Filter = Callable[[Outcome, Tensor], Tensor]
"""(outcome, advantage_BT) -> bool tensor, true where a token stays; broadcasts to (B, T)."""


@dataclass(frozen=True)
class DynamicSampling:
    """Keeps the groups whose rewards, before shaping, are not all equal."""

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, 1), bool."""
        return ~out.uniform(raw_reward(out))[:, None]


@dataclass(frozen=True)
class OverlongFilter:
    """Keeps the sequences that the length limit did not cut."""

    needs = ("truncated_B",)

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, 1), bool. Raises BatchError if the batch does not say what was cut."""
        if out.batch.truncated_B is None:
            raise BatchError("OverlongFilter() reads truncated_B, which the batch lacks")
        return ~out.batch.truncated_B[:, None]


@dataclass(frozen=True)
class AdvantageFilter:
    """Keeps the tokens whose advantage is at least `threshold` in absolute value. Raises SpecError for a negative threshold."""

    threshold: float = 0.01

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise SpecError(f"threshold={self.threshold} of an absolute value; give 0 or more")

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, T), bool."""
        return advantage_BT.abs() >= self.threshold


@dataclass(frozen=True)
class AcceptedOnly:
    """Keeps the sequences whose shaped reward is at least `threshold`."""

    threshold: float = 1.0

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, 1), bool."""
        return (out.reward_B >= self.threshold)[:, None]


def effective_mask(out: Outcome, advantage_BT: Tensor, filters: tuple[Filter, ...]) -> Tensor:
    """The batch's mask times all filters, shape (B, T), bool."""
    mask_BT = out.batch.mask_BT
    for keep in filters:
        mask_BT = mask_BT & keep(out, advantage_BT)
    return mask_BT

r"""Advantages: how much better a sequence was than what it is compared with.

    A_i = (R_i - baseline_i) / (scale_i + epsilon),        the same for all tokens of the sequence i.

| baseline | scale | name |
|---|---|---|
| none | none | REINFORCE (Williams 1992) |
| leave-one-out | none | RLOO (Ahmadian et al. 2024, arXiv 2402.14740): R_i - mean of the others |
| group-mean | none | Dr. GRPO (Liu et al. 2025, arXiv 2503.20783) |
| group-mean | group-std | GRPO (Shao et al. 2024, arXiv 2402.03300) |
| group-mean | batch-std | Lite PPO (Liu et al. 2025, arXiv 2508.08221) |
| batch-mean | batch-std | REINFORCE++ (Hu 2025, arXiv 2501.03262) |

On the policy, a sum of A_i grad log pi(y_i) is an unbiased gradient of the expected reward with `none` and `leave-one-out`;
with `group-mean` it is (G-1)/G of it, because R_i stands in its own baseline. Dividing by the group's standard deviation
changes what is maximised: for rewards in {0, 1}, large groups and the population standard deviation it is 2 arcsin(sqrt(p))
averaged over prompts, and not the success rate p. A given number in place of the batch's deviation changes the size of the step
alone; the batch's own deviation leans on the rewards that it divides.

Where the compared rewards are equal the advantage is exactly 0. Widely used code divides a rounding residue by epsilon there,
and sets mean 0 and deviation 1 for a group of one, whose advantage then is its reward.

An advantage part is any callable that takes an `Outcome` and returns a tensor of shape (B, T). If it has an attribute
`needs`, a tuple of names of fields of `TokenBatch`, these must be in the batch.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from .errors import BatchError, ObjectiveWarning, SpecError
from .outcome import Outcome


class Advantage(Protocol):
    """Any callable from an outcome to advantages of shape (B, T)."""

    def __call__(self, out: Outcome, /) -> Tensor: ...


@dataclass(frozen=True)
class GroupAdvantage:
    """Rewards against a baseline, over a scale; one number a sequence. Raises SpecError for a scale without `ddof`, and for a
    deviation that is not positive or has no batch to stand for.

    baseline: none | group-mean | leave-one-out | batch-mean.
    scale: none | group-std | batch-std.
    ddof: 0 (population) or 1 (Bessel) for the standard deviation; has to be said where there is a scale.
    epsilon: added to the standard deviation; 0 makes the advantage invariant to the scale of the rewards (trl 1e-4, verl 1e-6).
    std_of: the batch's standard deviation is taken of the raw rewards, or of the rewards after the baseline is subtracted.
    group_size: if given, every group must have exactly this many sequences; catches groups that sharding tore apart.
    deviation: with batch-std, this number in place of the batch's own deviation, and no `ddof` is needed: frozen, or a moving
    average that the caller keeps.
    """

    baseline: Literal["none", "group-mean", "leave-one-out", "batch-mean"] = "group-mean"
    scale: Literal["none", "group-std", "batch-std"] = "none"
    ddof: Literal[0, 1] | None = None
    epsilon: float = 0.0
    std_of: Literal["raw", "centred"] = "raw"
    group_size: int | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        if self.baseline not in ("none", "group-mean", "leave-one-out", "batch-mean"):
            raise SpecError(f"baseline={self.baseline!r}; give none, group-mean, leave-one-out or batch-mean")
        if self.scale not in ("none", "group-std", "batch-std"):
            raise SpecError(f"scale={self.scale!r}; give none, group-std or batch-std")
        if self.deviation is not None and (self.scale != "batch-std" or not 0 < self.deviation < float("inf")):
            raise SpecError(
                f"deviation={self.deviation} with scale={self.scale!r}: give a positive number, in place of batch-std only"
            )
        if self.scale != "none" and self.deviation is None and self.ddof not in (0, 1):
            raise SpecError(f"ddof={self.ddof!r} with scale={self.scale!r}: say ddof=0 (population) or ddof=1 (Bessel)")
        if not 0 <= self.epsilon < float("inf") or self.std_of not in ("raw", "centred"):
            raise SpecError(f"epsilon={self.epsilon}, std_of={self.std_of!r}; give epsilon >= 0, and raw or centred")

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64. Raises BatchError for torn groups, and for leave-one-out in a group of one, where others warn."""
        self._check_groups(out)
        advantage_B = out.reward_B - self._baseline(out)
        if self.scale != "none":
            std_B = self._deviation(out, out.reward_B if self.std_of == "raw" else advantage_B)
            advantage_B = torch.where(std_B > 0, advantage_B / (std_B + self.epsilon), 0.0)
        if self.baseline in ("group-mean", "leave-one-out") or self.scale == "group-std":
            advantage_B = torch.where(out.uniform(out.reward_B), 0.0, advantage_B)
        if self.baseline == "batch-mean" or (self.scale == "batch-std" and self.deviation is None):
            advantage_B = torch.where(out.uniform(out.reward_B, whole_batch=True), 0.0, advantage_B)
        return torch.where(out.row_B, advantage_B, 0.0)[:, None].expand(out.batch.mask_BT.shape)

    def _baseline(self, out: Outcome) -> Tensor:
        if self.baseline == "group-mean":
            return out.group_mean(out.reward_B)
        if self.baseline == "leave-one-out":
            return (out.group_sum(out.reward_B) - out.reward_B) / (out.group_size_B - 1).clamp(min=1)
        if self.baseline == "batch-mean":
            return (out.reward_B.sum() / out.row_B.sum().clamp(min=1)).expand_as(out.reward_B)
        return torch.zeros_like(out.reward_B)

    def _deviation(self, out: Outcome, x_B: Tensor) -> Tensor:
        """(B,): standard deviation of x over the group of each row, or over the batch; 0 where ddof leaves nothing."""
        if self.deviation is not None:
            return torch.full_like(x_B, self.deviation)
        if self.scale == "group-std":
            square_B = out.group_sum((x_B - out.group_mean(x_B)).square())
            freedom_B = out.group_size_B - float(self.ddof or 0)
        else:
            x_N = x_B[out.row_B]
            square_B = (x_N - x_N.mean()).square().sum().expand_as(x_B) if len(x_N) else torch.zeros_like(x_B)
            freedom_B = torch.full_like(x_B, len(x_N) - float(self.ddof or 0))
        return torch.where(freedom_B > 0, square_B / freedom_B.clamp(min=1), 0.0).sqrt()

    def _check_groups(self, out: Outcome) -> None:
        size_B = out.group_size_B
        if self.group_size is not None and (wrong := out.row_B & (size_B != self.group_size)).any():
            row = int(wrong.nonzero()[0])
            raise BatchError(
                f"the group {int(out.batch.group_B[row])} of sequence {row} has {int(size_B[row])} sequences, not "
                f"{self.group_size}: keep the sequences of a prompt in one batch, or plan on the whole batch and select rows"
            )
        single = out.row_B & (size_B == 1)
        if self.baseline not in ("group-mean", "leave-one-out") and self.scale != "group-std":
            return
        if single.any():
            row = int(single.nonzero()[0])
            text = f"the group {int(out.batch.group_B[row])} has the one sequence {row}, which has nothing to be compared with"
            if self.baseline == "leave-one-out":
                raise BatchError(f"{text}: leave-one-out needs two sequences a prompt; is group_B the prompt's number?")
            warnings.warn(f"{text}: its advantage is 0; is group_B the prompt's number?", ObjectiveWarning, stacklevel=2)


@dataclass(frozen=True)
class Accepted:
    """A = 1 for sequences whose reward reaches the threshold, 0 for others: rejection fine-tuning, expert iteration.

    threshold: smallest accepted reward.
    """

    threshold: float = 1.0

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64, 0 or 1."""
        return (out.row_B & (out.reward_B >= self.threshold)).double()[:, None].expand(out.batch.mask_BT.shape)


@dataclass(frozen=True)
class Likelihood:
    """A = 1 everywhere: maximum likelihood of the given sequences (supervised fine-tuning)."""

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64, 1 on sequences that count."""
        return out.row_B.double()[:, None].expand(out.batch.mask_BT.shape)


@dataclass(frozen=True)
class Given:
    """The batch's own `advantage_BT`."""

    needs = ("advantage_BT",)

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64, 0 off the mask. Raises BatchError if the batch has none."""
        if out.batch.advantage_BT is None:
            raise BatchError(
                "the advantage part Given() reads advantage_BT, which the batch lacks: give it, or name another part"
            )
        return torch.where(out.batch.mask_BT, out.batch.advantage_BT.detach().double(), 0.0)

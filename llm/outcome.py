# ruff: noqa: N802, N815 - names carry their shapes
r"""What a batch earned: rewards after shaping, spread over tokens, and the groups that they are compared in.

Everything is detached and in float64. The reward of a sequence is worked on by the transforms in order, then a divergence
from the reference may be charged to its tokens (KL in the reward). What step rewards do not account for falls due on the last
policy token.

A group whose rewards are equal has nothing to compare. Equality is decided on the rewards themselves, up to four units in the
last place of their type, and not on the standard deviation: the mean of eight times 0.7 is not 0.7 in float32, and dividing
that residue by a small epsilon turns it into an advantage.

Overlong shaping: Yu et al. 2025, DAPO, arXiv 2503.14476, equation 13.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import TokenBatch
from .errors import SpecError

RewardTransform = Callable[[Tensor, TokenBatch], Tensor]
"""(reward_B float64, batch) -> reward_B: a stage of reward shaping."""


@dataclass(frozen=True)
class Overlong:
    """Soft punishment of length: 0 up to maximum - cache policy tokens, falling linearly to -1 at the maximum, -1 beyond.

    maximum, cache: policy tokens, 0 < cache <= maximum (published: 20480 and 4096). Raises SpecError otherwise.
    """

    maximum: int = 20480
    cache: int = 4096

    def __post_init__(self) -> None:
        if not 0 < self.cache <= self.maximum:
            raise SpecError(f"Overlong(maximum={self.maximum}, cache={self.cache}): give 0 < cache <= maximum")

    def __call__(self, reward_B: Tensor, batch: TokenBatch) -> Tensor:
        return reward_B + ((self.maximum - self.cache - batch.length_B.double()) / self.cache).clamp(-1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Rewards of a batch and its groups, as the advantage parts and the filters read them.

    batch: the batch itself.
    row_B: (B,), false on rows without a policy token, which count nowhere.
    group_B: (B,), groups numbered 0 ... n_groups - 1; rows that count nowhere carry n_groups.
    reward_B: (B,), float64, shaped total reward; 0 on rows that count nowhere.
    token_reward_BT: (B, T), float64, what is paid at each position; its rows sum to `reward_B`.
    tolerance: relative difference up to which two rewards are the same number.
    """

    batch: TokenBatch
    row_B: Tensor
    group_B: Tensor
    n_groups: int
    reward_B: Tensor
    token_reward_BT: Tensor
    tolerance: float

    @property
    def group_size_B(self) -> Tensor:
        """Sequences in the group of each row, shape (B,), float64."""
        return self.group_sum(torch.ones_like(self.reward_B))

    def group_sum(self, x_B: Tensor) -> Tensor:
        """Sum over the group of each row, shape (B,), of x_B, shape (B,)."""
        total = x_B.new_zeros(self.n_groups + 1).index_add(0, self.group_B, torch.where(self.row_B, x_B, 0.0))
        return total[self.group_B]

    def group_mean(self, x_B: Tensor) -> Tensor:
        """Mean over the group of each row, shape (B,), of x_B, shape (B,)."""
        return self.group_sum(x_B) / self.group_size_B.clamp(min=1.0)

    def uniform(self, x_B: Tensor, whole_batch: bool = False) -> Tensor:
        """Where all rewards x_B, shape (B,), of the row's group (or of the whole batch) are equal, shape (B,), bool."""
        group_B = torch.where(self.row_B, 0, 1) if whole_batch else self.group_B
        empty = x_B.new_zeros(int(group_B.max()) + 1 if len(group_B) else 1)
        highest = empty.scatter_reduce(0, group_B, x_B, "amax", include_self=False)
        lowest = empty.scatter_reduce(0, group_B, x_B, "amin", include_self=False)
        scale = torch.maximum(highest.abs(), lowest.abs())
        return ((highest - lowest) <= self.tolerance * scale)[group_B]


def outcome(batch: TokenBatch, transforms: tuple[RewardTransform, ...] = (), charge_BT: Tensor | None = None) -> Outcome:
    """The outcome of a batch; `charge_BT`, shape (B, T), is taken from the reward of each policy token."""
    row_B = batch.mask_BT.any(1)
    given, group_B = torch.unique(batch.group_B[row_B], return_inverse=True)
    groups = torch.full_like(batch.group_B, len(given)).masked_scatter(row_B, group_B)
    raw_B = torch.where(row_B, batch.reward_B.detach().double(), 0.0)
    reward_B = raw_B
    for transform in transforms:
        reward_B = torch.where(row_B, transform(reward_B, batch), 0.0)
    token_reward_BT = _spread(batch, reward_B, row_B)
    tolerance = _tolerance(batch.reward_B.dtype)
    if charge_BT is not None:
        charge_BT = torch.where(batch.mask_BT, charge_BT.detach().double(), 0.0)
        reward_B = reward_B - charge_BT.sum(1)
        token_reward_BT = token_reward_BT - charge_BT
        tolerance = max(tolerance, _tolerance(batch.logp_old_BT.dtype))
    return Outcome(batch, row_B, groups, len(given), reward_B, token_reward_BT, tolerance)


def raw_reward(out: Outcome) -> Tensor:
    """The rewards before shaping, shape (B,), float64; 0 on rows that count nowhere."""
    return torch.where(out.row_B, out.batch.reward_B.detach().double(), 0.0)


def _spread(batch: TokenBatch, reward_B: Tensor, row_B: Tensor) -> Tensor:
    """(B, T): step rewards, and the rest of each sequence's reward on its last policy token."""
    mask_BT = batch.mask_BT
    paid_BT = torch.zeros(mask_BT.shape, dtype=torch.float64, device=mask_BT.device)
    if batch.step_reward_BT is not None:
        paid_BT = torch.where(row_B[:, None], batch.step_reward_BT.detach().double(), 0.0)
    position_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = torch.where(mask_BT, position_T, -1).amax(1) if mask_BT.shape[1] else torch.zeros_like(batch.group_B)
    at_last_BT = mask_BT & (position_T == last_B[:, None])
    return paid_BT + torch.where(at_last_BT, (reward_B - paid_BT.sum(1))[:, None], 0.0)


def _tolerance(dtype: torch.dtype) -> float:
    """Four units in the last place; none for whole numbers, nor for half precision, whose units are real differences."""
    return 4 * torch.finfo(dtype).eps if dtype in (torch.float32, torch.float64) else 0.0

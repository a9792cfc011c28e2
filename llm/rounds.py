r"""Rounds of a trajectory as samples of their own: discounted outcomes, and a batch cut to a multiple.

Round t of T, reward R at the end,

    r_t = g^(T - t) R,

an unbiased sample of Q_g of the problem whose one reward is R. Every round of every trajectory to a question is a row of one
group. Without a further factor g^(t-1) the expected sum of r_t grad log pi(d_t | s_t) is the gradient of no function for g < 1,
and of E[R] at g = 1. The published update is not that sum: the group's mean over rounds, the mean over |C| rounds and the
deviation all move with lengths, and make it the gradient of no function at g = 1 either. The deviation, moreover, gives lengths
a drift where they earn nothing: with one round or two, and success q whichever, groups of three or more lengthen their runs
where q > 1/2 and shorten them where q < 1/2.

Advantages over the group's deviation are not continuous at g = 1: in a group that is all right, with k = T - t rounds left,
A tends to -(k - mean k) / std k as g tends to 1, and is 0 at 1. Log the share of such groups, or damp them by an epsilon.

G. Chen et al. 2025, EAPO of IterResearch, arXiv 2511.07327.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .batch import TokenBatch
from .errors import BatchError, SpecError
from .outcome import Outcome
from .plan import Plan


@dataclass(frozen=True)
class RoundDiscount:
    """The outcome times g to the number of rounds left. Raises SpecError for a discount outside (0, 1].

    discount: g (published 0.995).
    """

    discount: float = 0.995

    needs = ("rounds_left_B",)

    def __post_init__(self) -> None:
        if not 0 < self.discount <= 1:
            raise SpecError(f"discount={self.discount} a round; give a number in (0, 1]")

    def __call__(self, reward_B: Tensor, batch: TokenBatch) -> Tensor:
        left_B = batch.rounds_left_B
        if left_B is None:
            raise BatchError("RoundDiscount() reads rounds_left_B, which the batch lacks")
        row_B = batch.mask_BT.any(1)
        if (wrong := row_B & (left_B < 0)).any():
            row = int(wrong.nonzero()[0])
            raise BatchError(f"rounds_left_B is {int(left_B[row])} at sequence {row}; a trajectory has no fewer than 0 to come")
        return reward_B * self.discount ** torch.where(row_B, left_B, 0).double()


@dataclass(frozen=True)
class SpreadGroups:
    """Keeps the groups whose rewards, after shaping, are not all equal: rounds of trajectories that all failed go, those that
    all succeeded stay wherever the discount tells them apart.
    """

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, 1), bool."""
        return ~out.uniform(out.reward_B)[:, None]


def downsampled(planned: Plan, multiple: int, rng: np.random.Generator) -> Plan:
    """A plan of fewer rows, a multiple of `multiple`: a uniform subset, its coefficients scaled up to the means they were.

    Group statistics are those of all rows. Rows of which no token takes part, for want of policy tokens or by a filter, go
    first. Raises SpecError for a multiple below one, and where fewer rows than one multiple are left.
    """
    if multiple < 1:
        raise SpecError(f"multiple={multiple}; give the number of shards, at least 1")
    rows = planned.mask_BT.any(1).nonzero()[:, 0].numpy()
    kept = len(rows) // multiple * multiple
    if kept == 0:
        raise SpecError(f"{len(rows)} rows make no batch of {multiple}; sample more, or use fewer shards")
    index = torch.from_numpy(np.sort(rng.choice(rows, kept, replace=False)))
    part, scale = planned.select(index), len(rows) / kept
    critic_BT = None if part.critic_BT is None else scale * part.critic_BT
    return replace(
        part,
        coefficient_BT=scale * part.coefficient_BT,
        regulariser_BT=scale * part.regulariser_BT,
        critic_BT=critic_BT,
    )

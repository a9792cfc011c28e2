r"""Modes of answering: a reward that charges expensive modes on queries that the cheapest can already solve.

Of a query's rollouts some are forced, each mode by injecting its tag, and some choose their mode. With a_I the success of the
forced rollouts in the cheapest mode, p that of all forced ones,

    r = R (1 - p^alpha)   for other modes where a_I > tau,        r = R   else,

R = correctness times format. The factor is computed from the group that it reweights, so that a forced rollout's outcome moves
everybody's reward, its own baseline included: forced gradients come out too large by some per cent. `LeaveOneOutModes`
computes for
each rollout the rewards of all with it left out of a_I and p, and is exact. E p^2 = p^2 + sum_m a_m (1 - a_m)/(M^2 rho) for rho
rollouts in each of M modes.

Q. Chen et al. 2025, APO of A^2FM, arXiv 2510.12838.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .batch import TokenBatch
from .errors import BatchError, SpecError
from .outcome import Outcome


@dataclass(frozen=True)
class ModeCost:
    """The cost factor as a reward transform. Raises SpecError for settings out of range.

    tau: a query is easy where the cheapest mode's success is above it; in [0, 1), or 1 and more for never. alpha: > 0.
    source: of p: all-forced (paper), instant (a_I), or a number in [0, 1] that stands still. gate: whether only easy queries
    are charged; with a tau of 1 or more none is, and no rollout has to be forced.
    threshold: smallest reward of a right answer.
    """

    tau: float
    alpha: float = 2.0
    source: Literal["all-forced", "instant"] | float = "all-forced"
    gate: bool = True
    threshold: float = 1.0

    needs = ("mode_B", "forced_B")

    def __post_init__(self) -> None:
        if not self.alpha > 0 or not self.tau >= 0:
            raise SpecError(f"alpha={self.alpha}, tau={self.tau}: give alpha above 0 and tau of 0 or more (1/2 is usual)")
        named = self.source in ("all-forced", "instant")
        if not named and (isinstance(self.source, str) or not 0 <= self.source <= 1):
            raise SpecError(f"source={self.source!r}; give all-forced, instant, or a success rate in [0, 1]")

    @property
    def charges(self) -> bool:
        """Whether any query can be charged."""
        return not self.gate or self.tau < 1

    def __call__(self, reward_B: Tensor, batch: TokenBatch) -> Tensor:
        mode_B, forced_B = _tags(batch)
        row_B = batch.mask_BT.any(1)
        right_B = (reward_B >= self.threshold).double()
        shaped_B = reward_B.clone()
        for group in torch.unique(batch.group_B[row_B]).tolist():
            mine_B = row_B & (batch.group_B == group)
            counted_B = mine_B & forced_B & (mode_B >= 0)
            if self.charges and not counted_B.any():
                raise BatchError(f"the group {group} has no forced rollout, so that no success rate is known: force modes")
            factor = self.factor(right_B[counted_B], mode_B[counted_B])
            shaped_B[mine_B] = torch.where(mode_B[mine_B] > 0, factor * reward_B[mine_B], reward_B[mine_B])
        return torch.where(mode_B >= 0, shaped_B, 0.0)

    def factor(self, right: Tensor, mode: Tensor) -> float:
        """What rollouts in other modes are paid, of forced outcomes (n,), 0 or 1, in modes (n,)."""
        instant = right[mode == 0]
        rate = float(instant.mean()) if len(instant) else 0.0
        if self.gate and not rate > self.tau:
            return 1.0
        if self.source == "all-forced":
            p = float(right.mean()) if len(right) else 0.0
        else:
            p = rate if self.source == "instant" else float(self.source)
        return adaptive_factor(p, self.alpha)


@dataclass(frozen=True)
class LeaveOneOutModes:
    """A_i = r_i - mean_j r_j, all rewards charged with rollout i left out of the success rates. One number a sequence.

    cost: the charge. The batch's rewards are to be uncharged.
    """

    cost: ModeCost

    needs = ("mode_B", "forced_B")

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64. Raises BatchError where the batch has no modes, or a group nothing forced."""
        batch, advantage_B = out.batch, torch.zeros_like(out.reward_B)
        mode_B, forced_B = _tags(batch)
        for group in torch.unique(batch.group_B[out.row_B]).tolist():
            mine = (out.row_B & (batch.group_B == group)).nonzero()[:, 0]
            mode, forced, reward = mode_B[mine], forced_B[mine] & (mode_B[mine] >= 0), out.reward_B[mine]
            if self.cost.charges and not forced.any():
                raise BatchError(f"the group {group} has no forced rollout, so that no success rate is known: force modes")
            valid = torch.where(mode >= 0, reward, 0.0)
            for i, row in enumerate(mine.tolist()):
                others = forced.clone()
                others[i] = False
                factor = self.cost.factor((reward[others] >= self.cost.threshold).double(), mode[others])
                charged = torch.where(mode > 0, factor * valid, valid)
                advantage_B[row] = charged[i] - charged.mean()
        return advantage_B[:, None].expand(batch.mask_BT.shape)


def adaptive_factor(p: float, alpha: float) -> float:
    """1 - p^alpha. Raises SpecError for a rate outside [0, 1]."""
    if not 0 <= p <= 1:
        raise SpecError(f"p={p} is no success rate; give a number in [0, 1]")
    return 1 - p**alpha


def unbiased_square(successes: np.ndarray, rollouts: int) -> float:
    """An unbiased estimate of p^2, p the mean success of modes, from successes (M,) among `rollouts` each.

    p^2 - sum_m a_m (1 - a_m)/(M^2 (rho - 1)). Raises SpecError for fewer than two rollouts a mode.
    """
    if rollouts < 2:
        raise SpecError(f"rollouts={rollouts} a mode; a variance takes two")
    rate = np.asarray(successes, dtype=np.float64) / rollouts
    return float(rate.mean() ** 2 - (rate * (1 - rate)).sum() / (len(rate) ** 2 * (rollouts - 1)))


def best_mode(
    accuracy: np.ndarray, alpha: float, easy: bool = True, source: Literal["all-forced", "instant"] | float = "all-forced"
) -> int:
    """The mode that the charged reward prefers, of accuracies (M,), the cheapest first; that one where it ties.

    source: of p, as in `ModeCost`, in the limit of a large group: the mean accuracy, the cheapest mode's, or a number in
    [0, 1]. Raises SpecError for another.
    """
    cost = ModeCost(0.0, alpha, source, gate=False)
    p = {"all-forced": float(np.mean(accuracy)), "instant": float(accuracy[0])}.get(str(cost.source), cost.source)
    factor = adaptive_factor(float(p), alpha) if easy else 1.0
    worth = np.where(np.arange(len(accuracy)) > 0, factor, 1.0) * np.asarray(accuracy)
    return int(np.argmax(worth >= worth.max() - 1e-15))


def without_tags(mask_BT: Tensor, forced_B: Tensor, tags: int) -> Tensor:
    """A mask, (B, T), without the first `tags` policy tokens of forced rollouts, which nobody chose."""
    count_BT = mask_BT.cumsum(1)
    return mask_BT & ~(forced_B[:, None] & (count_BT <= tags))


def cost_of_pass(cost: float, success: float) -> float:
    """Expected cost over the probability of success; infinite where nothing succeeds."""
    return cost / success if success > 0 else float("inf")


def _tags(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    if batch.mode_B is None or batch.forced_B is None:
        raise BatchError("a charge on modes reads mode_B and forced_B, which the batch lacks")
    return batch.mode_B, batch.forced_B

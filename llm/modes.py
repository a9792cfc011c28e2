r"""Modes of answering: a reward that charges expensive modes on queries that the cheapest can already solve.

Of a query's rollouts some are forced, each mode by injecting its tag, and some choose their mode. With a_I the success of the
forced rollouts in the cheapest mode, p that of all forced ones,

    r = R (1 - p^alpha)   for other modes where a_I > tau,        r = R   else,

R = correctness times format. Three errors come with rates of few rollouts:

    bias    the factor is computed from the group that it reweights, so that a forced rollout's outcome moves everybody's
            reward, its own baseline included. Forced gradients are too large or too small: two modes of accuracy 1/2, one
            forced rollout each, alpha 2, no gate: 11/64 and 3/64 where a rate that stands still gives 8/64 and 5/64.
            `LeaveOneOutModes` computes for each rollout the rewards of all with it left out of a_I and p, and is exact.
    square  E p^2 = p^2 + sum_m a_m (1 - a_m)/(M^2 rho) for rho rollouts in each of M modes.
    gate    P(a_I > tau) is neither 0 nor 1: hard queries are charged now and then, easy ones spared. `ModeCost.mean_factor`
            is what a group of a given size pays in the mean, and `best_mode` with `rho` the mode that it prefers.

Q. Chen et al. 2025, APO of A^2FM, arXiv 2510.12838.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, isfinite
from numbers import Integral
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..mdp.validation import is_real
from .batch import TokenBatch
from .errors import BatchError, SpecError
from .outcome import Outcome

Source = Literal["all-forced", "instant"] | float | Mapping[int, float]
"""Where p comes from: see `ModeCost`."""


@dataclass(frozen=True)
class ModeCost:
    """The cost factor as a reward transform. Raises SpecError for settings out of range.

    tau: a query is easy where the cheapest mode's success is above it; in [0, 1), or 1 and more for never. alpha: > 0.
    source: of p: all-forced (paper), instant (a_I), or a rate in [0, 1] that stands still: a number, or one for each group, by
    its number in the batch. gate: whether only easy queries are charged; with a tau of 1 or more none is, and no rollout has to
    be forced.
    threshold: smallest reward of a right answer.
    """

    tau: float
    alpha: float = 2.0
    source: Source = "all-forced"
    gate: bool = True
    threshold: float = 1.0

    needs = ("mode_B", "forced_B")

    def __post_init__(self) -> None:
        if not (is_real(self.alpha) and self.alpha > 0 and is_real(self.tau) and self.tau >= 0):
            raise SpecError(f"alpha={self.alpha}, tau={self.tau}: give alpha above 0 and tau of 0 or more (1/2 is usual)")
        if not is_real(self.threshold) or not isfinite(self.threshold):
            raise SpecError(f"threshold={self.threshold!r}; give the smallest reward of a right answer, 1 for verdicts")
        rates = list(self.source.values()) if isinstance(self.source, Mapping) else [self.source]
        if self.source not in ("all-forced", "instant") and not all(is_real(p) and 0 <= p <= 1 for p in rates):
            raise SpecError(f"source={self.source!r}; give all-forced, instant, or success rates in [0, 1], one or one a group")

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
            self.require(mode_B[counted_B], group)
            factor = self.factor(right_B[counted_B], mode_B[counted_B], group)
            shaped_B[mine_B] = torch.where(mode_B[mine_B] > 0, factor * reward_B[mine_B], reward_B[mine_B])
        return torch.where(mode_B >= 0, shaped_B, 0.0)

    def require(self, mode: Tensor, group: int) -> None:
        """Raise BatchError where the modes (n,) of a group's forced rollouts do not tell what the charge asks."""
        if not self.charges:
            return
        if not len(mode):
            raise BatchError(f"the group {group} has no forced rollout, so that no success rate is known: force modes")
        if (self.gate or self.source == "instant") and not bool((mode == 0).any()):
            raise BatchError(
                f"the group {group} has no forced rollout in the cheapest mode, so that nobody knows whether it is easy: "
                "force mode 0 too, and give an ill-formed answer the mode that was forced and the reward 0"
            )

    def factor(self, right: Tensor, mode: Tensor, group: int | None = None) -> float:
        """What rollouts in other modes are paid, of forced outcomes (n,), 0 or 1, in modes (n,).

        group: its number, where `source` is a rate a group; BatchError where that has none.
        """
        instant = right[mode == 0]
        return self._factor(float(instant.sum()), len(instant), float(right.sum()), len(right), self.told(group))

    def told(self, group: int | None = None) -> float | None:
        """The success rate of a group that stands still, None where its rollouts say it.

        Raises BatchError for a group that `source` does not have.
        """
        if isinstance(self.source, str):
            return None
        if not isinstance(self.source, Mapping):
            return float(self.source)
        if group is None or group not in self.source:
            raise BatchError(f"source has no success rate of the group {group}; it has those of {sorted(self.source)[:8]}")
        return self.source[group]

    def mean_factor(self, accuracy: Sequence[float] | np.ndarray, rho: int) -> float:
        """E of the factor over rho forced rollouts in each mode of accuracies (M,), the cheapest first: 1 - E p^alpha 1[easy].

        Exact up to rounding, by the binomial laws of the cheapest mode's successes and of the rest's. Raises SpecError for
        accuracies outside [0, 1], rho below 1, and a source of one rate a group.
        """
        a = _accuracies(accuracy)
        if not isinstance(rho, Integral) or rho < 1 or isinstance(self.source, Mapping):
            raise SpecError(f"rho={rho}, source={self.source!r}: give one forced rollout a mode or more, and one rate")
        rest = np.ones(1)
        for success in a[1:]:
            rest = np.convolve(rest, _binomial(int(rho), success))
        first = _binomial(int(rho), a[0])
        told = None if isinstance(self.source, str) else float(self.source)
        return sum(
            float(first[k] * chance) * self._factor(k, int(rho), k + others, int(rho) * len(a), told)
            for k in range(len(first))
            for others, chance in enumerate(rest)
        )

    def _factor(self, instant: float, instants: int, right: float, forced: int, told: float | None) -> float:
        """Of numbers of right answers and of answers, in the cheapest mode and in all, forced, and of what is told."""
        rate = instant / instants if instants else 0.0
        if self.gate and not rate > self.tau:
            return 1.0
        own = rate if self.source == "instant" else right / max(forced, 1)
        return adaptive_factor(own if told is None else told, self.alpha)


@dataclass(frozen=True)
class LeaveOneOutModes:
    """A_i = r_i - mean_j r_j, all rewards charged with rollout i left out of the success rates. One number a sequence.

    Where the rollout left out is the only forced one in the cheapest mode, the rest knows of no success there, and nobody is
    charged behind a gate.
    cost: the charge. The batch's rewards are to be uncharged.
    """

    cost: ModeCost

    needs = ("mode_B", "forced_B")

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64. Raises BatchError where the batch has no modes, or a group nothing forced."""
        batch, cost, advantage_B = out.batch, self.cost, torch.zeros_like(out.reward_B)
        mode_B, forced_B = _tags(batch)
        for group in torch.unique(batch.group_B[out.row_B]).tolist():
            mine = (out.row_B & (batch.group_B == group)).nonzero()[:, 0]
            mode, reward = mode_B[mine], out.reward_B[mine]
            forced = forced_B[mine] & (mode >= 0)
            cost.require(mode[forced], group)
            valid = torch.where(mode >= 0, reward, 0.0)
            right, instant = (reward >= cost.threshold).double() * forced, (forced & (mode == 0)).double()
            own = torch.stack([right * instant, instant, right, forced.double()], 1)
            rest = (own.sum(0) - own).tolist()
            told = cost.told(group)
            factors = [cost._factor(k0, round(n0), k, round(n), told) for k0, n0, k, n in rest]
            paid = torch.tensor(factors, dtype=valid.dtype, device=valid.device)
            dear = torch.where(mode > 0, valid, 0.0)
            cheap = valid - dear
            advantage_B[mine] = cheap + paid * dear - (cheap.sum() + paid * dear.sum()) / len(mine)
        return advantage_B[:, None].expand(batch.mask_BT.shape)


def silent_groups(cost: ModeCost, batch: TokenBatch) -> dict[str, int]:
    """How many groups of a batch have equal charged rewards, and so no advantage, by cause.

    nothing right: no answer reaches the threshold. cheapest mode: all are right, in the cheapest mode. not charged: equal
    rewards, some in other modes, that cost nothing here. charged alike: the rest. Rewards are compared exactly, as verdicts
    are. Raises BatchError as the charge does.
    """
    paid_B, (mode_B, _), row_B = cost(batch.reward_B, batch), _tags(batch), batch.mask_BT.any(1)
    found: dict[str, int] = dict.fromkeys(("nothing right", "cheapest mode", "not charged", "charged alike"), 0)
    for group in torch.unique(batch.group_B[row_B]).tolist():
        mine_B = row_B & (batch.group_B == group)
        paid, given, mode = paid_B[mine_B], batch.reward_B[mine_B], mode_B[mine_B]
        if bool((paid != paid[0]).any()):
            continue
        if bool((given < cost.threshold).all()):
            found["nothing right"] += 1
        elif bool((mode == 0).all()):
            found["cheapest mode"] += 1
        else:
            found["not charged" if torch.equal(paid, given) else "charged alike"] += 1
    return found


def adaptive_factor(p: float, alpha: float) -> float:
    """1 - p^alpha. Raises SpecError for a rate outside [0, 1]."""
    if not is_real(p) or not 0 <= p <= 1:
        raise SpecError(f"p={p} is no success rate; give a number in [0, 1]")
    return 1 - p**alpha


def unbiased_square(successes: Sequence[float] | np.ndarray, rollouts: int) -> float:
    """An unbiased estimate of p^2, p the mean success of modes, from successes (M,) among `rollouts` each.

    p^2 - sum_m a_m (1 - a_m)/(M^2 (rho - 1)). Raises SpecError for fewer than two rollouts a mode, and for successes that are
    not among them.
    """
    if rollouts < 2:
        raise SpecError(f"rollouts={rollouts} a mode; a variance takes two")
    rate = np.asarray(successes, dtype=np.float64) / rollouts
    if rate.ndim != 1 or not len(rate) or not ((rate >= 0) & (rate <= 1)).all():
        raise SpecError(f"successes={successes} among {rollouts} rollouts each; give a number in 0..{rollouts} for each mode")
    return float(rate.mean() ** 2 - (rate * (1 - rate)).sum() / (len(rate) ** 2 * (rollouts - 1)))


def best_mode(
    accuracy: Sequence[float] | np.ndarray,
    alpha: float,
    easy: bool = True,
    source: Literal["all-forced", "instant"] | float = "all-forced",
    rho: int | None = None,
    tau: float | None = None,
) -> int:
    """The mode that the charged reward prefers, of accuracies (M,), the cheapest first; that one where it ties.

    source: of p, as in `ModeCost`. easy: whether the query is charged at all. tau: of the gate, None for none. rho: forced
    rollouts a mode, of which p and the gate are computed, by `ModeCost.mean_factor`; None for the limit of a large group, where
    p is the mean accuracy, the cheapest mode's, or the number, and the gate asks for the cheapest mode's own.
    Raises SpecError for accuracies outside [0, 1] or none, and for another source.
    """
    a = _accuracies(accuracy)
    if isinstance(source, Mapping):
        raise SpecError(f"source={source!r} is a rate a group; give the query's own")
    cost = ModeCost(0.0 if tau is None else tau, alpha, source, gate=tau is not None)
    factor = 1.0
    if easy and rho is not None:
        factor = cost.mean_factor(a, rho)
    elif easy:
        factor = cost._factor(float(a[0]), 1, float(a.mean()), 1, cost.told())
    worth = np.where(np.arange(len(a)) > 0, factor, 1.0) * a
    return int(np.argmax(worth >= worth.max() - 1e-15))


def without_tags(mask_BT: Tensor, forced_B: Tensor, tags: int) -> Tensor:
    """A mask, (B, T), without the first `tags` policy tokens of forced rollouts, which nobody chose.

    Raises SpecError for a negative number of tags.
    """
    if not isinstance(tags, Integral) or tags < 0:
        raise SpecError(f"tags={tags!r}; give the number of tokens that a mode's tag takes, 0 or more")
    count_BT = mask_BT.cumsum(1)
    return mask_BT & ~(forced_B[:, None] & (count_BT <= int(tags)))


def cost_of_pass(cost: float, success: float) -> float:
    """Expected cost over the probability of success; infinite where nothing succeeds.

    Raises SpecError for a cost that is negative or not finite, and for a success outside [0, 1].
    """
    if not (is_real(cost) and 0 <= cost < float("inf") and is_real(success) and 0 <= success <= 1 + 1e-9):
        raise SpecError(f"cost={cost!r}, success={success!r}; give a cost of 0 or more and a success rate in [0, 1]")
    return cost / success if success > 0 else float("inf")


def _accuracies(accuracy: Sequence[float] | np.ndarray) -> np.ndarray:
    """(M,) float64."""
    a = np.asarray(accuracy, dtype=np.float64)
    if a.ndim != 1 or not len(a) or not ((a >= 0) & (a <= 1)).all():
        raise SpecError(f"accuracy={accuracy}; give one in [0, 1] for each mode, the cheapest first")
    return a


def _binomial(n: int, p: float) -> np.ndarray:
    """Probabilities of 0..n successes, (n + 1,)."""
    return np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


def _tags(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    if batch.mode_B is None or batch.forced_B is None:
        raise BatchError("a charge on modes reads mode_B and forced_B, which the batch lacks")
    return batch.mode_B, batch.forced_B

r"""Answers to several prompts, paid together: bundles, tracked quantiles, and advantages by the mixed value at risk.

A set of prompts with G answers each is cut into G bundles, each with one answer to every prompt, by independent permutations; a
bundle's score is the sum of its rewards. Rewards of 0 and 1 have no tails to speak of, sums of several have. With quantiles
Q_a, Q_b of the scores, all tokens of a bundle share

    A = -(1 + w)(Q_a - R)^+ + clip(R, Q_a, Q_b) - Q_b,

the score function weight of `banach.mdp.tail_risk`. For w >= 0 it is never positive, so that nothing is ever pushed up but by
being pushed down less: the clip binds below 1 - low alone. `QuantileTracker` follows quantiles through batches,

    q_s <- q_s + eta (s - mean 1[R < q_s]).

Ren et al. 2025, RiskPO, arXiv 2510.00911.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .errors import BatchError, SpecError
from .outcome import Outcome

CREDITS = ("uniform", "std", "sum-mean", "score")


def bundled(group_B: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Bundles, (B,), of groups (B,): sets of `size` groups in order of first appearance, permuted answers matched in each set.

    Raises BatchError where groups are of unequal size, or their number is no multiple of `size`.
    """
    groups = list(dict.fromkeys(group_B.tolist()))
    places = [np.flatnonzero(group_B.numpy() == group) for group in groups]
    if size < 1:
        raise BatchError(f"size={size}: a bundle holds answers to 1 prompt or more")
    if len(groups) % size:
        raise BatchError(f"{len(groups)} groups make no bundles of {size}: draw a multiple of {size} prompts a step")
    if len({len(place) for place in places}) > 1:
        raise BatchError(
            f"groups of {sorted({len(place) for place in places})} answers make no bundles: give each prompt as many"
        )
    found = torch.empty_like(group_B)
    for k, place in enumerate(places):
        found[rng.permutation(place)] = torch.arange(len(place)) + (k // size) * len(place)
    return found


@dataclass(frozen=True)
class QuantileTracker:
    """Quantiles of scores through batches. Raises SpecError for levels outside (0, 1) or a rate that is not positive.

    levels, values: s and q_s. rate: eta in units of the score, or None for 1/k in batch k, which converges for scores with a
    density; with a constant rate batches that are the law itself end within eta of the quantile and stay there, drawn ones
    fluctuate about it. count: batches seen.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]
    rate: float | None = 0.1
    count: int = 0

    def __post_init__(self) -> None:
        if not self.levels or any(not 0 < level < 1 for level in self.levels) or len(self.levels) != len(self.values):
            raise SpecError(f"levels={self.levels}, values={self.values}: one value for each level in (0, 1)")
        if not all(map(math.isfinite, self.values)):
            raise SpecError(f"values={self.values} of the tracker: give finite numbers")
        if self.rate is not None and not self.rate > 0:
            raise SpecError(f"rate={self.rate} of the tracker; give a positive number, or None for 1/k")

    @classmethod
    def started(cls, levels: tuple[float, ...], scores: np.ndarray, rate: float | None = 0.1) -> QuantileTracker:
        """At the quantiles of a first batch's scores, of shape (n,)."""
        tensor = torch.as_tensor(np.asarray(scores, dtype=np.float64))
        return cls(levels, tuple(_quantile(tensor, level) for level in levels), rate)

    def updated(self, scores: np.ndarray) -> QuantileTracker:
        """After a batch of scores, of shape (n,); as it was after none. Raises BatchError for scores that are not finite."""
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise BatchError(
                f"score {int(np.argmin(np.isfinite(scores)))} is {scores[~np.isfinite(scores)][0]}; scores are finite"
            )
        if not len(scores):
            return self
        rate = 1 / (self.count + 1) if self.rate is None else self.rate
        moved = tuple(q + rate * (s - float((scores < q).mean())) for s, q in zip(self.levels, self.values, strict=True))
        return replace(self, values=moved, count=self.count + 1)


@dataclass(frozen=True)
class MixedRisk:
    """Advantages of bundles by the mixed value at risk. Raises SpecError for settings out of range.

    low, high: levels, 0 < low < high <= 1. weight: w, on the lower tail, at least -1. quantiles: (Q_low, Q_high), tracked; None
    takes those of the scores at hand. pool: whose scores these are, all bundles of the batch, or a set's, the bundles of the
    same prompts, interpolated as by torch.quantile. scale: none, or bundle-std, the standard deviation of those scores
    (population's over a batch, sample's over a set). factor: multiplies. constant: whether Q_low - Q_high is added.
    credit: how a bundle's advantage is shared among its answers: uniform, the whole to each; std, over the prompt's sample
    deviation where that exceeds 1e-3; sum-mean, parts in proportion to reward less the prompt's mean, equal ones where that
    sums to less than 1e-6; score, 0.5 of it to answers with a positive reward and 1.5 to the others.
    """

    low: float = 0.2
    high: float = 0.8
    weight: float = 0.5
    quantiles: tuple[float, float] | None = None
    scale: Literal["none", "bundle-std"] = "none"
    factor: float = 1.0
    credit: Literal["uniform", "std", "sum-mean", "score"] = "uniform"
    pool: Literal["batch", "set"] = "batch"
    constant: bool = True

    needs = ("bundle_B",)

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= 1:
            raise SpecError(f"low={self.low}, high={self.high}: levels of quantiles with 0 < low < high <= 1")
        if not (-1 <= self.weight < math.inf and math.isfinite(self.factor)):
            raise SpecError(f"weight={self.weight}, factor={self.factor}: give a weight of at least -1, and finite numbers")
        if self.quantiles is not None and not -math.inf < self.quantiles[0] <= self.quantiles[1] < math.inf:
            raise SpecError(f"quantiles={self.quantiles}: that of the lower level comes first and is no larger")
        if self.scale not in ("none", "bundle-std") or self.credit not in CREDITS or self.pool not in ("batch", "set"):
            raise SpecError(
                f"scale={self.scale!r}, credit={self.credit!r}, pool={self.pool!r}; give none or bundle-std, one of "
                f"{', '.join(CREDITS)}, batch or set"
            )

    def __call__(self, out: Outcome) -> Tensor:
        """(B, T), float64. Raises BatchError where the batch has no bundles."""
        names, index_B = torch.unique(_bundle(out), return_inverse=True)
        n = len(names)
        total = out.reward_B.new_zeros(n + 1).index_add(0, _placed(out, index_B, n), out.reward_B)[:-1]
        present = torch.zeros(n + 1).index_add(0, _placed(out, index_B, n), torch.ones(len(index_B)))[:-1] > 0
        low, high, deviation = torch.zeros(3, n, dtype=torch.float64).unbind()
        for mine in self._pools(out, index_B, n):
            scores = total[mine & present]
            if len(scores):
                low[mine], high[mine] = self._quantiles(scores)
                deviation[mine] = self._deviation(scores)
        shortfall = (low - total).clamp(min=0)
        advantage = -(1 + self.weight) * shortfall + total.clamp(low, high) - (high if self.constant else low)
        if self.scale == "bundle-std":
            advantage = torch.where(deviation > 1e-12, advantage / deviation.clamp(min=1e-12), 0.0)
        advantage_B = self.factor * self._share(out, index_B, n) * advantage[index_B]
        return torch.where(out.row_B, advantage_B, 0.0)[:, None].expand(out.batch.mask_BT.shape)

    def _pools(self, out: Outcome, index_B: Tensor, n: int) -> list[Tensor]:
        """Which bundles, (n,), bool, are looked at together; those of a set share their first prompt."""
        if self.pool == "batch":
            return [torch.ones(n, dtype=torch.bool)]
        first = torch.zeros(n, dtype=torch.int64).scatter_reduce(0, index_B, out.batch.group_B, "amin", include_self=False)
        return [first == prompt for prompt in torch.unique(first)]

    def _quantiles(self, scores: Tensor) -> tuple[float, float]:
        if self.quantiles is not None:
            return self.quantiles
        if self.pool == "set":
            return float(torch.quantile(scores, self.low)), float(torch.quantile(scores, self.high))
        return _quantile(scores, self.low), _quantile(scores, self.high)

    def _deviation(self, scores: Tensor) -> float:
        """Of one score: 1 in a set, else 0."""
        if len(scores) == 1:
            return 1.0 if self.pool == "set" else 0.0
        return float(scores.std(correction=int(self.pool == "set")))

    def _share(self, out: Outcome, index_B: Tensor, n: int) -> Tensor:
        """(B,): what multiplies a bundle's advantage for each of its answers."""
        if self.credit == "uniform":
            return torch.ones_like(out.reward_B)
        if self.credit == "score":
            return torch.where(out.reward_B > 0, 0.5, 1.5).double()
        centred_B = out.reward_B - out.group_mean(out.reward_B)
        if self.credit == "std":
            deviation_B = (out.group_sum(centred_B.square()) / (out.group_size_B - 1).clamp(min=1)).sqrt()
            return torch.where(deviation_B > 1e-3, 1 / deviation_B.clamp(min=1e-3), 1.0)
        place_B = _placed(out, index_B, n)
        whole_B = centred_B.new_zeros(n + 1).index_add(0, place_B, centred_B)[index_B]
        many_B = centred_B.new_zeros(n + 1).index_add(0, place_B, torch.ones_like(centred_B))[index_B]
        even_B = whole_B.abs() <= 1e-6
        return torch.where(even_B, 1 / many_B.clamp(min=1), centred_B / torch.where(even_B, 1.0, whole_B))


def followed(
    risk: MixedRisk, tracker: QuantileTracker | None, scores: np.ndarray, rate: float = 0.1
) -> tuple[MixedRisk, QuantileTracker | None]:
    """The advantage with tracked quantiles after a batch of scores (n,), and the tracker; it starts at the first batch's own.

    Where a batch moves the lower quantile past the upper one, the upper one stands for both. Without any scores nothing moves.
    """
    if tracker is None:
        if not len(scores):
            return risk, None
        tracker = QuantileTracker.started((risk.low, risk.high), scores, rate)
    tracker = tracker.updated(scores)
    low, high = tracker.values
    return replace(risk, quantiles=(min(low, high), high)), tracker


def bundle_scores(out: Outcome) -> np.ndarray:
    """Scores of the bundles that occur, (n,), in the order of their numbers. Raises BatchError where there are none."""
    kept = _bundle(out)[out.row_B]
    names, index = torch.unique(kept, return_inverse=True)
    return torch.zeros(len(names), dtype=torch.float64).index_add(0, index, out.reward_B[out.row_B]).numpy()


def _bundle(out: Outcome) -> Tensor:
    if out.batch.bundle_B is None:
        raise BatchError("an advantage of bundles reads bundle_B, which the batch lacks: see banach.llm.bundled")
    return out.batch.bundle_B


def _placed(out: Outcome, index_B: Tensor, n: int) -> Tensor:
    return torch.where(out.row_B, index_B, n)


def _quantile(scores: Tensor, level: float) -> float:
    """inf {x : F(x) >= level} of scores (n,)."""
    at = max(0, int(np.ceil(level * len(scores) - 1e-9)) - 1)
    return float(scores.double().sort().values[min(at, len(scores) - 1)])

r"""Signs that a policy has been optimized too far, read off its next-token distributions; and when to stop.

With p_(1) >= p_(2) >= ... the probabilities of the next token and M = sum_{i<=k} p_(i) the mass of the k likeliest,

    raw entropy   H_raw = -sum_{i<=k} p_(i) log p_(i)              renormalised   H_ren = -sum_{i<=k} p_(i)/M log p_(i)/M,
    H_raw = M (H_ren - log M),      H = h(M) + M H_ren + (1 - M) H_rest,      0 <= H_ren <= log k,      M >= k/V,

h the entropy of a coin. So the raw entropy may rise while the renormalised one falls, merely because mass leaves the top: shape
and mass are told apart here. In nats throughout; the publication's unit is bits.

The rule: smooth both series; where one has been more than `drop` below its running maximum at `patience` evaluations in a row,
stop, and go back to where that series was highest. Nothing is known of a reward here: a sign, and no verdict.

Diversity across answers, for n-grams of one order with C of them in all, N different, of V possible (Li et al. 2016, arXiv
1510.03055, corrected for length by Liu et al. 2022, arXiv 2202.13587):

    N / (V (1 - (1 - 1/V)^C)),      the different ones over those that C uniform draws would have; above 1 where none repeats.

Shi, Land, Locatelli, Geist and Bartolo 2024, arXiv 2410.11677 (the signals); the rule is ours.

Shape suffixes: B sequences, T token positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .errors import BatchError, SpecError


@dataclass(frozen=True, eq=False)
class TopK:
    """Of distributions (..., V) each of shape (...): entropies in nats, raw and renormalised, and the mass M.

    mass is None where k covers the vocabulary: it is then 1 whatever the policy does, and says nothing.
    """

    raw_entropy: Tensor
    entropy: Tensor
    mass: Tensor | None


def top_k_signals(log_policy: Tensor, k: int = 10) -> TopK:
    """Of log-probabilities (..., V) before any temperature or truncation; tokens of probability 0 contribute 0.

    k: at least 1, cut to V. Raises BatchError for a tensor that holds no distributions, and SpecError for another k.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise SpecError(f"k = {k!r} tokens; give a whole number of at least 1")
    if not log_policy.ndim or not log_policy.is_floating_point() or log_policy.isnan().any():
        raise BatchError(
            f"log_policy of shape {tuple(log_policy.shape)} and {log_policy.dtype} must be log-probabilities (..., V)"
        )
    total = log_policy.logsumexp(-1)
    if (total.abs() > 1e-4).any():
        raise BatchError(
            f"probabilities of a next token add up to {float(total.exp().flatten()[total.abs().argmax()]):g}, not to 1: give "
            "log-softmax of the raw logits"
        )
    size = log_policy.shape[-1]
    top = log_policy.topk(min(k, size), -1).values
    log_mass = top.logsumexp(-1)

    def entropy(log_p: Tensor) -> Tensor:
        return -torch.where(log_p > -torch.inf, log_p.exp() * log_p, 0.0).sum(-1)

    renormalised = entropy(top - log_mass[..., None])
    return TopK(entropy(top), renormalised, None if k >= size else log_mass.exp())


def over_optimisation_signals(log_policy_BTV: Tensor, mask_BT: Tensor, k: int = 10) -> dict[str, float]:
    """Means over the positions of mask_BT, (B, T) bool, of log-probabilities (B, T, V), by names that say k and the unit.

    The positions should be of answers that the policy generated. Keys top_k_entropy_nats, top_k_raw_entropy_nats and, where k
    is below V, top_k_mass, with k's number for k. Raises BatchError for a mask without positions or of another shape.
    """
    if mask_BT.dtype != torch.bool or mask_BT.shape != log_policy_BTV.shape[:-1] or not mask_BT.any():
        raise BatchError(f"mask_BT must be a bool tensor of shape {tuple(log_policy_BTV.shape[:-1])} that marks some position")
    found = top_k_signals(log_policy_BTV.detach()[mask_BT], k)
    numbers = {f"top_{k}_entropy_nats": found.entropy, f"top_{k}_raw_entropy_nats": found.raw_entropy}
    if found.mass is not None:
        numbers[f"top_{k}_mass"] = found.mass
    return {name: float(x.double().mean()) for name, x in numbers.items()}


@dataclass(frozen=True)
class Stop:
    """Where a run should have stopped. signal: which series fell. at: the evaluation that told, from 0. best: the evaluation
    at which the series was highest until then, whose checkpoint to keep.
    """

    signal: Literal["entropy", "mass"]
    at: int
    best: int


@dataclass
class OverOptimisationWatch:
    """Reads a run's signals, one evaluation after the other; `stop` is None until it tells to stop, and stays as it is then.

    drop: share of the running maximum, in (0, 1), by which a smoothed series must have fallen. patience: evaluations in a row.
    smoothing: weight in [0, 1) of the past in the moving average. Raises SpecError for settings outside their ranges.
    """

    drop: float = 0.02
    patience: int = 3
    smoothing: float = 0.5
    stop: Stop | None = field(default=None, init=False)
    _series: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False)
    _state: dict[str, tuple[float, float, int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 < self.drop < 1 and 0 <= self.smoothing < 1 and self.patience >= 1):
            raise SpecError(
                f"drop={self.drop}, patience={self.patience}, smoothing={self.smoothing}: give drop in (0, 1), patience of at "
                "least 1 and smoothing in [0, 1)"
            )

    def record(self, entropy: float, mass: float | None = None) -> Stop | None:
        """One evaluation's renormalised entropy and mass, None where k covers the vocabulary. Raises BatchError for numbers
        that are negative or not finite.
        """
        for signal, number in (("entropy", entropy), ("mass", mass)):
            if number is None:
                continue
            if not 0 <= number < math.inf:
                raise BatchError(f"{signal} is {number} at evaluation {len(self._series.get(signal, []))}: give finite numbers")
            self._read(signal, number)
        return self.stop

    def _read(self, signal: str, number: float) -> None:
        series = self._series.setdefault(signal, [])
        series.append(number)
        smooth, highest, below = self._state.get(signal, (number, number, 0))
        smooth = self.smoothing * smooth + (1 - self.smoothing) * number
        highest = max(highest, smooth)
        below = below + 1 if smooth < (1 - self.drop) * highest else 0
        self._state[signal] = smooth, highest, below
        if self.stop is None and below >= self.patience:
            best = max(range(len(series)), key=series.__getitem__)
            self.stop = Stop("entropy" if signal == "entropy" else "mass", len(series) - 1, best)


def expectation_adjusted_distinct(
    outputs: Sequence[Sequence[int]], vocabulary: int, orders: Sequence[int] = (1, 2, 3, 4, 5)
) -> float:
    """The mean over n-gram orders of different n-grams over those expected of uniform draws from vocabulary^n.

    outputs: token sequences, any number of them. Orders longer than every output are left out. Raises BatchError where no
    n-gram is left, for a token outside the vocabulary, and SpecError for an order below 1.
    """
    if any(n < 1 for n in orders):
        raise SpecError(f"orders {tuple(orders)}: an n-gram has at least one token")
    for row, output in enumerate(outputs):
        if any(not 0 <= token < vocabulary for token in output):
            raise BatchError(f"output {row} has a token outside 0..{vocabulary - 1}")
    found = []
    for n in orders:
        grams = [tuple(output[i : i + n]) for output in outputs for i in range(len(output) - n + 1)]
        if grams:
            possible = float(vocabulary) ** n
            missed = len(grams) * math.log1p(-1 / possible) if possible > 1 else -math.inf
            found.append(len(set(grams)) / (-possible * math.expm1(missed)))
    if not found:
        raise BatchError(f"no output is as long as {min(orders, default=1)} tokens: there is nothing to count")
    return math.fsum(found) / len(found)


def win_probability(reward_policy_B: Tensor, reward_other_B: Tensor) -> float:
    """Mean over prompts of sigma(r - r'), the judge's rewards (B,) of the policy's answers and of a competitor's.

    Raises BatchError for shapes that differ, no prompt or rewards that are not finite.
    """
    gap_B = reward_policy_B.double() - reward_other_B.double() if reward_policy_B.shape == reward_other_B.shape else None
    if gap_B is None or gap_B.ndim != 1 or not len(gap_B) or not gap_B.isfinite().all():
        raise BatchError(
            f"rewards of shapes {tuple(reward_policy_B.shape)} and {tuple(reward_other_B.shape)} must be finite, one a prompt"
        )
    return float(torch.sigmoid(gap_B).mean())

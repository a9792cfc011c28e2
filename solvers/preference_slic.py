r"""Population optimum of SLiC: a hinge on the bare log-ratio and a cross-entropy that holds the policy to the reference.

    min over logits l    sum_k C_k max(0, g - (B l)_k) + w (log sum e^l - q'l)

over the pairs k that have wins C_k > 0, (B l)_k = l_winner - l_loser: convex, with one minimiser up to a constant. With
multipliers 0 <= a_k <= C_k of the hinges the dual is

    max    g sum_k a_k + w H(v),    v = q + B'a / w >= 0,    H(v) = -sum v log v,

and p = v at the optimum. A barrier, C x - mu log x - mu log(x - c) on the slack x of a hinge violated by c, leads near the
optimum and tells the hinges that are slack, tight or violated apart; Newton's method on the conditions of that choice,
w (p - q) = B'a and (B l)_k = g on the tight ones, then gives all digits. The duality gap is the certificate.

Zhao et al. 2023, arXiv 2305.10425 (loss); Boyd and Vandenberghe, Convex Optimization, 2004, chapter 11 (barrier).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import NotConverged
from .gibbs import gibbs, log_total
from .preference_losses import SLiC
from .preference_result import Existence, PreferenceOptimum

_GAP = 1e-8
"""Duality gap at which the barrier ends: each pair has a price that is its share of it."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """incidence B (k, n), cost C (k,), reference q (n,), margin g, weight w."""

    incidence: np.ndarray
    cost: np.ndarray
    reference: np.ndarray
    margin: float
    weight: float

    def value(self, logits: np.ndarray) -> float:
        hinge = self.cost @ np.maximum(0.0, self.margin - self.incidence @ logits)
        return float(hinge + self.weight * (log_total(logits) - self.reference @ logits))

    def dual_value(self, multiplier: np.ndarray) -> float:
        """Of the multipliers, cut to [0, C] and scaled down until v >= 0."""
        multiplier = np.clip(multiplier, 0.0, self.cost)
        flow = self.incidence.T @ multiplier
        leaving = flow < 0
        share = min(1.0, float((self.weight * self.reference[leaving] / -flow[leaving]).min(initial=1.0)))
        dual = np.maximum(self.reference + share * flow / self.weight, 0.0)
        entropy = -float(dual[dual > 0] @ np.log(dual[dual > 0]))
        return self.margin * share * float(multiplier.sum()) + self.weight * entropy

    def multiplier(self, logits: np.ndarray, price: float) -> np.ndarray:
        """price / (x - c) of the slack x that is best at this price: in (0, C)."""
        product = self.cost * (self.margin - self.incidence @ logits)
        half = np.sqrt(price**2 + (product / 2) ** 2)
        sum_ = price + half + np.abs(product) / 2
        # (x - c) C = price + half - product / 2, without cancellation where the product is large
        room = np.where(product > 0, price * (2 * price + 2 * half) / sum_, sum_)
        return np.minimum(price * self.cost / room, self.cost)


def slic_optimum(wins: np.ndarray, reference: np.ndarray, loss: SLiC) -> PreferenceOptimum:
    """The one optimum; wins (n, n) that sum to one, reference (n,). The residual is the duality gap.

    Raises NotConverged where the gap stays above 1e-7.
    """
    problem = _problem(wins, reference, loss)
    logits, price = np.log(reference), 1e-1
    while price >= _GAP / len(problem.cost):
        logits = _centred(problem, logits, price)
        price /= 4
    multiplier = problem.multiplier(logits, price * 4)
    gap = problem.value(logits) - problem.dual_value(multiplier)
    for logits_, multiplier_ in _polished(problem, logits, multiplier):
        gap_ = problem.value(logits_) - problem.dual_value(multiplier_)
        if gap_ < gap:
            logits, multiplier, gap = logits_, multiplier_, gap_
    value = problem.value(logits)
    if not gap <= 1e-7 * (1 + abs(value)):
        raise NotConverged(f"SLiC's duality gap is still {gap:.3g}; its weight {loss.weight} or a win is too small", gap)
    policy = gibbs(np.ones(len(logits)), logits)
    said = "the cross-entropy makes the loss strictly convex; the residual is the duality gap"
    return PreferenceOptimum(Existence.UNIQUE, policy[None], value, max(gap, 0.0), said)


def _problem(wins: np.ndarray, reference: np.ndarray, loss: SLiC) -> _Problem:
    pairs = np.argwhere(wins > 0)
    incidence = np.zeros((len(pairs), len(reference)))
    incidence[np.arange(len(pairs)), pairs[:, 0]] = 1.0
    incidence[np.arange(len(pairs)), pairs[:, 1]] = -1.0
    return _Problem(incidence, wins[wins > 0], reference, loss.margin, loss.weight)


def _centred(problem: _Problem, logits: np.ndarray, price: float) -> np.ndarray:
    """Newton on the smoothed loss at one price of the barrier; (n,), of mean zero."""
    n = len(logits)

    def slopes(at: np.ndarray) -> np.ndarray:
        pull = problem.incidence.T @ problem.multiplier(at, price)
        return problem.weight * (gibbs(np.ones(n), at) - problem.reference) - pull

    here = slopes(logits)
    for _ in range(100):
        force = problem.multiplier(logits, price)
        bend = 1 / (price / force**2 + price / np.maximum(problem.cost - force, 1e-200) ** 2)
        policy = gibbs(np.ones(n), logits)
        hessian = problem.incidence.T @ (bend[:, None] * problem.incidence)
        hessian += problem.weight * (np.diag(policy) - np.outer(policy, policy))
        step = np.linalg.lstsq(hessian, -here, rcond=None)[0]
        length = 1.0
        while length > 1e-10:
            following = logits + length * step
            there = slopes(following)
            if np.linalg.norm(there) <= (1 - 1e-4 * length) * np.linalg.norm(here):
                break
            length /= 2
        else:
            break
        logits, here = following - following.mean(), there
        if np.abs(here).max() <= 1e-3 * price:
            break
    return logits


def _polished(problem: _Problem, logits: np.ndarray, multiplier: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Newton steps on the conditions with every hinge held slack, tight or violated, as the multipliers say."""
    n, share = len(logits), multiplier / problem.cost
    tight = (share > 1e-3) & (share < 1 - 1e-3)
    multiplier = np.where(share >= 1 - 1e-3, problem.cost, np.where(tight, multiplier, 0.0))
    held = problem.incidence[tight]
    points = []
    for _ in range(8):
        policy = gibbs(np.ones(n), logits)
        unmet = problem.weight * (policy - problem.reference) - problem.incidence.T @ multiplier
        off = problem.margin - held @ logits
        curvature = problem.weight * (np.diag(policy) - np.outer(policy, policy))
        system = np.block([[curvature, -held.T], [held, np.zeros((len(held), len(held)))]])
        step = np.linalg.lstsq(system, np.concatenate([-unmet, off]), rcond=None)[0]
        logits = logits + step[:n]
        multiplier = multiplier.copy()
        multiplier[tight] += step[n:]
        if not np.isfinite(logits).all() or np.abs(logits).max() > 700:
            break
        points.append((logits, multiplier))
    return points

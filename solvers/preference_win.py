r"""Population optimum of ORPO: likelihood of the winner plus a weighted log-sigmoid of the log-odds ratio.

    L(p) = sum_ij C_ij [-log p_i + w softplus(o_j - o_i)],    o = log p / (1 - p),    sum_ij C_ij = 1.

Two responses, x = log p_0/p_1, r = C_01: o_0 - o_1 = 2 x, and L is stationary where (s(x) - r) + 2 w (s(2x) - r) = 0, which
increases in x and has one root, strictly between logit(r)/2 (w large) and logit(r) (w = 0). With more responses L is not
convex; the answer is a first-order point, the one of least loss from several starts. A response that never wins has no
likelihood to keep: it sits at zero where the slope of L there is not below that of the others.

Hong, Lee and Thorne 2024, arXiv 2403.07691.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize, root
from scipy.special import expit

from .crossing import crossing
from .errors import NotConverged
from .gibbs import gibbs
from .preference_losses import ORPO
from .preference_result import Existence, PreferenceOptimum


def orpo_value(wins: np.ndarray, policy: np.ndarray, weight: float) -> float:
    """L of a policy (n,) with p_i > 0 where i wins; wins (n, n)."""
    with np.errstate(divide="ignore"):
        logs = np.log(policy)
    odds = logs - np.log1p(-policy)
    first, second = np.nonzero(wins)
    losses = weight * np.logaddexp(0.0, odds[second] - odds[first]) - logs[first]
    return float(wins[first, second] @ losses)


def orpo_slopes(wins: np.ndarray, policy: np.ndarray, weight: float) -> np.ndarray:
    """dL/dp, (n,), of a policy (n,) with p_i > 0 where i wins; wins (n, n)."""
    first, second = np.nonzero(wins)
    p, r, win = policy[first], policy[second], wins[first, second]
    # softplus(o_j - o_i) = log(p_i + p_j - 2 p_i p_j) - log p_i - log(1 - p_j): finite slopes at p_j = 0
    both = p + r - 2 * p * r
    slopes = np.zeros(len(policy))
    np.add.at(slopes, first, win * (weight * ((1 - 2 * r) / both - 1 / p) - 1 / p))
    np.add.at(slopes, second, win * weight * ((1 - 2 * p) / both + 1 / (1 - r)))
    return slopes


def orpo_optimum(wins: np.ndarray, loss: ORPO) -> PreferenceOptimum:
    """The optimum of ORPO; wins (n, n) sum to one. Raises NotConverged where no start leads to a first-order point."""
    winners = wins.sum(axis=1) > 0
    if winners.sum() == 1:
        only = int(np.flatnonzero(winners)[0])
        said = f"response {only} alone ever wins and takes all probability; its log-odds are infinite"
        return PreferenceOptimum(Existence.BOUNDARY, winners.astype(np.float64)[None], 0.0, 0.0, said)
    if len(wins) == 2:
        return _two_responses(wins, loss)
    support = winners.copy()
    while True:
        policy = _stationary(wins, support, loss.weight)
        slopes = orpo_slopes(wins, policy, loss.weight)
        level = float(policy @ slopes)
        low = np.flatnonzero(~support & (slopes < level - 1e-9))
        if not len(low):
            break
        support[low] = True
    residual = float(np.abs(policy * (slopes - level)).max())
    value = orpo_value(wins, policy, loss.weight)
    if support.all():
        said = "a first-order point, the best of several starts; with three responses or more the loss is not convex"
        return PreferenceOptimum(Existence.STATIONARY, policy[None], value, residual, said)
    gone = ", ".join(map(str, np.flatnonzero(~support)))
    return PreferenceOptimum(
        Existence.BOUNDARY, policy[None], value, residual, f"responses {gone} never win and have probability zero"
    )


def _two_responses(wins: np.ndarray, loss: ORPO) -> PreferenceOptimum:
    rate = float(wins[0, 1])
    edge = float(np.log(wins[0, 1]) - np.log(wins[1, 0]))
    ends = sorted((edge / 2, edge))

    def slope(x: float) -> float:
        rare = wins[1, 0]
        if x > 0:  # both terms as small differences of the probabilities of losing
            return (rare - expit(-x)) + 2 * loss.weight * (rare - expit(-2 * x))
        return (expit(x) - rate) + 2 * loss.weight * (expit(2 * x) - rate)

    x = crossing(slope, ends[0] - 1e-9, ends[1] + 1e-9)
    policy = expit(np.array([x, -x]))
    value = orpo_value(wins, policy, loss.weight)
    slopes = orpo_slopes(wins, policy, loss.weight)
    residual = float(np.abs(policy * (slopes - policy @ slopes)).max())
    return PreferenceOptimum(Existence.UNIQUE, policy[None], value, residual, "the slope in the log-odds has one root")


def _stationary(wins: np.ndarray, support: np.ndarray, weight: float) -> np.ndarray:
    """The best first-order point found on the support, (n,), zero outside."""
    inside = np.flatnonzero(support)

    def policy_of(logits: np.ndarray) -> np.ndarray:
        policy = np.zeros(len(wins))
        policy[inside] = gibbs(np.ones(len(inside)), logits)
        return policy

    def slopes(logits: np.ndarray) -> np.ndarray:
        policy = policy_of(logits)
        raw = orpo_slopes(wins, policy, weight)
        return (policy * (raw - policy @ raw))[inside]

    won = wins.sum(axis=1)[inside] + 1e-3
    starts = [np.zeros(len(inside)), np.log(won), *np.random.default_rng(0).normal(size=(4, len(inside)))]
    best = (np.inf, np.inf, starts[0])
    for start in starts:
        found = minimize(lambda x: orpo_value(wins, policy_of(x), weight), start, jac=slopes, method="BFGS").x
        grounded = root(lambda x: slopes(np.append(x, 0.0))[:-1], (found - found[-1])[:-1], tol=1e-14).x
        for logits in (found, np.append(grounded, 0.0)):
            size, value = float(np.abs(slopes(logits)).max()), orpo_value(wins, policy_of(logits), weight)
            if size < 1e-7 and (value < best[0] - 1e-12 or (value <= best[0] + 1e-12 and size < best[1])):
                best = (value, size, logits)
    if not np.isfinite(best[0]):
        raise NotConverged("no start led to a first-order point of ORPO; the wins differ by too many orders of magnitude")
    return policy_of(best[2])

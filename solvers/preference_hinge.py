r"""Population optimum of the hinge relative to the reference, a linear programme. Wins C sum to one.

With u = beta s, min sum_ij C_ij max(0, 1 - (u_i - u_j)) is the dual of a flow problem: its constraints are differences
with right-hand sides 1, so every vertex of every face is integral in u. Two vertices that differ therefore differ by one
somewhere, far above rounding. Of several minimisers a random linear function, almost surely, has its largest and its smallest
value at different ones: that is how they are found. Minimisers with |u_i - u_j| < n always exist. The residual is the duality
gap. The strength of a preference is lost: two responses, P = 0.6 or 0.9, have u = 1 both.

Zhao et al. 2023, arXiv 2305.10425; integrality: Schrijver, Theory of Linear and Integer Programming, 1986, chapter 19.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from .errors import NotConverged
from .gibbs import gibbs
from .margins import WinGraph
from .preference_losses import Hinge
from .preference_result import Existence, PreferenceOptimum

_TIE = 1e-12
"""Difference of expected losses below which two policies are equally good."""


def hinge_value(wins: np.ndarray, score: np.ndarray) -> float:
    """sum_ij C_ij max(0, 1 - (u_i - u_j)) for wins (n, n) and scores (n,)."""
    return float((wins * np.maximum(0.0, 1.0 - (score[:, None] - score[None, :]))).sum())


def hinge_optimum(wins: np.ndarray, reference: np.ndarray, loss: Hinge) -> PreferenceOptimum:
    """The optimum, or two optima, of the hinge relative to the reference; wins (n, n), reference (n,).

    Raises NotConverged where HiGHS fails.
    """
    n, graph = len(wins), WinGraph.of(wins)
    score, multiplier = _vertex(wins, np.zeros(n), None)
    least = hinge_value(wins, score)
    residual = _gap(wins, score, multiplier)
    aim = np.random.default_rng(0).normal(size=n)
    for sign in (1.0, -1.0):
        other, _ = _vertex(wins, sign * aim, least)
        if (other != score).any() and hinge_value(wins, other) <= least + _TIE:
            response = int(np.flatnonzero(other != score)[0])
            ends = sorted((score[response] / loss.beta, other[response] / loss.beta))
            said = f"the margin of response {response} over response 0 may be {ends[0]:g} or {ends[1]:g} at no cost"
            said += "" if graph.connected else "; the compared pairs do not join all responses"
            both = np.array([gibbs(reference, u / loss.beta) for u in (score, other)])
            return PreferenceOptimum(Existence.NOT_UNIQUE, both, least, residual, said)
    policies = gibbs(reference, score / loss.beta)[None]
    return PreferenceOptimum(Existence.UNIQUE, policies, least, residual, "one vertex of the linear programme is optimal")


def _vertex(wins: np.ndarray, aim: np.ndarray, least: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Integral scores, the first zero: of least loss, or farthest along aim among those of least loss; and the multipliers."""
    n = len(wins)
    pairs = np.argwhere(wins > 0)
    cost = wins[pairs[:, 0], pairs[:, 1]]
    scale = cost.max()
    number = np.arange(len(pairs))
    where = (np.tile(number, 3), np.concatenate([pairs[:, 0], pairs[:, 1], n + number]))
    rows = coo_array((np.repeat([-1.0, 1.0, -1.0], len(pairs)), where), shape=(len(pairs), n + len(pairs))).tocsr()
    right = -np.ones(len(pairs))
    bounds = [(0.0, 0.0)] + [(-n, n)] * (n - 1) + [(0.0, None)] * len(pairs)
    objective = np.concatenate([np.zeros(n), cost / scale])
    if least is not None:
        rows = vstack([rows, objective[None]]).tocsr()
        right = np.append(right, least / scale + 1e-10)
        objective = np.concatenate([-aim, np.zeros(len(pairs))])
    found = linprog(objective, A_ub=rows, b_ub=right, bounds=bounds, method="highs-ds")
    if not found.success:
        raise NotConverged(f"the linear programme of the hinge was not solved: {found.message}")
    return np.round(found.x[:n]), -scale * found.ineqlin.marginals[: len(pairs)]


def _gap(wins: np.ndarray, score: np.ndarray, multiplier: np.ndarray) -> float:
    """Loss less a lower bound of it: sum_k a_k (1 - (B u)_k) for 0 <= a <= C is at least sum a - n |B'a|_1 where |u| <= n."""
    pairs = np.argwhere(wins > 0)
    multiplier = np.clip(multiplier, 0.0, wins[pairs[:, 0], pairs[:, 1]])
    flow = np.zeros(len(score))
    np.add.at(flow, pairs[:, 0], multiplier)
    np.add.at(flow, pairs[:, 1], -multiplier)
    return max(0.0, hinge_value(wins, score) - float(multiplier.sum()) + len(score) * float(np.abs(flow).sum()))

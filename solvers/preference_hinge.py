r"""Population optimum of the hinge relative to the reference, a linear programme. Wins C sum to one.

With u = beta s, min sum_ij C_ij max(0, 1 - (u_i - u_j)) is the dual of a flow problem: its constraints are differences
with right-hand sides 1, so every vertex of every face is integral in u. Two minimisers that differ therefore differ by one
somewhere, and whether there are several is seen far above rounding. Minimisers with |u_i - u_j| < n always exist. The
strength of a preference is lost: two responses, P = 0.6 or 0.9, have u = 1 both.

Zhao et al. 2023, arXiv 2305.10425; integrality: Schrijver, Theory of Linear and Integer Programming, 1986, chapter 19.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from .errors import NotConverged
from .gibbs import gibbs
from .margins import WinGraph
from .preference_losses import Hinge
from .preference_result import Existence, PreferenceOptimum

_TIE = 1e-12
"""Difference of expected losses below which two policies are equally good."""


def hinge_value(wins: np.ndarray, score: np.ndarray, margin: float = 1.0) -> float:
    """sum_ij C_ij max(0, margin - (u_i - u_j)) for wins (n, n) and scores (n,)."""
    return float((wins * np.maximum(0.0, margin - (score[:, None] - score[None, :]))).sum())


def hinge_optimum(wins: np.ndarray, reference: np.ndarray, loss: Hinge) -> PreferenceOptimum:
    """The optimum, or two optima, of the hinge relative to the reference; wins (n, n), reference (n,).

    Raises NotConverged where HiGHS fails.
    """
    n, graph = len(wins), WinGraph.of(wins)
    score = _vertex(wins, np.zeros(n), None)
    least = hinge_value(wins, score)
    residual = _slope(wins, score)
    for response in range(1, n):
        for sign in (1.0, -1.0):
            aim = np.zeros(n)
            aim[response] = sign
            other = _vertex(wins, aim, least)
            if other[response] != score[response] and hinge_value(wins, other) <= least + _TIE:
                ends = sorted((score[response] / loss.beta, other[response] / loss.beta))
                said = f"the margin of response {response} over response 0 may be {ends[0]:g} or {ends[1]:g} at no cost"
                said += "" if graph.connected else "; the compared pairs do not join all responses"
                both = np.array([gibbs(reference, u / loss.beta) for u in (score, other)])
                return PreferenceOptimum(Existence.NOT_UNIQUE, both, least, residual, said)
    policies = gibbs(reference, score / loss.beta)[None]
    return PreferenceOptimum(Existence.UNIQUE, policies, least, residual, "one vertex of the linear programme is optimal")


def _vertex(wins: np.ndarray, aim: np.ndarray, least: float | None) -> np.ndarray:
    """Integral scores, the first zero: of least loss, or farthest along aim among those of least loss."""
    n = len(wins)
    pairs = np.argwhere(wins > 0)
    cost = wins[pairs[:, 0], pairs[:, 1]]
    scale = cost.max()
    number = np.arange(len(pairs))
    rows = np.zeros((len(pairs), n + len(pairs)))
    rows[number, pairs[:, 0]], rows[number, pairs[:, 1]], rows[number, n + number] = -1.0, 1.0, -1.0
    right = -np.ones(len(pairs))
    bounds = [(0.0, 0.0)] + [(-n, n)] * (n - 1) + [(0.0, None)] * len(pairs)
    objective = np.concatenate([np.zeros(n), cost / scale])
    if least is not None:
        rows = np.vstack([rows, objective])
        right = np.append(right, least / scale + 1e-10)
        objective = np.concatenate([-aim, np.zeros(len(pairs))])
    found = linprog(objective, A_ub=rows, b_ub=right, bounds=bounds, method="highs-ds")
    if not found.success:
        raise NotConverged(f"the linear programme of the hinge was not solved: {found.message}")
    return np.round(found.x[:n])


def _slope(wins: np.ndarray, score: np.ndarray) -> float:
    """By how much the loss falls, at most, when one response alone moves by one; 0 at a minimiser."""
    here, moves = hinge_value(wins, score), np.vstack([np.eye(len(score)), -np.eye(len(score))])
    return max(0.0, *(here - hinge_value(wins, score + move) for move in moves))

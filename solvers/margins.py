r"""Convex losses of margins: L(u) = sum_ij C_ij f(u_i - u_j), C_ij >= 0 the wins of i over j.

L does not change when all scores move together. For f strictly convex, falling to 0 at +inf and growing at -inf, L has a
minimiser exactly if each component of the pairs that were compared is strongly connected along its wins, and one only, up to
that shift, exactly if there is one component (Zermelo 1929; Ford, Amer. Math. Monthly 64, 1957). Where a set A of responses
lost to nobody outside but won against someone, L falls along d = 1_A for ever.

Newton's method: the Hessian is the Laplacian of the weights C_ij f''(u_ij) + C_ji f''(u_ji), grounded at one response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from .errors import NotConverged

_ENOUGH = 1e-10
"""Gradient, per label, above which an answer is refused."""

_NEAR = 1e-6
"""Newton step, relative to the scores, above which a small gradient is taken for a way to infinity, not for a minimiser."""

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class WinGraph:
    """Which responses were compared and who beat whom.

    component: (n,), number of the component of compared pairs of each response. block: (n,), number of its strongly connected
    component along wins. undefeated: (n,) bool, a block that wins against responses outside and never loses to any, or None.
    """

    component: np.ndarray
    block: np.ndarray
    undefeated: np.ndarray | None

    @classmethod
    def of(cls, wins: np.ndarray) -> WinGraph:
        """The graph of the positive entries of wins (n, n)."""
        edges = wins > 0
        component = connected_components(edges, directed=False)[1]
        block = connected_components(edges, directed=True, connection="strong")[1]
        for number in range(block.max() + 1):
            inside = block == number
            if edges[np.ix_(inside, ~inside)].any() and not edges[np.ix_(~inside, inside)].any():
                return cls(component, block, inside)
        return cls(component, block, None)

    @property
    def connected(self) -> bool:
        """Whether the compared pairs join all responses."""
        return not self.component.any()


def gradient(score: np.ndarray, wins: np.ndarray, slope: Function) -> np.ndarray:
    """Gradient of L in the scores (n,), for wins (n, n) and slope f' of margins of any shape."""
    pull = wins * slope(score[:, None] - score[None, :])
    return pull.sum(axis=1) - pull.sum(axis=0)


def minimise(wins: np.ndarray, value: Function, slope: Function, curvature: Function, max_steps: int = 500) -> np.ndarray:
    """Scores (n,) that minimise L, of mean zero in each component of compared pairs; wins (n, n) sum to one.

    value, slope, curvature: f, f', f'' on margins of any shape. The minimiser must exist (`WinGraph`).
    Raises NotConverged where rounding ends before the gradient is small.
    """
    score = np.zeros(len(wins))
    component = connected_components(wins != 0, directed=False)[1]
    for number in range(int(component.max()) + 1):
        members = np.flatnonzero(component == number)
        if len(members) > 1:
            score[members] = _newton(wins[np.ix_(members, members)], value, slope, curvature, max_steps)
    return score


def _newton(wins: np.ndarray, value: Function, slope: Function, curvature: Function, max_steps: int) -> np.ndarray:
    """One component; the first response's score is held at zero, and the mean is taken away in the end."""
    score, best = np.zeros(len(wins)), (np.inf, np.inf, np.zeros(len(wins)))
    for _ in range(max_steps):
        slopes = gradient(score, wins, slope)
        size = float(np.abs(slopes).max())
        stiffness = wins * curvature(score[:, None] - score[None, :])
        stiffness = stiffness + stiffness.T
        np.fill_diagonal(stiffness, 0.0)
        laplacian = np.diag(stiffness.sum(axis=1)) - stiffness
        step = np.zeros(len(wins))
        try:
            step[1:] = np.linalg.solve(laplacian[1:, 1:], -slopes[1:])
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(step).all():
            break
        if size < best[0]:
            best = (size, float(np.abs(step).max()), score)
        following = _descended(score, step, float(slopes @ step), wins, value)
        if np.abs(following - score).max() <= 4e-16 * (1 + np.abs(score).max()):
            break
        score = following
    size, ahead, score = best
    if size > _ENOUGH or ahead > _NEAR * (1 + np.abs(score).max()):
        raise NotConverged(
            f"the gradient is still {size:.3g} a label, the minimiser {ahead:.3g} away; the wins differ by too many orders of "
            f"magnitude ({wins[wins > 0].min():.1g} to {wins.max():.1g}) for float64",
            reached=size,
        )
    return score - score.mean()


def _descended(score: np.ndarray, step: np.ndarray, slope: float, wins: np.ndarray, value: Function) -> np.ndarray:
    """The first of score + step, + step/2, ... that lowers L enough, rounding allowed for."""

    def loss(at: np.ndarray) -> float:
        return float((wins * value(at[:, None] - at[None, :])).sum())

    here = loss(score)
    for halvings in range(60):
        length = 0.5**halvings
        if loss(score + length * step) <= here + 1e-4 * length * slope + 1e-15 * (1 + abs(here)):
            return score + length * step
    return score

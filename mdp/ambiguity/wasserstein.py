r"""Balls in the Wasserstein distance of order one between rows, moving a unit of mass from i to j at cost D_ij.

    U = {p : min_{x >= 0} { sum_ij x_ij D_ij : x 1 = pbar, x' 1 = p } <= kappa},      D_ii = 0 <= D_ij.

The mass of entry i walks along the lower convex hull of the points (D_ij, z_j), starting at (0, z_i); the edges of all hulls
are taken from the steepest on until kappa is spent, a fractional knapsack. The hull is wrapped edge by edge as it is needed:
O(n^2) to start and O(n) for each further edge. Every price l >= 0 gives

    sigma >= -l kappa + sum_i pbar_i min_j (z_j + l D_ij).

The hull form is derived here; the dual is that of Mohajerin Esfahani and Kuhn (2018) and Yang (2017).
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import Ball
from .heap import build, settle
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, dot, down, high_dot, low_dot, up


@dataclass(frozen=True, eq=False)
class Wasserstein(Ball):
    """{p : the cheapest way to move pbar into p costs at most the radius}.

    radius: at least 0.
    metric: (n, n), cost of moving a unit from i to j, at least 0 and zero on the diagonal; it need be no metric.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius or a cost is negative, or a diagonal entry is not zero.
    """

    metric: np.ndarray

    family: ClassVar[int] = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        metric = np.array(self.metric, dtype=np.float64)
        if metric.ndim != 2 or metric.shape[0] != metric.shape[1]:
            raise ModelError(f"metric has shape {metric.shape}; give the cost from each entry to each")
        wrong = np.argwhere(~((metric >= 0) & (metric <= 1e150)) | (np.eye(len(metric), dtype=bool) & (metric != 0)))
        if len(wrong):
            i, j = wrong[0]
            raise ModelError(f"metric: the cost from {i} to {j} is {metric[i, j]:g}; costs are >= 0, zero on the diagonal")
        object.__setattr__(self, "metric", metric)

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """(n, n): the metric. Raises ModelError when its size is not that of the nominal row (n,)."""
        if len(self.metric) != len(nominal):
            raise ModelError(f"metric is of {len(self.metric)} entries and the row of {len(nominal)}; give the same successors")
        return self.metric

    def restrict(self, entries: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """The metric, (n, n), among the successors `keep`, (m,) indices."""
        return entries[np.ix_(keep, keep)]

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The least cost of moving a row (n,) into another, by linear programming."""
        import scipy.optimize

        n = len(nominal)
        source, target = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
        found = scipy.optimize.linprog(
            self.metric.ravel(),
            A_eq=np.vstack([source, target[:-1]]),
            b_eq=np.concatenate([nominal, row[:-1] * (nominal.sum() / row.sum())]),
        )
        return float(found.fun) if found.status == 0 else np.inf


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _next_edge(i, at, d, metric):
    """From entry `at`, where the mass of i stands: (target, slope) of the hull's next edge; slope 0 at its end."""
    target, steepest = at, 0.0
    for j in range(len(d)):
        if d[j] >= d[at]:
            continue
        run = metric[i, j] - metric[i, at]
        slope = (d[j] - d[at]) / run if run > 0.0 else -np.inf
        if slope < steepest or (slope == steepest and d[j] < d[target]):
            target, steepest = j, slope
    return target, steepest


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, metric, radius, p, work, order):
    """p (n,) = a worst row; (p.d, price, p.d and its cost, rounded up). Uses one row of work and three of order."""
    n = len(d)
    slope, heap, at, following = work[0], order[0], order[1], order[2]
    for i in range(n):
        at[i], heap[i] = i, i
        following[i], slope[i] = _next_edge(i, i, d, metric) if pbar[i] > 0.0 else (i, 0.0)
    build(heap, n, slope, 1.0)
    spent, price, fraction, split = 0.0, np.inf, 0.0, -1
    while spent < radius:
        i = heap[0]
        if slope[i] == 0.0:
            price = 0.0
            break
        price = -slope[i]
        cost = pbar[i] * max(0.0, metric[i, following[i]] - metric[i, at[i]])
        if spent + cost > radius:
            split, fraction = i, (radius - spent) / cost
            break
        spent += cost
        at[i] = following[i]
        following[i], slope[i] = _next_edge(i, at[i], d, metric)
        settle(heap, n, slope, 1.0)
    p[:] = 0.0
    cost, value = 0.0, 0.0
    for i in range(n):
        share = fraction * pbar[i] if i == split else 0.0
        p[at[i]] += pbar[i] - share
        p[following[i]] += share
        cost += (pbar[i] - share) * metric[i, at[i]] + share * metric[i, following[i]]
        value += (pbar[i] - share) * d[at[i]] + share * d[following[i]]
    rounding = 1 + 2 * n * UNIT_ROUNDOFF + SUM_ERROR
    return dot(p, d), price, value * rounding, cost * rounding


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(price, value, cost, d, pbar, metric, radius, work):
    """Bounds on the least p.d, from a price, and the value and cost of a plan, rounded up."""
    nominal = high_dot(pbar, d)
    high = min(nominal, value)
    if cost > radius:
        share = max(0.0, down(radius / cost))
        high = min(nominal, up(up((1.0 - share) * nominal) + up(share * value)))
    if not price < np.inf:
        return (low_dot(pbar, d) if radius == 0.0 else 0.0), high
    for i in range(len(d)):
        work[i] = np.inf
        for j in range(len(d)):
            work[i] = min(work[i], d[j] + price * metric[i, j])
    return down(low_dot(pbar, work) - up(price * radius)), high

r"""Balls in total variation and in the L1 norm.

    U = {p >= 0 : p.1 = pbar.1, |p - pbar|_1 <= psi},      psi = 2 rho in total variation.

Nature takes mass e = rho, or all there is, from the largest entries of z and gives it to the smallest: a greedy solution by a
heap, O(n + k log n) for k entries emptied. The dual

    sigma = max_{theta >= min z}  sum_j pbar_j min(z_j, theta) - (theta - min z) rho

is a lower bound at every theta, and is attained at the last entry touched (Iyengar 2005; Nilim and El Ghaoui 2005; Strehl and
Littman 2008).

Where rewards do not depend on the successor, all rows share the order of the value vector: sort once a sweep, then
`ordered_value` costs a row O(n) without a heap.
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from .ambiguity_set import Ball
from .heap import build, extract
from .rounding import dot, down, high_dot, low_dot, up


@dataclass(frozen=True)
class TotalVariation(Ball):
    """{p : |p - pbar|_1 / 2 <= radius}.

    radius: at least 0; one reaches everything.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 0

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """Half the L1 distance of two rows (n,)."""
        return float(np.abs(row - nominal).sum() / 2)


@dataclass(frozen=True)
class L1(Ball):
    """{p : |p - pbar|_1 <= radius}.

    radius: at least 0; two reach everything.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 0

    def parameters(self) -> np.ndarray:
        """(1,): the radius in total variation."""
        return np.array([self.radius / 2])

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The L1 distance of two rows (n,)."""
        return float(np.abs(row - nominal).sum())


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, budget, p, order):
    """p (n,) = a worst row; (p.d, theta). What is taken never exceeds the budget, in exact arithmetic."""
    n = len(d)
    for i in range(n):
        p[i] = pbar[i]
        order[i] = i
    receiver = np.argmin(d)
    build(order, n, d, -1.0)
    theta, rest = 1.0, budget
    for size in range(n, 0, -1):
        if rest <= 0.0:
            break
        i = extract(order, size, d, -1.0)
        theta = d[i]
        if theta == 0.0:
            break
        if p[i] > rest:
            p[i] -= rest
            p[receiver] += rest
            break
        p[receiver] += p[i]
        rest = down(rest - p[i]) if p[i] > 0.0 else rest
        p[i] = 0.0
    return dot(p, d), theta


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(theta, d, pbar, budget, p, work):
    """Bounds on the least p.d. The row is feasible: only its receiver's entry, where d = 0, was ever added to."""
    high = high_dot(p, d)
    if theta == 0.0:
        return 0.0, high
    for i in range(len(d)):
        work[i] = min(d[i], theta)
    return down(low_dot(pbar, work) - up(theta * budget)), high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def ordered_value(z, pbar, budget, descending):
    """min p.z over a total-variation ball, where `descending` (n,) lists the entries from the largest z to the smallest."""
    n = len(descending)
    floor = z[descending[n - 1]]
    rest, shifted, mass = budget, 0.0, 0.0
    for place in range(n):
        i = descending[place]
        mass += pbar[i]
        kept = max(0.0, pbar[i] - rest)
        rest = max(0.0, rest - pbar[i])
        shifted += kept * (z[i] - floor)
    return mass * floor + shifted

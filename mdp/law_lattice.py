r"""Laws on a lattice, and the distributional Bellman operator of a policy rounded down or up onto it, floating point included.

Lattice z_i = (first + i) h, i = 0..m-1, h a power of two, so that lattice points are floats and their differences exact. A law
on it is its distribution function at the points, F[0..m-1], F[m-1] = 1, constant between them. For a pair with outcomes of
weight w, reward r, successor j,

    (T F)(x) = sum w F_j((x - r) / g) / sum w.

Down: every atom of T F moves to the point at or below it, so F'[i] = (T F)(z_{i+1}-), the limit from the left. Up: to the point
at or above it, F'[i] = (T F)(z_i). Both are read off F at places that depend on the reward only (`places`), decided in exact
arithmetic or, where floats cannot tell, towards the safe side; sums are then moved to the safe side by more than their rounding
error. So down(F) <=_st T F <=_st up(F) holds for the real T.

Bellemare, Dabney and Munos 2017, arXiv 1707.06887 (operator); Mueller and Stoyan, Comparison Methods for Stochastic Models and
Risks, Wiley 2002 (monotone bounds); Dekker, Numer. Math. 18, 1971 (products without error).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numba
import numpy as np

from .errors import ModelError
from .law import Law
from .outcome import OutcomeMDP

_UNIT = 2.0**-52


@dataclass(frozen=True)
class Lattice:
    """The points (first + i) spacing, i = 0..points-1. spacing: a power of two."""

    first: int
    spacing: float
    points: int

    @classmethod
    def covering(cls, low: float, high: float, points: int, step: float | None = None) -> Lattice:
        """The finest lattice that covers [low, high] with at most `points` >= 3 points, or that of spacing `step`, which it
        must hold.

        Raises ModelError where that is impossible.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ModelError(f"no lattice covers [{low}, {high}]; the ends must be finite and in order")
        if isinstance(points, bool) or int(points) != points or points < 3:
            raise ModelError(f"a lattice of {points!r} points; give a whole number of at least 3")
        spacing = (
            step
            if step is not None
            else _power_above(max(high - low, max(abs(low), abs(high)) * 2.0**-40 * points, 2.0**-1000) / points)
        )
        while True:
            first, last = math.floor(Fraction(low) / Fraction(spacing)), math.ceil(Fraction(high) / Fraction(spacing))
            if last - first + 1 <= points or step is not None:
                break
            spacing *= 2
        if last - first + 1 > points or max(abs(first), abs(last)) > 2**50:
            raise ModelError(f"[{low}, {high}] in steps of {spacing} takes {last - first + 1} points; more than {points}")
        return cls(first, spacing, max(last - first + 1, 2))

    @property
    def grid(self) -> np.ndarray:
        """The points, float64 (points,)."""
        return (self.first + np.arange(self.points)) * self.spacing

    def law(self, cdf: np.ndarray) -> Law:
        """The exact law whose distribution function at the points is cdf, (points,), increasing to one."""
        kept = np.flatnonzero(np.diff(cdf, prepend=0.0) > 0)
        levels = [Fraction(0), *(Fraction(f) for f in cdf[kept].tolist())]
        weights = [b - a for a, b in itertools.pairwise(levels)]
        return Law.of([Fraction(x) for x in self.grid[kept].tolist()], weights)

    def step(self, at: float, up: bool) -> np.ndarray:
        """Distribution function of the certain number `at`, rounded down or up, float64 (points,)."""
        near = Fraction(at) / Fraction(self.spacing) - self.first
        place = min(max(math.ceil(near) if up else math.floor(near), 0), self.points - 1)
        return (np.arange(self.points) >= place).astype(np.float64)


def natural_step(model: OutcomeMDP) -> float:
    """The largest power of two of which all rewards and terminal values are multiples; infinite where all are zero."""
    return common_step(np.concatenate([*model.earned, model.problem.terminal_value]))


def common_step(numbers: np.ndarray) -> float:
    """The largest power of two of which all numbers (k,) are multiples; infinite where all are zero."""
    ratios = [x.as_integer_ratio() for x in np.unique(np.abs(numbers[numbers != 0])).tolist()]
    return min((float(top & -top) / bottom for top, bottom in ratios), default=math.inf)


@dataclass(frozen=True, eq=False)
class LatticeOperator:
    """Down and up of a model's pairs on a lattice.

    place: int64 (2, rewards, points), where F of a successor is read, -1 for nowhere, of each distinct reward; kind: int32 (2,
    z), which one a transition earns. The first of two is for rounding down, the second up.
    """

    model: OutcomeMDP
    lattice: Lattice
    place: np.ndarray
    kind: np.ndarray

    @classmethod
    def of(cls, model: OutcomeMDP, lattice: Lattice) -> LatticeOperator:
        """The operator; nothing is computed but the places."""
        tables, kinds = [], []
        for up, earned in enumerate(model.earned):
            rewards, kind = np.unique(earned, return_inverse=True)
            table = np.empty((len(rewards), lattice.points), dtype=np.int64)
            kernel: Any = places
            kernel(rewards / lattice.spacing, float(lattice.first), model.discount, bool(up), table)
            tables.append(table)
            kinds.append(kind.astype(np.int32))
        most = max(len(table) for table in tables)
        place = np.zeros((2, most, lattice.points), dtype=np.int64)
        for up, table in enumerate(tables):
            place[up, : len(table)] = table
        return cls(model, lattice, place, np.stack(kinds))

    def last(self, up: bool) -> np.ndarray:
        """The laws of terminal values, zero where the state is not terminal, float64 (n, points)."""
        worth = self.model.problem.terminal_value.tolist()
        rows = {w: self.lattice.step(w, up) for w in set(worth)}
        return np.stack([rows[w] for w in worth])

    def apply(self, policy: np.ndarray, cdf: np.ndarray, out: np.ndarray, up: bool) -> float:
        """out = the policy's operator at cdf, both float64 (n, points), rounded; policy int32 (n,). The largest change.

        Rows of terminal states are left as they are.
        """
        problem, side = self.model.problem, int(up)
        kernel: Any = sweep
        return kernel(
            problem.state_ptr, problem.row_ptr, problem.successor, problem.probability, problem.terminal, policy,
            self.place[side], self.kind[side], up, cdf, out,
        )  # fmt: skip


def _power_above(x: float) -> float:
    mantissa, exponent = math.frexp(x)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


@numba.njit(cache=True)
def _two_product(a, b):
    """a b as a float and its error, exactly (Veltkamp, Dekker)."""
    p = a * b
    c = 134217729.0 * a
    ah = c - (c - a)
    al = a - ah
    c = 134217729.0 * b
    bh = c - (c - b)
    bl = b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


@numba.njit(cache=True)
def _two_sum(a, b):
    """a + b as a float and its error, exactly (Knuth)."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


@numba.njit(cache=True)
def _order(number, discount, reward, point):
    """Sign of discount number + reward - point, or 2 where it is too close to tell; number and point are whole."""
    p, pe = _two_product(discount, number)
    s, se = _two_sum(p, reward)
    d = s - point
    c, ce = _two_sum(se, pe)
    if abs(d) <= 4.0 * abs(c) and ce != 0.0:
        return 2
    total = d + c
    return 1 if total > 0.0 else (-1 if total < 0.0 else 0)


@numba.njit(cache=True)
def places(rewards, first, discount, up, out):
    """out[u, i] = the last j with g z_j + r_u <= z_i (up), or < z_{i+1} (down); -1 for none. In units of the spacing."""
    points = out.shape[1]
    for u in range(len(rewards)):
        j = -1
        for i in range(points):
            point = first + i if up else first + i + 1.0
            while j + 1 < points:
                order = _order(first + j + 1.0, discount, rewards[u], point)
                inside = order in (-1, 0 if up else 2)
                if not inside:
                    break
                j += 1
            out[u, i] = j


@numba.njit(cache=True, nogil=True)
def sweep(state_ptr, row_ptr, successor, probability, terminal, policy, place, kind, up, cdf, out):
    """One application of a policy's operator, rounded down or up; see `LatticeOperator.apply`."""
    change = 0.0
    points = cdf.shape[1]
    for s in range(len(terminal)):
        if terminal[s]:
            continue
        pair = state_ptr[s] + policy[s]
        total = 0.0
        for i in range(points):
            out[s, i] = 0.0
        length = row_ptr[pair + 1] - row_ptr[pair]
        for e in range(row_ptr[pair], row_ptr[pair + 1]):
            p = probability[e] if length > 1 else 1.0
            total += p
            row = place[kind[e]]
            following = cdf[successor[e]]
            for i in range(points):
                if row[i] >= 0:
                    out[s, i] += p * following[row[i]]
        error = (length + 4) * _UNIT if length > 1 else 0.0
        factor = 1.0 - error if up else 1.0 + error
        for i in range(points):
            out[s, i] = min(out[s, i] * factor / total, 1.0)
        out[s, points - 1] = 1.0
        for i in range(points):
            change = max(change, abs(out[s, i] - cdf[s, i]))
    return change

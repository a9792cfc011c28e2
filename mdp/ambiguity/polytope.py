r"""Rows that obey linear inequalities.

    U = {p >= 0 : p.1 = m, A p <= b},      m = pbar.1 exactly, A and b the given floats taken as exact numbers.

The least p.z is attained at a vertex, and the vertices do not depend on z: they are found once, in rational arithmetic, by the
double-description method (Motzkin, Raiffa, Thompson and Thrall 1953; Fukuda and Prodon 1996). Start from the vertices m e_j and
cut by one inequality after the other: vertices that obey it stay, and every edge from one that does to one that does not gives
a new vertex; two vertices share an edge where no third obeys with equality all that they both do. An equality is two
inequalities, and a set of fewer dimensions, or of one row, is like any other.

Kernels read the vertices rounded to floats, each entry within a factor 1 +- u of the exact one, u = 2^-53, and the enclosure of
`scenarios.solve` has room for that: O(k n) for k vertices, which may be many, C(n + c, c) or so for c inequalities beside
p >= 0. The checker solves the linear program itself, exactly, and never sees the vertices (`banach.solvers.exact_program`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
from flint import fmpq

from ..errors import ModelError
from . import scenarios
from .ambiguity_set import AmbiguitySet

MAX_VERTICES = 20_000
"""Vertices of one row's set beyond which it is refused."""

_SMALL = 2.0**-1058
"""What rounding a vertex may add beside relative errors, per unit of z: entries near the least float lose digits."""


@dataclass(frozen=True, eq=False)
class Polytope(AmbiguitySet):
    """{p >= 0 : matrix p <= bound, p.1 = pbar.1}; the nominal row gives the mass only.

    matrix: (c, n), finite. bound: (c,), infinity for no bound. The inequalities say themselves which entries may carry mass.
    Raises ModelError when the shapes differ or a number is not finite, and, where the mass of a row is at hand, when no row
    obeys or more than `MAX_VERTICES` vertices would be needed.
    """

    matrix: np.ndarray
    bound: np.ndarray

    family: ClassVar[int] = 13
    contains_nominal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        matrix, bound = np.array(self.matrix, dtype=np.float64), np.array(self.bound, dtype=np.float64)
        if matrix.ndim != 2 or bound.shape != matrix.shape[:1] or matrix.shape[1] == 0:
            raise ModelError(
                f"matrix has shape {matrix.shape} and bound {bound.shape}; give one inequality a row, with one bound each"
            )
        wrong = np.flatnonzero(~np.isfinite(matrix).all(axis=1) | np.isnan(bound) | (bound == -np.inf))
        if len(wrong):
            raise ModelError(f"inequality {wrong[0]}: {matrix[wrong[0]]} p <= {bound[wrong[0]]}; give finite numbers")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "bound", bound)
        object.__setattr__(self, "support", "all")

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """The vertices, (k, n), rounded to floats. Raises ModelError when there are none, or more than `MAX_VERTICES`."""
        if self.matrix.shape[1] != len(nominal):
            raise ModelError(
                f"the inequalities have {self.matrix.shape[1]} entries and the row {len(nominal)}; give the same successors"
            )
        found = _vertices([_exact(p) for p in nominal], self.matrix, self.bound)
        if not found:
            raise ModelError(f"no row of mass {nominal.sum():.17g} obeys the {len(self.bound)} inequalities; loosen the bounds")
        return np.array([[float(int(x.p) / int(x.q)) for x in vertex] for vertex in found])

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is outside."""
        over = (self.matrix @ row - self.bound).max(initial=0.0)
        return float(max(over, -row.min(), abs(row.sum() - nominal.sum()), 0.0))


def _exact(number: float) -> fmpq:
    return fmpq(*float(number).as_integer_ratio())


def _vertices(nominal: list[fmpq], matrix: np.ndarray, bound: np.ndarray) -> list[list[fmpq]]:
    """All vertices, exactly. Each travels with what it obeys with equality, as the bits of an integer."""
    n, nothing = len(nominal), fmpq(0)
    mass = sum(nominal, nothing)
    everything = (1 << n) - 1
    vertices = [[mass if i == j else nothing for i in range(n)] for j in range(n)] if mass > 0 else [[nothing] * n]
    tight = [everything ^ (1 << j) for j in range(n)] if mass > 0 else [everything]
    for number in np.flatnonzero(bound < np.inf).tolist():
        row, most, bit = [_exact(a) for a in matrix[number]], _exact(bound[number]), 1 << (n + number)
        over = [sum((a * x for a, x in zip(row, vertex, strict=True) if a and x), nothing) - most for vertex in vertices]
        kept = [k for k, excess in enumerate(over) if excess <= 0]
        born = _cut(vertices, tight, over, n)
        vertices = [vertices[k] for k in kept] + [vertex for vertex, _ in born]
        tight = [tight[k] | (bit if over[k] == 0 else 0) for k in kept] + [bits | bit for _, bits in born]
        if len(vertices) > MAX_VERTICES:
            raise ModelError(
                f"the inequalities leave more than {MAX_VERTICES} vertices; use Interval, L1 or Wasserstein where they say the "
                "same, or fewer inequalities"
            )
    return vertices


def _cut(vertices: list[list[fmpq]], tight: list[int], over: list[fmpq], n: int) -> list[tuple[list[fmpq], int]]:
    """Where edges cross the new inequality, with what both ends obey with equality."""
    bits = np.array(tight, dtype=np.uint64 if max(tight, default=0) < 2**64 else object)
    outside = np.flatnonzero(np.array([excess > 0 for excess in over], dtype=np.bool_))
    born = []
    for k in (k for k, excess in enumerate(over) if excess < 0):
        shared = bits[outside] & bits[k]
        for place in np.flatnonzero(np.bitwise_count(shared) >= n - 2).tolist():
            common, j = shared[place], int(outside[place])
            if np.count_nonzero((bits & common) == common) > 2:  # a third vertex lies between
                continue
            share = over[j] / (over[j] - over[k])
            born.append(([share * a + (1 - share) * b for a, b in zip(vertices[k], vertices[j], strict=True)], int(common)))
    return born


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(z, vertices, p):
    """p (n,) = the vertex of least p.z; (lower, value, upper) for the exact set.

    `scenarios.solve` allows (2n + 16) u |p|.|z| where the sum loses n u of it: a vertex rounded by u fits.
    """
    lower, value, upper = scenarios.solve(z, vertices, p)
    largest = 0.0
    for i in range(len(z)):
        largest = max(largest, abs(z[i]))
    return lower - _SMALL * largest, value, upper + _SMALL * largest

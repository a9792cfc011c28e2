r"""What an ambiguity set is: the rows that nature may choose in place of a nominal one.

    sigma(pbar, z) = min {p.z : p in U(pbar)},      z(s') = r(s, a, s') + g v(s').

Every set keeps the mass of the nominal row, p.1 = pbar.1 in exact arithmetic, so that a row which sums to 1 + 1e-16 loses
nothing, radius zero is the nominal row, and the operator moves constants by that mass. sigma is concave and positively
homogeneous in z, sigma(z + c 1) = sigma(z) + c m, and it is nonincreasing in the radius. The optimistic side is
max p.z = -sigma(-z).

`support` says where nature may put mass: on the nominal row's own successors ("nominal") or on every entry of the row that is
handed over ("all"). Divergences that demand p << pbar (`dominated`) know no difference.

Iyengar, Math. Oper. Res. 30(2), 2005; Nilim and El Ghaoui, Oper. Res. 53(5), 2005; Ho, Petrik and Wiesemann, JMLR 22, 2021.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..errors import ModelError
from ..validation import ROW_SUM_TOLERANCE

LARGEST = 1e300

__all__ = ["AmbiguitySet", "Ball", "WorstCase", "vector"]


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The solved inner problem of one row.

    value: p.z of the row found, within rounding of the optimum.
    row: float64 (n,), the row found.
    lower, upper: lower <= sigma <= upper in exact arithmetic, the given floats taken as exact numbers.
    """

    value: float
    row: np.ndarray
    lower: float
    upper: float


@dataclass(frozen=True)
class AmbiguitySet:
    """A rule that gives every nominal row its set of rows, rows apart ((s, a)-rectangular).

    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the support is neither.
    """

    _: KW_ONLY
    support: Literal["nominal", "all"] = "nominal"

    family: ClassVar[int]
    """The code by which `banach.mdp.ambiguity.rows` finds the kernels."""
    dominated: ClassVar[bool] = False
    """Whether p is zero wherever pbar is, whatever the support says."""
    contains_nominal: ClassVar[bool] = True
    """Whether the nominal row is always in the set."""
    keeps_mass: ClassVar[bool] = True
    """Whether every row of the set has the mass of the nominal one; else it is one of its own, one within the tolerance."""

    def __post_init__(self) -> None:
        if self.support not in ("nominal", "all"):
            raise ModelError(f'support {self.support!r} is not known; say "nominal" or "all"')

    def parameters(self) -> np.ndarray:
        """The numbers that the kernels read, one-dimensional."""
        return np.empty(0)

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """The numbers of each successor that the kernels read, (k, n), for a nominal row (n,)."""
        return np.empty((0, len(nominal)))

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is outside the set of a nominal row (n,): zero inside, in the units of the broken constraint."""
        raise NotImplementedError

    def contains(self, nominal: np.ndarray, row: np.ndarray, tolerance: float = 1e-9) -> bool:
        """Whether a row (n,) breaks no constraint by more than the tolerance."""
        nominal, row = np.asarray(nominal, dtype=float), np.asarray(row, dtype=float)
        if (self.support == "nominal" or self.dominated) and self.contains_nominal and np.any(row[nominal == 0] > tolerance):
            return False
        return self.violation(nominal, row) <= tolerance

    def worst(self, nominal: np.ndarray, value: np.ndarray) -> WorstCase:
        """min p.value over the set of a nominal row; both (n,).

        Raises ModelError when the row is no distribution, a value is not finite, the shapes differ or the set is empty.
        """
        from .rows import enclose_row, workspace

        nominal, value = self.require(nominal, value)
        entries = self.entries(nominal)
        keep = np.arange(len(nominal))
        if self.contains_nominal and (self.dominated or self.support == "nominal"):
            keep = np.flatnonzero(nominal)
            entries = self.restrict(entries, keep)
        row, work, order = workspace(len(keep))
        kernel: Any = enclose_row
        arguments = (value[keep], nominal[keep], self.parameters(), np.ascontiguousarray(entries))
        lower, found, upper = kernel(self.family, *arguments, row, work, order)
        whole = np.zeros(len(nominal))
        whole[keep] = row
        return WorstCase(found, whole, lower, upper)

    def require(self, nominal: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A row and its values as fresh vectors, both (n,).

        Raises ModelError when the row is no distribution, a value is not finite or the shapes differ.
        """
        nominal, value = _distribution(nominal), vector("value", value)
        if nominal.shape != value.shape:
            raise ModelError(f"the row has {len(nominal)} entries and the value {len(value)}; give one value a successor")
        if np.abs(value).max() > LARGEST:
            raise ModelError(f"a value of {np.abs(value).max():.3g} is too large to compute with; scale the values below 1e300")
        return nominal, value

    def best(self, nominal: np.ndarray, value: np.ndarray) -> WorstCase:
        """max p.value over the set of a nominal row; both (n,).

        Raises ModelError when the row is no distribution, a value is not finite, the shapes differ or the set is empty.
        """
        found = self.worst(nominal, -vector("value", value))
        return WorstCase(-found.value, found.row, -found.upper, -found.lower)

    def restrict(self, entries: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """`entries`, (k, n), of the successors `keep`, (m,) indices."""
        return entries[:, keep]


@dataclass(frozen=True)
class Ball(AmbiguitySet):
    """{p : distance(p, pbar) <= radius} for a convex distance that is zero at pbar.

    radius: at least 0, infinity included.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or no number.
    """

    radius: float

    def __post_init__(self) -> None:
        super().__post_init__()
        radius: object = self.radius
        if isinstance(radius, bool) or not isinstance(radius, float | int | np.floating | np.integer) or not radius >= 0:
            raise ModelError(f"radius {radius!r} is not a number >= 0; zero is the nominal row")
        object.__setattr__(self, "radius", float(radius))

    def parameters(self) -> np.ndarray:
        """(1,): the radius."""
        return np.array([self.radius])

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The distance of a row (n,) from a nominal row (n,)."""
        raise NotImplementedError

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is outside the ball round a nominal row (n,)."""
        beyond = self.distance(nominal, np.maximum(row, 0.0)) - self.radius if self.radius < np.inf else 0.0
        return float(max(beyond, -row.min(), abs(row.sum() - nominal.sum()), 0.0))


def vector(name: str, numbers: np.ndarray, infinite: bool = False) -> np.ndarray:
    """A fresh float64 vector (n,) with n >= 1, without NaN. Raises ModelError when it is none."""
    array = np.array(numbers, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ModelError(f"{name} has shape {array.shape}; give a vector with one entry a successor")
    wrong = np.flatnonzero(np.isnan(array) if infinite else ~np.isfinite(array))
    if len(wrong):
        raise ModelError(f"{name}: entry {wrong[0]} is {array[wrong[0]]}; give a finite number")
    return array


def _distribution(nominal: np.ndarray) -> np.ndarray:
    row = vector("nominal row", nominal)
    wrong = np.flatnonzero(row < 0)
    if len(wrong):
        raise ModelError(f"nominal row: entry {wrong[0]} is {row[wrong[0]]:g}; probabilities are >= 0")
    if abs(row.sum() - 1) > ROW_SUM_TOLERANCE:
        raise ModelError(f"the nominal row sums to {row.sum():.17g}; normalise it")
    return row

r"""Boxes: intervals of probability, balls in the maximum norm, and conditional value at risk.

    U = {p : lower <= p <= upper, p.1 = m},      m = pbar.1.

Start at the lower bounds and fill what is missing in increasing z; O(n + k log n) for k entries filled. Every theta gives

    sigma >= m theta + sum_j [ lower_j (z_j - theta)_+ - upper_j (theta - z_j)_+ ],

with equality at the last entry filled. The ball |p - pbar|_inf <= psi has lower = max(0, pbar - psi), upper = pbar + psi;
CVaR at level alpha has lower = 0, upper = pbar / alpha (Givan, Leach and Dean 2000; Rockafellar and Uryasev 2000; Nilim and
El Ghaoui 2005). Bounds that are no floats are rounded outwards for the lower side of an enclosure and inwards, never past
pbar, for the upper side and the row.

A row inside the box whose mass is off by e has a neighbour of mass m inside it, if the set is not empty, and p.d moves by no
more than |e| max d: that closes the enclosure.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import AmbiguitySet, Ball, vector
from .heap import build, extract
from .rounding import SUM_ERROR, TINY, UNIT_ROUNDOFF, dot, high_dot, low_dot, total, up


@dataclass(frozen=True, eq=False)
class Interval(AmbiguitySet):
    """{p : lower <= p <= upper, p.1 = pbar.1}; the nominal row gives the mass only.

    lower, upper: (n,), 0 <= lower <= upper. The bounds say themselves which entries may carry mass.
    Raises ModelError when the bounds cross, are negative or leave no row.
    """

    lower: np.ndarray
    upper: np.ndarray

    family: ClassVar[int] = 1
    contains_nominal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "support", "all")
        object.__setattr__(self, "lower", vector("lower", self.lower))
        object.__setattr__(self, "upper", vector("upper", self.upper, infinite=True))
        if len(self.lower) != len(self.upper):
            raise ModelError(f"lower has {len(self.lower)} entries and upper {len(self.upper)}; give one of each a successor")
        wrong = np.flatnonzero((self.lower < 0) | (self.lower > self.upper))
        if len(wrong):
            i = wrong[0]
            raise ModelError(
                f"entry {i}: [{self.lower[i]:g}, {self.upper[i]:g}] is no interval of probabilities; need 0 <= lower <= upper"
            )

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """(2, n): lower and upper. Raises ModelError when no row of the nominal mass fits."""
        if len(nominal) != len(self.lower):
            raise ModelError(f"the row has {len(nominal)} successors and the intervals {len(self.lower)}; give one a successor")
        short, over = math.fsum([*nominal, *-self.lower]), math.fsum([*nominal, *-np.minimum(self.upper, 2.0)])
        if short < 0 or over > 0:
            raise ModelError(
                f"no row fits the intervals: the lower bounds sum to {self.lower.sum():.17g} and the upper to "
                f"{self.upper.sum():.17g}, the row to {nominal.sum():.17g}; widen them"
            )
        return np.stack([self.lower, np.minimum(self.upper, 2.0)])

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is outside."""
        return float(max((self.lower - row).max(), (row - self.upper).max(), abs(row.sum() - nominal.sum()), 0.0))


@dataclass(frozen=True)
class LInfinity(Ball):
    """{p : max_j |p_j - pbar_j| <= radius}.

    radius: at least 0.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 2

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The greatest difference of two rows (n,)."""
        return float(np.abs(row - nominal).max())


@dataclass(frozen=True)
class CVaR(AmbiguitySet):
    """{p : p <= pbar / level}: sigma is the conditional value at risk, the mean of the worst share `level` of outcomes.

    level: in (0, 1]; one is the nominal row.
    Raises ModelError when the level is outside (0, 1].
    """

    level: float

    family: ClassVar[int] = 3
    dominated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.level <= 1:
            raise ModelError(f"level {self.level!r} is outside (0, 1]; give the share of outcomes that is averaged")

    def parameters(self) -> np.ndarray:
        """(1,): the level."""
        return np.array([float(self.level)])

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is outside."""
        return float(max((row * self.level - nominal).max(), -row.min(), abs(row.sum() - nominal.sum()), 0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def ball_box(pbar, radius, sign, lower, upper):
    """The box of a ball in the maximum norm, rounded inwards (sign -1) or outwards (+1)."""
    for i in range(len(pbar)):
        if radius == 0.0:
            lower[i] = upper[i] = pbar[i]
            continue
        low, high = pbar[i] - radius, min(pbar[i] + radius, 4.0)
        low -= sign * 2 * UNIT_ROUNDOFF * abs(low)
        high += sign * 2 * UNIT_ROUNDOFF * high
        lower[i] = max(0.0, min(low, pbar[i]))
        upper[i] = max(high, pbar[i])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def tail_box(pbar, level, sign, lower, upper):
    """The box of a CVaR, rounded inwards (sign -1) or outwards (+1)."""
    for i in range(len(pbar)):
        lower[i] = 0.0
        high = min(pbar[i] / level, 4.0)
        upper[i] = max(high * (1 + sign * 2 * UNIT_ROUNDOFF), pbar[i]) if level < 1.0 else pbar[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, mass, lower, upper, p, order):
    """p (n,) = a worst row of the box; (p.d, theta)."""
    n = len(d)
    for i in range(n):
        p[i] = lower[i]
        order[i] = i
    rest = mass - total(lower)
    build(order, n, d, 1.0)
    theta = 0.0
    for size in range(n, 0, -1):
        if rest <= 0.0:
            break
        i = extract(order, size, d, 1.0)
        theta = d[i]
        room = upper[i] - lower[i]
        if room > rest:
            p[i] = min(lower[i] + rest, upper[i])
            break
        p[i] = upper[i]
        rest -= room
    return dot(p, d), theta


@numba.njit(cache=True, nogil=True, error_model="numpy")
def low_bound(theta, d, pbar, mass, lower, upper, work):
    """A number below the least p.d over the box, from any theta."""
    for i in range(len(d)):
        work[i] = max(d[i] - theta, 0.0)
    gain = mass * theta + low_dot(lower, work)
    for i in range(len(d)):
        work[i] = max(theta - d[i], 0.0) + 4 * UNIT_ROUNDOFF * theta
    spent = high_dot(upper, work)
    # d_j is within 3u of its exact value: the differences above lose that much of lower.d, which is at most the mass.
    return gain - spent - 2 * SUM_ERROR * (mass * theta + gain + spent + mass) - TINY


@numba.njit(cache=True, nogil=True, error_model="numpy")
def high_bound(d, pbar, p):
    """A number above the least p.d over the box, from a row inside it of nearly the right mass."""
    off = abs(total(pbar) - total(p)) + 2 * SUM_ERROR * (total(pbar) + total(p))
    return up(high_dot(p, d) + off)

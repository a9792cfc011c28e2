r"""Value at risk, step after step: the level-quantile of the outcomes in place of their mean.

    sigma(z) = m min {t : pbar{j : z_j <= t} >= level m},      m = pbar.1.

sigma is monotone, moves with constants and scales with positive numbers, so that brackets and certificates hold as they do for
sets; but it is not concave, for it is the least p.z over no set of rows: nature puts all mass on the quantile's outcome, and
which one that is changes with z. So the chain frozen at v bounds nothing from above, and policy iteration against nature goes
by its guard alone. Whether a sum of probabilities reaches the level is decided without rounding (`exact_sum`), since the
quantile jumps there. O(n + k log n) for the k outcomes passed.

Nested value at risk is not the quantile of the return; see Hau, Petrik and Ghavamzadeh 2023 (arXiv:2304.12477) for that one.
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import AmbiguitySet
from .exact_sum import share_sign
from .heap import build, extract
from .rounding import SUM_ERROR, total

LEAST_LEVEL = 1e-15
"""Levels below this one are refused; their products with small probabilities would underflow."""


def require_level(level: object) -> float:
    """The level as a float. Raises ModelError outside [1e-12, 1]."""
    number = isinstance(level, float | int | np.floating | np.integer) and not isinstance(level, bool)
    if not number or not LEAST_LEVEL <= level <= 1:  # pyright: ignore[reportOperatorIssue]
        raise ModelError(f"level {level!r} is not in [{LEAST_LEVEL:g}, 1]; give the share of outcomes that may be worse")
    return float(level)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class NestedVaR(AmbiguitySet):
    """The level-quantile of the successors' values: what at least a share `level` of the outcomes does not exceed.

    level: in [1e-15, 1]; 1 is the best outcome of positive probability, the smallest level nearly always the worst.
    support: makes no difference; outcomes of probability zero do not count.
    Raises ModelError for another level.
    """

    level: float

    family: ClassVar[int] = 14
    dominated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "level", require_level(self.level))

    def parameters(self) -> np.ndarray:
        """(1,): the level."""
        return np.array([self.level])

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is from all mass on one successor of a nominal row (n,): each is the answer to some values."""
        possible = nominal > 0
        alone = np.where(possible, row, -np.inf).max()
        return float(max(nominal.sum() - alone, abs(row.sum() - nominal.sum()), np.abs(row[~possible]).max(initial=0.0), 0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def quantile(y, weight, level, order):
    """(first, last): the level-quantile q of y under the weights is y[first] <= q <= y[last]; equal but for tiny weights."""
    n = 0
    for i in range(len(y)):
        if weight[i] > 0.0:
            order[n] = i
            n += 1
    build(order, n, y, 1.0)
    goal = level * total(weight)
    reached, first = 0.0, -1
    for size in range(n, 0, -1):
        i = extract(order, size, y, 1.0)
        reached += weight[i]
        doubt = (n + 16) * SUM_ERROR * goal
        if reached < goal - doubt and size > 1:
            continue
        first = i if first < 0 else first
        if size == 1 or reached > goal + doubt:
            return first, i
        sign = share_sign(order[size - 1 : n], n - size + 1, weight, level)
        if sign >= 0.0:
            return first, i
        if sign < 0.0:
            first = -1
    return first, first


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, level, p, order):
    """p (n,) = all mass on the quantile's outcome; (mass d there at least, the same at most), rounded."""
    first, last = quantile(d, pbar, level, order)
    for i in range(len(p)):
        p[i] = 0.0
    p[first] = mass
    return mass * d[first], mass * d[last]

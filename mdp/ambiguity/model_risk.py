r"""Finitely many models of a row, with probabilities: what nature may do to their mixture.

With rows P_w of weight f_w, worth y_w = P_w.z, and F = f.1, so that f / F is a distribution whatever the floats,

    ModelCVaR   sigma = min {q.y : q >= 0, q.1 = 1, q_w <= f_w / (level F)},     the mean of the worst models, a convex set;
    ModelVaR    sigma = min {t : sum {f_w : y_w <= t} >= level F},               the level-quantile over the models.

The first is the soft-robust criterion and lies between the mean model, level 1, and the worst one, level to 0 (Ben-Tal,
Bertsimas and Brown 2010; Lobo, Ghavamzadeh and Petrik 2020, arXiv:2011.14495); each theta gives

    sigma >= theta - sum_w f_w (theta - y_w)_+ / (level F),

with equality at the last model filled. The second is the step of percentile optimisation (Delage and Mannor 2010): monotone and
moved by constants, but no set of rows, see `nested_var`. Both move by no more than y does in the sup norm, which is how the
rounding of y enters. Rows keep their own mass. O(k n + k log k) for k models; scratch of size k is allocated in the kernel.

The kernels read k + ceil(k / n) rows of n numbers: the weights first, filled up with zeros, then the rows.
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import AmbiguitySet, vector
from .heap import build, extract
from .nested_var import quantile, require_level
from .rounding import SUM_ERROR, TINY, UNIT_ROUNDOFF, total
from .scenarios import Scenarios


@dataclass(frozen=True, eq=False)
class _Weighted(AmbiguitySet):
    """Models of a row with weights."""

    rows: np.ndarray
    weights: np.ndarray
    level: float

    contains_nominal: ClassVar[bool] = False
    keeps_mass: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        rows, weights = Scenarios(self.rows).rows, vector("weights", self.weights)
        if len(weights) != len(rows):
            raise ModelError(f"there are {len(rows)} rows and {len(weights)} weights; give one weight a row")
        wrong = np.flatnonzero(weights < 0)
        if len(wrong) or not weights.sum() > 0 or weights.max() > 2.0**500:
            raise ModelError(f"weights {weights} are no probabilities up to scale; give numbers >= 0, one of them positive")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "level", require_level(self.level))
        object.__setattr__(self, "support", "all")

    def parameters(self) -> np.ndarray:
        """(1,): the level."""
        return np.array([self.level])

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """Weights and rows, (k + ceil(k / n), n). Raises ModelError when their length is not that of the nominal row (n,)."""
        if self.rows.shape[1] != len(nominal):
            raise ModelError(
                f"rows have {self.rows.shape[1]} entries and the nominal row {len(nominal)}; give the same successors"
            )
        return self.restrict(self.rows, np.arange(len(nominal)))

    def restrict(self, entries: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Weights and rows of the successors `keep`, (n,) indices; (k + ceil(k / n), n)."""
        weights = np.zeros((-(-len(self.rows) // len(keep)), len(keep)))
        weights.ravel()[: len(self.weights)] = self.weights
        return np.vstack([weights, self.rows[:, keep]])


@dataclass(frozen=True, eq=False)
class ModelCVaR(_Weighted):
    """{q rows : q a distribution with q_w <= weight_w / (level sum of weights)}; the nominal row does not matter.

    rows: (k, n), each nonnegative with sum one. weights: (k,), >= 0, probabilities of the rows up to scale.
    level: in [1e-15, 1]; 1 is the mean row, a small level the worst.
    Raises ModelError when a row is no distribution, a weight is negative, the shapes differ, or the level is another.
    """

    family: ClassVar[int] = 15

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The least maximal residual of a row (n,) as an admissible mixture of the rows, by linear programming."""
        import scipy.optimize

        k, n = self.rows.shape
        cap = np.minimum(self.weights / (self.level * self.weights.sum()), 1.0)
        system = np.block([[self.rows.T, -np.ones((n, 1))], [-self.rows.T, -np.ones((n, 1))]])
        found = scipy.optimize.linprog(
            np.append(np.zeros(k), 1.0),
            A_ub=system,
            b_ub=np.concatenate((row, -row)),
            A_eq=np.append(np.ones(k), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0.0, c * (1 + 1e-12)) for c in cap] + [(0.0, None)],
        )
        return float(found.fun) if found.status == 0 else np.inf


@dataclass(frozen=True, eq=False)
class ModelVaR(_Weighted):
    """The level-quantile, over models of the row, of what they are worth; the nominal row does not matter.

    rows: (k, n), each nonnegative with sum one. weights: (k,), >= 0, probabilities of the rows up to scale.
    level: in [1e-15, 1].
    Raises ModelError when a row is no distribution, a weight is negative, the shapes differ, or the level is another.
    """

    family: ClassVar[int] = 16

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The distance of a row (n,) from the nearest model of positive weight: each is the answer to some values."""
        return float(np.abs(self.rows[self.weights > 0] - row).max(axis=1).min())


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(tail, z, entry, level, p):
    """p (n,) = nature's row; (lower, value, upper). With `tail` the mean of the worst models, else their quantile."""
    n = len(z)
    k = len(entry) * n // (n + 1)  # k + ceil(k / n) rows in all
    weight, rows = np.ravel(entry)[:k], entry[len(entry) - k :]
    y, order, largest, off = np.empty(k), np.empty(k, dtype=np.int64), 0.0, 0.0
    for w in range(k):
        y[w], size = 0.0, 0.0
        for i in range(n):
            y[w] += rows[w, i] * z[i]
            size += rows[w, i] * abs(z[i])
        largest, off = max(largest, abs(y[w])), max(off, (n / 8 + 1) * SUM_ERROR * size + TINY)
    if not tail:
        first, last = quantile(y, weight, level, order)
        p[:] = rows[first]
        return y[first] - off, y[first], y[last] + off
    value = _tail(y, weight, level, rows, p, order)
    # In sums of shares that are at most one, and in y, k terms are off by a few u each.
    off += 8 * (k + 16) * SUM_ERROR / 16 * largest + (k + 1) * UNIT_ROUNDOFF * largest + TINY
    return value - off, value, value + off


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tail(y, weight, level, rows, p, order):
    """p = the mixture that fills the worst models first; its worth."""
    goal, n = level * total(weight), 0
    for w in range(len(y)):
        if weight[w] > 0.0:
            order[n] = w
            n += 1
    build(order, n, y, 1.0)
    p[:] = 0.0
    rest, value = 1.0, 0.0
    for size in range(n, 0, -1):
        w = extract(order, size, y, 1.0)
        share = min(weight[w] / goal, rest) if size > 1 else rest
        for i in range(len(p)):
            p[i] += share * rows[w, i]
        value += share * y[w]
        rest -= share
        if rest <= 0.0:
            break
    return value

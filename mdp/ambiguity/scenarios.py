r"""Finitely many rows, of which nature picks one; the least p.z over them is the least over their convex hull.

Outcomes of a posterior, or of simulators, for one row (Nilim and El Ghaoui 2005, section 4). O(k n).
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from ..validation import ROW_SUM_TOLERANCE
from .ambiguity_set import AmbiguitySet
from .rounding import SUM_ERROR, TINY


@dataclass(frozen=True, eq=False)
class Scenarios(AmbiguitySet):
    """The convex hull of given rows; the nominal row does not matter.

    rows: (k, n), each nonnegative with sum one.
    Raises ModelError when there is none or one of them is no distribution.
    """

    rows: np.ndarray

    family: ClassVar[int] = 5
    contains_nominal: ClassVar[bool] = False
    keeps_mass: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = np.array(self.rows, dtype=np.float64)
        if rows.ndim != 2 or rows.size == 0:
            raise ModelError(f"rows have shape {rows.shape}; give one distribution a row")
        sums = rows.sum(axis=1)
        wrong = np.flatnonzero(~(rows.min(axis=1) >= 0) | ~(np.abs(sums - 1) <= ROW_SUM_TOLERANCE))
        if len(wrong):
            raise ModelError(f"row {wrong[0]} is no distribution: it sums to {sums[wrong[0]]:.17g}; normalise it")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "support", "all")

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """The rows, (k, n). Raises ModelError when their length is not that of the nominal row (n,)."""
        if self.rows.shape[1] != len(nominal):
            raise ModelError(
                f"rows have {self.rows.shape[1]} entries and the nominal row {len(nominal)}; give the same successors"
            )
        return self.rows

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The least residual (Euclidean) of a row (n,) as a mixture of the rows."""
        import scipy.optimize

        system = np.vstack([self.rows.T, np.ones(len(self.rows))])
        return float(scipy.optimize.nnls(system, np.append(row, 1.0))[1])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(z, rows, p):
    """p (n,) = the row of least p.z; (lower, value, upper)."""
    best, low, high = np.inf, np.inf, np.inf
    for k in range(len(rows)):
        value, size = 0.0, 0.0
        for i in range(len(z)):
            value += rows[k, i] * z[i]
            size += rows[k, i] * abs(z[i])
        error = (len(z) / 8 + 1) * SUM_ERROR * size + TINY
        low, high = min(low, value - error), min(high, value + error)
        if value < best:
            best = value
            p[:] = rows[k]
    return low, best, high

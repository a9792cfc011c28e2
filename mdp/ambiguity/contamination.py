r"""Contamination: with probability epsilon nature says where to go.

    U = {(1 - epsilon) pbar + epsilon q : q >= 0, q.1 = pbar.1},      sigma = (1 - epsilon) pbar.z + epsilon m min z.

Inside the total-variation ball of radius epsilon (Huber 1964; Wang and Zou 2021, arXiv 2109.14523). O(n).
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import AmbiguitySet
from .rounding import dot, high_dot, low_dot, up


@dataclass(frozen=True)
class Contamination(AmbiguitySet):
    """{(1 - radius) pbar + radius q}, q any row.

    radius: in [0, 1].
    support: "nominal" (q is zero where the nominal row is) or "all".
    Raises ModelError when the radius is outside [0, 1].
    """

    radius: float

    family: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.radius <= 1:
            raise ModelError(f"radius {self.radius!r} is outside [0, 1]; give the probability that nature takes over")

    def parameters(self) -> np.ndarray:
        """(1,): the radius."""
        return np.array([float(self.radius)])

    def violation(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """How far a row (n,) is outside the set of a nominal row (n,)."""
        return float(max(((1 - self.radius) * nominal - row).max(), abs(row.sum() - nominal.sum()), 0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, radius, p):
    """p (n,) = the worst row; p.d."""
    receiver = np.argmin(d)
    for i in range(len(d)):
        p[i] = (1.0 - radius) * pbar[i]
    p[receiver] += radius * mass
    return dot(p, d)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(d, pbar, radius):
    """Bounds on the least p.d."""
    kept = 1.0 - radius
    return max(0.0, low_dot(pbar, d) * (kept - 4e-16 * kept)), up(high_dot(pbar, d) * up(kept))

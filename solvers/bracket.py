r"""From a vector to a proved bracket of a contraction's fixed point, in one pass.

Let lo <= T_p v - v and T v - v <= hi with everything rounded outwards, and mass = (a, b), 0 <= a <= b < 1, bound how T moves
constants. The constant shift c of v is inductive, T_p(v + c) >= v + c, when c <= lo / (1 - b) for lo < 0 and c <= lo / (1 - a)
for lo >= 0; likewise above (MacQueen 1966, Porteus 1971, for rows that need not sum to one). Rounding v + c to floats moves
it by at most d = u |v + c|, which costs another (1 + b) d / (1 - b). So the returned FLOAT vectors satisfy

    lower <= T_p lower,      T upper <= upper

in exact arithmetic, where p is the greedy policy of v as computed.
"""

from __future__ import annotations

import numpy as np

from ..mdp.operator import Operator
from ..mdp.sweeps import UNIT_ROUNDOFF

_GUARD = 3.0
"""Units of rounding by which the shifts are widened: two for the rounding of v + c, one for that of the shifts themselves."""


def macqueen_porteus(low: float, high: float, mass: tuple[float, float]) -> tuple[float, float]:
    """The shifts (c, d) with v + c <= v* <= v + d, from bounds low <= T v - v <= high; mass[1] < 1. Not rounded."""
    least, most = mass
    below = low / (1 - (most if low < 0 else least))
    above = high / (1 - (most if high > 0 else least))
    return below, above


def inductive_bracket(operator: Operator, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lower, upper, policy): float vectors that are inductive in exact arithmetic, rounding included. One pass.

    value: float64 (n,), equal to the terminal value in terminal states.
    """
    lower, upper = np.empty_like(value), np.empty_like(value)
    policy = operator.blank_policy()
    operator.enclose(value, policy, lower, upper)
    lower -= value
    upper -= value
    below, above = macqueen_porteus(float(lower.min()), float(upper.max()), operator.mass)
    size = float(np.abs(value).max()) + abs(below) + abs(above)
    slack = _GUARD * UNIT_ROUNDOFF * size / (1 - operator.modulus) + 2.0**-900
    np.add(value, below - slack, out=lower)
    np.add(value, above + slack, out=upper)
    lower[operator.terminal] = upper[operator.terminal] = value[operator.terminal]
    return lower, upper, policy

r"""Expected one-step rewards, rounded once.

When a reward depends on the successor, a pair is worth r + sum_j p_j r_j. Each product is split without error into two
floats, p r = h + l (Veltkamp and Dekker, Numer. Math. 18, 1971), and the h's, l's and r are summed by `math.fsum`, which rounds
the exact sum once (Shewchuk, Discrete Comput. Geom. 18, 1997). So a mean over successors does not depend on their order.
Exact unless a product underflows.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

_SPLIT = 2.0**27 + 1


def expected_reward(
    row_ptr: np.ndarray, probability: np.ndarray, reward: np.ndarray, certain: np.ndarray | None = None
) -> np.ndarray:
    """certain + sum_j p_j r_j of each row, float64 (m,), each rounded once.

    row_ptr: integers (m + 1,), the entries of each row. probability, reward: float64 (z,), of each entry.
    certain: float64 (m,), what is earned whatever the successor; default zeros.
    A row whose inputs are not all finite, or whose sum overflows, yields nan or an infinity, never an exception.
    """
    certain = np.zeros(len(row_ptr) - 1) if certain is None else certain
    with np.errstate(all="ignore"):
        high, low = _two_product(probability, reward)
    rows, highs, lows, alone = np.asarray(row_ptr).tolist(), high.tolist(), low.tolist(), certain.tolist()
    out = np.empty(len(alone))
    for row, sure in enumerate(alone):
        first, last = rows[row], rows[row + 1]
        terms = [*highs[first:last], *lows[first:last], sure]
        try:
            out[row] = math.fsum(terms)
        except (OverflowError, ValueError):
            out[row] = math.nan
        if not math.isfinite(out[row]):
            out[row] = _without_splitting(probability[first:last], reward[first:last], sure)
    return out


def _two_product(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    product = left * right
    left_high, right_high = _upper_half(left), _upper_half(right)
    left_low, right_low = left - left_high, right - right_high
    error = ((left_high * right_high - product) + left_high * right_low + left_low * right_high) + left_low * right_low
    return product, error


def _upper_half(number: np.ndarray) -> np.ndarray:
    stretched = _SPLIT * number
    return stretched - (stretched - number)


def _without_splitting(probability: np.ndarray, reward: np.ndarray, certain: float) -> float:
    """For rows with infinities or nan, and for numbers so large that the splitting overflows."""
    if not (np.isfinite(probability).all() and np.isfinite(reward).all() and math.isfinite(certain)):
        with np.errstate(all="ignore"):
            return float((probability * reward).sum() + certain)
    exact = sum(
        (Fraction(p) * Fraction(r) for p, r in zip(probability.tolist(), reward.tolist(), strict=True)), Fraction(certain)
    )
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf

r"""Risk of a finite distribution by its quantiles: lower tails, ranges, and the mixed value at risk.

Values r with probabilities p, F their distribution function, Q_s = F^{-1}(s) = inf {x : F(x) >= s}, and the lower tail's
integral

    T(s) = int_0^s F^{-1}(u) du = min_q { q.r : 0 <= q <= p, sum q = s } = max_x { x s - E (x - R)^+ },

a convex function of p. The lower conditional value at risk is T(s)/s, the mean T(1), the range value at risk (T(b) - T(a))/(b
- a), and the mixed one, extra weight w on the lower tail and none above b,

    MVaR = (1 + w) T(a) + (T(b) - T(a)) = w T(a) + T(b).

Its score function weight is A(R) = -(1 + w)(Q_a - R)^+ + clip(R, Q_a, Q_b) - Q_b: d MVaR = E[A(R) d log p] wherever a and b are
no levels of jumps of F, and A(R) is a subgradient there for w >= 0. A(R) <= 0 for w >= 0, and exactly 0 where R >= Q_b.

Rockafellar and Uryasev 2000; Ren et al. 2025, arXiv 2510.00911.
"""

from __future__ import annotations

import numpy as np

from .errors import ModelError
from .validation import real_array

_LEVEL = 1e-12
"""Levels closer than this to a jump of F are taken for it: sums of probabilities round."""


def quantile(values: np.ndarray, probability: np.ndarray, level: float) -> float:
    """Q_level of values (n,) with probabilities (n,) that sum to one; level in (0, 1]. Raises ModelError for other levels."""
    values, probability = _checked(values, probability)
    if not 0 < level <= 1:
        raise ModelError(f"level is {level}; a quantile's level lies in (0, 1]")
    order = np.argsort(values, kind="stable")
    total = np.cumsum(probability[order])
    at = min(int(np.searchsorted(total, level - _LEVEL)), len(values) - 1)
    return float(values[order[at]])


def tail_integral(values: np.ndarray, probability: np.ndarray, level: float) -> float:
    """T(level) of values (n,) with probabilities (n,); level in [0, 1]. Raises ModelError for other levels."""
    values, probability = _checked(values, probability)
    if not 0 <= level <= 1:
        raise ModelError(f"level is {level}; a tail's level lies in [0, 1]")
    order = np.argsort(values, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(probability[order])[:-1]])
    taken = np.clip(level - before, 0.0, probability[order])
    return float(taken @ values[order])


def mixed_value_at_risk(values: np.ndarray, probability: np.ndarray, low: float, high: float, weight: float) -> float:
    """w T(low) + T(high) of values (n,) with probabilities (n,). Raises ModelError unless 0 <= low < high <= 1."""
    if not 0 <= low < high <= 1:
        raise ModelError(f"low={low}, high={high}: levels with 0 <= low < high <= 1")
    return weight * tail_integral(values, probability, low) + tail_integral(values, probability, high)


def mixed_risk_weight(values: np.ndarray, low_quantile: float, high_quantile: float, weight: float) -> np.ndarray:
    """A(R) at values of any shape, given Q_a and Q_b. Raises ModelError unless Q_a <= Q_b."""
    if not low_quantile <= high_quantile:
        raise ModelError(f"low_quantile={low_quantile} is above high_quantile={high_quantile}")
    shortfall = np.maximum(low_quantile - values, 0.0)
    return -(1 + weight) * shortfall + np.clip(values, low_quantile, high_quantile) - high_quantile


def _checked(values: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, probability = real_array("values", values), real_array("probability", probability)
    if values.ndim != 1 or values.shape != probability.shape or not len(values):
        raise ModelError(f"values has shape {values.shape} and probability {probability.shape}; give both, (n,), n >= 1")
    if not np.isfinite(values).all():
        raise ModelError(f"value {int(np.argmin(np.isfinite(values)))} is not finite")
    if (probability < 0).any() or abs(probability.sum() - 1) > 1e-9:
        raise ModelError(
            f"probability sums to {probability.sum():g} with least entry {probability.min():g}; give a distribution"
        )
    return values, probability

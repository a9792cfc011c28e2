r"""The bracket of the value at the initial distribution mu: sum_s mu(s) lower(s) and sum_s mu(s) upper(s).

Each product, and the sum, is off by at most 2^-53 of itself; the bracket is widened by four times that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..mdp.model import MDP
    from ..solvers.certificate import Certificate


def at_the_start(model: MDP, certificate: Certificate) -> tuple[float, float] | None:
    """(lower, upper) of the expected value at the start, or None for a model without initial distribution."""
    if model.initial is None:
        return None
    weights, (lower, upper) = model.initial, whole(certificate)
    low, high = weights * lower, weights * upper
    slack = 0.0 if weights.max() == 1 else 2.0**-51 * math.fsum(np.abs(low) + np.abs(high))
    return math.fsum(low) - slack, math.fsum(high) + slack


def whole(certificate: Certificate) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (n,) on the value of the whole problem: with one row a stage, the first."""
    lower, upper = certificate.lower, certificate.upper
    return (lower[0], upper[0]) if lower.ndim == 2 else (lower, upper)

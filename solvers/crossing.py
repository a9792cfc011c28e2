"""Where a continuous function of one number changes sign, to the last bits (Brent 1973)."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import root_scalar


def crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """A root in [low, high], where the function has values of opposite sign or zero."""
    return float(root_scalar(function, bracket=(low, high), method="brentq", xtol=1e-15, rtol=1e-15).root)

r"""Distances between laws of the line.

    W_1 = int |F - G| dx = int_0^1 |F^{-1} - G^{-1}| du        W_inf = sup_u |F^{-1}(u) - G^{-1}(u)|
    Cramer: l_2^2 = int (F - G)^2 dx

r + g X contracts all of them: by g the first two, by sqrt(g) l_2. For mixtures with common weights W_inf is at most the largest
of the parts', W_1 and l_2^2 at most the mean of the parts'.

Villani, Optimal Transport, Springer 2009, chapter 6; Rowland et al. 2018, arXiv 1802.08163.
"""

from __future__ import annotations

import math

import numpy as np

from .law import Law, Number, cdf_at


def wasserstein(law: Law, other: Law) -> Number:
    """W_1; in Fractions where both laws are."""
    gap, length = _between(law, other)
    return (np.abs(gap) * length).sum()


def wasserstein_sup(law: Law, other: Law) -> Number:
    """W_inf; in Fractions where both laws are."""
    levels = np.union1d(law.levels, other.levels).tolist()
    return max(abs(law.quantile(u) - other.quantile(u)) for u in levels)


def cramer_squared(law: Law, other: Law) -> Number:
    """l_2^2, the square of Cramer's distance; in Fractions where both laws are."""
    gap, length = _between(law, other)
    return (gap * gap * length).sum()


def cramer(law: Law, other: Law) -> float:
    """l_2, Cramer's distance."""
    return math.sqrt(cramer_squared(law, other))


def _between(law: Law, other: Law) -> tuple[np.ndarray, np.ndarray]:
    """F - G between neighbouring atoms of either law, and the lengths."""
    grid = np.union1d(law.atoms, other.atoms)
    return (cdf_at(law, grid) - cdf_at(other, grid))[:-1], grid[1:] - grid[:-1]

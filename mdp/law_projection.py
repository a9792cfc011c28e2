r"""Laws brought to a given size: the categorical and the quantile projection, and rounding down or up.

Categorical, on a grid z_1 < ... < z_m: an atom y in [z_i, z_{i+1}] is split, (z_{i+1} - y)/(z_{i+1} - z_i) to z_i and the rest
to z_{i+1}; y outside is moved to the nearest end. On each cell the new F is the mean of the old one: the orthogonal projection
of F in L2 onto step functions. It keeps the mean of a law within the grid and is a mean-preserving spread of it, so it lies
below it in the increasing concave order.

Quantile, with m atoms: x_i = F^{-1}((2i - 1)/(2m)) with weight 1/m, a law of that form closest in W_1.

Rounding: every atom moves to the grid point below (above) it, so that the result lies below (above) in stochastic order.

Rowland, Bellemare, Dabney, Munos and Teh 2018, arXiv 1802.08163; Dabney, Rowland, Bellemare and Munos 2018, arXiv 1710.10044.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .errors import ModelError
from .law import Law, Number


def categorical(law: Law, grid: Sequence[Number] | np.ndarray) -> Law:
    """The categorical projection onto a grid (m,), m >= 2. Raises ModelError unless the grid increases strictly."""
    z = _grid(law, grid)
    y = np.minimum(np.maximum(law.atoms, z[0]), z[-1])
    cell = np.minimum(np.searchsorted(z, y, side="right") - 1, len(z) - 2)
    upper = (y - z[cell]) / (z[cell + 1] - z[cell])
    return Law.of(
        np.concatenate([z[cell], z[cell + 1]]).tolist(),
        np.concatenate([law.weights * (1 - upper), law.weights * upper]).tolist(),
        exact=law.exact,
    )


def quantile_projection(law: Law, atoms: int) -> Law:
    """The quantile projection with m = atoms >= 1 equal weights. Raises ModelError for another number."""
    if isinstance(atoms, bool) or int(atoms) != atoms or atoms < 1:
        raise ModelError(f"atoms is {atoms!r}; give a whole number >= 1")
    one: Any = Fraction(1) if law.exact else 1.0
    found = [law.quantile((2 * i + 1) * one / (2 * atoms)) for i in range(atoms)]
    return Law.of(found, [one / atoms] * atoms, exact=law.exact)


def round_down(law: Law, grid: Sequence[Number] | np.ndarray) -> Law:
    """Atoms moved to the grid point (m,) at or below them. Raises ModelError where there is none for some atom."""
    z = _grid(law, grid)
    cell = np.searchsorted(z, law.atoms, side="right") - 1
    if cell.min() < 0:
        raise ModelError(f"atom {law.atoms[0]} lies below the whole grid, whose first point is {z[0]}")
    return Law.of(z[cell].tolist(), law.weights.tolist(), exact=law.exact)


def round_up(law: Law, grid: Sequence[Number] | np.ndarray) -> Law:
    """Atoms moved to the grid point (m,) at or above them. Raises ModelError where there is none for some atom."""
    z = _grid(law, grid)
    cell = np.searchsorted(z, law.atoms, side="left")
    if cell.max() >= len(z):
        raise ModelError(f"atom {law.atoms[-1]} lies above the whole grid, whose last point is {z[-1]}")
    return Law.of(z[cell].tolist(), law.weights.tolist(), exact=law.exact)


def _grid(law: Law, grid: Sequence[Number] | np.ndarray) -> np.ndarray:
    if law.exact:
        z = np.empty(len(grid), dtype=object)
        z[:] = [Fraction(x) for x in grid]
    else:
        z = np.array([float(x) for x in grid])
    if len(z) < 2:
        raise ModelError(f"the grid has {len(z)} points; give at least two")
    for at in np.flatnonzero(~(z[1:] > z[:-1]))[:1]:
        raise ModelError(f"grid point {at + 1}, {z[at + 1]}, is not above the one before, {z[at]}")
    return z

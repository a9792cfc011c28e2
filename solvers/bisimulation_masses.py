r"""Probabilities as whole numbers of one unit, so that sums over blocks are exact and do not depend on their order.

floats      p is k / 2^62. A double of at least 2^-10 is such a number exactly, and so is any whose last bit is not below 2^-62;
            others are rounded, once, by at most 2^-63.
fractions   p is read as the simplest fraction that rounds to it (the one of least denominator, found in the Stern-Brocot tree),
            k over the least common denominator: 0.1 is 1/10, and 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from .errors import SolveError

GRID = 62
"""The unit of floats is 2^-GRID: a row, which sums to at most 1 + 1e-9, stays below 2^63."""
_MOST_FRACTIONS = 65_536


@dataclass(frozen=True)
class Masses:
    """The transitions' probabilities in whole units.

    units: int64 (n_transitions,). per_one: units in a probability of one. error: greatest distance from the stored float.
    """

    units: np.ndarray
    per_one: int
    error: float


def masses(model: MDP, rational: bool) -> Masses:
    """The probabilities as stored, or with `rational` as the simplest fractions that round to them.

    Raises SolveError where those have no common denominator below 2^62, naming a probability.
    """
    return _fractions(model) if rational else _floats(model)


def _floats(model: MDP) -> Masses:
    kernel: Any = on_grid
    units, error = kernel(model.probability, 2.0**GRID)
    return Masses(units, 2**GRID, error / 2.0**GRID)


@numba.njit(cache=True, nogil=True)
def on_grid(probability, per_one):
    """Probabilities (z,) in whole units, int64 (z,), and the greatest rounding, in units."""
    units, error = np.empty(len(probability), dtype=np.int64), 0.0
    for entry in range(len(probability)):
        scaled = probability[entry] * per_one
        whole = np.rint(scaled)
        error = max(error, abs(scaled - whole))
        units[entry] = np.int64(whole)
    return units, error


def _fractions(model: MDP) -> Masses:
    distinct, place = np.unique(model.probability, return_inverse=True)
    if len(distinct) > _MOST_FRACTIONS:
        raise SolveError(
            f"{len(distinct)} different probabilities are no table of fractions; leave rational out, to take floats as stored"
        )
    common, fractions = 1, []
    for p in distinct.tolist():
        fractions.append(simplest_fraction(p))
        common = math.lcm(common, fractions[-1].denominator)
        if common >= 2**GRID:
            raise SolveError(
                f"the probabilities, {p!r} among them, are no fractions with a common denominator below 2^{GRID}; leave "
                "rational out, to take floats as stored"
            )
    units = np.array([int(fraction * common) for fraction in fractions], dtype=np.int64)
    error = max((abs(Fraction(p) - q) for p, q in zip(distinct.tolist(), fractions, strict=True)), default=Fraction(0))
    return Masses(units[place], common, float(error))


def simplest_fraction(number: float) -> Fraction:
    """The fraction of least denominator among those in [0, inf) that round to the float, which must not be negative."""
    exact = Fraction(number)
    low = (exact + Fraction(math.nextafter(number, -math.inf))) / 2
    high = (exact + Fraction(math.nextafter(number, math.inf))) / 2
    found = _between(max(low, Fraction(0)), high)
    return found if float(found) == number else exact


def _between(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of least denominator in [low, high], 0 <= low <= high, by continued fractions."""
    terms = []
    while True:
        whole = low.numerator // low.denominator
        if whole == low or whole + 1 <= high:
            terms.append(whole if whole == low else whole + 1)
            break
        terms.append(whole)
        low, high = 1 / (high - whole), 1 / (low - whole)
    found = Fraction(terms.pop())
    while terms:
        found = terms.pop() + 1 / found
    return found

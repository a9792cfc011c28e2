r"""Balls in the chi-square divergence.

    U = {p >= 0 : p.1 = m, sum_i (p_i - pbar_i)^2 / pbar_i <= kappa},      m = pbar.1.

The worst row is pbar_i (a - z_i)_+, rescaled, for a level a. On the entries below a, with nominal mass P, mean mu and sum of
squared deviations S, its distance is

    D(a) = m^2 [P (a - mu)^2 + S] / [P (a - mu)]^2 - m,

decreasing in a, so that D(a) = kappa is one quadratic once the segment is known; D at every entry comes from one pass over the
sorted row (West 1979 for mu and S). O(n log n), exact. For every level a and number c, with y = min(z, a),

    sigma >= pbar.y - sqrt(kappa sum_i pbar_i (y_i - c)^2),

and the best is the mean, c = pbar.y / m (Ho, Petrik and Wiesemann, NeurIPS 2022; Duchi and Namkoong 2019).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from .ambiguity_set import Ball
from .heap import sort
from .kullback_leibler import collapse
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, defect, dot, down, low_dot, repaired, total, up


@dataclass(frozen=True)
class ChiSquare(Ball):
    """{p : sum (p - pbar)^2 / pbar <= radius}; p << pbar, so that `support` makes no difference.

    radius: at least 0.
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 9
    dominated: ClassVar[bool] = True

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """sum (row - nominal)^2 / nominal of two rows (n,)."""
        used = nominal > 0
        return float(((row[used] - nominal[used]) ** 2 / nominal[used]).sum()) if not row[~used].any() else np.inf


@numba.njit(cache=True, nogil=True, error_model="numpy")
def moments(d, pbar, order, mass_below, lead, deviation):
    """Sort d; of the first entries in that order, order[: j + 1]: P = mass_below[j], lead[j] = d_j - mu, S = deviation[j]."""
    sort(order, d, 1.0)
    weight, ahead, squares = 0.0, 0.0, 0.0
    for place in range(len(d)):
        i = order[place]
        if place > 0:
            ahead += d[i] - d[order[place - 1]]
        if pbar[i] > 0.0:
            share = weight / (weight + pbar[i])  # nothing is subtracted: P may be tiny before and large after
            weight += pbar[i]
            squares += pbar[i] * ahead * (ahead * share)
            ahead *= share
        mass_below[place], lead[place], deviation[place] = weight, ahead, squares


@numba.njit(cache=True, nogil=True, error_model="numpy")
def distance_at(lead, mass, weight, deviation):
    """D at a level that leads the mean of the nominal mass `weight` > 0 strictly below by `lead`."""
    return mass * mass * (1.0 / weight + deviation / (weight * lead) ** 2) - mass


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, radius, p, work, order):
    """p (n,) = the worst row; (p.d, level), level 0 where all mass is on the least entry. Uses three rows of work."""
    n = len(d)
    weight, lead, deviation = work[0], work[1], work[2]
    moments(d, pbar, order, weight, lead, deviation)
    if radius == 0.0 or deviation[n - 1] == 0.0:
        p[:] = pbar
        return dot(pbar, d), np.inf
    kept = collapse(d, pbar, mass, p)
    if radius >= mass * (mass / kept - 1.0):
        return 0.0, 0.0
    place = n - 1  # entries order[: place + 1] lie below the level
    while place > 0:
        if lead[place] > 0.0 and distance_at(lead[place], mass, weight[place], deviation[place]) >= radius:
            break
        place -= 1
    # 1 / P = 1 / m exactly when everything is below: subtract before dividing.
    excess = radius / mass + (weight[place] - mass) / mass * (1.0 + radius / mass) if place < n - 1 else radius / mass
    ahead = math.sqrt(deviation[place] / (weight[place] * excess))
    if not ahead > 0.0:
        return 0.0, 0.0
    if not ahead < 1e140:
        p[:] = pbar
        return dot(p, d), np.inf
    top = d[order[place]]
    for i in range(n):
        p[i] = pbar[i] * max(0.0, 1.0 - ((d[i] - top) + lead[place]) / ahead)
    scale = mass / total(p)
    for i in range(n):
        p[i] *= scale
    return dot(p, d), top + (ahead - lead[place])


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def _first_moment(p, d, centre):
    """sum p_i (d_i - centre), in any order: the bracket does not rest on it."""
    result = 0.0
    for i in range(len(d)):
        result += p[i] * (d[i] - centre)
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def _second_moment(p, d, centre, shift):
    """sum p_i (d_i - centre - shift)^2, in any order."""
    result = 0.0
    for i in range(len(d)):
        away = (d[i] - centre) - shift
        result += p[i] * (away * away)
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pull(aim, priced, d, pbar, mass, p):
    """p (n,) = the row of nature's path worth `aim` < pbar.d, or of price `aim` where `priced`.

    On the entries kept, of nominal mass P, mean mu and sum of squares S about it, p_i = pbar_i (m / P - f (d_i - mu)), worth
    m mu - f S at price 2 f. Entries where that is negative are dropped until none is. Each level on the way lies above the
    last one (dropping only raises the value at a level), so no entry of the answer is lost.
    Returns (value, distance, d distance / d log price, price, level).
    """
    lost, force, level = 0.0, 0.0, np.inf
    weight, shift, squares, heaviest = 0.0, 0.0, 0.0, 0
    for i in range(len(d)):
        p[i] = pbar[i]
    kept, before = len(d), len(d) + 1
    while kept < before:
        # Deviations from the heaviest entry keep their digits where nearly all the mass is on one value.
        heaviest, weight = np.argmax(p), total(p)
        shift = _first_moment(p, d, d[heaviest]) / weight
        squares = _second_moment(p, d, d[heaviest], shift)
        fall = max(0.0, (d[heaviest] - aim / mass) + shift)
        force = 0.5 * aim if priced else fall * mass / squares
        if not force < np.inf:
            return aim, np.inf, np.inf, np.inf, level
        before, kept = kept, 0
        grown = 1.0 + lost / weight
        level = d[heaviest] + shift + grown / force
        for i in range(len(d)):
            if p[i] > 0.0 and grown - force * ((d[i] - d[heaviest]) - shift) <= 0.0:
                lost += p[i]
                p[i] = 0.0
            kept += p[i] > 0.0
    value, distance = 0.0, lost
    for i in range(len(d)):
        if p[i] > 0.0:
            change = lost / weight - force * ((d[i] - d[heaviest]) - shift)
            distance += pbar[i] * change**2
            p[i] = pbar[i] * (1.0 + change)
            value += p[i] * d[i]
    return value, distance, 2.0 * force * force * squares, 2.0 * force, level


@numba.njit(cache=True, nogil=True, error_model="numpy")
def low_bound(level, d, pbar, mass, radius, work):
    """A number below the least p.d, from any level."""
    for i in range(len(d)):
        work[i] = min(d[i], level)
    gain = low_dot(pbar, work)
    centre = gain / mass
    for i in range(len(d)):
        work[i] = (abs(work[i] - centre) + 8 * UNIT_ROUNDOFF * work[i]) ** 2
    return down(gain - up(math.sqrt(up(radius * dot(pbar, work) * (1 + 2 * SUM_ERROR)))))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def high_distance(p, pbar):
    """A number above the distance of p, once its largest entry has taken up what its mass lacks."""
    k, off = defect(p, pbar)
    result = 0.0
    for i in range(len(p)):
        if pbar[i] > 0.0:
            change = abs(p[i] - pbar[i]) + (off if i == k else 0.0)
            result += change / pbar[i] * change
    return result * (1 + len(p) * UNIT_ROUNDOFF) * (1 + SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(level, d, pbar, mass, radius, p, work):
    """Bounds on the least p.d, from a level and the row found."""
    high = repaired(p, pbar, d, radius, high_distance(p, pbar))
    return (low_bound(level, d, pbar, mass, radius, work) if level > 0.0 else 0.0), high

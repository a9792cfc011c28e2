r"""Balls in the divergence of the nominal row from p: the Burg entropy, the set of likelihoods.

    U = {p >= 0 : p.1 = m, sum_i pbar_i log(pbar_i / p_i) <= kappa},      m = pbar.1.

p may use entries where pbar is zero. With d = z - min z and a gap g > 0, never subtracted from anything,

    p_i = c pbar_i / (d_i + g),    c = m / sum pbar_i / (d_i + g),    D(g) = sum pbar_i log((d_i + g) / c),

and D decreases in g. Every g gives the bound (the best price of the distance put in)

    sigma >= m min z + m g expm1( [sum pbar_i log(1 + d_i / g) - kappa] / m ).

When kappa is large, g is too small for a double, or zero when the argmin of z is off the support. Then w, the mass on the
argmin, whose nominal mass is P, is found from the same equation written without g: with Q = sum_{d > 0} pbar_i / d_i and
c = (m - w) / Q,

    sum_{d > 0} pbar_i log(d_i / c) + P log(P / w) = kappa,        log g = log(c P / w).

O(n) an iteration, about ten of them (Wiesemann, Kuhn and Rustem 2013; Ho, Petrik and Wiesemann, NeurIPS 2022; the gap form is
derived here).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from .ambiguity_set import Ball
from .root import next_guess
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, defect, dot, high_dot, low_dot, repaired, total, up

SMALLEST = -600.0
"""log g below which g is not represented."""
LEAST = 5e-324
"""What a probability is that must be positive and underflows."""


@dataclass(frozen=True)
class Burg(Ball):
    """{p : sum pbar log(pbar / p) <= radius}.

    radius: at least 0, in nats.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 11

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """sum nominal log(nominal / row) of two rows (n,)."""
        used = nominal > 0
        with np.errstate(divide="ignore"):
            return float(nominal[used] @ (np.log(nominal[used]) - np.log(row[used])))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bend(gap, d, pbar, mass, p):
    """p (n,) = the row at a gap > 0; (p.d, distance, -d distance / d log gap, price of the value in units of distance)."""
    shortfall, logs, weight = 0.0, 0.0, 0.0
    for i in range(len(d)):
        ratio = d[i] / gap
        kept = 1.0 / (1.0 + ratio)
        shortfall += pbar[i] * (ratio * kept)
        weight += pbar[i] * kept
        logs += pbar[i] * math.log1p(ratio)
        p[i] = kept
    value, spread = 0.0, 0.0
    scale, lost = mass / weight, shortfall / mass
    for i in range(len(d)):
        spread += pbar[i] * (p[i] * (d[i] / gap) - lost) ** 2
        p[i] = max(p[i] * pbar[i] * scale, LEAST) if pbar[i] > 0.0 else 0.0
        value += p[i] * d[i]
    log_ratio = math.log1p(-lost) if lost < 0.5 else math.log(weight / mass)
    return value, max(0.0, logs + mass * log_ratio), scale * spread, weight / (mass * gap)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _beyond(d, pbar, mass, radius, p):
    """The worst row when the gap is too small for a double, or zero; (p.d, log gap)."""
    on, logs, slope = 0.0, 0.0, 0.0
    for i in range(len(d)):
        if d[i] == 0.0:
            on += pbar[i]
        elif pbar[i] > 0.0:
            logs += pbar[i] * math.log(d[i])
            slope += pbar[i] / d[i]
    off = max(mass - on, 1e-300)
    constant = logs + off * math.log(slope) + (on * math.log(on) if on > 0.0 else 0.0) - radius
    low, high = -745.0, math.log(off if on > 0.0 else mass)  # log(m - w); the distance decreases up to log(m - P)
    for _ in range(100):
        middle = 0.5 * (low + high)
        w = mass - math.exp(middle)
        if constant - off * middle - (on * math.log(w) if on > 0.0 else 0.0) > 0.0:
            low = middle
        else:
            high = middle
    c = math.exp(high) / slope
    w = mass - math.exp(high)
    value, receiver, count = 0.0, np.argmin(d), 0.0
    for i in range(len(d)):
        if d[i] == 0.0:
            p[i] = w * (pbar[i] / on) if pbar[i] > 0.0 else 0.0
        else:
            p[i] = max(c * (pbar[i] / d[i]), LEAST) if pbar[i] > 0.0 else 0.0
            value += p[i] * d[i]
            count += p[i]
    if on == 0.0:
        p[receiver] = max(0.0, mass - count)
    return value, (math.log(on) + high - math.log(slope) - math.log(w) if on > 0.0 else -np.inf)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, radius, p):
    """p (n,) = the worst row; (p.d, log gap). NaN for the gap where the row is the nominal one."""
    spread, mean = 0.0, dot(pbar, d) / mass
    for i in range(len(d)):
        spread += pbar[i] * (d[i] - mean) ** 2
    if radius == 0.0 or mean == 0.0:
        p[:] = pbar
        return mean * mass, np.nan
    if radius == np.inf:
        p[:] = 0.0
        p[np.argmin(d)] = mass
        return 0.0, -np.inf
    if bend(math.exp(SMALLEST), d, pbar, mass, p)[1] < radius:
        return _beyond(d, pbar, mass, radius, p)
    x = min(max(0.5 * math.log(2.0 * radius / spread), -690.0), 2.0)  # x = -log gap
    low, high, value = -np.inf, -SMALLEST, 0.0
    for _ in range(200):
        value, distance, slope, _price = bend(math.exp(-x), d, pbar, mass, p)
        if distance > radius:
            high = x
        else:
            low = x
        if abs(distance - radius) <= 8 * UNIT_ROUNDOFF * radius or x < -690.0:
            break
        following = next_guess(x, distance, slope, radius, low, high)
        if abs(following - x) <= 2 * UNIT_ROUNDOFF * max(1.0, abs(x)):
            break
        x = following
    return value, -x


@numba.njit(cache=True, nogil=True, error_model="numpy")
def high_distance(p, pbar):
    """A number above the distance of p, once its largest entry has taken up what its mass lacks."""
    k, off = defect(p, pbar)
    result = 0.0
    for i in range(len(p)):
        if pbar[i] == 0.0:
            result += p[i]
            continue
        change = p[i] - pbar[i]
        x = change / pbar[i]
        log = math.log1p(x) if x > -0.5 else math.log(p[i] / pbar[i])
        error = 8 * UNIT_ROUNDOFF * (pbar[i] * abs(log) + abs(change) + (0.0 if x > -0.5 else pbar[i]))
        result += max(0.0, change - pbar[i] * log) + error
    result += off * (2.0 + 2.0 * pbar[k] / p[k])
    return result * (1 + len(p) * UNIT_ROUNDOFF) * (1 + SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def low_bound(log_gap, d, pbar, mass, radius, work):
    """A number below the least p.d, from any gap; its logarithm may be -inf where no nominal mass is on the least entry."""
    if log_gap > SMALLEST:
        gap = math.exp(log_gap)
        for i in range(len(d)):
            work[i] = math.log1p(d[i] / gap)
        exponent = (low_dot(pbar, work) - up(radius)) / (mass * (1 + 2 * SUM_ERROR))
        if not exponent > 0.0:
            return 0.0
        return mass * (1 - 2 * SUM_ERROR) * gap * math.expm1(exponent * (1 - SUM_ERROR)) * (1 - SUM_ERROR)
    on = 0.0
    for i in range(len(d)):
        if d[i] == 0.0:
            on += pbar[i]
            work[i] = 0.0
        else:
            work[i] = -math.log(d[i]) + SUM_ERROR
    losses = dot(pbar, work) * (1 + 2 * SUM_ERROR) + SUM_ERROR * total(pbar)
    losses += on * (1 + SUM_ERROR * len(d)) * -log_gap if on > 0.0 else 0.0
    exponent = -up(up(losses + up(radius)) / (mass * (1 - 2 * SUM_ERROR)))
    reached = math.exp(exponent) * (1 - SUM_ERROR) - math.exp(log_gap) * (1 + SUM_ERROR)
    return mass * (1 - 2 * SUM_ERROR) * reached


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(log_gap, d, pbar, mass, radius, p, work):
    """Bounds on the least p.d, from a gap and the row found."""
    high = repaired(p, pbar, d, radius, high_distance(p, pbar))
    # s pbar and the rest on the least entry: no further than m log(1 / s) from pbar.
    share = math.exp(-radius / (mass * (1 + 2 * SUM_ERROR))) * (1 + SUM_ERROR * (1 + min(radius, 1e3))) + 1e-300
    high = min(high, up(high_dot(pbar, d) * share))
    if np.isnan(log_gap):
        return (low_dot(pbar, d) if radius == 0.0 else 0.0), high
    return low_bound(log_gap, d, pbar, mass, radius, work), high

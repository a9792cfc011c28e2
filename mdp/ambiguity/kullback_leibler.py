r"""Balls in the Kullback-Leibler divergence from the nominal row.

    U = {p >= 0 : p.1 = m, sum_i p_i log(p_i / pbar_i) <= kappa},      m = pbar.1.

Nature tilts: p_b(i) proportional to pbar_i exp(-b z_i), and b >= 0 is the root of D(b) = kappa, where

    Z(b) = sum pbar_i exp(-b (z_i - min z)),   D(b) = -b E_b[z - min z] - m log(Z(b) / m),   D'(b) = b m Var_b(z).

Where kappa >= m log(m / pbar(argmin z)) all mass sits on the argmin. Every price l = 1/b > 0 gives the bound

    sigma >= m min z - l kappa - l m log(Z(1/l) / m).

With kappa = -log alpha, sigma is the entropic value at risk. O(n) an iteration, about eight of them (Iyengar 2005; Nilim and
El Ghaoui 2005; Hu and Hong 2013).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from .ambiguity_set import Ball
from .root import next_guess
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, defect, dot, down, low_dot, repaired, up


@dataclass(frozen=True)
class KL(Ball):
    """{p : sum p log(p / pbar) <= radius}; p << pbar, so that `support` makes no difference.

    radius: at least 0, in nats.
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 7
    dominated: ClassVar[bool] = True

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """sum row log(row / nominal) of two rows (n,)."""
        used = row > 0
        with np.errstate(divide="ignore"):
            return float((row[used] * np.log(row[used] / nominal[used])).sum())


@numba.njit(cache=True, nogil=True, error_model="numpy")
def tilt(b, d, pbar, mass, p):
    """p (n,) = the row tilted by b >= 0; (p.d, distance, -d(p.d)/db)."""
    weight, first, second = 0.0, 0.0, 0.0
    if b < 1.0:
        shortfall = 0.0
        for i in range(len(d)):
            lost = -math.expm1(-b * d[i])
            shortfall += pbar[i] * lost
            p[i] = pbar[i] * (1.0 - lost)
        weight = mass - shortfall
        log_ratio = math.log1p(-shortfall / mass)
    else:
        for i in range(len(d)):
            p[i] = pbar[i] * math.exp(-b * d[i])
            weight += p[i]
        log_ratio = math.log(weight / mass)
    scale = mass / weight
    for i in range(len(d)):
        p[i] *= scale
        first += p[i] * d[i]
    mean = first / mass
    for i in range(len(d)):
        second += p[i] * (d[i] - mean) ** 2
    return first, max(0.0, -b * first - mass * log_ratio), second


@numba.njit(cache=True, nogil=True, error_model="numpy")
def collapse(d, pbar, mass, p):
    """p (n,) = the nominal row on the entries where d = 0, brought to the whole mass; the nominal mass there."""
    kept = 0.0
    for i in range(len(d)):
        kept += pbar[i] if d[i] == 0.0 else 0.0
    for i in range(len(d)):
        p[i] = pbar[i] * (mass / kept) if d[i] == 0.0 else 0.0
    return kept


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, radius, p):
    """p (n,) = the worst row; (p.d, b), b infinite where all mass is on the least entry."""
    variance, mean = 0.0, dot(pbar, d) / mass
    for i in range(len(d)):
        variance += pbar[i] * (d[i] - mean) ** 2
    if radius == 0.0 or variance == 0.0:
        p[:] = pbar
        return mean * mass, 0.0
    kept = collapse(d, pbar, mass, p)
    if radius >= mass * math.log(mass / kept):
        return 0.0, np.inf
    x = 0.5 * math.log(2.0 * radius / variance)
    x = min(max(x, -700.0), 8.0)
    low, high, value = -np.inf, np.inf, 0.0
    for _ in range(200):
        b = math.exp(x)
        value, distance, spread = tilt(b, d, pbar, mass, p)
        if distance > radius:
            high = x
        else:
            low = x
        if abs(distance - radius) <= 8 * UNIT_ROUNDOFF * radius or x > 700.0:
            break
        following = next_guess(x, distance, b * b * spread, radius, low, high)
        if abs(following - x) <= 2 * UNIT_ROUNDOFF * max(1.0, abs(x)):
            break
        x = following
    return value, math.exp(x)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def log_partition(b, d, pbar, mass, work):
    """A number below -m log(sum pbar exp(-b d) / m), that is below min_p [b p.d + D(p)]."""
    if b < 1.0:
        for i in range(len(d)):
            work[i] = -math.expm1(-b * d[i])
        most = mass * (1 + 2 * SUM_ERROR)
        return -most * math.log1p(-low_dot(pbar, work) / most) * (1 - SUM_ERROR)
    # exp turns the relative error of its argument x, below 5u, into 5u x.
    for i in range(len(d)):
        x = b * d[i]
        work[i] = math.exp(-x) * (1 + 8 * UNIT_ROUNDOFF * (x + 1))
    least = mass * (1 - 2 * SUM_ERROR)
    gain = -least * math.log(dot(pbar, work) * (1 + 2 * SUM_ERROR) / least)
    return gain - SUM_ERROR * (abs(gain) + mass)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def high_distance(p, pbar):
    """A number above the distance of p, once its largest entry has taken up what its mass lacks."""
    k, off = defect(p, pbar)
    result = 0.0
    for i in range(len(p)):
        if pbar[i] == 0.0:
            continue
        if p[i] == 0.0:
            result += pbar[i]
            continue
        change = p[i] - pbar[i]
        x = change / pbar[i]
        log = math.log1p(x) if x > -0.5 else math.log(p[i] / pbar[i])
        # Terms p log(p / pbar) - p + pbar are nonnegative; their sum is the distance where the masses agree.
        error = 8 * UNIT_ROUNDOFF * (p[i] * abs(log) + abs(change) + (0.0 if x > -0.5 else p[i]))
        result += max(0.0, p[i] * log - change) + error
        if i == k:
            result += off * (abs(log) + 4.0)
    return result * (1 + len(p) * UNIT_ROUNDOFF) * (1 + SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(b, d, pbar, mass, radius, p, work):
    """Bounds on the least p.d, from a price 1 / b on the distance and the row found."""
    high = repaired(p, pbar, d, radius, high_distance(p, pbar))
    if b == 0.0:
        return (low_dot(pbar, d) if radius == 0.0 else 0.0), high
    if not b < np.inf:
        return 0.0, high
    return down((log_partition(b, d, pbar, mass, work) - up(radius)) / b), high

r"""Balls in the power divergences of Cressie and Read, of order k > 1.

    U = {p >= 0 : p.1 = m, sum_i pbar_i f(p_i / pbar_i) <= rho},    f(t) = (t^k - k t + k - 1) / (k (k - 1)),    m = pbar.1.

Order 2 is the chi-square ball of radius 2 rho; towards order 1 it becomes the Kullback-Leibler ball, and order 0 is Burg's.
The worst row is pbar_i (a - z_i)_+^q, rescaled, q = 1 / (k - 1), and the level a is the root of D(a) = rho. By Hoelder's
inequality with 1/k + 1/k' = 1, every level a gives

    sigma >= m a - (m + k (k - 1) rho)^{1/k} (sum_i pbar_i (a - z_i)_+^{k'})^{1/k'}.

O(n) an iteration, about ten of them (Cressie and Read 1984; Duchi and Namkoong 2019).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import Ball
from .kullback_leibler import collapse
from .root import next_guess
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, defect, dot, low_dot, repaired


@dataclass(frozen=True)
class CressieRead(Ball):
    """{p : sum pbar f(p / pbar) <= radius}; p << pbar, so that `support` makes no difference.

    radius: at least 0.
    order: greater than 1, at most 100.
    Raises ModelError when the radius is negative or the order is outside (1, 100].
    """

    order: float

    family: ClassVar[int] = 10
    dominated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.order <= 100:
            raise ModelError(f"order {self.order!r} is outside (1, 100]; order 1 is KL(radius) and order 0 is Burg(radius)")

    def parameters(self) -> np.ndarray:
        """(2,): radius and order."""
        return np.array([self.radius, float(self.order)])

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """sum nominal f(row / nominal) of two rows (n,)."""
        used, k = nominal > 0, self.order
        if row[~used].any():
            return np.inf
        ratio = row[used] / nominal[used]
        return float(nominal[used] @ (ratio**k - k * ratio + k - 1) / (k * (k - 1)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def excess(x, k):
    """f(1 + x), to full relative accuracy near x = 0."""
    if abs(x) * k < 1e-3:
        return 0.5 * x * x * (1.0 + (k - 2.0) * x / 3.0 * (1.0 + (k - 3.0) * x / 4.0 * (1.0 + (k - 4.0) * x / 5.0)))
    if x > -0.5:
        return (math.expm1(k * math.log1p(x)) - k * x) / (k * (k - 1.0))
    return ((1.0 + x) ** k - k * (1.0 + x) + k - 1.0) / (k * (k - 1.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def cut(level, d, pbar, mass, k, p):
    """p (n,) = the row pbar (level - d)_+^q brought to the whole mass; (p.d, distance, -d distance / d log level)."""
    q = 1.0 / (k - 1.0)
    shortfall = 0.0
    for i in range(len(d)):
        p[i] = math.expm1(q * math.log1p(-d[i] / level)) if d[i] < level else -1.0
        shortfall -= pbar[i] * p[i]
    lost = shortfall / mass
    weight = 1.0 - lost
    if lost > 0.5:
        weight = 0.0
        for i in range(len(d)):
            weight += pbar[i] * (1.0 + p[i]) / mass
    value, distance, full, flat = 0.0, 0.0, 0.0, 0.0
    for i in range(len(d)):
        if p[i] > -1.0:
            room = 1.0 - d[i] / level
            full += pbar[i] * (1.0 + p[i]) * room
            flat += pbar[i] * (1.0 + p[i]) / room
        distance += pbar[i] * excess(max(-1.0, (p[i] + lost) / weight), k)
        p[i] = pbar[i] * ((1.0 + p[i]) / weight)
        value += p[i] * d[i]
    power = mass + k * (k - 1.0) * distance
    slope = power * (flat / (weight * mass) - weight * mass / full) / (k - 1.0) ** 2
    return value, distance, slope


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, radius, k, p):
    """p (n,) = the worst row; (p.d, level), level 0 where all mass is on the least entry."""
    variance, mean = 0.0, dot(pbar, d) / mass
    for i in range(len(d)):
        variance += pbar[i] * (d[i] - mean) ** 2
    if radius == 0.0 or variance == 0.0:
        p[:] = pbar
        return mean * mass, np.inf
    kept = collapse(d, pbar, mass, p)
    if radius >= mass * math.expm1((k - 1.0) * math.log(mass / kept)) / (k * (k - 1.0)):
        return 0.0, 0.0
    x = 0.5 * math.log(2.0 * radius / variance) + math.log(k - 1.0)  # x = -log level
    x = min(max(x, -600.0), 1.0)
    low, high, value = -np.inf, np.inf, 0.0
    for _ in range(200):
        value, distance, slope = cut(math.exp(-x), d, pbar, mass, k, p)
        if distance > radius:
            high = x
        else:
            low = x
        if abs(distance - radius) <= 8 * UNIT_ROUNDOFF * radius or abs(x) > 650.0:
            break
        following = next_guess(x, distance, slope, radius, low, high)
        if abs(following - x) <= 2 * UNIT_ROUNDOFF * max(1.0, abs(x)):
            break
        x = following
    return value, math.exp(-x)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def low_bound(level, d, pbar, mass, radius, k, work):
    """A number below the least p.d, from any level."""
    conjugate = k / (k - 1.0)
    for i in range(len(d)):
        room = max(0.0, level - d[i]) / level + 8 * UNIT_ROUNDOFF
        work[i] = room**conjugate * (1 + (conjugate + 4) * 4 * UNIT_ROUNDOFF)
    most = mass * (1 + 2 * SUM_ERROR)
    outer = ((most + k * (k - 1.0) * radius) * (1 + SUM_ERROR)) ** (1.0 / k)
    inner = (dot(pbar, work) * (1 + 2 * SUM_ERROR)) ** (1.0 / conjugate)
    # The roundings of 1/k and 1/k' in the exponents move each factor by a relative 2u |log|; both logarithms are moderate.
    margin = 1 + SUM_ERROR * (2 + abs(math.log(outer)) + abs(math.log(inner)))
    return level * (mass * (1 - 2 * SUM_ERROR) - outer * inner * margin)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def high_distance(p, pbar, k):
    """A number above the distance of p, once its largest entry has taken up what its mass lacks."""
    at, off = defect(p, pbar)
    result = 0.0
    for i in range(len(p)):
        if pbar[i] == 0.0:
            continue
        x = (p[i] - pbar[i]) / pbar[i]
        term = excess(x, k)
        if abs(x) * k < 1e-3:
            error = abs(x * k) ** 4 * x * x + 64 * UNIT_ROUNDOFF * term
        else:
            error = (
                16
                * UNIT_ROUNDOFF
                * (k + 4.0)
                * ((1.0 + x) ** k * (1.0 + abs(math.log(max(1.0 + x, 1e-3)))) + 2 * k)
                / (k - 1.0)
            )
        result += pbar[i] * (max(0.0, term) + error)
    ratio = (p[at] + off) / pbar[at]
    result += off * (ratio ** (k - 1.0) + 1.0) / (k - 1.0) * (1 + SUM_ERROR * (k + 2))
    return result * (1 + len(p) * UNIT_ROUNDOFF) * (1 + SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(level, d, pbar, mass, radius, k, p, work):
    """Bounds on the least p.d, from a level and the row found."""
    high = repaired(p, pbar, d, radius, high_distance(p, pbar, k))
    if level == np.inf:
        return (low_dot(pbar, d) if radius == 0.0 else 0.0), high
    return (low_bound(level, d, pbar, mass, radius, k, work) if level > 0.0 else 0.0), high

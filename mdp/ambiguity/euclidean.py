r"""Balls in the Euclidean norm.

    U = {p >= 0 : p.1 = m, |p - pbar|_2 <= psi},      m = pbar.1.

The worst row is the projection of pbar - t z onto the simplex of mass m, for some t >= 0. While the entries I stay positive and
the others, of nominal mass B and sum of squares C, are empty,

    p_i = pbar_i - t (z_i - nu),   nu = mean_I z + B / (t |I|),   |p - pbar|^2 = t^2 sum_I (z_i - mean_I z)^2 + B^2 / |I| + C,

which gives t from psi at once: find I for t, then t for I, until I stays (Newton's method on a piecewise linear function of
t^2, kept in a bracket). Where psi reaches the projection of pbar on the face argmin z, the value is m min z. For every y <= z

    sigma >= pbar.y - psi |y - c 1|_2,

and y_i = min(z_i, nu + pbar_i / t) attains it. O(n) a step and a few steps.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from .ambiguity_set import Ball
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, defect, dot, down, low_dot, repaired, up


@dataclass(frozen=True)
class L2(Ball):
    """{p : |p - pbar|_2 <= radius}.

    radius: at least 0.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or no number.
    """

    family: ClassVar[int] = 8

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The Euclidean distance of two rows (n,)."""
        return float(np.linalg.norm(row - nominal))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def project(t, d, pbar, p):
    """p (n,) = projection of pbar - t d on the simplex of pbar's mass; (nu, next t squared as a line: slope, offset)."""
    n = len(d)
    for i in range(n):
        p[i] = 1.0
    while True:
        count, mean, lost = 0, 0.0, 0.0
        for i in range(n):
            if p[i] > 0.0:
                count += 1
                mean += d[i]
            else:
                lost += pbar[i]
        mean /= count
        shift = lost / count
        changed = False
        for i in range(n):
            if p[i] > 0.0 and pbar[i] - t * (d[i] - mean) + shift <= 0.0 and count > 1:
                p[i] = 0.0
                changed = True
        if not changed:
            break
    slope, offset = 0.0, lost * lost / count
    for i in range(n):
        if p[i] > 0.0:
            slope += (d[i] - mean) ** 2
            p[i] = max(0.0, pbar[i] - t * (d[i] - mean) + shift)
        else:
            offset += pbar[i] * pbar[i]
    return mean + shift / t, slope, offset


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(d, pbar, mass, radius, p):
    """p (n,) = a worst row; (p.d, t, nu), t infinite where all mass is on the least entries."""
    n = len(d)
    on, count, squares, top = 0.0, 0, 0.0, 0.0
    for i in range(n):
        top = max(top, d[i])
        if d[i] == 0.0:
            on += pbar[i]
            count += 1
        else:
            squares += pbar[i] * pbar[i]
    if radius == 0.0 or top == 0.0:
        p[:] = pbar
        return dot(pbar, d), 0.0, 0.0
    off = 0.0
    for i in range(n):
        off += pbar[i] if d[i] > 0.0 else 0.0
    if off * off / count + squares <= radius * radius:
        for i in range(n):
            p[i] = pbar[i] + off / count if d[i] == 0.0 else 0.0
        return 0.0, np.inf, 0.0
    mean, spread = 0.0, 0.0
    for i in range(n):
        mean += d[i] / n
    for i in range(n):
        spread += (d[i] - mean) ** 2
    t, low, high, nu = radius / math.sqrt(spread), 0.0, np.inf, 0.0
    for _ in range(200):
        nu, slope, offset = project(t, d, pbar, p)
        distance = t * t * slope + offset
        if distance > radius * radius:
            high = min(high, t)
        else:
            low = max(low, t)
        following = math.sqrt((radius * radius - offset) / slope) if slope > 0.0 and radius * radius >= offset else -1.0
        if abs(following - t) <= 4 * UNIT_ROUNDOFF * t:
            break
        if not low <= following <= high:
            following = 2.0 * t if high == np.inf else 0.5 * (low + high)
            if abs(following - t) <= 4 * UNIT_ROUNDOFF * t:
                break
        t = following
    return dot(p, d), t, nu


@numba.njit(cache=True, nogil=True, error_model="numpy")
def low_bound(t, nu, d, pbar, mass, radius, work):
    """A number below the least p.d, from y = min(d, nu + pbar / t)."""
    for i in range(len(d)):
        work[i] = max(0.0, min(d[i], nu + pbar[i] / t) * (1 - 8 * UNIT_ROUNDOFF))
    gain, centre = low_dot(pbar, work), 0.0
    for i in range(len(d)):
        centre += work[i] / len(d)
    square = 0.0
    for i in range(len(d)):
        square += (work[i] - centre) ** 2
    return down(gain - up(radius * math.sqrt(square * (1 + 2 * len(d) * UNIT_ROUNDOFF + SUM_ERROR))))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(t, nu, d, pbar, mass, radius, p, work):
    """Bounds on the least p.d, from t, nu and the row found."""
    _, off = defect(p, pbar)
    square = 0.0
    for i in range(len(d)):
        square += (p[i] - pbar[i]) ** 2
    distance = up(math.sqrt(square * (1 + 2 * len(d) * UNIT_ROUNDOFF + SUM_ERROR)) + off)
    high = repaired(p, pbar, d, radius, distance)
    if t == 0.0:
        return (low_dot(pbar, d) if radius == 0.0 else 0.0), high
    return (low_bound(t, nu, d, pbar, mass, radius, work) if t < np.inf else 0.0), high

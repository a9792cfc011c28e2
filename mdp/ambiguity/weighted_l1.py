r"""Balls in a weighted L1 norm.

    U = {p >= 0 : p.1 = m, sum_i w_i |p_i - pbar_i| <= psi},      m = pbar.1, w > 0.

With a price l >= 0 on the distance, a unit of mass arrives cheapest at nu(l) = min_i (z_i + l w_i), the lower envelope of n
lines, and leaves entry i when z_i - nu(l) > l w_i. For every l >= 0 and every number nu <= nu(l),

    sigma  >=  g(l) = -l psi + m nu + sum_i pbar_i min(z_i - nu, l w_i),

with equality at the maximiser. g is concave and piecewise linear with breakpoints at the vertices of the envelope and, for
each i, at the one root of z_i - nu(l) = l w_i. `walk` follows these from high prices to low: at each, one entry starts to
give its mass away (distance pbar_i (w_i + w_receiver)) or all that was given moves on to the next line of the envelope.
The distance spent and the value are the knots of the convex, decreasing curve (distance, least value), from which sigma at one
radius, and the s-rectangular problem, are read off. O(n log n).

The O(n log n) walk is derived here; the parametric idea and a homotopy of O(k n log n): Behzadian, Petrik and Ho, NeurIPS 2021.
"""

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from ..errors import ModelError
from .ambiguity_set import Ball, vector
from .heap import build, extract, sort
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, defect, dot, down, low_dot, repaired, up


@dataclass(frozen=True, eq=False)
class WeightedL1(Ball):
    """{p : sum_i weights_i |p_i - pbar_i| <= radius}.

    radius: at least 0.
    weights: (n,), positive.
    support: "nominal" (p is zero where the nominal row is) or "all".
    Raises ModelError when the radius is negative or a weight is not positive.
    """

    weights: np.ndarray

    family: ClassVar[int] = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "weights", vector("weights", self.weights))
        if not self.weights.min() > 0:
            i = int(self.weights.argmin())
            raise ModelError(f"weights: entry {i} is {self.weights[i]:g}; weights are positive")

    def entries(self, nominal: np.ndarray) -> np.ndarray:
        """(1, n): the weights. Raises ModelError when their number is not that of the nominal row (n,)."""
        if len(self.weights) != len(nominal):
            raise ModelError(f"there are {len(self.weights)} weights and {len(nominal)} successors; give one each")
        return self.weights[None, :]

    def distance(self, nominal: np.ndarray, row: np.ndarray) -> float:
        """The weighted L1 distance of two rows (n,)."""
        return float(self.weights @ np.abs(row - nominal))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def envelope(d, weight, line, corner, order):
    """The lower envelope of d_i + l w_i over l >= 0: line[k] is lowest on [corner[k], corner[k+1]]; number of lines."""
    sort(order, weight, -1.0)
    size = 0
    for place in range(len(d)):
        i = order[place]
        start = 0.0
        while size > 0:
            top = line[size - 1]
            if d[i] <= d[top]:
                size -= 1
                continue
            if weight[i] == weight[top]:
                start = -1.0
                break
            start = (d[i] - d[top]) / (weight[top] - weight[i])
            if start > corner[size - 1]:
                break
            size -= 1
            start = 0.0
        if start < 0.0:
            continue
        line[size], corner[size] = i, start if size > 0 else 0.0
        size += 1
    return size


@numba.njit(cache=True, nogil=True, error_model="numpy")
def walk(d, pbar, weight, radius, p, work, order, knots):
    """Walk the curve until the distance is `radius`: p (n,) = a worst row; (price at the end, number of knots passed).

    knots: (3, 2 n + 1), out, distances, values and prices of the segments that begin there, from (0, pbar.d) on; or (3, 0).
    Prices are exact where differences of values would not be. Uses two rows of work and of order.
    """
    n = len(d)
    corner, price = work[0], work[1]
    line, heap = order[1], order[0]
    lines = envelope(d, weight, line, corner, heap)
    for i in range(n):
        p[i] = pbar[i]
        low, high = 0, lines - 1
        while low < high:
            middle = (low + high + 1) // 2
            k = line[middle]
            if (d[i] - d[k]) - corner[middle] * (weight[i] + weight[k]) > 0.0:
                low = middle
            else:
                high = middle - 1
        k = line[low]
        price[i] = max(0.0, (d[i] - d[k]) / (weight[i] + weight[k]))
        heap[i] = i
    build(heap, n, price, -1.0)
    size, segment = n, lines - 1
    given, spent, last, count, record = 0.0, 0.0, np.inf, 1, knots.shape[1] > 0
    if record:
        knots[0, 0], knots[1, 0] = 0.0, dot(pbar, d)
    while spent < radius:
        giver = heap[0] if size > 0 else -1
        leave = price[giver] if size > 0 else 0.0
        if segment > 0 and corner[segment] >= leave:
            last = corner[segment]
            step = weight[line[segment - 1]] - weight[line[segment]]
            if spent + given * step >= radius:
                part = min((radius - spent) / step, given)
                p[line[segment]] += given - part
                p[line[segment - 1]] += part
                return last, count
            spent += given * step
            segment -= 1
            if record:
                knots[2, count - 1] = last
                knots[0, count], knots[1, count] = spent, max(0.0, knots[1, count - 1] - last * given * step)
                count += 1
            continue
        if leave <= 0.0:
            last = 0.0
            break
        last = leave
        extract(heap, size, price, -1.0)
        size -= 1
        step = weight[giver] + weight[line[segment]]
        if spent + pbar[giver] * step >= radius:
            part = min((radius - spent) / step, pbar[giver])
            p[giver] = pbar[giver] - part
            given += part
            break
        spent += pbar[giver] * step
        given += pbar[giver]
        p[giver] = 0.0
        if record:
            knots[2, count - 1] = last
            knots[0, count], knots[1, count] = spent, max(0.0, knots[1, count - 1] - last * pbar[giver] * step)
            count += 1
    p[line[segment]] += given
    return last, count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def trace(d, pbar, weight, radius, p, work, order):
    """p (n,) = a worst row at the radius; (p.d, price). Uses two rows of work and of order."""
    price, _ = walk(d, pbar, weight, radius, p, work, order, work[:, :0])
    return dot(p, d), price


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bounds(price, d, pbar, mass, weight, radius, p, work):
    """Bounds on the least p.d, from a price on the distance and the row found."""
    n = len(d)
    k, off = defect(p, pbar)
    for i in range(n):
        work[i] = abs(p[i] - pbar[i])
    distance = up(dot(work, weight) * (1 + 2 * SUM_ERROR) + weight[k] * off)
    high = repaired(p, pbar, d, radius, distance)
    if not price < np.inf:
        return low_dot(pbar, d) if radius == 0.0 else 0.0, high
    nu = np.inf
    for i in range(n):
        nu = min(nu, d[i] + price * weight[i])
    nu = max(0.0, nu * (1 - 8 * UNIT_ROUNDOFF))
    # min(d_i - nu, l w_i) is between -nu and d_i; adding nu first keeps every term nonnegative.
    for i in range(n):
        work[i] = min(d[i], nu + price * weight[i])
    return down(low_dot(pbar, work) - up(price * radius)), high

r"""Sums whose rounding is accounted for.

Every inner problem is solved in normal form. With floor = min z, span = max z - min z over the entries that may carry mass,

    d_j = (z_j - floor) / span in [0, 1],      min p.z = m floor + span min p.d,      m = sum of the nominal row,

so kernels meet numbers of one size, whatever the scale of z. Let u = 2^-53. As computed, d_j is within a factor 1 +- 3u of the
exact one and is zero or one exactly where that is. Sums of nonnegative terms are compensated (Kahan 1965): a relative error of
2u + O(n u^2). A compensated sum waits for four additions a term; longer ones are four sums side by side, whose own sum loses 2u
more. With the rounding of each product and of d_j that is less than 9u in all. `SUM_ERROR` = 16u bounds it for n < 2^40 and
leaves room for a few more operations; `down` and `up` widen by 8u.

Logarithms, exponentials and powers are taken to be within 4u of their value, relatively, as those of the usual C libraries are
(theirs are within 2u). Underflow is covered by TINY.
"""

import numba
import numpy as np

UNIT_ROUNDOFF = 2.0**-53
TINY = 2.0**-1000
SUM_ERROR = 16 * UNIT_ROUNDOFF
FUNCTION_ERROR = 4 * UNIT_ROUNDOFF
LONG = 32
"""Terms from which four sums side by side are faster than one."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def down(x):
    """Below x by a few units in the last place: below the exact result of the operations that gave x to within 7u."""
    return x - (abs(x) * (8 * UNIT_ROUNDOFF) + TINY)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def up(x):
    """Above x by a few units in the last place."""
    return x + (abs(x) * (8 * UNIT_ROUNDOFF) + TINY)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def total(p):
    """Sum of a nonnegative vector (n,), within a factor 1 +- SUM_ERROR."""
    n = len(p)
    a, b, c, d, lost_a, lost_b, lost_c, lost_d = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4 if n >= LONG else 0
    for i in range(0, whole, 4):
        w, x, y, z = p[i] - lost_a, p[i + 1] - lost_b, p[i + 2] - lost_c, p[i + 3] - lost_d
        next_a, next_b, next_c, next_d = a + w, b + x, c + y, d + z
        lost_a, lost_b, lost_c, lost_d = (next_a - a) - w, (next_b - b) - x, (next_c - c) - y, (next_d - d) - z
        a, b, c, d = next_a, next_b, next_c, next_d
    for i in range(whole, n):
        w = p[i] - lost_a
        next_a = a + w
        lost_a = (next_a - a) - w
        a = next_a
    return (a + b) + (c + d)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def dot(p, d):
    """p.d of nonnegative vectors (n,) in normal form, within a factor 1 +- SUM_ERROR."""
    n = len(p)
    a, b, c, e, lost_a, lost_b, lost_c, lost_e = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4 if n >= LONG else 0
    for i in range(0, whole, 4):
        w, x = p[i] * d[i] - lost_a, p[i + 1] * d[i + 1] - lost_b
        y, z = p[i + 2] * d[i + 2] - lost_c, p[i + 3] * d[i + 3] - lost_e
        next_a, next_b, next_c, next_e = a + w, b + x, c + y, e + z
        lost_a, lost_b, lost_c, lost_e = (next_a - a) - w, (next_b - b) - x, (next_c - c) - y, (next_e - e) - z
        a, b, c, e = next_a, next_b, next_c, next_e
    for i in range(whole, n):
        w = p[i] * d[i] - lost_a
        next_a = a + w
        lost_a = (next_a - a) - w
        a = next_a
    return (a + b) + (c + e)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def low_dot(p, d):
    """A number below p.d."""
    return dot(p, d) * (1 - 2 * SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def high_dot(p, d):
    """A number above p.d."""
    return dot(p, d) * (1 + 2 * SUM_ERROR) + TINY


@numba.njit(cache=True, nogil=True, error_model="numpy")
def normal_form(z, pbar, dominated, d):
    """d (n,) = z in normal form; (floor, span). With `dominated`, entries of nominal probability zero do not count: d = 1."""
    floor, ceiling = np.inf, -np.inf
    for i in range(len(z)):
        if not dominated or pbar[i] > 0.0:
            floor, ceiling = min(floor, z[i]), max(ceiling, z[i])
    span = ceiling - floor
    for i in range(len(z)):
        d[i] = min(max((z[i] - floor) / span, 0.0), 1.0) if span > 0.0 else 0.0
        if dominated and pbar[i] == 0.0:
            d[i] = 1.0
    return floor, span


@numba.njit(cache=True, nogil=True, error_model="numpy")
def widen(mass, floor, span, low, high):
    """Bounds on m floor + span x for low <= x <= high, where `mass` is the computed sum of the nominal row."""
    base = mass * floor
    lower, upper = base + span * low, base + span * high
    error = 2 * SUM_ERROR * (abs(base) + TINY)
    return (
        lower - (error + 8 * UNIT_ROUNDOFF * (abs(lower) + span * abs(low)) + TINY),
        upper + (error + 8 * UNIT_ROUNDOFF * (abs(upper) + span * abs(high)) + TINY),
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def defect(p, pbar):
    """(k, size): |sum pbar - sum p| <= size, and k is the largest entry of p, which can absorb the difference."""
    size = abs(total(pbar) - total(p)) + 2 * SUM_ERROR * (total(pbar) + total(p))
    return np.argmax(p), size * (1 + SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def repaired(p, pbar, d, radius, distance):
    """A number above the least p.d of a ball, from an almost feasible row p.

    Let q be p with its entry k brought to the nominal mass, and `distance` at least the convex distance of q from pbar. Then
    pbar + s (q - pbar) with s = min(1, radius / distance) lies in the ball.
    """
    k, size = defect(p, pbar)
    nominal, moved = high_dot(pbar, d), up(high_dot(p, d) + size * d[k])
    if distance <= radius:
        return min(nominal, moved)
    share = max(0.0, down(radius / distance))
    if not share >= 0.0:
        return nominal
    return min(nominal, up(up((1.0 - share) * nominal) + up(share * moved)))

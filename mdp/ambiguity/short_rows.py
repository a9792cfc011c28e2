r"""Inner problems of short rows, without scratch arrays, for the families that a greedy pass solves.

The same sets as in `total_variation`, `interval` and `contamination`, for rows of at most `SHORT` entries, read in place from
the model's arrays. With z_min the least entry, d_j = z_j - z_min and m = sum of the nominal row,

    sigma = m z_min + sum_j p_j d_j,

p greedy in the order of z, which insertion finds. Rounding, u = 2^-53: the sum m and its product lose n u m |z_min|; the sum
over p loses (n + 2) u m span; the mass that is left to move is a difference of at most 2n + 1 terms, each below m or, for balls
in the maximum norm, bounds off by u (pbar_j + psi), and what it loses is multiplied by the span: 5n u (m + 1) span. Together

    |computed - sigma|  <=  (8 n + 18) u max(m, 1) (|z_min| + span).
"""

import numba

from .rounding import TINY, UNIT_ROUNDOFF

SHORT = 24
GREEDY = 5
"""Families 0 (total variation), 1 (box), 2 (maximum norm), 3 (CVaR) and 4 (contamination) are solved here."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def short_row(family, number, z, n, probability, begin, entry, head, p, order):
    """(value, error): sigma within that error for the row of n entries at `begin`; p[:n] = the row found.

    number: the set's parameter. z, p: float64, order: int64, of n entries or more. entry: box bounds, lower at `head`, then
    upper.
    """
    mass = 0.0
    for i in range(n):
        worth, j = z[i], i
        while j > 0 and z[order[j - 1]] > worth:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
        mass += probability[begin + i]
    floor = z[order[0]]
    span = z[order[n - 1]] - floor
    if family == 0:
        moved = _take(number, n, probability, begin, p, order)
    elif family == 4:
        for i in range(n):
            p[i] = (1.0 - number) * probability[begin + i]
        moved = number * mass
    else:
        moved = _fill(family, number, mass, n, probability, begin, entry, head, p, order)
    p[order[0]] += moved
    value = 0.0
    for i in range(n):
        value += p[i] * (z[i] - floor)
    error = (8 * n + 18) * UNIT_ROUNDOFF * max(mass, 1.0) * (abs(floor) + span) + TINY
    return mass * floor + value, error


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _take(budget, n, probability, begin, p, order):
    """The nominal row less `budget` from the top; what was taken."""
    rest, moved = budget, 0.0
    for place in range(n - 1, -1, -1):
        i = order[place]
        here = probability[begin + i]
        taken = min(here, rest)
        p[i] = here - taken
        rest -= taken
        moved += taken
    return moved


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill(family, number, mass, n, probability, begin, entry, head, p, order):
    """The lower bounds, filled from the bottom up to `mass`; always 0, what is left for the least entry."""
    rest = mass
    for i in range(n):
        here = probability[begin + i]
        low = 0.0
        if family == 1:
            low = entry[head + i]
        elif family == 2:
            low = max(0.0, here - number)
        p[i] = low
        rest -= low
    for place in range(n):
        if rest <= 0.0:
            break
        i = order[place]
        here = probability[begin + i]
        if family == 1:
            high = entry[head + n + i]
        elif family == 2:
            high = here + number
        else:
            high = here / number
        room = min(high - p[i], rest)
        p[i] += room
        rest -= room
    return 0.0


@numba.njit(cache=True, nogil=True)
def is_short(family, n):
    """Whether `short_row` solves a row of n entries of this family."""
    return n <= SHORT and 0 <= family < GREEDY

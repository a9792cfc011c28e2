r"""Sweeps of the stock-augmented Bellman operator on a lattice of stocks, rounded down or up, floating point included.

For f(x) = p x where x >= 0, q x where x <= 0, of degree one,

    (B w)(s, c) = max_a E[ g w(s', (c + r)/g) ],        w(s, c) = f(c + terminal value), where s is terminal or nothing is left.

A function of the stock is held by its values A[1..m] at lattice points z_1..z_m and by two constants: q c + A[0] for c <=
z_left and p c + A[m+1] for c >= z_right. All value functions have slopes between lo = min(p, q) and hi = max(p, q), so between
neighbours z <= c <= z'

    down:  max(A + lo (c - z), A' - hi (z' - c))            up:  min(A + hi (c - z), A' - lo (z' - c)).

Baeuerle and Ott 2011; Avila Pires et al. 2025, arXiv 2501.13028.
"""

from __future__ import annotations

import numba
import numpy as np

_UNIT = 2.0**-52


@numba.njit(cache=True, nogil=True)
def _place(start, stop, lo, hi, discount, first, spacing, left, right, r, cell, rise, fall):
    """Where a reward r takes the stocks start..stop-1: those before i to the left tail, those from `end` on to the right one.

    Returns i and end. Between, z_k goes to a place `below` above the point cell[k]: rise = lo below, fall = hi (spacing -
    below). cell: uint32 (m,); rise, fall: (m,).
    """
    inverse, fine = 1.0 / discount, 1.0 / spacing
    z_left, z_right = (first + left) * spacing, (first + right) * spacing
    i, end = start, stop
    while i < stop and ((first + i) * spacing + r) * inverse <= z_left:
        i += 1
    while end > i and ((first + end - 1) * spacing + r) * inverse >= z_right:
        end -= 1
    for k in range(i, end):
        c = ((first + k) * spacing + r) * inverse
        at = min(max(int(c * fine - first), 0), len(cell) - 2)
        below = c - (first + at) * spacing
        cell[k] = at
        rise[k] = lo * below
        fall[k] = hi * (spacing - below)
    return i, end


@numba.njit(cache=True, nogil=True)
def _add(start, i, end, stop, up, positive, negative, discount, first, spacing, p, r, cell, rise, fall, row, inner):
    """inner[k] += p g w((z_k + r)/g), k in start..stop-1, w the function that the row (m + 2,) holds; see `_place`."""
    inverse, weight = 1.0 / discount, p * discount
    for k in range(start, i):
        inner[k] += weight * (negative * (((first + k) * spacing + r) * inverse) + row[0])
    for k in range(end, stop):
        inner[k] += weight * (positive * (((first + k) * spacing + r) * inverse) + row[-1])
    ones, twos = row[1:], row[2:]
    if up:
        for k in range(i, end):
            inner[k] += weight * min(ones[cell[k]] + rise[k], twos[cell[k]] - fall[k])
    else:
        for k in range(i, end):
            inner[k] += weight * max(ones[cell[k]] + rise[k], twos[cell[k]] - fall[k])


@numba.njit(cache=True, nogil=True)
def stock_sweep(
    begin, finish, improve, up, positive, negative, discount, first, spacing, left, right, ends, size,
    state_ptr, row_ptr, successor, probability, earned, terminal, worth, value, out, policy,
):  # fmt: skip
    """out = B value, both (n, m + 2), rounded; policy, of the same shape, its actions. The greatest and the least change.

    For the states begin..finish-1. improve: whether B is of all actions; otherwise it is of those that the policy holds.
    left, right: places of the next stage's tails. ends: whether nothing is left after this decision. size: the largest |value|,
    |reward| and |terminal value|. Rows of terminal states are left as they are.

    Every term is off by at most 16 roundings of g size[0] + steepest (6 (|z| + size[1]) + g (spacing + size[2])).
    """
    points = value.shape[1] - 2
    lo, hi = min(positive, negative), max(positive, negative)
    steepest = max(abs(positive), abs(negative))
    constant = discount * size[0] + steepest * (6.0 * size[1] + discount * (spacing + size[2]))
    least, most = 1e300, -1e300
    below, above = (hi, lo) if up else (lo, hi)
    held, error = np.empty(points + 2), np.zeros(points + 2)
    inner = held[1:]
    cell, rise, fall = np.empty(points, dtype=np.uint32), np.empty(points), np.empty(points)
    for k in range(points):
        error[k + 1] = 6.0 * steepest * abs((first + k) * spacing)
    for s in range(begin, finish):
        if terminal[s]:
            continue
        best, chosen, old = out[s], policy[s], value[s]
        for pair in range(state_ptr[s], state_ptr[s + 1]):
            action, fresh = pair - state_ptr[s], pair == state_ptr[s]
            one, two = 0, points + 2
            if not improve:
                while one < two and chosen[one] != action:
                    one += 1
                while two > one and chosen[two - 1] != action:
                    two -= 1
                if one == two:
                    continue
            start, stop = max(one - 1, 0), min(two - 1, points)
            mass, placed = 0.0, np.nan
            i, end = start, stop
            held[one:two] = 0.0
            held[0] = held[-1] = 0.0
            for e in range(row_ptr[pair], row_ptr[pair + 1]):
                p, r, j = probability[e], earned[e], successor[e]
                if p == 0.0:
                    continue
                mass += p
                if ends or terminal[j]:
                    held[0] += p * negative * (r + discount * worth[j])
                    held[-1] += p * positive * (r + discount * worth[j])
                    for k in range(start, stop):
                        after = (first + k) * spacing + r + discount * worth[j]
                        inner[k] += p * (positive if after >= 0.0 else negative) * after
                else:
                    row = value[j]
                    held[0] += p * (negative * r + discount * row[0])
                    held[-1] += p * (positive * r + discount * row[-1])
                    if r != placed:
                        i, end = _place(start, stop, below, above, discount, first, spacing, left, right, r, cell, rise, fall)
                        placed = r
                    _add(
                        start,
                        i,
                        end,
                        stop,
                        up,
                        positive,
                        negative,
                        discount,
                        first,
                        spacing,
                        p,
                        r,
                        cell,
                        rise,
                        fall,
                        row,
                        inner,
                    )
            unit = (row_ptr[pair + 1] - row_ptr[pair] + 16) * _UNIT
            side = unit if up else -unit
            if improve:
                for k in range(points + 2):
                    total = held[k] / mass + side * (constant + error[k])
                    better = fresh or total > best[k]
                    best[k] = total if better else best[k]
                    chosen[k] = action if better else chosen[k]
            else:
                for k in range(one, two):
                    total = held[k] / mass + side * (constant + error[k])
                    best[k] = total if chosen[k] == action else best[k]
        for k in range(points + 2):
            change = best[k] - old[k]
            least, most = min(least, change), max(most, change)
    return most, least

r"""Sweeps of the stock-augmented Bellman operator on a lattice of stocks, rounded down or up, floating point included.

For f(x) = p x where x >= 0, q x where x <= 0, of degree one,

    (B w)(s, c) = max_a E[ g w(s', (c + r)/g) ],        w(s, c) = f(c + terminal value), where s is terminal or nothing is left.

A function of the stock is held by its values A[1..m] at lattice points z_1..z_m and by two constants: q c + A[0] for c <=
z_left and p c + A[m+1] for c >= z_right. All value functions have slopes between lo = min(p, q) and hi = max(p, q), so between
neighbours z <= c <= z'

    down:  max(A + lo (c - z), A' - hi (z' - c))            up:  min(A + hi (c - z), A' - lo (z' - c)).

A sweep is of all actions, or of a policy's alone: modified policy iteration takes several of those to one of the others.

Baeuerle and Ott 2011; Avila Pires et al. 2025, arXiv 2501.13028; Puterman and Shin 1978.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .prefetch import LINE, prefetch

_UNIT = 2.0**-52


class Stocks(NamedTuple):
    """What a sweep is told of the utility, the lattice and the side.

    up: whether to round up. positive, negative: p and q. first, spacing: the lattice points are (first + k) spacing, k < m.
    left, right: places k of the next stage's tails. ends: whether nothing is left after this decision.
    """

    up: bool
    positive: float
    negative: float
    discount: float
    first: float
    spacing: float
    left: float
    right: float
    ends: bool


@numba.njit(cache=True, nogil=True)
def _place(on, start, stop, r, cell, rise, fall):
    """Where a reward r takes the stocks start..stop-1: those before i to the left tail, those from `end` on to the right one.

    Returns i and end. Between, z_k goes to a place `below` above the point cell[k], off which the two lines of the module's
    head are rise[k] above A and fall[k] below A'. cell: uint32 (m,); rise, fall: (m,).
    """
    inverse, fine = 1.0 / on.discount, 1.0 / on.spacing
    z_left, z_right = (on.first + on.left) * on.spacing, (on.first + on.right) * on.spacing
    least, most = min(on.positive, on.negative), max(on.positive, on.negative)
    lo, hi = (most, least) if on.up else (least, most)
    i, end = start, stop
    while i < stop and ((on.first + i) * on.spacing + r) * inverse <= z_left:
        i += 1
    while end > i and ((on.first + end - 1) * on.spacing + r) * inverse >= z_right:
        end -= 1
    for k in range(i, end):
        c = ((on.first + k) * on.spacing + r) * inverse
        at = min(max(int(c * fine - on.first), 0), len(cell) - 2)
        below = c - (on.first + at) * on.spacing
        cell[k] = at
        rise[k] = lo * below
        fall[k] = hi * (on.spacing - below)
    return i, end


@numba.njit(cache=True, nogil=True)
def _add(on, start, i, end, stop, p, r, cell, rise, fall, row, inner):
    """inner[k] += p g w((z_k + r)/g), k in start..stop-1, w the function that the row (m + 2,) holds; see `_place`."""
    inverse, weight = 1.0 / on.discount, p * on.discount
    for k in range(start, i):
        inner[k] += weight * (on.negative * (((on.first + k) * on.spacing + r) * inverse) + row[0])
    for k in range(end, stop):
        inner[k] += weight * (on.positive * (((on.first + k) * on.spacing + r) * inverse) + row[-1])
    ones, twos = row[1:], row[2:]
    if on.up:
        for k in range(i, end):
            inner[k] += weight * min(ones[cell[k]] + rise[k], twos[cell[k]] - fall[k])
    else:
        for k in range(i, end):
            inner[k] += weight * max(ones[cell[k]] + rise[k], twos[cell[k]] - fall[k])


@numba.njit(cache=True, nogil=True)
def _add_end(on, start, stop, p, r, worth, inner):
    """inner[k] += p f(z_k + r + g worth), k in start..stop-1: nothing but the terminal value `worth` comes after r."""
    for k in range(start, stop):
        after = (on.first + k) * on.spacing + r + on.discount * worth
        inner[k] += p * (on.positive if after >= 0.0 else on.negative) * after


@numba.njit(cache=True, nogil=True)
def _expect(on, one, two, first, last, successor, probability, earned, terminal, worth, value, cell, rise, fall, held):
    """held[k] = sum of p g w(s', (c + r)/g), transitions first..last-1, columns one..two-1 and both tails; the sum of p."""
    start, stop = max(one - 1, 0), min(two - 1, len(held) - 2)
    inner = held[1:]
    held[one:two] = 0.0
    held[0] = held[-1] = 0.0
    mass, placed = 0.0, np.nan
    i, end = start, stop
    for e in range(first, last):
        if e + 1 < len(successor):
            soon = np.int64(successor[e + 1]) * value.shape[1]
            for line in range(0, value.shape[1], LINE):
                prefetch(value, soon + line)  # pyright: ignore[reportCallIssue]
        p, r, j = probability[e], earned[e], successor[e]
        if p == 0.0:
            continue
        mass += p
        if on.ends or terminal[j]:
            held[0] += p * on.negative * (r + on.discount * worth[j])
            held[-1] += p * on.positive * (r + on.discount * worth[j])
            _add_end(on, start, stop, p, r, worth[j], inner)
        else:
            row = value[j]
            held[0] += p * (on.negative * r + on.discount * row[0])
            held[-1] += p * (on.positive * r + on.discount * row[-1])
            if r != placed:
                i, end = _place(on, start, stop, r, cell, rise, fall)
                placed = r
            _add(on, start, i, end, stop, p, r, cell, rise, fall, row, inner)
    return mass


@numba.njit(cache=True, nogil=True)
def stock_sweep(
    begin, finish, improve, on, size,
    state_ptr, row_ptr, successor, probability, earned, terminal, worth, value, out, policy,
):  # fmt: skip
    """out = B value, both (n, m + 2), rounded; policy, of the same shape, its actions. The greatest and the least change.

    For the states begin..finish-1. improve: whether B is of all actions; otherwise it is of those that the policy holds.
    on: Stocks. size: the largest |value|, |reward| and |terminal value|. Rows of terminal states are left as they are.

    Every term is off by at most 16 roundings of g size[0] + steepest (6 (|z| + size[1]) + g (spacing + size[2])).
    """
    columns = value.shape[1]
    steepest = max(abs(on.positive), abs(on.negative))
    constant = on.discount * size[0] + steepest * (6.0 * size[1] + on.discount * (on.spacing + size[2]))
    least, most = 1e300, -1e300
    held, error = np.empty(columns), np.zeros(columns)
    cell, rise, fall = np.empty(columns - 2, dtype=np.uint32), np.empty(columns - 2), np.empty(columns - 2)
    for k in range(columns - 2):
        error[k + 1] = 6.0 * steepest * abs((on.first + k) * on.spacing)
    for s in range(begin, finish):
        if terminal[s]:
            continue
        best, chosen, old = out[s], policy[s], value[s]
        for pair in range(state_ptr[s], state_ptr[s + 1]):
            action, fresh = pair - state_ptr[s], pair == state_ptr[s]
            one, two = 0, columns
            if not improve:
                while one < two and chosen[one] != action:
                    one += 1
                while two > one and chosen[two - 1] != action:
                    two -= 1
                if one == two:
                    continue
            first, last = row_ptr[pair], row_ptr[pair + 1]
            mass = _expect(
                on, one, two, first, last, successor, probability, earned, terminal, worth, value, cell, rise, fall, held
            )
            unit = (last - first + 16) * _UNIT
            side = unit if on.up else -unit
            for k in range(one, two):
                total = held[k] / mass + side * (constant + error[k])
                take = chosen[k] == action if not improve else fresh or total > best[k]
                best[k] = total if take else best[k]
                chosen[k] = action if take else chosen[k]
        for k in range(columns):
            change = best[k] - old[k]
            least, most = min(least, change), max(most, change)
    return most, least

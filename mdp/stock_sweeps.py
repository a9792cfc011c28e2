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
def _add(up, lo, hi, positive, negative, discount, first, spacing, left, right, p, r, row, held):
    """held[1..m] += p g w((z + r)/g) at all lattice points z, w the function that the row (m + 2,) holds."""
    points = len(row) - 2
    inverse, fine = 1.0 / discount, 1.0 / spacing
    weight = p * discount
    z_left, z_right = (first + left) * spacing, (first + right) * spacing
    i = 0
    while i < points:
        c = ((first + i) * spacing + r) * inverse
        if c > z_left:
            break
        held[i + 1] += weight * (negative * c + row[0])
        i += 1
    stop = points
    while stop > i:
        c = ((first + stop - 1) * spacing + r) * inverse
        if c < z_right:
            break
        held[stop] += weight * (positive * c + row[points + 1])
        stop -= 1
    for k in range(i, stop):
        c = ((first + k) * spacing + r) * inverse
        cell = min(max(int(c * fine - first), 0), points - 2)
        below = c - (first + cell) * spacing
        one, two = row[cell + 1], row[cell + 2]
        if up:
            held[k + 1] += weight * min(one + hi * below, two - lo * (spacing - below))
        else:
            held[k + 1] += weight * max(one + lo * below, two - hi * (spacing - below))


@numba.njit(cache=True, nogil=True)
def stock_sweep(
    start, stop, up, positive, negative, discount, first, spacing, left, right, ends, size,
    state_ptr, row_ptr, successor, probability, earned, terminal, worth, value, out, policy,
):  # fmt: skip
    """out = B value, both (n, m + 2), rounded; policy, of the same shape, its actions. The greatest and the least change.

    For the states start..stop-1. left, right: places of the next stage's tails. ends: whether nothing is left after this
    decision. size: the largest |value|, |reward| and |terminal value|. Rows of terminal states are left as they are.

    Every term is off by at most 16 roundings of g size[0] + steepest (6 (|z| + size[1]) + g (spacing + size[2])).
    """
    points = value.shape[1] - 2
    lo, hi = min(positive, negative), max(positive, negative)
    steepest = max(abs(positive), abs(negative))
    constant = discount * size[0] + steepest * (6.0 * size[1] + discount * (spacing + size[2]))
    least, most = 1e300, -1e300
    held = np.empty(points + 2)
    for s in range(start, stop):
        if terminal[s]:
            continue
        for pair in range(state_ptr[s], state_ptr[s + 1]):
            mass = 0.0
            held[:] = 0.0
            for e in range(row_ptr[pair], row_ptr[pair + 1]):
                p, r, j = probability[e], earned[e], successor[e]
                if p == 0.0:
                    continue
                mass += p
                if ends or terminal[j]:
                    held[0] += p * negative * (r + discount * worth[j])
                    held[points + 1] += p * positive * (r + discount * worth[j])
                    for k in range(points):
                        after = (first + k) * spacing + r + discount * worth[j]
                        held[k + 1] += p * (positive if after >= 0.0 else negative) * after
                else:
                    held[0] += p * (negative * r + discount * value[j, 0])
                    held[points + 1] += p * (positive * r + discount * value[j, points + 1])
                    _add(up, lo, hi, positive, negative, discount, first, spacing, left, right, p, r, value[j], held)
            unit = (row_ptr[pair + 1] - row_ptr[pair] + 16) * _UNIT
            action, fresh = pair - state_ptr[s], pair == state_ptr[s]
            for k in range(points + 2):
                inner = 0 < k < points + 1
                error = unit * (constant + (6.0 * steepest * abs((first + k - 1) * spacing) if inner else 0.0))
                total = held[k] / mass + error if up else held[k] / mass - error
                if fresh or total > out[s, k]:
                    out[s, k] = total
                    policy[s, k] = action
        for k in range(points + 2):
            change = out[s, k] - value[s, k]
            least, most = min(least, change), max(most, change)
    return most, least

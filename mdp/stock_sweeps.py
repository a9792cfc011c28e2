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

_UNIT = 2.0**-52


@numba.njit(cache=True, inline="always")
def _held(up, positive, negative, first, spacing, left, right, row, x):
    """The held function at x."""
    points = len(row) - 2
    if x <= (first + left) * spacing:
        return negative * x + row[0]
    if x >= (first + right) * spacing:
        return positive * x + row[points + 1]
    lo, hi = min(positive, negative), max(positive, negative)
    cell = min(max(int(x / spacing - first), 0), points - 2)
    below = x - (first + cell) * spacing
    above = spacing - below
    if up:
        return min(row[cell + 1] + hi * below, row[cell + 2] - lo * above)
    return max(row[cell + 1] + lo * below, row[cell + 2] - hi * above)


@numba.njit(cache=True, nogil=True)
def stock_sweep(
    up, positive, negative, discount, first, spacing, left, right, ends,
    state_ptr, row_ptr, successor, probability, earned, terminal, worth, value, out, policy,
):  # fmt: skip
    """out = B value, both (n, m + 2), rounded; policy, of the same shape, its actions. The greatest and the least change.

    left, right: places of the next stage's tails. ends: whether nothing is left after this decision. Rows of terminal states
    are left as they are.
    """
    points = value.shape[1] - 2
    steepest = max(abs(positive), abs(negative))
    least, most = 1e300, -1e300
    for s in range(len(terminal)):
        if terminal[s]:
            continue
        for column in range(points + 2):
            x = (first + column - 1) * spacing
            best, chosen = -1e300, 0
            for pair in range(state_ptr[s], state_ptr[s + 1]):
                total, mass, size = 0.0, 0.0, 0.0
                for e in range(row_ptr[pair], row_ptr[pair + 1]):
                    p, r, j = probability[e], earned[e], successor[e]
                    if p == 0.0:
                        continue
                    last = ends or terminal[j]
                    if column == 0 or column == points + 1:
                        slope = negative if column == 0 else positive
                        after = slope * worth[j] if last else value[j, column]
                        worth_now = slope * r + discount * after
                        size += p * (steepest * abs(r) + discount * abs(after))
                    elif last:
                        after = x + r + discount * worth[j]
                        worth_now = (positive if after >= 0.0 else negative) * after
                        size += p * steepest * (abs(x) + abs(r) + discount * abs(worth[j]))
                    else:
                        c = (x + r) / discount
                        after = _held(up, positive, negative, first, spacing, left, right, value[j], c)
                        worth_now = discount * after
                        reach = 3.0 * discount * abs(c) + abs(x) + abs(r) + discount * spacing
                        size += p * (discount * abs(after) + steepest * reach)
                    total += p * worth_now
                    mass += p
                error = (row_ptr[pair + 1] - row_ptr[pair] + 16) * _UNIT * size
                total = (total + error) / mass if up else (total - error) / mass
                if total > best:
                    best, chosen = total, pair - state_ptr[s]
            change = best - value[s, column]
            least, most = min(least, change), max(most, change)
            out[s, column] = best
            policy[s, column] = chosen
    return most, least

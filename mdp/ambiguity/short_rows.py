r"""Inner problems of short rows for the families that a greedy pass solves: the hot loop of sparse robust models.

The same sets as in `total_variation`, `interval` and `contamination`, for rows of at most `SHORT` entries, read in place from
the model's arrays. One flat loop over the rows: a call for each row would cost five times what a row of five entries does.
With z_min the least entry, d_j = z_j - z_min and m = sum of the nominal row,

    sigma = m z_min + sum_j p_j d_j,

p greedy in the order of z, which insertion finds. Rounding, u = 2^-53: the sum m and its product lose n u m |z_min|; the sum
over p loses (n + 2) u m span; the mass that is left to move is a difference of at most 2n + 1 terms, each below m or, for balls
in the maximum norm, bounds off by u (pbar_j + psi), and what it loses is multiplied by the span: 5n u (m + 1) span. Together

    |computed - sigma|  <=  (8 n + 18) u max(m, 1) (|z_min| + span)

for the floats z that the pass is given. Each of these is within 3u (|r_kj| + g |v_j|) of the exact one, and sigma moves by no
more than the row's mass, below 1 + 1e-8, times the largest such error; the last sum loses two units more.
"""

import numba

from .rounding import TINY, UNIT_ROUNDOFF

SHORT = 64
GREEDY = 5
"""Families 0 (total variation), 1 (box), 2 (maximum norm), 3 (CVaR) and 4 (contamination) are solved here."""
SLACK = 4 * UNIT_ROUNDOFF


@numba.njit(cache=True, nogil=True)
def is_short(family, n):
    """Whether `short_rows` solves a row of n entries of this family."""
    return n <= SHORT and 0 <= family < GREEDY


@numba.njit(cache=True, nogil=True, error_model="numpy")
def short_rows(
    start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
    entry_ptr, side, value, worth, error, head, rows, scratch, order,
):  # fmt: skip
    """worth[i] = q of pairs[i], i in [start, stop), where that row is short; the others are left alone.

    Where `error` is not empty, error[i] bounds |worth[i] - q|; where `rows` is not empty, nature's row is put at head[i].
    scratch: float64 (2, SHORT); order: int64 (SHORT,). The other arguments are those of `banach.mdp.robust_sweeps`.
    """
    z, p = scratch[0], scratch[1]
    for k in range(start, stop):
        pair = pairs[k]
        begin, n = row_ptr[pair], row_ptr[pair + 1] - row_ptr[pair]
        which = 0 if len(family) == 1 else pair
        kind = family[which]
        if n > SHORT or not 0 <= kind < GREEDY:
            continue
        number = parameter[which, 0] if parameter.shape[1] else 0.0
        mass, most = 0.0, 0.0
        for i in range(n):
            ahead = discount * value[successor[begin + i]]
            size = abs(ahead)
            if len(transition_reward):
                size += abs(transition_reward[begin + i])
                ahead += transition_reward[begin + i]
            most = max(most, size)
            ahead *= side
            j = i
            while j > 0 and z[j - 1] > ahead:
                z[j] = z[j - 1]
                order[j] = order[j - 1]
                j -= 1
            z[j] = ahead
            order[j] = i
            mass += probability[begin + i]
        floor = z[0]
        span = z[n - 1] - floor
        found = 0.0
        if kind == 0:  # the nominal row less the budget, from the top
            rest, moved = number, 0.0
            for place in range(n - 1, -1, -1):
                here = probability[begin + order[place]]
                taken = min(here, rest)
                rest -= taken
                moved += taken
                p[place] = here - taken
                found += p[place] * (z[place] - floor)
            p[0] += moved
        elif kind == 4:
            for place in range(n):
                p[place] = (1.0 - number) * probability[begin + order[place]]
                found += p[place] * (z[place] - floor)
            p[0] += number * mass
        else:  # the lower bounds, filled from the bottom up to the mass
            rest = mass
            for place in range(n):
                low = 0.0
                if kind == 1:
                    low = entry[entry_ptr[pair] + order[place]]
                elif kind == 2:
                    low = max(0.0, probability[begin + order[place]] - number)
                p[place] = low
                rest -= low
            for place in range(n):
                here = probability[begin + order[place]]
                if kind == 1:
                    high = entry[entry_ptr[pair] + n + order[place]]
                elif kind == 2:
                    high = here + number
                else:
                    high = here / number
                room = max(0.0, min(high - p[place], rest))
                rest -= room
                p[place] += room
                found += p[place] * (z[place] - floor)
        found += mass * floor
        worth[k] = reward[pair] + side * found
        if len(error):
            off = (8 * n + 18) * UNIT_ROUNDOFF * max(mass, 1.0) * (abs(floor) + span) + TINY + most * SLACK
            error[k] = off + SLACK * (abs(reward[pair]) + abs(found) + off) + TINY
        if len(rows):
            for place in range(n):
                rows[head[k] + order[place]] = p[place]

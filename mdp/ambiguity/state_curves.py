r"""The s-rectangular inner problem where every action's curve is piecewise linear: L1, total variation, weighted L1.

xi_a(u) is the least distance at which action a is worth no more than u. Its knots come from `weighted_l1.walk`, and

    value = min { u : sum_a xi_a(u) <= kappa,  u >= max_a min z_a }

lies between two neighbouring knots of all actions, found by bisection, where the sum is linear: exact, O(N log N) for N
successors in all. The decision maker plays a in proportion to -d xi_a / du there (Ho, Petrik and Wiesemann, JMLR 2021).

For any nonnegative numbers e_a, the distance that a unit of value costs,

    value >= [ sum_a min_p (e_a p.z_a + D(p, pbar_a)) - kappa ] / sum_a e_a.
"""

import numba
import numpy as np

from .rounding import SUM_ERROR, down, high_dot, low_dot, normal_form, total, up, widen
from .weighted_l1 import bounds, walk


@numba.njit(cache=True, nogil=True, error_model="numpy")
def least_distance(u, knots, begin, count):
    """xi(u) from knots (2, k) begin .. begin + count - 1: infinite below the last value."""
    if u >= knots[1, begin]:
        return 0.0
    low, high = 0, count - 1
    if u < knots[1, begin + high]:
        return np.inf
    while high - low > 1:
        middle = (low + high) // 2
        if knots[1, begin + middle] > u:
            low = middle
        else:
            high = middle
    low, high = begin + low, begin + high
    fall = knots[1, low] - knots[1, high]
    return knots[0, high] if fall <= 0.0 else knots[0, low] + (knots[1, low] - u) / fall * (knots[0, high] - knots[0, low])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sum(u, knots, row_ptr, counts):
    result = 0.0
    for a in range(len(counts)):
        result += least_distance(u, knots, 2 * row_ptr[a] + a, counts[a])
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw_curves(z, pbar, weight, row_ptr, d, p, work, order, knots, counts, frame):
    """The knots, in units of z, of every action. frame (4, A): floor, span, mass, least value of each; d (N,): normal forms."""
    for a in range(len(row_ptr) - 1):
        s, e = row_ptr[a], row_ptr[a + 1]
        floor, span = normal_form(z[s:e], pbar[s:e], False, d[s:e])
        mass = total(pbar[s:e])
        begin = 2 * s + a
        _, counts[a] = walk(
            d[s:e], pbar[s:e], weight[s:e], np.inf, p[s:e], work[:, s:e], order[:, s:e], knots[:, begin : 2 * e + a + 1]
        )
        for k in range(begin, begin + counts[a]):
            knots[1, k] = mass * floor + span * knots[1, k]
        knots[1, begin + counts[a] - 1] = mass * floor
        frame[0, a], frame[1, a], frame[2, a], frame[3, a] = floor, span, mass, mass * floor


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(z, pbar, weight, row_ptr, radius, d, p, work, order, knots, counts, frame, decision, place):
    """The value of a state of A actions whose rows lie one after another, N entries in all.

    Out: p (N,) worst rows, decision (A,). Scratch: d (N,), work (2, N), order (2, N), knots (2, 2 N + A), counts (A,),
    frame (4, A), place (2 N + A,). Returns (lower, value, upper).
    """
    n_actions = len(row_ptr) - 1
    draw_curves(z, pbar, weight, row_ptr, d, p, work, order, knots, counts, frame)
    top, bottom = -np.inf, -np.inf
    for a in range(n_actions):
        top, bottom = max(top, knots[1, 2 * row_ptr[a] + a]), max(bottom, frame[3, a])
        decision[a] = 0.0
    value = top
    if _sum(bottom, knots, row_ptr, counts) <= radius:
        value = bottom
    elif radius > 0.0:
        value = _between(knots, row_ptr, counts, top, bottom, radius, place, decision)
    return _finish(value, z, pbar, weight, row_ptr, radius, d, p, work, order, knots, counts, frame, decision)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _between(knots, row_ptr, counts, top, bottom, radius, place, decision):
    """The u in (bottom, top] where the distances sum to the radius; decision = what a unit of value costs in distance."""
    size = 0
    for a in range(len(counts)):
        for k in range(2 * row_ptr[a] + a, 2 * row_ptr[a] + a + counts[a]):
            place[size] = k
            size += 1
    sort_places(place[:size], knots[1])
    low, high = 0, size - 1  # knots below: too far; above: near enough
    while high - low > 1:
        middle = (low + high) // 2
        u = knots[1, place[middle]]
        if u <= bottom or (u < top and _sum(u, knots, row_ptr, counts) > radius):
            low = middle
        else:
            high = middle
    below, above = max(bottom, knots[1, place[low]]), knots[1, place[high]]
    far, near = _sum(below, knots, row_ptr, counts), _sum(above, knots, row_ptr, counts)
    norm = 0.0
    for a in range(len(counts)):
        begin = 2 * row_ptr[a] + a
        decision[a] = least_distance(below, knots, begin, counts[a]) - least_distance(above, knots, begin, counts[a])
        decision[a] = max(0.0, decision[a]) / (above - below)
        norm += decision[a]
    if not norm > 0.0:
        return above
    return max(below, above - (radius - near) * ((above - below) / (far - near)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def sort_places(place, key):
    """Sort indices by increasing key, in place."""
    from_end = len(place)
    for start in range(from_end // 2 - 1, -1, -1):
        _sink(place, from_end, start, key)
    for size in range(from_end - 1, 0, -1):
        place[0], place[size] = place[size], place[0]
        _sink(place, size, 0, key)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sink(place, size, start, key):
    while 2 * start + 1 < size:
        child = 2 * start + 1
        if child + 1 < size and key[place[child + 1]] > key[place[child]]:
            child += 1
        if key[place[child]] <= key[place[start]]:
            return
        place[start], place[child] = place[child], place[start]
        start = child


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _finish(value, z, pbar, weight, row_ptr, radius, d, p, work, order, knots, counts, frame, decision):
    """Rows at the value, and the bracket; decision holds prices on entry and probabilities on return."""
    spent = 0.0
    for a in range(len(counts)):
        s, e = row_ptr[a], row_ptr[a + 1]
        share = least_distance(value, knots, 2 * s + a, counts[a])
        walk(d[s:e], pbar[s:e], weight[s:e], share, p[s:e], work[:, s:e], order[:, s:e], knots[:, :0])
        spent += _high_distance(p[s:e], pbar[s:e], weight[s:e], work[0, s:e])
    shrink = 1.0 if spent <= radius else max(0.0, down(radius / up(spent * (1 + SUM_ERROR))))
    upper, lower, safest, gain_low, gain_high, prices = -np.inf, -np.inf, 0, 0.0, 0.0, 0.0
    for a in range(len(counts)):
        s, e = row_ptr[a], row_ptr[a + 1]
        floor, span, mass = frame[0, a], frame[1, a], frame[2, a]
        high = up(up((1.0 - shrink) * high_dot(pbar[s:e], d[s:e])) + up(shrink * _high_value(p[s:e], pbar[s:e], d[s:e])))
        upper = max(upper, widen(mass, floor, span, 0.0, high)[1])
        low = 0.0
        if radius == 0.0:
            low = low_dot(pbar[s:e], d[s:e])
        alone = widen(mass, floor, span, low, low)[0]
        if alone > lower:
            lower, safest = alone, a
        if decision[a] > 0.0:
            tilt = decision[a] * span
            low = bounds(1.0 / tilt, d[s:e], pbar[s:e], mass, weight[s:e], 0.0, p[s:e], work[0, s:e])[0] if tilt > 0.0 else 0.0
            at = widen(mass, floor, span, max(0.0, low * (1 - SUM_ERROR)), max(0.0, low))
            gain_low += decision[a] * at[0]
            gain_high += decision[a] * abs(at[0])
            prices += decision[a]
    error = (len(counts) + 8) * SUM_ERROR
    least = gain_low - error * gain_high - up(radius)
    mixed = down(least / (prices * (1 + error) if least > 0.0 else prices * (1 - error))) if prices > 0.0 else -np.inf
    if mixed > lower:
        lower = mixed
        for a in range(len(counts)):
            decision[a] /= prices
    else:  # prices cannot be resolved, or one action is as good as any mixture
        for a in range(len(counts)):
            decision[a] = 1.0 if a == safest else 0.0
    return lower, min(max(value, lower), upper), upper


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _high_value(p, pbar, d):
    off = abs(total(pbar) - total(p)) + 2 * SUM_ERROR * (total(pbar) + total(p))
    return up(high_dot(p, d) + off)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _high_distance(p, pbar, weight, work):
    k = np.argmax(p)
    off = abs(total(pbar) - total(p)) + 2 * SUM_ERROR * (total(pbar) + total(p))
    for i in range(len(p)):
        work[i] = abs(p[i] - pbar[i])
    return up(high_dot(work, weight) + weight[k] * off * (1 + SUM_ERROR))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def evaluate(decision, z, pbar, weight, row_ptr, radius, d, p, work, order, knots, counts, frame, price, place):
    """min sum_a decision_a p_a.z_a over the shared budget: all segments of all curves, the steepest first.

    decision (A,); p (N,) out: worst rows; price (2 N + A,) more scratch, the rest as in `solve`. Returns the value.
    """
    n_actions = len(row_ptr) - 1
    draw_curves(z, pbar, weight, row_ptr, d, p, work, order, knots, counts, frame)
    size, value = 0, 0.0
    for a in range(n_actions):
        begin = 2 * row_ptr[a] + a
        value += decision[a] * knots[1, begin]
        frame[3, a] = 0.0
        for k in range(begin, begin + counts[a] - 1):
            run = knots[0, k + 1] - knots[0, k]
            fall = decision[a] * (knots[1, k] - knots[1, k + 1])
            if run > 0.0 and fall > 0.0:
                price[k] = -fall / run
                place[size] = k
                size += 1
    sort_places(place[:size], price)
    rest = radius
    for i in range(size):
        k, a = place[i], 0
        while a + 1 < n_actions and k >= 2 * row_ptr[a + 1] + a + 1:
            a += 1
        step = min(rest, knots[0, k + 1] - knots[0, k])
        value += price[k] * step
        frame[3, a] += step
        rest -= step
        if rest <= 0.0:
            break
    for a in range(n_actions):
        s, e = row_ptr[a], row_ptr[a + 1]
        walk(d[s:e], pbar[s:e], weight[s:e], frame[3, a], p[s:e], work[:, s:e], order[:, s:e], knots[:, :0])
    return value

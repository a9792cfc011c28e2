r"""The s-rectangular inner problem where every action's curve is piecewise linear: L1, total variation, weighted L1.

xi_a(u) is the least distance at which action a is worth no more than u, reward included. Its knots come, in total variation,
from one sort: mass leaves the largest entries first, a unit of distance each; with weights from `weighted_l1.walk`.

    value = min { u : sum_a xi_a(u) <= kappa,  u >= max_a (r_a + min z_a) }.

The sum is convex, decreasing and piecewise linear, so that Newton's method from the left ends at the root after finitely many
steps; as u grows every action's place among its knots moves one way only. O(N log N) for N successors in all, O(N) where the
rows of a state share one order. The decision maker plays a in proportion to -d xi_a / du (Ho, Petrik and Wiesemann, JMLR 2021).

A given decision d is evaluated greedily: the segments of all curves at d_a times their slopes, the steepest first. A unit of
distance costs what the last of them gains.
"""

import numba
import numpy as np

from .descending import descend
from .heap import build, settle
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, high_dot, low_dot, normal_form, total, up, widen
from .state_bracket import BASE, FLOOR, LOW, MASS, PRICE, SIZE, SPAN, SPENT, TOP, conclude, copy, draw_in, shrunk
from .weighted_l1 import walk


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _transport(d, pbar, base, span, order, knots):
    """Knots (3, n + 1) of total variation; their number. Distances are summed from the top, values from the bottom."""
    count, spent, value = 0, 0.0, 0.0
    while count < len(d) and d[order[count]] > 0.0:
        knots[0, count], knots[2, count] = spent, 1.0 / (span * d[order[count]])
        spent += pbar[order[count]]
        count += 1
    knots[0, count], knots[1, count] = spent, base
    for k in range(count - 1, -1, -1):
        value += pbar[order[k]] * d[order[k]]
        knots[1, k] = base + span * value
    return count + 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _compress(knots, begin, count):
    """Of knots at one distance, which differ by less than floats tell, keep the lowest; their number."""
    last = begin
    for k in range(begin + 1, begin + count):
        if knots[0, k] > knots[0, last]:
            last += 1
            knots[0, last] = knots[0, k]
        knots[1, last], knots[2, last] = knots[1, k], knots[2, k]
    return last - begin + 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw(uniform, z, pbar, weight, reward, row_ptr, d, p, work, order, knots, counts, frame):
    """The knots (3, 2 N + A) of every action from 2 row_ptr[a] + a on, and the frame; d: normal forms.

    A knot is a distance, the worth there, and the price of a unit of worth, in distance, from there to the next knot.

    uniform: total variation, for which `order` (2, N) is left with the entries of each row, the largest first.
    """
    for a in range(len(row_ptr) - 1):
        s, e = row_ptr[a], row_ptr[a + 1]
        floor, span = normal_form(z[s:e], pbar[s:e], False, d[s:e])
        mass = total(pbar[s:e])
        base, begin = reward[a] + mass * floor, 2 * s + a
        if uniform:
            begun = a > 0 and s - row_ptr[a - 1] == e - s
            for i in range(e - s if begun else 0):
                order[0, s + i] = order[0, row_ptr[a - 1] + i]
            descend(d[s:e], order[0, s:e], order[1, s:e], begun)
            counts[a] = _transport(d[s:e], pbar[s:e], base, span, order[0, s:e], knots[:, begin : 2 * e + a + 1])
        else:
            _, counts[a] = walk(
                d[s:e], pbar[s:e], weight[s:e], np.inf, p[s:e], work[:, s:e], order[:, s:e], knots[:, begin : 2 * e + a + 1]
            )
            for k in range(begin, begin + counts[a]):
                knots[1, k] = base + span * knots[1, k]
                knots[2, k] = 1.0 / (span * knots[2, k])
            knots[1, begin + counts[a] - 1] = base
        counts[a] = _compress(knots, begin, counts[a])
        frame[BASE, a], frame[SPAN, a], frame[MASS, a], frame[FLOOR, a] = base, span, mass, floor
        frame[TOP, a] = knots[1, begin]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _dear(a, weight, row_ptr, frame):
    """A price at which nature leaves the row of action a alone."""
    least = np.inf
    for i in range(row_ptr[a], row_ptr[a + 1]):
        least = min(least, weight[i])
    return frame[SPAN, a] / (2.0 * least)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def level(radius, weight, row_ptr, knots, counts, frame, place, decision):
    """(value, price): the state's value, its decision (A,), the price of a unit of distance; SPENT holds the distances."""
    lowest, highest = np.argmax(frame[BASE]), np.argmax(frame[TOP])
    bottom, top, steep = frame[BASE, lowest], frame[TOP, highest], 0.0
    for a in range(len(counts)):
        place[a] = counts[a] - 1
        decision[a] = 0.0
    u = top if radius == 0.0 else bottom
    while True:
        spent, slope = _spend(u, row_ptr, knots, frame, place)
        if spent <= radius * (1 + 8 * UNIT_ROUNDOFF):
            break
        steep = slope
        for a in range(len(counts)):
            decision[a] = frame[PRICE, a]
        following = min(u + (spent - radius) / slope, top)
        if not following > u:
            break
        u = following
    if 0.0 < steep < np.inf:
        for a in range(len(counts)):
            decision[a] /= steep
        return u, 1.0 / steep
    decision[:] = 0.0
    if u == top and u > bottom:
        decision[highest] = 1.0
        return u, _dear(highest, weight, row_ptr, frame)
    decision[lowest] = 1.0  # the budget reaches all that nature wants
    return u, 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spend(u, row_ptr, knots, frame, place):
    """Push every action worth more down to u, at or above the last such u; (sum of distances, sum of prices)."""
    spent, slope = 0.0, 0.0
    for a in range(len(place)):
        begin = 2 * row_ptr[a] + a
        if knots[1, begin] <= u:
            frame[SPENT, a] = frame[PRICE, a] = 0.0
            continue
        k = place[a]
        while knots[1, begin + k] <= u:
            k -= 1  # to the last knot above u
        place[a] = k
        price = knots[2, begin + k]
        frame[SPENT, a], frame[PRICE, a] = knots[0, begin + k] + (knots[1, begin + k] - u) * price, price
        spent += frame[SPENT, a]
        slope += price
    return spent, slope


@numba.njit(cache=True, nogil=True, error_model="numpy")
def share_out(radius, weight, row_ptr, knots, counts, frame, heap, place, decision):
    """(value, price): a given decision's least worth, the price of a unit of distance; SPENT holds the distances."""
    value, size, price, norm = 0.0, 0, 0.0, 0.0
    for a in range(len(counts)):
        norm += decision[a]
        value += decision[a] * frame[TOP, a]
        frame[SPENT, a] = 0.0
        place[a] = 2 * row_ptr[a] + a
        _steepen(a, row_ptr, knots, counts, frame, place, decision)
        if frame[PRICE, a] > 0.0:
            heap[size] = a
            size += 1
            price = max(price, decision[a] * _dear(a, weight, row_ptr, frame))
    if radius == 0.0 or size == 0:
        return value / norm, price
    build(heap, size, frame[PRICE], -1.0)
    rest = radius
    while frame[PRICE, heap[0]] > 0.0:
        a = heap[0]
        k, price = place[a], frame[PRICE, a]
        step = knots[0, k + 1] - knots[0, k]
        if step >= rest:
            frame[SPENT, a] = knots[0, k] + rest
            return (value - price * rest) / norm, price
        value -= price * step
        rest -= step
        frame[SPENT, a] = knots[0, k + 1]
        place[a] = k + 1
        _steepen(a, row_ptr, knots, counts, frame, place, decision)
        settle(heap, size, frame[PRICE], -1.0)
    value = 0.0
    for a in range(len(counts)):
        value += decision[a] * (frame[BASE, a] if frame[SPENT, a] > 0.0 else frame[TOP, a])
    return value / norm, 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _steepen(a, row_ptr, knots, counts, frame, place, decision):
    """What the segment of action a gains a unit of distance, zero at the end of its curve."""
    frame[PRICE, a] = 0.0
    if place[a] < 2 * row_ptr[a] + a + counts[a] - 1:
        frame[PRICE, a] = decision[a] / knots[2, place[a]]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def take(share, d, pbar, order, p):
    """p (n,) = the nominal row with `share` of its mass moved from the largest entries to the least."""
    copy(pbar, p)
    rest, receiver = share, order[len(d) - 1]
    for place in range(len(d) - 1):
        i = order[place]
        if rest <= 0.0 or d[i] == 0.0:
            break
        moved = min(rest, p[i])
        p[i] -= moved
        p[receiver] += moved
        rest -= moved


@numba.njit(cache=True, nogil=True, error_model="numpy")
def prove(uniform, given, radius, price, weight, reward, row_ptr, pbar, d, p, work, order, knots, frame, decision):
    """(price, lower, upper) and the rows p (N,) at the distances SPENT, which become the shares of the budget."""
    n_actions = len(row_ptr) - 1
    for a in range(n_actions):
        s, e = row_ptr[a], row_ptr[a + 1]
        if uniform:
            take(frame[SPENT, a], d[s:e], pbar[s:e], order[0, s:e], p[s:e])
        else:
            walk(d[s:e], pbar[s:e], weight[s:e], frame[SPENT, a], p[s:e], work[:, s:e], order[:, s:e], knots[:, :0])
        frame[SPENT, a] = _high_distance(p[s:e], pbar[s:e], weight[s:e], work[0, s:e]) if frame[SPENT, a] > 0.0 else 0.0
        if frame[SPENT, a] == 0.0:
            copy(pbar[s:e], p[s:e])
    part = shrunk(radius, frame)
    for a in range(n_actions):
        s, e = row_ptr[a], row_ptr[a + 1]
        draw_in(a, part, reward[a], d[s:e], pbar[s:e], p[s:e], frame)
        if decision[a] > 0.0:
            scale = price / (decision[a] * frame[SPAN, a]) if frame[SPAN, a] > 0.0 else 0.0
            low = _tilted_low(scale, d[s:e], pbar[s:e], weight[s:e], work[0, s:e])
            at = widen(frame[MASS, a], frame[FLOOR, a], frame[SPAN, a], low, low)[0]
            frame[LOW, a] = decision[a] * (reward[a] + at)
            frame[SIZE, a] = decision[a] * (abs(reward[a]) + abs(at))
    return conclude(given, radius, price, reward, decision, frame)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tilted_low(price, d, pbar, weight, work):
    """A number below min_p (p.d + price D)."""
    if price == 0.0:
        return 0.0
    nu = np.inf
    for i in range(len(d)):
        nu = min(nu, d[i] + price * weight[i])
    nu *= 1 - 8 * UNIT_ROUNDOFF
    for i in range(len(d)):
        work[i] = min(d[i], nu + price * weight[i])
    return low_dot(pbar, work) * (1 - SUM_ERROR)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _high_distance(p, pbar, weight, work):
    k = np.argmax(p)
    off = abs(total(pbar) - total(p)) + 2 * SUM_ERROR * (total(pbar) + total(p))
    for i in range(len(p)):
        work[i] = abs(p[i] - pbar[i])
    return up(high_dot(work, weight) + weight[k] * off * (1 + SUM_ERROR))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def answer(
    uniform, given, proved, radius, z, pbar, weight, reward, row_ptr, d, p, work, order, knots, counts, place, frame, decision
):  # fmt: skip
    """(value, price, lower, upper) of a state of A actions whose rows lie one after another, N entries in all.

    given: evaluate the decision (A,), otherwise find it. proved: find the bracket and the rows p (N,) too; the shares of the
    budget are left in frame[SPENT]. Scratch: d (N,), work (2, N), order (2, N), knots (3, 2 N + A), counts (A,), place (2, A),
    frame (11, A).
    """
    draw(uniform, z, pbar, weight, reward, row_ptr, d, p, work, order, knots, counts, frame)
    if given:
        value, price = share_out(radius, weight, row_ptr, knots, counts, frame, place[0], place[1], decision)
    else:
        value, price = level(radius, weight, row_ptr, knots, counts, frame, place[0], decision)
    lower, upper = -np.inf, np.inf
    if proved:
        price, lower, upper = prove(
            uniform, given, radius, price, weight, reward, row_ptr, pbar, d, p, work, order, knots, frame, decision
        )
        value = min(max(value, lower), upper)
    return value, price, lower, upper

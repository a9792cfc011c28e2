r"""Total variation where all rows of a model list the same successors: one order of the value vector for all states.

The problem of `state_curves`, for a sweep that needs values and decisions but no proof. With d = (z - min z) / span in
decreasing order, every action's curve starts at its nominal worth and falls by span d_k a unit of mass moved, so that nature's
price of a unit of worth is 1 / (span d_k): nothing has to be drawn beyond what the budget reaches.

    u_0 = max_a (worth of action a if the whole budget is spent on it)  <=  value,

and from there Newton's method on sum_a xi_a(u) = kappa climbs to the value, each action's place among its entries with it.
O(n log n) once a sweep; a state costs one product of A rows with d and the entries moved.

Ho, Petrik and Wiesemann, JMLR 22(275), 2021 (bisection on the knots of all actions).
"""

import numba
import numpy as np

from .descending import descend
from .rounding import UNIT_ROUNDOFF


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shared_states(
    start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, parameter, value, out, decision
):  # fmt: skip
    """out = T value on states [start, stop), decision (n_pairs,) its weights; least and greatest change.

    parameter: radii in total variation, (n_pairs, 1) or (1, 1). Every row has the successors of the first one, in its order.
    """
    n = row_ptr[1] - row_ptr[0]
    z, d, order, spare = np.empty(n), np.empty(n), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    floor, ceiling, many = np.inf, -np.inf, 1
    for i in range(n):
        z[i] = discount * value[successor[i]]
        floor, ceiling = min(floor, z[i]), max(ceiling, z[i])
    span = ceiling - floor
    for i in range(n):
        d[i] = (z[i] - floor) / span if span > 0.0 else 0.0
    descend(d, order, spare, False)
    falling = d[order] * span
    reach = 0  # entries above the least
    while reach < n and falling[reach] > 0.0:
        reach += 1
    for state in range(start, stop):
        many = max(many, state_ptr[state + 1] - state_ptr[state])
    frame, place = np.empty((5, many)), np.empty(many, dtype=np.int64)
    least, greatest = np.inf, -np.inf
    for state in range(start, stop):
        first, last = state_ptr[state], state_ptr[state + 1]
        if first == last:
            found = terminal_value[state]
        else:
            for k in range(last - first):
                row = probability[row_ptr[first + k] : row_ptr[first + k] + n]
                mass, nominal = _product(row, d)
                frame[0, k] = reward[first + k] + mass * floor
                frame[1, k] = frame[0, k] + span * nominal
            radius = parameter[0 if len(parameter) == 1 else first, 0]
            rows = probability[row_ptr[first] : row_ptr[last]]
            found = _level(radius, rows, order, falling, reach, frame[:, : last - first], place, decision[first:last])
        change = found - value[state]
        least, greatest = min(least, change), max(greatest, change)
        out[state] = found
    return least, greatest


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def _product(row, d):
    """(sum of the row, row.d), in any order."""
    mass, result = 0.0, 0.0
    for i in range(len(d)):
        mass += row[i]
        result += row[i] * d[i]
    return mass, result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _level(radius, rows, order, falling, reach, frame, place, decision):
    """The value of a state, and its decision (A,). frame (5, A): least worth, nominal worth, then scratch."""
    base, top, at, spent, price = frame[0], frame[1], frame[2], frame[3], frame[4]
    n = len(order)
    chosen, highest = np.argmax(base), np.argmax(top)
    u = base[chosen]
    decision[:] = 0.0
    if radius == 0.0:
        decision[highest] = 1.0
        return top[highest]
    for a in range(len(base)):  # down each curve until the budget is spent, or the action is out of the question
        k, at[a], spent[a] = 0, top[a], 0.0
        while k < reach and at[a] > u:
            here = rows[a * n + order[k]]
            if spent[a] + here >= radius:
                end = at[a] - falling[k] * (radius - spent[a])
                if end > u:
                    u, chosen = end, a
                break
            spent[a] += here
            at[a] -= falling[k] * here
            k += 1
        place[a] = k
    steep = 0.0
    while True:
        total, slope = 0.0, 0.0
        for a in range(len(base)):
            price[a] = 0.0
            if top[a] <= u:
                continue
            k = place[a]
            while k > 0 and (at[a] <= u or k >= reach):
                k -= 1
                here = rows[a * n + order[k]]
                at[a] += falling[k] * here
                spent[a] -= here
            if k == 0:
                at[a], spent[a] = top[a], 0.0
            place[a] = k
            price[a] = 1.0 / falling[k]
            total += max(0.0, spent[a]) + (at[a] - u) * price[a]
            slope += price[a]
        if not total > radius * (1 + 8 * UNIT_ROUNDOFF):
            break
        steep = slope
        for a in range(len(base)):
            decision[a] = price[a]
        following = min(u + (total - radius) / slope, top[highest])
        if not following > u:
            break
        u = following
    if steep > 0.0:
        for a in range(len(base)):
            decision[a] /= steep
    else:
        decision[chosen] = 1.0
    return u

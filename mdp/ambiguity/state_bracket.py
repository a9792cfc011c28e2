r"""What proves the value of a state whose actions share a budget: a price from below, shares of the budget from above.

For every decision d >= 0, price l >= 0 and shares kappa_a >= 0 with sum_a kappa_a <= kappa,

    [ sum_a min_p (d_a (r_a + p.z_a) + l D(p, pbar_a)) - l kappa ] / sum_a d_a
        <=  min { sum_a d_a (r_a + p_a.z_a) : p in U } / sum_a d_a  <=  max_a (r_a + min { p.z_a : D(p, pbar_a) <= kappa_a }),

the left side for weak duality, the right because such rows are in U. Both ends are monotone in z and move a constant by the
mass of the rows, as the operator does, so that a price and shares found at one vector prove inductive vectors near it.

`frame` (11, A) holds what the kernels know of each action, a row a quantity:

    BASE    r_a + m min z, the least worth          SPENT   distance, the share in the end
    SPAN    max z - min z                           PRICE   -d xi_a / du, what a unit of worth costs nature
    MASS    m, sum of the nominal row               LOW     lower bound of min_p (d_a (r_a + p.z) + l D)
    FLOOR   min z                                   SIZE    sum of the sizes of its terms
    TOP     worth of the nominal row                HIGH    upper bound of r_a + p.z for the row found
    PLACE   where the search stands
"""

import numba
import numpy as np

from .rounding import SUM_ERROR, TINY, UNIT_ROUNDOFF, down, high_dot, total, up, widen

BASE, SPAN, MASS, FLOOR, TOP, PLACE, SPENT, PRICE, LOW, SIZE, HIGH = range(11)
FRAME = 11


@numba.njit(cache=True, nogil=True, error_model="numpy")
def copy(source, target):
    """target (n,) = source (n,); a loop, which compiles faster than an assignment to a slice."""
    for i in range(len(source)):
        target[i] = source[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shrunk(radius, frame):
    """The part of the way from the nominal rows to rows at the distances SPENT that fits the budget, in [0, 1]."""
    n = frame.shape[1]
    room = radius * (1 - 2 * (n + 32) * UNIT_ROUNDOFF) - 8 * n * TINY
    spent = 0.0
    for a in range(n):
        spent += frame[SPENT, a]
    if spent == 0.0 or spent <= room:
        return 1.0
    part = down(room / up(spent))
    return part if part > 0.0 else 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw_in(a, part, reward, d, pbar, p, frame):
    """Draw p (n,) towards the nominal row; HIGH and the share of action a, whose distance is at most SPENT."""
    floor, span, mass = frame[FLOOR, a], frame[SPAN, a], frame[MASS, a]
    off = abs(total(pbar) - total(p)) + 2 * SUM_ERROR * (total(pbar) + total(p))  # the largest entry takes up what is lacking
    moved = up(high_dot(p, d) + off)
    if part < 1.0:
        moved = up(up((1.0 - part) * high_dot(pbar, d)) + up(part * moved))
        frame[SPENT, a] = up(part * frame[SPENT, a]) if part * frame[SPENT, a] > 0.0 else 0.0
        for i in range(len(d)):
            p[i] = pbar[i] + part * (p[i] - pbar[i])
    frame[HIGH, a] = up(reward + widen(mass, floor, span, 0.0, moved)[1])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def conclude(given, radius, price, reward, decision, frame):
    """(price, lower, upper): of the given decision's worth, or lower of the decision's and upper of the state's.

    Prices may be beyond what floats resolve: where the least outcomes prove more, the price is zero, and a decision that is not
    given is the action whose least outcome is best.
    """
    gain, size, norm, high, most, mixed = 0.0, 0.0, 0.0, -np.inf, 0.0, 0.0
    worst, sizes, best, chosen = 0.0, 0.0, -np.inf, 0
    for a in range(len(decision)):
        high = max(high, frame[HIGH, a])
        floor = widen(frame[MASS, a], frame[FLOOR, a], 0.0, 0.0, 0.0)[0]
        if down(reward[a] + floor) > best:
            best, chosen = down(reward[a] + floor), a
        if decision[a] > 0.0:
            norm += decision[a]
            gain += frame[LOW, a]
            size += frame[SIZE, a]
            mixed += decision[a] * frame[HIGH, a]
            most += decision[a] * abs(frame[HIGH, a])
            worst += decision[a] * (reward[a] + floor)
            sizes += decision[a] * (abs(reward[a]) + abs(floor))
    error = (len(decision) + 8) * SUM_ERROR
    lower = _over(gain - error * size - (up(price * radius) if price > 0.0 else 0.0), norm, error)
    least = _over(worst - error * sizes, norm, error)
    if given:
        high = -_over(-mixed - error * most, norm, error)
        if least > lower:
            price, lower = 0.0, least
    elif best > lower:
        price, lower = 0.0, best
        for a in range(len(decision)):
            decision[a] = 1.0 if a == chosen else 0.0
    return price, lower, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _over(total, norm, error):
    """A number below total / norm, where the norm is known to within a factor 1 +- error."""
    return down(total / (norm * (1 + error) if total > 0.0 else norm * (1 - error)))

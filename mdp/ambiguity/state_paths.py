r"""The s-rectangular inner problem where nature's path is smooth: Kullback-Leibler, chi-square, Burg.

Each family traces a path of rows, in a parameter x that starts at the nominal row and ends on the least entry:

    KL          p ~ pbar exp(-b d),      b = e^x
    chi-square  p ~ pbar (a - d)_+,      a = e^-x
    Burg        p ~ pbar / (d + g),      g = e^-x

Along it the value falls, the distance grows, and `price` = -d distance / d value is what a unit of value costs nature. The
state's value u solves sum_a xi_a(u) = kappa with xi_a(u) the distance where action a is worth u; sum xi_a is convex, with minus
the sum of the prices for its slope, and the decision is proportional to the prices. A given decision is evaluated by
price_a = d_a / l for the one l that spends the budget. Newton's method in brackets, some ten steps of some five each: O(N) a
step for N successors in all (Ho, Petrik and Wiesemann, NeurIPS 2022, derive the projections; the common path is ours).
"""

import math

import numba
import numpy as np

from . import burg, chi_square, kullback_leibler
from .kullback_leibler import collapse
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, dot, down, high_dot, low_dot, normal_form, total, up
from .state_bracket import BASE, FLOOR, LOW, MASS, PLACE, PRICE, SIZE, SPAN, SPENT, TOP, conclude, copy, draw_in, shrunk

KL, CHI_SQUARE, BURG = 7, 9, 11
END = 600.0
"""x at which paths stop; what lies beyond matters for Burg alone."""
FAR = 100.0
"""x beyond which a first guess is worth less than none."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def point(family, x, d, pbar, mass, p):
    """p (n,) = the row of KL or Burg at x; (value, distance, d distance / dx, price, d log price / dx)."""
    if family == KL:
        b = math.exp(x)
        value, distance, spread = kullback_leibler.tilt(b, d, pbar, mass, p)
        return value, distance, b * b * spread, b, 1.0
    gap = math.exp(-x)
    value, distance, slope, price = burg.bend(gap, d, pbar, mass, p)
    curl, weight = 0.0, 0.0
    for i in range(len(d)):
        kept = 1.0 / (1.0 + d[i] / gap)
        curl += pbar[i] * kept * (1.0 - kept)
        weight += pbar[i] * kept
    return value, distance, slope, price, 1.0 - curl / weight


@numba.njit(cache=True, nogil=True, error_model="numpy")
def last_point(family, d, pbar, mass, p):
    """p (n,) = the end of the path, the least value of a row of finite distance or a row close to it; (value, distance)."""
    if family == BURG:
        value, distance, _slope, _price, _curl = point(family, END, d, pbar, mass, p)
        return value, distance
    kept = collapse(d, pbar, mass, p)
    return 0.0, mass * math.log(mass / kept) if family == KL else mass * (mass / kept - 1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _beyond(share, d, pbar, mass, value, distance, p):
    """Burg's path past its end: what is off the least entries shrinks by `share`; (distance, price)."""
    on, off, count = 0.0, 0.0, 0.0
    for i in range(len(d)):
        if d[i] == 0.0:
            on += pbar[i]
            count += p[i]
        else:
            off += pbar[i]
    moved = mass - count
    grown = mass - share * moved
    receiver = np.argmin(d)
    for i in range(len(d)):
        if d[i] > 0.0:
            p[i] = max(p[i] * share, burg.LEAST) if pbar[i] > 0.0 else 0.0
        elif on > 0.0:
            p[i] = grown * (pbar[i] / on)
    if on == 0.0:
        p[receiver] = grown
        return distance - off * math.log(share), off / share / value
    return distance - off * math.log(share) - on * math.log(grown / count), (off / share - on * moved / grown) / value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def push(family, target, x, d, pbar, mass, p):
    """p (n,) = the nearest row worth `target`, below the nominal value, from a first guess x; (x, distance, price)."""
    value, distance = last_point(family, d, pbar, mass, p)
    if target <= value:
        if family != BURG or not target > 0.0:
            return END, distance if target == value else np.inf, np.inf
        distance, price = _beyond(target / value, d, pbar, mass, value, distance, p)
        return END, distance, price
    if family == CHI_SQUARE:
        value, distance, _rate, price, level = chi_square.pull(target, False, d, pbar, mass, p)
        return -math.log(level), distance, price
    low, high = -np.inf, END
    distance, price = 0.0, 0.0
    if x > FAR:
        x = -1.0  # the path is flat there: Newton's steps would lead nowhere
    for _ in range(200):
        value, distance, slope, price, _curl = point(family, x, d, pbar, mass, p)
        if value < target:
            high = x
        else:
            low = x
        if abs(value - target) <= 2 * UNIT_ROUNDOFF * target:
            break
        following = x + (value - target) * price / slope
        if low == -np.inf:
            following = max(following, x - 4.0)
        if not low < following < high:
            following = 0.5 * (max(low, x - 8.0) + min(high, x + 8.0))
        if abs(following - x) <= 2 * UNIT_ROUNDOFF * max(1.0, abs(x)):
            break
        x = following
    return x, distance, price


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw(family, z, pbar, reward, row_ptr, d, frame):
    """The frame of every action; d (N,): normal forms."""
    for a in range(len(row_ptr) - 1):
        s, e = row_ptr[a], row_ptr[a + 1]
        floor, span = normal_form(z[s:e], pbar[s:e], family != BURG, d[s:e])
        mass = total(pbar[s:e])
        frame[BASE, a], frame[SPAN, a], frame[MASS, a], frame[FLOOR, a] = reward[a] + mass * floor, span, mass, floor
        frame[TOP, a] = frame[BASE, a] + span * dot(pbar[s:e], d[s:e])
        frame[PLACE, a], frame[PRICE, a], frame[SPENT, a] = -1.0, 0.0, 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spend(family, u, pbar, row_ptr, d, p, frame):
    """Push every action worth more down to u; (sum of distances, sum of prices)."""
    spent, prices = 0.0, 0.0
    for a in range(len(row_ptr) - 1):
        s, e = row_ptr[a], row_ptr[a + 1]
        frame[PRICE, a] = frame[SPENT, a] = 0.0
        if frame[TOP, a] <= u or frame[SPAN, a] == 0.0:
            copy(pbar[s:e], p[s:e])
            continue
        target = max(0.0, (u - frame[BASE, a]) / frame[SPAN, a])
        frame[PLACE, a], frame[SPENT, a], price = push(
            family, target, frame[PLACE, a], d[s:e], pbar[s:e], frame[MASS, a], p[s:e]
        )
        frame[PRICE, a] = price / frame[SPAN, a]
        spent += frame[SPENT, a]
        prices += frame[PRICE, a]
    return spent, prices


@numba.njit(cache=True, nogil=True, error_model="numpy")
def level(family, radius, pbar, row_ptr, d, p, frame, decision):
    """(value, price): the state's value, its decision (A,), the price of a unit of distance; p (N,) = worst rows."""
    lowest, highest = np.argmax(frame[BASE]), np.argmax(frame[TOP])
    bottom, top = frame[BASE, lowest], frame[TOP, highest]
    decision[:] = 0.0
    if radius == 0.0 or top == bottom:
        copy(pbar, p)
        decision[highest if radius == 0.0 else lowest] = 1.0
        return top, 0.0
    low, high = bottom, top
    u, reach = top - 0.25 * (top - bottom), 2 * UNIT_ROUNDOFF * max(abs(top), abs(bottom))
    spent, prices = _spend(family, u, pbar, row_ptr, d, p, frame)
    if spent <= radius:  # only then may the budget reach all the way down, which takes long to find out
        spent, prices = _spend(family, bottom, pbar, row_ptr, d, p, frame)
        if spent <= radius:
            decision[lowest] = 1.0
            return bottom, 0.0
        for a in range(len(decision)):
            frame[PLACE, a] = -1.0
    for _ in range(200):
        spent, prices = _spend(family, u, pbar, row_ptr, d, p, frame)
        if spent > radius:
            low = u
        else:
            high = u
        if abs(spent - radius) <= 8 * UNIT_ROUNDOFF * radius:
            break
        # Distances are quadratic near the nominal rows: their root is nearly linear there.
        step = 2.0 * (spent - math.sqrt(spent * radius)) / prices if radius < 1.0 else (spent - radius) / prices
        following = u + step
        if not low < following < high and abs(step) > reach:  # a last step may end on a bound
            following = low + 0.5 * (high - low)
        if abs(following - u) <= reach:
            if spent <= radius:
                break
            following = u + reach  # onwards to rows that fit the budget
            reach *= 2.0
            if not following < high:
                break
        u = following
    if spent > radius * (1 + 8 * UNIT_ROUNDOFF):
        u = high
        spent, prices = _spend(family, u, pbar, row_ptr, d, p, frame)
    if 0.0 < prices < np.inf:
        for a in range(len(decision)):
            decision[a] = frame[PRICE, a] / prices
        return u, 1.0 / prices
    decision[lowest] = 1.0  # prices cannot be resolved
    return u, 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def tilted_low(family, x, tilt, d, pbar, mass, work):
    """A number below min_p [tilt p.d + D(p, pbar)], with the dual point of x."""
    if family == KL:
        return kullback_leibler.log_partition(tilt * (1 - SUM_ERROR), d, pbar, mass, work)
    if family == CHI_SQUARE:
        level = math.exp(-x)
        for i in range(len(d)):
            work[i] = min(d[i], level)
        gain = low_dot(pbar, work)
        centre = gain / mass
        for i in range(len(d)):
            work[i] = (abs(work[i] - centre) + 8 * UNIT_ROUNDOFF * work[i]) ** 2
        return down(down(tilt * (1 - SUM_ERROR) * gain) - up(0.25 * tilt * tilt * high_dot(pbar, work)))
    # p (d + g) b + pbar log(pbar / p) is least at p = pbar / (b (d + g)).
    gap, logs = math.exp(-x), 0.0
    for i in range(len(d)):
        work[i] = math.log1p(d[i] / gap)
    logs = low_dot(pbar, work)
    flat = mass * (1.0 + math.log(tilt * gap))
    return logs + flat - mass * gap * tilt - SUM_ERROR * 4 * (logs + mass * (1 + abs(math.log(tilt * gap)) + gap * tilt))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def prove(family, given, radius, price, reward, row_ptr, pbar, d, p, work, frame, decision):
    """(price, lower, upper); the rows p (N,) are drawn in until their distances, the shares, fit the budget."""
    n_actions = len(row_ptr) - 1
    for a in range(n_actions):
        s, e = row_ptr[a], row_ptr[a + 1]
        if frame[SPENT, a] == 0.0:
            copy(pbar[s:e], p[s:e])
        elif family == KL:
            frame[SPENT, a] = kullback_leibler.high_distance(p[s:e], pbar[s:e])
        elif family == CHI_SQUARE:
            frame[SPENT, a] = chi_square.high_distance(p[s:e], pbar[s:e])
        else:
            frame[SPENT, a] = burg.high_distance(p[s:e], pbar[s:e])
    part = shrunk(radius, frame)
    for a in range(n_actions):
        s, e = row_ptr[a], row_ptr[a + 1]
        draw_in(a, part, reward[a], d[s:e], pbar[s:e], p[s:e], frame)
        if decision[a] > 0.0:
            low = 0.0
            if radius == 0.0:
                low = decision[a] * frame[SPAN, a] * low_dot(pbar[s:e], d[s:e])
            elif price > 0.0 and frame[SPAN, a] > 0.0:
                tilt = decision[a] * frame[SPAN, a] / price
                least = tilted_low(family, frame[PLACE, a], tilt, d[s:e], pbar[s:e], frame[MASS, a], work[s:e])
                low = price * max(0.0, least)
            size = decision[a] * (abs(reward[a]) + 2 * frame[MASS, a] * abs(frame[FLOOR, a])) + abs(low)
            frame[LOW, a], frame[SIZE, a] = decision[a] * frame[BASE, a] + low, size
    return conclude(given, radius, price, reward, decision, frame)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def answer(family, given, proved, radius, z, pbar, reward, row_ptr, d, p, work, frame, decision):
    """(value, price, lower, upper) of a state of A actions whose rows lie one after another, N entries in all.

    given: evaluate the decision (A,), otherwise find it. proved: find the bracket too; the shares of the budget are left in
    frame[SPENT]. Out: p (N,) worst rows. Scratch: d (N,), work (N,), frame (11, A).
    """
    draw(family, z, pbar, reward, row_ptr, d, frame)
    if given:
        value, price = share_out(family, radius, pbar, row_ptr, d, p, frame, decision)
    else:
        value, price = level(family, radius, pbar, row_ptr, d, p, frame, decision)
    lower, upper = -np.inf, np.inf
    if proved:
        price, lower, upper = prove(family, given, radius, price, reward, row_ptr, pbar, d, p, work, frame, decision)
        value = min(max(value, lower), upper)
    return value, price, lower, upper


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _beyond_at_price(price, d, pbar, mass, value, distance, p):
    """`at_price` past the end of Burg's path."""
    off, on, kept = 0.0, 0.0, 0.0
    for i in range(len(d)):
        if d[i] > 0.0:
            off += pbar[i]
        else:
            on += pbar[i]
            kept += p[i]
    moved, low, high = mass - kept, -700.0, 0.0  # logarithm of the share
    for _ in range(64):
        middle = 0.5 * (low + high)
        share = math.exp(middle)
        if off / share - on * moved / (mass - share * moved) > price * value:
            low = middle
        else:
            high = middle
    share = math.exp(high)
    distance, _price = _beyond(share, d, pbar, mass, value, distance, p)
    return END, share * value, distance, off


@numba.njit(cache=True, nogil=True, error_model="numpy")
def at_price(family, price, x, d, pbar, mass, p):
    """p (n,) = the row of the path with the given price > 0; (x, value, distance, d distance / d log price)."""
    low, high = -700.0, END
    value, distance, rate = 0.0, 0.0, 0.0
    if family == CHI_SQUARE:
        value, distance, rate, _price, level = chi_square.pull(price, True, d, pbar, mass, p)
        return -math.log(level), value, distance, rate
    if family == BURG:
        value, distance, _slope, found, _curl = point(family, END, d, pbar, mass, p)
        if found < price:
            return _beyond_at_price(price, d, pbar, mass, value, distance, p)
    for _ in range(200):
        value, distance, slope, found, curl = point(family, x, d, pbar, mass, p)
        rate = slope / curl
        if found > price:
            high = x
        else:
            low = x
        if abs(found - price) <= 4 * UNIT_ROUNDOFF * price:
            break
        following = x + math.log(price / found) / curl
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - x) <= 2 * UNIT_ROUNDOFF * max(1.0, abs(x)):
            break
        x = following
    return x, value, distance, rate


@numba.njit(cache=True, nogil=True, error_model="numpy")
def share_out(family, radius, pbar, row_ptr, d, p, frame, decision):
    """(value, price): a given decision's least worth, the price of a unit of distance; p (N,) = worst rows."""
    copy(pbar, p)
    reach, scale, nominal, norm, price = 0.0, 0.0, 0.0, 0.0, 0.0
    for a in range(len(decision)):
        s, e = row_ptr[a], row_ptr[a + 1]
        norm += decision[a]
        nominal += decision[a] * frame[TOP, a]
        if decision[a] > 0.0 and frame[SPAN, a] > 0.0 and radius > 0.0:
            worth, frame[SPENT, a] = last_point(family, d[s:e], pbar[s:e], frame[MASS, a], p[s:e])
            reach += frame[SPENT, a] if worth == 0.0 else np.inf
            scale = max(scale, decision[a] * frame[SPAN, a])
    if scale > 0.0 and reach > radius:
        copy(pbar, p)
        price = _find_price(family, decision, pbar, row_ptr, radius, d, p, frame, scale)
    value = 0.0
    for a in range(len(decision)):
        s, e = row_ptr[a], row_ptr[a + 1]
        value += decision[a] * (frame[BASE, a] + frame[SPAN, a] * dot(p[s:e], d[s:e]))
    return min(value, nominal) / norm, price


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _find_price(family, decision, pbar, row_ptr, radius, d, p, frame, scale):
    """The price l at which the distances sum to the radius, sought as the logarithm y of scale / l."""
    y, low, high = 0.0, -600.0, 600.0
    for _ in range(200):
        spent, rate = 0.0, 0.0
        for a in range(len(decision)):
            s, e = row_ptr[a], row_ptr[a + 1]
            price = math.exp(y) * decision[a] * frame[SPAN, a] / scale
            frame[SPENT, a] = 0.0
            if price > 0.0 and frame[TOP, a] > frame[BASE, a]:
                frame[PLACE, a], _value, frame[SPENT, a], fast = at_price(
                    family, price, frame[PLACE, a], d[s:e], pbar[s:e], frame[MASS, a], p[s:e]
                )
                spent += frame[SPENT, a]
                rate += fast
        if spent > radius:
            high = y
        else:
            low = y
        if abs(spent - radius) <= 8 * UNIT_ROUNDOFF * radius:
            break
        following = y + (math.log(radius / spent) * spent if spent < 1.0 else radius - spent) / rate
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - y) <= 2 * UNIT_ROUNDOFF * max(1.0, abs(y)):
            break
        y = following
    return scale * math.exp(-y)

r"""The s-rectangular inner problem where nature's path is smooth: Kullback-Leibler, chi-square, Burg.

Each family traces a path of rows, in a parameter x that starts at the nominal row and ends on the least entry:

    KL          p ~ pbar exp(-b d),      b = e^x
    chi-square  p ~ pbar (a - d)_+,      a = e^-x
    Burg        p ~ pbar / (d + g),      g = e^-x

Along it the value falls, the distance grows, and `price` = -d distance / d value is what a unit of value costs nature. The
state's value u solves sum_a xi_a(u) = kappa with xi_a(u) the distance where action a is worth u; sum xi_a is convex, with minus
the sum of the prices for its slope, and the decision is proportional to the prices. A given decision is evaluated by
price_a = d_a / l for the one l that spends the budget. Newton's method in brackets, some ten steps of some five each: O(N) a
step for N successors in all.

The bracket: with e_a the prices, value >= [sum_a min_p (e_a p.z_a + D(p, pbar_a)) - kappa] / sum_a e_a; the rows, drawn
towards the nominal ones until they fit the budget, prove the upper side (Ho, Petrik and Wiesemann, NeurIPS 2022, derive the
projections; the common path is ours).
"""

import math

import numba
import numpy as np

from . import burg, chi_square, kullback_leibler
from .kullback_leibler import collapse
from .rounding import SUM_ERROR, UNIT_ROUNDOFF, dot, down, high_dot, low_dot, normal_form, total, up, widen

KL, CHI_SQUARE, BURG = 7, 9, 11
END = 600.0
"""x at which paths stop; what lies beyond matters for Burg alone."""


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
def _frame(z, pbar, dominated, row_ptr, d, frame):
    """frame (6, A): floor, span, mass, nominal value, guess, price; d (N,). (greatest nominal, greatest least value)."""
    top, bottom = -np.inf, -np.inf
    for a in range(len(row_ptr) - 1):
        s, e = row_ptr[a], row_ptr[a + 1]
        floor, span = normal_form(z[s:e], pbar[s:e], dominated, d[s:e])
        mass = total(pbar[s:e])
        frame[0, a], frame[1, a], frame[2, a] = floor, span, mass
        frame[3, a] = mass * floor + span * dot(pbar[s:e], d[s:e])
        frame[4, a], frame[5, a] = -1.0, 0.0
        top, bottom = max(top, frame[3, a]), max(bottom, mass * floor)
    return top, bottom


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spend(family, u, pbar, row_ptr, d, p, frame):
    """Push every action worth more down to u; (sum of distances, sum of prices)."""
    spent, prices = 0.0, 0.0
    for a in range(len(row_ptr) - 1):
        s, e = row_ptr[a], row_ptr[a + 1]
        frame[5, a] = 0.0
        if frame[3, a] <= u or frame[1, a] == 0.0:
            p[s:e] = pbar[s:e]
            continue
        target = max(0.0, (u - frame[2, a] * frame[0, a]) / frame[1, a])
        frame[4, a], distance, price = push(family, target, frame[4, a], d[s:e], pbar[s:e], frame[2, a], p[s:e])
        frame[5, a] = price / frame[1, a]
        spent += distance
        prices += frame[5, a]
    return spent, prices


@numba.njit(cache=True, nogil=True, error_model="numpy")
def solve(family, z, pbar, row_ptr, radius, d, p, work, frame, decision):
    """The value of a state of A actions whose rows lie one after another, N entries in all.

    Out: p (N,) worst rows, decision (A,). Scratch: d (N,), work (N,), frame (6, A). Returns (lower, value, upper).
    """
    top, bottom = _frame(z, pbar, family in (KL, CHI_SQUARE), row_ptr, d, frame)
    decision[:] = 0.0
    if radius == 0.0 or top == bottom:
        p[:] = pbar
        return _finish(family, top, pbar, row_ptr, radius, d, p, work, frame, decision)
    spent, prices = _spend(family, bottom, pbar, row_ptr, d, p, frame)
    if spent <= radius:
        return _finish(family, bottom, pbar, row_ptr, radius, d, p, work, frame, decision)
    frame[4, :] = -1.0
    low, high = bottom, top
    u, reach = top - 0.25 * (top - bottom), 2 * UNIT_ROUNDOFF * max(abs(top), abs(bottom))
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
        if not low < following < high:
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
        _spend(family, u, pbar, row_ptr, d, p, frame)
    for a in range(len(decision)):
        decision[a] = frame[5, a]
    return _finish(family, u, pbar, row_ptr, radius, d, p, work, frame, decision)


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
def _finish(family, value, pbar, row_ptr, radius, d, p, work, frame, decision):
    """The bracket; decision holds prices, or zeros, on entry and probabilities on return."""
    spent = 0.0
    for a in range(len(decision)):
        s, e = row_ptr[a], row_ptr[a + 1]
        if family == KL:
            spent += kullback_leibler.high_distance(p[s:e], pbar[s:e])
        elif family == CHI_SQUARE:
            spent += chi_square.high_distance(p[s:e], pbar[s:e])
        else:
            spent += burg.high_distance(p[s:e], pbar[s:e])
    shrink = 1.0 if spent <= radius else down(radius / up(spent * (1 + len(decision) * SUM_ERROR)))
    shrink = shrink if shrink > 0.0 else 0.0
    upper, lower, safest, gain, size, prices = -np.inf, -np.inf, 0, 0.0, 0.0, 0.0
    for a in range(len(decision)):
        s, e = row_ptr[a], row_ptr[a + 1]
        floor, span, mass = frame[0, a], frame[1, a], frame[2, a]
        off = abs(total(pbar[s:e]) - total(p[s:e])) + 2 * SUM_ERROR * (total(pbar[s:e]) + total(p[s:e]))
        moved = up(high_dot(p[s:e], d[s:e]) + off)
        high = up(up((1.0 - shrink) * high_dot(pbar[s:e], d[s:e])) + up(shrink * moved))
        upper = max(upper, widen(mass, floor, span, 0.0, high)[1])
        low = low_dot(pbar[s:e], d[s:e]) if radius == 0.0 else 0.0
        alone = widen(mass, floor, span, low, low)[0]
        if alone > lower:
            lower, safest = alone, a
        if decision[a] > 0.0:
            least = tilted_low(family, frame[4, a], decision[a] * span, d[s:e], pbar[s:e], mass, work[s:e])
            base = decision[a] * mass * floor
            gain += least + base
            size += abs(least) + abs(base)
            prices += decision[a]
    error = (len(decision) + 8) * SUM_ERROR
    least = gain - error * size - up(radius)
    mixed = down(least / (prices * (1 + error) if least > 0.0 else prices * (1 - error))) if prices > 0.0 else -np.inf
    if mixed > lower:
        lower = mixed
        for a in range(len(decision)):
            decision[a] /= prices
    else:  # prices cannot be resolved, or one action is as good as any mixture
        for a in range(len(decision)):
            decision[a] = 1.0 if a == safest else 0.0
    return lower, min(max(value, lower), upper), upper


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
def evaluate(family, decision, z, pbar, row_ptr, radius, d, p, frame):
    """min sum_a decision_a p_a.z_a over the shared budget: one price l of the budget, spent by every action played.

    decision (A,); p (N,) out: worst rows; d (N,), frame (6, A) scratch. Returns the value.
    """
    _frame(z, pbar, family in (KL, CHI_SQUARE), row_ptr, d, frame)
    p[:] = pbar
    reach, scale, nominal = 0.0, 0.0, 0.0
    for a in range(len(decision)):
        s, e = row_ptr[a], row_ptr[a + 1]
        nominal += decision[a] * frame[3, a]
        if decision[a] > 0.0 and frame[1, a] > 0.0:
            worth, distance = last_point(family, d[s:e], pbar[s:e], frame[2, a], p[s:e])
            reach += distance if worth == 0.0 else np.inf
            scale = max(scale, decision[a] * frame[1, a])
    if radius > 0.0 and scale > 0.0 and reach > radius:
        _share_out(family, decision, pbar, row_ptr, radius, d, p, frame, scale)
    elif radius == 0.0:
        p[:] = pbar
    value = 0.0
    for a in range(len(decision)):
        s, e = row_ptr[a], row_ptr[a + 1]
        value += decision[a] * (frame[2, a] * frame[0, a] + frame[1, a] * dot(p[s:e], d[s:e]))
    return min(value, nominal)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _share_out(family, decision, pbar, row_ptr, radius, d, p, frame, scale):
    """Find the logarithm y of 1 / l at which the distances sum to the radius."""
    y, low, high = 0.0, -600.0, 600.0
    for _ in range(200):
        spent, rate = 0.0, 0.0
        for a in range(len(decision)):
            s, e = row_ptr[a], row_ptr[a + 1]
            price = math.exp(y) * decision[a] * frame[1, a] / scale
            if price > 0.0 and frame[3, a] > frame[2, a] * frame[0, a]:
                frame[4, a], _value, distance, fast = at_price(
                    family, price, frame[4, a], d[s:e], pbar[s:e], frame[2, a], p[s:e]
                )
                spent += distance
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

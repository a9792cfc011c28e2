r"""A fast filter for the inner problems of divergence balls: bounds of sigma for many rows at once, in floats.

Nature's path p(x) and the duals are those of `banach.solvers.exact_divergence`; x comes from a bisection whose errors do no
harm. Arrays are (k, n) in normal form (see `banach.solvers.filter_polyhedral`). A float row is taken for the real row of the
nominal mass that it is proportional to. When its distance, rounding included, is at most D, the row

    pbar + s (p - pbar),      s = min(1, radius / D),

is in the ball by convexity, which proves the upper bound. Logarithms, exponentials and powers are taken to be within 4u
relatively, as those of the usual C libraries are; rows that this cannot decide are decided in balls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .filter_polyhedral import TINY, UNIT, slack

REACH = 300.0
"""Largest |x| that the filter looks at."""
HALVINGS = 56

Bounds = tuple[np.ndarray, np.ndarray]


def _bisect(distance: Callable[[np.ndarray], np.ndarray], radius: np.ndarray) -> np.ndarray:
    """x (k, 1) at which an increasing distance is about the radius."""
    low, high = np.full((len(radius), 1), -REACH), np.full((len(radius), 1), REACH)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        with np.errstate(all="ignore"):
            fits = (distance(middle) <= radius)[:, None]
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return low


def _shared(nominal_value: np.ndarray, value: np.ndarray, distance: np.ndarray, radius: np.ndarray, room: float) -> np.ndarray:
    """Upper bound (k,) from a row of this value and of at most this distance."""
    share = np.where(distance <= radius, 1.0, radius / np.maximum(distance, TINY) * (1 - 8 * UNIT))
    share = np.where(np.isfinite(distance) & np.isfinite(value), share, 0.0)
    mixed = (1 - share) * nominal_value + share * np.where(np.isfinite(value), value, 0.0)
    return mixed * (1 + 4 * room) + TINY


def _logarithm(lost: np.ndarray, left: np.ndarray) -> np.ndarray:
    """log(left) of left = 1 - lost, from the smaller of the two; never positive."""
    return np.minimum(np.where(lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), np.log(left)), 0.0)


def kullback_leibler(nominal: np.ndarray, d: np.ndarray, radius: np.ndarray) -> Bounds:
    """Bounds (k,) of min p.d over balls of radius (k,); nominal positive."""
    room, mass = slack(nominal.shape[1]), nominal.sum(axis=1)

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tilt = np.exp(x)
        left, lost = (nominal * np.exp(-tilt * d)).sum(axis=1), -(nominal * np.expm1(-tilt * d)).sum(axis=1) / mass
        value = mass * (nominal * np.exp(-tilt * d) * d).sum(axis=1) / left
        return tilt[:, 0], value, _logarithm(lost, left / mass)

    def distance(x: np.ndarray) -> np.ndarray:
        tilt, value, log = parts(x)
        return -tilt * value - mass * log

    x = _bisect(distance, radius)
    with np.errstate(all="ignore"):
        tilt, value, log = parts(x)
        # exp(-b d) is off by 4u and, through its argument, by 2u b d; in the distance of the row of floats the first cancels
        # but for its square.
        error = 16 * room * (tilt * value - mass * log + mass * np.minimum(np.expm1(-log), 1.0)) + mass * 2.0**-80
        low = (mass * -log - radius - error - 4 * room * radius) / tilt
        at = -tilt * value - mass * log + error
    return np.where(np.isfinite(low), low, 0.0), _shared((nominal * d).sum(axis=1), value, at, radius, 8 * room)


def burg(nominal: np.ndarray, d: np.ndarray, radius: np.ndarray) -> Bounds:
    """Bounds (k,) of min p.d over balls of radius (k,)."""
    room, mass = slack(nominal.shape[1]), nominal.sum(axis=1)

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ratio = d * np.exp(x)
        logs, kept = (nominal * np.log1p(ratio)).sum(axis=1), (nominal / (1 + ratio)).sum(axis=1)
        value = mass * (nominal * d / (1 + ratio)).sum(axis=1) / kept
        return logs, value, _logarithm((nominal * ratio / (1 + ratio)).sum(axis=1) / mass, kept / mass)

    def distance(x: np.ndarray) -> np.ndarray:
        logs, _, log = parts(x)
        return logs + mass * log

    x = _bisect(distance, radius)
    with np.errstate(all="ignore"):
        logs, value, log = parts(x)
        at = logs + mass * log + 8 * room * (logs - mass * log + mass * np.minimum(np.expm1(-log), 1.0))
        gain, wide = (logs - radius) / mass, 8 * room * (logs + radius) / mass
        low = mass * np.exp(-x[:, 0]) * (np.expm1(gain - wide) - 8 * room * np.abs(np.expm1(gain - wide)))
    return np.where(np.isfinite(low), low, 0.0), _shared((nominal * d).sum(axis=1), value, at, radius, 8 * room)


def cressie_read(nominal: np.ndarray, d: np.ndarray, radius: np.ndarray, order: np.ndarray) -> Bounds:
    """Bounds (k,) of min p.d over balls of radius (k,) and order (k,) > 1; nominal positive."""
    room, mass = slack(nominal.shape[1]), nominal.sum(axis=1)
    k = order[:, None]
    conjugate = k / (k - 1)

    def row(x: np.ndarray) -> np.ndarray:
        """p / nominal, but for a factor."""
        return np.maximum(1 - d * np.exp(x), 0.0) ** (conjugate - 1)

    def distance(ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = (mass / (nominal * ratio).sum(axis=1))[:, None]
        power = (nominal * (scale * ratio) ** k).sum(axis=1)
        error = 8 * room * (1 + order) * (power + mass)
        return (power - mass) / (order * (order - 1)), error / (order * (order - 1))

    x = _bisect(lambda x: distance(row(x))[0], radius)
    with np.errstate(all="ignore"):
        ratio, level = row(x), np.exp(-x)
        value = mass * (nominal * ratio * d).sum(axis=1) / (nominal * ratio).sum(axis=1)
        at, error = distance(ratio)
        most = (mass + order * (order - 1) * radius) ** (1 / order)
        norm = (nominal * np.maximum(level - d, 0.0) ** conjugate).sum(axis=1) ** (1 / conjugate[:, 0])
        # A rounded exponent costs u times the logarithm of what is raised.
        wide = 8 * room * (1 + np.abs(x[:, 0]) + np.abs(np.log(most)))
        wide = wide * norm + 4 * UNIT * (1 + level[:, 0]) * np.maximum(mass, 1.0)
        low = mass * level[:, 0] - most * norm - most * wide - 8 * room * (mass * level[:, 0] + most * norm)
    return np.where(np.isfinite(low), low, 0.0), _shared((nominal * d).sum(axis=1), value, at + error, radius, 8 * room)


def euclidean(nominal: np.ndarray, d: np.ndarray, radius: np.ndarray) -> Bounds:
    """Bounds (k,) of min p.d over balls of radius (k,)."""
    n = nominal.shape[1]
    room, mass, sizes = slack(n), nominal.sum(axis=1)[:, None], np.arange(1, n + 1)

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = np.exp(x)
        points = -np.sort(-(nominal - t * d), axis=1)
        lifts = (mass - np.cumsum(points, axis=1)) / sizes
        last = np.maximum((points + lifts > 0).sum(axis=1) - 1, 0)[:, None]
        lift = np.take_along_axis(lifts, last, axis=1)
        row = np.maximum(nominal - t * d + lift, 0.0)
        return row, np.sqrt(((row - nominal) ** 2).sum(axis=1)), lift

    x = _bisect(lambda x: parts(x)[1], radius)
    row, distance, lift = parts(x)
    t, total = np.exp(x), row.sum(axis=1)
    with np.errstate(all="ignore"):
        nu = lift / t
        w = np.minimum(d - nu, nominal / t)
        terms = (nominal * np.abs(w)).sum(axis=1) + (mass * np.abs(nu))[:, 0]
        norm = np.sqrt((w**2).sum(axis=1))
        low = (mass * nu)[:, 0] + (nominal * w).sum(axis=1) - radius * norm
        low -= 8 * room * (terms + radius * norm) + 4 * UNIT * (mass * (1 + np.abs(nu)))[:, 0]
        off = np.abs(mass[:, 0] / total - 1) + 4 * room
        value = (row * d).sum(axis=1) * (mass[:, 0] / total)
        at = distance * (1 + 4 * room) + off * np.sqrt((row**2).sum(axis=1)) + 4 * UNIT * np.sqrt((nominal**2).sum(axis=1))
    return np.where(np.isfinite(low), low, 0.0), _shared((nominal * d).sum(axis=1), value, at, radius, 8 * room)

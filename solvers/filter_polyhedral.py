r"""A fast, sound filter for the inner problems of polyhedral sets: bounds of sigma for many rows at once, in floats.

Arrays are (k, n), k rows of n entries each, in normal form: d in [0, 1] with d = 0 somewhere, nominal >= 0, m its row sums. The
bounds come from the same weak duality as `banach.solvers.exact_transport`, evaluated in floats, less or more

    S(n) = 1.01 (n + 24) u        times the sum of the absolute terms, u = 2^-53,

which covers a sum of n terms in any order, the products in them and a few operations more (Higham 2002, section 3.1). A row
that is feasible but for rounding is given room: what it may spend is cut by the same factor.
"""

from __future__ import annotations

import numpy as np

UNIT = 2.0**-53
TINY = 2.0**-900
STEPS = 60
"""Cutting planes before the filter leaves a row to exact arithmetic."""


def slack(n: int) -> float:
    """S(n): relative room for the rounding of a sum of n terms."""
    return 1.01 * (n + 24) * UNIT


def transport(
    nominal: np.ndarray, d: np.ndarray, radius: np.ndarray, weights: np.ndarray | None, metric: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (k,) of min p.d over balls in the cost of moving mass: weights (k, n) or metric (k, n, n); radius (k,)."""
    room = slack(nominal.shape[1])

    def answer(price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if metric is not None:
            best = np.argmin(d[:, None, :] + price[:, None, None] * metric, axis=2)
            cost = np.take_along_axis(metric, best[:, :, None], axis=2)[:, :, 0]
            return (nominal * cost).sum(axis=1), (nominal * np.take_along_axis(d, best, axis=1)).sum(axis=1)
        lines = d + price[:, None] * weights
        receiver = lines.argmin(axis=1)[:, None]
        moved = d > np.take_along_axis(lines, receiver, axis=1) + price[:, None] * weights
        np.put_along_axis(moved, receiver, False, axis=1)
        cost = np.where(moved, nominal * (weights + np.take_along_axis(weights, receiver, axis=1)), 0.0).sum(axis=1)
        return cost, (nominal * np.where(moved, np.take_along_axis(d, receiver, axis=1), d)).sum(axis=1)

    low = np.zeros(len(d))
    high_cost, high_value = answer(np.zeros(len(d)))
    low_cost, low_value = np.zeros(len(d)), (nominal * d).sum(axis=1)
    open_ = high_cost > radius
    for _ in range(STEPS):
        if not open_.any():
            break
        price = np.where(open_, (low_value - high_value) / np.where(open_, high_cost - low_cost, 1.0), 0.0)
        cost, value = answer(price)
        size = value + price * (cost + radius)
        height = value + price * (cost - radius)
        low = np.where(open_, np.maximum(low, height - 2 * room * size - TINY), low)
        gap = low_value + price * (low_cost - radius) - height
        fits = cost <= radius
        better = open_ & fits
        low_cost, low_value = np.where(better, cost, low_cost), np.where(better, value, low_value)
        better = open_ & ~fits
        high_cost, high_value = np.where(better, cost, high_cost), np.where(better, value, high_value)
        open_ &= (gap > room * size) & (high_cost > low_cost)
    spent = low_cost * (1 + room)
    share = (radius - spent) / np.maximum(high_cost * (1 + room) - spent, TINY) * (1 - 8 * UNIT)
    share = np.where(spent > radius, 0.0, np.clip(np.where(np.isnan(share), 0.0, share), 0.0, 1.0))
    share = np.where(high_cost * (1 + room) <= radius, 1.0, share)
    mixed = (1 - share) * low_value + share * high_value
    part = np.where(spent > radius, radius / np.maximum(spent, TINY) * (1 - 8 * UNIT), 0.0)  # the low plan in part only
    mixed = np.where(spent > radius, (1 - part) * (nominal * d).sum(axis=1) + part * low_value, mixed)
    return low, mixed * (1 + 4 * room) + TINY


def box(
    nominal: np.ndarray, d: np.ndarray, lower: np.ndarray, upper: np.ndarray, moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (k,) of min p.d over boxes lower <= p <= upper, p.1 = m.

    moved: (k, n), the bounds' own rounding errors are at most 2u times this.
    """
    room = slack(nominal.shape[1])
    order = np.argsort(d, axis=1, kind="stable")
    d, lower, upper, moved = (np.take_along_axis(array, order, axis=1) for array in (d, lower, upper, moved))
    mass, width = nominal.sum(axis=1), np.maximum(upper - lower, 0.0)
    rest = mass - lower.sum(axis=1)
    before = np.cumsum(width, axis=1) - width
    put = np.clip(rest[:, None] - before, 0.0, width)
    theta = np.take_along_axis(d, np.maximum((put > 0).sum(axis=1) - 1, 0)[:, None], axis=1)
    beyond, short = np.maximum(d - theta, 0.0), np.maximum(theta - d, 0.0)
    gained, spent = (lower * beyond).sum(axis=1), (upper * short).sum(axis=1)
    error = 4 * UNIT * (moved * (beyond + short)).sum(axis=1)
    base = mass * theta[:, 0]
    low = base + gained - spent - 2 * room * (base + gained + spent) - error - TINY
    off = 4 * room * (mass + lower.sum(axis=1)) + 8 * UNIT * np.where(put > 0, moved, 0.0).sum(axis=1)
    off += 8 * UNIT * (moved * (lower > 0)).sum(axis=1)
    return low, ((lower + put) * d).sum(axis=1) * (1 + room) + off + TINY


def contamination(nominal: np.ndarray, d: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (k,) of (1 - radius) nominal.d, where nature's own row costs nothing; radius (k,)."""
    value, room = (1 - radius) * (nominal * d).sum(axis=1), slack(nominal.shape[1])
    return value * (1 - room), value * (1 + room) + TINY

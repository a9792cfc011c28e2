r"""A fast, sound filter for sets made of outcomes with weights: quantiles and the mean of the worst, for many rows at once.

Weights f (k, m) and values y (k, m), k rows of m outcomes each. The mean of the worst share is
max {theta - sum_w f_w (theta - y_w)_+ / (level F)} over theta in y; what lies more than a few ranges of y below the maximum
cannot come up to it by rounding, so that the error of the rest is a few S(m) |y| (see `banach.solvers.filter_polyhedral`). A
quantile lies between the outcomes at which the sum of the weights could and must have reached the level.
"""

from __future__ import annotations

import numpy as np

from .filter_polyhedral import TINY, slack

Bounds = tuple[np.ndarray, np.ndarray]


def worst_mean(weights: np.ndarray, y: np.ndarray, level: np.ndarray) -> Bounds:
    """Bounds (k,) of min {q.y : q.1 = 1, 0 <= q <= weights / (level sum weights)}; level (k,)."""
    price = weights / (level * weights.sum(axis=1))[:, None]
    below = np.maximum(y[:, :, None] - y[:, None, :], 0.0)
    found = (y - (price[:, None, :] * below).sum(axis=2)).max(axis=1)
    off = 16 * slack(y.shape[1]) * np.abs(y).max(axis=1) + TINY
    return found - off, found + off


def quantile(weights: np.ndarray, y: np.ndarray, level: np.ndarray) -> Bounds:
    """Bounds (k,) of min {t : the weight of y <= t is at least level times all of it}; level (k,)."""
    order, room = np.argsort(y, axis=1), 4 * slack(y.shape[1])
    reached, goal = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1), level * weights.sum(axis=1)
    could, must = reached >= (goal * (1 - room))[:, None], reached >= (goal * (1 + room))[:, None]
    must[:, -1] = True
    first, last = (np.take_along_axis(order, at.argmax(axis=1)[:, None], axis=1) for at in (could, must))
    return np.take_along_axis(y, first, axis=1)[:, 0], np.take_along_axis(y, last, axis=1)[:, 0]

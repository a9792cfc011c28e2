r"""Demand on a stock: probabilities of whole numbers, and the rows of a stock level that demand takes away from.

    next level = max(y - d, 0),     row of y:  p(d) for d < y,  P(d >= y) at zero.

A distribution with an infinite tail is cut where less than 1e-12 remains, and what remains is put on the last atom.
"""

from __future__ import annotations

import numba
import numpy as np
import scipy.special

from ..criterion import Criterion
from ..errors import ModelError
from ..model import MDP
from .rows import start_at

_REMAINDER = 1e-12


def poisson(mean: float) -> np.ndarray:
    """P(d = k) of a Poisson demand, k = 0, 1, ..., shape (k_max + 1,)."""
    atoms = np.arange(int(mean + 12 * np.sqrt(mean) + 40))
    return _cut(np.exp(atoms * np.log(mean) - mean - scipy.special.gammaln(atoms + 1)))


def geometric(mean: float) -> np.ndarray:
    """P(d = k) = (1 - q) q^k with q = mean / (1 + mean), k = 0, 1, ..., shape (k_max + 1,)."""
    q = mean / (1 + mean)
    return _cut((1 - q) * q ** np.arange(int(np.ceil(np.log(_REMAINDER) / np.log(q))) + 2))


def _cut(probability: np.ndarray) -> np.ndarray:
    last = int(np.argmax(1 - np.cumsum(probability) < _REMAINDER))
    return np.append(probability[:last], 1 - probability[:last].sum())


def overshoot(probability: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """E (y - d)^+ and E (d - y)^+ for y = 0..levels - 1, each (levels,), from P(d = k), shape (k_max + 1,)."""
    atoms, y = np.arange(len(probability)), np.arange(levels)[:, None]
    return np.maximum(y - atoms, 0) @ probability, np.maximum(atoms - y, 0) @ probability


def stock_model(
    state_ptr: np.ndarray,
    level: np.ndarray,
    code: np.ndarray,
    stride: int,
    number: np.ndarray,
    demand: np.ndarray,
    reward: np.ndarray,
    criterion: Criterion,
    first: int,
) -> MDP:
    """The model whose pair k leads, by demand d, to state number[code[k] + stride * max(level[k] - d, 0)].

    state_ptr: int32 (n + 1,). level, code: int32 (m,). demand: P(d), d = 0, 1, .... reward: float64 (m,).
    Raises ModelError when there are more than 2^31 - 1 transitions.
    """
    width = np.minimum(level.astype(np.int64), len(demand) - 1) + 1
    size = int(width.sum())
    if size > np.iinfo(np.int32).max:
        raise ModelError(f"{size} transitions are more than 2^31 - 1; take fewer levels or a shorter demand")
    row_ptr = np.concatenate(([0], np.cumsum(width))).astype(np.int32)
    successor, probability = np.empty(size, dtype=np.int32), np.empty(size)
    at_least = np.cumsum(demand[::-1])[::-1].copy()
    _fill(level, code, stride, number, demand, at_least, row_ptr, successor, probability)
    n_states = len(state_ptr) - 1
    return MDP(state_ptr, row_ptr, successor, probability, reward, criterion, initial=start_at(n_states, first))


@numba.njit(cache=True, nogil=True)
def _fill(level, code, stride, number, demand, at_least, row_ptr, successor, probability):
    for pair in range(len(level)):
        y = level[pair]
        end = row_ptr[pair + 1]
        for entry in range(row_ptr[pair], end):
            left = y - (end - 1 - entry)
            successor[entry] = number[code[pair] + stride * left]
            probability[entry] = at_least[y] if left == 0 else demand[y - left]

"""The kernels of `banach.mdp.robust_sweeps` for rows of any length and family, one inner problem of `ambiguity.rows` each."""

import numba
import numpy as np

from .ambiguity.rows import ORDER, WORK, enclose_row, worst_row
from .ambiguity.short_rows import is_short
from .robust_sweeps import SLACK, outcomes
from .sweeps import TINY


@numba.njit(cache=True, nogil=True, error_model="numpy")
def longest(row_ptr):
    """Entries of the longest row, at least one."""
    most = 1
    for pair in range(len(row_ptr) - 1):
        most = max(most, row_ptr[pair + 1] - row_ptr[pair])
    return most


@numba.njit(cache=True, nogil=True, error_model="numpy")
def worths(
    start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount,
    family, parameter, entry, entry_ptr, side, value, worth, head, rows,
):  # fmt: skip
    """worth[i] = q of pairs[i] for i in [start, stop); where `rows` is not empty, nature's rows from head[i] on."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    for i in range(start, stop):
        pair = pairs[i]
        which, n = 0 if len(family) == 1 else pair, row_ptr[pair + 1] - row_ptr[pair]
        if is_short(family[which], n):
            continue
        outcomes(pair, row_ptr, successor, transition_reward, discount, side, value, z)
        block = entry[entry_ptr[pair] : entry_ptr[pair + 1]]
        found = worst_row(
            family[which], z[:n], probability[row_ptr[pair] : row_ptr[pair + 1]], parameter[which],
            block.reshape(len(block) // n, n), p[:n], work[: WORK * n].reshape(WORK, n),
            order[: ORDER * n].reshape(ORDER, n),
        )  # fmt: skip
        worth[i] = reward[pair] + side * found
        if len(rows):
            for j in range(n):
                rows[head[i] + j] = p[j]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclosed(
    start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount,
    family, parameter, entry, entry_ptr, side, value, lower, worth, upper,
):  # fmt: skip
    """lower[i] <= q of pairs[i] <= upper[i] in exact arithmetic, worth[i] between, for i in [start, stop)."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    for i in range(start, stop):
        pair = pairs[i]
        which, n = 0 if len(family) == 1 else pair, row_ptr[pair + 1] - row_ptr[pair]
        if is_short(family[which], n):
            continue
        error = outcomes(pair, row_ptr, successor, transition_reward, discount, side, value, z)
        block = entry[entry_ptr[pair] : entry_ptr[pair + 1]]
        under, found, over = enclose_row(
            family[which], z[:n], probability[row_ptr[pair] : row_ptr[pair + 1]], parameter[which],
            block.reshape(len(block) // n, n), p[:n], work[: WORK * n].reshape(WORK, n),
            order[: ORDER * n].reshape(ORDER, n),
        )  # fmt: skip
        if side < 0:
            under, found, over = -over, -found, -under
        margin = error + SLACK * (abs(reward[pair]) + max(abs(under), abs(over)) + error) + TINY
        lower[i], worth[i], upper[i] = reward[pair] + under - margin, reward[pair] + found, reward[pair] + over + margin
